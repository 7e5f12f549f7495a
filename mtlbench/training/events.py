"""What a run reports while it trains, to whoever listens: a live view, trackers, records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    Attributes:
        step: how many steps have been taken; steps: how many there will be.
        seconds: that training steps have taken so far.
    """

    step: int
    steps: int
    seconds: float


@dataclass(frozen=True)
class Started(Event):
    """A run begins, or goes on at `step`."""


@dataclass(frozen=True)
class StepWindow(Event):
    """Some steps have been taken since the last event.

    Attributes:
        losses: mean loss of each task over the latest row of the curve.
        images_per_second: drawn from the data set, over these steps.
    """

    losses: dict[str, float] = field(default_factory=dict)
    images_per_second: float = 0.0

    @property
    def loss(self) -> float:
        """The mean over tasks."""
        return sum(self.losses.values()) / len(self.losses) if self.losses else 0.0


@dataclass(frozen=True)
class Validation(Event):
    """The validation split has been judged.

    Attributes:
        accuracy: triplet accuracy of each task.
        criterion: what checkpoints are chosen by, the higher the better.
        best: whether it is the best so far.
    """

    accuracy: dict[str, float] = field(default_factory=dict)
    criterion: float = 0.0
    best: bool = False


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """What continuing needs has been kept."""


@dataclass(frozen=True)
class Ended(Event):
    """The last step has been taken, and the best checkpoint is loaded."""


EVENTS = {kind.__name__: kind for kind in (Started, StepWindow, Validation, CheckpointSaved, Ended)}
"""The kinds of events by their names, for processes that hand events on."""

Listener = Callable[[Event], None]

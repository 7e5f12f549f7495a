"""What an architecture says that its tasks learned to share, so that reports find and draw it; without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Axes = tuple[Literal["task"], Literal["channel", "task"]]


@dataclass(frozen=True)
class Learned:
    """Something that a network learned about its tasks, at one place, and which tensors of its checkpoint hold it.

    >>> from mtlbench import Learned
    >>> shifts = Learned("shifts", "layer 4", ("shifts.4.0", "shifts.4.1"), ("task", "channel"), "what is added", 0)
    >>> shifts.tensors[1]  # the second task's
    'shifts.4.1'

    Attributes:
        name: what it is called, in the plural: `scales`. Things of one name are drawn together, place by place.
        place: where it stands in the network, `layer 4`.
        tensors: their names in the architecture's `state_dict`.
        axes: `("task", "channel")`: a vector for every task, (C,), in the tasks' order, or with `row` one row of an
            (R, C); `("task", "task")`: one tensor, (T, T), of which row t is what task t takes of every task.
        meaning: what a number of it is, in a few words.
        neutral: the number that changes nothing, from which figures colour up and down.
        row: which row of each tensor, where a tensor holds several things.
    """

    name: str
    place: str
    tensors: tuple[str, ...]
    axes: Axes
    meaning: str
    neutral: float = 0.0
    row: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as run records hold it."""
        return asdict(self) | {"tensors": list(self.tensors), "axes": list(self.axes)}

    @staticmethod
    def from_json(content: dict[str, Any]) -> Learned:
        """Return what `as_json` wrote."""
        return Learned(**content | {"tensors": tuple(content["tensors"]), "axes": tuple(content["axes"])})

"""The contract of a tracker: what happens in one run, as typed events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mtlbench.registry import TRACKERS, register_class
from mtlbench.training.events import Event

C = TypeVar("C")


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker follows.

    >>> from pathlib import Path
    >>> from mtlbench import TrackedRun
    >>> TrackedRun(Path("results/shoes"), "shoes", "shared", "shared", seed=0).folder("notes").as_posix()
    'results/shoes/notes/shared/seed-0'

    Attributes:
        results: the folder of the benchmark's results.
        benchmark: its name.
        method: as users write it, options included.
        variant: the method's folder, a name that is good for files: `shared`, or `shared@train.lr=0.003`.
        seed: of the run.
    """

    results: Path
    benchmark: str
    method: str
    variant: str
    seed: int

    def folder(self, what: str) -> Path:
        """Return a folder of this run's own for `what`: `results/<benchmark>/<what>/<method>/seed-<n>`.

        A run's own folder is no place: it is replaced when the record is written.
        """
        return self.results / what / self.variant / f"seed-{self.seed}"


class Tracker(ABC):
    """Follows one run; it changes nothing, and an exception in it is told once and stops no run.

    A subclass takes the run and its own options as keyword-only arguments with types and defaults, which users set by
    `--track 'name[option=value]'`.

    >>> from pathlib import Path
    >>> from mtlbench import TrackedRun, Tracker
    >>> from mtlbench.training.events import Ended
    >>> class Said(Tracker):
    ...     def handle(self, event):
    ...         if isinstance(event, Ended):
    ...             print(f"{self.run.method}: {event.step} steps")
    >>> Said(TrackedRun(Path("results/shoes"), "shoes", "shared", "shared", seed=0)).handle(Ended(10, 10, 1.5))
    shared: 10 steps
    """

    def __init__(self, run: TrackedRun) -> None:
        self.run = run

    @abstractmethod
    def handle(self, event: Event) -> None:
        """Take one event; events come in the order in which they happen."""

    def close(self) -> None:  # noqa: B027 many have nothing to close
        """End: the run is done, has failed, or is interrupted. Called once."""


def register_tracker(name: str, *, needs: tuple[str, ...] = (), extra: str = "") -> Callable[[type[C]], type[C]]:
    """Class decorator: make a `Tracker` known as `name`, for `mtlbench run --track`.

    >>> from mtlbench import Tracker, register_tracker
    >>> @register_tracker("steps")
    ... class Steps(Tracker):
    ...     '''Prints how far a run is.'''
    ...
    ...     def handle(self, event):
    ...         print(f"{self.run.method}: {event.step}/{event.steps}")

    Args:
        name: what users write.
        needs: packages that it imports, beside mtlbench's own.
        extra: mtlbench's extra that brings them.

    Raises:
        UserError: no subclass of `Tracker`, abstract methods left, or the name is taken.
    """
    return register_class(TRACKERS, Tracker, name, needs=needs, extra=extra)

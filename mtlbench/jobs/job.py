"""A job, one method with one seed, and who is told how it goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mtlbench.runs.record import Json, Record
from mtlbench.specs import Method
from mtlbench.training.events import Event


@dataclass(frozen=True)
class Job:
    """One method with one seed, and what is there of it already.

    `state` is `new`, `done`, `interrupted` or `failed` (before; it is tried again).
    """

    method: Method
    seed: int
    folder: Path
    setup: Json
    state: str
    steps_done: int = 0


class Watcher:
    """Is told how the runs go; by default it says nothing."""

    def started(self, job: Job) -> None:
        """A run begins or goes on."""

    def happened(self, job: Job, event: Event) -> None:
        """Something happened while a run trains."""

    def doing(self, job: Job, what: str) -> None:
        """A run is past its training, at `what`."""

    def ended(self, job: Job, record: Record) -> None:
        """A run has its record, done or failed."""

"""Trackers beside the live view: each run gets its own trackers, and a tracker that fails does not stop the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtlbench.blame import described
from mtlbench.errors import FAULTS, UserError
from mtlbench.jobs.job import Job, Watcher
from mtlbench.options import Options, read_spec
from mtlbench.registry import TRACKERS, Entry
from mtlbench.runs.record import Record
from mtlbench.trackers.contract import TrackedRun, Tracker
from mtlbench.training.events import Event

Chosen = Sequence[tuple[Entry[type[Tracker]], Options]]


def read_trackers(specs: Sequence[str]) -> Chosen:
    """Read trackers as users write them, each as `name[option=value]`.

    Raises:
        UserError: a name or option is unknown, or a package that a tracker needs is not installed.
    """
    chosen = [read_spec(TRACKERS, spec) for spec in dict.fromkeys(specs)]
    for entry, _ in chosen:
        if missing := entry.left_out():
            raise UserError(f"The tracker {missing}.")
    return chosen


class Tracking(Watcher):
    """Passes events to the trackers of a run, and then to another watcher.

    Args:
        chosen: see `read_trackers`.
        watcher: receives every event.
        warn: receives a sentence about a tracker that fails, once per tracker.
    """

    def __init__(self, chosen: Chosen, watcher: Watcher, warn: Callable[[str], None]) -> None:
        self.chosen, self.watcher, self.warn = chosen, watcher, warn
        self.trackers: dict[Path, dict[str, Tracker]] = {}  # by the run's folder, then by the tracker's name
        self.warned: set[str] = set()

    def started(self, job: Job) -> None:
        """Make the trackers of a run."""
        self._close(job.folder)  # trackers of the same run, from before it waited for another process
        made = self.trackers[job.folder] = {}
        benchmark = job.folder.parent.parent
        run = TrackedRun(benchmark, job.setup["benchmark"]["name"], job.method.name, job.folder.parent.name, job.seed)
        for entry, options in self.chosen:
            with self._guarded(job.folder, entry.name):
                made[entry.name] = entry.target(run, **options)
        self._tell(self.watcher.started, job)

    def happened(self, job: Job, event: Event) -> None:
        """Pass an event on."""
        for name, tracker in list(self.trackers.get(job.folder, {}).items()):
            with self._guarded(job.folder, name):
                tracker.handle(event)
        self._tell(self.watcher.happened, job, event)

    def doing(self, job: Job, what: str) -> None:
        """Pass it on."""
        self._tell(self.watcher.doing, job, what)

    def ended(self, job: Job, record: Record) -> None:
        """Close the trackers of a run."""
        self._close(job.folder)
        self._tell(self.watcher.ended, job, record)

    def busy(self, job: Job, who: str) -> None:
        """Pass it on."""
        self._tell(self.watcher.busy, job, who)

    def close(self) -> None:
        """Close the trackers of runs that have not ended, as interrupted."""
        for folder in list(self.trackers):
            self._close(folder)

    def _tell(self, how: Callable[..., None], *what: object) -> None:
        """Pass an event to the other watcher; if its terminal or pipe is gone, runs continue silently."""
        try:
            how(*what)
        except OSError:
            self.watcher = Watcher()

    def _close(self, folder: Path) -> None:
        for name, tracker in self.trackers.pop(folder, {}).items():
            with self._guarded(folder, name):
                tracker.close()

    @contextmanager
    def _guarded(self, folder: Path, name: str) -> Iterator[None]:
        """Report a tracker's exception once; the run continues without that tracker."""
        try:
            yield
        except FAULTS as error:  # training matters more than any tracker's error
            self.trackers.get(folder, {}).pop(name, None)
            if name not in self.warned:
                self.warned.add(name)
                self.warn(f"the tracker {name} failed, the run continues: {described(error)}")


@contextmanager
def tracking(chosen: Chosen, watcher: Any, warn: Callable[[str], None]) -> Iterator[Watcher]:
    """Yield a watcher that also informs trackers; they are always closed at the end."""
    tracked = Tracking(chosen, watcher, warn)
    try:
        yield tracked
    finally:
        tracked.close()

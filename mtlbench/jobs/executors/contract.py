"""The contract of executors, which do jobs: one after the other, in several processes, or on other machines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from mtlbench.jobs.job import Job, Watcher
from mtlbench.registry import EXECUTORS, register_class

T = TypeVar("T")


class Executor(ABC):
    """Does jobs; its options are keyword-only arguments.

    >>> from mtlbench import Executor
    >>> from mtlbench.jobs.executors.here import Here
    >>> class Backwards(Executor):
    ...     def run(self, jobs, watcher, stop):
    ...         Here().run(jobs[::-1], watcher, stop)
    >>> Backwards().threads(4)
    4
    """

    def threads(self, available: int) -> int:
        """Return how many threads each job computes with, given the number available."""
        return available

    def at_once(self) -> int:
        """Return how many jobs it does at a time, at most: the plan's time in all depends on it."""
        return 1

    @abstractmethod
    def run(self, jobs: Sequence[Job], watcher: Watcher, stop: Callable[[], bool]) -> None:
        """Do the jobs; each one leaves its record in its folder, even if it fails.

        Args:
            jobs: planned jobs that are not done, in the order wanted. `Job.to_json` is all that another process needs;
                `python -m mtlbench.jobs.work` does one job.
            watcher: receives the progress of every run: started, progress, ended.
            stop: call it often; once it returns true, every run under way must save the state needed to continue.

        Raises:
            Interrupted: `stop` returned true.
            DiskFull: the disk is full.
        """


def register_executor(name: str, *, needs: Sequence[str] = (), extra: str = "") -> Callable[[type[T]], type[T]]:
    """Class decorator: register an `Executor` under a name, for `mtlbench run --on`.

    Args:
        name: the name that users type.
        needs: packages that it imports and mtlbench does not require; extra: the mtlbench extra that installs them.

    >>> from mtlbench import Executor, register_executor
    >>> from mtlbench.jobs.executors.here import Here
    >>> @register_executor("short-names-first")
    ... class ShortNamesFirst(Executor):
    ...     '''In this process, methods of short names first.'''
    ...
    ...     def run(self, jobs, watcher, stop):
    ...         Here().run(sorted(jobs, key=lambda job: len(job.method.name)), watcher, stop)

    Raises:
        UserError: the class is no subclass of `Executor` or has no `run`, or the name is taken.
    """
    return register_class(EXECUTORS, Executor, name, needs=needs, extra=extra)

"""The contract of executors, which do jobs: here one after the other, in several processes, on other machines."""

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
        """Return with how many threads each job computes where `available` are there."""
        return available

    @abstractmethod
    def run(self, jobs: Sequence[Job], watcher: Watcher, stop: Callable[[], bool]) -> None:
        """Do the jobs; each leaves its record in its folder, also where it fails.

        Args:
            jobs: planned ones that are not done, in the order wanted. `Job.to_json` is all that another process needs;
                `python -m mtlbench.jobs.work` does one.
            watcher: told of every run: started, progress, ended.
            stop: asked often; once it is true, every run under way is to keep what continuing needs.

        Raises:
            Interrupted: `stop` said so.
            DiskFull: nothing more can be written.
        """


def register_executor(name: str, *, needs: Sequence[str] = (), extra: str = "") -> Callable[[type[T]], type[T]]:
    """Class decorator: make an `Executor` known as `name`, for `mtlbench run --on`.

    Args:
        name: what users call it.
        needs: packages that it imports beside mtlbench's own; extra: mtlbench's extra that brings them.

    >>> from mtlbench import Executor, register_executor
    >>> from mtlbench.jobs.executors.here import Here
    >>> @register_executor("short-names-first")
    ... class ShortNamesFirst(Executor):
    ...     '''In this process, methods of short names first.'''
    ...
    ...     def run(self, jobs, watcher, stop):
    ...         Here().run(sorted(jobs, key=lambda job: len(job.method.name)), watcher, stop)

    Raises:
        UserError: no subclass of `Executor`, no `run`, or the name is taken.
    """
    return register_class(EXECUTORS, Executor, name, needs=needs, extra=extra)

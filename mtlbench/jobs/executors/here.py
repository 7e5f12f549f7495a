"""The executor that does jobs one after the other in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mtlbench.jobs.attempt import attempt
from mtlbench.jobs.executors.contract import Executor, register_executor
from mtlbench.jobs.job import Job, Watcher
from mtlbench.runs.lock import Busy
from mtlbench.training.state import Interrupted


@register_executor("here")
class Here(Executor):
    """One after the other, in this process."""

    def run(self, jobs: Sequence[Job], watcher: Watcher, stop: Callable[[], bool]) -> None:
        """Do the jobs; jobs that another process works on come last."""
        waiting, met = list(jobs), set()
        while waiting:
            busy = []
            for job in waiting:
                if stop():
                    raise Interrupted
                try:
                    attempt(job, watcher, stop, waited=job.folder in met)
                except Busy as other:
                    if job.folder not in met:
                        watcher.busy(job, other.who)
                    met.add(job.folder)
                    busy.append(job)
            if len(busy) == len(waiting):
                time.sleep(0.5)
            waiting = busy
        if stop():
            raise Interrupted

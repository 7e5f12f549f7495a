"""My-method: does jobs one after the other, the shortest name first.

<Say here where jobs are done. A job is data: one method with one seed on one benchmark; it leaves its
run record on disk. This file runs unchanged.>
"""

from collections.abc import Callable, Sequence

from mtlbench import Executor, register_executor
from mtlbench.jobs.executors.here import Here
from mtlbench.jobs.job import Job, Watcher


# The name is what users write: --on my-method.
@register_executor("my-method")
class MyMethod(Executor):
    """In this process, one job after the other, in the order of their methods' names.

    <The line above is what `mtlbench list executors` shows.>

    Args:
        reverse: whether the last name comes first.
    """

    # Options are keyword-only arguments with a type and a default; users set one by
    # --on 'my-method[reverse=true]'.
    def __init__(self, *, reverse: bool = False) -> None:
        self.reverse = reverse

    # The one required method. `watcher` hears how the jobs progress; `stop` says whether the user wants
    # to stop. Here the engine's own executor does the jobs; elsewhere, a process on any machine does one
    # by `python -m mtlbench.jobs.work JOB.json`, see mtlbench/jobs/executors/processes.py.
    def run(self, jobs: Sequence[Job], watcher: Watcher, stop: Callable[[], bool]) -> None:
        """Do all jobs; each leaves its run record, also where it fails."""
        Here().run(sorted(jobs, key=lambda job: job.method.name, reverse=self.reverse), watcher, stop)

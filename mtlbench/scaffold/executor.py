"""My-method: does jobs one after the other, the shortest name first.

<Say here where jobs are done. A job is data: one method with one seed on one benchmark; what it leaves
is its run record, on disk. This file runs as it stands.>
"""

from collections.abc import Callable, Sequence

from mtlbench.jobs.executors import Executor, register_executor
from mtlbench.jobs.executors.here import do
from mtlbench.jobs.job import Job, Watcher


# The name is what users write: --executor my-method.
@register_executor("my-method")
class MyMethod(Executor):
    """In this process, one job after the other, in the order of their methods' names.

    <The line above is what `mtlbench list executors` shows.>

    Args:
        reverse: whether the last name comes first.
    """

    # Options are keyword-only arguments with a type and a default; users set one by
    # --executor 'my-method[reverse=true]'.
    def __init__(self, *, reverse: bool = False) -> None:
        self.reverse = reverse

    # The one method that must be there. `watcher` is told how the jobs go; `stop` says whether the user
    # wants to stop: ask it between jobs, and hand it on, so that a run is kept where it is.
    def run(self, jobs: Sequence[Job], watcher: Watcher, stop: Callable[[], bool]) -> None:
        """Do all jobs; each leaves its run record, also where it fails."""
        for job in sorted(jobs, key=lambda job: job.method.name, reverse=self.reverse):
            if stop():
                return
            do(job, watcher, stop)

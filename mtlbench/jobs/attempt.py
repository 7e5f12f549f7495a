"""Does one job under the lock of its run, unless the job is done or another process works on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from mtlbench.errors import UserError
from mtlbench.jobs.data import dataset_of
from mtlbench.jobs.execute import add_costs, execute
from mtlbench.jobs.job import Job, Watcher
from mtlbench.jobs.plan import seen
from mtlbench.runs.lock import working_on
from mtlbench.runs.provenance import setup_of
from mtlbench.runs.record import Record, read_record
from mtlbench.runs.setup import differences


def attempt(job: Job, watcher: Watcher, stop: Callable[[], bool], costs: bool = True, waited: bool = False) -> Record:
    """Do a job, or whatever part of it is still open.

    Args:
        job: the job as planned.
        watcher: receives the job's progress.
        stop: called after every step; returns whether to stop.
        costs: measure the costs too.
        waited: the job had to wait for another process at this run; if that process failed, don't try again.

    Raises:
        Busy: another process works on the run.
        Interrupted, DiskFull: see `execute`.
        UserError: the data or the method's source have changed since the plan.
    """
    dataset = dataset_of(job)
    if unlike := differences(job.setup, setup_of(job.method, job.protocol, dataset, job.seed, job.precision)):
        raise UserError(
            f"{job.method.name}, seed {job.seed}: since the runs were planned, something has changed"
            f" ({'; '.join(unlike[:4])}); run the command again."
        )
    with working_on(job.folder):
        before, job = job.state, seen(job, dataset.device.type)
        if is_settled(before, job, waited):
            if job.costs_due and costs:
                with computing_with(job.threads):
                    add_costs(job, job.protocol, dataset, job.precision, watcher)
            record = read_record(job.folder)
            assert record is not None  # the lock keeps other processes from removing it
            watcher.ended(job, record)
            return record
        with computing_with(job.threads):
            return execute(job, job.protocol, dataset, job.precision, watcher, stop, costs)


def is_settled(before: str, job: Job, waited: bool) -> bool:
    """Return whether nothing is left to train: since the plan, another process has done the job or failed at it.

    Args:
        before: the job's state when it was planned; job: the job as it is now.
        waited: the job had to wait for another process at this run.
    """
    return job.state == "done" or (job.state == "failed" and waited and before != "failed")


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Compute with this many threads; 0 leaves the number unchanged."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)

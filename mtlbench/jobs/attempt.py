"""Does a job under the lock of its run, unless it is done by now or another process works on it."""

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
    """Do a job, or what is left of it by now.

    Args:
        job: as it was planned.
        watcher: is told how it goes.
        stop: asked after every step.
        costs: measure them too.
        waited: another process was met at the run: its failure is not tried again.

    Raises:
        Busy: another process works on the run.
        Interrupted, DiskFull: see `execute`.
        UserError: the data or the method's source are no longer those of the plan.
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
            assert record is not None  # under the lock nobody removes it
            watcher.ended(job, record)
            return record
        with computing_with(job.threads):
            return execute(job, job.protocol, dataset, job.precision, watcher, stop, costs)


def is_settled(before: str, job: Job, waited: bool) -> bool:
    """Tell whether nothing is left to be trained: another process has done the job, or failed at it, since the plan.

    Args:
        before: its state as it was planned; job: as it is now.
        waited: another process was met at the run.
    """
    return job.state == "done" or (job.state == "failed" and waited and before != "failed")


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Compute with so many threads; 0 leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)

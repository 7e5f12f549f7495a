"""The executor that does jobs in several processes of this machine, which divide its cores and GPUs."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mtlbench.errors import UserError
from mtlbench.jobs.data import dataset_of
from mtlbench.jobs.execute import failure
from mtlbench.jobs.executors.contract import Executor, register_executor
from mtlbench.jobs.job import Job, Watcher
from mtlbench.jobs.plan import seen
from mtlbench.jobs.scratch import scratch
from mtlbench.jobs.work import BUSY, FULL, INTERRUPTED, retell
from mtlbench.jobs.worker import LOOK, Worker
from mtlbench.runs.lock import busy_with
from mtlbench.runs.record import read_record, write_record
from mtlbench.training.state import Interrupted

_GRACE = 10.0  # seconds that processes have to save their state when they must stop at once


class _Worker(Worker):
    """A process that works on one job."""

    def __init__(self, job: Job, order: Path, slot: int) -> None:
        errors = order.with_suffix(".err")
        super().__init__("mtlbench.jobs.work", order, errors, slot, job.threads, job.site.device)
        self.job = job
        self.ended = False
        self.who = ""
        self.full = ""


@register_executor("processes")
class Processes(Executor):
    """Several at a time, each in a process of its own."""

    def __init__(self, *, jobs: Annotated[int, Field(ge=1)] = 2) -> None:
        self.jobs = jobs

    def threads(self, available: int) -> int:
        """Return the share of the threads that each process gets."""
        return max(1, available // self.jobs)

    def at_once(self) -> int:
        """Return the number of processes."""
        return self.jobs

    def run(self, jobs: Sequence[Job], watcher: Watcher, stop: Callable[[], bool]) -> None:
        """Train and test, several jobs at a time; then measure costs one at a time, on a quiet machine."""
        with scratch(Path(tempfile.gettempdir()), "mtlbench-jobs-") as folder:
            todo = [job for job in jobs if not job.costs_due]
            _Round(self.jobs, folder, watcher, stop, costs=False).run(todo)
            due = [job for job in (seen(job, dataset_of(job).device.type) for job in jobs) if job.costs_due]
            _Round(1, folder, watcher, stop, costs=True).run(due)
        if stop():
            raise Interrupted


class _Round:
    """A set of jobs, done by a fixed number of processes at a time."""

    def __init__(self, size: int, folder: Path, watcher: Watcher, stop: Callable[[], bool], costs: bool) -> None:
        self.size, self.folder, self.watcher, self.stop, self.costs = size, folder, watcher, stop, costs
        self.events: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
        self.under_way: list[_Worker] = []
        self.met: set[Path] = set()  # runs that had to wait for another process
        self.numbers = 0
        self.full = ""

    def run(self, jobs: Sequence[Job]) -> None:
        """Do the jobs.

        Raises:
            Interrupted, UserError: raised after every process has saved its state.
        """
        waiting = deque(jobs)
        try:
            while waiting or self.under_way:
                stopping = self.stop() or bool(self.full)
                if stopping:
                    for worker in self.under_way:
                        worker.stop()
                    if not self.under_way:
                        break
                else:
                    self._start(waiting)
                with contextlib.suppress(queue.Empty):
                    worker, event = self.events.get(timeout=LOOK if self.under_way else 5 * LOOK)
                    if event is not None:
                        self._told(worker, event)
                    elif self._ended(worker):
                        waiting.append(worker.job)
        finally:
            self._end()  # some are left only after an exception, such as a second Ctrl-C
        if self.full:
            raise UserError(self.full)
        if waiting or self.stop():
            raise Interrupted

    def _end(self) -> None:
        """Give processes a few seconds to save their state, then end those still running. Ctrl-C ends them at once."""
        until = time.monotonic() + _GRACE
        try:
            for worker in self.under_way:
                worker.stop()
            for worker in self.under_way:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.process.wait(max(0.0, until - time.monotonic()))
        finally:
            for worker in self.under_way:
                worker.kill()

    def _start(self, waiting: deque[Job]) -> None:
        """Start as many jobs as there are free places; jobs that other processes work on wait."""
        for _ in range(len(waiting)):
            if len(self.under_way) == self.size:
                return
            job = waiting.popleft()
            if who := busy_with(job.folder):
                self._met(job, who)
                waiting.append(job)
                continue
            self._begin(job)

    def _met(self, job: Job, who: str) -> None:
        if job.folder not in self.met:
            self.watcher.busy(job, who)
        self.met.add(job.folder)

    def _begin(self, job: Job) -> None:
        slot = min(set(range(self.size)) - {worker.slot for worker in self.under_way})
        self.numbers += 1
        path = self.folder / f"{self.costs}-{self.numbers}.json"
        order = {"share": self.size, "costs": self.costs, "waited": job.folder in self.met}
        path.write_text(json.dumps({"job": job.to_json(), **order}), encoding="utf-8")
        worker = _Worker(job, path, slot)
        self.under_way.append(worker)
        worker.report_to(self.events)

    def _told(self, worker: _Worker, event: dict[str, Any]) -> None:
        job = worker.job
        match event["event"]:
            case "ended":
                worker.ended = True
                record = read_record(job.folder)
                if record is not None and not self.costs:  # its line was shown before its costs were measured
                    self.watcher.ended(job, record)
            case "busy":
                worker.who = event["who"]
            case "full":
                worker.full = event["reason"]
            case what:
                retell(self.watcher, job, what, event)

    def _ended(self, worker: _Worker) -> bool:
        """Handle the result of a process that ended; return whether its job must wait for another process."""
        self.under_way.remove(worker)
        code, job = worker.close(), worker.job
        if code == BUSY:
            self._met(job, worker.who)
            return True
        if code == FULL:
            self.full = worker.full
        elif code == INTERRUPTED:
            return True
        elif not worker.ended and not self.costs:
            record = read_record(job.folder)
            if record is None or record.status != "done":  # it may have died after it wrote its record
                record = failure(job, dataset_of(job), job.precision, worker.why_it_died())
                write_record(job.folder, record)
            self.watcher.ended(job, record)
        return False

"""Runs on other machines.

Records are sent back, so no shared disk is needed. A node that dies costs its runs only their last minutes.
"""

from __future__ import annotations

import shutil
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from mtlbench.devices import device_name
from mtlbench.jobs.attempt import attempt, computing_with, is_settled
from mtlbench.jobs.data import adopt, dataset_of
from mtlbench.jobs.driver import Driver, Task
from mtlbench.jobs.execute import failure
from mtlbench.jobs.executors.contract import Executor
from mtlbench.jobs.job import Job, Watcher
from mtlbench.jobs.nodes import Errand, Left, Line, Nodes
from mtlbench.jobs.parcel import packed, unpack
from mtlbench.jobs.plan import seen
from mtlbench.jobs.work import Teller, retell
from mtlbench.runs.lock import Busy, working_on
from mtlbench.runs.record import COSTS_DUE, partial_folder, read_record, write_record
from mtlbench.runs.tried import Tried, note_tried
from mtlbench.training.events import CheckpointSaved, Event
from mtlbench.training.state import Interrupted


class Remote(Executor):
    """An executor on other machines; a subclass provides them through `nodes`. `mtlbench tune --on` takes it too."""

    @abstractmethod
    def nodes(self, results: Path) -> AbstractContextManager[Nodes]:
        """Return the machines.

        Args:
            results: the folder for results, for machines that need a shared disk.

        Raises:
            UserError: the machines can't be reached.
        """

    def run(self, jobs: Sequence[Job], watcher: Watcher, stop: Callable[[], bool]) -> None:
        """Train and test, as many runs at a time as there is room for; then measure costs, each on its own node."""
        if jobs:
            with self.nodes(jobs[0].folder.parents[2]) as nodes:
                sweep = _Sweep(nodes, watcher, stop)
                sweep.waiting.extend((job, 0) for job in jobs if not job.costs_due)
                sweep.drive()
                due = [job for job in (seen(job, dataset_of(job).device.type) for job in jobs) if job.costs_due]
                _Costs(nodes, watcher, stop, due, sweep.trained_on).drive()
        if stop():
            raise Interrupted


class _Sweep(Driver[Job]):
    """All runs of a command."""

    def __init__(self, nodes: Nodes, watcher: Watcher, stop: Callable[[], bool]) -> None:
        super().__init__(nodes, stop)
        self.watcher = watcher
        self.waiting = deque[tuple[Job, int]]()  # with the number of times each was handed out
        self.met = set[Path]()  # runs that had to wait for another process
        self.trained_on: dict[Path, str] = {}  # the node that trained each run

    def left(self) -> bool:
        return bool(self.waiting)

    def start(self) -> None:
        """Hand out jobs; jobs that other processes work on wait."""
        for _ in range(len(self.waiting)):
            if len(self.under_way) >= self.nodes.room():
                return
            job, tries = self.waiting.popleft()
            lock = ExitStack()
            try:
                lock.enter_context(working_on(job.folder))
            except Busy as busy:
                if job.folder not in self.met:
                    self.watcher.busy(job, busy.who)
                self.met.add(job.folder)
                self.waiting.append((job, tries))
                continue
            now = seen(job, dataset_of(job).device.type)
            if is_settled(job.state, now, waited=job.folder in self.met):
                record = read_record(job.folder)
                lock.close()
                if record is not None:
                    self.watcher.ended(now, record)
                continue
            facts = {"job": now.to_json(), "partial": packed(partial_folder(now.folder))}
            dataset = dataset_of(now)
            note_tried(now.folder.parents[2], Tried(str(dataset.facts.get("name")), now.setup))
            number = self.nodes.send(train_on_node, facts, dataset, now.site)
            self.under_way[number] = Task(now, lock, tries + 1)
            self.watcher.doing(now, "waits for a node")

    def heard(self, what: Job, event: str, facts: dict[str, Any]) -> None:
        if event == "kept":
            unpack(facts["files"], partial_folder(what.folder))
        else:
            retell(self.watcher, what, event, facts)

    def keep(self, what: Job, left: Left) -> None:
        if left.get("partial"):
            unpack(left["partial"], partial_folder(what.folder))

    def settle(self, task: Task[Job], left: Left) -> bool:
        folder = task.what.folder
        unpack(left["files"], folder)
        record = read_record(folder)
        assert record is not None
        if record.status == "done":
            shutil.rmtree(partial_folder(folder), ignore_errors=True)
        self.trained_on[folder] = left["node"]
        self.watcher.ended(task.what, record)
        return False

    def again(self, task: Task[Job], died: bool) -> bool:
        why = "its task died with its node or process" if died else "its node took its place back"
        self.watcher.doing(task.what, f"{why}; continues elsewhere")
        self.waiting.append((task.what, task.tries))
        return False

    def died(self, task: Task[Job], reason: str) -> None:
        job = task.what
        record = failure(job, dataset_of(job), job.precision, reason)
        write_record(job.folder, record)
        self.watcher.ended(job, record)


class _Costs(Driver[tuple[Job, list[str]]]):
    """The costs of finished runs, each measured on a node that does nothing else meanwhile.

    That is the node that trained the run or, if it is not known, one with the same device.
    """

    grace = 0.0

    def __init__(
        self, nodes: Nodes, watcher: Watcher, stop: Callable[[], bool], jobs: Sequence[Job], trained_on: dict[Path, str]
    ) -> None:
        super().__init__(nodes, stop)
        self.watcher = watcher
        self.waiting = deque((job, nodes.places(trained_on.get(job.folder))) for job in jobs)

    def left(self) -> bool:
        return bool(self.waiting)

    def start(self) -> None:
        while self.waiting and len(self.under_way) < self.nodes.room(alone=True):
            job, places = self.waiting.popleft()
            if not places:
                self.watcher.doing(
                    job, "its costs are still to be measured: no node has the device that it was trained on"
                )
                continue
            lock = ExitStack()
            try:
                lock.enter_context(working_on(job.folder))
            except Busy:  # another process measures them
                continue
            facts = {"job": job.to_json(), "record": packed(job.folder)}
            number = self.nodes.send(measure_on_node, facts, dataset_of(job), job.site, alone=True, place=places[0])
            self.under_way[number] = Task((job, places[1:]), lock)
            self.watcher.doing(job, "waits for a node of its own, to measure cost")

    def heard(self, what: tuple[Job, list[str]], event: str, facts: dict[str, Any]) -> None:
        retell(self.watcher, what[0], event, facts)

    def keep(self, what: tuple[Job, list[str]], left: Left) -> None:
        """Keep nothing: costs are always measured completely."""

    def settle(self, task: Task[tuple[Job, list[str]]], left: Left) -> bool:
        job, places = task.what
        if left["how"] == "elsewhere":
            self.waiting.append((job, places))
        else:
            unpack(left["files"], job.folder)
        return False

    def again(self, task: Task[tuple[Job, list[str]]], died: bool) -> bool:
        """Leave the costs due if their node is gone: the same command measures them next time."""
        return False

    def died(self, task: Task[tuple[Job, list[str]]], reason: str) -> None:
        """Leave the costs due."""


class KeepingTeller(Teller):
    """Sends the driver the events of a job and, after each validation, the state needed to continue."""

    def __init__(self, line: Line) -> None:
        super().__init__(line.tell)

    def happened(self, job: Job, event: Event) -> None:
        """Send an event of its training."""
        super().happened(job, event)
        if isinstance(event, CheckpointSaved):
            self.tell("kept", files=packed(partial_folder(job.folder)))


def _job_of(errand: Errand) -> Job:
    """Return an errand's job with the paths of this node."""
    content = errand.facts["job"]
    # keep three levels of folders, so that files which runs write beside their folders stay inside
    folder = Path(errand.folder, *Path(content["folder"]).parts[-3:])
    job = replace(Job.from_json(content | {"site": errand.site.to_json()}), folder=folder)
    adopt(job, errand.dataset)
    return job


def train_on_node(errand: Errand) -> Left:
    """Train and test a run on a node, and continue from the kept state if there is any."""
    job = _job_of(errand)
    partial = partial_folder(job.folder)
    if errand.facts["partial"]:
        unpack(errand.facts["partial"], partial)
    try:
        attempt(job, KeepingTeller(errand.line), errand.line.stopping, costs=False)
    except Interrupted:
        return {"how": "interrupted", "partial": packed(partial)}
    return {"how": "done", "files": packed(job.folder), "partial": packed(partial)}


def measure_on_node(errand: Errand) -> Left:
    """Measure a run's costs on a node, if the node has the device that trained the run."""
    job = _job_of(errand)
    unpack(errand.facts["record"], job.folder)
    record = read_record(job.folder)
    with computing_with(job.threads):
        device = device_name(errand.dataset.device)
    if record is None or not record.receipt.get(COSTS_DUE) or record.receipt.get("device") != device:
        return {"how": "elsewhere"}
    attempt(job, Teller(errand.line.tell), errand.line.stopping)
    return {"how": "done", "files": packed(job.folder)}

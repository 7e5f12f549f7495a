"""Jobs done on a Ray cluster: data go to each node once, records come back, no disk is shared.

The driver, the process of `mtlbench run`, holds each run's lock and writes all that stays. A task gets the data set
from Ray's object store, what an interrupted run left, and the sources of plug-ins; it works in a folder of its own and
sends events, and after each validation what continuing needs. A task that dies with its node goes on elsewhere from
there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

import mtlbench
from mtlbench.data.dataset import Dataset
from mtlbench.devices import device_name
from mtlbench.errors import UserError
from mtlbench.jobs.attempt import attempt, computing_with, is_settled
from mtlbench.jobs.data import adopt, dataset_of
from mtlbench.jobs.execute import failure
from mtlbench.jobs.executors.contract import Executor, register_executor
from mtlbench.jobs.job import Job, Site, Watcher
from mtlbench.jobs.parcel import (
    Sources,
    packed,
    packed_plugins,
    unpack,
    unpacked_plugins,
    with_images,
    without_images,
)
from mtlbench.jobs.plan import seen
from mtlbench.jobs.work import Teller, retell
from mtlbench.runs.lock import Busy, working_on
from mtlbench.runs.record import COSTS_DUE, Record, partial_folder, read_record, write_record
from mtlbench.runs.tried import Tried, note_tried
from mtlbench.training.events import CheckpointSaved, Event
from mtlbench.training.state import Interrupted

_LOOK = 0.2  # seconds between looks at what tasks say
_TRIES = 3  # how often a run whose task died is begun or taken up
_GRACE = 30.0  # seconds in which tasks may send what they have, once asked to stop


@register_executor("ray", needs=("ray",), extra="ray")
class Ray(Executor):
    """On a Ray cluster, or on this machine's cores through Ray.

    Args:
        address: of the cluster, as `auto` or `10.0.0.1:6379`; by default RAY_ADDRESS, else this machine alone.
        jobs: at most so many at a time; 0: as many as the cluster has room for.
        cpus: threads of each job, and cores that it takes.
        gpus: GPUs that each job takes where it runs on one; less than 1 shares one.
    """

    def __init__(
        self,
        *,
        address: str = "",
        jobs: Annotated[int, Field(ge=0)] = 0,
        cpus: Annotated[int, Field(ge=1)] = 1,
        gpus: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        self.address, self.jobs, self.cpus, self.gpus = address, jobs, cpus, gpus

    def threads(self, available: int) -> int:
        """Return the threads of each job, on whatever node."""
        return self.cpus

    def run(self, jobs: Sequence[Job], watcher: Watcher, stop: Callable[[], bool]) -> None:
        """Train and test, as many at a time as there is room for; then measure costs, each on a node of its own."""
        with _cluster(self.address):
            sweep = _Sweep(self, watcher, stop)
            try:
                sweep.train([job for job in jobs if not job.costs_due])
                if not stop():
                    due = [job for job in (seen(job, dataset_of(job).device.type) for job in jobs) if job.costs_due]
                    sweep.measure(due)
            finally:
                sweep.end()
        if stop():
            raise Interrupted


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine; one that is connected already is used and stays.

    Raises:
        UserError: there is none at the address.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    there = address or os.environ.get("RAY_ADDRESS", "")
    options: dict[str, Any] = {"address": there} if there else {"include_dashboard": False}
    ours = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, configure_logging=False, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f" at {there}" if there else ""
        raise UserError(f"No Ray cluster can be reached{where}: {str(error).strip().splitlines()[0]}") from error
    finally:
        if ours:  # Ray's own ends the process at once; ours keeps what runs have
            signal.signal(signal.SIGTERM, before)
    try:
        yield
    finally:
        ray.shutdown()


class _Desk:
    """An actor on the driver's node: takes what tasks say, and tells them to stop."""

    def __init__(self) -> None:
        self.said: list[tuple[int, str, dict[str, Any]]] = []
        self.asked = False

    def tell(self, number: int, event: str, facts: dict[str, Any]) -> None:
        self.said.append((number, event, facts))

    def take(self) -> list[tuple[int, str, dict[str, Any]]]:
        said, self.said = self.said, []
        return said

    def stop(self) -> None:
        self.asked = True

    def stopping(self) -> bool:
        return self.asked


@dataclass
class _Task:
    """A job under way: which try of it, what holds its run's lock, and its task's number and result to come."""

    job: Job
    tries: int
    lock: ExitStack
    number: int
    result: Any


class _Sweep:
    """All jobs of one `run`, seen from the driver."""

    def __init__(self, executor: Ray, watcher: Watcher, stop: Callable[[], bool]) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        self.ray: Any = ray
        self.on = On
        self.executor, self.watcher, self.stop = executor, watcher, stop
        here = ray.get_runtime_context().get_node_id()
        self.desk = self.ray.remote(_Desk).options(num_cpus=0, scheduling_strategy=On(here, soft=False)).remote()
        self.parts: dict[int, Any] = {}  # a data set's place in the object store, by its identity here
        self.plugins: dict[tuple[Path, ...], list[Sources]] = {}
        self.under_way: dict[Any, _Task] = {}  # by the result to come
        self.met: set[Path] = set()  # runs at which another process was met
        self.nodes: dict[Path, str] = {}  # on which a run was trained
        self.numbers, self.reason, self.told_to_stop = 0, "", False

    def train(self, jobs: Sequence[Job]) -> None:
        """Train and test.

        Raises:
            Interrupted: `stop` said so; UserError: no job could do better. What tasks had is kept.
        """
        waiting = deque((job, 0) for job in jobs)
        until = float("inf")
        while waiting or self.under_way:
            if self.stop() or self.reason:
                if not self.told_to_stop:
                    self.told_to_stop, until = True, time.monotonic() + _GRACE
                    self.desk.stop.remote()
                if not self.under_way or time.monotonic() > until:
                    break
            else:
                self._start(waiting)
            if self.under_way:
                ready, _ = self.ray.wait(list(self.under_way), timeout=_LOOK)
            else:
                ready = []
                time.sleep(_LOOK)
            self._hear()
            for result in ready:
                task = self.under_way.pop(result)
                if self._settle(task):
                    waiting.append((task.job, task.tries))
        if self.reason:
            raise UserError(self.reason)
        if self.stop():
            raise Interrupted

    def end(self) -> None:
        """End what is still under way, after an exception such as a second Ctrl-C."""
        for result, task in self.under_way.items():
            with contextlib.suppress(Exception):  # the cluster may have gone
                self.ray.cancel(result, force=True)
            task.lock.close()
        self.under_way.clear()

    def _start(self, waiting: deque[tuple[Job, int]]) -> None:
        """Hand jobs to the cluster, a few more than it has room for; those that others work on wait."""
        room = self.executor.jobs or int(self.ray.cluster_resources().get("CPU", 1)) // self.executor.cpus + 1
        for _ in range(len(waiting)):
            if len(self.under_way) >= room:
                return
            job, tries = waiting.popleft()
            lock = ExitStack()
            try:
                lock.enter_context(working_on(job.folder))
            except Busy as busy:
                if job.folder not in self.met:
                    self.watcher.busy(job, busy.who)
                self.met.add(job.folder)
                waiting.append((job, tries))
                continue
            now = seen(job, dataset_of(job).device.type)
            if is_settled(job.state, now, waited=job.folder in self.met):
                record = read_record(job.folder)
                lock.close()
                if record is not None:
                    self.watcher.ended(now, record)
                continue
            self._hand_over(now, tries, lock)

    def _hand_over(self, job: Job, tries: int, lock: ExitStack) -> None:
        self.numbers += 1
        order = self._order(job) | {"partial": packed(partial_folder(job.folder)), "costs": False}
        note_tried(job.folder.parents[2], Tried(str(dataset_of(job).facts.get("name")), job.setup))
        result = self._remote(job, {"num_cpus": self.executor.cpus}).remote(order, self._data(job), self.desk)
        self.under_way[result] = _Task(job, tries + 1, lock, self.numbers, result)

    def _order(self, job: Job) -> dict[str, Any]:
        site = job.site.plugins
        if site not in self.plugins:
            self.plugins[site] = packed_plugins(site)
        return {"number": self.numbers, "job": job.to_json(), "plugins": self.plugins[site], "cpus": self.executor.cpus}

    def _remote(self, job: Job, options: dict[str, Any]) -> Any:
        if job.site.device.startswith("cuda"):
            options["num_gpus"] = self.executor.gpus
        return self.ray.remote(max_retries=0, max_calls=1)(_do).options(**options)

    def _data(self, job: Job) -> Any:
        """Return a job's data set's place in the object store: put there once, fetched by each node once."""
        dataset = dataset_of(job)
        if id(dataset) not in self.parts:
            rest, images = without_images(dataset)
            self.parts[id(dataset)] = [self.ray.put(rest), self.ray.put(images)]
        return self.parts[id(dataset)]

    def _hear(self) -> None:
        by_number = {task.number: task.job for task in self.under_way.values()}
        for number, event, facts in self.ray.get(self.desk.take.remote()):
            job = by_number.get(number)
            if job is None:  # of a task that has died
                continue
            if event == "kept":
                unpack(facts["files"], partial_folder(job.folder))
            else:
                retell(self.watcher, job, event, facts)

    def _settle(self, task: _Task) -> bool:
        """Keep what a task left; tell whether its job is to be handed over again."""
        job = task.job
        try:
            left = self.ray.get(task.result)
        except Exception as error:  # the task died, by whatever cause
            return self._died(task, error)
        try:
            if left["how"] == "full":
                self.reason = left["reason"]
                return True
            if left["partial"]:
                unpack(left["partial"], partial_folder(job.folder))
            if left["how"] == "interrupted":
                return True
            unpack(left["files"], job.folder)
            record = read_record(job.folder)
            assert record is not None
            if record.status == "done":
                shutil.rmtree(partial_folder(job.folder), ignore_errors=True)
            self.nodes[job.folder] = left["node"]
            self.watcher.ended(job, record)
            return False
        finally:
            task.lock.close()

    def _died(self, task: _Task, error: Exception) -> bool:
        job = task.job
        try:
            if self.told_to_stop:
                return True
            if task.tries < _TRIES:
                self.watcher.doing(job, "its task died with its node or process; going on elsewhere")
                return True
            words = str(error).strip().splitlines()
            reason = f"its task died {task.tries} times: {type(error).__name__}{f': {words[0]}' if words else ''}"
            record = failure(job, dataset_of(job), job.precision, reason)
            write_record(job.folder, record)
            self.watcher.ended(job, record)
            return False
        finally:
            task.lock.close()

    def measure(self, jobs: Sequence[Job]) -> None:
        """Measure the costs of finished runs, one at a time on each node, which does nothing else meanwhile.

        A run's costs are measured on the node that trained it, else on one of the same device.
        """
        cpus = {node["NodeID"]: node["Resources"].get("CPU", 0) for node in self.ray.nodes() if node["Alive"]}
        waiting = [(job, self._places(job, cpus)) for job in jobs]
        measuring: dict[Any, tuple[Job, list[str], ExitStack]] = {}
        while (waiting or measuring) and not self.stop():
            for job, places in waiting:
                if not places:
                    self.watcher.doing(job, "costs stay due: no node has the device that it was trained on")
                    continue
                lock = ExitStack()
                try:
                    lock.enter_context(working_on(job.folder))
                except Busy:  # another process measures them
                    continue
                self.numbers += 1
                order = self._order(job) | {"record": packed(job.folder), "costs": True}
                options = {"num_cpus": cpus[places[0]], "scheduling_strategy": self.on(places[0], soft=False)}
                result = self._remote(job, options).remote(order, self._data(job), self.desk)
                measuring[result] = (job, places[1:], lock)
            waiting = []
            ready, _ = self.ray.wait(list(measuring), timeout=_LOOK) if measuring else ([], [])
            self._hear()
            for result in ready:
                job, places, lock = measuring.pop(result)
                with lock, contextlib.suppress(Exception):  # its node has gone: the costs stay due
                    left = self.ray.get(result)
                    if left["how"] == "done":
                        unpack(left["files"], job.folder)
                    elif left["how"] == "elsewhere":
                        waiting.append((job, places))
        for result, (_, _, lock) in measuring.items():
            self.ray.cancel(result, force=True)
            lock.close()

    def _places(self, job: Job, cpus: dict[str, float]) -> list[str]:
        trained = self.nodes.get(job.folder)
        if trained is not None:
            return [trained] if trained in cpus else []
        return list(cpus)


class _Teller(Teller):
    """Sends what happens in a task to the desk, and after each validation what continuing needs."""

    def __init__(self, number: int, desk: Any) -> None:
        super().__init__(lambda event, **facts: desk.tell.remote(number, event, facts))

    def happened(self, job: Job, event: Event) -> None:
        """Tell what happened while it trains."""
        super().happened(job, event)
        if isinstance(event, CheckpointSaved):
            self.tell("kept", files=packed(partial_folder(job.folder)))


def _stopping(desk: Any) -> Callable[[], bool]:
    """Return what tells whether to stop. It never waits: Ray takes a task's cores from it while it does."""
    import ray

    answer, asked, last = desk.stopping.remote(), False, time.monotonic()

    def stop() -> bool:
        nonlocal answer, asked, last
        if not asked and time.monotonic() - last > _LOOK:
            last = time.monotonic()
            if ray.wait([answer], timeout=0)[0]:
                asked = bool(ray.get(answer))
                answer = desk.stopping.remote()
        return asked

    return stop


def _do(order: dict[str, Any], data: Sequence[Any], desk: Any) -> dict[str, Any]:
    """Do a job in a task: in a process of its own, on any node."""
    import ray

    from mtlbench.jobs.memory import guard_memory
    from mtlbench.plugins import load_plugins

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    content: dict[str, Any] = order["job"]
    left: dict[str, Any] = {"node": ray.get_runtime_context().get_node_id(), "files": {}, "partial": {}, "reason": ""}
    with tempfile.TemporaryDirectory(prefix="mtlbench-ray-") as scratch:
        plugins = unpacked_plugins(order["plugins"], Path(scratch))
        load_plugins(plugins)
        site = Site.from_json(content["site"] | {"data_dir": None, "plugins": list(map(str, plugins))})
        # the same three names below a folder of its own: what runs leave beside their folders stays in it
        folder = Path(scratch, "results", *Path(content["folder"]).parts[-3:])
        job = replace(Job.from_json(content), folder=folder, site=site)
        rest, images = ray.get(list(data))
        dataset: Dataset = with_images(rest, images, torch.device(site.device))
        adopt(job, dataset)
        cores = os.cpu_count() or 1
        guard_memory(max(1, cores // order["cpus"]))
        if order["costs"]:
            unpack(order["record"], folder)
            record = read_record(folder)
            if record is None or not _same_device(record, dataset, job.threads):
                return left | {"how": "elsewhere"}
        elif order["partial"]:
            unpack(order["partial"], partial_folder(folder))
        try:
            attempt(job, _Teller(order["number"], desk), _stopping(desk), costs=order["costs"])
        except Interrupted:
            return left | {"how": "interrupted", "partial": packed(partial_folder(folder))}
        except UserError as error:  # a full disk, other sources than the driver's: no other job would do better
            return left | {
                "how": "full",
                "reason": f"{error} (on node {os.uname().nodename}, mtlbench {mtlbench.__version__})",
            }
        return left | {"how": "done", "files": packed(folder), "partial": packed(partial_folder(folder))}


def _same_device(record: Record, dataset: Dataset, threads: int) -> bool:
    with computing_with(threads):
        return bool(record.receipt.get(COSTS_DUE)) and record.receipt.get("device") == device_name(dataset.device)

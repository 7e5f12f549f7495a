"""The executor for Slurm clusters, through submitit; the nodes share the disk that holds the results.

Orders and messages go through a folder beside the results, which is removed at the end. A job writes its messages to a
file of JSON lines, and the state needed to continue to its own folder. The driver writes a growing number to a file
there. A job that sees the same number for minutes saves its state and ends.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mtlbench.data.dataset import Dataset
from mtlbench.errors import UserError
from mtlbench.jobs.executors.contract import register_executor
from mtlbench.jobs.nodes import Died, Left, Line, Nodes, Order, Word, carry_out
from mtlbench.jobs.parcel import packed, unpack
from mtlbench.jobs.scratch import scratch
from mtlbench.jobs.sweep import Remote
from mtlbench.runs.disk import writing
from mtlbench.runs.lock import writer

_BOX = ".mtlbench-slurm-"  # start of the folder's name
_ASK = 60.0  # seconds between queries to Slurm's accounting about silent jobs
_LATE = 15.0  # seconds that a result may take to appear on a shared disk
_BEAT = 15.0  # seconds between the driver's signs of life
_ORPHANED = 600.0  # seconds without a sign of the driver after which a job ends
_LISTEN = 2.0  # seconds between a job's checks for a message from the driver
_WARNING = 120  # seconds before the end of its time at which Slurm warns a job


@register_executor("slurm", needs=("submitit",), extra="slurm")
class Slurm(Remote):
    """On a Slurm cluster; the results lie on a disk that its nodes share.

    Args:
        partition: the queue for jobs; account, qos, constraint: as sbatch takes them. Empty: the cluster's default.
        jobs: the most jobs in the queue at a time.
        time: minutes that each job may take; a longer run continues in another job.
        cpus: threads of each run, and cores that its job takes.
        memory: of each job, in gigabytes; 0: the cluster's default.
        gpus: GPUs that each job takes if runs compute on a GPU.
        cluster: `local` runs the jobs as processes of this machine, through submitit, for a trial.
    """

    def __init__(
        self,
        *,
        partition: str = "",
        account: str = "",
        qos: str = "",
        constraint: str = "",
        jobs: Annotated[int, Field(ge=1)] = 16,
        time: Annotated[int, Field(ge=5)] = 240,
        cpus: Annotated[int, Field(ge=1)] = 1,
        memory: Annotated[int, Field(ge=0)] = 0,
        gpus: Annotated[int, Field(ge=1)] = 1,
        cluster: Literal["slurm", "local"] = "slurm",
    ) -> None:
        self.jobs, self.cpus, self.gpus, self.cluster = jobs, cpus, gpus, cluster
        self.asked: dict[str, Any] = {"timeout_min": time, "cpus_per_task": cpus, "tasks_per_node": 1, "nodes": 1}
        if memory:
            self.asked["mem_gb"] = memory
        of_slurm = {"partition": partition, "account": account, "qos": qos, "constraint": constraint}
        self.asked |= {f"slurm_{name}": value for name, value in of_slurm.items() if value}
        # Slurm would restart a requeued job from its first state; the driver hands out the latest one
        more = {"slurm_signal_delay_s": _WARNING, "slurm_additional_parameters": {"no-requeue": True}}
        self.asked |= {"name": "mtlbench", **more}

    def threads(self, available: int) -> int:
        """Return the threads of each job, on any node."""
        return self.cpus

    def at_once(self) -> int:
        """Return the most jobs in the queue."""
        return self.jobs

    @contextmanager
    def nodes(self, results: Path) -> Iterator[Nodes]:
        """Make the folder for orders and messages."""
        logging.getLogger("submitit").setLevel(logging.CRITICAL)  # its log messages would break the live view
        results.mkdir(parents=True, exist_ok=True)
        with scratch(results.resolve(), _BOX) as box:
            yield _SlurmNodes(self, box)


class _SlurmNodes(Nodes):
    """The nodes of a Slurm cluster; each order is a submitit job."""

    def __init__(self, executor: Slurm, box: Path) -> None:
        super().__init__(executor.cpus)
        self.executor, self.box = executor, box
        self.jobs: dict[int, Any] = {}  # submitit's jobs, by the number of the order
        self.silent: dict[int, float] = {}  # when a job was first seen to have ended without a result
        self.read: dict[int, int] = {}  # how much of each job's messages has been read
        self.begun: set[int] = set()
        self.taken_back: set[int] = set()
        self.look = 0.2 if executor.cluster == "local" else 2.0
        self.beats, self.last_beat, self.last_asked, self.asked_to_stop = 0, 0.0, time.monotonic(), False
        self._beat()

    def room(self, alone: bool = False) -> int:
        """Return how many orders may be in the queue.

        Slurm gives each order its own node; with `cluster=local`, this machine is the one node.
        """
        return 1 if alone and self.executor.cluster == "local" else self.executor.jobs

    def places(self, done_on: str | None) -> list[str]:
        """Return any node: the wait for a particular one may take days."""
        return [""]

    def put(self, rest: Dataset, images: NDArray[np.uint8]) -> Any:
        """Put the data set beside the results."""
        place = self.box / f"data-{len(self._data)}"
        with writing(place, images.nbytes):
            place.mkdir()
            np.save(place / "images.npy", images)
            (place / "rest.pickle").write_bytes(pickle.dumps(rest))
        return place

    def submit(self, order: Order, data: Any) -> None:
        """Submit the order as a job."""
        import submitit

        asked = dict(self.executor.asked)
        if order.on_gpu:
            asked["gpus_per_node"] = self.executor.gpus
        if order.alone:
            asked["slurm_exclusive"] = True
        try:
            executor = submitit.AutoExecutor(self.box / "jobs", cluster=self.executor.cluster)
            executor.update_parameters(**asked)
            self.jobs[order.number] = executor.submit(_do, order, data, self.box)
        except (RuntimeError, OSError, submitit.core.utils.FailedJobError) as error:
            words = [line for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
            raise UserError(f"Slurm takes no jobs here: {words[-1]}") from error
        self.read[order.number] = 0

    def hear(self) -> list[Word]:
        """Read the messages that jobs have written."""
        found: list[Word] = []
        for number in self.jobs:
            try:
                with (self.box / f"{number}.words").open("rb") as file:
                    file.seek(self.read[number])
                    text = file.read()
            except OSError:  # it has written nothing yet
                continue
            whole = text[: text.rfind(b"\n") + 1]
            self.read[number] += len(whole)
            for line in whole.splitlines():
                self.begun.add(number)
                event, facts = json.loads(line)
                if "kept" in facts:
                    place = self.box / facts.pop("kept")
                    facts["files"] = packed(place)
                    shutil.rmtree(place, ignore_errors=True)
                    if not facts["files"]:  # not visible here yet: the files kept before stay
                        continue
                found.append((number, event, facts))
        return found

    def ended(self, seconds: float) -> list[int]:
        """Look for results; from time to time, ask Slurm which jobs died."""
        self._beat()
        force = time.monotonic() - self.last_asked > _ASK
        if force:
            self.last_asked = time.monotonic()
        found = []
        for number, job in self.jobs.items():
            with contextlib.suppress(OSError):
                list(job.paths.folder.iterdir())  # makes a shared disk refresh its listing
            if job.paths.result_pickle.exists() or number in self.taken_back:
                found.append(number)
            elif job.done(force_check=force):
                force = False  # one answer covers all jobs
                since = self.silent.setdefault(number, time.monotonic())
                if time.monotonic() - since >= (_LATE if self.executor.cluster == "slurm" else 0):
                    found.append(number)
        if not found:
            time.sleep(max(seconds, self.look))
        return found

    def result(self, number: int) -> Left:
        """Read the order's result."""
        job = self.jobs.pop(number)
        if number in self.taken_back:
            raise Died("taken back from the queue")
        if not job.paths.result_pickle.exists():
            raise Died(self._why(job))
        try:
            left: Left = job.result()
        except Exception as error:  # an exception of the job, as submitit reports it
            # submitit puts its own text around the trace, each part below a ruler
            trace = str(error).rpartition("\n-----")[0] or str(error)
            words = [line for line in trace.splitlines() if line.strip()] or [type(error).__name__]
            raise Died(words[-1]) from error
        return left

    def _why(self, job: Any) -> str:
        why = f"Slurm's job {job.job_id} left no result ({job.state})"
        if not job.paths.stdout.exists():
            return f"{why} and no log in {job.paths.folder.parent.parent}: the nodes must see the folder of --results"
        lines = [line for line in (job.stderr() or "").splitlines() if line.strip()]
        return f"{why}{f': {lines[-1]}' if lines else ''}"

    def stop(self) -> None:
        """Leave the request to stop, and cancel jobs that still wait."""
        self.asked_to_stop = True
        self._beat()
        self.taken_back = self.jobs.keys() - self.begun
        for number in self.taken_back:
            self._cancel(number)

    def cancel(self, number: int) -> None:
        """Cancel the order's job."""
        if number in self.jobs:
            self._cancel(number)
            del self.jobs[number]

    def _cancel(self, number: int) -> None:
        with contextlib.suppress(OSError):  # it has just ended
            self.jobs[number].cancel(check=False)

    def _beat(self) -> None:
        """Write the message to all jobs: a growing number, and whether to stop."""
        if time.monotonic() - self.last_beat < _BEAT and not self.asked_to_stop and self.beats:
            return
        self.last_beat, self.beats = time.monotonic(), self.beats + 1
        new = self.box / f"word.new-{writer()}"
        with contextlib.suppress(OSError):  # the disk is full, or gone for a while
            new.write_text(json.dumps({"beat": self.beats, "stop": self.asked_to_stop}))
            new.replace(self.box / "word")


class _Line(Line):
    """A job's connection to the driver: files in the folder."""

    def __init__(self, number: int, box: Path) -> None:
        self.number, self.box = number, box
        self.node = os.environ.get("SLURMD_NODENAME", socket.gethostname())
        self.asked, self.kept, self.beat = False, 0, -1
        self.heard = self.looked = time.monotonic()
        # Slurm signals that time is up, the place is needed, or the job is cancelled; it kills the job later
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, self._ask)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the driver decides what to do

    def _ask(self, number: int, frame: object) -> None:
        self.asked = True

    def tell(self, event: str, **facts: Any) -> None:
        """Write a line of JSON; `files` are first written to a folder, completely."""
        if "files" in facts:
            self.kept += 1
            facts["kept"] = f"{self.number}.kept-{self.kept}-{os.getpid()}"
            unpack(facts.pop("files"), self.box / facts["kept"])
        with contextlib.suppress(OSError), (self.box / f"{self.number}.words").open("a") as file:
            file.write(json.dumps([event, facts]) + "\n")

    def stopping(self) -> bool:
        """Return whether Slurm or the driver has asked to stop, or the driver is gone."""
        if not self.asked and time.monotonic() - self.looked > _LISTEN:
            self.looked = time.monotonic()
            try:
                word = json.loads((self.box / "word").read_text())
                self.asked = bool(word["stop"])
                if word["beat"] != self.beat:
                    self.beat, self.heard = word["beat"], self.looked
            except (OSError, ValueError):  # the file is unreadable, for a moment or for good
                self.asked = not self.box.is_dir()
            self.asked = self.asked or self.looked - self.heard > _ORPHANED
        return self.asked


def _do(order: Order, data: Path, box: Path) -> Left:
    """Carry out an order in a Slurm job, on any node."""
    line = _Line(order.number, box)
    line.tell("begun")
    rest: Dataset = pickle.loads((data / "rest.pickle").read_bytes())
    return carry_out(order, rest, np.load(data / "images.npy", mmap_mode="r"), line)

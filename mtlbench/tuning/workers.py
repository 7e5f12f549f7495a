"""Trials in several processes, and the parent that watches these processes."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mtlbench.benchmark import Benchmark
from mtlbench.errors import UserError
from mtlbench.jobs.data import prepared
from mtlbench.jobs.driver import TRIES
from mtlbench.jobs.job import Site
from mtlbench.jobs.memory import guard_memory
from mtlbench.jobs.scratch import scratch
from mtlbench.jobs.work import FULL, INTERRUPTED, Tell, listen, pipe
from mtlbench.jobs.worker import LOOK, Worker
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method
from mtlbench.training.events import EVENTS, Event
from mtlbench.training.state import Interrupted
from mtlbench.tuning.space import space_of
from mtlbench.tuning.study import Studies, Trial
from mtlbench.tuning.trial import without_test
from mtlbench.tuning.tune import Told, Tuning, open_studies, work


class _Worker(Worker):
    """A process that works on trials."""

    def __init__(self, tuning: Tuning, order: Path, slot: int) -> None:
        errors = order.with_name(f"{slot}.err")
        super().__init__("mtlbench.tuning.workers", order, errors, slot, tuning.threads, tuning.site.device)
        self.trial: tuple[str, int] | None = None  # the trial that it works on
        self.reason = ""  # why nothing can continue


def work_in_processes(tuning: Tuning, studies: Studies, told: Told, stop: Callable[[], bool]) -> None:
    """Do the work of `work` in `tuning.jobs` processes; a trial whose process dies is continued by another one.

    It fails if that happens `TRIES` times; the others continue.

    Raises:
        Interrupted, UserError: see `work`; raised after every process has saved its state.
    """
    with scratch(Path(tempfile.gettempdir()), "mtlbench-tune-") as folder:
        order = folder / "order.json"
        order.write_text(json.dumps(_order(tuning)))
        _Parent(tuning, studies, told, stop, order).run()


class _Parent:
    """Starts processes, reads their messages, and handles the trials of processes that died."""

    def __init__(self, tuning: Tuning, studies: Studies, told: Told, stop: Callable[[], bool], order: Path) -> None:
        self.tuning, self.studies, self.told, self.stop, self.order = tuning, studies, told, stop, order
        self.events: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
        self.under_way: list[_Worker] = []
        self.deaths = Counter[tuple[str, int]]()  # by trial
        self.reason = ""

    def run(self) -> None:
        stopped = False
        try:
            for slot in range(self.tuning.jobs):
                self._begin(slot)
            while self.under_way:
                if self.stop() or self.reason:
                    stopped = True
                    for worker in self.under_way:
                        worker.stop()
                with contextlib.suppress(queue.Empty):
                    worker, event = self.events.get(timeout=LOOK)
                    if event is not None:
                        self._heard(worker, event)
                    elif self._ended(worker) and not stopped:
                        self._begin(worker.slot)
        finally:
            for worker in self.under_way:  # only after an exception, such as a second Ctrl-C
                worker.kill()
        if self.reason:
            raise UserError(self.reason)
        if stopped:
            raise Interrupted

    def _begin(self, slot: int) -> None:
        worker = _Worker(self.tuning, self.order, slot)
        self.under_way.append(worker)
        worker.report_to(self.events)

    def _heard(self, worker: _Worker, event: dict[str, Any]) -> None:
        match event["event"]:
            case "begun":
                worker.trial = (event["method"], event["number"])
                self.told.begun(*worker.trial)
            case "happened":
                self.told.happened(event["method"], event["number"], EVENTS[event["kind"]](**event["facts"]))
            case "rests":
                self.deaths.pop((event["method"], event["number"]), None)
                worker.trial = None
                self.told.rests(event["method"], event["number"], event["step"])
            case "ended":
                worker.trial = None
                self.told.ended(Trial(**event["trial"]))
            case "full":
                worker.reason = event["reason"]

    def _ended(self, worker: _Worker) -> bool:
        """Handle the end of a process; return whether another one must replace it."""
        self.under_way.remove(worker)
        code = worker.close()
        if code == FULL:
            self.reason = self.reason or worker.reason
        if code in (0, INTERRUPTED, FULL):
            return False
        reason = worker.why_it_died()
        if worker.trial is None:  # a new process would die the same way
            self.reason = self.reason or f"A process of {self.tuning.folder} can't work: {reason}."
            return False
        method, number = worker.trial
        self.deaths[worker.trial] += 1
        if self.deaths[worker.trial] < TRIES:
            return True
        reason = f"its task died {TRIES} times: {reason}"
        if self.studies.fail(method, number, reason):
            self.told.ended(self.studies.trials(method)[number])
        return True


def _order(tuning: Tuning) -> dict[str, Any]:
    return {
        "methods": tuning.names,
        "benchmark": tuning.benchmark.model_dump(mode="json"),
        "precision": tuning.precision,
        "seeds": list(tuning.seeds),
        "trials": tuning.trials,
        "site": tuning.site.to_json(),
        "folder": str(tuning.folder.resolve()),
        "threads": tuning.threads,
        "jobs": tuning.jobs,
        "halving": tuning.halving,
    }


class _Teller(Told):
    """Reports events as lines of JSON."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell

    def begun(self, method: str, number: int) -> None:
        """Report that a trial begins."""
        self.tell("begun", method=method, number=number)

    def happened(self, method: str, number: int, event: Event) -> None:
        """Report an event of its training."""
        self.tell("happened", method=method, number=number, kind=type(event).__name__, facts=asdict(event))

    def rests(self, method: str, number: int, step: int) -> None:
        """Report that it waits at a rung."""
        self.tell("rests", method=method, number=number, step=step)

    def ended(self, trial: Trial) -> None:
        """Report its outcome."""
        self.tell("ended", trial=asdict(trial))


def main(path: Path) -> int:
    """Work on the trials that a file names and return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes; the parent decides what to do
    tell, asked = pipe(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    threading.Thread(target=listen, args=(asked,), daemon=True).start()
    order: dict[str, Any] = json.loads(path.read_text())
    try:
        site = Site.from_json(order["site"])
        load_plugins(site.plugins)
        torch.set_num_threads(order["threads"])
        benchmark = Benchmark.model_validate(order["benchmark"])
        methods = [parse_method(name) for name in order["methods"]]
        data, _ = prepared(benchmark, site.data_dir, site.tasks, torch.device(site.device))
        guard_memory(order["jobs"])
        tuning = Tuning(
            methods, {m.name: space_of(m, benchmark) for m in methods}, benchmark, order["precision"], order["seeds"],
            order["trials"], site, Path(order["folder"]), without_test(data), order["threads"], order["jobs"],
            order["halving"],
        )  # fmt: skip
        work(tuning, open_studies(tuning, overwrite=False), _Teller(tell), asked.is_set)
    except Interrupted:
        return INTERRUPTED
    except UserError as error:  # the disk is full, or data or sources have changed: any other process would fail too
        tell("full", reason=str(error))
        return FULL
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    sys.exit(main(Path(sys.argv[1])))

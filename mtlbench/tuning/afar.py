"""Trials on other machines.

The driver keeps the journal and claims trials; nodes train them, one seed at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from mtlbench.benchmark import Benchmark
from mtlbench.errors import FAULTS
from mtlbench.jobs.attempt import computing_with
from mtlbench.jobs.driver import Driver, Task
from mtlbench.jobs.failure import reason_of
from mtlbench.jobs.nodes import Errand, Left, Nodes
from mtlbench.jobs.parcel import packed, unpack
from mtlbench.jobs.sweep import Remote
from mtlbench.runs.disk import DiskFull, is_full, stopped_by
from mtlbench.runs.record import partial_folder
from mtlbench.specs import parse_method
from mtlbench.training.events import EVENTS, CheckpointSaved, Event
from mtlbench.training.state import Interrupted
from mtlbench.tuning.study import Claim, Studies
from mtlbench.tuning.trial import check_device, clear_away, seed_folder, train_seed
from mtlbench.tuning.tune import Told, Tuning, work
from mtlbench.tuning.workers import work_in_processes

_LOOK = 1.0  # seconds between looks for a trial to begin, while nothing ends here


def do_trials(tuning: Tuning, studies: Studies, told: Told, stop: Callable[[], bool]) -> None:
    """Do the work of `work` with the executor: in this process, in several, or on other machines.

    On other machines, the journal stays with this process, and no shared disk is needed.

    Raises:
        Interrupted, UserError: see `work`.
    """
    if isinstance(tuning.executor, Remote):
        with tuning.executor.nodes(tuning.folder.parents[1]) as nodes:
            _Trials(nodes, tuning, studies, told, stop).drive()
    elif tuning.jobs > 1:
        work_in_processes(tuning, studies, told, stop)
    else:
        work(tuning, studies, told, stop)


class _Trials(Driver[Claim]):
    """All trials of a command."""

    def __init__(self, nodes: Nodes, tuning: Tuning, studies: Studies, told: Told, stop: Callable[[], bool]) -> None:
        super().__init__(nodes, stop)
        self.tuning, self.studies, self.told = tuning, studies, told
        self.spaces = [(name, tuning.spaces[name].known(), tuning.spaces[name].where) for name in tuning.names]
        self.look_at = 0.0
        self.waiting = False

    def left(self) -> bool:
        return not self.studies.finished(self.tuning.names, self.tuning.trials)

    def start(self) -> None:
        """Claim trials and hand them out; skip those that other processes work on."""
        if time.monotonic() < self.look_at:
            return
        while len(self.under_way) < self.nodes.room():
            lock = ExitStack()
            claim = lock.enter_context(self.studies.claimed(self.spaces, self.tuning.trials))
            for trial in self.studies.taken_note():
                self.told.ended(trial)
            if claim is None:
                lock.close()
                self.look_at = time.monotonic() + _LOOK
                if not self.under_way and not self.waiting and self.left():
                    self.waiting = True
                    self.told.waiting()
                return
            self.waiting = False
            with lock:
                check_device(claim, self.tuning.seeds, self.tuning.dataset.device.type)
                lock = lock.pop_all()
            self.told.begun(claim.method, claim.number)
            task = Task(claim, lock)
            if not self._send(task):
                lock.close()

    def _send(self, task: Task[Claim]) -> bool:
        """Hand out a trial's next seed; if there is none, end the trial and return False."""
        claim, tuning = task.what, self.tuning
        done = claim.seeds()
        seed = next((seed for seed in tuning.seeds if str(seed) not in done), None)
        if seed is None:
            claim.done()
            self._told_of(claim)
            return False
        facts = {
            "method": claim.method,
            "values": claim.values,
            "seed": seed,
            "until": claim.until,
            "benchmark": tuning.benchmark.model_dump(mode="json"),
            "precision": tuning.precision,
            "threads": tuning.threads,
            "partial": packed(partial_folder(seed_folder(claim, seed))),
        }
        task.tries += 1
        number = self.nodes.send(train_seed_on_node, facts, tuning.dataset, tuning.site)
        self.under_way[number] = task
        return True

    def _told_of(self, claim: Claim) -> None:
        """Report that a trial has ended or waits at its rung."""
        self.look_at = 0.0
        trial = self.studies.trials(claim.method)[claim.number]
        if trial.state == "begun":
            self.told.rests(claim.method, claim.number, claim.until or 0)
            return
        clear_away(claim, self.tuning.seeds)
        self.told.ended(trial)

    def heard(self, what: Claim, event: str, facts: dict[str, Any]) -> None:
        if event == "kept":
            self._keep(what, facts["seed"], facts["files"])
        elif event == "happened":
            self.told.happened(what.method, what.number, EVENTS[facts["kind"]](**facts["facts"]))

    def _keep(self, claim: Claim, seed: int, files: dict[str, bytes]) -> None:
        unpack(files, partial_folder(seed_folder(claim, seed)))

    def keep(self, what: Claim, left: Left) -> None:
        if left.get("partial"):
            self._keep(what, left["seed"], left["partial"])

    def settle(self, task: Task[Claim], left: Left) -> bool:
        claim = task.what
        if left["how"] == "failed":
            claim.fail(left["reason"])
            self._told_of(claim)
            return False
        claim.note(left["seed"], left["outcome"])
        task.tries = 0
        return self._send(task)

    def again(self, task: Task[Claim], died: bool) -> bool:
        return self._send(task)

    def died(self, task: Task[Claim], reason: str) -> None:
        task.what.fail(reason)
        self._told_of(task.what)


def train_seed_on_node(errand: Errand) -> Left:
    """Train a trial with one seed on a node, and continue from the kept state if there is any."""
    facts, line = errand.facts, errand.line
    seed, folder = facts["seed"], errand.folder / "trial" / f"seed-{facts['seed']}"
    partial = partial_folder(folder)

    def listen(event: Event) -> None:
        line.tell("happened", kind=type(event).__name__, facts=asdict(event))
        if isinstance(event, CheckpointSaved):
            line.tell("kept", seed=seed, files=packed(partial))

    if facts["partial"]:
        unpack(facts["partial"], partial)
    try:
        with computing_with(facts["threads"]):
            outcome = train_seed(
                folder, facts["until"], parse_method(facts["method"]), facts["values"],
                Benchmark.model_validate(facts["benchmark"]), errand.dataset, seed, facts["precision"], listen,
                line.stopping,
            )  # fmt: skip
    except Interrupted:
        return {"how": "interrupted", "seed": seed, "partial": packed(partial)}
    except DiskFull:
        raise
    except FAULTS as error:  # a recipe may break a method in any way: the reason becomes the trial's outcome
        if is_full(error):
            raise stopped_by(error, folder) from error
        return {"how": "failed", "reason": reason_of(error)}
    return {"how": "done", "seed": seed, "outcome": outcome, "partial": packed(partial)}

"""Methods that fail or collapse, costs and memory that can't be had: the reason is told and the rest goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import TASKS, make_dataset, protocol
from support_jobs import do, jobs_for, states
from torch import Tensor, nn

from mtlbench import Architecture, cost, register_architecture
from mtlbench.backbones import BackboneFactory
from mtlbench.jobs.execute import add_costs
from mtlbench.jobs.job import Watcher
from mtlbench.jobs.plan import seconds_needed
from mtlbench.runs import partial_folder, read_record
from mtlbench.runs.tried import read_tried


class Broken(Architecture):
    """Trains for two steps and then fails as `how` says."""

    how = "bug"

    def __init__(self, backbones: BackboneFactory, tasks: tuple[str, ...]) -> None:
        super().__init__(backbones, tasks)
        self.net = backbones.backbone()
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 2 and self.training:
            if self.how == "bug":
                raise ZeroDivisionError("half a\nsentence")
            if self.how == "memory":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
            return self.net(images.flatten(0, 1)).unflatten(0, images.shape[:2]) * float("nan")
        embeddings: Tensor = self.net(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        return embeddings


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("bug", r"ZeroDivisionError: half a \(architecture 'broken', test_failures.py:\d+\)"),
        ("memory", "out of memory"),
        ("nan", "the loss of colour became nan at step 3"),
    ],
)
def test_a_method_that_fails_leaves_its_reason_and_is_tried_again(tmp_path, monkeypatch, how, reason):
    monkeypatch.setattr(Broken, "how", how)
    register_architecture("broken")(Broken)
    jobs = jobs_for(tmp_path, "broken,shared")
    records = [do(job) for job in jobs]
    assert [r.status for r in records] == ["failed", "done"]
    import re

    assert re.fullmatch(reason, records[0].reason)
    assert "Traceback" in records[0].receipt["traceback"]
    assert records[0].metrics == {}
    assert states(jobs_for(tmp_path, "broken,shared")) == ["failed", "done"]


def test_a_constant_network_is_reported_as_collapsed(tmp_path):

    @register_architecture("constant")
    class Constant(Architecture):
        """The same embedding for every image."""

        def __init__(self, backbones: BackboneFactory, tasks: tuple[str, ...]) -> None:
            super().__init__(backbones, tasks)
            self.point = nn.Parameter(torch.ones(backbones.embedding_size))

        def forward(self, images: Tensor) -> Tensor:
            return self.point.expand(*images.shape[:2], -1)

    (job,) = jobs_for(tmp_path, "constant", benchmark=protocol("train.sampling='per-task'"))
    record = do(job, benchmark=protocol("train.sampling='per-task'"))
    assert (record.reason, record.collapsed) == ("", list(TASKS))
    for metrics in record.metrics.values():
        assert metrics["triplet"] == 0
        assert metrics["map@r"] <= 0.5


def test_every_run_that_begins_is_noted_also_one_that_fails(tmp_path, monkeypatch):
    (job,) = jobs_for(tmp_path)
    do(job)
    with monkeypatch.context() as patch:
        patch.setattr("mtlbench.jobs.execute.Trainer", lambda *rest: 1 / 0)
        (failing,) = jobs_for(tmp_path, "modulation")
        assert do(failing).status == "failed"
    assert [(t.dataset, t.setup) for t in read_tried(tmp_path)] == [("made up", job.setup), ("made up", failing.setup)]


def test_costs_that_were_due_are_not_those_of_a_network_as_it_starts(tmp_path):
    (job,) = jobs_for(tmp_path)
    do(job, costs=False)
    (job.folder / "weights.safetensors").unlink()
    add_costs(job, protocol(), make_dataset(), "fp32", Watcher())
    record = read_record(job.folder)
    assert record.costs == {}
    assert record.reason.startswith("cost not measured: ")


def test_what_was_trained_stands_when_its_cost_cant_be_measured(tmp_path, monkeypatch):
    def refuse(*rest: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("mtlbench.jobs.execute.measure", refuse)
    (job,) = jobs_for(tmp_path)
    record = do(job)
    assert (record.status, record.costs, record.reason) == ("done", {}, "cost not measured: out of memory")
    assert set(record.metrics) == set(TASKS)
    assert states(jobs_for(tmp_path)) == ["done"]


def test_a_failure_after_training_keeps_the_training(tmp_path, monkeypatch):
    def refuse(*rest: object) -> None:
        raise ValueError("no")

    (job,) = jobs_for(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("mtlbench.jobs.execute.scores_of", refuse)
        assert do(job).status == "failed"
    (again,) = jobs_for(tmp_path)
    assert (again.state, again.steps_done) == ("interrupted", 6)
    assert do(again).status == "done"
    assert not partial_folder(job.folder).exists()


def test_the_time_a_run_needs_is_estimated_and_a_broken_method_does_not_stop_the_plan(tmp_path, monkeypatch):
    (job,) = jobs_for(tmp_path)
    seconds, reason = seconds_needed(job.method, 0, protocol(), make_dataset(), "fp32")
    assert reason == ""
    # a run of no length has its costs measured too, each of the three for a second at least
    brief = protocol().model_copy(update={"train": protocol().train.model_copy(update={"steps": 1})})
    assert seconds > seconds_needed(job.method, 0, brief, make_dataset(), "fp32")[0] > 3 * cost._ENOUGH > 0
    monkeypatch.setattr("mtlbench.cost._REPEATS", 5)
    register_architecture("broken")(Broken)
    monkeypatch.setattr(Broken, "how", "bug")
    (job,) = jobs_for(tmp_path, "broken")
    seconds, reason = seconds_needed(job.method, 0, protocol(), make_dataset(), "fp32")
    assert seconds == 0
    assert reason.startswith("ZeroDivisionError")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the guard is for Linux")
def test_asking_for_more_memory_than_there_is_fails_alone_and_not_the_process():
    code = (
        "import torch; from mtlbench.jobs.failure import reason_of; from mtlbench.jobs.memory import guard_memory\n"
        "guard_memory()\n"
        "try: torch.empty(1 << 46, dtype=torch.uint8)\n"
        "except RuntimeError as error: print(reason_of(error))\n"
        "import resource; limit = resource.getrlimit(resource.RLIMIT_DATA)[0]\n"
        "print(0 < limit < 1 << 46, torch.ones(3).sum().item())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["out of memory", "True 3.0"]

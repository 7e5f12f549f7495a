"""Planning and doing runs: what is skipped, continued, redone and refused; what a record holds; how failure is told."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from report_records import record as made_up
from safetensors.torch import load_file
from support import TASKS, make_dataset, protocol
from torch import Tensor, nn

from mtlbench import Architecture, register_architecture
from mtlbench.backbones import BackboneFactory
from mtlbench.benchmark import Benchmark
from mtlbench.errors import UserError
from mtlbench.evaluation.scores import scores_of
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.jobs.execute import add_costs, execute
from mtlbench.jobs.job import Job, Watcher
from mtlbench.jobs.plan import plan, seconds_needed
from mtlbench.networks import embed_images
from mtlbench.plugins import load_plugins
from mtlbench.report.receipt import receipt_of
from mtlbench.report.suites import suites
from mtlbench.runs import Record, find_records, partial_folder, read_record, write_record
from mtlbench.runs.references import references
from mtlbench.runs.tried import read_tried
from mtlbench.specs import groups_of, parse_methods
from mtlbench.training.events import Event
from mtlbench.training.state import Interrupted

load_plugins()


def jobs_for(results: Path, methods: str = "shared", seeds: tuple[int, ...] = (0,), **more: object) -> list[Job]:
    benchmark = more.pop("benchmark", None) or protocol()
    assert isinstance(benchmark, Benchmark)
    return plan(parse_methods(methods), seeds, benchmark, make_dataset(), "fp32", results, **more)  # type: ignore[arg-type]


def do(job: Job, watcher: Watcher | None = None, **more: object) -> Record:
    benchmark = more.pop("benchmark", None) or protocol()
    return execute(job, benchmark, make_dataset(), "fp32", watcher or Watcher(), **more)  # type: ignore[arg-type]


def states(jobs: list[Job]) -> list[str]:
    return [job.state for job in jobs]


def test_a_run_leaves_a_whole_record(tmp_path):
    (job,) = jobs_for(tmp_path, "gradnorm")
    record = do(job)
    folder = tmp_path / "shoes-quick" / "gradnorm" / "seed-0"
    assert sorted(p.name for p in folder.iterdir()) == [
        "curve.csv",
        "run.json",
        "test.safetensors",
        "weights.safetensors",
    ]
    assert sorted(p.name for p in folder.parent.iterdir()) == ["seed-0"]
    assert read_record(folder) == record
    assert (record.status, record.kind, record.collapsed) == ("done", "method", [])
    assert set(record.metrics) == set(TASKS)
    for metrics in record.metrics.values():
        assert {"triplet", "hit@1", "precision@20", "map@r", "r-precision", "macro/map@r"} <= set(metrics)
    receipt = record.receipt
    assert (receipt["steps"], receipt["images_seen"], receipt["precision"]) == (6, 6 * 2 * 4 * 3, "fp32")
    assert receipt["selected_step"] in (3, 6)
    assert receipt["groups"] == groups_of(record.method)
    assert receipt["balancer_acts_on"] == 1.0  # GradNorm weighs losses
    assert {"device", "torch", "torchvision", "python", "mtlbench", "date", "training_seconds", "data"} <= set(receipt)
    with (folder / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert all(float(row["weight_sum"]) == pytest.approx(2) for row in rows)
    assert record.costs["training_memory"] > record.costs["bytes"]
    assert all(record.costs[k] > 0 for k in ("train_rate", "embed_rate_one_task", "embed_rate_all_tasks", "file_bytes"))


def test_the_saved_network_gives_the_recorded_numbers(tmp_path):
    (job,) = jobs_for(tmp_path, "modulation")
    record = do(job)
    weights = load_file(job.folder / "weights.safetensors")
    assert record.costs["file_bytes"] == (job.folder / "weights.safetensors").stat().st_size
    benchmark, dataset = protocol(), make_dataset()
    net, _ = job.method.build(BackboneFactory("small", (24, 24), 8, seed=7), dataset.tasks)
    assert net.load_state_dict(weights, strict=False).unexpected_keys == []
    questions = HeldOutTriplets.draw(dataset, benchmark, "test")
    embeddings = embed_images(net, dataset, questions.images, "fp32")
    metrics, hits, _ = scores_of(embeddings, questions, benchmark, dataset)
    test = load_file(job.folder / "test.safetensors")
    assert torch.equal(test["hits"].bool(), hits)
    torch.testing.assert_close(test["embeddings"].float(), embeddings, rtol=1e-2, atol=1e-2)
    assert torch.equal(test["labels"], dataset.labels[:, questions.images])
    for task in TASKS:
        assert metrics[task] == pytest.approx(record.metrics[task], nan_ok=True)
    assert metrics["shape"]["triplet"] == pytest.approx(hits[1].float().mean().item())


def test_done_runs_are_skipped_redone_and_refused_under_other_settings(tmp_path):
    (job,) = jobs_for(tmp_path, "modulation[after=3:4]")
    assert job.state == "new"
    do(job)
    assert states(jobs_for(tmp_path, "modulation[after=3:4]")) == ["done"]
    assert states(jobs_for(tmp_path, "modulation[after=3:4]", overwrite=True)) == ["new"]
    assert states(jobs_for(tmp_path, "modulation[after=3:4],shared", (0, 1))) == ["done", "new", "new", "new"]
    with pytest.raises(UserError, match=r"benchmark.train.steps: 6 there, 9 now.*--results.*--overwrite"):
        jobs_for(tmp_path, "modulation[after=3:4]", benchmark=protocol("train.steps=9"))


def test_an_interrupted_run_is_continued_to_the_same_result(tmp_path):
    (whole,) = jobs_for(tmp_path / "a", "cross-stitch")
    expected = do(whole)
    (job,) = jobs_for(tmp_path / "b", "cross-stitch")
    asked: Iterator[bool] = iter([False, False, False, True, True, True])
    with pytest.raises(Interrupted):
        do(job, stop=lambda: next(asked))
    assert not job.folder.exists()
    assert partial_folder(job.folder).exists()
    assert find_records(tmp_path / "b") == []
    (again,) = jobs_for(tmp_path / "b", "cross-stitch")
    assert again.state == "interrupted"
    assert 0 < again.steps_done < 6
    seen: list[int] = []

    class Seen(Watcher):
        def happened(self, job: Job, event: Event) -> None:
            seen.append(event.step)

    record = do(again, Seen())
    assert seen[0] == again.steps_done
    assert record.metrics == expected.metrics
    one, two = (load_file(j.folder / "weights.safetensors") for j in (whole, again))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not partial_folder(job.folder).exists()


def test_an_interrupted_run_of_other_settings_starts_anew(tmp_path):
    (job,) = jobs_for(tmp_path)
    with pytest.raises(Interrupted):
        do(job, stop=lambda: True)
    assert states(jobs_for(tmp_path, benchmark=protocol("train.lr=0.1"))) == ["new"]
    assert states(jobs_for(tmp_path)) == ["interrupted"]


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
        ("bug", r"ZeroDivisionError: half a \(architecture 'broken', test_jobs.py:\d+\)"),
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


def test_a_checkpoint_for_each_task_is_kept_through_a_kill_and_said_in_the_record(tmp_path, monkeypatch):
    """Planted: shape is at its best before the run is killed, colour after it went on."""
    benchmark = protocol("train.sampling=per-task", "evaluation.select=per-task")
    answers = torch.tensor([[[1, 1, 0, 0], [1, 1, 0, 0]], [[1, 1, 1, 1], [1, 0, 0, 0]]], dtype=torch.bool)
    given: Iterator[Tensor] = iter([answers[0], answers[1], answers[0], answers[1]])
    judge = HeldOutTriplets.hits
    monkeypatch.setattr(
        HeldOutTriplets,
        "hits",
        lambda self, embeddings, normalise: (
            next(given) if len(self.images) == 18 else judge(self, embeddings, normalise)
        ),
    )
    monkeypatch.setattr("mtlbench.jobs.execute.scores_of", lambda *rest: ({t: {} for t in TASKS}, answers[0], {}))
    (whole,) = jobs_for(tmp_path / "a", "independent", benchmark=benchmark)
    expected = do(whole, benchmark=benchmark)
    (job,) = jobs_for(tmp_path / "b", "independent", benchmark=benchmark)
    asked: Iterator[bool] = iter([False, False, False, True])
    with pytest.raises(Interrupted):
        do(job, benchmark=benchmark, stop=lambda: next(asked))
    (again,) = jobs_for(tmp_path / "b", "independent", benchmark=benchmark)
    assert (again.state, again.steps_done) == ("interrupted", 4)
    record = do(again, benchmark=benchmark)
    for made in (expected, record):
        assert made.receipt["selected_steps"] == {"colour": 6, "shape": 3}
        assert made.receipt["selection"].startswith("each task's highest triplet accuracy")
        assert made.receipt["validation_accuracy"] == 0.75
        assert made.receipt["normalised"] == [12]
    one, two = (load_file(j.folder / "weights.safetensors") for j in (whole, again))
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_costs_are_measured_on_the_chosen_checkpoint_at_once_and_when_they_were_due(tmp_path, monkeypatch):
    given: list[dict[str, Tensor]] = []

    def note(*rest: object) -> dict[str, float]:
        given.append(rest[4])
        return {"parameters": 1.0}

    monkeypatch.setattr("mtlbench.jobs.execute.measure", note)
    (job,) = jobs_for(tmp_path)
    do(job)
    (later,) = jobs_for(tmp_path / "later")
    do(later, costs=False)
    add_costs(later, protocol(), make_dataset(), "fp32", Watcher())
    kept = load_file(job.folder / "weights.safetensors")
    for weights in given:
        assert weights.keys() == kept.keys()
        assert all(torch.equal(weights[name], kept[name]) for name in kept)
    assert len(given) == 2


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


def test_an_edited_method_is_another_method(tmp_path, monkeypatch):
    (job,) = jobs_for(tmp_path)
    do(job)
    monkeypatch.setattr(
        "mtlbench.runs.provenance.sources_of", lambda method: {"architecture": "edited", "balancer": ""}
    )
    with pytest.raises(UserError, match=r"code.architecture: \w+ there, edited now"):
        jobs_for(tmp_path)


def test_wording_and_spelling_of_settings_decide_nothing(tmp_path):
    (job,) = jobs_for(tmp_path)
    do(job)
    reworded = protocol(
        "title='New words'", "train.precision='auto'", "data.fallback_tasks=['x']", "train.protocols_tried=7"
    )
    assert states(jobs_for(tmp_path, benchmark=reworded)) == ["done"]


def test_a_damaged_or_foreign_interrupted_run_starts_anew(tmp_path):
    (job,) = jobs_for(tmp_path)
    with pytest.raises(Interrupted):
        do(job, stop=lambda: True)
    facts = partial_folder(job.folder) / "state.json"
    words = facts.read_text()
    facts.write_text(words.replace('"device": "cpu"', '"device": "cuda"'))
    assert states(jobs_for(tmp_path)) == ["new"]
    facts.write_text("{")
    assert states(jobs_for(tmp_path)) == ["new"]
    facts.write_text(words)
    (tensors,) = partial_folder(job.folder).glob("*.safetensors")
    tensors.write_bytes(b"nonsense")
    (again,) = jobs_for(tmp_path)
    assert do(again).status == "done"


def test_reference_rows_stand_near_chance(tmp_path):
    benchmark, dataset = protocol("evaluation.triplets=2000"), make_dataset()
    references([0, 1], benchmark, dataset, "fp32", tmp_path)
    records = find_records(tmp_path)
    assert [(r.method, r.seed, r.kind) for r in records] == [
        ("chance", 0, "reference"), ("chance", 1, "reference"),
        ("untrained", 0, "reference"), ("untrained", 1, "reference"),
    ]  # fmt: skip
    for record in records[:2]:
        assert record.metrics["colour"]["triplet"] == pytest.approx(0.5, abs=0.1)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("run.json")}
    longer = protocol("evaluation.triplets=2000", "train.steps=9")
    references([0, 1], longer, dataset, "fp32", tmp_path)
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("run.json")}


def test_reference_rows_of_another_network_are_not_replaced_unasked(tmp_path):
    references([0], protocol(), make_dataset(), "fp32", tmp_path)
    with pytest.raises(UserError, match=r"model.embedding: 8 there, 16 now"):
        jobs_for(tmp_path, benchmark=protocol("model.embedding=16"))


def test_reference_rows_of_a_backbone_that_was_edited_are_not_taken_for_those_of_today(tmp_path):
    file = tmp_path / "my_net.py"
    file.write_text(
        "from torch import nn\nfrom mtlbench import BackboneKind, register_backbone\n\n@register_backbone('my-net')\n"
        "class MyNet(BackboneKind):\n    def stages(self, pretrained):\n"
        "        return nn.ModuleList([nn.Conv2d(3, 4, 3)])\n"
    )
    assert load_plugins([file]) == []
    benchmark = protocol("model.backbone=my-net")
    references([0], benchmark, make_dataset(), "fp32", tmp_path / "results")
    assert states(jobs_for(tmp_path / "results", benchmark=benchmark)) == ["new"]
    with file.open("a") as more:
        more.write("# edited\n")
    with pytest.raises(UserError, match=r"untrained.* was made with other settings \(code.backbone my-net: \w+ there"):
        jobs_for(tmp_path / "results", benchmark=benchmark)


def test_the_receipt_names_the_packages_that_a_run_needed(tmp_path):
    benchmark = protocol("loss.name='pml:SupConLoss'")
    (job,) = jobs_for(tmp_path, "shared+pcgrad", benchmark=benchmark)
    record = do(job, benchmark=benchmark)
    assert record.status == "done", record.reason
    wanted = {name: version(name) for name in ("pytorch-metric-learning", "torchjd")}
    assert record.receipt["packages"] == wanted
    assert read_record(job.folder).receipt["packages"] == wanted
    shown = " ".join(map(str, receipt_of(suites([record])[0], [record]).lines()))
    assert f"pytorch-metric-learning {wanted['pytorch-metric-learning']}" in shown
    (plain,) = jobs_for(tmp_path)
    assert "packages" not in do(plain).receipt


def test_a_record_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = tmp_path / "b" / "m" / "seed-0"
    record = made_up("m")
    write_record(folder, record, weights={"w": torch.ones(2)})

    def full(*rest: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        write_record(folder, made_up("m", reason="second"), weights={"w": torch.zeros(2)})
    assert read_record(folder) == record
    assert [p.name for p in folder.parent.iterdir()] == ["seed-0"]
    assert load_file(folder / "weights.safetensors")["w"].tolist() == [1, 1]


def test_what_is_no_record_is_named(tmp_path):
    folder = tmp_path / "b" / "m" / "seed-0"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    with pytest.raises(UserError, match=r"run.json is no run record"):
        read_record(folder)
    (folder / "run.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(UserError, match="newer mtlbench"):
        read_record(folder)


def test_the_time_a_run_needs_is_estimated_and_a_broken_method_does_not_stop_the_plan(tmp_path, monkeypatch):
    (job,) = jobs_for(tmp_path)
    seconds, reason = seconds_needed(job, protocol(), make_dataset(), "fp32")
    assert seconds > 0
    assert reason == ""
    monkeypatch.setattr("mtlbench.cost._REPEATS", 5)
    register_architecture("broken")(Broken)
    monkeypatch.setattr(Broken, "how", "bug")
    (job,) = jobs_for(tmp_path, "broken")
    seconds, reason = seconds_needed(job, protocol(), make_dataset(), "fp32")
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

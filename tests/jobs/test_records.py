"""What a run's record holds, and that it is there whole or not at all; the reference rows."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace
from importlib.metadata import version

import pytest
import torch
from report_records import record as made_up
from safetensors.torch import load_file
from support import TASKS, make_dataset, protocol
from support_jobs import do, jobs_for, states
from torch import Tensor

from mtlbench.backbones import BackboneFactory
from mtlbench.errors import UserError
from mtlbench.evaluation.scores import scores_of
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.jobs.execute import add_costs, execute
from mtlbench.jobs.job import Watcher
from mtlbench.networks import embed_images
from mtlbench.plugins import load_plugins
from mtlbench.report.receipt import receipt_of
from mtlbench.report.suites import suites
from mtlbench.report.summary import Choice, summarise
from mtlbench.runs import find_records, read_record, write_record
from mtlbench.runs.references import references
from mtlbench.specs import groups_of


def test_a_run_whose_balancer_decided_nothing_says_so_in_its_record_and_below_the_table(tmp_path):
    (job,) = jobs_for(tmp_path, "shared+dwa[every=100]")  # the plain mean for the first 200 steps
    record = do(job)
    assert record.receipt["balancer_weights"] == {"even": 1.0, "single": 0.0, "constant": 1.0, "farthest": 0.0}
    (summary,) = summarise([record], Choice(), tmp_path)
    assert summary.notes == [f"{record.method}: weights even, the plain mean, in 100 % of steps"]


def test_a_run_whose_balancer_put_all_weight_on_one_task_says_so_in_its_record_and_below_the_table(tmp_path):
    (job,) = jobs_for(tmp_path, "shared+excess-mtl[step=1,warmup=0]")  # as the authors' code, undivided
    record = do(job)
    assert record.receipt["balancer_weights"] == {"even": 0.0, "single": 1.0, "constant": 1.0, "farthest": 1.0}
    (summary,) = summarise([record], Choice(), tmp_path)
    assert summary.notes == [f"{record.method}: all weight on one task in 100 % of steps"]


def test_a_record_says_how_much_of_a_network_has_a_learning_rate_of_its_own(tmp_path):
    (job,) = jobs_for(tmp_path, "modulation[rate=30]")
    record = do(job)
    vectors = record.costs["parameters_per_task"] * len(TASKS) / record.costs["parameters"] if record.costs else None
    assert record.receipt["own_rates"]["most"] == 30
    assert 0 < record.receipt["own_rates"]["share"] < 0.05
    assert vectors is None or record.receipt["own_rates"]["share"] == pytest.approx(vectors, abs=1e-4)
    (job,) = jobs_for(tmp_path, "shared")
    assert "own_rates" not in do(job).receipt


def test_tables_say_which_methods_were_not_checked_and_which_break_the_contract(tmp_path):
    (job,) = jobs_for(tmp_path, "shared")
    assert "checked" not in do(job).receipt
    record = do(replace(job, state="new", checked={"architecture": "unchecked"}))
    assert record.receipt["checked"] == {"architecture": "unchecked"}
    (summary,) = summarise([record], Choice(), tmp_path)
    words = "not checked against the contract (mtlbench check) when trained: shared."
    assert (words in summary.warnings, summary.notes) == (True, [])
    record.receipt["checked"] = {"architecture": "kept", "balancer": "broken"}
    (summary,) = summarise([record], Choice(), tmp_path)
    assert summary.notes == ["shared: breaks the contract, as mtlbench check found"]
    assert not any("contract" in warning for warning in summary.warnings)


def test_a_run_keeps_which_test_images_belong_together_and_tables_count_them_as_one(tmp_path):
    dataset = make_dataset()
    kin = torch.where(torch.arange(90) < 45, 10**12 + torch.arange(90) // 15, -1)  # any numbers; the rest stand alone
    query = torch.arange(90) % 2 == 0
    told = {}
    for name, data in (("alone", dataset), ("kin", replace(dataset, kin=kin, query=query, gallery=~query))):
        jobs = jobs_for(tmp_path / name, "shared,single", seeds=(0, 1))
        records = [execute(job, job.protocol, data, "fp32", Watcher()) for job in jobs]
        test = load_file(jobs[0].folder / "test.safetensors")
        (summary,) = summarise(records, Choice(), tmp_path / name)
        told[name] = summary.comparison.images
        assert ("groups" in test, "gallery" in test) == (name == "kin", name == "kin")
    assert test["gallery"].tolist() == (~query)[dataset.members("test")].int().tolist()
    groups = test["groups"]
    assert [(groups == group).sum().item() for group in groups.unique()] == [9, 3, 3, 3]  # 9 of 18 stand alone
    assert told["kin"] < told["alone"]


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
    assert receipt["weights"] == hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    assert receipt["balancer_acts_on"] == 1.0  # GradNorm weighs losses
    assert set(receipt["balancer_weights"]) == {"even", "single", "constant", "farthest"}
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


def test_reference_rows_do_not_depend_on_whether_gradients_are_probed(tmp_path):
    references([0], protocol(), make_dataset(), "fp32", tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("run.json")}
    probed = protocol("evaluation.agreement_every=2")
    assert states(jobs_for(tmp_path, benchmark=probed)) == ["new"]
    references([0], probed, make_dataset(), "fp32", tmp_path)
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
    assert states(jobs_for(tmp_path / "results", benchmark=benchmark)) == ["new"]  # what runs here is the old one
    assert load_plugins([file]) == []
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
    with pytest.raises(UserError, match=r"run.json is not a run record"):
        read_record(folder)
    (folder / "run.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(UserError, match="newer mtlbench"):
        read_record(folder)


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

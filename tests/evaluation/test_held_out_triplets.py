"""Held-out triplets: the same for every method and seed, whatever a run trains with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from support import make_dataset, protocol

from mtlbench.benchmark import Benchmark, Loss, Train
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.report.suites import suites
from mtlbench.runs import Record, in_todays_words, without_training
from mtlbench.runs.provenance import setup_of
from mtlbench.runs.references import UNTRAINED
from mtlbench.specs import Method

# another value for settings whose default tells too little: words, and those that have no default
OTHER: dict[str, Any] = {
    "train.sampling": "per-task",
    "train.anchors": "positive",
    "train.optimiser": "sgd",
    "train.schedule": "cosine",
    "train.milestones": [0.5],
    "train.precision": "bf16",
    "train.compile": "on",
    "train.optimiser_options": {"momentum": 0.5},
    "train.augment": ["flip"],
    "loss.name": "pml:ContrastiveLoss",
}


def another(key: str, value: Any) -> Any:
    """Return a valid value of a setting other than the one it has."""
    if key in OTHER:
        return OTHER[key]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 or 0.5
    raise AssertionError(f"say in OTHER what else {key} may be")


TRAINING = [f"{section}.{key}" for section, of in (("train", Train), ("loss", Loss)) for key in of.model_fields]


def changed(key: str) -> tuple[Benchmark, Benchmark]:
    """Return two benchmarks that differ in one setting alone."""
    before = protocol()
    section, name = key.split(".")
    content = before.model_dump()
    other = another(key, content[section][name])
    # a loss of another name has options of its own
    content[section] = {"name": other} if key == "loss.name" else content[section] | {name: other}
    after = Benchmark.model_validate(content)
    assert getattr(getattr(after, section), name) != getattr(getattr(before, section), name)
    return before, after


@pytest.mark.parametrize("key", TRAINING)
@pytest.mark.parametrize("split", ["val", "test"])
def test_no_setting_of_training_changes_the_held_out_triplets(key: str, split: str) -> None:
    dataset = make_dataset()
    before, after = (HeldOutTriplets.draw(dataset, benchmark, split) for benchmark in changed(key))
    assert torch.equal(before.images, after.images)
    assert torch.equal(before.triplets, after.triplets)


@pytest.mark.parametrize("key", TRAINING)
def test_no_setting_of_training_changes_what_decides_the_reference_rows(key: str) -> None:
    dataset = make_dataset()
    before, after = (without_training(setup_of(UNTRAINED, b, dataset, 0, "fp32")) for b in changed(key))
    assert before == after


def test_the_benchmark_says_which_images_anchor_held_out_triplets() -> None:
    dataset = make_dataset(("colour",))
    drawn = {}
    for anchors in ("positive", "balanced"):
        held_out = HeldOutTriplets.draw(dataset, protocol(f"evaluation.anchors={anchors}"), "test")
        drawn[anchors] = set(dataset.labels[0, held_out.images][held_out.triplets[0, :, 0]].tolist())
    assert drawn == {"positive": {1}, "balanced": {0, 1}}


def test_values_of_few_images_anchor_fewer_held_out_triplets_and_a_record_without_the_setting_means_all_alike() -> None:
    dataset = make_dataset(("colour",))
    before = protocol()
    alike, capped = (HeldOutTriplets.draw(dataset, b, "test") for b in (before, protocol("evaluation.min_images=1000")))
    labels = dataset.labels[0, alike.images]
    rarest = int(torch.bincount(labels[labels >= 0]).argmin())
    share = (labels == rarest).sum() / (labels >= 0).sum()
    found = (labels[capped.triplets[0, :, 0]] == rarest).float().mean()
    assert found.item() == pytest.approx(share.item(), abs=0.1)
    content = before.model_dump(mode="json")
    del content["evaluation"]["min_images"]
    assert in_todays_words(content)["evaluation"]["min_images"] == 0


@pytest.mark.parametrize("kind", ["values", "sets", "roles"])
def test_the_setting_of_few_images_holds_for_values_sets_and_queries(kind: str) -> None:
    dataset = replace(make_dataset(("colour",)), labels=(torch.arange(90) % 6 == 0).long()[None])
    everyone = torch.ones(90, dtype=torch.bool)
    if kind == "sets":
        dataset = replace(dataset, set_members=(torch.eye(2, dtype=torch.bool),))
    elif kind == "roles":
        dataset = replace(dataset, query=everyone, gallery=everyone)
    labels = dataset.labels[0, dataset.members("test")]
    assert labels.float().mean() < 0.2
    for least, share in ((0, 0.5), (1000, float(labels.float().mean()))):
        benchmark = protocol("evaluation.triplets=2000", f"evaluation.min_images={least}")
        anchors = HeldOutTriplets.draw(dataset, benchmark, "test").triplets[0, :, 0]
        assert float(labels[anchors].float().mean()) == pytest.approx(share, abs=0.04)


def test_a_record_of_earlier_keys_shares_a_table_with_one_of_todays() -> None:
    """Method and reference rows of mtlbench 0.1 held the distance in the loss, and one setting of anchors for both."""
    dataset, benchmark = make_dataset(), protocol("train.anchors=positive", "evaluation.anchors=positive")
    records = []
    for seed in (0, 1):
        for method, kind in ((Method("shared", "shared"), "method"), (UNTRAINED, "reference")):
            record = Record(method.name, seed, kind, setup_of(method, benchmark, dataset, seed, "fp32"))
            if seed == 0:
                content = record.setup["benchmark"]
                content["loss"] = {"margin": 0.2} | content.pop("embedding")
                del content["evaluation"]["anchors"]
            records.append(record)
    (suite,) = suites(records)
    assert {(r.method, r.seed) for r in suite.records} == {(m, s) for m in ("shared", "untrained") for s in (0, 1)}

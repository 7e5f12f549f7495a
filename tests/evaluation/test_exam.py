"""The exam is evaluation's own: no setting of training changes a test triplet; what old files said holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from support import make_dataset, protocol

from mtlbench.benchmark import Benchmark, Train
from mtlbench.errors import UserError
from mtlbench.evaluation.metrics import Ranked, measured, register_metric
from mtlbench.evaluation.retrieval import retrieval_scores
from mtlbench.evaluation.selection import criterion, described
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.plugins import load_plugins
from mtlbench.runs import decisive, without_training
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

OTHER = {
    "sampling": "'m-per-class'",
    "anchors": "positive",
    "triplets": "7",
    "joint_triplets": "9",
    "steps": "3",
    "optimiser": "sgd",
    "optimiser_options": "{nesterov=true}",
    "lr": "0.5",
    "momentum": "0.1",
    "weight_decay": "0.3",
    "schedule": "cosine",
    "milestones": "[0.5]",
    "decay": "0.7",
    "flip": "false",
    "shift": "3",
    "augment": "['flip']",
    "precision": "bf16",
    "compile": "'on'",
    "deterministic": "true",
    "protocols_tried": "4",
}


def test_every_setting_of_training_is_tried():
    assert set(OTHER) == set(Train.model_fields)


@pytest.mark.parametrize("setting", [*(f"train.{key}={value}" for key, value in OTHER.items()), "loss.margin=0.9"])
def test_no_setting_of_training_changes_the_test_triplets_or_the_reference_rows(setting):
    dataset = make_dataset()
    plain, changed = protocol(), protocol(setting)
    assert plain != changed
    for split in ("val", "test"):
        one, other = (HeldOutTriplets.draw(dataset, b, split) for b in (plain, changed))
        assert torch.equal(one.triplets, other.triplets)
    setups = [{"benchmark": b.model_dump(mode="json")} for b in (plain, changed)]
    assert without_training(setups[0]) == without_training(setups[1])


def test_anchors_of_the_exam_are_its_own():
    dataset = make_dataset()
    balanced, positive = (protocol(f"evaluation.anchors={how}") for how in ("balanced", "positive"))
    drawn = HeldOutTriplets.draw(dataset, positive, "test")
    labels = dataset.labels[:, drawn.images]
    assert (labels[0][drawn.triplets[0, :, 0]] == 1).all()
    assert not torch.equal(drawn.triplets, HeldOutTriplets.draw(dataset, balanced, "test").triplets)


def old(benchmark: Benchmark) -> dict[str, Any]:
    """A benchmark as mtlbench 0.1 wrote it into a record."""
    content = json.loads(json.dumps(benchmark.model_dump(mode="json")))
    content["loss"] = {"margin": 0.2, **content.pop("embedding")}
    for section, key in (("evaluation", "anchors"), ("evaluation", "select"), ("evaluation", "metrics")):
        del content[section][key]
    for key in ("augment", "momentum", "optimiser_options"):
        del content["train"][key]
    return content


def test_a_record_of_mtlbench_0_1_is_read_as_it_was_meant():
    today = protocol(
        "train.anchors=positive", "evaluation.anchors=positive", "embedding.distance=plain", "loss.margin=0.2"
    )
    read = Benchmark.model_validate(old(today))
    assert read.evaluation.anchors == "positive"
    assert (read.embedding.distance, read.embedding.normalise) == ("plain", True)
    assert read.loss.name == "triplet"
    assert read.loss.options == {"margin": 0.2, "soft_margin": False, "mining": "all"}


def test_a_run_of_today_and_one_of_mtlbench_0_1_are_the_same_run():
    from mtlbench.runs.provenance import setup_of

    load_plugins()
    benchmark = protocol("loss.margin=0.2")
    setup = setup_of(parse_method("shared"), benchmark, make_dataset(), 0, "fp32")
    assert decisive(setup | {"benchmark": old(benchmark)}) == decisive(setup)


def test_a_benchmark_that_says_both_is_refused_with_the_new_key():
    content = protocol().model_dump(mode="json")
    content["loss"]["normalise"] = False
    with pytest.raises(ValueError, match=r"loss\.normalise has moved: set embedding\.normalise"):
        Benchmark.model_validate(content)


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_a_metric_of_ones_own_is_measured_beside_the_others():
    @register_metric("first-hit")
    def first_hit(ranked: Ranked, *, power: float = 1.0) -> torch.Tensor:
        """One over the position of the first relevant image."""
        return (1 / (1 + ranked.hits.int().argmax(1).double())) ** power

    line = torch.tensor([[0.0], [1.0], [1.5], [4.0]])
    labels = torch.tensor([0, 1, 0, 1])
    scores = retrieval_scores(line, labels, normalise=False, ks=(1,), extra=("first-hit", "first-hit[power=2]"))
    # neighbours by distance: 0: 1 2 3; 1: 2 0 3; 2: 1 0 3; 3: 2 1 0
    assert scores["first-hit"].tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 2, 1 / 2])
    assert scores["first-hit[power=2]"].tolist() == pytest.approx([1 / 4, 1 / 9, 1 / 4, 1 / 4])
    assert scores["hit@1"].tolist() == [0, 0, 0, 0]


def test_recall_is_the_share_of_the_relevant_images_that_are_found():
    line = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
    scores = retrieval_scores(
        line, torch.tensor([0, 0, 0, 1]), normalise=False, ks=(1,), extra=("recall@1", "recall@2")
    )
    assert scores["recall@1"][:3].tolist() == [0.5, 0.5, 0.5]
    assert scores["recall@2"][:3].tolist() == [1, 1, 1]
    assert scores["recall@1"][3].isnan()  # no relevant image, no score


def test_a_metric_for_ordered_labels_is_left_out_elsewhere():
    assert "ndcg" in measured((1,), (), ordered=True)
    assert "ndcg" not in measured((1,), (), ordered=False)


def test_an_unknown_metric_is_told_with_the_nearest():
    with pytest.raises(UserError, match=r"Unknown metric 'recal'. Did you mean: recall\?"):
        measured((1,), ("recal@5",), ordered=False)


# --- selection --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("select", "value", "said"),
    [
        ("mean", 0.7, "mean triplet accuracy"),
        ("worst", 0.6, "triplet accuracy of the worst task"),
    ],
)
def test_a_checkpoint_is_chosen_by_what_the_benchmark_says(select, value, said):
    dataset, benchmark = make_dataset(), protocol(f"evaluation.select={select}")
    held_out = HeldOutTriplets.draw(dataset, benchmark, "val")
    found = criterion([0.6, 0.8], torch.zeros(2, 18, 8), held_out, benchmark, dataset)
    assert found == pytest.approx(value)
    assert described(benchmark) == f"highest {said} on the validation split"


def test_a_retrieval_metric_chooses_the_checkpoint_of_its_own_best():
    load_plugins()
    trainer = Trainer(parse_method("shared"), protocol("evaluation.select=map@r"), make_dataset(), 0, "fp32")
    trainer.run()
    from mtlbench.evaluation.scores import scores_of
    from mtlbench.networks import embed_images

    embeddings = embed_images(trainer.architecture, trainer.dataset, trainer.triplets.images, "fp32")
    metrics = scores_of(embeddings, trainer.triplets, trainer.benchmark, trainer.dataset).metrics
    assert trainer.state.best_score == pytest.approx(sum(m["map@r"] for m in metrics.values()) / 2)

"""Metrics: a registered function of ranked neighbours is a metric, by its name with its options."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import leave_run, make_dataset, protocol
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.evaluation.metrics import Depth, Ranked, measured, register_metric
from mtlbench.evaluation.retrieval import means_of, retrieval_metrics, retrieval_scores
from mtlbench.plugins import load_plugins
from mtlbench.runs import read_record
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

LABELS = torch.tensor([0, 0, 0, 1, 1, -1, 2])
LINE = torch.tensor([0.0, 1.0, 5.0, 1.4, 6.0, 1.1, 50.0])[:, None]


@pytest.fixture(autouse=True)
def _registered() -> None:
    """Three metrics of a plug-in."""

    @register_metric("found")
    def found(ranked: Ranked, *, k: Depth = 1) -> Tensor:
        return ranked.hits[:, :k].sum(dim=1).double() / ranked.relevant

    @register_metric("far-gain", ordered=True)
    def far_gain(ranked: Ranked, *, power: float = 1.0) -> Tensor:
        return (ranked.gains.double() / ranked.best).pow(power).mean(dim=1)

    @register_metric("of-pairs")
    def of_pairs(ranked: Ranked) -> Tensor:
        return torch.where(ranked.relevant == 2, ranked.hits[:, :1].sum(dim=1) / 2, torch.nan)


def test_a_registered_function_is_a_metric_by_its_name() -> None:
    metrics = retrieval_metrics(LINE, LABELS, normalise=False, extra=["found@1"])
    # galleries by distance: 0 sees 1, 3, 2 …; 1 sees 3, 0 …; 2 sees 4 …; 3 sees 1 …; 4 sees 2 …
    assert metrics["found@1"] == pytest.approx((1 / 2 + 0 + 0 + 0 + 0) / 5)
    assert metrics["macro/found@1"] == pytest.approx(((1 / 2) / 3 + 0) / 2)


def test_scores_that_are_nan_enter_no_mean() -> None:
    metrics = retrieval_metrics(LINE, LABELS, normalise=False, extra=["of-pairs"])
    assert metrics["of-pairs"] == metrics["macro/of-pairs"] == pytest.approx((1 / 2 + 0 + 0) / 3)


@pytest.mark.parametrize("ordered_values", [None, 3])
def test_extra_metrics_leave_the_standard_ones_as_they_are_to_the_last_bit(ordered_values: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings, labels = torch.randn(101, 5, generator=generator), torch.randint(-1, 3, (101,), generator=generator)
    alone = retrieval_metrics(embeddings, labels, normalise=True, ordered_values=ordered_values, max_bytes=10_000)
    beside = retrieval_metrics(
        embeddings, labels, normalise=True, ordered_values=ordered_values, extra=["found@3", "hit@2"], max_bytes=10_000
    )
    assert {name: beside[name] for name in alone} == alone
    assert set(beside) - set(alone) == {"found@3", "hit@2", "macro/found@3", "macro/hit@2"}


def test_what_a_metric_writes_into_the_ranking_reaches_no_other_metric() -> None:
    @register_metric("writes", ordered=True)
    def writes(ranked: Ranked) -> Tensor:
        for tensor in (ranked.gains, ranked.relevant, ranked.ideal, ranked.discount, ranked.hits, ranked.hits_within_r):
            assert tensor is not None
            tensor.fill_(1)
        return ranked.hits.double().mean(dim=1)

    generator = torch.Generator().manual_seed(0)
    embeddings, labels = torch.randn(101, 5, generator=generator), torch.randint(3, (101,), generator=generator)
    after = ["map", "recall", "far-gain"]
    alone, beside = (
        retrieval_metrics(embeddings, labels, normalise=True, ordered_values=3, extra=extra)
        for extra in (after, ["writes", *after])
    )
    assert {name: beside[name] for name in alone} == alone


@pytest.mark.parametrize("name", ["to-k@2", "to-r"])
def test_what_a_metric_sees_does_not_depend_on_the_others(name: str) -> None:
    """It declares its depth; whether more is ranked for others, or other queries are scored with it, is no matter."""

    @register_metric("to-k", depth="k")
    def to_k(ranked: Ranked, *, k: Depth = 1) -> Tensor:
        return ranked.hits.sum(dim=1).double() + ranked.discount.sum()

    @register_metric("to-r", depth="R")
    def to_r(ranked: Ranked) -> Tensor:
        return ranked.hits.sum(dim=1).double()

    generator = torch.Generator().manual_seed(0)
    embeddings, labels = torch.randn(101, 5, generator=generator), torch.arange(101) // 3 % 20
    labels[-1] = 20  # alone of its value
    alone, beside, in_chunks = (
        retrieval_scores(embeddings, labels, normalise=True, extra=[name, *others], max_bytes=most)[name]
        for others, most in (([], None), (["map"], None), ([], 10_000))
    )
    assert torch.equal(alone.nan_to_num(), beside.nan_to_num())
    assert torch.equal(alone.nan_to_num(), in_chunks.nan_to_num())
    most = 2 + (1 + torch.tensor([1.0, 2.0]).double()).log2().reciprocal().sum() if name == "to-k@2" else 6
    assert alone.nan_to_num().max() <= most


def test_metrics_for_ordered_labels_are_those_of_ordered_tasks_alone() -> None:
    for values, there in ((None, False), (3, True)):
        metrics = retrieval_metrics(LINE, LABELS, normalise=False, ordered_values=values, extra=["far-gain[power=2]"])
        assert ("far-gain[power=2]" in metrics) is there


def test_a_metric_is_written_with_its_depth_or_its_options() -> None:
    names = ["hit@1", "hit@5", "precision@1", "precision@5", "map@r", "r-precision"]
    assert list(measured((1, 5), [], ordered=False)) == names
    assert list(measured((1, 5), ["hit@1", "found@2", "far-gain"], ordered=False)) == [*names, "found@2"]
    assert list(measured((1, 5), ["far-gain"], ordered=True)) == [*names, "ndcg", "far-gain"]
    by_depth, by_option = (
        retrieval_metrics(LINE, LABELS, normalise=False, extra=[name]) for name in ("found@2", "found[k=2]")
    )
    assert by_depth["found@2"] == by_option["found[k=2]"] > 0


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("foun@5", "Unknown metric 'foun'. Did you mean: found"),
        ("found@0", "greater than 0"),
        ("found[depth=3]", "no option 'depth'"),
        ("ndcg@5", "no option 'k'"),
    ],
)
def test_a_metric_that_is_not_there_is_refused_before_training_with_the_nearest(spec: str, said: str) -> None:
    load_plugins()
    benchmark = protocol(f"evaluation.metrics=['{spec}']")
    with pytest.raises(UserError) as caught:
        Trainer(parse_method("shared"), benchmark, make_dataset(), 0, "fp32")
    assert said in str(caught.value)


def test_a_metric_of_another_shape_is_a_fault_that_names_it() -> None:
    @register_metric("wrong")
    def wrong(ranked: Ranked) -> Tensor:
        return ranked.hits.double()

    with pytest.raises(UserError, match=r"The metric 'wrong' \(test_metrics.py:\d+\) must return .* \(\d+,\), a score"):
        retrieval_metrics(LINE, LABELS, normalise=False, extra=["wrong"])


def test_scores_of_queries_are_in_the_order_of_the_images_and_their_means_are_the_metrics() -> None:
    scores = retrieval_scores(LINE, LABELS, normalise=False, extra=["found@1"])
    assert scores["found@1"][:5].tolist() == [0.5, 0, 0, 0, 0]
    assert scores["found@1"][5:].isnan().all()  # unlabelled, and without a relevant image
    metrics = means_of(scores, LABELS)
    for name, rows in scores.items():
        assert rows.nanmean().item() == pytest.approx(metrics[name])


def test_a_run_keeps_the_scores_of_its_queries_and_they_are_read_without_torch(tmp_path) -> None:
    dataset, benchmark = make_dataset(), protocol("evaluation.metrics=['found@5']")
    folder = leave_run(tmp_path, "shared", benchmark, dataset)
    record = read_record(folder)
    kept = load_file(folder / "test.safetensors")
    for name in ("map@r", "precision@1", "found@5"):
        scores = kept[f"queries/{name}"].numpy()
        assert scores.shape == (2, 18)
        assert np.nanmean(scores, axis=1) == pytest.approx([record.metrics[t][name] for t in dataset.tasks], abs=1e-5)
    assert "queries/ndcg" not in kept
    assert not math.isnan(record.metrics["shape"]["macro/found@5"])

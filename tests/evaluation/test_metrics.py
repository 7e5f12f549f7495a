"""Metrics: a registered function of ranked neighbours is a metric, by its name with its options."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from support import leave_run, make_dataset, protocol
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.evaluation.metrics import Ranked, extra_metrics, metric, register_metric, standard_metrics
from mtlbench.evaluation.retrieval import retrieval, retrieval_metrics
from mtlbench.evaluation.selection import check_evaluation
from mtlbench.registry import METRICS
from mtlbench.report.answers import read_queries
from mtlbench.runs import read_record

LABELS = torch.tensor([0, 0, 0, 1, 1, -1, 2])
LINE = torch.tensor([0.0, 1.0, 5.0, 1.4, 6.0, 1.1, 50.0])[:, None]


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    """Two metrics of a plug-in."""
    METRICS.load()
    before = dict(METRICS.entries)

    @register_metric("recall", meaning="the relevant ones among the first k, divided by R")
    def recall(ranked: Ranked, *, k: int) -> Tensor:
        return ranked.hits[:, :k].sum(dim=1).double() / ranked.relevant

    @register_metric("far-gain", meaning="the mean gain", ordered_only=True)
    def far_gain(ranked: Ranked, *, power: float = 1.0) -> Tensor:
        return (ranked.gains.double() / ranked.best).pow(power).mean(dim=1)

    @register_metric("of-pairs", meaning="recall where a query has two relevant images, else nothing")
    def of_pairs(ranked: Ranked) -> Tensor:
        return torch.where(ranked.relevant == 2, ranked.hits[:, :1].sum(dim=1) / 2, torch.nan)

    yield
    METRICS.entries = before


def test_a_registered_function_is_a_metric_by_its_name() -> None:
    metrics = retrieval_metrics(LINE, LABELS, normalise=False, extra=["recall@1"])
    # galleries by distance: 0 sees 1, 3, 2 …; 1 sees 3, 0 …; 2 sees 4 …; 3 sees 1 …; 4 sees 2 …
    assert metrics["recall@1"] == pytest.approx((1 / 2 + 0 + 0 + 0 + 0) / 5)
    assert metrics["macro/recall@1"] == pytest.approx(((1 / 2) / 3 + 0) / 2)


def test_scores_that_are_nan_enter_no_mean() -> None:
    metrics = retrieval_metrics(LINE, LABELS, normalise=False, extra=["of-pairs"])
    assert metrics["of-pairs"] == metrics["macro/of-pairs"] == pytest.approx((1 / 2 + 0 + 0) / 3)


@pytest.mark.parametrize("ordered_values", [None, 3])
def test_extra_metrics_leave_the_standard_ones_as_they_are_to_the_last_bit(ordered_values: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings, labels = torch.randn(101, 5, generator=generator), torch.randint(-1, 3, (101,), generator=generator)
    alone = retrieval_metrics(embeddings, labels, normalise=True, ordered_values=ordered_values, max_bytes=10_000)
    beside = retrieval_metrics(
        embeddings, labels, normalise=True, ordered_values=ordered_values, extra=["recall@3", "hit@2"], max_bytes=10_000
    )
    assert {name: beside[name] for name in alone} == alone
    assert set(beside) - set(alone) == {"recall@3", "hit@2", "macro/recall@3", "macro/hit@2"}


def test_metrics_for_ordered_labels_are_those_of_ordered_tasks_alone() -> None:
    for values, there in ((None, False), (3, True)):
        metrics = retrieval_metrics(LINE, LABELS, normalise=False, ordered_values=values, extra=["far-gain[power=2]"])
        assert ("far-gain[power=2.0]" in metrics) is there


def test_a_metric_is_written_with_its_depth_or_its_options() -> None:
    assert metric("recall@7").name == metric("recall[k=7]").name == "recall@7"
    assert metric("far-gain").name == "far-gain"
    assert [m.name for m in standard_metrics((1, 5), ordered=False)] == [
        "hit@1", "hit@5", "precision@1", "precision@5", "map@r", "r-precision",
    ]  # fmt: skip
    assert [m.name for m in extra_metrics(["recall@2", "hit@1", "recall[k=2]"], (1, 5))] == ["recall@2"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("recal@5", "Unknown metric 'recal'. Did you mean: recall"),
        ("recall", "needs k: write recall@5"),
        ("recall@0", "a k of at least 1"),
        ("recall[depth=3]", "no option 'depth'"),
        ("ndcg@5", "'ndcg' has no depth: write it without @5"),
    ],
)
def test_a_metric_that_is_not_there_is_refused_before_training_with_the_nearest(spec: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        check_evaluation(protocol(f"evaluation.metrics=['{spec}']"))
    assert said in str(caught.value)
    with pytest.raises(UserError) as caught:
        check_evaluation(protocol(f"evaluation.select={spec}"))
    assert said in str(caught.value)


def test_a_metric_of_another_shape_is_a_fault_that_names_it() -> None:
    @register_metric("wrong", meaning="nothing")
    def wrong(ranked: Ranked) -> Tensor:
        return ranked.hits.double()

    with pytest.raises(ValueError, match=r"the metric wrong must return a score for each of \d+ queries, found"):
        retrieval_metrics(LINE, LABELS, normalise=False, extra=["wrong"])


def test_scores_of_queries_are_in_the_order_of_the_images_and_their_means_are_the_metrics() -> None:
    found = retrieval(LINE, LABELS, [[metric("recall@1"), metric("map@r")]], normalise=False)
    scores = found.queries["recall@1"]
    assert scores[:5].tolist() == [0.5, 0, 0, 0, 0]
    assert scores[5:].isnan().all()  # unlabelled, and without a relevant image
    for name, rows in found.queries.items():
        assert rows.nanmean().item() == pytest.approx(found.metrics[name])


def test_a_run_keeps_the_scores_of_its_queries_and_they_are_read_without_torch(tmp_path) -> None:
    dataset, benchmark = make_dataset(), protocol("evaluation.metrics=['recall@5']")
    folder = leave_run(tmp_path, "shared", benchmark, dataset)
    record = read_record(folder)
    for name in ("map@r", "precision@1", "recall@5"):
        scores = read_queries(folder, record, name)
        assert scores.shape == (2, 18)
        assert np.nanmean(scores, axis=1) == pytest.approx([record.metrics[t][name] for t in dataset.tasks], abs=1e-5)
    assert read_queries(folder, record, "ndcg") is None
    record.metrics["shape"]["map@r"] += 0.01
    assert read_queries(folder, record, "map@r") is None
    assert not math.isnan(record.metrics["shape"]["macro/recall@5"])

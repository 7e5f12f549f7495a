"""Triplet accuracy and retrieval metrics: against independent libraries, a brute force, and networks that collapsed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from statistics import fmean
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics.functional.retrieval import (
    retrieval_hit_rate,
    retrieval_normalized_dcg,
    retrieval_precision,
    retrieval_r_precision,
)

from mtlbench.evaluation import nearest, retrieval_metrics, triplet_hits

KS = (1, 5, 10, 20)


def random_task(n: int, values: int, seed: int = 0, size: int = 16) -> tuple[Tensor, Tensor]:
    """Embeddings that know a little about their labels, none of them tied."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, values, (n,), generator=generator)
    return torch.randn(n, size, generator=generator) + 0.7 * torch.randn(values, size, generator=generator)[
        labels
    ], labels


def scores_of_ranking(gains: list[int], ideal: list[int], best: int) -> dict[str, float]:
    """The metrics of one query from the gains of its gallery as retrieved, straight from their definitions."""
    relevant = [gain == best for gain in gains]
    r = sum(relevant)
    scores = {f"hit@{k}": float(any(relevant[:k])) for k in KS}
    scores |= {f"precision@{k}": sum(relevant[:k]) / k for k in KS}
    scores["map@r"] = sum(sum(relevant[: i + 1]) / (i + 1) for i in range(r) if relevant[i]) / r
    scores["r-precision"] = sum(relevant[:r]) / r

    def dcg(order: list[int]) -> float:
        return sum(gain / math.log2(i + 2) for i, gain in enumerate(order))

    scores["ndcg"] = dcg(gains) / dcg(ideal)
    return scores


def brute_force(
    points: list[tuple[int, ...]], labels: list[int], best: int, tie: Callable[[int], float]
) -> dict[str, float]:
    """Rank every query's gallery by its exact integer squared distance and then by `tie` of the gain."""
    per_query: list[tuple[int, dict[str, float]]] = []
    labelled = [i for i, label in enumerate(labels) if label >= 0]
    for query in labelled:
        gallery = []
        for other in labelled:
            if other != query:
                squared = sum((a - b) ** 2 for a, b in zip(points[query], points[other], strict=True))
                gain = best - abs(labels[query] - labels[other])
                gallery.append((squared, tie(gain), gain))
        gains = [gain for _, _, gain in sorted(gallery)]
        if best in gains:
            per_query.append((labels[query], scores_of_ranking(gains, sorted(gains, reverse=True), best)))
    if not per_query:
        return {}
    names = per_query[0][1]
    result = {name: fmean(scores[name] for _, scores in per_query) for name in names}
    for name in names:
        by_label = [
            fmean(scores[name] for label, scores in per_query if label == value)
            for value in {label for label, _ in per_query}
        ]
        result[f"macro/{name}"] = fmean(by_label)
    return result


def chance(labels: Tensor, best: int) -> dict[str, float]:
    """The expected metrics of a random order, in closed form; binary metrics and NDCG, micro and macro."""
    per_label: dict[int, dict[str, float]] = {}
    for value in labels.unique().tolist():
        gains = sorted((best - (labels - value).abs()).tolist(), reverse=True)[1:]
        n, r = len(gains), int((labels == value).sum()) - 1
        scores = {f"hit@{k}": 1 - math.comb(n - r, k) / math.comb(n, k) for k in KS}
        scores |= {f"precision@{k}": r / n for k in KS} | {"r-precision": r / n}
        scores["map@r"] = sum(r / n * (1 + (i - 1) * (r - 1) / (n - 1)) / i for i in range(1, r + 1)) / r
        discounts = [1 / math.log2(i + 2) for i in range(n)]
        scores["ndcg"] = fmean(gains) * sum(discounts) / sum(map(math.prod, zip(gains, discounts, strict=True)))
        per_label[value] = scores
    names = next(iter(per_label.values()))
    result = {name: fmean(per_label[label][name] for label in labels.tolist()) for name in names}
    return result | {f"macro/{name}": fmean(scores[name] for scores in per_label.values()) for name in names}


# Independent references


@pytest.mark.parametrize("values", [2, 7])
@pytest.mark.parametrize("normalise", [True, False])
def test_agrees_with_pytorch_metric_learning(values: int, normalise: bool) -> None:
    embeddings, labels = random_task(60, values)  # few enough that no two distances are within the resolution
    ours = retrieval_metrics(embeddings, labels, normalise=normalise)
    for average_of_averages, prefix in ((False, ""), (True, "macro/")):
        calculator = AccuracyCalculator(
            include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
            k="max_bin_count",
            avg_of_avgs=average_of_averages,
            knn_func=CustomKNN(LpDistance(normalize_embeddings=normalise, p=2, power=2)),
            device=torch.device("cpu"),
        )
        theirs = calculator.get_accuracy(embeddings, labels)
        assert ours[f"{prefix}precision@1"] == pytest.approx(theirs["precision_at_1"])
        assert ours[f"{prefix}r-precision"] == pytest.approx(theirs["r_precision"])
        assert ours[f"{prefix}map@r"] == pytest.approx(theirs["mean_average_precision_at_r"])


@pytest.mark.parametrize("n", [12, 60])  # 12: fewer images than the deepest k
def test_agrees_with_torchmetrics(n: int) -> None:
    embeddings, labels = random_task(n, 3, seed=1)
    ours = retrieval_metrics(embeddings, labels, normalise=False, ordered_values=3)
    theirs: dict[str, list[float]] = {}
    for query in range(n):
        others = torch.arange(n) != query
        similarity = 1 / (1 + (embeddings[others] - embeddings[query]).norm(dim=1))
        relevant = labels[others] == labels[query]
        for k in KS:
            theirs.setdefault(f"hit@{k}", []).append(float(retrieval_hit_rate(similarity, relevant, top_k=k)))
            theirs.setdefault(f"precision@{k}", []).append(float(retrieval_precision(similarity, relevant, top_k=k)))
        theirs.setdefault("r-precision", []).append(float(retrieval_r_precision(similarity, relevant)))
        gain = 2 - (labels[others] - labels[query]).abs()
        theirs.setdefault("ndcg", []).append(float(retrieval_normalized_dcg(similarity, gain)))
    for name, values in theirs.items():
        assert ours[name] == pytest.approx(fmean(values), abs=1e-6), name


tied_tasks = st.integers(2, 25).flatmap(
    lambda n: st.tuples(
        st.lists(st.tuples(st.integers(-1, 1), st.integers(0, 2)), min_size=n, max_size=n),
        st.lists(st.integers(-1, 3), min_size=n, max_size=n),
    )
)


@settings(max_examples=150, deadline=None)
@given(tied_tasks, st.sampled_from([4, 200]))  # 200 values need 64-bit sort keys
def test_ties_put_the_least_relevant_first(task: tuple[list[tuple[int, ...]], list[int]], values: int) -> None:
    points, labels = task
    ours = retrieval_metrics(
        torch.tensor(points, dtype=torch.float32), torch.tensor(labels), normalise=False, ordered_values=values
    )
    expected = brute_force(points, labels, values - 1, tie=lambda gain: gain)
    if expected:
        assert ours == pytest.approx(expected)
    else:
        assert all(math.isnan(value) for value in ours.values())


@settings(max_examples=60, deadline=None)
@given(tied_tasks, st.randoms(use_true_random=False))
def test_no_other_way_to_break_ties_scores_less(
    task: tuple[list[tuple[int, ...]], list[int]], random_source: random.Random
) -> None:
    points, labels = task
    ours = retrieval_metrics(
        torch.tensor(points, dtype=torch.float32), torch.tensor(labels), normalise=False, ordered_values=4
    )
    for name, value in brute_force(points, labels, 3, tie=lambda gain: random_source.random()).items():
        assert ours[name] <= value + 1e-9, name


# Collapsed networks


def identical(labels: Tensor, point: Tensor) -> Tensor:
    return point.repeat(len(labels), 1)


def scattered_by_rounding(labels: Tensor, point: Tensor) -> Tensor:
    return point * (1 + 1e-7 * torch.randn(len(labels), len(point), generator=torch.Generator().manual_seed(3)))


def rounded_alike_within_a_label(labels: Tensor, point: Tensor) -> Tensor:
    return scattered_by_rounding(labels.unique(), point)[labels]


def zero(labels: Tensor, point: Tensor) -> Tensor:
    return torch.zeros(len(labels), len(point))


def broken(labels: Tensor, point: Tensor) -> Tensor:
    return torch.full((len(labels), len(point)), math.nan)


def balanced(n: int) -> Tensor:
    return torch.arange(n) % 2


def sorted_by_index(n: int) -> Tensor:
    return balanced(n).sort().values


def rare(n: int) -> Tensor:
    return (torch.arange(n) % 50 == 7).long()


def rare_first(n: int) -> Tensor:
    return rare(n).sort(descending=True).values


def ordered_blocks(n: int) -> Tensor:
    return torch.arange(n) * 5 // n


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("label_of", [balanced, sorted_by_index, rare, rare_first, ordered_blocks])
@pytest.mark.parametrize("collapse", [identical, scattered_by_rounding, rounded_alike_within_a_label, zero, broken])
@pytest.mark.parametrize("scale", [1e-3, 300.0])
def test_a_collapsed_network_does_not_score_above_chance(
    collapse: Callable[[Tensor, Tensor], Tensor], label_of: Callable[[int], Tensor], normalise: bool, scale: float
) -> None:
    labels = label_of(151)
    point = scale * torch.randn(37, generator=torch.Generator().manual_seed(2))
    values = int(labels.max()) + 1
    metrics = retrieval_metrics(collapse(labels, point), labels, normalise=normalise, ordered_values=values)
    for name, expected in chance(labels, values - 1).items():
        assert metrics[name] <= expected, name


def test_two_points_that_ignore_the_label_do_not_score_above_chance() -> None:
    labels = torch.arange(200) % 2
    generator = torch.Generator().manual_seed(4)
    centres = torch.randn(2, 64, generator=generator)
    embeddings = centres[(torch.arange(200) // 2) % 2] * (1 + 1e-7 * labels[:, None])
    metrics = retrieval_metrics(embeddings, labels, normalise=False, ordered_values=2)
    for name, expected in chance(labels, 1).items():
        assert metrics[name] <= expected, name


def test_one_huge_embedding_does_not_blur_the_others() -> None:
    embeddings, labels = random_task(60, 3)
    alone = retrieval_metrics(embeddings, labels, normalise=False)
    outlier = torch.full((1, embeddings.shape[1]), 1e7)
    # A value of its own: never a query, always the farthest of the gallery.
    beside = retrieval_metrics(
        torch.cat([embeddings, outlier]), torch.cat([labels, torch.tensor([3])]), normalise=False
    )
    assert beside == pytest.approx(alone)


def test_many_ordered_values_and_a_wide_range_of_distances_fit_one_sort_key() -> None:
    metrics = retrieval_metrics(
        torch.tensor([[1.0], [100.0], [1e6]]), torch.tensor([0, 0, 199]), normalise=False, ordered_values=200
    )
    assert metrics["hit@1"] == metrics["ndcg"] == 1


# What must not matter, and what must


@settings(max_examples=40, deadline=None)
@given(tied_tasks, st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_the_images_does_not_matter(
    task: tuple[list[tuple[int, ...]], list[int]], random_source: random.Random, normalise: bool
) -> None:
    embeddings, labels = torch.tensor(task[0], dtype=torch.float32), torch.tensor(task[1])
    order = list(range(len(labels)))
    random_source.shuffle(order)
    shuffled = retrieval_metrics(embeddings[order], labels[order], normalise=normalise, ordered_values=4)
    assert shuffled == pytest.approx(
        retrieval_metrics(embeddings, labels, normalise=normalise, ordered_values=4), nan_ok=True
    )


@pytest.mark.parametrize("ordered_values", [None, 5])
def test_the_chunk_size_does_not_matter(ordered_values: int | None) -> None:
    embeddings, labels = random_task(101, 5)
    whole = retrieval_metrics(embeddings, labels, normalise=True, ordered_values=ordered_values)
    for max_bytes in (1, 101 * 32 * 7):
        chunked = retrieval_metrics(
            embeddings, labels, normalise=True, ordered_values=ordered_values, max_bytes=max_bytes
        )
        assert chunked == pytest.approx(whole)


def test_unlabelled_images_change_nothing() -> None:
    embeddings, labels = random_task(80, 4)
    unlabelled = torch.arange(80) % 3 == 0
    labels[unlabelled] = -1
    with_them = retrieval_metrics(embeddings, labels, normalise=True, ordered_values=4)
    embeddings[unlabelled] = embeddings[torch.arange(80) % 3 == 1].mean(dim=0)
    assert retrieval_metrics(embeddings, labels, normalise=True, ordered_values=4) == with_them
    without = retrieval_metrics(embeddings[~unlabelled], labels[~unlabelled], normalise=True, ordered_values=4)
    assert without == with_them


@pytest.mark.parametrize("normalise", [True, False])
def test_normalising_is_dividing_by_the_norm(normalise: bool) -> None:
    embeddings, labels = random_task(70, 3)
    lengthened = embeddings * torch.logspace(-2, 2, 70)[:, None]
    before = retrieval_metrics(embeddings, labels, normalise=normalise)
    after = retrieval_metrics(lengthened, labels, normalise=normalise)
    assert (before == pytest.approx(after)) == normalise


def test_a_rare_label_shows_in_the_macro_mean_only() -> None:
    labels = (torch.arange(500) >= 490).long()
    generator = torch.Generator().manual_seed(0)
    found = torch.randn(500, 8, generator=generator)
    lost = found.clone()
    found[labels == 1] += 100
    good = retrieval_metrics(found, labels, normalise=False)
    bad = retrieval_metrics(lost, labels, normalise=False)
    assert good["precision@1"] - bad["precision@1"] < 0.05
    assert good["macro/precision@1"] - bad["macro/precision@1"] > 0.4


def test_a_lone_image_is_no_query_but_stays_in_the_gallery() -> None:
    embeddings = torch.tensor([[0.0], [1.0], [0.1]])
    metrics = retrieval_metrics(embeddings, torch.tensor([0, 0, 5]), normalise=False, ks=(1, 2))
    assert metrics["hit@1"] == metrics["macro/hit@1"] == 0  # the lone image stands nearest to both
    assert metrics["hit@2"] == 1
    assert metrics["precision@2"] == 0.5


@pytest.mark.parametrize("labels", [[], [3], [0, 1, 2], [-1, -1]])
@pytest.mark.parametrize("ordered_values", [None, 4])
def test_without_any_relevant_image_every_metric_is_nan(labels: list[int], ordered_values: int | None) -> None:
    metrics = retrieval_metrics(
        torch.ones(len(labels), 2), torch.tensor(labels).long(), normalise=True, ordered_values=ordered_values
    )
    assert set(metrics) >= {"hit@1", "precision@20", "map@r", "r-precision", "macro/map@r"}
    assert ("ndcg" in metrics) == (ordered_values is not None)
    assert all(math.isnan(value) for value in metrics.values())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("normalise", [True, False])
def test_an_embedding_that_is_not_finite_is_never_found_early(bad: float, normalise: bool) -> None:
    embeddings = torch.tensor([[1.0, 0.0], [bad, 0.0], [-1.0, 0.01], [-1.0, 0.0]])
    metrics = retrieval_metrics(embeddings, torch.tensor([0, 0, 1, 1]), normalise=normalise, ks=(1, 2))
    # The first image finds the broken one last; the broken one sees a tie and is shown the wrong label first.
    assert metrics["hit@2"] == metrics["macro/hit@2"] == 0.5
    assert metrics["map@r"] == 0.5


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 6), st.booleans())
def test_metrics_lie_between_zero_and_one(seed: int, n: int, values: int, normalise: bool) -> None:
    embeddings, labels = random_task(n, values, seed, size=3)
    metrics = retrieval_metrics(embeddings, labels, normalise=normalise, ordered_values=max(2, values))
    assert all(math.isnan(value) or 0 <= value <= 1 + 1e-12 for value in metrics.values())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=40), st.integers(0, 10_000))
def test_perfect_clusters_score_one(labels: list[int], seed: int) -> None:
    target = torch.tensor([*labels, labels[0]])
    scatter = 0.1 * torch.rand(len(target), 1, generator=torch.Generator().manual_seed(seed))
    metrics = retrieval_metrics(10.0 * target[:, None] + scatter, target, normalise=False)
    for name in ("hit@1", "hit@20", "precision@1", "map@r", "r-precision"):
        assert metrics[name] == metrics[f"macro/{name}"] == pytest.approx(1)


def test_ndcg_is_one_for_the_ideal_order_only() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    # The middle label has a neighbour on either side, equally far in rank: no order of the two is worse.
    ideal = retrieval_metrics(labels[:, None].float(), labels, normalise=False, ordered_values=3)
    assert ideal["ndcg"] == ideal["macro/ndcg"] == pytest.approx(1)
    swapped = retrieval_metrics((labels[:, None] * 2 % 3).float(), labels, normalise=False, ordered_values=3)
    assert swapped["map@r"] == 1
    assert swapped["ndcg"] < 1


def test_ndcg_rewards_a_near_miss_over_a_far_one() -> None:
    line = torch.tensor([[0.0], [3.0], [1.0]])  # the third image stands between the two that share a label
    near = retrieval_metrics(line, torch.tensor([0, 0, 1]), normalise=False, ordered_values=5)
    far = retrieval_metrics(line, torch.tensor([0, 0, 4]), normalise=False, ordered_values=5)
    assert near["map@r"] == far["map@r"] == 0
    assert near["ndcg"] == pytest.approx((3 + 4 / math.log2(3)) / (4 + 3 / math.log2(3)))
    assert far["ndcg"] == pytest.approx((0 + 4 / math.log2(3)) / 4)


# Precision, memory, time


@pytest.fixture
def low_matmul_precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


def test_training_precision_settings_do_not_reach_the_metrics(low_matmul_precision: None) -> None:
    embeddings, labels = random_task(200, 4, size=64)
    embeddings += 30  # what bfloat16 products would blur
    triplets = torch.randint(0, 200, (500, 3), generator=torch.Generator().manual_seed(0))
    direct = embeddings.double()
    expected_hits = (direct[triplets[:, 0]] - direct[triplets[:, 1]]).norm(dim=1) < (
        direct[triplets[:, 0]] - direct[triplets[:, 2]]
    ).norm(dim=1)
    order = torch.cdist(direct, direct, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf).argmin(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        metrics = retrieval_metrics(embeddings, labels, normalise=False, ordered_values=4)
        hits = triplet_hits(embeddings, triplets, normalise=False)
    assert metrics["precision@1"] == pytest.approx((labels[order] == labels).double().mean().item())
    assert torch.equal(hits, expected_hits)


class PeakMemory(TorchDispatchMode):
    """The most bytes that tensors made inside the block held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.live[storage.data_ptr()] = (StorageWeakRef(storage), storage.nbytes())
        self.live = {pointer: entry for pointer, entry in self.live.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.live.values()))
        return result


@pytest.mark.parametrize("ordered_values", [None, 8, 200])
def test_working_memory_stays_below_the_bound(ordered_values: int | None) -> None:
    embeddings, labels = random_task(600, 2, size=4)
    bound = 2**20  # a tenth of what all pairs at once would take, or less
    with PeakMemory() as memory:
        retrieval_metrics(embeddings, labels, normalise=True, ordered_values=ordered_values, max_bytes=bound)
    per_image = 300 * len(labels)  # copies of the embeddings, labels, counts, scores: they grow with N, not with N²
    assert bound / 4 < memory.peak < bound + per_image


class Operations(TorchDispatchMode):
    """How many operations on tensors there are inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_two_thousand_images_take_seconds_at_most() -> None:
    """Whatever the machine: there is no loop over images, and chunks are large enough to take few operations."""
    embeddings, labels = random_task(2000, 21, size=64)
    with Operations() as operations:
        retrieval_metrics(embeddings, labels, normalise=True, ordered_values=21)
    assert 0 < operations.count < 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "labels must have the shape"),
        ({"embeddings": torch.zeros(4)}, "embeddings must be"),
        ({"embeddings": torch.zeros(4, 2, dtype=torch.int64)}, "embeddings must be"),
        ({"ks": (0,)}, "ks must be at least 1"),
        ({"ordered_values": 1}, "ordered_values must be"),
        ({"ordered_values": 2}, "ordered_values must be"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    fitting: dict[str, Any] = {"embeddings": torch.ones(4, 2), "labels": torch.tensor([0, 1, 2, 2])}
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(**{**fitting, **arguments}, normalise=True)


# Triplets


def test_a_triplet_is_a_hit_when_the_positive_is_nearer() -> None:
    embeddings = torch.tensor([[0.0, 1.0], [0.0, 1.1], [3.0, 1.0]])
    triplets = torch.tensor([[0, 1, 2], [0, 2, 1], [2, 1, 0], [2, 0, 1]])
    assert triplet_hits(embeddings, triplets, normalise=False).tolist() == [True, False, False, True]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_triplet_hits_order_by_the_plain_distance(seed: int, normalise: bool) -> None:
    embeddings, _ = random_task(20, 2, seed, size=5)
    triplets = torch.randint(0, 20, (40, 3), generator=torch.Generator().manual_seed(seed))
    points = embeddings.double()
    if normalise:
        points = torch.nn.functional.normalize(points)
    near, far = ((points[triplets[:, 0]] - points[triplets[:, i]]).norm(dim=1) for i in (1, 2))
    clear = (near - far).abs() > 1e-3
    hits = triplet_hits(embeddings, triplets, normalise=normalise)
    assert torch.equal(hits[clear], (near < far)[clear])
    assert not hits[near == far].any()


def test_normalising_ignores_the_length_of_an_embedding() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [50.0, 1.0], [1.0, 0.5]])
    triplet = torch.tensor([[0, 1, 2]])
    assert triplet_hits(embeddings, triplet, normalise=True).item()
    assert not triplet_hits(embeddings, triplet, normalise=False).item()


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("collapse", [identical, scattered_by_rounding, rounded_alike_within_a_label, zero, broken])
def test_a_collapsed_network_hits_no_triplet(collapse: Callable[[Tensor, Tensor], Tensor], normalise: bool) -> None:
    labels = torch.arange(60) % 2
    embeddings = collapse(labels, torch.randn(37, generator=torch.Generator().manual_seed(5)))
    triplets = torch.tensor([[i, (i + 2) % 60, (i + 1) % 60] for i in range(60)])
    assert not triplet_hits(embeddings, triplets, normalise=normalise).any()


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_triplet_with_an_embedding_that_is_not_finite_is_a_miss(position: int, bad: float) -> None:
    embeddings = torch.tensor([[0.0, 1.0], [0.0, 1.1], [3.0, 1.0]])
    triplet = torch.tensor([[0, 1, 2]])
    assert triplet_hits(embeddings, triplet).item()
    embeddings[position, 0] = bad
    assert not triplet_hits(embeddings, triplet).item()


def test_a_zero_vector_can_be_normalised() -> None:
    embeddings = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.1]])
    triplets = torch.tensor([[1, 2, 0], [0, 1, 2]])
    assert triplet_hits(embeddings, triplets, normalise=True).tolist() == [True, False]


def test_many_triplets_are_answered_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, _ = random_task(50, 2)
    triplets = torch.randint(0, 50, (300, 3), generator=torch.Generator().manual_seed(0))
    at_once = triplet_hits(embeddings, triplets)
    monkeypatch.setattr("mtlbench.evaluation._TRIPLET_CHUNK", 100)
    assert torch.equal(triplet_hits(embeddings, triplets), at_once)


def test_no_triplets_give_no_hits_and_a_wrong_shape_is_refused() -> None:
    assert triplet_hits(torch.ones(3, 2), torch.empty(0, 3, dtype=torch.int64)).shape == (0,)
    with pytest.raises(ValueError, match="triplets must have the shape"):
        triplet_hits(torch.ones(3, 2), torch.tensor([0, 1, 2]))


# --- nearest ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("rounding", [0.0, 1.0])  # rounded to whole numbers, many embeddings are tied
def test_the_nearest_give_the_precision_that_the_metrics_have(normalise, rounding):
    embeddings, labels = random_task(200, 5, size=3)
    labels[::17] = -1
    embeddings = embeddings.round() if rounding else embeddings
    labelled = torch.nonzero(labels >= 0).flatten()
    metrics = retrieval_metrics(embeddings, labels, normalise=normalise, ks=(1, 5))
    rows, distances = nearest(embeddings, labelled, labelled, 5, normalise=normalise, labels=labels, max_bytes=10_000)
    right = (labels[rows] == labels[labelled, None]).double()
    assert right[:, 0].mean() == pytest.approx(metrics["precision@1"])
    assert right.mean() == pytest.approx(metrics["precision@5"])
    assert not (rows == labelled[:, None]).any()
    assert (distances.diff(dim=1) >= -1e-5).all()
    points = torch.nn.functional.normalize(embeddings.double(), dim=1) if normalise else embeddings.double()
    torch.testing.assert_close(distances, (points[labelled, None] - points[rows]).norm(dim=2), atol=1e-6, rtol=0)


def test_of_a_collapsed_network_the_nearest_are_wrong_and_then_in_order():
    labels = torch.tensor([0, 0, 1, 1, 0])
    rows, distances = nearest(torch.ones(5, 4), torch.tensor([0]), torch.arange(5), 9, normalise=True, labels=labels)
    assert rows.tolist() == [[2, 3, 1, 4]]
    assert distances.tolist() == [[0.0] * 4]
    rows, _ = nearest(torch.ones(5, 4), torch.tensor([0]), torch.arange(1, 5), 2, normalise=True)
    assert rows.tolist() == [[1, 2]]


def test_embeddings_that_are_not_finite_are_the_farthest():
    embeddings = torch.tensor([[0.0, 1.0], [torch.nan, 0.0], [5.0, 5.0], [0.0, 1.1]])
    rows, distances = nearest(embeddings, torch.tensor([0]), torch.arange(4), 3, normalise=False)
    assert rows.tolist() == [[3, 2, 1]]
    assert distances[0, 2] == torch.inf


def test_nothing_is_nearest_where_there_is_nothing_else():
    rows, distances = nearest(torch.ones(3, 2), torch.tensor([1]), torch.tensor([1]), 4, normalise=True)
    assert rows.shape == distances.shape == (1, 0)

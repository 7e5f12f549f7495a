"""The ranking that metrics are made of, beside one that sorts every row of float64 distances to its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_support import random_task
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.evaluation.distances import FARTHEST_STEP, points_of, steps_of
from mtlbench.evaluation.metrics import Ranked, measured, register_metric
from mtlbench.evaluation.ranking import first
from mtlbench.evaluation.retrieval import retrieval_scores, scores_of_tasks


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def plain_scores(embeddings: Tensor, labels: Tensor, normalise: bool, values: int | None) -> dict[str, Tensor]:
    """The scores of all queries, from one matrix of distances as they are defined and one stable sort of it."""
    labelled = (labels >= 0).nonzero().flatten()
    own, n = labels[labelled], len(labelled)
    points, unit, finite = points_of(embeddings[labelled], normalise)
    steps = steps_of(torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist") / unit[:, None]).long()
    steps[~finite[:, None] | ~finite] = FARTHEST_STEP
    best = 1 if values is None else values - 1
    gains = (own[:, None] == own).long() if values is None else (best - (own[:, None] - own).abs()).clamp(min=0)
    keys = steps * (best + 1) + gains
    keys.fill_diagonal_(torch.iinfo(torch.int64).max)
    ranked_gains = gains.gather(1, keys.argsort(dim=1, stable=True)[:, :-1])
    discount = 1 / torch.arange(2, n + 1).double().log2()
    ideal = ranked_gains.sort(dim=1, descending=True).values.double() @ discount
    relevant = (gains == best).sum(1) - 1
    ranked = Ranked(ranked_gains, best, relevant, None if values is None else ideal, discount)
    found = {}
    for name, metric in measured((1, 5, 10, 20), ["recall@3"], ordered=values is not None).items():
        scores = torch.full((len(labels),), torch.nan, dtype=torch.float64)
        scores[labelled] = torch.where(relevant > 0, metric.of(ranked), torch.nan)
        found[name] = scores
    return found


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """What is counted is the same to the last bit; sums of fractions are, up to the order of their terms."""
    assert list(found) == list(expected)
    for name, scores in expected.items():
        tolerance = 1e-13 if name in ("map@r", "ndcg") else 0.0
        torch.testing.assert_close(found[name], scores, rtol=0, atol=tolerance, equal_nan=True, msg=name)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("columns", [2**15 - 1, 2**15, 2**15 + 1])
@pytest.mark.parametrize("depth", [1, 2**13, 2**15 - 2])
def test_the_lowest_keys_of_a_row_are_the_same_in_whatever_way_they_are_sorted(dtype, columns, depth) -> None:
    highest = torch.iinfo(dtype).max
    keys = torch.randint(highest // 2, highest, (3, columns), dtype=dtype, generator=torch.Generator().manual_seed(0))
    keys[1] //= highest // 9  # many ties
    keys[:, 7] = highest  # the query itself
    expected = torch.stack([torch.tensor(sorted(row.tolist())[:depth], dtype=dtype) for row in keys])
    assert torch.equal(first(keys, depth), expected)


KINDS = (
    "random",
    "whole numbers",
    "each twice",
    "collapsed",
    "at two points",
    "tiny",
    "huge",
    "far apart",
    "broken",
)


def drawn(kind: str, n: int, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(n, size, generator=generator)
    scales = 10 ** (8 * torch.rand(n, 1, generator=generator) - 4)
    return {
        "random": points,
        "whole numbers": points.mul(2).round(),
        "each twice": points[torch.arange(n) // 2],
        "collapsed": points[:1] * (1 + 1e-7 * points),
        "at two points": points[torch.randint(0, 2, (n,), generator=generator).clamp(max=n - 1)],
        "tiny": points * 1e-35,
        "huge": points * 1e36,
        "far apart": points * scales,
        "broken": torch.where(torch.rand(n, 1, generator=generator) < 0.2, torch.nan, points),
    }[kind]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(2, 70),
    st.integers(1, 12),
    st.integers(0, 2**20),
    st.booleans(),
    st.sampled_from([None, 3, 8, 40]),
    st.sampled_from([None, 1, 5000]),
)
def test_scores_are_those_of_sorting_everything(kind, n, size, seed, normalise, values, max_bytes):
    embeddings = drawn(kind, n, size, seed)
    labels = torch.randint(-1, values or 4, (n,), generator=torch.Generator().manual_seed(seed))
    if not (labels >= 0).any():
        labels[0] = 0
    found = retrieval_scores(
        embeddings, labels, normalise=normalise, ordered_values=values, extra=["recall@3"], max_bytes=max_bytes
    )
    same(found, plain_scores(embeddings, labels, normalise, values))


@pytest.mark.parametrize("values", [2, 30, 400])
@pytest.mark.parametrize("normalise", [True, False])
def test_scores_of_many_images_are_those_of_sorting_everything(values: int, normalise: bool) -> None:
    embeddings, labels = random_task(900, values, size=64)
    found = retrieval_scores(embeddings, labels, normalise=normalise, extra=["recall@3"], max_bytes=2**21)
    same(found, plain_scores(embeddings, labels, normalise, None))


def test_several_threads_give_the_same_scores_and_leave_torch_its_threads(two_threads: None) -> None:
    embeddings, labels = random_task(700, 3, size=8)
    alone = plain_scores(embeddings, labels, True, 3)
    with torch.inference_mode():
        found = retrieval_scores(
            embeddings, labels, normalise=True, ordered_values=3, extra=["recall@3"], max_bytes=2**20
        )
    same(found, alone)
    assert torch.get_num_threads() == 2


def test_tasks_with_the_same_embeddings_score_as_each_does_alone() -> None:
    embeddings, first = random_task(150, 3)
    generator = torch.Generator().manual_seed(1)
    rare = (torch.rand(150, generator=generator) < 0.1).long()
    some = torch.where(torch.arange(150) % 4 == 0, -1, torch.randint(0, 5, (150,), generator=generator))
    labels, values = torch.stack([first, rare, some, first]), [None, None, 5, 30]
    together = scores_of_tasks(embeddings, labels, values, normalise=True, max_bytes=200_000)
    for own, of_task, ordered in zip(labels, together, values, strict=True):
        alone = retrieval_scores(embeddings, own, normalise=True, ordered_values=ordered)
        same(of_task, alone)


def test_a_metric_sees_as_much_of_the_gallery_as_it_says_and_all_of_it_by_default() -> None:
    seen = {}

    @register_metric("of-first", depth="first")
    def of_first(ranked: Ranked, *, first: int = 30) -> Tensor:
        seen["first"] = ranked.gains.shape[1]
        return ranked.hits[:, :first].sum(dim=1).double() / first

    @register_metric("of-all")
    def of_all(ranked: Ranked) -> Tensor:
        seen["all"] = ranked.gains.shape[1]
        return ranked.hits.double().mean(dim=1)

    embeddings, labels = random_task(100, 10)
    retrieval_scores(embeddings, labels, normalise=True, ks=(1,), extra=["of-first[first=40]"])
    assert seen == {"first": 40}
    scores = retrieval_scores(embeddings, labels, normalise=True, ks=(1,), extra=["of-all"])
    assert seen["all"] == 99
    relevant = (labels[:, None] == labels).sum(1) - 1
    torch.testing.assert_close(scores["of-all"], relevant.double() / 99)


def test_a_depth_that_is_no_option_is_refused() -> None:
    with pytest.raises(UserError, match="depth of the metric 'lost' must be 'R' or one of its options, not 'k'"):

        @register_metric("lost", depth="k")
        def lost(ranked: Ranked) -> Tensor:
            return ranked.hits.any(dim=1).double()

"""Queries that are searched for in a gallery of their own: scores worked out by hand, and by brute force."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_support import random_task, scores_of_ranking
from support import make_dataset, protocol
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.evaluation.retrieval import means_of, retrieval_scores
from mtlbench.evaluation.scores import scores_of
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.sampling.asked import AskedTriplets


def flags(*places: int, of: int) -> Tensor:
    found = torch.zeros(of, dtype=torch.bool)
    found[list(places)] = True
    return found


def test_queries_are_scored_among_the_gallery_alone_by_hand() -> None:
    """On a line: q at 0 (a) and 10 (b); gallery b 1, a 2, a 3, b 9, a 12; a query-only image of a at 0.5."""
    points = torch.tensor([[0.0], [10.0], [1.0], [2.0], [3.0], [9.0], [12.0], [0.5]])
    labels = torch.tensor([0, 1, 1, 0, 0, 1, 0, 0])
    query, gallery = flags(0, 1, 7, of=8), flags(2, 3, 4, 5, 6, of=8)
    scores = retrieval_scores(
        points, labels, normalise=False, ks=(1, 2), extra=("map", "recall@2"), query=query, gallery=gallery
    )
    # query 0: b a a b a: R = 3; query 1: b a b(1)... from 10: 9 b, 12 a, 3 a, 2 a, 1 b: R = 2
    assert scores["hit@1"][:2].tolist() == [0, 1]
    assert scores["precision@2"][:2].tolist() == [0.5, 0.5]
    assert scores["r-precision"][:2].tolist() == pytest.approx([2 / 3, 1 / 2])
    assert scores["map@r"][:2].tolist() == pytest.approx([(1 / 2 + 2 / 3) / 3, 1 / 2])
    assert scores["map"][:2].tolist() == pytest.approx([(1 / 2 + 2 / 3 + 3 / 5) / 3, (1 + 2 / 5) / 2])
    assert scores["recall@2"][:2].tolist() == pytest.approx([1 / 3, 1 / 2])
    assert all(scores["hit@1"][2:7].isnan())  # the gallery asks nothing
    means = means_of(scores, labels)
    assert means["hit@1"] == pytest.approx(1 / 3)  # query 7: b 1.0 at 0.5 first
    assert means["macro/hit@1"] == pytest.approx((0 + 1) / 2)


def test_an_image_in_both_sets_is_not_found_by_itself_and_is_found_by_others() -> None:
    points = torch.tensor([[0.0], [0.1], [5.0], [5.2]])
    labels = torch.tensor([0, 0, 1, 1])
    scores = retrieval_scores(
        points, labels, normalise=False, ks=(1,), extra=("map",), query=flags(0, 1, of=4), gallery=flags(0, 2, 3, of=4)
    )
    # image 0 is alone of its label in the gallery: nothing to be found; image 1 finds it
    assert scores["hit@1"][0].isnan()
    assert scores["hit@1"][1] == 1
    assert scores["map"][1] == 1
    assert scores["hit@1"][2:].isnan().all()


def test_a_querys_own_person_by_its_own_camera_is_not_in_its_gallery_by_hand() -> None:
    """On a line, the query is person a by camera 1 at 0: a1 0.1, b1 1, a2 2, b2 3, a2 4; b1, b2 are found as ever."""
    points = torch.tensor([[0.0], [0.1], [1.0], [2.0], [3.0], [4.0]])
    labels = torch.tensor([0, 0, 1, 0, 1, 0])
    apart = torch.tensor([0, 0, 1, 2, 3, 2])  # person and camera
    query, gallery = flags(0, of=6), flags(1, 2, 3, 4, 5, of=6)
    asked = {"normalise": False, "ks": (1, 2), "extra": ("map",), "query": query, "gallery": gallery}
    plain = retrieval_scores(points, labels, **asked)
    assert [plain[name][0].item() for name in ("hit@1", "r-precision")] == pytest.approx([1, 2 / 3])
    scores = retrieval_scores(points, labels, apart=apart, **asked)
    # b1 a2 b2 a2: R = 2
    assert scores["hit@1"][0] == 0
    assert scores["precision@2"][0] == 0.5
    assert scores["r-precision"][0] == 0.5
    assert scores["map@r"][0] == pytest.approx((1 / 2) / 2)
    assert scores["map"][0] == pytest.approx((1 / 2 + 2 / 4) / 2)
    alone = retrieval_scores(points, labels, apart=torch.tensor([0, 0, 1, 0, 3, 0]), **asked)
    assert alone["hit@1"][0].isnan()  # every image of the person is by the query's camera
    unknown = retrieval_scores(points, labels, apart=torch.full((6,), -1), **asked)
    assert all(torch.equal(unknown[name], plain[name]) or unknown[name].isnan().any() for name in plain)
    assert unknown["map"][0] == plain["map"][0]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(-3, 3), st.integers(-1, 2), st.booleans(), st.booleans(), st.integers(-1, 2)),
        min_size=2,
        max_size=14,
    ),
    st.booleans(),
    st.booleans(),
)
def test_every_score_is_that_of_a_gallery_without_the_images_that_are_apart(
    images: list[tuple[int, int, bool, bool, int]], ordered: bool, everyone: bool
) -> None:
    points, labels = torch.tensor([[float(x)] for x, *_ in images]), torch.tensor([label for _, label, *_ in images])
    query, gallery = torch.tensor([q for _, _, q, *_ in images]), torch.tensor([g for *_, g, _ in images])
    if everyone:
        query, gallery = torch.ones_like(query), torch.ones_like(gallery)
    apart, best = torch.tensor([code for *_, code in images]), 2 if ordered else 1
    scores = retrieval_scores(
        points, labels, normalise=False, ordered_values=3 if ordered else None, apart=apart,
        **({} if everyone else {"query": query, "gallery": gallery}),
    )  # fmt: skip
    for i, (x, label, _, _, code) in enumerate(images):
        found = sorted(
            (abs(x - y), max(0, best - abs(label - other)) if ordered or other == label else 0)
            for j, (y, other, _, _, shot) in enumerate(images)
            if gallery[j] and other >= 0 and j != i and not (code >= 0 and shot == code)
        )
        gains = [gain for _, gain in found]
        if not query[i] or label < 0 or best not in gains:
            assert all(of[i].isnan() for of in scores.values())
            continue
        expected = scores_of_ranking(gains, sorted(gains, reverse=True), best)
        assert {name: of[i].item() for name, of in scores.items()} == pytest.approx(
            {name: expected[name] for name in scores}
        )


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-1, 2), st.booleans(), st.booleans()), min_size=2, max_size=14),
    st.booleans(),
)
def test_every_score_is_that_of_its_definition_whatever_the_sets(
    images: list[tuple[int, int, bool, bool]], ordered: bool
) -> None:
    points, labels = torch.tensor([[float(x)] for x, *_ in images]), torch.tensor([label for _, label, *_ in images])
    query, gallery = torch.tensor([q for *_, q, _ in images]), torch.tensor([g for *_, g in images])
    best = 2 if ordered else 1
    scores = retrieval_scores(
        points, labels, normalise=False, ordered_values=3 if ordered else None, query=query, gallery=gallery
    )
    for i, (x, label, asked, _) in enumerate(images):
        found = sorted(
            (abs(x - y), max(0, best - abs(label - other)) if ordered or other == label else 0)
            for j, (y, other, _, held) in enumerate(images)
            if held and other >= 0 and j != i
        )
        gains = [gain for _, gain in found]
        if not asked or label < 0 or best not in gains:
            assert all(of[i].isnan() for of in scores.values())
            continue
        expected = scores_of_ranking(gains, sorted(gains, reverse=True), best)
        assert {name: of[i].item() for name, of in scores.items()} == pytest.approx(
            {name: expected[name] for name in scores}
        )


@pytest.mark.parametrize("ordered", [None, 5])
def test_sets_of_all_images_give_the_numbers_of_no_sets_bit_for_bit(ordered: int | None) -> None:
    points, labels = random_task(300, 5)
    labels[::7] = -1
    everyone = torch.ones(300, dtype=torch.bool)
    plain = retrieval_scores(points, labels, normalise=True, ordered_values=ordered, extra=("map",))
    both = retrieval_scores(
        points, labels, normalise=True, ordered_values=ordered, extra=("map",), query=everyone, gallery=everyone
    )
    assert plain.keys() == both.keys()
    for name in plain:
        assert torch.allclose(plain[name], both[name], 0, 0, equal_nan=True)


def test_chunks_and_threads_change_no_score() -> None:
    points, labels = random_task(700, 4)
    generator = torch.Generator().manual_seed(1)
    query, gallery = (torch.rand(700, generator=generator) < share for share in (0.5, 0.8))
    scores = [
        retrieval_scores(points, labels, normalise=True, query=query, gallery=gallery, max_bytes=bytes_)
        for bytes_ in (None, 20_000)
    ]
    for name in scores[0]:
        assert torch.allclose(scores[0][name], scores[1][name], 0, 1e-12, equal_nan=True)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(-1, 2), st.booleans(), st.booleans()), min_size=2, max_size=12),
    st.sampled_from([0, 2]),
)
def test_triplets_are_of_a_query_and_two_gallery_images(images: list[tuple[int, bool, bool]], least: int) -> None:
    labels, query, gallery = (torch.tensor(part) for part in zip(*images, strict=True))
    n = range(len(images))
    possible = {
        (a, p, m) for a in n for p in n for m in n
        if query[a] and gallery[p] and gallery[m] and a != p and labels[a] == labels[p] != labels[m]
        and labels[a] >= 0 and labels[m] >= 0
    }  # fmt: skip
    if not possible:
        with pytest.raises(UserError, match="No triplet can be drawn"):
            AskedTriplets(labels, query, gallery)
        return
    drawn = AskedTriplets(labels, query, gallery, min_images=least).draw(4000, torch.Generator().manual_seed(0))
    found = {tuple(row) for row in drawn.tolist()}
    assert found <= possible
    if len(possible) <= 60:
        assert found == possible
    if not least:  # every label that can anchor anchors as often
        counts = torch.unique(labels[drawn[:, 0]], return_counts=True)[1] / 4000
        assert (counts - 1 / len(counts)).abs().max() < 0.06


def test_labels_of_few_queries_anchor_in_proportion_to_them() -> None:
    labels = torch.tensor([0] * 30 + [1] * 6 + [2] * 3 + [0, 1, 2] * 20)  # gallery images don't count
    query = torch.arange(len(labels)) < 39
    drawn = AskedTriplets(labels, query, ~query, min_images=12).draw(20_000, torch.Generator().manual_seed(0))
    shares = torch.bincount(labels[drawn[:, 0]]) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor([12.0, 6.0, 3.0]) / 21, rtol=0, atol=0.02)


def test_a_data_set_with_query_and_gallery_sets_is_judged_by_them() -> None:
    dataset = make_dataset()
    benchmark = protocol()
    test = dataset.members("test")
    query = torch.zeros(90, dtype=torch.bool)
    query[test[::3]] = True
    gallery = torch.zeros(90, dtype=torch.bool)
    gallery[test] = True
    gallery[test[::3]] = False
    asked = replace(dataset, query=query, gallery=gallery)
    held_out = HeldOutTriplets.draw(asked, benchmark, "test")
    assert set(held_out.triplets[:, :, 0].flatten().tolist()) <= set(range(0, 18, 3))
    assert not set(held_out.triplets[:, :, 1:].flatten().tolist()) & set(range(0, 18, 3))
    points = torch.randn(2, 18, 8, generator=torch.Generator().manual_seed(0))
    _, _, queries = scores_of(points, held_out, benchmark, asked)
    assert (~queries["precision@1"].isnan()).nonzero()[:, 1].unique().tolist() == list(range(0, 18, 3))
    # the validation images have no roles: they are drawn from train
    val = HeldOutTriplets.draw(asked, benchmark, "val")
    assert torch.equal(val.triplets, HeldOutTriplets.draw(dataset, benchmark, "val").triplets)
    assert math.isclose(
        float(queries["precision@1"].nanmean()), float(queries["precision@1"][:, ::3].mean()), rel_tol=1e-6
    )


def test_a_data_set_with_cameras_leaves_a_queries_own_out_of_its_gallery() -> None:
    dataset = make_dataset()
    apart = torch.arange(90) // 6  # six images in a row are of one person and camera
    points = torch.randn(2, 18, 8, generator=torch.Generator().manual_seed(0))
    images = dataset.members("test")
    held_out = HeldOutTriplets.draw(dataset, protocol(), "test")
    found = scores_of(points, held_out, protocol(), replace(dataset, apart=apart)).queries["map@r"]
    for own, labels, scores in zip(points, dataset.labels[:, images], found, strict=True):
        asked = {"normalise": protocol().embedding.normalise, "ks": (1,)}
        wanted, without = (
            retrieval_scores(own, labels, apart=some, **asked)["map@r"] for some in (apart[images], None)
        )
        torch.testing.assert_close(scores.double(), wanted, equal_nan=True, rtol=0, atol=1e-6)
        assert not torch.allclose(wanted, without, equal_nan=True)

"""Triplets: each sampler draws from exactly the triplets that brute force lists, with the stated probabilities."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.devices import uniforms, whole
from mtlbench.errors import UserError
from mtlbench.sampling.triplets import ListedTriplets, TaskTriplets, TripletSampler, joint_triplets

# both ends can be drawn; 2 and 3 have one image each; one image is not labelled
LABELS = [0, 1, 1, -1, 2, 0, 1, 0, 3, 0, 1, 1, 1]
UNBALANCED = [1, 1, 0, 0, 0, 0, 0, 0, -1, 0, 0, 1]
Triplet = tuple[int, int, int]
labels_lists = st.lists(st.integers(-1, 3), min_size=1, max_size=12)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def probabilities(labels: list[int], anchors: str) -> dict[Triplet, float]:
    """Every triplet with its probability: labels evenly over those that can anchor, then images evenly."""
    images = [i for i, label in enumerate(labels) if label >= 0]
    able = {}
    for value in {labels[i] for i in images}:
        same = [i for i in images if labels[i] == value]
        other = [i for i in images if labels[i] != value]
        if len(same) > 1 and other and (anchors == "balanced" or value == 1):
            able[value] = (same, other)
    return {
        (a, p, n): 1 / (len(able) * len(same) * (len(same) - 1) * len(other))
        for same, other in able.values()
        for a in same
        for p in same
        if p != a
        for n in other
    }


def counted(triplets: Tensor) -> Counter[Triplet]:
    return Counter((int(a), int(p), int(n)) for a, p, n in triplets)


def assert_drawn_from(drawn: Counter[Triplet], expected: dict[Triplet, float]) -> None:
    """Every triplet of `expected` and no other occurs, as often as its probability says (chi-square, 5 sigma)."""
    assert set(drawn) == set(expected)
    number = drawn.total()
    chi_square = sum((drawn[t] - number * p) ** 2 / (number * p) for t, p in expected.items())
    freedom = len(expected) - 1
    assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("anchors", ["balanced", "positive"])
@pytest.mark.parametrize("labels", [LABELS, UNBALANCED], ids=["many values", "binary"])
def test_a_sampler_draws_all_triplets_of_brute_force_as_often_as_it_says(labels: list[int], anchors: str) -> None:
    drawn = TripletSampler(torch.tensor(labels), anchors).draw(60_000, seeded())
    assert_drawn_from(counted(drawn), probabilities(labels, anchors))


@pytest.mark.parametrize("anchors", ["balanced", "positive"])
def test_joint_triplets_are_all_those_of_brute_force_as_often_as_the_sampler_draws_them(anchors: str) -> None:
    labels = torch.tensor([LABELS, [*UNBALANCED, -1]])
    triplets, possible = joint_triplets(labels, uniforms([seeded(), seeded(1)], 4, 60_000), anchors)
    assert possible.tolist() == [True, True]
    for row, drawn in zip(labels.tolist(), triplets, strict=True):
        assert_drawn_from(counted(drawn), probabilities(row, anchors))


def test_anchors_are_balanced_over_the_labels_that_can_anchor() -> None:
    drawn = torch.tensor(UNBALANCED)[TripletSampler(torch.tensor(UNBALANCED)).draw(20_000, seeded())[:, 0]]
    assert drawn.float().mean().item() == pytest.approx(0.5, abs=5 * 0.5 / 20_000**0.5)


def test_a_label_of_few_images_anchors_in_proportion_to_them_where_that_is_asked_for() -> None:
    """Of 3 images, of 12 and of 40 under a limit of 12: one part to four to four."""
    labels = torch.tensor([0] * 3 + [1] * 12 + [2] * 40)
    drawn = labels[TripletSampler(labels, min_images=12).draw(30_000, seeded())[:, 0]]
    shares = [(drawn == value).float().mean().item() for value in (0, 1, 2)]
    assert shares == pytest.approx([1 / 9, 4 / 9, 4 / 9], abs=0.015)


def test_without_a_rare_label_the_limit_changes_no_triplet() -> None:
    labels = torch.tensor([0, 1] * 20)
    plain, limited = (TripletSampler(labels, min_images=n).draw(100, seeded()) for n in (0, 20))
    assert torch.equal(plain, limited)


def test_a_label_with_one_image_never_anchors_but_serves_as_negative() -> None:
    drawn = TripletSampler(torch.tensor(LABELS)).draw(5_000, seeded())
    assert not set(drawn[:, :2].flatten().tolist()) & {4, 8}
    assert {4, 8} <= set(drawn[:, 2].tolist())


def test_positive_anchors_have_label_1_alone() -> None:
    drawn = TripletSampler(torch.tensor(LABELS), "positive").draw(5_000, seeded())
    assert set(drawn[:, 0].tolist()) == {1, 2, 6, 10, 11, 12}


@settings(max_examples=150, deadline=None)
@given(labels_lists, st.sampled_from(["balanced", "positive"]), st.integers(0, 1000))
def test_whatever_the_labels_draws_are_valid_or_refused_when_there_is_no_triplet(
    labels: list[int], anchors: str, seed: int
) -> None:
    valid = probabilities(labels, anchors)
    if valid:
        assert set(counted(TripletSampler(torch.tensor(labels), anchors).draw(50, seeded(seed)))) <= set(valid)
    else:
        with pytest.raises(UserError, match="No triplet can be drawn"):
            TripletSampler(torch.tensor(labels), anchors)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 12), st.sampled_from(["balanced", "positive"]), st.integers(0, 1000))
def test_whatever_the_batch_joint_triplets_are_valid_or_zeros_where_there_is_none(
    data: st.DataObject, size: int, anchors: str, seed: int
) -> None:
    rows = data.draw(st.lists(st.lists(st.integers(-1, 3), min_size=size, max_size=size), min_size=1, max_size=4))
    triplets, possible = joint_triplets(torch.tensor(rows), uniforms([seeded(seed)] * len(rows), 4, 20), anchors)
    assert triplets.shape == (len(rows), 20, 3)
    assert triplets.dtype == torch.int64
    for labels, drawn, able in zip(rows, triplets, possible.tolist(), strict=True):
        valid = probabilities(labels, anchors)
        assert able == bool(valid)
        assert set(counted(drawn)) <= (set(valid) or {(0, 0, 0)})


@pytest.mark.parametrize(
    ("labels", "anchors"),
    [
        ([], "balanced"),
        ([-1, -1, -1], "balanced"),
        ([0, 0, 0], "balanced"),
        ([0, 1, 2], "balanced"),
        ([0, 0, 1], "positive"),
        ([2, 2, 0], "positive"),
        ([1, 1, -1], "positive"),
    ],
)
def test_labels_without_a_triplet_are_refused(labels: list[int], anchors: str) -> None:
    with pytest.raises(UserError, match="No triplet can be drawn"):
        TripletSampler(torch.tensor(labels, dtype=torch.int64), anchors)


def test_a_task_without_triplets_in_the_batch_leaves_the_other_tasks_theirs() -> None:
    labels = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 0], [-1, -1, -1, -1], [0, 1, 2, 3]])
    triplets, possible = joint_triplets(labels, uniforms([seeded()] * 4, 4, 200), "balanced")
    assert possible.tolist() == [False, True, False, False]
    assert not triplets[[0, 2, 3]].any()
    assert set(counted(triplets[1])) == set(probabilities([0, 1, 1, 0], "balanced"))


def test_the_same_seed_draws_the_same_triplets_and_another_others() -> None:
    labels = torch.tensor([LABELS])
    sampler = TripletSampler(labels[0])
    assert torch.equal(sampler.draw(50, seeded(3)), sampler.draw(50, seeded(3)))
    assert not torch.equal(sampler.draw(50, seeded(3)), sampler.draw(50, seeded(4)))
    one, same, other = (joint_triplets(labels, uniforms([seeded(s)], 4, 50), "balanced")[0] for s in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_generator_goes_on_from_draw_to_draw() -> None:
    sampler, generator = TripletSampler(torch.tensor(LABELS)), seeded()
    assert not torch.equal(sampler.draw(50, generator), sampler.draw(50, generator))


def test_draws_do_not_touch_torchs_own_random_numbers() -> None:
    before = torch.get_rng_state()
    TripletSampler(torch.tensor(LABELS)).draw(10, seeded())
    joint_triplets(torch.tensor([LABELS]), uniforms([seeded()], 4, 10), "balanced")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("value", [0.0, 1 - 2**-53], ids=["least", "greatest"])
def test_random_numbers_at_the_end_of_their_range_give_valid_triplets(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "rand", lambda *shape, generator, device, dtype: torch.full(shape, value, dtype=dtype))
    for labels in (LABELS, UNBALANCED, [0, 0, 1], [1, 0, 0]):
        valid = probabilities(labels, "balanced")
        assert set(counted(TripletSampler(torch.tensor(labels)).draw(1, seeded()))) <= set(valid)
        assert set(
            counted(joint_triplets(torch.tensor([labels]), uniforms([seeded()], 4, 1), "balanced")[0][0])
        ) <= set(valid)


def test_whole_numbers_come_evenly_and_stay_below_their_end() -> None:
    ends = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    for high in (1, 2, 7, 202_599, 2**40 + 1):
        assert whole(ends, high).tolist() == whole(ends, torch.tensor(high)).tolist() == [0, high - 1]
    counts = torch.bincount(whole(torch.rand(70_000, generator=seeded(), dtype=torch.float64), 7), minlength=7)
    assert ((counts - 10_000) ** 2 / 10_000).sum().item() < 6 + 5 * 12**0.5


@pytest.mark.parametrize("anchors", ["balanced", "positive"])
def test_tasks_drawn_together_draw_all_triplets_of_brute_force_as_often_as_each_alone(anchors: str) -> None:
    labels = [LABELS, [*UNBALANCED, -1], [1, -1] * 3 + [0] * 7]
    drawn = TaskTriplets(torch.tensor(labels), anchors).draw(60_000, [seeded(t) for t in range(3)])
    assert drawn.shape == (3, 3, 60_000)
    for row, found in zip(labels, drawn, strict=True):
        assert_drawn_from(counted(found.t()), probabilities(row, anchors))


def test_what_is_drawn_for_a_task_depends_on_no_other_task() -> None:
    labels = torch.tensor([LABELS, [*UNBALANCED, -1]])
    both = TaskTriplets(labels).draw(50, [seeded(1), seeded(2)])
    assert torch.equal(both[1], TaskTriplets(labels[1:]).draw(50, [seeded(2)])[0])
    assert torch.equal(both[0].t(), TripletSampler(labels[0]).draw(50, seeded(1)))


def test_listed_triplets_come_evenly_and_each_task_draws_from_its_own_list() -> None:
    lists = [torch.arange(3 * n).view(n, 3) + 100 * n for n in (1, 2, 30)]
    drawn = ListedTriplets(lists).draw(30_000, [seeded(t) for t in range(3)])
    for rows, found in zip(lists, drawn, strict=True):
        listed = {(int(a), int(p), int(n)): 1 / len(rows) for a, p, n in rows}
        if len(rows) == 1:
            assert set(counted(found.t())) == set(listed)
        else:
            assert_drawn_from(counted(found.t()), listed)


def test_the_test_questions_of_a_seed_stay_what_they_were() -> None:
    """These rows were drawn before training drew otherwise: the same questions judge old and new runs."""
    assert TripletSampler(torch.tensor(LABELS)).draw(4, seeded(5)).tolist() == [
        [2, 1, 4],
        [9, 5, 2],
        [7, 0, 1],
        [7, 9, 6],
    ]

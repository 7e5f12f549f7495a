"""Labels that are sets: alike where they share a value; scores by hand, by brute force, and what can't take them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import make_dataset, protocol
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.evaluation.retrieval import retrieval_scores
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.sampling.sets import SetTriplets
from mtlbench.sampling.triplets import set_triplets
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer, sampler_of

SETS = [{0}, {1}, {2}, {0, 1}, {0, 1, 2}, {1, 3}]
MEMBERS = torch.tensor([[value in one for value in range(4)] for one in SETS])


def jaccard(a: int, b: int) -> float:
    return len(SETS[a] & SETS[b]) / len(SETS[a] | SETS[b])


def test_an_image_that_shares_a_value_is_relevant_and_gains_the_jaccard_index_by_hand() -> None:
    """On a line from the query {0, 1}: {2}, {0, 1, 2}, {1, 3}, {0, 1}, unlabelled."""
    points = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [0.5]])
    labels = torch.tensor([3, 2, 4, 5, 3, -1])
    scores = retrieval_scores(points, labels, normalise=False, ks=(1, 2), extra=("map",), members=MEMBERS)
    of_first = {name: each[0].item() for name, each in scores.items()}
    assert of_first["hit@1"] == 0
    assert of_first["hit@2"] == 1
    assert of_first["precision@2"] == 0.5
    # R = 3: of the first three two are relevant
    assert of_first["r-precision"] == pytest.approx(2 / 3)
    assert of_first["map@r"] == pytest.approx((1 / 2 + 2 / 3) / 3)
    assert of_first["map"] == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3)
    # gains 0, 2/3, 1/3, 1; ideal 1, 2/3, 1/3
    found = (2 / 3) / math.log2(3) + (1 / 3) / math.log2(4) + 1 / math.log2(5)
    ideal = 1 + (2 / 3) / math.log2(3) + (1 / 3) / math.log2(4)
    assert of_first["ndcg"] == pytest.approx(found / ideal)
    assert all(each[5].isnan() for each in scores.values())


def test_what_is_left_out_of_a_querys_gallery_is_neither_found_nor_looked_for_by_hand() -> None:
    """On a line from {0, 1}: {0} left out, {2}, {1, 3}, {2} left out, {0, 1, 2}, {0, 1} left out."""
    points = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [6.0]])
    labels = torch.tensor([3, 0, 2, 5, 2, 4, 3])
    apart = torch.tensor([0, 0, 1, 2, 0, 3, 0])  # of the query's own group, by another camera: 2
    asked = {"normalise": False, "ks": (1, 2), "extra": ("map",), "members": MEMBERS}
    scores = retrieval_scores(points, labels, apart=apart, **asked)
    of_first = {name: each[0].item() for name, each in scores.items()}
    # R = 2, at places 2 and 3 of 3
    assert (of_first["hit@1"], of_first["hit@2"], of_first["precision@2"]) == (0, 1, 0.5)
    assert of_first["r-precision"] == 0.5
    assert of_first["map@r"] == pytest.approx((1 / 2) / 2)
    assert of_first["map"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    # gains 0, 1/3, 2/3; ideal 2/3, 1/3
    found = (1 / 3) / math.log2(3) + (2 / 3) / math.log2(4)
    assert of_first["ndcg"] == pytest.approx(found / (2 / 3 + (1 / 3) / math.log2(3)))


def test_of_images_at_one_distance_the_least_alike_comes_first() -> None:
    labels = torch.tensor([3, 3, 4, 2])
    scores = retrieval_scores(torch.zeros(4, 2), labels, normalise=False, ks=(1, 2, 3), members=MEMBERS)
    assert [scores[f"hit@{k}"][0].item() for k in (1, 2)] == [0, 1]
    found = (2 / 3) / math.log2(3) + 1 / math.log2(4)
    assert scores["ndcg"][0].item() == pytest.approx(found / (1 + (2 / 3) / math.log2(3)))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-1, 5), st.booleans(), st.booleans()), min_size=2, max_size=12),
    st.booleans(),
)
def test_every_score_of_sets_is_that_of_its_definition(
    images: list[tuple[int, int, bool, bool]], with_roles: bool
) -> None:
    points, labels = torch.tensor([[float(x)] for x, *_ in images]), torch.tensor([label for _, label, *_ in images])
    roles = {"query": torch.tensor([q for *_, q, _ in images]), "gallery": torch.tensor([g for *_, g in images])}
    scores = retrieval_scores(
        points, labels, normalise=False, ks=(1, 3), extra=("map",), members=MEMBERS, **(roles if with_roles else {})
    )
    for i, (x, label, asked, _) in enumerate(images):
        ranked = sorted(
            (abs(x - y), jaccard(label, other))
            for j, (y, other, _, held) in enumerate(images)
            if other >= 0 and j != i and label >= 0 and (held or not with_roles)
        )
        worth = [gain for _, gain in ranked]
        hits = [gain > 0 for gain in worth]
        r = sum(hits)
        if label < 0 or not r or (with_roles and not asked):
            assert all(of[i].isnan() for of in scores.values())
            continue
        averages = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]

        def dcg(gains: list[float]) -> float:
            return sum(gain / math.log2(n + 2) for n, gain in enumerate(gains))

        expected = {
            "hit@1": float(hits[0]), "hit@3": float(any(hits[:3])),
            "precision@1": float(hits[0]), "precision@3": sum(hits[:3]) / 3,
            "map@r": sum(averages[n] for n in range(r) if hits[n]) / r, "r-precision": sum(hits[:r]) / r,
            "map": sum(averages[n] for n in range(len(hits)) if hits[n]) / r,
            "ndcg": dcg(worth) / dcg(sorted(worth, reverse=True)),
        }  # fmt: skip
        assert {name: of[i].item() for name, of in scores.items()} == pytest.approx(expected)


def test_sets_of_one_value_each_score_as_plain_labels_do() -> None:
    generator = torch.Generator().manual_seed(0)
    labels, points = torch.randint(-1, 4, (200,), generator=generator), torch.randn(200, 6, generator=generator)
    plain = retrieval_scores(points, labels, normalise=True, extra=("map",))
    sets = retrieval_scores(points, labels, normalise=True, extra=("map",), members=torch.eye(4).bool())
    for name, each in plain.items():
        assert torch.allclose(each, sets[name], 0, 0, equal_nan=True), name


def possible(labels: Tensor, query: Tensor, gallery: Tensor) -> set[tuple[int, int, int]]:
    n = range(len(labels))
    found = set()
    for a in n:
        for p in n:
            for m in n:
                if min(labels[a], labels[p], labels[m]) < 0 or a == p or not (query[a] and gallery[p] and gallery[m]):
                    continue
                one, two, three = (SETS[int(labels[i])] for i in (a, p, m))
                if one & two and not one & three:
                    found.add((a, p, m))
    return found


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(-1, 5), st.booleans(), st.booleans()), min_size=2, max_size=8), st.booleans())
def test_triplets_share_a_value_with_the_positive_and_none_with_the_negative(
    images: list[tuple[int, bool, bool]], with_roles: bool
) -> None:
    labels, query, gallery = (torch.tensor(part) for part in zip(*images, strict=True))
    if not with_roles:
        query = gallery = torch.ones(len(images), dtype=torch.bool)
    wanted = possible(labels, query, gallery)
    if not wanted:
        with pytest.raises(UserError, match="No triplet can be drawn"):
            SetTriplets(labels, MEMBERS, query, gallery)
        return
    drawn = SetTriplets(labels, MEMBERS, query, gallery).draw(6000, torch.Generator().manual_seed(0))
    assert {tuple(row) for row in drawn.tolist()} == wanted


def test_values_anchor_evenly_and_one_batch_gives_the_triplets_of_its_own_images() -> None:
    labels = torch.tensor([0] * 60 + [1] * 6 + [2] * 6)
    drawn = SetTriplets(labels, MEMBERS).draw(6000, torch.Generator().manual_seed(1))
    assert (torch.bincount(labels[drawn[:, 0]]) / 6000 - 1 / 3).abs().max() < 0.03
    few = SetTriplets(labels, MEMBERS, min_images=12).draw(6000, torch.Generator().manual_seed(1))
    assert torch.allclose(torch.bincount(labels[few[:, 0]]) / 6000, torch.tensor([0.5, 0.25, 0.25]), atol=0.03)
    draws = torch.rand(4, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows, any_ = set_triplets(labels[::12], MEMBERS, draws)
    everyone = torch.ones(6, dtype=torch.bool)
    assert any_
    assert {tuple(row) for row in rows.tolist()} <= possible(labels[::12], everyone, everyone)
    rows, any_ = set_triplets(torch.tensor([3, 4, 0]), MEMBERS, draws)
    assert not any_
    assert not rows.any()


def with_sets() -> tuple[object, Tensor]:
    """The tiny data set, whose second task has sets: the shapes 0, 1 and both."""
    dataset = make_dataset()
    members = torch.tensor([[True, False, False], [False, True, False], [True, False, True]])
    return replace(dataset, set_members=(None, members)), members


@pytest.mark.parametrize("sampling", ["joint", "per-task"])
def test_a_network_trains_on_sets_and_a_plain_task_beside_them_draws_what_it_drew(sampling: str) -> None:
    dataset, members = with_sets()
    benchmark = protocol(f"train.sampling='{sampling}'")
    generators = [
        {task: torch.Generator().manual_seed(7 + i) for i, task in enumerate(("colour", "shape"))} for _ in "ab"
    ]
    plain = sampler_of(benchmark, make_dataset()).draw(generators[0])
    batch = sampler_of(benchmark, dataset).draw(generators[1])  # type: ignore[arg-type]
    assert batch.triplets is not None
    assert plain.triplets is not None
    if sampling == "per-task":
        assert torch.equal(batch.labels[0], plain.labels[0])
    shapes = batch.labels[1][batch.triplets[1]]
    shares = (members[shapes[:, 0]] & members[shapes[:, 1]]).any(1)
    apart = (members[shapes[:, 0]] & members[shapes[:, 2]]).any(1)
    assert shares.all()
    assert not apart.any()
    held_out = HeldOutTriplets.draw(dataset, benchmark, "test")  # type: ignore[arg-type]
    assert torch.equal(held_out.triplets[0], HeldOutTriplets.draw(make_dataset(), benchmark, "test").triplets[0])
    trainer = Trainer(parse_method("shared"), benchmark, dataset, 0, "fp32")  # type: ignore[arg-type]
    trainer.run()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "loss.name='pml:SupConLoss'",
            "The loss pml:SupConLoss needs one label per image, and those of 'shape' are sets",
        ),
        ("loss.mining='hard'", "loss.mining = 'hard' looks for images of another label, and labels here are sets"),
        (
            "train.sampling='m-per-class'",
            "train.sampling = 'm-per-class' needs one label per image, and those of 'shape'",
        ),
    ],
)
def test_what_needs_one_label_an_image_is_refused(setting: str, said: str) -> None:
    dataset, _ = with_sets()
    with pytest.raises(UserError) as refused:
        Trainer(parse_method("shared"), protocol(setting), dataset, 0, "fp32")  # type: ignore[arg-type]
    assert str(refused.value).startswith(said)

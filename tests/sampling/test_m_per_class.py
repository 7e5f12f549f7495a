"""Class-balanced batches: how many values, how many images, and what is refused."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.sampling import Batch, Source
from mtlbench.sampling.m_per_class import MPerClass

TASKS = ("a", "b")


def source_of(labels: Tensor, triplets: int = 8) -> Source:
    def load(index: Tensor, generator: torch.Generator) -> Tensor:
        return index.float().view(-1, 1, 1, 1).expand(-1, 3, 1, 1)  # an image shows its number

    return Source(labels, TASKS[: len(labels)], load, triplets=triplets, joint_triplets=16)


def draw(source: Source, seed: int = 0, images: int = 4) -> Batch:
    generators = {task: torch.Generator().manual_seed(seed + t) for t, task in enumerate(source.tasks)}
    return MPerClass(source, images=images).draw(generators)


def numbers(batch: Batch) -> list[int]:
    return [int(n) for n in batch.images[:, 0, 0, 0]]


def test_each_tasks_part_holds_m_different_images_of_each_of_several_values():
    labels = torch.stack([torch.arange(60) % 10, torch.arange(60) % 4])
    batch = draw(source_of(labels))
    assert batch.joint
    assert torch.equal(batch.labels, labels[:, numbers(batch)])
    for t, part in enumerate((numbers(batch)[:24], numbers(batch)[24:])):
        counts = Counter(labels[t, part].tolist())
        # 6 groups of 4: of 6 different values out of 10; all 4 values once, and 2 of them again
        assert sorted(counts.values()) == ([4] * 6 if t == 0 else [4, 4, 8, 8])
    first = numbers(batch)[:24]
    assert len(set(first)) == 24


def test_values_and_images_come_evenly():
    labels = (torch.arange(40) % 5)[None]
    seen = Counter(n for seed in range(200) for n in numbers(draw(source_of(labels, triplets=4), seed)))
    assert sum(seen.values()) == 200 * 12
    assert min(seen.values()) > 35  # 60 are expected of each
    assert max(seen.values()) < 90


def test_a_value_with_fewer_images_gives_them_all_and_some_twice():
    labels = torch.tensor([[0, 0, 0, 1, 1]])
    batch = draw(source_of(labels), images=4)
    for value, group in zip((0, 1), ({0, 1, 2}, {3, 4}), strict=True):
        drawn = [n for n in numbers(batch) if labels[0, n] == value]
        assert len(drawn) == 12
        assert set(drawn) == group


def test_an_image_without_a_label_or_of_a_lone_label_comes_for_no_task_that_it_has_none_of():
    labels = torch.tensor([[0, 0, 1, 1, -1, 2]])
    assert {n for seed in range(30) for n in numbers(draw(source_of(labels), seed))} == {0, 1, 2, 3}


def test_every_task_can_form_triplets():
    labels = torch.stack([torch.arange(60) % 20, (torch.arange(60) < 3).long()])
    for seed in range(20):
        batch = draw(source_of(labels), seed)
        assert batch.possible.tolist() == [True, True]
        assert batch.triplets.shape == (2, 16, 3)
        for t in range(2):
            anchor, positive, negative = batch.labels[t][batch.triplets[t]].unbind(1)
            assert (anchor == positive).all()
            assert (anchor != negative).all()


def test_the_same_generators_draw_the_same_batch():
    source = source_of(torch.stack([torch.arange(60) % 10, torch.arange(60) % 4]))
    assert numbers(draw(source)) == numbers(draw(source))
    assert numbers(draw(source)) != numbers(draw(source, seed=7))


def test_what_gives_no_pair_is_refused():
    with pytest.raises(UserError, match="images=1 must be at least 2"):
        MPerClass(source_of(torch.tensor([[0, 0, 1, 1]])), images=1)
    for labels in ([0, 1, 2], [0, 0, -1], [-1, -1, -1]):
        with pytest.raises(UserError, match="the task 'a' needs two training images of one label and one of another"):
            MPerClass(source_of(torch.tensor([labels])))


def test_sets_of_different_images_come_as_often_as_chance_has_it():
    """Of 5 images of a value, each of the 10 pairs; of three values, each of the 6 orders of the two that are drawn."""
    labels = (torch.arange(15) % 3)[None]
    sampler = MPerClass(source_of(labels, triplets=1), images=2)  # 3 images: one pair, and one image of another value
    generators = {"a": torch.Generator().manual_seed(0)}
    drawn = [numbers(sampler.draw(generators)) for _ in range(6000)]
    assert all(a % 3 == b % 3 != c % 3 for a, b, c in drawn)
    for counts, kinds in (
        (Counter(frozenset((a, b)) for a, b, _ in drawn), 30),
        (Counter((a % 3, c % 3) for a, _, c in drawn), 6),
        (Counter(c for _, _, c in drawn), 15),
    ):
        assert len(counts) == kinds
        expected = 6000 / kinds
        chi_square = sum((n - expected) ** 2 / expected for n in counts.values())
        assert abs(chi_square - (kinds - 1)) < 5 * (2 * (kinds - 1)) ** 0.5


def test_what_is_drawn_for_a_task_depends_on_no_other_task():
    rows = torch.stack([torch.arange(60) % 10, torch.arange(60) % 4])
    both = numbers(draw(source_of(rows)))
    alone = MPerClass(source_of(rows[:1])).draw({"a": torch.Generator().manual_seed(0)})
    assert both[:24] == numbers(alone)

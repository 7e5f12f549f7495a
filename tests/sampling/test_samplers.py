"""Samplers: batches of the right shape from the training split, balanced where they say so."""

from __future__ import annotations

import pytest
import torch
from support import make_dataset, protocol

from mtlbench.devices import named_generator
from mtlbench.errors import UserError
from mtlbench.sampling.contract import Source
from mtlbench.sampling.m_per_class import MPerClass
from mtlbench.training.loop import sampler_of

CPU = torch.device("cpu")


def generators(tasks: tuple[str, ...], seed: int = 0) -> dict[str, torch.Generator]:
    return {task: named_generator(CPU, seed, task) for task in tasks}


@pytest.mark.parametrize("sampling", ["joint", "per-task", "m-per-class", "m-per-class[images=2]"])
def test_a_batch_holds_training_images_with_their_labels_and_right_triplets(sampling):
    dataset = make_dataset()
    sampler = sampler_of(protocol(f"train.sampling='{sampling}'"), dataset)
    batch = sampler.draw(generators(dataset.tasks))
    tasks, images = batch.labels.shape
    assert batch.joint == (sampling != "per-task")
    assert batch.images.shape[:-3] == ((images,) if batch.joint else (tasks, images))
    assert (images if batch.joint else tasks * images) == sampler.images_per_step
    assert batch.triplets is not None
    assert batch.possible is not None
    assert batch.possible.all()
    anchor, positive, negative = (batch.labels.gather(1, legs) for legs in batch.triplets.unbind(2))
    assert (anchor == positive).all()
    assert (anchor != negative).all()
    assert (batch.labels >= 0).all()


def source(labels: torch.Tensor, triplets: int = 8) -> tuple[Source, list[torch.Tensor]]:
    drawn: list[torch.Tensor] = []

    def load(index: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        drawn.append(index)
        return torch.zeros(len(index), 3, 4, 4)

    return Source(labels, tuple(f"t{i}" for i in range(len(labels))), load, triplets), drawn


def test_m_per_class_draws_m_different_images_of_each_value():
    labels = torch.arange(200).remainder(20)[None]
    made, drawn = source(labels)
    MPerClass(made, images=4).draw(generators(made.tasks))
    (index,) = drawn
    assert len(index) == 24
    assert len(set(index.tolist())) == 24
    assert torch.unique(labels[0, index], return_counts=True)[1].tolist() == [4] * 6


def test_every_image_of_a_value_comes_as_often():
    labels = torch.cat([torch.zeros(10), torch.ones(500)]).long()[None]
    made, drawn = source(labels)
    sampler, random = MPerClass(made, images=4), generators(made.tasks)
    for _ in range(400):
        sampler.draw(random)
    counts = torch.bincount(torch.cat(drawn), minlength=510)
    assert counts[:10].sum() == counts[10:].sum()  # both values are drawn in every batch, 12 images each
    assert counts[:10].min() / counts[:10].max() > 0.8


def test_a_value_of_few_images_gives_all_of_them_and_some_twice():
    labels = torch.cat([torch.zeros(3), torch.ones(50)]).long()[None]
    made, drawn = source(labels, triplets=4)
    MPerClass(made, images=6).draw(generators(made.tasks))
    rare = drawn[0][labels[0, drawn[0]] == 0]
    assert set(rare.tolist()) == {0, 1, 2}
    assert len(rare) == 6


def test_what_cannot_be_drawn_is_refused_with_the_task():
    with pytest.raises(UserError, match="the task 't0' needs two training images of one label and one of another"):
        MPerClass(source(torch.zeros(1, 9).long())[0])
    with pytest.raises(UserError, match="images=1 must be at least 2"):
        MPerClass(source(torch.arange(9)[None] % 2)[0], images=1)


def test_the_order_of_the_tasks_plays_no_part():
    one, other = make_dataset(), make_dataset(("shape", "colour"))
    for sampling in ("joint", "m-per-class"):
        first, second = (
            sampler_of(protocol(f"train.sampling='{sampling}'"), d).draw(generators(d.tasks)) for d in (one, other)
        )
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.labels, second.labels.flip(0))

"""A batch: images as networks see them, moved and mirrored at random where asked."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtlbench.data.dataset import Dataset
from mtlbench.data.pixels import gathered, moved


def dataset(images: int = 5, height: int = 6, width: int = 9, pixels: str = "unit", seed: int = 0) -> Dataset:
    random = np.random.default_rng(seed)
    return Dataset(
        images=torch.from_numpy(random.integers(0, 256, (images, height, width, 3), dtype=np.uint8)),
        labels=torch.zeros(1, images, dtype=torch.int64),
        split=torch.arange(images) % 3,
        tasks=("t",),
        values=(("no", "yes"),),
        ordered=(False,),
        pixels=pixels,
        facts={},
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def raw(data: Dataset, index: Tensor, **options: Any) -> Tensor:
    """Return a batch of `unit` pixels turned back into uint8, (n, H, W, 3)."""
    return (data.batch(index, **options) * 127.5 + 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


def shifted(image: Tensor, down: int, right: int, reach: int) -> Tensor:
    """Return the window of an edge-padded image that lies `down` and `right` of the image."""
    height, width = image.shape[:2]
    padded = np.pad(image.numpy(), ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    return torch.from_numpy(padded[reach + down :, reach + right :][:height, :width].copy())


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ("unit", lambda r, g, b: [r / 127.5 - 1, g / 127.5 - 1, b / 127.5 - 1]),
        (
            "imagenet",
            lambda r, g, b: [(r / 255 - 0.485) / 0.229, (g / 255 - 0.456) / 0.224, (b / 255 - 0.406) / 0.225],
        ),
        ("bgr", lambda r, g, b: [(b - 102.98) * 0.0078125, (g - 115.95) * 0.0078125, (r - 122.77) * 0.0078125]),
    ],
)
def test_pixels_are_normalised_as_the_protocol_says(
    pixels: str, expected: Callable[[Tensor, Tensor, Tensor], list[Tensor]]
) -> None:
    data = dataset(pixels=pixels)
    by_hand = torch.stack(expected(*data.images.double().unbind(3)), dim=1)
    batch = data.batch(torch.arange(5))
    assert batch.dtype == torch.float32
    torch.testing.assert_close(batch.double(), by_hand, rtol=0, atol=2e-6)


@pytest.mark.parametrize("pixels", ["unit", "bgr"])
@pytest.mark.parametrize("options", [{}, {"flip": True}, {"flip": True, "shift": 2}], ids=["plain", "flip", "both"])
def test_a_batch_is_images_by_channels_by_rows_by_columns_and_channels_last_in_memory(
    pixels: str, options: dict[str, Any]
) -> None:
    batch = dataset(pixels=pixels).batch(torch.tensor([0, 3]), seeded(), **options)
    assert batch.shape == (2, 3, 6, 9)
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_holds_the_images_asked_for_in_that_order() -> None:
    data = dataset()
    index = torch.tensor([4, 0, 4, 2])
    assert torch.equal(raw(data, index), data.images[index])


def test_without_a_generator_nothing_is_moved_or_mirrored() -> None:
    data, index = dataset(), torch.arange(5)
    assert torch.equal(data.batch(index, None, flip=True, shift=3), data.batch(index))


def test_a_generator_alone_changes_nothing() -> None:
    data, index = dataset(), torch.arange(5)
    assert torch.equal(data.batch(index, seeded()), data.batch(index))


def test_about_half_of_the_images_are_mirrored_left_to_right_and_the_rest_are_as_they_are() -> None:
    data = dataset()
    index = torch.arange(5).repeat(200)
    batch = raw(data, index, generator=seeded(), flip=True)
    same = (batch == data.images[index]).flatten(1).all(1)
    mirrored = (batch == data.images[index].flip(2)).flatten(1).all(1)
    assert torch.equal(same, ~mirrored)
    assert 420 < int(mirrored.sum()) < 580


@pytest.mark.parametrize(("height", "width"), [(6, 9), (9, 6), (3, 3)])
def test_a_shift_moves_each_image_by_its_own_whole_pixels_and_repeats_its_edge(height: int, width: int) -> None:
    data = dataset(images=2, height=height, width=width)
    index = torch.arange(2).repeat(300)
    batch = raw(data, index, generator=seeded(), shift=2)
    moves = list(itertools.product(range(-2, 3), repeat=2))
    seen = set()
    for i, image in zip(index.tolist(), batch, strict=True):
        matching = [m for m in moves if torch.equal(image, shifted(data.images[i], m[0], m[1], 2))]
        assert len(matching) == 1
        seen.add((i, matching[0]))
    assert len(seen) == 50  # every move of every image


def test_shifts_and_mirrors_go_together() -> None:
    data = dataset(images=1)
    batch = raw(data, torch.zeros(400, dtype=torch.int64), generator=seeded(), flip=True, shift=1)
    plain = [shifted(data.images[0], down, right, 1) for down, right in itertools.product((-1, 0, 1), repeat=2)]
    possible = [*plain, *(image.flip(1) for image in plain)]
    kinds = {next(k for k, image in enumerate(possible) if torch.equal(image, drawn)) for drawn in batch}
    assert len(kinds) == 18


def test_the_same_seed_augments_the_same_way_and_another_differently() -> None:
    data, index = dataset(), torch.arange(5).repeat(4)
    one, same, other = (data.batch(index, seeded(s), flip=True, shift=2) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_augmenting_leaves_the_data_set_as_it_is() -> None:
    data = dataset()
    data.batch(torch.arange(5), seeded(), flip=True, shift=2)
    assert torch.equal(data.images, dataset().images)


def test_the_members_of_the_splits_are_all_images_once() -> None:
    assert [dataset(7).members(s).tolist() for s in ("train", "val", "test")] == [[0, 3, 6], [1, 4], [2, 5]]


@pytest.mark.parametrize("reach", [0, 1, 3, 12])
def test_copying_images_one_by_one_and_gathering_them_give_the_same(reach: int) -> None:
    images, random = dataset().images, seeded()
    index, mirrored = torch.randint(5, (300,), generator=random), torch.randint(2, (300,), generator=random)
    down, right = torch.randint(-reach, reach + 1, (2, 300), generator=random)
    copied = moved(images, index, down, right, mirrored)
    assert torch.equal(copied, gathered(images, index, down, right, mirrored))
    padded = [
        shifted(images[i], y, x, 12) for i, y, x in zip(index.tolist(), down.tolist(), right.tolist(), strict=True)
    ]
    by_hand = [image.flip(1) if m else image for image, m in zip(padded, mirrored.tolist(), strict=True)]
    assert torch.equal(copied, torch.stack(by_hand))


def test_each_of_several_generators_decides_over_its_own_part() -> None:
    data, index = dataset(), torch.arange(5).repeat(4)
    parts = [data.batch(index[10 * g : 10 * g + 10], seeded(g), flip=True, shift=2) for g in range(2)]
    assert torch.equal(data.batch(index, [seeded(0), seeded(1)], flip=True, shift=2), torch.cat(parts))


def test_a_batch_is_the_same_whatever_the_number_of_threads() -> None:
    before, index = torch.get_num_threads(), torch.arange(5).repeat(40)
    try:
        batches = []
        for number in (1, 2, 7):
            torch.set_num_threads(number)
            batches.append(dataset().batch(index, seeded(), flip=True, shift=2))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(batches[0], batches[1])
    assert torch.equal(batches[0], batches[2])

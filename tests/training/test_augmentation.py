"""Augmentations: shape and type stay, chance comes from the generator, and each does what it says."""

from __future__ import annotations

import pytest
import torch
from support import make_dataset, protocol

from mtlbench.augmentation import colour_jitter, flip, random_crop, random_erasing, read_augmentations, shift
from mtlbench.registry import AUGMENTATIONS
from mtlbench.training.loop import sampler_of

IMAGES = torch.randint(0, 256, (40, 3, 20, 24), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_shape_and_type_stay_and_the_generator_decides(name):
    change = read_augmentations([name])
    assert change is not None
    one, same, other = (change(IMAGES, seeded(s)) for s in (0, 0, 1))
    assert one.shape == IMAGES.shape
    assert one.dtype == torch.uint8
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_nothing_changes_at_the_dials_zero():
    assert torch.equal(flip(IMAGES, seeded(), probability=0), IMAGES)
    assert torch.equal(shift(IMAGES, seeded(), pixels=0), IMAGES)
    assert torch.equal(colour_jitter(IMAGES, seeded(), strength=0), IMAGES)
    assert torch.equal(random_crop(IMAGES, seeded(), smallest=1), IMAGES)
    assert torch.equal(random_erasing(IMAGES, seeded(), probability=0), IMAGES)


def test_flip_mirrors_about_half():
    changed = flip(IMAGES, seeded())
    mirrored = (changed == IMAGES.flip(3)).flatten(1).all(1)
    assert (mirrored | (changed == IMAGES).flatten(1).all(1)).all()
    assert 10 < mirrored.sum() < 30


def test_shift_moves_the_whole_image_and_repeats_its_edge():
    ramp = torch.arange(24, dtype=torch.uint8).expand(40, 3, 20, 24)
    moved = shift(ramp, seeded(), pixels=3)
    offsets = moved[:, 0, 10, 12].int() - 12
    assert set(offsets.tolist()) == set(range(-3, 4))
    wanted = (torch.arange(24) + offsets[:, None]).clamp(0, 23)
    assert torch.equal(moved[:, 0, 10].long(), wanted)


def test_erasing_paints_grey_rectangles_of_at_most_the_share():
    erased = (random_erasing(IMAGES * 0, seeded(), probability=1, largest=0.25) == 127).float().mean((1, 2, 3))
    assert (erased > 0).float().mean() > 0.9
    assert erased.max() < 0.4  # whole pixels


def test_a_crop_shows_a_part_of_the_image_larger():
    ramp = torch.arange(0, 240, 10, dtype=torch.uint8).expand(40, 3, 20, 24)
    cut = random_crop(ramp, seeded(), smallest=0.5).float()
    slope = (cut[:, 0, 10, 18] - cut[:, 0, 10, 6]) / 12
    assert slope.min() >= 4.5
    assert slope.max() <= 10.5


def test_a_run_applies_them_in_order_after_flip_and_shift():
    dataset = make_dataset()
    plain, jittered = (
        sampler_of(protocol(f"train.augment={augment}"), dataset).draw({t: seeded() for t in dataset.tasks})
        for augment in ("[]", "['colour-jitter[strength=0.5]']")
    )
    assert plain.images.shape == jittered.images.shape
    assert not torch.equal(plain.images, jittered.images)

"""Augmentations: shape, type, chance from the generator alone, and what each does by hand."""

from __future__ import annotations

import pytest
import torch
from support import make_dataset, protocol
from torch import Tensor

from mtlbench.augmentation import colour_jitter, flip, random_crop, random_erasing, read_augmentations, shift
from mtlbench.plugins import load_plugins
from mtlbench.registry import AUGMENTATIONS
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

load_plugins()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(number: int = 16) -> Tensor:
    return torch.randint(0, 256, (number, 3, 12, 10), generator=generator(9), dtype=torch.uint8)


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_shape_and_type_stay_and_all_chance_is_the_generators(name):
    apply = read_augmentations([name])
    given = images()
    kept = given.clone()
    one, same, other = apply(given, generator()), apply(given, generator()), apply(given, generator(1))
    assert one.shape == given.shape
    assert one.dtype == torch.uint8
    assert torch.equal(given, kept)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one, given)
    assert apply(given[:1], generator()).shape == given[:1].shape  # one image is a batch too


def test_what_changes_nothing_changes_nothing():
    given = images()
    assert torch.equal(flip(given, generator(), probability=0), given)
    assert torch.equal(flip(given, generator(), probability=1), given.flip(3))
    assert torch.equal(shift(given, generator(), pixels=0), given)
    assert torch.equal(colour_jitter(given, generator(), strength=0), given)
    assert torch.equal(random_crop(given, generator(), smallest=1), given)
    assert torch.equal(random_erasing(given, generator(), probability=0), given)


def test_a_shift_moves_by_whole_pixels_and_repeats_the_edge():
    given = images(40)
    for before, after in zip(given, shift(given, generator(), pixels=2), strict=True):
        padded = torch.nn.functional.pad(before.float()[None], (2, 2, 2, 2), mode="replicate")[0].byte()
        places = [padded[:, y : y + 12, x : x + 10] for y in range(5) for x in range(5)]
        assert any(torch.equal(after, place) for place in places)


def test_erasing_paints_one_grey_rectangle_of_limited_area():
    given = torch.zeros(200, 3, 40, 40, dtype=torch.uint8)
    found = random_erasing(given, generator(), probability=1, largest=0.25)
    painted = (found == 127).all(1)
    assert ((found == 0) | (found == 127)).all()
    for one in painted:
        rows, columns = one.any(1).sum(), one.any(0).sum()
        assert one.sum() == rows * columns
        assert one.sum() <= (0.25**0.5 * 40 + 1) ** 2 * 1.3


def test_jitter_keeps_grey_grey_and_within_its_strength():
    given = torch.full((50, 3, 4, 4), 100, dtype=torch.uint8)
    found = colour_jitter(given, generator(), strength=0.2)
    assert (found == found[:, :1, :1, :1]).all()
    assert found.min() >= 80
    assert found.max() <= 120


def test_a_run_is_augmented_in_order_and_after_flip_and_shift(monkeypatch):
    plain, seen = make_dataset(), []
    for name in ("flip", "colour-jitter"):
        function = AUGMENTATIONS.get(name).target

        def told(images: Tensor, generator: torch.Generator, *, function=function, name=name) -> Tensor:
            seen.append((name, images.dtype, images.shape[1:]))
            return function(images, generator)

        monkeypatch.setitem(AUGMENTATIONS.entries, name, AUGMENTATIONS.get(name).__class__(name, told, (), "", ""))
    benchmark = protocol("train.augment=['colour-jitter', 'flip']")
    Trainer(parse_method("shared"), benchmark, plain, 0, "fp32").step()
    each = [("colour-jitter", torch.uint8, (3, 24, 24)), ("flip", torch.uint8, (3, 24, 24))]
    assert seen == each * 2  # once for each task


def test_an_augmented_run_trains():
    specs = "['colour-jitter[strength=0.4]', 'random-crop[smallest=0.8]', 'random-erasing']"
    run = Trainer(parse_method("shared"), protocol(f"train.augment={specs}"), make_dataset(), 0, "fp32")
    run.run()
    assert run.state.step == 6

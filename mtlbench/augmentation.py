"""Augmentations: functions that change a batch of training images, all chance from one generator.

Each takes (n, 3, H, W) uint8 images, a generator on their device, and options as keyword-only arguments; it returns
images of the same shape and type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mtlbench.blame import breach
from mtlbench.options import read_spec
from mtlbench.registry import AUGMENTATIONS, check_arguments, origin_of, summary_of
from mtlbench.returned import check_augmented, check_chance
from mtlbench.unsaved import print_of

Augmentation = Callable[..., Tensor]
Share = Annotated[float, Field(ge=0, le=1)]


def register_augmentation(name: str) -> Callable[[Augmentation], Augmentation]:
    """Decorator: make a function known as `name`, for a benchmark's `train.augment`.

    All its chance comes from the generator, and it keeps no memory: a run refuses one of which that is not so.

    >>> from mtlbench import register_augmentation
    >>> @register_augmentation("inverted")
    ... def inverted(images, generator):
    ...     '''Inverts every image.'''
    ...     return 255 - images

    Raises:
        UserError: the name is taken.
    """

    def decorate(function: Augmentation) -> Augmentation:
        check_arguments(AUGMENTATIONS.kind, name, function, ["images", "generator"], origin_of(function))
        AUGMENTATIONS.add(name, function, summary=summary_of(function), origin=origin_of(function))
        return function

    return decorate


def read_augmentations(specs: Sequence[str]) -> Callable[[Tensor, torch.Generator], Tensor] | None:
    """Return what applies augmentations, `name[option=value]` each, in order; None where there are none.

    Raises:
        UserError: an unknown name or option.
    """
    steps = [(entry.target, options) for entry, options in (read_spec(AUGMENTATIONS, spec) for spec in specs)]
    if not steps:
        return None

    def apply(images: Tensor, generator: torch.Generator) -> Tensor:
        for step, options in steps:
            images = check_augmented(step, step(images, generator, **options), images)
        return images

    return apply


def check_augmentations(specs: Sequence[str], images: Tensor) -> None:
    """Refuse augmentations whose result depends on more than images, options and the generator.

    Args:
        specs: `name[option=value]` each.
        images: (n, 3, H, W) uint8; they are left as they are.

    Raises:
        ContractError: one draws by another chance, or remembers something.
    """
    for spec in specs:
        entry, options = read_spec(AUGMENTATIONS, spec)
        change, seen = entry.target, []
        for _ in range(2):
            generator = torch.Generator(images.device).manual_seed(0)
            given = partial(change, images.clone(), generator, **options)
            seen.append((print_of(check_chance(AUGMENTATIONS, change, given)), print_of(change)))
        if seen[0] != seen[1]:
            must = "change equal images alike under equal generators (draw with the given one alone, keep no memory)"
            raise breach(AUGMENTATIONS, change, must, "in another way the second time", change)


def _uniform(images: Tensor, generator: torch.Generator, low: float, high: float) -> Tensor:
    """One number for each image, (n, 1, 1, 1)."""
    draws = torch.rand(len(images), generator=generator, device=images.device)
    return (low + (high - low) * draws)[:, None, None, None]


def _rounded(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


@register_augmentation("flip")
def flip(images: Tensor, generator: torch.Generator, *, probability: Share = 0.5) -> Tensor:
    """Mirrors images; `train.flip` does the same at one half, at no further cost."""
    return torch.where(_uniform(images, generator, 0, 1) < probability, images.flip(3), images)


@register_augmentation("shift")
def shift(images: Tensor, generator: torch.Generator, *, pixels: Annotated[int, Field(ge=0)] = 4) -> Tensor:
    """Moves images by up to some pixels each way, their edge repeated; `train.shift` does the same while it reads."""
    n, _, height, width = images.shape
    move = torch.randint(-pixels, pixels + 1, (2, n, 1), generator=generator, device=images.device)
    rows = (torch.arange(height, device=images.device) + move[0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) + move[1]).clamp(0, width - 1)
    first = torch.arange(n, device=images.device)[:, None, None]
    return images[first, :, rows[:, :, None], columns[:, None, :]].movedim(3, 1)


@register_augmentation("colour-jitter")
def colour_jitter(images: Tensor, generator: torch.Generator, *, strength: Share = 0.2) -> Tensor:
    """Changes brightness, contrast and saturation by factors between 1 - strength and 1 + strength, in this order."""
    values = images.float() * _uniform(images, generator, 1 - strength, 1 + strength)
    grey = values.mean((1, 2, 3), keepdim=True)
    values = grey + (values - grey) * _uniform(images, generator, 1 - strength, 1 + strength)
    luma = (values * torch.tensor([0.299, 0.587, 0.114], device=images.device)[:, None, None]).sum(1, keepdim=True)
    return _rounded(luma + (values - luma) * _uniform(images, generator, 1 - strength, 1 + strength))


@register_augmentation("random-crop")
def random_crop(images: Tensor, generator: torch.Generator, *, smallest: Annotated[Share, Field(gt=0)] = 0.7) -> Tensor:
    """Cuts out a part of each image, between `smallest` and all of each side, and enlarges it to the full size."""
    side = _uniform(images, generator, smallest, 1).flatten()
    room = 1 - side
    x = (2 * _uniform(images, generator, 0, 1).flatten() - 1) * room
    y = (2 * _uniform(images, generator, 0, 1).flatten() - 1) * room
    zero = torch.zeros_like(side)
    matrices = torch.stack([torch.stack([side, zero, x], -1), torch.stack([zero, side, y], -1)], 1).view(-1, 2, 3)
    grid = torch.nn.functional.affine_grid(matrices, list(images.shape), align_corners=False)
    cut = torch.nn.functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return _rounded(cut)


@register_augmentation("random-erasing")
def random_erasing(
    images: Tensor, generator: torch.Generator, *, probability: Share = 0.5, largest: Share = 0.33
) -> Tensor:
    """Paints a rectangle of up to `largest` of the area grey (Zhong et al., AAAI 2020, arXiv 1708.04896)."""
    _, _, height, width = images.shape
    area = _uniform(images, generator, 0.02, max(largest, 0.02))
    ratio = torch.exp(_uniform(images, generator, math.log(0.3), math.log(1 / 0.3)))
    tall, wide = (area * ratio).sqrt().clamp(max=1) * height, (area / ratio).sqrt().clamp(max=1) * width
    top = _uniform(images, generator, 0, 1) * (height - tall)
    left = _uniform(images, generator, 0, 1) * (width - wide)
    rows = torch.arange(height, device=images.device)[None, None, :, None]
    columns = torch.arange(width, device=images.device)[None, None, None, :]
    inside = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
    erased = inside & (_uniform(images, generator, 0, 1) < probability)
    return torch.where(erased, torch.full_like(images, 127), images)

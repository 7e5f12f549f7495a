"""Pixels as networks see them: images moved and mirrored, channels normalised and ordered by the protocol."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scale:
    """The means and standard deviations that normalise the channels, and the order of channels.

    Attributes:
        mean: of R, G, B on the scale 0 to 255.
        deviation: the standard deviations on that scale.
        bgr: networks get B, G, R.
    """

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    bgr: bool = False


PIXELS = {
    "unit": Scale((127.5,) * 3, (127.5,) * 3),  # to -1 ... 1
    "imagenet": Scale((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),  # torchvision's weights expect this
    "bgr": Scale((122.77, 115.95, 102.98), (1 / 0.0078125,) * 3, bgr=True),  # the modulation paper's code
}


def normalise(images: Tensor, pixels: str) -> Tensor:
    """Return images as networks see them, channels last in memory: (n, H, W, 3) uint8 RGB -> (n, 3, H, W) float32.

    Args:
        images: on the device where networks run.
        pixels: a key of `PIXELS`.
    """
    return applied(images, *_factors_on(pixels, images.device), pixels)


def applied(images: Tensor, scale: Tensor, offset: Tensor, pixels: str) -> Tensor:
    """Return the result of `normalise`, computed from given `factors`: an exported network holds its own."""
    values = torch.addcmul(offset, images.float(), scale)
    return (values.flip(3) if PIXELS[pixels].bgr else values).permute(0, 3, 1, 2)


def factors(pixels: str, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Return the factor and the offset, (3,) each, that normalise values of R, G, B from 0 to 255."""
    scale = PIXELS[pixels]
    factor = torch.tensor([1 / d for d in scale.deviation], device=device)
    offset = [-m / d for m, d in zip(scale.mean, scale.deviation, strict=True)]
    return factor, torch.tensor(offset, device=device)


_factors_on = functools.cache(factors)  # computed once per device: every training step needs them


_FEW = 4  # up to this many threads, copying images one by one is faster than a gather by all threads


def moved(images: Tensor, index: Tensor, down: Tensor, right: Tensor, mirrored: Tensor, *, pin: bool = False) -> Tensor:
    """Return images from the host's memory, each moved by whole pixels with its edge repeated, then possibly mirrored.

    Args:
        images: (N, H, W, 3) uint8.
        index: (n,) int64, which images.
        down: (n,) int64, how many rows the window lies below the image; right: (n,), how many columns to its right.
        mirrored: (n,) int64, 1 or 0.
        pin: use page-locked memory; a GPU copies from it while the host continues.

    Returns:
        (n, H, W, 3) uint8.
    """
    if torch.get_num_threads() > _FEW:
        return gathered(images, index, down, right, mirrored)
    height, width = images.shape[1:3]
    result = torch.empty(len(index), height, width, 3, dtype=torch.uint8, pin_memory=pin)
    source, rows = images.numpy(), torch.stack([index, down, right]).t().tolist()
    for (number, y, x), made in zip(rows, result.numpy(), strict=True):
        top, bottom = min(max(-y, 0), height - 1), max(height - max(y, 0), 1)
        left, end = min(max(-x, 0), width - 1), max(width - max(x, 0), 1)
        image = source[number]
        y, x = min(max(y, -top), height - bottom), min(max(x, -left), width - end)
        made[top:bottom, left:end] = image[top + y : bottom + y, left + x : end + x]
        if left:
            made[top:bottom, :left] = made[top:bottom, left : left + 1]
        if end < width:
            made[top:bottom, end:] = made[top:bottom, end - 1 : end]
        if top:
            made[:top] = made[top]
        if bottom < height:
            made[bottom:] = made[bottom - 1]
    turned = torch.nonzero(mirrored).flatten()
    result[turned] = result[turned].flip(2)
    return result


def gathered(images: Tensor, index: Tensor, down: Tensor, right: Tensor, mirrored: Tensor) -> Tensor:
    """Return the result of `moved`, computed by one gather; all tensors are on the images' device."""
    height, width = images.shape[1:3]
    rows = (torch.arange(height, device=images.device) + down[:, None]).clamp(0, height - 1)
    column = torch.arange(width, device=images.device)
    column = torch.where(mirrored[:, None] > 0, width - 1 - column, column)
    columns = (column + right[:, None]).clamp(0, width - 1)
    return images[index[:, None, None], rows[:, :, None], columns[:, None, :]]

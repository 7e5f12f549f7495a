"""Pixel values as networks see them: each channel shifted and scaled as a protocol says, and the order of channels."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scale:
    """The means and standard deviations that channels are normalised with, and their order.

    Attributes:
        mean: of R, G, B on the scale 0 to 255.
        deviation: the standard deviations on that scale.
        bgr: networks see B, G, R.
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
    """Return what `normalise` does, by the `factors` that are given: an exported network holds its own."""
    values = torch.addcmul(offset, images.float(), scale)
    return (values.flip(3) if PIXELS[pixels].bgr else values).permute(0, 3, 1, 2)


def factors(pixels: str, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Return the factor and the offset, (3,) each, by which values of R, G, B from 0 to 255 are normalised."""
    scale = PIXELS[pixels]
    factor = torch.tensor([1 / d for d in scale.deviation], device=device)
    offset = [-m / d for m, d in zip(scale.mean, scale.deviation, strict=True)]
    return factor, torch.tensor(offset, device=device)


_factors_on = functools.cache(factors)  # made once for each device: every training step needs them

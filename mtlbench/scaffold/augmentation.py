"""My-method: brightens or darkens each image at random.

<Authors: Title, Venue Year (arXiv number).>

<Say here what is done to training images; test images stay as they are. This file runs unchanged: an
image x becomes clip(a x), with a drawn uniformly from [1 - strength, 1 + strength] for each image.>
"""

import torch
from torch import Tensor

from mtlbench import register_augmentation


# The name is what the list `train.augment` of a benchmark says. Options are keyword-only arguments with a
# type and a default; there, 'my-method[strength=0.1]' sets one.
@register_augmentation("my-method")
def my_method(images: Tensor, generator: torch.Generator, *, strength: float = 0.2) -> Tensor:
    """Brighten or darken each image at random.

    <The line above is what `mtlbench list augmentations` shows.>

    Args:
        images: (B, C, H, W) uint8, on the device.
        generator: the only source of randomness, so an interrupted run continues as if it had not stopped;
            nothing is remembered between calls.
        strength: from 0, nothing, to 1.

    Returns:
        (B, C, H, W) uint8.
    """
    drawn = torch.rand(len(images), generator=generator, device=images.device)
    factors = 1 + strength * (2 * drawn - 1)
    return (images * factors[:, None, None, None]).round().clamp(0, 255).to(torch.uint8)

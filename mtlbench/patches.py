"""The patches that a convolution's kernel sees: with them it is a product of matrices, and so are its gradients."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor


class Geometry:
    """Kernel, stride, padding and dilation of a convolution, (rows, columns) each."""

    def __init__(self, kernel: Any, stride: Any, padding: Any, dilation: Any) -> None:
        self.kernel = tuple(kernel)
        self.stride, self.padding, self.dilation = (
            (v, v) if isinstance(v, int) else tuple(v) * (2 // len(v)) for v in (stride, padding, dilation)
        )

    def size(self, maps: Any) -> tuple[int, int]:
        """Return the output's size for an input's."""
        rows, columns = (
            (size + 2 * pad - apart * (kernel - 1) - 1) // step + 1
            for size, kernel, step, pad, apart in zip(
                maps, self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        return rows, columns

    def patches(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, h', w', kernel, kernel, C), a view of the padded images."""
        up, left = self.padding
        images = F.pad(x.movedim(1, -1), (0, 0, left, left, up, up))
        batch, by_row, by_column, channel = images.stride()
        steps = (
            batch, self.stride[0] * by_row, self.stride[1] * by_column,
            self.dilation[0] * by_row, self.dilation[1] * by_column, channel,
        )  # fmt: skip
        return images.as_strided((len(x), *self.size(x.shape[2:]), *self.kernel, x.shape[1]), steps)

    def images(self, patches: Tensor, shape: Any) -> Tensor:
        """Add up (B, h', w', kernel, kernel, C) patches where they came from: (B, C, h, w) of `shape`."""
        (up, left), (rows, columns) = self.padding, patches.shape[1:3]
        found = patches.new_zeros(shape[0], shape[2] + 2 * up, shape[3] + 2 * left, shape[1])
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                top, side = i * self.dilation[0], j * self.dilation[1]
                down = slice(top, top + self.stride[0] * (rows - 1) + 1, self.stride[0])
                along = slice(side, side + self.stride[1] * (columns - 1) + 1, self.stride[1])
                found[:, down, along] += patches[:, :, :, i, j]
        return found[:, up : up + shape[2], left : left + shape[3]].movedim(-1, 1)

"""Features of the same images under the scales of T tasks, and the convolution after them without T copies.

A convolution is linear, so a scale of its input's channels may be moved into its weights:

    conv(x_b * s_t + r_t; W) = conv(x_b; W diag(s_t)) + conv(r_t; W)

On the right it runs on B images with T O output channels, and on T maps for the shifts r, where the left runs on T B
images. The numbers are the same up to rounding, at borders too. Two operations after one another keep their gradients,
those of x, s, r and W.

It is used where it was found to pay (`tools/speed/steps.py`): on CPUs in bfloat16, as a product of the patches that
the kernel sees with all tasks' weights, several times as fast there as oneDNN's convolution of small maps. Elsewhere,
and by whatever else takes the features, they are scaled first and then are a tensor as any other.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlbench.patches import Geometry

_PATCHES = 2**25  # numbers of all patches together, above which scaling first needs less memory
_PAYS = {torch.bfloat16}
_ABOUT = {Tensor.dim, Tensor.size, *(getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim"))}


class Scaled(Tensor):
    """(T * B, C, h, w) features, group t those of the same B images times scale t, plus shift t.

    >>> import torch
    >>> x, scales = torch.randn(5, 3, 4, 4), torch.rand(2, 3)
    >>> scaled = Scaled.of(x, scales)
    >>> scaled.shape
    torch.Size([10, 3, 4, 4])
    >>> weight = torch.randn(6, 3, 3, 3)
    >>> wanted = torch.conv2d((x * scales[:, None, :, None, None]).flatten(0, 1), weight)
    >>> torch.testing.assert_close(torch.conv2d(scaled, weight), wanted)
    """

    features: Tensor
    scales: Tensor
    shifts: Tensor | None

    @staticmethod
    def of(features: Tensor, scales: Tensor, shifts: Tensor | None = None) -> Scaled:
        """Return (B, C, h, w) features under (T, C) scales, and shifts where there are some."""
        size = (len(scales) * len(features), *features.shape[1:])
        made = Tensor._make_wrapper_subclass(Scaled, size, dtype=features.dtype, device=features.device)
        made.features, made.scales, made.shifts = features, scales, shifts
        return made

    def scaled(self) -> Tensor:
        """Return them as a tensor as any other."""
        dtype = self.features.dtype
        found = self.features * _by_channel(self.scales.to(dtype))
        if self.shifts is not None:
            found = found + _by_channel(self.shifts.to(dtype))
        return found.flatten(0, 1)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Convolve all tasks' features together where that pays; scale them first for whatever else."""
        kwargs = kwargs or {}
        if func in _ABOUT:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if func is torch.conv2d and not kwargs and type(args[0]) is cls:
            convolved = _convolved(*args)
            if convolved is not None:
                return convolved
        return cls.__torch_dispatch__(func, types, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any, kwargs: Any) -> Any:  # type: ignore[override]
        """Scale the features first."""
        args, kwargs = _plain(args), _plain(kwargs or {})
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)


def _by_channel(vectors: Tensor) -> Tensor:
    """(T, C) -> (T, 1, C, 1, 1)."""
    return vectors[:, None, :, None, None]


def _plain(value: Any) -> Any:
    if isinstance(value, Scaled):
        with torch._C.DisableTorchFunctionSubclass():
            return value.scaled()
    if isinstance(value, tuple | list):
        return type(value)(_plain(v) for v in value)
    return {key: _plain(v) for key, v in value.items()} if isinstance(value, dict) else value


def _convolved(
    scaled: Scaled,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """Return the convolution of all tasks' features, (T * B, O, h', w'); None where scaling first is better."""
    with torch._C.DisableTorchFunctionSubclass():
        x = scaled.features
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if not x.is_cpu or dtype not in _PAYS or groups != 1 or isinstance(padding, str):
            return None
        geometry = Geometry(weight.shape[2:], stride, padding, dilation)
        rows, columns = geometry.size(x.shape[2:])
        if len(x) * rows * columns * weight[0].numel() > _PATCHES:
            return None
        tasks, outputs = len(scaled.scales), len(weight)
        with torch.autocast("cpu", enabled=False):
            wide = (weight * _by_channel(scaled.scales.to(weight.dtype))).flatten(0, 1).to(dtype)
            together = _ByPatches.apply(x.to(dtype), wide, geometry)  # (B, h', w', T O)
            found = together.unflatten(-1, (tasks, outputs)).movedim(-2, 0)
            if scaled.shifts is not None:
                maps = scaled.shifts.to(weight.dtype)[:, :, None, None].expand(-1, -1, *x.shape[2:])
                added = F.conv2d(maps, weight, None, stride, padding, dilation)
                found = found + added.to(found.dtype).movedim(1, -1)[:, None]
            if bias is not None:
                found = found + bias.to(found.dtype)
            joined: Tensor = found.reshape(tasks * len(x), rows, columns, outputs).movedim(-1, 1)
            return joined


class _ByPatches(torch.autograd.Function):
    """A convolution as one product: (B, C, h, w), (O, C, kernel, kernel) -> (B, h', w', O)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        flat = weight.movedim(1, -1).flatten(1)
        patches = geometry.patches(x)
        ctx.save_for_backward(x, flat)
        ctx.geometry = geometry
        return (patches.reshape(-1, flat.shape[1]) @ flat.t()).view(*patches.shape[:3], len(weight))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, flat = ctx.saved_tensors
        geometry: Geometry = ctx.geometry
        rows = gradient.reshape(-1, len(flat))
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            taken = (*gradient.shape[:3], *geometry.kernel, x.shape[1])
            of_x = geometry.images((rows @ flat).view(taken), x.shape)
        if ctx.needs_input_grad[1]:
            product = rows.t() @ geometry.patches(x).reshape(-1, flat.shape[1])
            of_weight = product.view(len(flat), *geometry.kernel, x.shape[1]).movedim(-1, 1)
        return of_x, of_weight, None

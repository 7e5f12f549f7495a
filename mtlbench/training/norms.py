"""Over how many images batch norms average in training: methods differ in it where tasks have images of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def counting_normalised(module: nn.Module) -> Iterator[set[int]]:
    """Yield a set that takes the number of images which each batch norm sees at a time while this lasts."""
    seen: set[int] = set()

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if norm.training:
            seen.add(len(inputs[0]))

    hooks = [part.register_forward_pre_hook(note) for part in module.modules() if isinstance(part, _BatchNorm)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()

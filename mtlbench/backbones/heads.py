"""The embedding heads of T tasks, computed together as far as they are alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_WITHOUT_PARAMETERS = (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.MaxPool2d, nn.Flatten, nn.Identity)


class Heads(nn.ModuleList):
    """One head a task. What stands before the linear layers is computed once, and the T linear layers as one product.

    That is so where every head is a sequence of pooling and flattening, then a linear layer; what follows it, such as a
    batch norm, is each task's own again. Heads of another form run one after the other. The parameters are those of the
    heads alone, and have their names.

    >>> import torch
    >>> from mtlbench import BackboneFactory
    >>> heads = BackboneFactory("small", image_size=24, embedding_size=8).heads(["colour", "shape"])
    >>> features = torch.randn(5, 128, 2, 2)
    >>> pooled = heads.before(features)
    >>> pooled.shape
    torch.Size([5, 512])
    >>> embeddings = heads(pooled.expand(2, 5, 512))
    >>> torch.testing.assert_close(embeddings, torch.stack([head(features) for head in heads]))
    """

    def __init__(self, heads: Sequence[nn.Module]) -> None:
        super().__init__(heads)
        self._linear = _linear_of(heads)

    def before(self, features: Tensor) -> Tensor:
        """Compute what has no parameters and is the same for all tasks: (N, C, h, w) -> (N, P), or as they came."""
        for module in list(self[0].children())[: self._linear or 0]:
            features = module(features)
        return features

    def forward(self, features: Tensor) -> Tensor:
        """Embed group t by head t: (T, B, P) of `before` -> (T, B, D)."""
        if self._linear is None:
            return torch.stack([head(group) for head, group in zip(self, features, strict=True)])
        linear, *rest = zip(*(list(head.children())[self._linear :] for head in self), strict=True)
        weights = torch.stack([layer.weight for layer in linear]).mT
        if linear[0].bias is None:
            embeddings = torch.bmm(features, weights)
        else:
            embeddings = torch.baddbmm(torch.stack([layer.bias for layer in linear])[:, None], features, weights)
        if not rest:
            return embeddings
        each = [embeddings[t] for t in range(len(self))]
        for modules in rest:
            each = [module(x) for module, x in zip(modules, each, strict=True)]
        return torch.stack(each)


def _linear_of(heads: Sequence[nn.Module]) -> int | None:
    """Return the place of the linear layer in every head; None where heads are of another form."""
    places = set()
    for head in heads:
        modules = list(head.children()) if type(head) is nn.Sequential else []
        place = next(
            (n for n, module in enumerate(modules) if not isinstance(module, _WITHOUT_PARAMETERS)), len(modules)
        )
        places.add(place if place < len(modules) and type(modules[place]) is nn.Linear else None)
    return places.pop() if len(places) == 1 else None

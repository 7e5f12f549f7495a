"""torchvision's networks: ResNets as they are known, and any classifier whose features can be cut."""

from __future__ import annotations

import importlib
import warnings
from functools import cache, partial
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import nn

from mtlbench.backbones.contract import BackboneKind, register_backbone, stage_shapes
from mtlbench.backbones.weights import names_within
from mtlbench.errors import UserError, did_you_mean
from mtlbench.registry import BACKBONES, origin_of

# Where a network is cut is found at one size, so that stage i means the same layers at every image size.
_CUT_SIZE, _OTHER_SIZE = 224, 256


class ResNet(BackboneKind):
    """A ResNet of torchvision: stem (convolution, batch norm, ReLU, max-pool), then its first layers, a stage each."""

    has_pretrained = True
    model: ClassVar[str]
    layers: ClassVar[int] = 4

    def __init__(self) -> None:
        _models()  # whoever can't import torchvision learns it before anything is built

    def stages(self, pretrained: bool) -> nn.ModuleList:
        """Return the stem and the layers."""
        return self._cut(_classifier(self.model, pretrained))

    def library_names(self) -> tuple[str, ...]:
        """Return torchvision's names, such as `layer1.0.conv1.weight`."""
        net = _classifier(self.model, False)
        return names_within(net, self._cut(net))

    def _cut(self, net: Any) -> nn.ModuleList:
        stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        return nn.ModuleList([stem, *(net.get_submodule(f"layer{i}") for i in range(1, self.layers + 1))])


@register_backbone("resnet18")
class ResNet18(ResNet):
    """ResNet-18."""

    model = "resnet18"


@register_backbone("resnet18-csn")
class ResNet18Csn(ResNet):
    """ResNet-18 without layer4, as Conditional Similarity Networks cut it."""

    model, layers = "resnet18", 3


@register_backbone("resnet34")
class ResNet34(ResNet):
    """ResNet-34."""

    model = "resnet34"


@register_backbone("resnet50")
class ResNet50(ResNet):
    """ResNet-50."""

    model = "resnet50"


class Features(BackboneKind):
    """The sequence of features of a torchvision classifier; stage i opens with layer ``starts[i]``."""

    has_pretrained = True

    def __init__(self, model: str, starts: tuple[int, ...]) -> None:
        self.model, self.starts = model, starts

    def stages(self, pretrained: bool) -> nn.ModuleList:
        """Return the stretches of the sequence."""
        return self._cut(_classifier(self.model, pretrained))

    def library_names(self) -> tuple[str, ...]:
        """Return torchvision's names, such as `features.0.weight`."""
        net = _classifier(self.model, False)
        return names_within(net, self._cut(net))

    def _cut(self, net: Any) -> nn.ModuleList:
        layers = list(net.features)
        stops = [*self.starts[1:], len(layers)]
        if isinstance(layers[-1], nn.BatchNorm2d):
            layers.append(nn.ReLU(inplace=True))  # DenseNet applies it outside its features
            stops[-1] += 1
        return nn.ModuleList(nn.Sequential(*layers[start:stop]) for start, stop in zip(self.starts, stops, strict=True))


def _models() -> Any:
    """torchvision.models, imported only when asked for: it is slow, and a broken one shouldn't hurt the others."""
    try:
        return importlib.import_module("torchvision.models")
    except (ImportError, RuntimeError, OSError) as error:
        raise UserError(
            f"torchvision can't be imported ({error}); install the release that matches your torch."
        ) from error


def _classifier(name: str, pretrained: bool) -> Any:
    """A torchvision classifier, with its newest ImageNet weights or its own random ones."""
    models = _models()
    weights: Any = models.get_model_weights(name).DEFAULT if pretrained else None
    try:
        return models.get_model(name, weights=weights)
    except OSError as error:
        raise UserError(
            f"The pretrained weights of '{name}' can't be fetched ({error}): connect to the network, put the file "
            f"{weights.url} into {torch.hub.get_dir()}/checkpoints, or turn pretrained off."
        ) from error


def _member(name: str) -> partial[Features]:
    """Any torchvision classifier with a ``features`` sequence, cut where the resolution halves."""
    models = _models()
    known = models.list_models(module=models)
    if name not in known:
        raise UserError(
            f"torchvision has no classifier '{name}'.{did_you_mean(name, known)} "
            f"torchvision.models.list_models() lists all."
        )
    return _cut(name)


@cache
def _cut(name: str) -> partial[Features]:
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # on the initial weights of GoogLeNet, which isn't used
            features = getattr(_models().get_model(name), "features", None)
    except RuntimeError:  # RegNet computes its widths with tensors, which the meta device refuses
        features = None
    if not isinstance(features, nn.Sequential):
        hint = f" Use '{name}', which is built in." if name in BACKBONES else ""
        raise UserError(f"torchvision's '{name}' has no sequence of features that can be cut into stages.{hint}")
    shapes, others = (stage_shapes(features, (size, size)) for size in (_CUT_SIZE, _OTHER_SIZE))
    # What grows with the image isn't a count of channels: such maps are channels-last.
    if (
        shapes is None
        or others is None
        or any(len(shape) != 4 or shape[1] != other[1] for shape, other in zip(shapes, others, strict=True))
    ):
        raise UserError(
            f"torchvision's '{name}' can't be cut into stages: its feature maps aren't (B, channels, height, width)."
        )
    return partial(Features, name, _stage_starts(features, [shape[2] * shape[3] for shape in shapes]))


def _stage_starts(layers: nn.Sequential, areas: list[int]) -> tuple[int, ...]:
    """Index of the layer that opens each stage: one that at least halves the area.

    A stretch without weights (VGG's last pooling) is no stage of its own but the end of the one before.
    """
    drops = [i for i in range(1, len(areas)) if 2 * areas[i] <= areas[i - 1]]
    starts = [0]
    for start, stop in pairwise([*drops, len(areas)]):
        if any(True for layer in layers[start:stop] for _ in layer.parameters()):
            starts.append(start)
    return tuple(starts)


BACKBONES.add_family(
    "torchvision",
    _member,
    summary="Any torchvision classifier with a features sequence, such as mobilenet_v3_small.",
    origin=origin_of(_member),
)

"""Convolutional networks cut into stages plus an embedding head: what an architecture is built from.

It decides how a network is cut, sized and initialised. How tasks share the stages is left to the architecture, device
and precision to the caller, the normalisation of images and of embeddings to the protocol.
"""

from __future__ import annotations

import hashlib
import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mtlbench.errors import UserError, did_you_mean

_TORCHVISION = "torchvision:"
# Where the cut of a torchvision network is found: fixed, so that stage i means the same layers at every image size.
_CUT_SIZE, _OTHER_SIZE = 224, 256


class Backbone(nn.Module):
    """A convolutional network cut into stages plus an embedding head.

    ``stages[i]`` maps (B, C, H, W) to (B, channels[i], H', W'); ``head`` maps the last stage's output to (B, D).
    ``forward`` is the stages one after the other, then the head.

    >>> import torch
    >>> from mtlbench import BackboneFactory
    >>> net = BackboneFactory("small", image_size=24, embedding_size=8).backbone()
    >>> features = torch.randn(2, 3, 24, 24)
    >>> for stage in net.stages:
    ...     features = stage(features)
    ...     print(*features.shape)
    2 32 12 12
    2 64 6 6
    2 128 3 3
    2 128 2 2
    >>> net.head(features).shape
    torch.Size([2, 8])
    """

    def __init__(self, stages: nn.ModuleList, channels: tuple[int, ...], head: nn.Module) -> None:
        super().__init__()
        self.stages = stages
        self.channels = channels
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images -> (B, D) embeddings, unnormalised."""
        features = images
        for stage in self.stages:
            features = stage(features)
        embeddings: Tensor = self.head(features)
        return embeddings


class BackboneFactory:
    """Builds fresh backbones, and lone heads, of one kind.

    The initial weights depend only on the name, the sizes, the seed and the owner: not on the global random state,
    which is left as it was, nor on what was built before. Stages and head are seeded apart, so ``head(owner)`` equals
    ``backbone(owner).head``. Modules are built on torch's default device; under ``torch.device("meta")`` they hold no
    memory and ``pretrained`` fetches nothing.

    >>> import torch
    >>> from mtlbench import BackboneFactory
    >>> backbones = BackboneFactory("small", image_size=(24, 32), embedding_size=8, seed=1)
    >>> backbones.channels
    (32, 64, 128, 128)
    >>> images = torch.randn(2, 3, 24, 32)
    >>> bool((backbones.backbone("heel")(images) == backbones.backbone("heel")(images)).all())
    True
    >>> bool((backbones.backbone("heel")(images) == backbones.backbone("toe")(images)).all())
    False

    Args:
        name: one of ``backbone_names()``, with a torchvision classifier's name after ``torchvision:``.
        image_size: (height, width) in pixels, or one number for both.
        embedding_size: D, the length of an embedding.
        seed: of the initial weights.
        pretrained: start the stages from torchvision's ImageNet weights. The head is always new.

    Attributes:
        channels: output channels of each stage.
        feature_size: (height, width) of the last stage's output.

    Raises:
        UserError: unknown name, a network that can't be cut, images too small for it, a size below 1, or no pretrained
            weights. ``backbone`` raises it when the weights can't be downloaded.
    """

    def __init__(
        self,
        name: str,
        image_size: tuple[int, int] | int,
        embedding_size: int,
        seed: int = 0,
        pretrained: bool = False,
    ) -> None:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        if min(height, width) < 1:
            raise UserError(f"The image size must be at least 1 x 1 pixel, not {height} x {width}.")
        if embedding_size < 1:
            raise UserError(f"The embedding size must be at least 1, not {embedding_size}.")
        self.name = name
        self.image_size = (height, width)
        self.embedding_size = embedding_size
        self.seed = seed
        self.pretrained = pretrained
        self._kind = _find_kind(name)
        if pretrained and not self._kind.has_pretrained:
            raise UserError(f"There are no pretrained weights for the backbone '{name}'; use it with pretrained off.")
        with torch.device("meta"):
            stages = self._kind.stages(False)
        shapes = _stage_shapes(stages, height, width)
        if shapes is None:
            raise UserError(_too_small(name, stages, height, width))
        self.channels: tuple[int, ...] = tuple(shape[1] for shape in shapes)
        self.feature_size: tuple[int, int] = (shapes[-1][2], shapes[-1][3])

    def backbone(self, owner: str = "") -> Backbone:
        """Return a fresh backbone; ``owner`` names whom its weights belong to (a task, or "" for shared ones)."""
        with _seeded(f"{self.seed}/{owner}/stages") as device:
            # Values are what a download is for, and meta tensors have none.
            stages = self._kind.stages(self.pretrained and device.type != "meta")
        return Backbone(stages.to(device), self.channels, self.head(owner))

    @contextmanager
    def seeded(self, owner: str = "") -> Iterator[None]:
        """Make the initial values of what is built inside depend on the seed and the owner alone.

        For an architecture's own modules: ``with backbones.seeded(task): self.attention.append(...)``. They are built
        on the CPU (on ``meta`` where that is the default device); whoever builds the architecture moves it.
        """
        with _seeded(f"{self.seed}/{owner}/own"):
            yield

    def head(self, owner: str = "") -> nn.Module:
        """Return a fresh embedding head alone, (B, channels[-1], *feature_size) -> (B, D): ``backbone(owner).head``."""
        with _seeded(f"{self.seed}/{owner}/head") as device:
            head = self._kind.head(self.channels[-1], self.feature_size, self.embedding_size)
        return head.to(device)


@dataclass(frozen=True)
class _Kind:
    """How the backbones of one name are built."""

    description: str
    stages: Callable[[bool], nn.ModuleList]  # takes: from pretrained weights?
    head: Callable[[int, tuple[int, int], int], nn.Module]  # takes: channels, (height, width), embedding size
    has_pretrained: bool = False


@contextmanager
def _seeded(key: str) -> Iterator[torch.device]:
    """Seed what is built inside from ``key`` alone; yield the default device, to which the result is to be moved.

    Drawn on the CPU, so that a seed means the same weights on every device.
    """
    device = torch.get_default_device()
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7])
    with torch.random.fork_rng(devices=[]), nullcontext() if device.type == "meta" else torch.device("cpu"):
        # torch.manual_seed would reseed the accelerators too.
        torch.default_generator.manual_seed(seed)
        yield device


def _stage_shapes(stages: nn.ModuleList | nn.Sequential, height: int, width: int) -> list[tuple[int, ...]] | None:
    """Output shape of each stage (on the meta device) for one image; None when the image is too small."""
    shapes = []
    stages.eval()
    features = torch.empty(1, 3, height, width, device="meta")
    for stage in stages:
        try:
            features = stage(features)
        except RuntimeError:
            return None
        shapes.append(tuple(features.shape))
    return shapes


def _too_small(name: str, stages: nn.ModuleList, height: int, width: int) -> str:
    """The sentence for images that vanish inside the network, with the smallest side that doesn't."""
    sentence = f"Images of {height} x {width} pixels are too small for the backbone '{name}'"
    too_small, enough = min(height, width), 1024
    if _stage_shapes(stages, enough, enough) is None:
        return f"{sentence}."
    while enough - too_small > 1:
        middle = (too_small + enough) // 2
        if _stage_shapes(stages, middle, middle) is None:
            too_small = middle
        else:
            enough = middle
    return f"{sentence}: both sides need at least {enough}."


# --- the modulation paper's network -----------------------------------------------------------------------------------


def _without_scale(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Module:
    """Fix a batch norm's scale at 1 and leave its bias to be learned."""
    del norm.weight
    # Ones rather than None: cuDNN's batch norm takes no missing scale.
    norm.register_buffer("weight", torch.ones_like(norm.bias, requires_grad=False), persistent=False)
    return norm


def _paper_conv(inputs: int, outputs: int, padding: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=padding, bias=False)
    nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, _without_scale(nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.005)), nn.ReLU(inplace=True))


class _PaperBlock(nn.Module):
    """Valid convolution, max-pool 2, then two same convolutions added to the pooled map (no ReLU after the sum)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(_paper_conv(inputs, outputs, padding=0), nn.MaxPool2d(2))
        self.residual = nn.Sequential(
            _paper_conv(outputs, outputs, padding=1), _paper_conv(outputs, outputs, padding=1)
        )

    def forward(self, features: Tensor) -> Tensor:
        pooled = self.reduce(features)
        summed: Tensor = pooled + self.residual(pooled)
        return summed


def _paper_stages(pretrained: bool) -> nn.ModuleList:
    """The released network of Zhao et al. (A Modulation Module for Multi-task Learning, ECCV 2018), convolutions.

    Stages: blocks 1 to 4 (64, 128, 128, 128), the first with the stem (32 channels) before it: every stage ends where
    the resolution has halved. The paper modulates the outputs of the last two stages and the embedding.

    The released trunk has 2,953,664 parameters at 150 px with 256-d embeddings. That is exactly: no bias in any
    convolution nor in the FC, no batch-norm scale, one batch-norm bias a channel. Convolutions: 1,346,400 weights +
    1,376 batch-norm biases = 1,347,776. FC: 7*7*128*256 = 1,605,632 weights + 256 biases = 1,605,888. The 7 x 7 map
    needs pooling that rounds down. The initialisation is ours (He, uniform): the batch norms hide its scale.
    """
    blocks = [_PaperBlock(inputs, outputs) for inputs, outputs in pairwise((32, 64, 128, 128, 128))]
    return nn.ModuleList([nn.Sequential(_paper_conv(3, 32, padding=0), blocks[0]), *blocks[1:]])


def _paper_head(channels: int, feature_size: tuple[int, int], embedding_size: int) -> nn.Module:
    """Flatten, FC, batch norm, ReLU: the embedding is never negative."""
    fc = nn.Linear(channels * feature_size[0] * feature_size[1], embedding_size, bias=False)
    nn.init.kaiming_uniform_(fc.weight, nonlinearity="relu")
    norm = _without_scale(nn.BatchNorm1d(embedding_size, eps=1e-3, momentum=0.005))
    return nn.Sequential(nn.Flatten(), fc, norm, nn.ReLU(inplace=True))


# --- the small network ------------------------------------------------------------------------------------------------


def _small_conv(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class _SmallBlock(nn.Module):
    """Convolution of stride 2, then one more, added to its input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = _small_conv(inputs, outputs, stride=2)
        self.residual = _small_conv(outputs, outputs, stride=1)

    def forward(self, features: Tensor) -> Tensor:
        reduced = self.reduce(features)
        summed: Tensor = reduced + self.residual(reduced)
        return summed


def _small_stages(pretrained: bool) -> nn.ModuleList:
    """Our own network for CPUs and images of 24 to 64 px; it is from no paper.

    A stem (32 channels) and three residual blocks (64, 128, 128), each halving the resolution by a strided convolution:
    on CPUs, maps at full resolution and max-pooling are what costs time. 573,600 parameters without the head.
    """
    blocks = [_SmallBlock(inputs, outputs) for inputs, outputs in pairwise((32, 64, 128, 128))]
    return nn.ModuleList([_small_conv(3, 32, stride=2), *blocks])


def _small_head(channels: int, feature_size: tuple[int, int], embedding_size: int) -> nn.Module:
    """The mean of each quarter of the map, then one linear layer: a global mean forgets where on a face or shoe it was.

    The quarters are AdaptiveAvgPool2d(2)'s, which has no deterministic gradient on CUDA. They overlap at odd sizes.
    """
    height, width = feature_size
    pool = nn.AvgPool2d((height - height // 2, width - width // 2), (max(height // 2, 1), max(width // 2, 1)))
    quarters = min(height, 2) * min(width, 2)
    return nn.Sequential(pool, nn.Flatten(), nn.Linear(quarters * channels, embedding_size))


# --- torchvision's networks -------------------------------------------------------------------------------------------


def _pooled_linear_head(channels: int, feature_size: tuple[int, int], embedding_size: int) -> nn.Module:
    """Global average pooling, then one linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, embedding_size))


def _torchvision_models() -> Any:
    """torchvision.models, imported only when asked for: it is slow, and a broken one shouldn't hurt the others."""
    try:
        return importlib.import_module("torchvision.models")
    except (ImportError, RuntimeError, OSError) as error:
        raise UserError(
            f"torchvision can't be imported ({error}); install the release that matches your torch."
        ) from error


def _torchvision_model(name: str, pretrained: bool) -> Any:
    """A torchvision classifier, with its newest ImageNet weights or its own random ones."""
    models = _torchvision_models()
    weights: Any = models.get_model_weights(name).DEFAULT if pretrained else None
    try:
        return models.get_model(name, weights=weights)
    except OSError as error:
        raise UserError(
            f"The pretrained weights of '{name}' can't be fetched ({error}): connect to the network, put the file "
            f"{weights.url} into {torch.hub.get_dir()}/checkpoints, or turn pretrained off."
        ) from error


def _resnet_stages(name: str, layers: int, pretrained: bool) -> nn.ModuleList:
    """Stem (convolution, batch norm, ReLU, max-pool), then the first ``layers`` layers of a torchvision ResNet."""
    net = _torchvision_model(name, pretrained)
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    return nn.ModuleList([stem, *(net.get_submodule(f"layer{i}") for i in range(1, layers + 1))])


def _resnet(name: str, layers: int, description: str) -> _Kind:
    return _Kind(description, partial(_resnet_stages, name, layers), _pooled_linear_head, has_pretrained=True)


def _features_stages(name: str, starts: list[int], pretrained: bool) -> nn.ModuleList:
    """The features of a torchvision classifier; stage i opens with layer ``starts[i]``."""
    layers = list(_torchvision_model(name, pretrained).features)
    stops = [*starts[1:], len(layers)]
    if isinstance(layers[-1], nn.BatchNorm2d):
        layers.append(nn.ReLU(inplace=True))  # DenseNet applies it outside its features
        stops[-1] += 1
    return nn.ModuleList(nn.Sequential(*layers[start:stop]) for start, stop in zip(starts, stops, strict=True))


def _torchvision_kind(name: str) -> _Kind:
    """Any torchvision classifier with a ``features`` sequence, cut where the resolution halves."""
    models = _torchvision_models()
    known = models.list_models(module=models)
    if name not in known:
        raise UserError(
            f"torchvision has no classifier '{name}'.{did_you_mean(name, known)} "
            f"torchvision.models.list_models() lists all."
        )
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # on the initial weights of GoogLeNet, which isn't used
            features = getattr(models.get_model(name), "features", None)
    except RuntimeError:  # RegNet computes its widths with tensors, which the meta device refuses
        features = None
    if not isinstance(features, nn.Sequential):
        hint = f" Use '{name}', which is built in." if name in _KINDS else ""
        raise UserError(f"torchvision's '{name}' has no sequence of features that can be cut into stages.{hint}")
    shapes, others = (_stage_shapes(features, size, size) for size in (_CUT_SIZE, _OTHER_SIZE))
    # What grows with the image isn't a count of channels: such maps are channels-last.
    if (
        shapes is None
        or others is None
        or any(len(shape) != 4 or shape[1] != other[1] for shape, other in zip(shapes, others, strict=True))
    ):
        raise UserError(
            f"torchvision's '{name}' can't be cut into stages: its feature maps aren't (B, channels, height, width)."
        )
    starts = _stage_starts(features, [shape[2] * shape[3] for shape in shapes])
    description = BACKBONES[f"{_TORCHVISION}<name>"]
    return _Kind(description, partial(_features_stages, name, starts), _pooled_linear_head, has_pretrained=True)


def _stage_starts(layers: nn.Sequential, areas: list[int]) -> list[int]:
    """Index of the layer that opens each stage: one that at least halves the area.

    A stretch without weights (VGG's last pooling) is no stage of its own but the end of the one before.
    """
    drops = [i for i in range(1, len(areas)) if 2 * areas[i] <= areas[i - 1]]
    starts = [0]
    for start, stop in pairwise([*drops, len(areas)]):
        if any(True for layer in layers[start:stop] for _ in layer.parameters()):
            starts.append(start)
    return starts


_KINDS: dict[str, _Kind] = {
    "paper": _Kind("the modulation paper's own network (3.0 M parameters at 150 px)", _paper_stages, _paper_head),
    "small": _Kind("our own small network for CPUs and images of 24 to 64 px", _small_stages, _small_head),
    "resnet18": _resnet("resnet18", 4, "ResNet-18"),
    "resnet18-csn": _resnet("resnet18", 3, "ResNet-18 without layer4, as Conditional Similarity Networks cut it"),
    "resnet34": _resnet("resnet34", 4, "ResNet-34"),
    "resnet50": _resnet("resnet50", 4, "ResNet-50"),
}

BACKBONES: dict[str, str] = {name: kind.description for name, kind in _KINDS.items()} | {
    f"{_TORCHVISION}<name>": "any torchvision classifier with a features sequence, such as mobilenet_v3_small"
}
"""Name -> one line on what it is."""


def backbone_names() -> list[str]:
    """Names a factory takes; ``torchvision:<name>`` stands for as many as torchvision has."""
    return list(BACKBONES)


def _find_kind(name: str) -> _Kind:
    if name.startswith(_TORCHVISION):
        return _torchvision_kind(name.removeprefix(_TORCHVISION))
    if name not in _KINDS:
        raise UserError(f"Unknown backbone '{name}'.{did_you_mean(name, _KINDS)} Available: {', '.join(BACKBONES)}.")
    return _KINDS[name]

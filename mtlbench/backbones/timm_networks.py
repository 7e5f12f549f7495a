"""timm's networks: those whose features come one after the other, and vision transformers by their blocks."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mtlbench.backbones.contract import BackboneKind
from mtlbench.backbones.weights import names_within
from mtlbench.errors import UserError, did_you_mean, first_line
from mtlbench.registry import BACKBONES, origin_of

_VIT_STAGES = 4
_EFFNETS = ("EfficientNetFeatures", "MobileNetV3Features")  # they collect what is a sequence in a loop of their own


class FeatureList(BackboneKind):
    """A network of timm that `features_only` makes a sequence of; a stage ends with each of its features.

    What follows the last feature isn't built. A stretch without weights (VGG's last pooling) is no stage of its own but
    the end of the one before. Maps with channels last (Swin) are turned at the borders of stages.

    Args:
        name: timm's, such as resnet10t.
        as_list: arguments that make timm return the sequence.
    """

    def __init__(self, name: str, as_list: dict[str, Any]) -> None:
        self.name, self.as_list = name, as_list
        self.has_pretrained = bool(_timm().models.is_model_pretrained(name))

    def stages(self, pretrained: bool) -> nn.ModuleList:
        """Return the stretches of the sequence, each up to a feature."""
        stages, _ = self.cut(pretrained)
        if torch.get_default_device().type == "meta":
            self._check_size(stages)
        return stages

    def cut(self, pretrained: bool) -> tuple[nn.ModuleList, list[int]]:
        """Return the stages, and the channels that timm says they have."""
        return self._cut(self._net(pretrained))

    def library_names(self) -> tuple[str, ...]:
        """Return the names in timm's whole network, such as `stages.0.blocks.0.norm.weight`."""
        net = self._net(False)
        whole = _create(self.name, self.image_size, False, num_classes=0).state_dict()
        flat = {name.replace(".", "_", 1): name for name in whole} | {name: name for name in whole}
        return tuple(flat[name] for name in names_within(net, self._cut(net)[0]))

    def _net(self, pretrained: bool) -> Any:
        return _create(self.name, self.image_size, pretrained, features_only=True, **self.as_list)

    @staticmethod
    def _cut(net: Any) -> tuple[nn.ModuleList, list[int]]:
        channels_last = str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")
        stretches: list[list[nn.Module]] = [[]]
        channels: list[int] = []
        features = iter(net.feature_info.channels())
        for name, layer in net.items():
            stretches[-1].append(layer)
            if name in net.return_layers:
                channels.append(next(features))
                stretches.append([])
        stages: list[list[nn.Module]] = []
        for i, stretch in enumerate(stretches[:-1]):
            if stages and not any(True for layer in stretch for _ in layer.parameters()):
                stages[-1] += stretch
                channels.pop(i)
            else:
                stages.append(stretch)
        parts = [nn.Sequential(*stage) for stage in stages]
        if channels_last:  # the first layer embeds patches of images, which aren't turned
            return nn.ModuleList(_ChannelsLast(part, turn=i > 0) for i, part in enumerate(parts)), channels
        return nn.ModuleList(parts), channels

    def _check_size(self, stages: nn.ModuleList) -> None:
        """Refuse images of a size that a network with positions or windows of its own can't take."""
        if not _config(self.name).fixed_input_size:
            return
        try:
            features = torch.empty(1, 3, *self.image_size, device="meta")
            for stage in stages.eval():
                features = stage(features)
        except (RuntimeError, AssertionError, ValueError) as error:
            native = _native_size(self.name)
            raise UserError(
                f"timm's '{self.name}' can't take images of {self.image_size[0]} x {self.image_size[1]} pixels"
                f" ({first_line(error)}); it was made for {native[0]} x {native[1]}."
            ) from error


class _ChannelsLast(nn.Module):
    """Layers between which maps are (B, H, W, C); the stage as a whole maps (B, C, H, W) to (B, C', H', W')."""

    def __init__(self, layers: nn.Sequential, turn: bool) -> None:
        super().__init__()
        self.layers, self.turn = layers, turn

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = self.layers(features.permute(0, 2, 3, 1) if self.turn else features)
        return output.permute(0, 3, 1, 2)


class VisionTransformer(BackboneKind):
    """A vision transformer of timm: its blocks in four stages, tokens laid out as (B, C, h, w).

    The first stage embeds the patches and adds the positions, at the benchmark's image size (timm resamples those of
    pretrained weights). Prefix tokens (class, distillation, registers) take part in the blocks of the first stage and
    are dropped at its end: what passes from stage to stage is a feature map, which methods may scale or mix. So later
    blocks of a pretrained network don't see the tokens that they were trained beside. The last stage ends with the
    network's norm, applied to every token.

    Args:
        name: timm's, such as vit_tiny_patch16_224.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.has_pretrained = bool(_timm().models.is_model_pretrained(name))

    def stages(self, pretrained: bool) -> nn.ModuleList:
        """Return four stages of as many blocks each, the first with the embedding of patches before it."""
        return self._cut(_create(self.name, self.image_size, pretrained, num_classes=0))

    def library_names(self) -> tuple[str, ...]:
        """Return timm's names, such as `blocks.0.norm1.weight`."""
        net = _create(self.name, self.image_size, False, num_classes=0)
        known = {id(tensor): name for name, tensor in net.state_dict(keep_vars=True).items()}
        return tuple(known[id(tensor)] for tensor in self._cut(net).state_dict(keep_vars=True).values())

    def _cut(self, net: Any) -> nn.ModuleList:
        patch = tuple(net.patch_embed.feat_ratio(as_scalar=False))
        if any(side % step for side, step in zip(self.image_size, patch, strict=True)):
            near = [max(round(side / step), 1) * step for side, step in zip(self.image_size, patch, strict=True)]
            raise UserError(
                f"The patches of timm's '{self.name}' are {patch[0]} x {patch[1]} pixels, and images of"
                f" {self.image_size[0]} x {self.image_size[1]} are not a whole number of them; set data.image_size to"
                f" [{near[0]}, {near[1]}]."
            )
        blocks = list(net.blocks)
        stages = min(_VIT_STAGES, len(blocks))
        bounds = [round(len(blocks) * i / stages) for i in range(stages + 1)]
        parts = [nn.Sequential(*blocks[a:b]) for a, b in pairwise(bounds)]
        parts[-1].extend([net.norm, net.fc_norm])  # timm builds one of the two: for each token, or for their mean
        # What remains of the network is its embedding: forward_features then runs the first blocks and no more.
        net.blocks = parts[0]
        for unused in ("norm", "fc_norm", "attn_pool", "head", "head_dist", "head_drop"):
            if hasattr(net, unused):
                setattr(net, unused, nn.Identity())
        grid = tuple(net.patch_embed.grid_size)
        return nn.ModuleList([_FirstBlocks(net, grid), *(_Blocks(part) for part in parts[1:])])


class _FirstBlocks(nn.Module):
    """Images -> patches, positions and the first blocks -> (B, C, h, w), without prefix tokens."""

    def __init__(self, net: Any, grid: tuple[int, int]) -> None:
        super().__init__()
        self.net, self.grid = net, grid

    def forward(self, images: Tensor) -> Tensor:
        net: Any = self.net
        return _as_map(net.forward_features(images)[:, net.num_prefix_tokens :], self.grid)


class _Blocks(nn.Module):
    """Blocks on the tokens of a map: (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, blocks: nn.Sequential) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[2:]
        return _as_map(self.blocks(features.flatten(2).transpose(1, 2)), (height, width))


def _as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Lay out (B, h·w, C) tokens as (B, C, h, w)."""
    batch, _, channels = tokens.shape
    return tokens.transpose(1, 2).reshape(batch, channels, *grid)


def _timm() -> Any:
    """timm, imported only when asked for: its import is slow."""
    try:
        return importlib.import_module("timm")
    except (ImportError, RuntimeError, OSError) as error:
        raise UserError(f"timm can't be imported ({error}): pip install 'timm>=1.0'.") from error


def _config(name: str) -> Any:
    return _timm().get_pretrained_cfg(name)


def _native_size(name: str) -> tuple[int, int]:
    _, height, width = _config(name).input_size
    return height, width


def _create(name: str, image_size: tuple[int, int], pretrained: bool, **arguments: Any) -> Any:
    """Build a network of timm, for images of this size where its size is fixed when it is built."""
    timm = _timm()
    if _config(name).fixed_input_size:
        arguments["img_size"] = image_size
    if not pretrained:
        try:
            return timm.create_model(name, pretrained=False, **arguments)
        except (RuntimeError, NotImplementedError):
            if torch.get_default_device().type != "meta":
                raise
        # Some networks compute with values while they are built: transformers do in older releases of timm.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            return timm.create_model(name, pretrained=False, **arguments).to("meta")
    try:
        return timm.create_model(name, pretrained=True, **arguments)
    except Exception as error:  # of whichever library timm fetches by; without the weights, it was built before
        raise UserError(
            f"The pretrained weights of timm's '{name}' can't be fetched ({first_line(error)}): connect to the"
            " network, or turn pretrained off."
        ) from error


def _member(name: str) -> Callable[[], BackboneKind]:
    """Any network of timm that can be cut into stages."""
    timm = _timm()
    known = timm.list_models()
    if name not in known and name not in timm.list_pretrained():
        nearest = did_you_mean(name, timm.list_pretrained() if "." in name else known)
        raise UserError(f"timm has no network '{name}'.{nearest} timm.list_models() lists all.")
    kind = _kind_of(name)
    if isinstance(kind, str):
        near = difflib.get_close_matches(name, [n for n in known if n != name], n=6, cutoff=0.5)
        nearest = did_you_mean(name, [n for n in near if not isinstance(_kind_of(n), str)])
        raise UserError(f"timm's '{name}' can't be cut into stages: {kind}.{nearest}")
    return kind


@cache
def _kind_of(name: str) -> Callable[[], BackboneKind] | str:
    """Return the kind of a network, or why it can't be cut."""
    timm = _timm()
    with torch.device("meta"):
        try:
            net = _create(name, _native_size(name), pretrained=False, num_classes=0)
            if isinstance(net, timm.models.VisionTransformer):
                return partial(VisionTransformer, name)
            net = _create(name, _native_size(name), pretrained=False, features_only=True)
            as_list: dict[str, Any] = {}
            if type(net).__name__ in _EFFNETS:
                as_list = {"feature_cls": "list", "feature_cfg": {"flatten_sequential": True}}
            elif not isinstance(net, timm.models.FeatureListNet):
                return "its features don't come one after the other"
            kind = FeatureList(name, as_list)
            kind.image_size = _native_size(name)
            stages, channels = kind.cut(False)
            shapes = []
            features = torch.empty(1, 3, *kind.image_size)
            for stage in stages.eval():
                features = stage(features)
                shapes.append(features.shape)
        except Exception as error:  # networks refuse features_only, or to be built without memory, each in its own way
            return f"its features can't be computed one after the other ({first_line(error)})"
    if any(len(shape) != 4 for shape in shapes) or [shape[1] for shape in shapes] != channels:
        return "its feature maps don't have the channels that timm says"
    return partial(FeatureList, name, as_list)


BACKBONES.add_family(
    "timm",
    _member,
    summary="Any network of timm that can be cut into stages, such as convnext_atto.",
    origin=origin_of(_member),
    needs=("timm",),
)

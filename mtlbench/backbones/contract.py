"""The contract of a backbone: a network cut into stages plus an embedding head, what architectures are built from.

A kind of backbone decides how a network is cut, sized and initialised; the factory builds it by name. The architecture
decides how tasks share the stages, the caller the device and precision, the protocol the normalisation of images and
embeddings.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mtlbench.backbones.heads import Heads
from mtlbench.backbones.weights import freeze, load_stages, read_state
from mtlbench.blame import breach
from mtlbench.errors import UserError, counted, first_line
from mtlbench.options import read_spec, show
from mtlbench.registry import BACKBONES, register_class
from mtlbench.returned import check_features, check_head, check_stages

T = TypeVar("T")
Shapes = list[tuple[int, ...]]  # of each stage's output, for one image
_ENOUGH = 1024  # pixels of a side that any network takes
RATE = "pretrained_rate"  # of a parameter that came with pretrained weights, where it is another than 1


class Backbone(nn.Module):
    """A network cut into stages plus an embedding head.

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
    """Builds fresh backbones, and heads alone, of one kind.

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
        name: what `mtlbench list backbones` lists, with a classifier's name after ``torchvision:``, and with options
            where it has some: ``small[width=0.5]``.
        image_size: (height, width) in pixels, or one number for both.
        embedding_size: D, the length of an embedding.
        seed: of the initial weights.
        pretrained: start the stages from published weights, or from those in a file of this path. The head is always
            new.
        frozen: the first so many stages, or all (True), are not trained: their parameters want no gradient, and they
            stay in evaluation mode. They are the same modules in all backbones of a factory, as they are stored once.
        pretrained_rate: a multiple of the learning rate for the stages that are trained.

    Attributes:
        kind: of backbone.
        channels: output channels of each stage.
        feature_size: (height, width) of the last stage's output.

    Raises:
        UserError: unknown name or option, a network that can't be cut, images too small for it, a size below 1, no
            pretrained weights, fewer stages than are to be frozen, or stages and a head that break the contract.
            ``backbone`` raises it when the weights can't be downloaded, or those in a file can't be read or don't fit.
    """

    def __init__(
        self,
        name: str,
        image_size: tuple[int, int] | int,
        embedding_size: int,
        seed: int = 0,
        pretrained: bool | str | Path = False,
        frozen: bool | int = False,
        pretrained_rate: float = 1.0,
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
        self.pretrained_rate = pretrained_rate
        entry, options = read_spec(BACKBONES, name)
        self.kind: BackboneKind = entry.target(**options)
        self.kind.image_size = self.image_size
        if pretrained is True and not self.kind.has_pretrained:
            raise UserError(
                f"There are no pretrained weights for the backbone '{name}'; use it with pretrained off, or name a file"
                " of weights."
            )
        shapes = _shapes_of(entry.target, self.kind, name, show(options), embedding_size)
        self.channels: tuple[int, ...] = tuple(shape[1] for shape in shapes)
        self.feature_size: tuple[int, int] = (shapes[-1][2], shapes[-1][3])
        self.frozen = len(shapes) if frozen is True else int(frozen)
        if self.frozen > len(shapes):
            raise UserError(
                f"model.freeze = {self.frozen}: the backbone '{name}' has {counted(len(shapes), 'stage')}; freeze at"
                " most these, or set true."
            )
        self._parts = _Parts()

    def resized(self, embedding_size: int) -> BackboneFactory:
        """Return a factory of the same backbones with heads of another size; the frozen stages are the same modules."""
        name, size, seed = self.name, self.image_size, self.seed
        other = BackboneFactory(
            name, size, embedding_size, seed, self.pretrained, self.frozen, self.pretrained_rate
        )  # fmt: skip
        other._parts = self._parts
        return other

    def backbone(self, owner: str = "") -> Backbone:
        """Return a fresh backbone; ``owner`` names whom its weights belong to (a task, or "" for shared ones)."""
        with _seeded(f"{self.seed}/{owner}/stages") as device:
            # Values are what a download is for, and meta tensors have none.
            valued = device.type != "meta"
            stages = check_stages(self.kind, self.kind.stages(self.pretrained is True and valued))
            if valued and not self._parts.repeated:
                self._check_repeated(stages, owner)
            if valued and not isinstance(self.pretrained, bool):
                self._load(stages, Path(self.pretrained))
        if self.frozen:
            stages = self._with_frozen(stages)
        if self.pretrained and self.pretrained_rate != 1:
            for parameter in stages[self.frozen :].parameters():
                setattr(parameter, RATE, self.pretrained_rate)
        return Backbone(stages.to(device), self.channels, self.head(owner))

    def _check_repeated(self, stages: nn.ModuleList, owner: str) -> None:
        """Refuse a plug-in's stages that a seed does not decide.

        Raises:
            ContractError: built again with the same random state of torch, they have other values.
        """
        self._parts.repeated = True
        if BACKBONES.get(self.name.partition("[")[0]).bundled or self.pretrained is True:
            return
        with _seeded(f"{self.seed}/{owner}/stages"):
            again = self.kind.stages(False)
        if not all(map(torch.equal, stages.state_dict().values(), again.state_dict().values())):
            must = "draw the weights of its stages with torch alone"
            kind = type(self.kind)
            raise breach(BACKBONES, kind, must, "by another chance, which no seed repeats", kind.stages)

    def _load(self, stages: nn.ModuleList, file: Path) -> None:
        if self._parts.state is None:
            self._parts.state = read_state(file)
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            names = self.kind.library_names()
        load_stages(stages, self._parts.state, names, file, self.name)

    def _with_frozen(self, stages: nn.ModuleList) -> nn.ModuleList:
        """Return stages of which the first are frozen: the same modules for every owner."""
        if self._parts.frozen is None:
            self._parts.frozen = stages[: self.frozen]
            for stage in self._parts.frozen:
                freeze(stage)
        return nn.ModuleList([*self._parts.frozen, *stages[self.frozen :]])

    @contextmanager
    def seeded(self, owner: str = "") -> Iterator[None]:
        """Make the initial values of what is built inside depend on the seed and the owner alone.

        For an architecture's own modules: ``with backbones.seeded(task): self.attention.append(...)``. They are built
        on the CPU (on ``meta`` where that is the default device); whoever builds the architecture moves it.
        """
        with _seeded(f"{self.seed}/{owner}/own"):
            yield

    def head(self, owner: str = "") -> nn.Module:
        """Return a fresh embedding head alone, (B, channels[-1], height, width) -> (B, D): `backbone(owner).head`."""
        with _seeded(f"{self.seed}/{owner}/head") as device:
            head = self.kind.head(self.channels[-1], self.feature_size, self.embedding_size)
        return head.to(device)

    def heads(self, owners: Sequence[str]) -> Heads:
        """Return a fresh head for each owner, computed together as far as they are alike; see `Heads`."""
        return Heads([self.head(owner) for owner in owners])


class _Parts:
    """What the backbones of a factory have in common: frozen stages, and the tensors of a file."""

    repeated = False  # whether stages were built twice, to be compared
    frozen: nn.ModuleList | None = None
    state: dict[str, Tensor] | None = None


class BackboneKind(ABC):
    """One kind of backbone: how its stages are built, and the head that goes with them.

    A subclass takes its options as keyword-only arguments with types and defaults: `model.backbone` then may be
    `"plain[width=32]"`.

    >>> from torch import nn
    >>> from mtlbench import BackboneFactory, BackboneKind, register_backbone
    >>> @register_backbone("plain")
    ... class Plain(BackboneKind):
    ...     '''Two convolutions.'''
    ...
    ...     def __init__(self, *, width: int = 16):
    ...         self.width = width
    ...
    ...     def stages(self, pretrained):
    ...         first = nn.Conv2d(3, self.width, 3, stride=2, padding=1)
    ...         second = nn.Conv2d(self.width, 2 * self.width, 3, stride=2, padding=1)
    ...         return nn.ModuleList([nn.Sequential(first, nn.ReLU()), nn.Sequential(second, nn.ReLU())])
    >>> BackboneFactory("plain[width=32]", image_size=24, embedding_size=8).channels
    (32, 64)

    Attributes:
        image_size: (height, width) in pixels, which the factory sets before anything is built. Most networks take any
            size and need not look at it; those with positions of their own do.
        has_pretrained: whether there are published weights for the stages; a file of weights serves any kind.
    """

    image_size: tuple[int, int]
    has_pretrained: bool = False

    @abstractmethod
    def stages(self, pretrained: bool) -> nn.ModuleList:
        """Return fresh stages, of which stage i maps (B, C, H, W) to (B, channels[i], H', W').

        The first takes images, (B, 3, H, W). Where values are drawn, torch's random state decides them; under
        ``torch.device("meta")`` there are none, and `pretrained` is False.

        Args:
            pretrained: with the published weights; True only where `has_pretrained` is.

        Raises:
            UserError: the weights can't be fetched, or images of this size don't fit the network.
        """

    def library_names(self) -> tuple[str, ...]:
        """Return the names that the library whose network this is has for the tensors of the stages' state dict.

        In its order; empty where the network is mtlbench's own, or a plug-in's. By them a file of weights that was made
        without mtlbench is read. Called under ``torch.device("meta")``.
        """
        return ()

    def head(self, channels: int, feature_size: tuple[int, int], embedding_size: int) -> nn.Module:
        """Return a fresh head, (B, channels, height, width) -> (B, D): global average pooling, then one linear layer.

        Args:
            channels: of the last stage's output.
            feature_size: its (height, width).
            embedding_size: D.
        """
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, embedding_size))


def register_backbone(name: str, *, cite: str = "") -> Callable[[type[T]], type[T]]:
    """Class decorator: make a `BackboneKind` known as `name`, for a benchmark's `model.backbone`.

    The first line of the class's docstring says in lists what it is.

    >>> from torch import nn
    >>> from mtlbench import BackboneFactory, BackboneKind, register_backbone
    >>> @register_backbone("patches")
    ... class Patches(BackboneKind):
    ...     '''One convolution over patches of 4 x 4 pixels.'''
    ...
    ...     def stages(self, pretrained):
    ...         return nn.ModuleList([nn.Conv2d(3, 16, 4, stride=4)])
    >>> BackboneFactory("patches", image_size=24, embedding_size=8).feature_size
    (6, 6)

    Args:
        name: what benchmarks call it.
        cite: a BibTeX entry of the paper it is from.

    Raises:
        UserError: no subclass of `BackboneKind`, no `stages`, or the name is taken.
    """
    return register_class(BACKBONES, BackboneKind, name, cite=cite)


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


def stage_shapes(stages: nn.ModuleList | nn.Sequential, size: tuple[int, int]) -> Shapes | None:
    """Return the output shape of each stage, built on the meta device, for one image of `size`; None if it vanishes."""
    shapes = []
    stages.eval()
    features = torch.empty(1, 3, *size, device="meta")
    for stage in stages:
        try:
            features = stage(features)
        except RuntimeError:
            return None
        shapes.append(tuple(features.shape))
    return shapes


_SHAPES: dict[tuple[Any, str, tuple[int, int], int], Shapes] = {}  # lists need them often


def _shapes_of(target: Any, kind: BackboneKind, name: str, options: str, embedding_size: int) -> Shapes:
    """Return the output shape of each stage of a kind that has its image size, built without memory.

    Raises:
        UserError: the images are too small, or stages and head don't go together.
        ContractError: a stage returns no feature map, or the head no embedding of this size.
    """
    key = (target, options, kind.image_size, embedding_size)
    if key not in _SHAPES:
        with torch.device("meta"):
            stages = check_stages(kind, kind.stages(False))
        shapes: Shapes = []
        features = torch.empty(1, 3, *kind.image_size, device="meta")
        for number, stage in enumerate(stages.eval(), 1):
            try:
                found = stage(features)
            except RuntimeError as error:
                raise UserError(_does_not_fit(name, stages, kind.image_size, number, shapes, error)) from error
            check_features(kind, number, found)
            features = found
            shapes.append(tuple(features.shape))
        with torch.device("meta"):
            head = kind.head(shapes[-1][1], (shapes[-1][2], shapes[-1][3]), embedding_size)
        check_head(kind, head.eval()(features), embedding_size)
        _SHAPES[key] = shapes
    return _SHAPES[key]


def _does_not_fit(
    name: str, stages: nn.ModuleList, size: tuple[int, int], number: int, shapes: Shapes, error: RuntimeError
) -> str:
    """The sentence for a stage that fails: images vanish before it, or it does not take what the last one returns."""
    if stage_shapes(stages, (_ENOUGH, _ENOUGH)) is not None:
        return _too_small(name, stages, size)
    before = shapes[-1] if shapes else (1, 3, *size)
    return f"Stage {number} of the backbone '{name}' can't take features of shape {before}: {first_line(error)}."


def _too_small(name: str, stages: nn.ModuleList, size: tuple[int, int]) -> str:
    """The sentence for images that vanish inside the network, with the smallest side that doesn't."""
    sentence = f"Images of {size[0]} x {size[1]} pixels are too small for the backbone '{name}'"
    too_small, enough = min(size), _ENOUGH
    while enough - too_small > 1:
        middle = (too_small + enough) // 2
        if stage_shapes(stages, (middle, middle)) is None:
            too_small = middle
        else:
            enough = middle
    return f"{sentence}: both sides need at least {enough}."

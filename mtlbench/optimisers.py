"""Optimisers by name: torch's own, each with what a protocol says of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mtlbench.backbones.contract import RATE
from mtlbench.benchmark import Train
from mtlbench.errors import UserError
from mtlbench.options import check_known
from mtlbench.registry import OPTIMISERS
from mtlbench.returned import check_optimiser

Groups = Sequence[dict[str, Any]]


_SAME_STEP = {"foreach", "fused", "capturable", "differentiable"}


@dataclass(frozen=True)
class OptimiserKind:
    """How an optimiser is made.

    Attributes:
        make: the class.
        adaptive: it steps by about its learning rate whatever the size of a gradient.
        fixed: arguments that mtlbench gives.
        momentum: it takes the protocol's momentum.
    """

    make: Callable[..., torch.optim.Optimizer]
    adaptive: bool = True
    fixed: tuple[tuple[str, Any], ...] = ()
    momentum: bool = False

    @property
    def __signature__(self) -> inspect.Signature:
        """What `train.optimiser_options` is for, as keyword-only arguments: the class's but those that settings give.

        Those that only choose among implementations of the same step are left out too.
        """
        given = {"params", "lr", "weight_decay", *_SAME_STEP, *dict(self.fixed)} | (
            {"momentum"} if self.momentum else set()
        )
        own = [p for n, p in inspect.signature(self.make).parameters.items() if n not in given]
        return inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in own])

    def __call__(self, groups: Groups, train: Train) -> torch.optim.Optimizer:
        """Build the optimiser of parameter groups for a protocol.

        Raises:
            UserError: an option that it does not have, or that it refuses.
        """
        known = [name for name in inspect.signature(self.make).parameters if name not in ("params", "lr")]
        if "weight_decay" in train.optimiser_options:  # the parameters' groups have their own, which would hide it
            raise UserError("train.optimiser_options can't set weight_decay: set train.weight_decay.")
        check_known(f"optimiser '{train.optimiser}'", train.optimiser_options, known)
        arguments = dict(self.fixed) | ({"momentum": train.momentum} if self.momentum else {})
        if train.weight_decay and "weight_decay" not in known:
            raise UserError(f"The optimiser '{train.optimiser}' has no weight decay: set train.weight_decay = 0.")
        try:
            made = self.make(groups, lr=train.lr, **(arguments | train.optimiser_options))
        except (TypeError, ValueError, AssertionError) as error:
            raise UserError(f"The optimiser '{train.optimiser}' can't be used this way: {error}.") from error
        return check_optimiser(self, made)


def find_optimiser(name: str) -> OptimiserKind:
    """Return the optimiser of a name, in any spelling.

    Raises:
        UserError: there is none, or it calls the network by itself, several times a step.
    """
    if name.lower() == "lbfgs":
        raise UserError(
            "The optimiser 'lbfgs' evaluates a step several times, which mtlbench doesn't do; take another."
        )
    kind: OptimiserKind = OPTIMISERS.get(name.lower()).target
    return kind


def parameter_groups(module: nn.Module, scales: Mapping[str, float], decay: float = 0.0) -> list[dict[str, Any]]:
    """Return a module's trained parameters as an optimiser takes them, in groups of one `scale` and weight decay.

    Args:
        module: whose parameters.
        scales: see `Architecture.learning_rate_scales`; the first that fits a parameter's name counts, times the rate
            of pretrained parameters.
        decay: of layers' weights; biases, norms, scales and units have none.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            scale = _scale_of(name, scales) * getattr(parameter, RATE, 1.0)
            weight = name.endswith(".weight") and parameter.dim() > 1
            groups.setdefault((scale, decay if weight else 0.0), []).append(parameter)
    return [{"params": p, "scale": scale, "weight_decay": decay} for (scale, decay), p in groups.items()]


def scaled_share(module: nn.Module, scales: Mapping[str, float]) -> tuple[float, float]:
    """Return which share of a module's trained parameters has a rate of its own, and the largest multiple; see
    `parameter_groups`.
    """
    trained = {name: p.numel() for name, p in module.named_parameters() if p.requires_grad}
    of = {name: _scale_of(name, scales) for name in trained}
    scaled = sum(size for name, size in trained.items() if of[name] != 1)
    return scaled / max(sum(trained.values()), 1), max(of.values(), default=1.0)


def _scale_of(name: str, scales: Mapping[str, float]) -> float:
    return next((scale for prefix, scale in scales.items() if name.startswith(prefix)), 1.0)


_FUSED = (("fused", True),)
_OWN = {
    "adamw": OptimiserKind(torch.optim.AdamW, fixed=_FUSED),
    "adam": OptimiserKind(torch.optim.Adam, fixed=_FUSED),
    "adagrad": OptimiserKind(torch.optim.Adagrad),
    "sgd": OptimiserKind(torch.optim.SGD, adaptive=False, fixed=_FUSED, momentum=True),
}
_NOT_ADAPTIVE = ("asgd",)
_UNFIT = ("optimizer", "lbfgs", "sparseadam")


def _register() -> None:
    for name, kind in _OWN.items():
        OPTIMISERS.add(name, kind, summary=f"torch.optim.{kind.make.__name__}.", origin=__file__)
    for name, cls in sorted(vars(torch.optim).items()):
        if inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer) and name.lower() not in (*_OWN, *_UNFIT):
            kind = OptimiserKind(cls, adaptive=name.lower() not in _NOT_ADAPTIVE)
            OPTIMISERS.add(name.lower(), kind, summary=f"torch.optim.{name}.", origin=__file__)


_register()

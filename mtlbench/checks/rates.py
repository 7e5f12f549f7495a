"""Checks that an option `rate` works: the engine gives the parameters in question a different learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from mtlbench.checks.items import Fault, NotApplicable
from mtlbench.names import joined
from mtlbench.optimisers import parameter_groups
from mtlbench.options import options_of

LOW, HIGH = 2.0, 6.0


class Rated(Protocol):
    """An object that may set its own learning rates: an architecture or a balancer."""

    def learning_rate_scales(self, *, adaptive: bool) -> Mapping[str, float]:
        """See `Architecture.learning_rate_scales`."""


def rate_acts(
    cls: Callable[..., object], build: Callable[[float], nn.Module], gradients: Callable[[nn.Module], None]
) -> str:
    """Check that a rate multiplies the first step of some parameters and leaves the steps of all others unchanged.

    Args:
        cls: the class, which may lack the option.
        build: builds the module with a given rate; everything else is the same every time.
        gradients: sets the gradients of its parameters, the same ones every time.

    Raises:
        NotApplicable: the class has no option `rate`.
        Fault: the rate changes nothing, or changes every parameter.
    """
    if "rate" not in options_of(cls):
        raise NotApplicable("it has no option rate")
    low, high = (_first_step(build(rate), gradients) for rate in (LOW, HIGH))
    rounding = {name: 1e-6 * (1 + p.detach().abs().max().item()) for name, p in build(LOW).named_parameters()}
    moved = {name: step for name, step in low.items() if step.abs().max() > 20 * rounding[name]}
    faster = [n for n, step in moved.items() if (high[n] - HIGH / LOW * step).abs().max() < 4 * rounding[n]]
    others = [n for n, step in moved.items() if n not in faster and not torch.equal(high[n], step)]
    if others:
        raise Fault(f"steps {HIGH / LOW:g} times as long, or as long as before", f"others of {joined(others, 4)}")
    if not faster:
        if not build(LOW).learning_rate_scales(adaptive=False):  # type: ignore[operator]
            raise NotApplicable("with these options it has no parameters of a rate of their own")
        raise Fault("a rate that acts", "the same steps whatever it is", "return it in learning_rate_scales")
    return f"on {joined(faster, 2)}"


def _first_step(module: nn.Module, gradients: Callable[[nn.Module], None]) -> dict[str, Tensor]:
    """Return how far each parameter moves in one step of gradient descent."""
    scales = module.learning_rate_scales(adaptive=False)  # type: ignore[operator]
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    gradients(module)
    for group in parameter_groups(module, scales):
        torch.optim.SGD(group["params"], lr=group["scale"]).step()
    return {name: (p.detach() - before[name]).double() for name, p in module.named_parameters()}

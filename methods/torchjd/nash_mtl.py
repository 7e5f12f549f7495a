"""Nash-MTL, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import At, Combiner, Remembering, make


class Rescaled(nn.Module):
    """Weights found for gradients of length 1; between two solutions they stay, scale and all."""

    def __init__(self, weighting: Any, every: int) -> None:
        super().__init__()
        self.weighting, self.every = weighting, every
        self.lengths: Tensor | None = None  # (T,) of the gradients at the latest solution

    def forward(self, rows: Tensor) -> Tensor:
        """(T, P) gradients -> (T,) weights."""
        if self.lengths is None or self.weighting.step % self.every == 0:
            lengths = rows.norm(dim=1)
            self.lengths = torch.where(lengths > 0, lengths, 1.0)
        lengths = self.lengths
        weights: Tensor = self.weighting(rows / lengths[:, None]) / lengths
        return weights


@register_balancer("nash-mtl", cite="navon2022nashmtl", needs=("torchjd", "cvxpy", "ecos"), extra="solvers")
class NashMTL(Remembering, Combiner):
    """Nash-MTL: the step on which the tasks would agree in a bargaining game (needs cvxpy and ecos).

    Navon et al., ICML 2022: weights a with G a = 1/a, G the Gramian, found from the previous step's on. It is solved
    for gradients of length 1, whose solution is a times the gradients' lengths: the solver takes the small Gramians of
    a triplet loss for 0 and gives the plain sum, and misses the solution where lengths are unlike.

    Scale: G a = 1/a, cut off, and kept: at most `max_norm` long, whatever the gradients' length.

    Args:
        max_norm: the update's greatest length; 0 for no limit. The update's length does not follow the gradients', so
            this is a part of the learning rate.
        every: steps from one solution to the next.
        iterations: of the solver, at most.
        at: where gradients are taken.
    """

    scale = "own"
    of_gramian = False
    own_scale = True

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        max_norm: float = 1.0,
        every: int = 1,
        iterations: int = 20,
        at: At = "shared",
    ) -> None:
        limits: dict[str, Any] = {"max_norm": max_norm, "update_weights_every": every, "optim_niter": iterations}
        made = make("nash-mtl", "aggregation.NashMTL", len(tasks), **limits)
        super().__init__(tasks, Rescaled(made.weighting, every), at)


register_method(
    "nash-mtl",
    architecture="shared",
    balancer="nash-mtl",
    groups=("balancers",),
    summary="The shared trunk with Nash-MTL.",
)

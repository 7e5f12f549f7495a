"""FAMO, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtlbench import Architecture, register_balancer, register_method
from mtlbench.torchjd import SMALLEST_LOSS, Remembering, Scalarizer, make


@register_balancer("famo", cite="liu2023famo", needs=("torchjd",))
class FAMO(Remembering, Scalarizer):
    """FAMO: all losses shall fall at the same relative rate, judged by the losses alone.

    Liu, Feng, Stone, Liu, NeurIPS 2023. w_i = T (z_i / L_i) / sum_j (z_j / L_j) with z = softmax(xi), and after each
    step Adam moves xi along the rates log L_i(before) - log L_i(after).

    Deviations: the paper evaluates the batch again after the step, a second forward pass that no other method gets;
    here the losses of the next batch stand for those after the step, so the rates carry the noise between two batches.
    Losses count as at least 0.001. A task at 0 would still take nearly all of the weight and leave the step idle: its
    weight goes to the others in proportion, and is given as 1.

    Scale: torchjd's weights sum to 1; here times T.

    Args:
        lr: of xi; paper: 0.025.
        decay: weight decay of xi; paper: 0.001.
    """

    steps: Tensor

    def __init__(self, tasks: Sequence[str], *, lr: float = 0.025, decay: float = 1e-3) -> None:
        part = make("famo", "scalarization.FAMO", len(tasks), lr=lr, weight_decay=decay)
        super().__init__(tasks, part, len(tasks))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def backward(self, losses: Tensor, architecture: Architecture) -> Tensor:
        """See `Balancer.backward`; one backward pass."""
        values = losses.detach().clamp_min(SMALLEST_LOSS)
        self._recall(values)
        if self.steps > 0:
            self.part.update(values)
        self.steps += 1
        weights = self._weights(values)
        active = losses.detach() > 0
        among = torch.where(active, weights, 0.0)
        weights = torch.where(active, among * (active.sum() / among.sum().clamp_min(1e-30)), 1.0)
        self.weighted_backward(losses, weights, architecture)
        return weights

    def _complete(self, statistic: Tensor) -> None:
        super()._complete(statistic)
        self.part.update(statistic)


register_method(
    "famo",
    architecture="shared",
    balancer="famo",
    groups=("balancers",),
    summary="The shared trunk with FAMO.",
)

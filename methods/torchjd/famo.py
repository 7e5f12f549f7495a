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
    step Adam moves xi along the rates log L_i(before) - log L_i(after), the losses of the same batch before and after
    it: a second forward pass, in training mode as in the authors' code, so batch norm sees the batch twice.

    Deviations: losses count as at least 0.001. A task at 0 would still take nearly all of the weight and leave the step
    idle: its weight goes to the others in proportion, and is given as 1.

    Measured over 350 steps of rendered shoes with four tasks (`python tools/balancer_weights.py famo --set
    train.triplets=4 --set 'data.image_size=[24,32]' --set train.shift=1`): weights from 0.14 to 2.68, and those of
    the plain mean at no step.

    Scale: torchjd's weights sum to 1; here times T.

    Args:
        lr: of xi; paper: 0.025.
        decay: weight decay of xi; paper: 0.001.
    """

    judges_again = True

    def __init__(self, tasks: Sequence[str], *, lr: float = 0.025, decay: float = 1e-3) -> None:
        part = make("famo", "scalarization.FAMO", len(tasks), lr=lr, weight_decay=decay)
        super().__init__(tasks, part, len(tasks))

    def backward(self, losses: Tensor, architecture: Architecture) -> Tensor:
        """See `Balancer.backward`; one backward pass."""
        weights = self._weights(losses.detach().clamp_min(SMALLEST_LOSS))
        active = losses.detach() > 0
        among = torch.where(active, weights, 0.0)
        weights = torch.where(active, among * (active.sum() / among.sum().clamp_min(1e-30)), 1.0)
        self.weighted_backward(losses, weights, architecture)
        return weights

    def judge(self, losses: Tensor) -> None:
        """Move xi along the rates at which the losses fell."""
        self.part.update(losses.clamp_min(SMALLEST_LOSS))

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

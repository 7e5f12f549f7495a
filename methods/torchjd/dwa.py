"""Dynamic weight average, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtlbench import UserError, register_balancer, register_method
from mtlbench.torchjd import SMALLEST_LOSS, Remembering, Scalarizer, make


@register_balancer("dwa", cite="liu2019mtan", needs=("torchjd",))
class DWA(Remembering, Scalarizer):
    """Dynamic weight average: a task whose loss falls slowly weighs more.

    Liu, Johns, Davison, CVPR 2019. w_i = T softmax(r / temperature)_i, r_i = the mean loss of the latest epoch over
    that of the one before; 1 for the first two. Triplets are drawn without end, so an epoch here is `every` steps.
    Losses count as at least 0.001.

    Measured over 350 steps of rendered shoes with four tasks (`python tools/balancer_weights.py dwa --set
    train.triplets=4 --set 'data.image_size=[24,32]' --set train.shift=1`): weights from 0.94 to 1.03, and within 0.01
    of the plain mean's in 34 % of steps. At the paper's temperature, ratios of 0.9 and 1.1 give two tasks no more than
    0.95 and 1.05.

    Scale: torchjd's weights sum to T and stay as they are.

    Args:
        temperature: larger brings the weights nearer to 1; paper: 2.
        every: steps over which losses are averaged, and after which the weights change: the first two such epochs are
            the plain mean's. 20 makes 17 epochs of a quick protocol's 350 steps.
    """

    smallest = SMALLEST_LOSS
    steps: Tensor

    def __init__(self, tasks: Sequence[str], *, temperature: float = 2.0, every: int = 20) -> None:
        if every < 1:
            raise UserError(f"dwa: every={every} must be 1 step or more.")
        super().__init__(tasks, make("dwa", "scalarization.DWA", temperature=temperature))
        self.every = every
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def _weights(self, values: Tensor) -> Tensor:
        weights = super()._weights(values)
        self.steps += 1
        if int(self.steps) % self.every == 0:
            self.part.step()
        return weights


register_method(
    "dwa",
    architecture="shared",
    balancer="dwa",
    groups=("balancers",),
    summary="The shared trunk with dynamic weight average.",
)

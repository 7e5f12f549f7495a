"""SDMGrad; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtlbench import UserError, register_balancer, register_method
from mtlbench.torchjd import Combiner, FromPreviousBatches, Remembering


class InnerDescent(nn.Module):
    """Some steps of projected descent with momentum on the weights, from the latest ones on."""

    def __init__(self, pull: float, lr: float, momentum: float, iterations: int) -> None:
        super().__init__()
        self.pull, self.lr, self.momentum, self.iterations = pull, lr, momentum, iterations
        self.latest: Tensor | None = None

    def forward(self, products: Tensor) -> Tensor:
        """(T, T) products of two batches' gradients, relative to their squared length -> (T,) weights."""
        even = products.new_full((len(products),), 1 / len(products))
        weights = even if self.latest is None else self.latest
        velocity = torch.zeros_like(weights)
        for _ in range(self.iterations):
            velocity = self.momentum * velocity + products @ (weights + self.pull * even)
            weights = on_simplex(weights - self.lr * velocity)
        self.latest = weights
        return (weights + self.pull * even) / (1 + self.pull)


def on_simplex(point: Tensor) -> Tensor:
    """Return the nearest point (T,) with no number below 0 and of sum 1."""
    ordered = point.sort(descending=True).values
    shifts = (ordered.cumsum(0) - 1) / torch.arange(1, len(point) + 1, device=point.device)
    kept = int((ordered > shifts).sum())
    return (point - shifts[max(kept, 1) - 1]).clamp_min(0)


@register_balancer("sdmgrad", cite="xiao2023sdmgrad")
class SDMGrad(Remembering, Combiner):
    """SDMGrad: a short vector of the gradients' hull, pulled towards their mean, from double sampling.

    Xiao, Ban, Ji, NeurIPS 2023. Gradients at all shared parameters, and those of the latest batch stay in memory.

    Deviations: the three batches of one step are those of three steps (see `FromPreviousBatches`). The gradients'
    products are divided by the gradients' mean squared length, where torchjd divides by their own diagonal: of two
    batches, a triplet loss's gradients are so unlike that it is near 0 or below, and the weights jump from one task to
    another whatever the rate.

    Measured over 350 steps of rendered shoes with four tasks (`python tools/balancer_weights.py sdmgrad
    'sdmgrad[lr=0.1]' --set train.triplets=4`): weights from 0.23, the least that `pull` leaves, to 2.34. Some task is
    at that bound in 28 % of steps, none has all of the weight, and the weights are those of the plain mean in 1 %. With
    a rate of 0.1 some task is at the bound in 71 %.

    Scale: weights sum to 1, a mean.

    Args:
        pull: towards the mean gradient, 0 or more (lambda in the paper); in the authors' experiments: 0.3.
        lr: of the inner descent on the weights; the authors take 10 with products scaled otherwise.
        momentum: of the inner descent.
        iterations: of the inner descent, at every step.
    """

    of_gramian = False

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        pull: float = 0.3,
        lr: float = 0.01,
        momentum: float = 0.5,
        iterations: int = 20,
    ) -> None:
        if pull < 0 or lr <= 0 or not 0 <= momentum < 1 or iterations < 1:
            raise UserError(
                f"sdmgrad: pull={pull} must be 0 or more, lr={lr} above 0, momentum={momentum} 0 or more and below 1,"
                f" iterations={iterations} 1 or more."
            )
        inner = InnerDescent(pull, lr, momentum, iterations)
        super().__init__(tasks, FromPreviousBatches(inner, normalise=True))


register_method(
    "sdmgrad",
    architecture="shared",
    balancer="sdmgrad",
    groups=("balancers",),
    summary="The shared trunk with SDMGrad.",
)

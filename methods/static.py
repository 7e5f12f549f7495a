"""Static weights: fixed loss weights that the user has tuned. Kurin, De Palma, Kostrikov, Whiteson, Mudigonda: In
Defense of the Unitary Scalarization for Deep Multi-Task Learning, NeurIPS 2022 (arXiv 2201.04122).

A tuned weighted sum is the baseline that cleverer balancers have to beat. Weights are brought to a sum of T, so that
they choose between tasks and leave the learning rate as it is; see `Balancer`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mtlbench import Architecture, Balancer, UserError, register_balancer


@register_balancer("static", cite="kurin2022unitary")
class Static(Balancer):
    """Fixed weights of the losses: static[weights=1:2:1].

    Args:
        weights: one a task, in the tasks' order, 0 or more; only their ratios count.
    """

    fixed = True

    weights: Tensor

    def __init__(self, tasks: Sequence[str], *, weights: tuple[float, ...] = ()) -> None:
        super().__init__(tasks)
        if len(weights) != len(tasks):
            raise UserError(
                f"static wants {len(tasks)} weights, one each for {', '.join(tasks)}, as in"
                f" static[weights={':'.join('1' * len(tasks))}{':' * (len(tasks) == 1)}]; it was given {len(weights)}."
            )
        if not all(math.isfinite(w) and w >= 0 for w in weights) or sum(weights) == 0:
            raise UserError(f"static: weights={':'.join(map(str, weights))} must be 0 or more, and not all 0.")
        total = sum(weights)
        self.register_buffer("weights", torch.tensor([len(weights) * w / total for w in weights]), persistent=False)

    def backward(self, losses: Tensor, architecture: Architecture) -> Tensor:
        """See `Balancer.backward`."""
        self.weighted_backward(losses, self.weights, architecture)
        return self.weights.clone()

"""The plain mean of the losses: every task counts the same, at every step. It is the balancer of a method that names
none.
"""

import torch
from torch import Tensor

from mtlbench import Architecture, Balancer, register_balancer


@register_balancer("mean")
class Mean(Balancer):
    """The plain mean of the losses: every task counts the same, at every step."""

    fixed = True

    def backward(self, losses: Tensor, architecture: Architecture) -> Tensor:
        """See `Balancer.backward`."""
        weights = torch.ones_like(losses.detach())
        self.weighted_backward(losses, weights, architecture)
        return weights

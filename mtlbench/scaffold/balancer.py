"""My-method: tasks with larger recent losses weigh more.

<Authors: Title, Venue Year (arXiv number).>

<Say here what the idea is, in two or three sentences, and write down the formula that the code
follows. This file runs unchanged: with m_t a moving mean of task t's loss, the T weights are

    w = T softmax(m / temperature),    m_t <- momentum m_t + (1 - momentum) L_t

so that equal losses weigh 1 each.>

<Deviations: say what differs from the paper, and why. Or: none.>
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtlbench import Architecture, Balancer, UserError, register_balancer, register_method

# The paper's. `mtlbench list balancers` takes authors and year from it, and prints it with --bibtex.
BIBTEX = """
@inproceedings{key2026word,
  author = {Family, Given and Family, Given},
  title = {Title},
  booktitle = {Venue},
  year = {2026},
}
"""


# The name is what users write behind any architecture: --methods modulation+my-method.
@register_balancer("my-method", cite=BIBTEX)
class MyMethod(Balancer):
    """Weights that follow the tasks' latest losses.

    <The line above is what `mtlbench list balancers` shows.>

    Args:
        temperature: above 0; the smaller, the more the task with the largest loss outweighs others.
        momentum: from 0 to below 1; how slowly the mean of a loss follows the loss.
    """

    losses: Tensor  # (T,) the moving means
    seen: Tensor  # () how many losses they are made of

    # Options are keyword-only arguments with a type and a default; users set one by
    # 'my-method[momentum=0.5]'.
    def __init__(self, tasks: Sequence[str], *, temperature: float = 0.1, momentum: float = 0.9) -> None:
        super().__init__(tasks)
        if temperature <= 0:
            raise UserError(f"my-method: temperature={temperature} must be above 0.")
        if not 0 <= momentum < 1:
            raise UserError(f"my-method: momentum={momentum} must be 0 or more and below 1.")
        self.temperature, self.momentum = temperature, momentum
        # Keep memory in buffers: an interrupted run continues from its checkpoint as if it had not
        # stopped.
        self.register_buffer("losses", torch.zeros(len(tasks)))
        self.register_buffer("seen", torch.zeros(()))

    # The one required method.
    def backward(self, losses: Tensor, architecture: Architecture) -> Tensor:
        """Add the update's gradient to every parameter's `.grad`, and return the (T,) weights used, for the log."""
        # Detached: no gradient may flow through the weights.
        latest = losses.detach().float()
        self.losses = self.momentum * self.losses + (1 - self.momentum) * latest
        self.seen = self.seen + 1
        means = self.losses / (1 - self.momentum**self.seen)  # of the losses seen alone
        # Weights of 1 mean the plain mean. They sum to T; otherwise they would hide a learning rate.
        weights = len(losses) * torch.softmax(means / self.temperature, 0)
        # Shared parameters get the mean of the tasks' weighted gradients, a task's own parameters its
        # own gradient. A method that combines gradients instead takes those of
        # architecture.shared_parameters() by torch.autograd.grad.
        self.weighted_backward(losses, weights, architecture)
        return weights


# Alone, the name means the shared trunk with this balancer.
register_method(
    "my-method",
    architecture="shared",
    balancer="my-method",
    summary="The shared trunk with my-method.",
)

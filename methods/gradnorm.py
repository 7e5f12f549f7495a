"""GradNorm. Chen, Badrinarayanan, Lee, Rabinovich: GradNorm: Gradient Normalization for Adaptive Loss Balancing in
Deep Multitask Networks, ICML 2018 (arXiv 1711.02257), Algorithm 1.

Weights w_i, all 1 at the start, scale the losses. With W the last shared layer, at every step

    G_i = || grad_W w_i L_i ||_2
    r_i = (L_i / L_i(0)) / mean_j (L_j / L_j(0))
    L_grad = sum_i | G_i - mean(G) r_i^alpha |        the target mean(G) r_i^alpha held constant

the network takes its step on sum_i w_i L_i, w_i <- w_i - lr dL_grad/dw_i, and then sum_i w_i is brought back to T.
Since G_i = w_i n_i with n_i = || grad_W L_i ||, dL_grad/dw_i = sign(G_i - target_i) n_i, without a second derivative.
The tasks' own layers are trained with the weighted losses, as in the algorithm ("standard backward pass").

What the paper leaves open, and what is done here. The update of w is plain gradient descent with its own rate, or
`optimiser=adam`: Adam with its usual moments (0.9, 0.999). Plain steps are in the gradients' own units, lr n_i, so
gradients of 1e-3 move a weight by 2.5e-5 a step; Adam's steps are about lr long whatever the gradients' length. A
triplet loss can be 0: L_i(0) is the first loss of task i above 0, and L_i / L_i(0) is 1 while there is none. A task
with no active triplet has L_i = 0 and counts as a fast one: its weight falls as the others rise. Weights stay above
0.001: a negative weight would maximise a loss. As everywhere in mtlbench shared layers receive the mean over tasks of
the weighted gradients, not their sum (see `Balancer`).

A step takes 1.16 times as long as one of `shared` with four tasks that share a batch and 1.58 times with twenty, since
the gradient of a convolution takes a product for each. Where images are sampled for each task, two products serve all:
1.05 times with four tasks, 1.11 with twenty and 1.12 with forty (`small`, 48 x 64 px, 60 to 360
images, bfloat16, two threads of an AMD EPYC, torch 2.14.1: `tools/speed/steps.py --methods gradnorm --sampling ...`).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mtlbench import Architecture, Balancer, Range, UserError, register_balancer, register_method

SMALLEST_WEIGHT = 1e-3


@register_balancer("gradnorm", cite="chen2018gradnorm")
class GradNorm(Balancer):
    """Weights that bring the tasks' gradient norms at the last shared layer together, slower tasks a little above.

    Args:
        alpha: how strongly a task that learns slowly is favoured; 0 makes the norms equal. Paper: 1.5 on NYUv2 (tasks
            of unlike difficulty), 0.12 on its symmetric toy tasks.
        lr: the weights' own learning rate; paper: 0.025.
        optimiser: of the weights.
    """

    search = {"alpha": Range(0.0, 3.0), "lr": Range(1e-3, 0.3, log=True)}
    weights: Tensor
    first_losses: Tensor
    moments: Tensor
    steps: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        alpha: float = 1.5,
        lr: float = 0.025,
        optimiser: Literal["sgd", "adam"] = "sgd",
    ) -> None:
        super().__init__(tasks)
        if lr <= 0:
            raise UserError(f"gradnorm: lr={lr} must be above 0.")
        self.alpha, self.lr = float(alpha), float(lr)
        self.register_buffer("weights", torch.ones(len(tasks)))
        self.register_buffer("first_losses", torch.zeros(len(tasks)))
        self.adam = optimiser == "adam"
        if self.adam:
            self.register_buffer("moments", torch.zeros(2, len(tasks)))
            self.register_buffer("steps", torch.zeros(()))

    def check(self, architecture: Architecture) -> None:
        """Refuse an architecture without a last shared layer.

        Raises:
            UserError: gradient norms have no common place there.
        """
        if not architecture.last_shared_layer():
            raise UserError(
                f"gradnorm compares gradients at the last shared layer, and {type(architecture).__name__} has none;"
                " combine it with an architecture whose tasks share a layer."
            )
        if not any(p.requires_grad for p in architecture.last_shared_layer()):
            raise UserError(
                f"gradnorm compares gradients at the last shared layer, and that of {type(architecture).__name__} is"
                " frozen: freeze fewer stages (model.freeze), or take a balancer that needs the losses alone."
            )

    def backward(self, losses: Tensor, architecture: Architecture) -> Tensor:
        """See `Balancer.backward`; the weights returned are those of this step, before their update."""
        norms = self.norms_at_last_shared_layer(losses, architecture)
        used = self.weights.clone()
        self.weighted_backward(losses, used, architecture)
        self._update(losses.detach().float(), norms.float())
        return used

    def _update(self, losses: Tensor, norms: Tensor) -> None:
        """Move the weights by one step: (T,) losses and (T,) norms of the unweighted gradients at the last layer."""
        self.first_losses = torch.where(self.first_losses > 0, self.first_losses, losses)
        ratios = torch.where(self.first_losses > 0, losses / self.first_losses.clamp_min(1e-30), 1.0)
        mean = ratios.mean()
        rates = torch.where(mean > 0, ratios / mean.clamp_min(1e-30), torch.ones_like(ratios))
        self.gradient_norms = weighted = self.weights * norms
        target = weighted.mean() * self._power(rates)
        moved = self.weights - self.lr * self._direction(torch.sign(weighted - target) * norms)
        moved = moved.clamp_min(SMALLEST_WEIGHT)
        self.weights = moved * (len(moved) / moved.sum())

    def _direction(self, gradient: Tensor) -> Tensor:
        """Return what the weights move along for a (T,) gradient: itself, or Adam's step of length 1."""
        if not self.adam:
            return gradient
        self.steps = self.steps + 1
        self.moments = torch.stack(
            [0.9 * self.moments[0] + 0.1 * gradient, 0.999 * self.moments[1] + 0.001 * gradient.square()]
        )
        first, second = self.moments[0] / (1 - 0.9**self.steps), self.moments[1] / (1 - 0.999**self.steps)
        return first / (second.sqrt() + 1e-8)

    def _power(self, rates: Tensor) -> Tensor:
        return torch.ones_like(rates) if self.alpha == 0 else rates.pow(self.alpha)


register_method(
    "gradnorm",
    architecture="shared",
    balancer="gradnorm",
    groups=("core", "balancers"),
    summary="The shared trunk with the GradNorm balancer.",
)

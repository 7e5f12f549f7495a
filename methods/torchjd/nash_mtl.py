"""Nash-MTL; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mtlbench import UserError, register_balancer, register_method
from mtlbench.torchjd import Array, At, Combiner, Remembering

RIDGE = 1e-7  # what float32 leaves of a Gramian of unit diagonal; gradients that cancel have no solution without it


class Bargain(nn.Module):
    """The solution's weights; between two solutions they stay, scale and all."""

    def __init__(self, max_norm: float, every: int) -> None:
        super().__init__()
        self.max_norm, self.every = max_norm, every
        self.step = 0
        self.weights: Tensor | None = None  # (T,) of the latest solution, 0 for a task that had no gradient

    def forward(self, rows: Tensor) -> Tensor:
        """(T, P) gradients -> (T,) weights."""
        if self.weights is None or self.step % self.every == 0:
            lengths = rows.norm(dim=1)
            lengths = torch.where(lengths > 0, lengths, 1.0)
            units = rows / lengths[:, None]
            solution = bargain((units @ units.T).double().cpu().numpy())
            self.weights = torch.from_numpy(solution).to(rows) / lengths
        self.step += 1
        length = torch.linalg.vector_norm(self.weights @ rows)
        cut = self.max_norm > 0 and length > self.max_norm
        return self.weights * (self.max_norm / length) if cut else self.weights.clone()


def bargain(gramian: Array) -> Array:
    """Return the (T,) weights a > 0 with G a = 1/a; 0 for a task without a gradient, whose diagonal is 0.

    They are where a G a / 2 - sum log a is least, and nowhere else is its gradient 0: Newton's method, damped as for
    any self-concordant function (Boyd and Vandenberghe, Convex Optimization, 9.6), comes there from anywhere.
    """
    found = np.zeros(len(gramian))
    active = gramian.diagonal() > 0
    products = gramian[np.ix_(active, active)] + RIDGE * np.eye(int(active.sum()))
    weights = np.full(len(products), 1 / np.sqrt(max(len(products), 1)))
    for _ in range(200):
        slope = products @ weights - 1 / weights
        move = -np.linalg.solve(products + np.diag(weights**-2), slope)
        decrement = np.sqrt(max(-float(slope @ move), 0.0))
        weights = weights + move / (1 + decrement if decrement > 0.25 else 1)
        if decrement < 1e-9:
            break
    found[active] = weights
    return found


@register_balancer("nash-mtl", cite="navon2022nashmtl")
class NashMTL(Remembering, Combiner):
    """Nash-MTL: the step on which the tasks would agree in a bargaining game.

    Navon et al., ICML 2022: weights a with G a = 1/a, G the Gramian. It is solved for gradients of length 1, whose
    solution is a times the gradients' lengths, so that small gradients are solved for as exactly as long ones.

    Deviations: a is found exactly, as the minimum of a G a / 2 - sum log a, where the paper takes some steps of a
    convex-concave procedure. Where the gradients cancel there is no such a, and a share of 1e-7 of each one's square is
    added to it. A task without a gradient takes no part until the next solution.

    Scale: G a = 1/a, cut off, and kept: at most `max_norm` long, whatever the gradients' length. Uncut, the square of
    the update's length is T (a G a = T), so with `max_norm` below that all updates are equally long.

    Args:
        max_norm: the update's greatest length; 0 for no limit. The update's length does not follow the gradients', so
            this is a part of the learning rate.
        every: steps from one solution to the next.
        at: where gradients are taken.
    """

    scale = "own"
    of_gramian = False
    own_scale = True

    def __init__(self, tasks: Sequence[str], *, max_norm: float = 1.0, every: int = 1, at: At = "shared") -> None:
        if max_norm < 0:
            raise UserError(f"nash-mtl: max_norm={max_norm} must be 0 or more; 0 is no limit.")
        if every < 1:
            raise UserError(f"nash-mtl: every={every} must be 1 step or more.")
        super().__init__(tasks, Bargain(max_norm, every), at)


register_method(
    "nash-mtl",
    architecture="shared",
    balancer="nash-mtl",
    groups=("balancers",),
    summary="The shared trunk with Nash-MTL.",
)

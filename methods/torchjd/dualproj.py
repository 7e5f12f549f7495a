"""DualProj, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import At, Combiner, make


@register_balancer("dualproj", cite="lopezpaz2017gem", needs=("torchjd", "qpsolvers", "quadprog"), extra="solvers")
class DualProj(Combiner):
    """DualProj: the mean gradient, moved as little as it takes to worsen no task (needs quadprog and qpsolvers).

    Lopez-Paz, Ranzato, NIPS 2017, Equation 11: the mean's projection on the cone of directions without conflict.

    Scale: the projected mean, as it is.

    Args:
        at: where gradients are taken.
    """

    def __init__(self, tasks: Sequence[str], *, at: At = "shared") -> None:
        part = make("dualproj", "aggregation.DualProjWeighting")
        super().__init__(tasks, part, at)


register_method(
    "dualproj",
    architecture="shared",
    balancer="dualproj",
    groups=("balancers",),
    summary="The shared trunk with DualProj.",
)

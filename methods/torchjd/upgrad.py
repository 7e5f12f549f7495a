"""UPGrad, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import At, Combiner, make


@register_balancer("upgrad", cite="quinton2024jacobian", needs=("torchjd", "qpsolvers", "quadprog"), extra="solvers")
class UPGrad(Combiner):
    """UPGrad: each gradient, moved as little as it takes to worsen no task; their mean (needs quadprog and qpsolvers).

    Quinton, Rey, 2024: the projections of the tasks' gradients on the cone of directions without conflict.

    Scale: a mean of projections, longer than the plain mean in conflict: by design, and kept.

    Args:
        at: where gradients are taken.
    """

    def __init__(self, tasks: Sequence[str], *, at: At = "shared") -> None:
        part = make("upgrad", "aggregation.UPGradWeighting")
        super().__init__(tasks, part, at)


register_method(
    "upgrad",
    architecture="shared",
    balancer="upgrad",
    groups=("balancers",),
    summary="The shared trunk with UPGrad.",
)

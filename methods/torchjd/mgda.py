"""MGDA; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import At, Combiner, Exactly, shortest_in_hull


@register_balancer("mgda", cite="sener2018mgda")
class MGDA(Combiner):
    """MGDA: the shortest vector in the convex hull of the tasks' gradients, which worsens no task.

    Desideri, Comptes Rendus Mathematique, 2012; Sener, Koltun, NeurIPS 2018, whose upper bound MGDA-UB is the default
    place. Gradients are not normalised.

    Deviations: the vector is found exactly, by non-negative least squares; the paper's Frank-Wolfe solver (Algorithm 2)
    stops some per cent short of it where there are many tasks. As written, one task without a gradient would stop all;
    here it waits (see mtlbench.torchjd).

    Scale: weights sum to 1, a mean. The shortest vector of the hull is shorter the more conflict there is: by
    design, and kept.

    Args:
        at: where gradients are taken.
    """

    def __init__(self, tasks: Sequence[str], *, at: At = "auto") -> None:
        super().__init__(tasks, Exactly(shortest_in_hull), at)


register_method(
    "mgda",
    architecture="shared",
    balancer="mgda",
    groups=("balancers",),
    summary="The shared trunk with MGDA, at the representation.",
)

"""ConFIG, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import At, Combiner, make


@register_balancer("config", cite="liu2025config", needs=("torchjd",))
class ConFIG(Combiner):
    """ConFIG: the direction with equal cosines to all gradients, as long as their projections on it are together.

    Liu, Chu, Thuerey, ICLR 2025, Equation 2; the sum of the projections there, their mean here.

    Scale: torchjd's update has the length of the sum over tasks; here divided by T.

    Args:
        at: where gradients are taken.
    """

    scale = "sum"
    of_gramian = False
    gives_weights = False

    def __init__(self, tasks: Sequence[str], *, at: At = "shared") -> None:
        super().__init__(tasks, make("config", "aggregation.ConFIG"), at)


register_method(
    "config",
    architecture="shared",
    balancer="config",
    groups=("balancers",),
    summary="The shared trunk with ConFIG.",
)

"""PCGrad, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import At, Combiner, make


@register_balancer("pcgrad", cite="yu2020pcgrad", needs=("torchjd",))
class PCGrad(Combiner):
    """PCGrad: each gradient loses what points against another task's, in random order; then their mean.

    Yu et al., NeurIPS 2020, Algorithm 1; the sum there, the mean here.

    Scale: torchjd's is the sum over tasks; here divided by T.

    Args:
        at: where gradients are taken.
    """

    scale = "sum"

    def __init__(self, tasks: Sequence[str], *, at: At = "shared") -> None:
        super().__init__(tasks, make("pcgrad", "aggregation.PCGradWeighting"), at)


register_method(
    "pcgrad",
    architecture="shared",
    balancer="pcgrad",
    groups=("balancers",),
    summary="The shared trunk with PCGrad.",
)

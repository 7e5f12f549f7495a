"""GradVac, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import At, Combiner, Remembering, make


@register_balancer("gradvac", cite="wang2021gradvac", needs=("torchjd",))
class GradVac(Remembering, Combiner):
    """GradVac: each gradient is turned until its cosine with each other is what it has been on average.

    Wang, Tsvetkov, Firat, Cao, ICLR 2021; the mean of the turned gradients. One cosine per pair of tasks, over all
    parameters at once (the paper also does so layer by layer).

    Scale: torchjd's is the sum over tasks; here divided by T.

    Args:
        beta: what the latest cosine counts in the moving average, from 0 to 1; paper: 0.01, torchjd: 0.5.
        at: where gradients are taken.
    """

    scale = "sum"

    def __init__(self, tasks: Sequence[str], *, beta: float = 0.5, at: At = "shared") -> None:
        super().__init__(tasks, make("gradvac", "aggregation.GradVacWeighting", beta=beta), at)


register_method(
    "gradvac",
    architecture="shared",
    balancer="gradvac",
    groups=("balancers",),
    summary="The shared trunk with GradVac.",
)

"""CAGrad, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

from mtlbench import UserError, register_balancer, register_method
from mtlbench.torchjd import At, Combiner, make


@register_balancer("cagrad", cite="liu2021cagrad", needs=("torchjd", "cvxpy", "clarabel"), extra="solvers")
class CAGrad(Combiner):
    """CAGrad: near the mean gradient, the step that helps the worst task most (needs cvxpy and clarabel).

    Liu, Liu, Jin, Stone, Liu, NeurIPS 2021: g_0 + c |g_0| g_w / |g_w|, not rescaled afterwards: where the tasks agree,
    the step is 1 + c times the mean's.

    Scale: torchjd's weights are 1/T and more, a mean. Where tasks agree, 1 + c times the mean: by design, and kept.

    Args:
        c: radius of the neighbourhood as a share of the mean's length, 0 or more and below 1; 0 is the mean.
        at: where gradients are taken.
    """

    own_scale = True

    def __init__(self, tasks: Sequence[str], *, c: float = 0.5, at: At = "shared") -> None:
        if not 0 <= c < 1:
            raise UserError(f"cagrad: c={c} must be 0 or more and below 1.")
        part = make("cagrad", "aggregation.CAGradWeighting", c)
        super().__init__(tasks, part, at)


register_method(
    "cagrad",
    architecture="shared",
    balancer="cagrad",
    groups=("balancers",),
    summary="The shared trunk with CAGrad.",
)

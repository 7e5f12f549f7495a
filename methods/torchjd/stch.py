"""Smooth Tchebycheff, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import Scalarizer, make


@register_balancer("stch", cite="lin2024stch", needs=("torchjd",))
class STCH(Scalarizer):
    """Smooth Tchebycheff: a smooth maximum of the losses, the worst task weighs most.

    Lin et al., ICML 2024. mu log sum_i exp(L_i / (T mu)), with equal preferences 1/T and 0 as the ideal point:
    w_i = T softmax(L / (T mu))_i.

    Deviations: losses as they are. The authors' code for networks takes, after a warm-up, their logarithms relative to
    each task's mean loss in it, and its mu is for those. Here a task of larger losses weighs more.

    Scale: torchjd's weights sum to 1/T; here times T^2.

    Args:
        mu: smoothness; smaller is nearer to the maximum alone. The paper tries 0.01, 0.1, 0.5 and 1 and has no single
            best; 0.01 is what makes a difference between triplet losses, which lie between 0 and 0.2.
    """

    def __init__(self, tasks: Sequence[str], *, mu: float = 0.01) -> None:
        super().__init__(tasks, make("stch", "scalarization.STCH", mu=mu), len(tasks) ** 2)


register_method(
    "stch",
    architecture="shared",
    balancer="stch",
    groups=("balancers",),
    summary="The shared trunk with the smooth Tchebycheff maximum of losses.",
)

"""IMTL-L, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import Scalarizer, make


@register_balancer("imtl-l", cite="liu2021imtl", needs=("torchjd",))
class IMTLL(Scalarizer):
    """IMTL-L: weights exp(s_i), learned, that bring the weighted losses together.

    Liu et al., ICLR 2021. Minimises sum_i exp(s_i) L_i - s_i over the network and s, 0 at the start. That is
    uncertainty weighting with s negated: the two differ in name alone, once `uw` is brought to the same scale.

    Scale: torchjd's weights are exp(s_i) and stay as they are: 1 at the start, then learned.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(tasks, make("imtl-l", "scalarization.IMTLL", len(tasks)))


register_method(
    "imtl-l",
    architecture="shared",
    balancer="imtl-l",
    groups=("balancers",),
    summary="The shared trunk with IMTL-L's learned weights.",
)

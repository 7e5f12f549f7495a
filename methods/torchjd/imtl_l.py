"""IMTL-L, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtlbench import Range, register_balancer, register_method
from mtlbench.torchjd import Scalarizer, make


@register_balancer("imtl-l", cite="liu2021imtl", needs=("torchjd",))
class IMTLL(Scalarizer):
    """IMTL-L: weights exp(s_i), learned, that bring the weighted losses together.

    Liu et al., ICLR 2021. Minimises sum_i exp(s_i) L_i - s_i over the network and s, 0 at the start. That is
    uncertainty weighting with s negated: the two differ in name alone, once `uw` is brought to the same scale.

    Scale: torchjd's weights are exp(s_i) and stay as they are: 1 at the start, then learned. The paper names no
    learning rate of the s_i's own: `rate=1` gives them the network's.

    Args:
        rate: the s_i's learning rate as a multiple of the network's.
    """

    search = {"rate": Range(0.1, 100, log=True)}

    def __init__(self, tasks: Sequence[str], *, rate: float = 1.0) -> None:
        super().__init__(tasks, make("imtl-l", "scalarization.IMTLL", len(tasks)))
        self.rate = rate

    def learning_rate_scales(self, *, adaptive: bool) -> Mapping[str, float]:
        """The rate of all that it learns."""
        return {"": self.rate}


register_method(
    "imtl-l",
    architecture="shared",
    balancer="imtl-l",
    groups=("balancers",),
    summary="The shared trunk with IMTL-L's learned weights.",
)

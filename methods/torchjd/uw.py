"""Uncertainty weighting, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtlbench import Range, register_balancer, register_method
from mtlbench.torchjd import Scalarizer, make


@register_balancer("uw", cite="kendall2018uncertainty", needs=("torchjd",))
class UncertaintyWeighting(Scalarizer):
    """Uncertainty weighting: weights that are learned as the tasks' inverse variances.

    Kendall, Gal, Cipolla, CVPR 2018. Minimises sum_i exp(-s_i) L_i + s_i over the network and s_i = log sigma_i^2, all
    0 at the start: twice the paper's objective, so that weights start at 1. At rest, exp(-s_i) = 1 / L_i: as losses
    fall, weights rise.

    Scale: torchjd's weights are exp(-s_i) / 2; here times 2: 1 at the start, then learned. The paper names no
    learning rate of the s_i's own: `rate=1` gives them the network's.

    Args:
        rate: the s_i's learning rate as a multiple of the network's.
    """

    search = {"rate": Range(0.1, 100, log=True)}

    def __init__(self, tasks: Sequence[str], *, rate: float = 1.0) -> None:
        super().__init__(tasks, make("uw", "scalarization.UW", len(tasks)), 2.0)
        self.rate = rate

    def learning_rate_scales(self, *, adaptive: bool) -> Mapping[str, float]:
        """The rate of all that it learns."""
        return {"": self.rate}


register_method(
    "uw",
    architecture="shared",
    balancer="uw",
    groups=("balancers",),
    summary="The shared trunk with uncertainty weighting.",
)

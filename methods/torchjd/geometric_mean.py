"""The geometric loss strategy (GLS), through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import SMALLEST_LOSS, Scalarizer, make


@register_balancer("geometric-mean", cite="chennupati2019multinet", needs=("torchjd",))
class GeometricMean(Scalarizer):
    """The geometric mean of the losses: equal relative improvements count the same.

    Chennupati, Sistu, Yogamani, Rawashdeh, CVPR workshops 2019 (geometric loss strategy, GLS). w_i = G / L_i, with the
    geometric mean G. Losses count as at least 0.001.

    Scale: torchjd's weights are G / (T L_i); here times T. Their sum is above T by design, and is kept.
    """

    smallest = SMALLEST_LOSS

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(tasks, make("geometric-mean", "scalarization.GeometricMean"), len(tasks))


register_method(
    "geometric-mean",
    architecture="shared",
    balancer="geometric-mean",
    groups=("balancers",),
    summary="The shared trunk with the geometric mean of losses.",
)

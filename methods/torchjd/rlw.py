"""Random loss weighting, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import Scalarizer, make


@register_balancer("rlw", cite="lin2022rlw", needs=("torchjd",))
class RandomLossWeighting(Scalarizer):
    """Random loss weighting: weights T softmax(z), z drawn from a normal distribution at every step.

    Lin, Ye, Zhang, Tsang, TMLR 2022: what any cleverer weighting should beat.

    Scale: torchjd's weights sum to 1; here times T.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(tasks, make("rlw", "scalarization.Random"), len(tasks))


register_method(
    "rlw",
    architecture="shared",
    balancer="rlw",
    groups=("balancers",),
    summary="The shared trunk with random loss weights.",
)

"""IMTL-G, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import At, Combiner, make


@register_balancer("imtl-g", cite="liu2021imtl", needs=("torchjd",))
class IMTLG(Combiner):
    """IMTL-G: the combination whose projections on all tasks' gradient directions are equal.

    Liu et al., ICLR 2021, at the shared features as there; in torchjd's form, which allows for dependent gradients.
    Weights sum to T and may lie below 0; near a sum of 0 before that, they are large.

    Scale: torchjd's weights sum to 1, a mean. Weights below 0 make the update long or short: by design, and kept.

    Args:
        at: where gradients are taken.
    """

    def __init__(self, tasks: Sequence[str], *, at: At = "auto") -> None:
        super().__init__(tasks, make("imtl-g", "aggregation.IMTLGWeighting"), at)


register_method(
    "imtl-g",
    architecture="shared",
    balancer="imtl-g",
    groups=("balancers",),
    summary="The shared trunk with IMTL-G, at the representation.",
)

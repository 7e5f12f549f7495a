"""Aligned-MTL, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import At, Combiner, make


@register_balancer("aligned-mtl", cite="senushkin2023aligned", needs=("torchjd",))
class AlignedMTL(Combiner):
    """Aligned-MTL: the gradients' principal components are made equally long, then the mean is taken.

    Senushkin, Patakin, Kuznetsov, Konushin, CVPR 2023, Algorithm 1.

    Scale: a mean of aligned gradients. All are cut to the weakest direction: by design, and kept.

    Args:
        length: what the components are brought to: the least singular value above 0 ("min", as in the paper), the
            "median", or "rmse", their root mean square (as in the authors' code).
        at: where gradients are taken.
    """

    def __init__(
        self, tasks: Sequence[str], *, length: Literal["min", "median", "rmse"] = "min", at: At = "shared"
    ) -> None:
        super().__init__(tasks, make("aligned-mtl", "aggregation.AlignedMTLWeighting", scale_mode=length), at)


register_method(
    "aligned-mtl",
    architecture="shared",
    balancer="aligned-mtl",
    groups=("balancers",),
    summary="The shared trunk with Aligned-MTL.",
)

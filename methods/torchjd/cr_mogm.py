"""CR-MOGM, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import At, Combiner, Remembering, combiner, make


@register_balancer("cr-mogm", cite="zhou2022crmogm", needs=("torchjd",))
class CRMOGM(Remembering, Combiner):
    """CR-MOGM: another method's weights, smoothed over steps.

    Zhou et al., NeurIPS 2022: an exponential moving average, which starts at the first weights. The paper lets alpha
    grow as the learning rate falls; here it is constant.

    Scale: that of its base.

    Args:
        base: the method whose weights are smoothed, with its default options; found exactly where it finds them so.
        alpha: what the past counts, from 0, no smoothing, to 1, weights that stay as they began; torchjd: 0.9.
        at: where gradients are taken.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        base: Literal["mgda", "imtl-g", "pcgrad", "cagrad", "aligned-mtl", "dualproj", "upgrad"] = "mgda",
        alpha: float = 0.9,
        at: At = "shared",
    ) -> None:
        smoothed = combiner(base, tasks)
        part = make("cr-mogm", "aggregation.CRMOGMWeighting", smoothed.part, alpha)
        super().__init__(tasks, part, at)
        self.scale = smoothed.scale


register_method(
    "cr-mogm",
    architecture="shared",
    balancer="cr-mogm",
    groups=("balancers",),
    summary="The shared trunk with MGDA's weights, smoothed (CR-MOGM).",
)

"""SDMGrad, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import Combiner, FromPreviousBatches, Remembering, make


@register_balancer("sdmgrad", cite="xiao2023sdmgrad", needs=("torchjd",))
class SDMGrad(Remembering, Combiner):
    """SDMGrad: a short vector of the gradients' hull, pulled towards their mean, from double sampling.

    Xiao, Ban, Ji, NeurIPS 2023. Gradients at all shared parameters, and those of the latest batch stay in memory.

    Deviations: the three batches of one step are those of three steps (see `FromPreviousBatches`).

    Scale: torchjd's weights sum to 1, a mean.

    Args:
        pull: towards the mean gradient, 0 or more (lambda in the paper); in the authors' experiments: 0.3.
        lr: of the inner descent on the weights.
        momentum: of the inner descent.
        iterations: of the inner descent, at every step.
    """

    of_gramian = False

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        pull: float = 0.3,
        lr: float = 10.0,
        momentum: float = 0.5,
        iterations: int = 20,
    ) -> None:
        inner: dict[str, Any] = {"lr": lr, "momentum": momentum, "n_iter": iterations, "lambda_": pull}
        weighting = make("sdmgrad", "aggregation.SDMGradWeighting", **inner)
        super().__init__(tasks, FromPreviousBatches(weighting, normalise=True))


register_method(
    "sdmgrad",
    architecture="shared",
    balancer="sdmgrad",
    groups=("balancers",),
    summary="The shared trunk with SDMGrad.",
)

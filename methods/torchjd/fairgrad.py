"""FairGrad, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mtlbench import UserError, register_balancer, register_method
from mtlbench.torchjd import At, Combiner, gramian, make


@register_balancer("fairgrad", cite="ban2024fairgrad", needs=("torchjd",))
class FairGrad(Combiner):
    """FairGrad: the step that shares progress between tasks by alpha-fairness.

    Ban, Ji, ICML 2024, Equation 4: weights with G w = w^(-1/alpha). The Gramian is divided by s, the mean of its
    diagonal, and the solution multiplied by s^(-alpha / (alpha + 1)): the same w, but the solver's tolerances are
    absolute and would stop it early where gradients are small.

    Scale: G w = w^(-1/alpha), and kept: it hardly depends on the gradients' length.

    Args:
        alpha: above 0: 1 is proportional fairness, larger goes towards max-min fairness.
        at: where gradients are taken.
    """

    scale = "own"
    of_gramian = False
    own_scale = True

    def __init__(self, tasks: Sequence[str], *, alpha: float = 1.0, at: At = "shared") -> None:
        if alpha <= 0:
            raise UserError(f"fairgrad: alpha={alpha} must be above 0.")
        super().__init__(tasks, make("fairgrad", "aggregation.FairGradWeighting", alpha), at)
        self.alpha = alpha

    def _ask(self, statistic: Tensor) -> Tensor:
        size = statistic.square().sum(1).mean().clamp_min(1e-30)
        return super()._ask(gramian(statistic)) * size.pow(-self.alpha / (self.alpha + 1))


register_method(
    "fairgrad",
    architecture="shared",
    balancer="fairgrad",
    groups=("balancers",),
    summary="The shared trunk with FairGrad.",
)

"""DualProj; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import Array, At, Combiner, Exactly, project_on_dual_cone


@register_balancer("dualproj", cite="lopezpaz2017gem")
class DualProj(Combiner):
    """DualProj: the mean gradient, moved as little as it takes to worsen no task.

    Lopez-Paz, Ranzato, NIPS 2017, Equation 11: the mean's projection on the cone of directions without conflict.

    Scale: the projected mean, as it is.

    Args:
        at: where gradients are taken.
    """

    def __init__(self, tasks: Sequence[str], *, at: At = "shared") -> None:
        super().__init__(tasks, Exactly(_dualproj), at)


def _dualproj(gramian: Array) -> Array:
    number = len(gramian)
    return project_on_dual_cone(gramian, np.full(number, 1 / number))


register_method(
    "dualproj",
    architecture="shared",
    balancer="dualproj",
    groups=("balancers",),
    summary="The shared trunk with DualProj.",
)

"""UPGrad; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import Array, At, Combiner, Exactly, project_on_dual_cone


@register_balancer("upgrad", cite="quinton2024jacobian")
class UPGrad(Combiner):
    """UPGrad: each gradient, moved as little as it takes to worsen no task; their mean.

    Quinton, Rey, 2024: the projections of the tasks' gradients on the cone of directions without conflict.

    Scale: a mean of projections, longer than the plain mean in conflict: by design, and kept.

    Args:
        at: where gradients are taken.
    """

    def __init__(self, tasks: Sequence[str], *, at: At = "shared") -> None:
        super().__init__(tasks, Exactly(_upgrad), at)


def _upgrad(gramian: Array) -> Array:
    number = len(gramian)
    projections = np.stack([project_on_dual_cone(gramian, unit) for unit in np.eye(number)])
    mean: Array = projections.mean(axis=0)
    return mean


register_method(
    "upgrad",
    architecture="shared",
    balancer="upgrad",
    groups=("balancers",),
    summary="The shared trunk with UPGrad.",
)

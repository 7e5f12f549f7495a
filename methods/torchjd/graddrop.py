"""GradDrop, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import At, Combiner, make


@register_balancer("graddrop", cite="chen2020graddrop", needs=("torchjd",))
class GradDrop(Combiner):
    """GradDrop: each number of the gradient follows the tasks of one sign, drawn by how pure that sign is.

    Chen et al., NeurIPS 2020, Algorithm 1, lines 10 to 15; the sum there, the mean here. What the paper does before
    these lines at a layer of features, with their signs and over the batch, torchjd leaves out.

    Scale: torchjd's is the sum over tasks; here divided by T.

    Args:
        at: where gradients are taken.
    """

    scale = "sum"
    of_gramian = False
    gives_weights = False

    def __init__(self, tasks: Sequence[str], *, at: At = "shared") -> None:
        super().__init__(tasks, make("graddrop", "aggregation.GradDrop"), at)


register_method(
    "graddrop",
    architecture="shared",
    balancer="graddrop",
    groups=("balancers",),
    summary="The shared trunk with GradDrop.",
)

"""MoDo, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import Combiner, FromPreviousBatches, Remembering, make


@register_balancer("modo", cite="chen2024modo", needs=("torchjd",))
class MoDo(Remembering, Combiner):
    """MoDo: MGDA's weights by one small step at a time, from double sampling.

    Chen, Fernando, Ying, Chen, JMLR 2024. Gradients at all shared parameters, and those of the latest batch stay in
    memory.

    Deviations: the three batches of one step are those of three steps (see `FromPreviousBatches`). The gradients'
    products are divided by their mean squared length. As the paper has it, the step on the weights is in the gradients'
    own units: those of a triplet loss, 1e-4 to 1e-1 long, would leave the weights at the plain mean.

    Measured over 350 steps of rendered shoes with four tasks (`python tools/balancer_weights.py modo --set
    train.triplets=4 --set 'data.image_size=[24,32]' --set train.shift=1`): weights from 0.38 to 1.37, and those of the
    plain mean in 4 % of steps.

    Scale: torchjd's weights sum to 1, a mean.

    Args:
        gamma: learning rate of the weights.
        rho: their l2 regularisation, 0 or more.
    """

    of_gramian = False

    def __init__(self, tasks: Sequence[str], *, gamma: float = 0.1, rho: float = 0.1) -> None:
        weighting = make("modo", "aggregation.MoDoWeighting", gamma=gamma, rho=rho)
        super().__init__(tasks, FromPreviousBatches(weighting, normalise=True))


register_method(
    "modo",
    architecture="shared",
    balancer="modo",
    groups=("balancers",),
    summary="The shared trunk with MoDo.",
)

"""ExcessMTL, through torchjd; mtlbench.torchjd says what its balancers have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtlbench import register_balancer, register_method
from mtlbench.torchjd import Combiner, Remembering, make


@register_balancer("excess-mtl", cite="he2024excessmtl", needs=("torchjd",))
class ExcessMTL(Remembering, Combiner):
    """ExcessMTL: tasks far from their own optimum weigh more, judged by gradients in an AdaGrad-like metric.

    He et al., ICML 2024. Gradients at all shared parameters; the sums of their squares, (T, P) numbers, stay in memory.
    A task whose first gradient is 0 has no baseline and soon takes all of the weight; `warmup` is the remedy.

    Measured over 350 steps of rendered shoes with four tasks (`python tools/balancer_weights.py excess-mtl --set
    train.triplets=4 --set 'data.image_size=[24,32]' --set train.shift=1`): weights from 0.79 to 1.21, and those of the
    plain mean at no step. On given gradients the logarithms of the weights are `step` times a sum over
    steps, which grows as long as a run goes on: a run of many thousand steps wants a smaller `step`; 0.001 in this one
    would keep the weights within 0.01 of 1.

    Deviations: each task's gradients are divided by the root mean square of its first. Otherwise the constant 1e-7 that
    the authors' code adds to the sums of squares outweighs short gradients of many parameters, and short gradients take
    the weight. With `warmup=0` they stay as they are.

    Scale: torchjd's weights sum to 1, a mean.

    Args:
        step: of the exponentiated gradient on the weights.
        warmup: steps with equal weights, whose mean excess risk is the baseline; 0 takes the first step's, as the
            authors' code does, and weighs by it undivided: the excess grows with the number of parameters, so that with
            600,000 of them a step of 1 gives one task all of the weight at once, and one of 0.001 stays at the plain
            mean. The paper's appendix recommends three epochs.
    """

    of_gramian = False
    units: Tensor

    def __init__(self, tasks: Sequence[str], *, step: float = 0.1, warmup: int = 1) -> None:
        options: dict[str, Any] = {"robust_step_size": step, "n_warmup_steps": warmup}
        super().__init__(tasks, make("excess-mtl", "aggregation.ExcessMTLWeighting", **options))
        self.scaled = warmup > 0
        self.register_buffer("units", torch.zeros(len(tasks)))  # 0 until a task has a gradient

    def _ask(self, rows: Tensor) -> Tensor:
        """Weigh by (T, P) gradients in each task's own unit, which changes nothing but the part of the 1e-7."""
        if self.scaled:
            found = rows.square().mean(1).sqrt()
            self.units.copy_(torch.where(self.units > 0, self.units, found))
            rows = rows / torch.where(self.units > 0, self.units, 1.0)[:, None]
        return super()._ask(rows)


register_method(
    "excess-mtl",
    architecture="shared",
    balancer="excess-mtl",
    groups=("balancers",),
    summary="The shared trunk with ExcessMTL.",
)

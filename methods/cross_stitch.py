"""Cross-stitch units. Misra, Shrivastava, Gupta, Hebert: Cross-stitch Networks for Multi-task Learning, CVPR 2016
(arXiv 1604.03539).

T columns, one a task, each a whole network. After a stage, every column goes on with a learned mix of all columns:

    x_t <- sum_s alpha_ts x_s

Units stand after each pooling or down-sampling stage but the last and one scalar per unit entry serves the whole
layer, as in the paper's classification networks; the last stage feeds the column's own embedding layer. Rows start
convex, (same, different) = (0.9, 0.1) for two tasks; for more tasks `same` stays and the rest is spread evenly.
With gradient descent the units learn 100 times as fast as the network (paper: 100 to 1000 times). Adam and Adagrad step
by about the learning rate however small a gradient is: 100 times that would throw a unit about at every step. There the
units learn at the network's own rate, which can take them from 0.9 to 0 within a few hundred steps.

Deviations: the paper starts the columns from single-task nets; here they start as independent nets do and train for
the same number of steps as every other method, so that no pre-training has to be counted. The paper's AlexNet has
units after its fully connected layers too; a backbone here has one fully connected layer, the embedding, left alone.

Columns run one after the other, which on a CPU is faster than as one network; `independent` says by how much.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, Learned, Range, UserError, register_architecture


@register_architecture(
    "cross-stitch", groups=("core", "architectures"), cite="misra2016cross", shares="features, mixed by learned scalars"
)
class CrossStitch(Architecture):
    """T networks whose feature maps are mixed by learned scalars after each stage but the last.

    Storage: T networks and T x T scalars per unit. Under any one task every column runs: their features are mixed.

    Args:
        same: the initial weight of a column's own features, from 0 to 1.
        rate: the units' learning rate as a multiple of the network's. Default: 100 with gradient descent, 1 with Adam
            and Adagrad.
    """

    search = {"rate": Range(0.1, 300, log=True)}

    mixes_tasks = True

    def __init__(
        self, backbones: BackboneFactory, tasks: Sequence[str], *, same: float = 0.9, rate: float | None = None
    ) -> None:
        super().__init__(backbones, tasks)
        if not 0 <= same <= 1:
            raise UserError(f"cross-stitch: same={same} must lie between 0 and 1.")
        self.rate = rate
        columns = [backbones.backbone(task) for task in tasks]
        self.columns = nn.ModuleList([column.stages for column in columns])
        self.heads = nn.ModuleList([column.head for column in columns])
        n = len(self.tasks)
        others = (1 - same) / (n - 1) if n > 1 else 0.0
        unit = torch.full((n, n), others).fill_diagonal_(same if n > 1 else 1.0)
        stages = len(backbones.channels)
        # with one task there is nothing to stitch
        self.units = nn.ParameterList([unit.clone() for _ in range(stages - 1 if n > 1 else 0)])

    def _stages(self, images: Tensor) -> list[Tensor]:
        """Return every column's features of the same images after the last stage."""
        features = [images] * len(self.columns)
        for n, stages in enumerate(zip(*self.columns, strict=True)):
            features = [stage(x) for stage, x in zip(stages, features, strict=True)]
            if n < len(self.units):
                stacked = torch.stack([x.movedim(1, -1) for x in features])  # channels last, as convolutions like it
                mixed = torch.tensordot(self.units[n].to(stacked.dtype), stacked, dims=1)
                features = [x.movedim(-1, 1) for x in mixed]
        return features

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D): every column sees every image, since task t's features are mixed from all."""
        groups = images.shape[:2]
        features = self._stages(images.flatten(0, 1))
        return torch.stack(
            [head(x.unflatten(0, groups)[t]) for t, (head, x) in enumerate(zip(self.heads, features, strict=True))]
        )

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D): all columns run once."""
        return torch.stack([head(x) for head, x in zip(self.heads, self._stages(images), strict=True)])

    def learned(self) -> Sequence[Learned]:
        """The units."""
        places = range(len(self.units))
        return [Learned("units", f"unit {n + 1}", (f"units.{n}",), ("task", "task"), "weight") for n in places]

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        """Its column with its embedding layer; the units are shared."""
        return (self.columns[task], self.heads[task])

    def learning_rate_scales(self, *, adaptive: bool) -> Mapping[str, float]:
        """The units' rate."""
        return {"units.": (1.0 if adaptive else 100.0) if self.rate is None else self.rate}

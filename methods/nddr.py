"""NDDR-CNN. Gao, Ma, Zhao, Liu, Yuille: NDDR-CNN: Layerwise Feature Fusing in Multi-Task CNNs by Neural Discriminative
Dimensionality Reduction, CVPR 2019 (arXiv 1801.08297).

T columns, one a task, each a whole network. After a stage the features of all columns are laid side by side, and each
column goes on with its own projection of them to as many channels as it had:

    x_t <- ReLU(BN_t(W_t [x_1; ...; x_T])),    W_t a 1 x 1 convolution

W_t starts diagonal: `same` times a column's own features plus a share of the others', (same, different) = (0.9, 0.1)
for two tasks. (A cross-stitch unit is W_t with multiples of the identity for blocks, without norm and ReLU.) The layers
learn 100 times as fast as the network. As in the authors' code (VGG-16: after each of its five poolings, before the
task's own fully connected layers) a layer stands after every stage, the last one included, whose output the task's
embedding layer reads. The ReLU and batch norm's momentum (0.95 kept) and eps (1e-3) are the code's too. Weight decay,
the third part of the paper's layer, is the protocol's: it applies to W_t where there is any.

What the paper leaves open: more than two tasks; `same` stays and the rest is spread evenly. With Adam and Adagrad,
which step by about the learning rate however small a gradient is, the layers learn at the network's own rate, as in
cross-stitch.

Deviations: the paper starts the columns from single-task nets; here they start as independent nets do and train for
the same number of steps as every other method, so that no pre-training has to be counted. A single task has no layers.
The paper's variant with shortcuts from all layers to the last is left out.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, Range, UserError, register_architecture


def _layer(channels: int, shares: Sequence[float]) -> nn.Sequential:
    """Return a projection of len(shares) * C channels to C that starts as the columns' sum weighted by `shares`."""
    conv = nn.Conv2d(len(shares) * channels, channels, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.cat([share * torch.eye(channels) for share in shares], dim=1)[:, :, None, None])
    return nn.Sequential(conv, nn.BatchNorm2d(channels, eps=1e-3, momentum=0.05), nn.ReLU(inplace=True))


@register_architecture(
    "nddr", groups=("architectures",), cite="gao2019nddr", shares="features, fused by learned projections"
)
class NDDR(Architecture):
    """T networks; after each stage, each goes on with its own projection of all networks' features.

    Storage: T networks, and T projections from T times C channels to C after each stage. Under any one task every
    column runs: their features are fused.

    Args:
        same: the initial weight of a column's own features, from 0 to 1.
        rate: the layers' learning rate as a multiple of the network's. Default: 100 with gradient descent, 1 with Adam
            and Adagrad.
    """

    search = {"rate": Range(0.03, 100, log=True)}

    mixes_tasks = True

    def __init__(
        self, backbones: BackboneFactory, tasks: Sequence[str], *, same: float = 0.9, rate: float | None = None
    ) -> None:
        super().__init__(backbones, tasks)
        if not 0 <= same <= 1:
            raise UserError(f"nddr: same={same} must lie between 0 and 1.")
        self.rate = rate
        columns = [backbones.backbone(task) for task in tasks]
        self.columns = nn.ModuleList([column.stages for column in columns])
        self.heads = nn.ModuleList([column.head for column in columns])
        every = range(len(self.tasks))
        self.layers = nn.ModuleList()
        if len(every) > 1:
            different = (1 - same) / (len(every) - 1)
            for t in every:
                shares = [same if s == t else different for s in every]
                self.layers.append(nn.ModuleList(_layer(channels, shares) for channels in backbones.channels))

    def _stages(self, images: Tensor, wanted: Sequence[int]) -> list[Tensor]:
        """Return the features of the `wanted` columns after the last stage; up to there all columns run."""
        every = range(len(self.tasks))
        features = [images] * len(every)
        layers = [list(own.children()) for own in self.layers]
        for n, stages in enumerate(zip(*self.columns, strict=True), 1):
            features = [stage(x) for stage, x in zip(stages, features, strict=True)]
            if layers:
                together = torch.cat(features, dim=1)
                needed = wanted if n == len(layers[0]) else every
                features = [layers[t][n - 1](together) for t in needed]
        return features

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D): every column sees every image, since task t's features are fused from all."""
        groups = images.shape[:2]
        features = self._stages(images.flatten(0, 1), range(len(self.tasks)))
        return torch.stack(
            [head(x.unflatten(0, groups)[t]) for t, (head, x) in enumerate(zip(self.heads, features, strict=True))]
        )

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D): all columns run once."""
        features = self._stages(images, range(len(self.tasks)))
        return torch.stack([head(x) for head, x in zip(self.heads, features, strict=True)])

    def embed_task(self, images: Tensor, task: int) -> Tensor:
        """(B, 3, H, W) -> (B, D): all columns, but one last projection and one head."""
        (features,) = self._stages(images, [task])
        embeddings: Tensor = self.heads[task](features)
        return embeddings

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        """Its column with its embedding layer, and the projections that lead into the column."""
        return (self.columns[task], self.heads[task], *self.layers[task : task + 1])

    def learning_rate_scales(self, *, adaptive: bool) -> Mapping[str, float]:
        """The layers' rate."""
        return {"layers.": (1.0 if adaptive else 100.0) if self.rate is None else self.rate}

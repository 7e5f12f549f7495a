"""Independent nets: one whole network per task. The upper bound on storage, and free of interference between tasks.

Nothing is shared, so each net takes exactly the steps that it would take alone. As in the comparison of Zhao et al.,
ECCV 2018 (arXiv 1807.06708), "independent".

Nets run one after the other. As one net of grouped convolutions four of them took 1.05 times as long on a CPU (`small`,
48 x 64 px, 96 images) or 1.39 times (ResNet-18, 112 px, 24 images), with parameters stacked under torch.func 2.7 and
4.4 times (bfloat16, one thread of an Intel Xeon with AMX, torch 2.14.1: `tools/speed/columns.py`).
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, register_architecture


@register_architecture(
    "independent", groups=("core", "architectures", "base"), cite="zhao2018modulation", shares="nothing"
)
class Independent(Architecture):
    """One whole network per task, nothing shared.

    Storage: T times the network.
    """

    def __init__(self, backbones: BackboneFactory, tasks: Sequence[str]) -> None:
        super().__init__(backbones, tasks)
        self.nets = nn.ModuleList(backbones.backbone(task) for task in tasks)

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D)."""
        return torch.stack([net(group) for net, group in zip(self.nets, images, strict=True)])

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D)."""
        return torch.stack([net(images) for net in self.nets])

    def embed_task(self, images: Tensor, task: int) -> Tensor:
        """(B, 3, H, W) -> (B, D): one net runs."""
        embeddings: Tensor = self.nets[task](images)
        return embeddings

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        """Its whole net."""
        return (self.nets[task],)

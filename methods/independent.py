"""Independent nets: one whole network per task. The upper bound on storage, and free of interference between tasks.

Nothing is shared, so each net takes exactly the steps that it would take alone. As in the comparison of Zhao et al.,
ECCV 2018 (arXiv 1807.06708), "independent".
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

"""Shared trunk: one trunk for all tasks, a task-specific embedding layer per task. Caruana, Machine Learning, 1997.

The hard parameter sharing of the field: all convolutional layers are shared, the last, fully connected layer that
makes the embedding is the task's own. With the plain mean of losses the trunk's gradient is the mean of the tasks'.
"""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, register_architecture


@register_architecture("shared", groups=("core", "architectures"), cite="caruana1997multitask", shares="the trunk")
class Shared(Architecture):
    """One shared trunk, a task-specific embedding layer per task.

    Storage: one trunk and T embedding layers.
    """

    def __init__(self, backbones: BackboneFactory, tasks: Sequence[str]) -> None:
        super().__init__(backbones, tasks)
        self.trunk = backbones.backbone().stages
        self.heads = backbones.heads(tasks)

    def _trunk(self, images: Tensor) -> Tensor:
        for stage in self.trunk:
            images = stage(images)
        return images

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D)."""
        features = self.heads.before(self._trunk(images.flatten(0, 1)))
        embeddings: Tensor = self.heads(features.unflatten(0, images.shape[:2]))
        return embeddings

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D): the trunk and its pooling run once."""
        embeddings: Tensor = self.heads(self.branch_off(self.heads.before(self._trunk(images))))
        return embeddings

    def embed_task(self, images: Tensor, task: int) -> Tensor:
        """(B, 3, H, W) -> (B, D): the trunk and one head."""
        embeddings: Tensor = self.heads[task](self._trunk(images))
        return embeddings

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        """Its embedding layer."""
        return (self.heads[task],)

    def last_shared_layer(self) -> Sequence[nn.Parameter]:
        """The weights of the trunk's last convolution."""
        last = [m for m in self.trunk.modules() if isinstance(m, nn.Conv2d)][-1]
        return tuple(last.parameters())

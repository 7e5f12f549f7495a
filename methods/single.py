"""One embedding for all tasks: the fully shared baseline, which suffers most from interference between tasks.

One network, one embedding; task t's loss and task s's loss pull on the same vector. As the fully shared network in
Zhao et al., ECCV 2018 (arXiv 1807.06708), and "standard triplet network" in Veit et al., CVPR 2017 (arXiv 1603.07810).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, register_architecture


@register_architecture("single", groups=("architectures",), cite="veit2017conditional", shares="everything")
class Single(Architecture):
    """One network and one embedding for all tasks.

    Storage: one network, whatever the number of tasks.
    """

    def __init__(self, backbones: BackboneFactory, tasks: Sequence[str]) -> None:
        super().__init__(backbones, tasks)
        self.net = backbones.backbone()

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D)."""
        embeddings: Tensor = self.net(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        return embeddings

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D), the same under every task."""
        embeddings: Tensor = self.net(images)
        return embeddings.expand(len(self.tasks), *embeddings.shape)

    def last_shared_layer(self) -> Sequence[nn.Parameter]:
        """The embedding head's parameters."""
        return tuple(self.net.head.parameters())

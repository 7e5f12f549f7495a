"""Branched trunk: the first stages are shared, all later ones are the task's own. The plain form of branched networks;
Vandenhende, Georgoulis, De Brabandere, Van Gool: Branched Multi-Task Networks: Deciding What Layers To Share, BMVC 2020
(arXiv 1904.02920), and Misra et al., CVPR 2016 (arXiv 1604.03539), who try every place to split a network of two tasks.

With S stages, k of them shared, the embedding of x under task t is

    head_t(stage_{t,S}( ... stage_{t,k+1}(trunk(x))))

k = 0 makes independent nets, k = S a shared trunk. A branch starts as the last stages of its task's independent net.

Embeddings are wide or narrow. Wide ones have the protocol's D numbers under each task, as those of every other method.
Narrow ones have D // T under each task, so that all T together store what one wide embedding does; zeros fill them up
to D. Zeros change neither distances nor norms: only the narrow part has to be stored.

Deviations: all tasks branch off at one place, chosen by hand. Vandenhende et al. grow a tree of groups of tasks from
how alike single-task nets represent images; those nets would have to be trained first, and counted.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, UserError, register_architecture


@register_architecture("branched", groups=("architectures",), cite="vandenhende2020branched", shares="the first stages")
class Branched(Architecture):
    """A shared trunk that ends early, with a branch of stages of its own for each task.

    Storage: the first stages once, the others and the embedding layer T times.

    Args:
        at: how many stages are shared, from 0 (independent nets) to all of them (a shared trunk). Default: all but the
            last.
        embedding: `wide`, D numbers a task, or `narrow`, D // T numbers a task.
    """

    def __init__(
        self, backbones: BackboneFactory, tasks: Sequence[str], *, at: int | None = None, embedding: str = "wide"
    ) -> None:
        super().__init__(backbones, tasks)
        stages = len(backbones.channels)
        at = stages - 1 if at is None else at
        if not 0 <= at <= stages:
            raise UserError(f"branched: at={at} must lie between 0 and the {stages} stages of this backbone.")
        if embedding not in ("wide", "narrow"):
            raise UserError(f"branched: embedding={embedding} must be wide or narrow.")
        size = backbones.embedding_size
        narrow = size // len(self.tasks) if embedding == "narrow" else size
        if narrow < 1:
            raise UserError(
                f"branched: embeddings of {size} numbers can't be shared out among {len(self.tasks)} tasks; take longer"
                " ones, or embedding=wide."
            )
        self.padding = size - narrow
        own = backbones.resized(narrow)
        self.trunk = nn.Sequential(*backbones.backbone().stages[:at])
        nets = [own.backbone(task) for task in tasks]
        self.branches = nn.ModuleList(nn.Sequential(*net.stages[at:], net.head) for net in nets)

    def _branch(self, features: Tensor, task: int) -> Tensor:
        """(B, C, h, w) -> (B, D)."""
        embeddings: Tensor = self.branches[task](features)
        return F.pad(embeddings, (0, self.padding)) if self.padding else embeddings

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D)."""
        features = self.trunk(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        return torch.stack([self._branch(group, t) for t, group in enumerate(features)])

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D): the trunk runs once."""
        features = self.trunk(images)
        self.representation = features if self.training and len(self.trunk) else None
        return torch.stack([self._branch(features, t) for t in range(len(self.tasks))])

    def embed_task(self, images: Tensor, task: int) -> Tensor:
        """(B, 3, H, W) -> (B, D): the trunk and one branch."""
        return self._branch(self.trunk(images), task)

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        """Its branch, with its embedding layer."""
        return (self.branches[task],)

    def last_shared_layer(self) -> Sequence[nn.Parameter]:
        """The weights of the shared trunk's last convolution; none where nothing is shared."""
        convolutions = [m for m in self.trunk.modules() if isinstance(m, nn.Conv2d)]
        return tuple(convolutions[-1].parameters()) if convolutions else ()

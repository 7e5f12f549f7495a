"""My-method: one network; each task scales and shifts its features.

<Authors: Title, Venue Year (arXiv number).>

<Say here what the idea is, in two or three sentences, and write down the formula that the code
follows. This file runs unchanged: with F(x) the features of an image x after the last stage,
and h the embedding layer, task t embeds by

    e_t(x) = h(gamma_t * F(x) + beta_t),    gamma_t, beta_t in R^C

and only gamma_t and beta_t are the task's own.>

<Deviations: say what differs from the paper, and why. Or: none.>
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, register_architecture

# The paper's. `mtlbench list methods` takes authors and year from it, and prints it with --bibtex.
BIBTEX = """
@inproceedings{key2026word,
  author = {Family, Given and Family, Given},
  title = {Title},
  booktitle = {Venue},
  year = {2026},
}
"""


# The name is what users write: --methods my-method.
# Add groups=("architectures",) to have it in --methods architectures too.
@register_architecture("my-method", cite=BIBTEX, shares="all but a scale and a shift per channel")
class MyMethod(Architecture):
    """One network whose last features each task scales and shifts.

    <The line above is what `mtlbench list methods` shows.>

    Storage: one network and, per task, 2 C numbers, C the channels of the last stage.

    Args:
        shift: whether a task shifts channels too, besides scaling them.
    """

    # Options are keyword-only arguments with a type and a default; users set one by
    # 'my-method[shift=false]'. An architecture gets nothing else: it never sees the data set.
    # Refuse a value that makes no sense by raising mtlbench.UserError with one sentence.
    def __init__(self, backbones: BackboneFactory, tasks: Sequence[str], *, shift: bool = True) -> None:
        super().__init__(backbones, tasks)
        # backbones.backbone() is a fresh network: .stages, a list of modules, and .head, which makes the
        # embedding. The benchmark decides how many stages and channels there are: ask backbones.channels
        # and backbones.feature_size. Make a task's own parts by backbones.backbone(task) or
        # backbones.head(task), and your own random modules within `with backbones.seeded(task):`; then
        # they start the same whatever the other tasks are.
        self.net = backbones.backbone()
        channels = backbones.channels[-1]
        # Make learned tensors nn.Parameters, one for each task, and other tensors buffers: then they are
        # saved and moved with the network.
        self.scales = nn.ParameterList([torch.ones(channels) for _ in tasks])
        self.shifts = nn.ParameterList([torch.zeros(channels) for _ in tasks if shift])

    def _features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, C, h, w): what all tasks share."""
        for stage in self.net.stages:
            images = stage(images)
        return images

    def _embedding(self, features: Tensor, task: int) -> Tensor:
        """(B, C, h, w) -> (B, D): what is different for each task."""
        # In bfloat16 features and parameters differ in type: .to() brings them together.
        features = features * self.scales[task].to(features.dtype)[:, None, None]
        if self.shifts:
            features = features + self.shifts[task].to(features.dtype)[:, None, None]
        embeddings: Tensor = self.net.head(features)
        return embeddings

    # The one required method. The leading axis is always the task.
    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D): group t of the images is embedded under task t."""
        # All groups pass the shared part at once. Nothing else may mix them.
        groups = self._features(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        return torch.stack([self._embedding(group, t) for t, group in enumerate(groups)])

    # The methods below are optional: the defaults are correct, but slower, and count everything as shared.

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D): the same images under every task, the shared part once."""
        features = self._features(images)
        return torch.stack([self._embedding(features, t) for t in range(len(self.tasks))])

    def embed_task(self, images: Tensor, task: int) -> Tensor:
        """(B, 3, H, W) -> (B, D): what a query under one task costs."""
        return self._embedding(self._features(images), task)

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        """Return what this task alone has: it counts as storage per task, and balancers treat it separately."""
        return (self.scales[task], *self.shifts[task : task + 1])

    def last_shared_layer(self) -> Sequence[nn.Parameter]:
        """Return the parameters of the last layer that all tasks share, where GradNorm compares gradients."""
        return tuple(self.net.head.parameters())

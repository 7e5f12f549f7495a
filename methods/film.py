"""FiLM, feature-wise linear modulation. Perez, Strub, de Vries, Dumoulin, Courville: FiLM: Visual Reasoning with a
General Conditioning Layer, AAAI 2018 (arXiv 1709.07871).

One network for all tasks. After chosen layers l each channel is scaled and shifted as the task says:

    x_l <- gamma_{t,l} * x_l + beta_{t,l},    gamma, beta in R^C, broadcast over space

In the paper a network computes gamma and beta from a question. Here the condition is the task's index, and the simplest
such network is a table with a row per task: conditional normalisation, the affine part alone. Rows start at gamma = 1,
beta = 0, so that at the start all tasks see the one shared network. With beta = 0 and no negative gamma it is
`modulation`, which it exceeds by the shifts and by scales free to change sign.

The default layers are `modulation`'s, so that the two can be compared: the last two stages and the embedding. After
the embedding a shift moves all of a task's embeddings alike: it tells nothing where the protocol compares them by
plain distances, and something only where it brings them to unit length. `film[after=3:4]` of a network with four stages
leaves the embedding out.

Deviations: the paper's layers stand within residual blocks, between a batch norm without its own affine part and the
ReLU; here they follow a stage, whose batch norms keep theirs.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, UserError, register_architecture

BIBTEX = """
@inproceedings{perez2018film,
  author = {Perez, Ethan and Strub, Florian and de Vries, Harm and Dumoulin, Vincent and Courville, Aaron},
  title = {{FiLM}: Visual Reasoning with a General Conditioning Layer},
  booktitle = {AAAI Conference on Artificial Intelligence},
  year = {2018},
  eprint = {1709.07871},
  archivePrefix = {arXiv},
}
"""


@register_architecture(
    "film", groups=("architectures",), cite=BIBTEX, shares="everything but scales and shifts of channels"
)
class FiLM(Architecture):
    """One network whose channels each task scales and shifts by vectors of its own.

    Storage: one network and, per task, two numbers per modulated channel.

    Args:
        after: the layers to modulate, by number from 1: stages first, then the embedding. `film[after=3:4:5]`.
            Default: the last two stages and the embedding.
    """

    def __init__(
        self, backbones: BackboneFactory, tasks: Sequence[str], *, after: int | tuple[int, ...] | None = None
    ) -> None:
        super().__init__(backbones, tasks)
        self.net = backbones.backbone()
        sizes = (*self.net.channels, backbones.embedding_size)
        chosen = tuple(range(max(len(sizes) - 2, 1), len(sizes) + 1)) if after is None else after
        chosen = (chosen,) if isinstance(chosen, int) else tuple(sorted(set(chosen)))
        if not chosen or not all(1 <= n <= len(sizes) for n in chosen):
            raise UserError(
                f"film: after={':'.join(map(str, chosen))} must name layers from 1 to {len(sizes)} of this backbone"
                f" (stages 1 to {len(sizes) - 1}; {len(sizes)} is the embedding)."
            )
        # one (2, C) row per task and layer, scales over shifts, each a parameter of its own
        self.rows = nn.ModuleDict({str(n): nn.ParameterList([_identity(sizes[n - 1]) for _ in tasks]) for n in chosen})
        self.first = min(chosen)

    def _modulate(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        """Scale and shift features in equal groups, one for each of `tasks`: (len(tasks) * B, C, ...)."""
        if str(layer) not in self.rows:
            return features
        rows = list(self.rows[str(layer)].parameters())
        table = torch.stack([rows[t] for t in tasks]).to(features.dtype)
        table = table.repeat_interleave(len(features) // len(tasks), dim=0)
        scale, shift = table.reshape(*table.shape, *[1] * (features.dim() - 2)).unbind(1)
        return features * scale + shift

    def _from(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        """Run what comes after the first `layer` stages: (len(tasks) * B, ...) -> (len(tasks) * B, D)."""
        features = self._modulate(layer, features, tasks)
        for n, stage in enumerate(self.net.stages, 1):
            if n > layer:
                features = self._modulate(n, stage(features), tasks)
        return self._modulate(len(self.net.stages) + 1, self.net.head(features), tasks)

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D)."""
        tasks = range(len(self.tasks))
        embeddings: Tensor = self._from(0, images.flatten(0, 1), tasks).unflatten(0, images.shape[:2])
        return embeddings

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D): all before the first modulated layer runs once."""
        tasks = range(len(self.tasks))
        if self.first > len(self.net.stages):  # the embedding alone: everything else runs once
            embeddings: Tensor = self.net(images)
            return torch.stack([self._modulate(self.first, embeddings, [t]) for t in tasks])
        features = images
        for stage in self.net.stages[: self.first]:
            features = stage(features)
        each = features.expand(len(tasks), *features.shape).flatten(0, 1)
        embeddings = self._from(self.first, each, tasks).unflatten(0, (len(tasks), len(images)))
        return embeddings

    def embed_task(self, images: Tensor, task: int) -> Tensor:
        """(B, 3, H, W) -> (B, D): one pass of the network."""
        return self._from(0, images, [task])

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        """Its scales and shifts."""
        return tuple(list(rows.parameters())[task] for rows in self.rows.values())

    def last_shared_layer(self) -> Sequence[nn.Parameter]:
        """The embedding head's parameters."""
        return tuple(self.net.head.parameters())


def _identity(channels: int) -> Tensor:
    """Scales of 1 over shifts of 0: (2, C)."""
    return torch.stack([torch.ones(channels), torch.zeros(channels)])

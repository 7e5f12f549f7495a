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

The paper trains the network that computes gamma and beta at the rate of all; so does `rate=1` with the table. In a
short run a row then keeps close to its start; see `modulation`.

Deviations: the paper's layers stand within residual blocks, between a batch norm without its own affine part and the
ReLU; here they follow a stage, whose batch norms keep theirs.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlbench import BackboneFactory, Conditioned, Learned, Range, register_architecture


@register_architecture(
    "film", groups=("architectures",), cite="perez2018film", shares="everything but scales and shifts of channels"
)
class FiLM(Conditioned):
    """One network whose channels each task scales and shifts by vectors of its own.

    Storage: one network and, per task, two numbers per modulated channel.

    Args:
        after: the layers to modulate, by number from 1: stages first, then the embedding. `film[after=3:4:5]`.
            Or a word: `all`, `stages` (all of them) or `embedding` (alone). Default: the last two stages and the
            embedding.
        rate: the scales' and shifts' learning rate as a multiple of the network's.
    """

    search = {"rate": Range(0.3, 300, log=True)}

    def __init__(
        self,
        backbones: BackboneFactory,
        tasks: Sequence[str],
        *,
        after: int | tuple[int, ...] | str | None = None,
        rate: float = 1.0,
    ) -> None:
        super().__init__(backbones, tasks, after, method="film")
        self.rate = rate
        # one (2, C) row per task and layer, scales over shifts, each a parameter of its own
        self.rows = nn.ModuleDict(
            {str(n): nn.ParameterList([_identity(self.sizes[n - 1]) for _ in tasks]) for n in self.chosen}
        )

    def condition(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        """Scale and shift features in equal groups, one for each of `tasks`: (len(tasks) * B, C, ...)."""
        rows = list(self.rows[str(layer)].parameters())
        table = torch.stack([rows[t] for t in tasks]).to(features.dtype)
        table = table.repeat_interleave(len(features) // len(tasks), dim=0)
        scale, shift = table.reshape(*table.shape, *[1] * (features.dim() - 2)).unbind(1)
        return features * scale + shift

    def scales_and_shifts(self, layer: int, tasks: Sequence[int]) -> tuple[Tensor, Tensor | None] | None:
        """A layer's scales and shifts."""
        rows = list(self.rows[str(layer)].parameters())
        scales, shifts = torch.stack([rows[t] for t in tasks]).unbind(1)
        return scales, shifts

    def learned(self) -> Sequence[Learned]:
        """Scales and shifts."""
        scale, shift = "scale (1: the channel is passed on as it is)", "shift (0: nothing is added)"
        return [
            *self.vectors_learned("scales", scale, neutral=1, tensors="rows", row=0),
            *self.vectors_learned("shifts", shift, neutral=0, tensors="rows", row=1),
        ]

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        """Its scales and shifts."""
        return tuple(list(rows.parameters())[task] for rows in self.rows.values())

    def learning_rate_scales(self, *, adaptive: bool) -> Mapping[str, float]:
        """The scales' and shifts' rate."""
        return {"rows.": self.rate}


def _identity(channels: int) -> Tensor:
    """Scales of 1 over shifts of 0: (2, C)."""
    return torch.stack([torch.ones(channels), torch.zeros(channels)])

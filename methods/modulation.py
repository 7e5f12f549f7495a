"""Channel modulation. Zhao, Li, Shen, Liang, Wu: A Modulation Module for Multi-task Learning with Applications in
Image Retrieval, ECCV 2018 (arXiv 1807.06708).

One network for all tasks. After chosen layers l the channels are scaled by a vector of the task's own:

    x_l <- x_l * ReLU(v_{t,l}),    v_{t,l} in R^C, initialised to 1, broadcast over space

so that at the start all tasks see the one shared network, and each may learn to leave channels out. There is no
penalty on the vectors. By default, as in the authors' code, the last two stages and the embedding are modulated; on
the `paper` backbone these are the outputs of blocks 3 and 4 (128 channels each) and the embedding (256): 512 scales
per task.

Deviations: none known in the module. The paper's code takes the mean loss over the batch, so that a vector's gradient
is 1/T of its task's; here, as for every task's own parameters in mtlbench, it is the whole (see `Balancer`). Adagrad
hides that where its accumulator starts at 0, as in torch: any gradient's first step is the learning rate. It shows
under the paper's protocol, where the accumulator starts at 0.1 and outweighs the gradients: on the paper's network with
seven tasks and its own start, the first step moves the median weight by 0.015 % of itself, the median scale by 0.013 %
here and by 0.0018 % with 1/T of the gradient (with the accumulator at 0: 16 % and twice 1 %; `tools/first_step.py`).

The authors' code trains the vectors at the network's rate, Adagrad's 0.01, for 361,700 steps, and so does `rate=1`. An
adaptive optimiser moves a number by about the learning rate a step, whatever its gradient: in a run of some hundred
steps a vector that starts at 1 stays near it. A larger `rate` lets it go as far in fewer steps.

Options ablate the module: which layers, the ReLU, the initial value, and the place within a stage. Just before or just
after a stage's last batch norm, in a residual block, the scale acts on the block's own branch alone, not on what is
carried past it; a ReLU may follow. After the norm, it multiplies the norm's weight and bias. Before the norm, the
statistics of a training batch, which holds all tasks' images, undo much of it: a scale that all tasks have in common
divides out, and has no gradient. What tasks differ by remains, as a gain and as a shift, since the mean that is taken
off is that of all tasks: a channel scaled to 0 becomes a constant, not 0, and while training one task's vector moves
the other tasks' features too and has a gradient from their losses. The running statistics stand still in evaluation.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlbench import BackboneFactory, Conditioned, Learned, Range, UserError, register_architecture

PLACES = ("output", "before-norm", "after-norm")


def _times(features: Tensor, scales: Tensor) -> Tensor:
    """Scale a batch of n equal groups, (n * B, C, ...), by the groups' own (n, C)."""
    scales = scales.to(features.dtype).repeat_interleave(len(features) // len(scales), dim=0)
    return features * scales.reshape(*scales.shape, *[1] * (features.dim() - 2))


class ScaledNorm(nn.Module):
    """A batch norm with scales just before or just after it; they are set for the length of one pass."""

    scales: Tensor  # (n, C) for a batch of n groups

    def __init__(self, norm: nn.BatchNorm2d, before: bool) -> None:
        super().__init__()
        self.norm, self.before = norm, before

    def forward(self, features: Tensor) -> Tensor:
        """(n * B, C, h, w) -> the same."""
        if self.before:
            features = _times(features, self.scales)
        features = self.norm(features)
        return features if self.before else _times(features, self.scales)


@register_architecture(
    "modulation",
    groups=("core", "architectures"),
    cite="zhao2018modulation",
    shares="everything but one scale per channel",
)
class Modulation(Conditioned):
    """One network whose channels each task scales by vectors of its own.

    Storage: one network and, per task, one number per modulated channel.

    Args:
        after: the layers to modulate, by number from 1: stages first, then the embedding. `modulation[after=3:4:5]`.
            Or a word: `all`, `stages` (all of them) or `embedding` (alone). Default: the last two stages and the
            embedding.
        place: where in a stage: its `output`, or just `before-norm` or `after-norm`, its last batch norm. The
            embedding is modulated at its output wherever stages are.
        relu: pass the vectors through a ReLU; without it a scale may turn a channel's sign.
        initial: the vectors' initial value.
        rate: the vectors' learning rate as a multiple of the network's.
    """

    search = {"rate": Range(0.3, 300, log=True)}

    def __init__(
        self,
        backbones: BackboneFactory,
        tasks: Sequence[str],
        *,
        after: int | tuple[int, ...] | str | None = None,
        place: str = "output",
        relu: bool = True,
        initial: float = 1.0,
        rate: float = 1.0,
    ) -> None:
        super().__init__(backbones, tasks, after, method="modulation")
        if initial == 0 or (relu and initial < 0):
            raise UserError(
                f"modulation: initial={initial} lets no gradient through; take it above 0, or below with relu=false."
            )
        self.relu, self.rate = relu, rate
        # in no module list: each is in its stage already
        self.norms = {} if place == "output" else self._put_into_stages(place)
        sizes = {n: self.norms[n].norm.num_features if n in self.norms else self.sizes[n - 1] for n in self.chosen}
        # one vector per task and layer, each a parameter of its own: what one task adds can be counted and saved alone
        self.scales = nn.ModuleDict(
            {
                str(n): nn.ParameterList([torch.full((size,), float(initial)) for _ in tasks])
                for n, size in sizes.items()
            }
        )

    def _put_into_stages(self, place: str) -> dict[int, ScaledNorm]:
        """Wrap the last batch norm of each chosen stage."""
        if place not in PLACES:
            raise UserError(f"modulation: place={place} must be one of {', '.join(PLACES)}.")
        wrapped = {}
        for n, stage in enumerate(self.net.stages, 1):
            if n in self.chosen:
                norms = [(name, m) for name, m in stage.named_modules() if isinstance(m, nn.BatchNorm2d)]
                if not norms:
                    raise UserError(
                        f"modulation: place={place} needs a batch norm, and stage {n} of this backbone has none; leave"
                        f" {n} out of after=, or take place=output."
                    )
                name, norm = norms[-1]
                wrapped[n] = ScaledNorm(norm, before=place == "before-norm")
                stage.set_submodule(name, wrapped[n])
        if not wrapped:
            raise UserError(f"modulation: place={place} is about stages, and after= names none; name one.")
        return wrapped

    def _scales(self, layer: int, tasks: Sequence[int]) -> Tensor:
        """Return the (len(tasks), C) scales of a modulated layer."""
        vectors = list(self.scales[str(layer)].parameters())
        scales = torch.stack([vectors[t] for t in tasks])
        return F.relu(scales) if self.relu else scales

    def condition(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        """Scale the output of a layer, unless its scales stand within."""
        return features if layer in self.norms else _times(features, self._scales(layer, tasks))

    def scales_and_shifts(self, layer: int, tasks: Sequence[int]) -> tuple[Tensor, Tensor | None] | None:
        """A layer's scales, unless they stand within."""
        return None if layer in self.norms else (self._scales(layer, tasks), None)

    def stage(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        """Run a stage with what modulates it, within or after."""
        if layer not in self.norms:
            return super().stage(layer, features, tasks)
        norm = self.norms[layer]
        norm.scales = self._scales(layer, tasks)
        features = self.net.stages[layer - 1](features)
        del norm.scales  # it holds the pass's graph
        return features

    @property
    def stages_for_all(self) -> int:
        """All stages up to the first modulated one, and that one itself unless its scales stand within."""
        return self.chosen[0] - 1 if self.norms else super().stages_for_all

    def learned(self) -> Sequence[Learned]:
        """The vectors, before their ReLU."""
        meaning = "scale, as stored (1: the channel is passed on as it is)"
        return self.vectors_learned("scales", meaning, neutral=1)

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        """Its vectors."""
        return tuple(list(vectors.parameters())[task] for vectors in self.scales.values())

    def learning_rate_scales(self, *, adaptive: bool) -> Mapping[str, float]:
        """The vectors' rate."""
        return {"scales.": self.rate}

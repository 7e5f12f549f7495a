"""MMoE. Ma, Zhao, Yi, Chen, Hong, Chi: Modeling Task Relationships in Multi-task Learning with Multi-gate
Mixture-of-Experts, KDD 2018.

E experts see the same features x; each task mixes their outputs by a softmax gate of its own, image by image, and hands
the mix to its own tower h_t:

    y_t = h_t( sum_i g_t(x)_i f_i(x) ),    g_t(x) = softmax(W_t x)

The paper's networks are fully connected, its x are shared input features. On images x is here what a shared trunk
(the stages up to `after`) makes of the picture, an expert is a copy of the stages that follow with its own weights,
W_t works on the channel means of x, without a bias as in the paper, and the tower is the task's embedding layer.
With one expert this is `shared`.

What the paper leaves open: the initial values. Every expert starts from weights of its own and every gate as
`nn.Linear` does, so that tasks begin with different mixes and drive the experts apart. Gates of zeros would not: with
pretrained weights all experts start as equals, and only unequal gates can tell them apart.

The paper names no learning rate of the gates' own: `rate=1` gives them the network's.

Deviations: LibMTL makes every expert a whole encoder and gates on the flattened pixels. Early layers at full resolution
are what a network's time goes into and what tasks share most readily, and a linear layer on pixels has little to say;
`after=0` gives whole encoders, gated by an image's mean colour.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, Range, UserError, register_architecture


@register_architecture(
    "mmoe", groups=("architectures",), cite="ma2018mmoe", shares="trunk and experts; gates mix per task"
)
class MMoE(Architecture):
    """A shared trunk and experts; each task mixes the experts by its own softmax gate.

    Storage: one trunk, the later stages once per expert, and per task one gate (a number per trunk channel and expert)
    and one embedding layer. Under any one task every expert runs.

    Args:
        experts: how many.
        after: the number of stages in the shared trunk, from 0; the experts are copies of the rest. Default: all stages
            but the last.
        rate: the gates' learning rate as a multiple of the network's.
    """

    search = {"rate": Range(0.1, 100, log=True)}

    def __init__(
        self,
        backbones: BackboneFactory,
        tasks: Sequence[str],
        *,
        experts: int = 4,
        after: int | None = None,
        rate: float = 1.0,
    ) -> None:
        super().__init__(backbones, tasks)
        self.rate = rate
        stages = len(backbones.channels)
        after = stages - 1 if after is None else after
        if experts < 1:
            raise UserError(f"mmoe: experts={experts} must be at least 1.")
        if not 0 <= after < stages:
            raise UserError(
                f"mmoe: after={after} must lie between 0 and {stages - 1}: this backbone has {stages} stages."
            )
        self.trunk = backbones.backbone().stages[:after]
        self.experts = nn.ModuleList(
            nn.Sequential(*backbones.backbone(f"expert {i}").stages[after:]) for i in range(experts)
        )
        self.gates = nn.ModuleList()
        if experts > 1:  # one expert leaves nothing to choose
            for task in tasks:
                with backbones.seeded(task):
                    self.gates.append(nn.Linear((3, *backbones.channels)[after], experts, bias=False))
        self.heads = nn.ModuleList(backbones.head(task) for task in tasks)

    def _embed(self, images: Tensor, tasks: Sequence[int]) -> Tensor:
        """Embed one group of images for each task, or one for all: (len(tasks) or 1, B, 3, H, W) -> (len(tasks), B, D).

        Trunk and experts run once on all groups together.
        """
        groups = images.shape[:2]
        features = images.flatten(0, 1)
        for stage in self.trunk:
            features = stage(features)
        # channels last, as the convolutions leave them
        outputs = torch.stack([expert(features).movedim(1, -1) for expert in self.experts], 1).unflatten(0, groups)
        means = features.mean((2, 3)).unflatten(0, groups).expand(len(tasks), -1, -1)
        weights = torch.stack([self._gate(t, x) for t, x in zip(tasks, means, strict=True)])
        mixed = torch.einsum("tbe,tbehwc->tbhwc", weights.to(outputs.dtype), outputs).movedim(-1, 2)
        return torch.stack([self.heads[t](x) for t, x in zip(tasks, mixed, strict=True)])

    def _gate(self, task: int, means: Tensor) -> Tensor:
        """(B, C) channel means -> (B, experts) weights that sum to 1."""
        if not self.gates:
            return means.new_ones(len(means), 1)
        weights: Tensor = self.gates[task](means).softmax(-1)
        return weights

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D)."""
        return self._embed(images, range(len(self.tasks)))

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D): trunk and experts run once."""
        return self._embed(images[None], range(len(self.tasks)))

    def embed_task(self, images: Tensor, task: int) -> Tensor:
        """(B, 3, H, W) -> (B, D): trunk, every expert, one gate, one embedding layer."""
        return self._embed(images[None], [task])[0]

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        """Its gate and its embedding layer."""
        return (*self.gates[task : task + 1], self.heads[task])

    def last_shared_layer(self) -> Sequence[nn.Parameter]:
        """The weights of every expert's last convolution."""
        last = [[m for m in expert.modules() if isinstance(m, nn.Conv2d)][-1] for expert in self.experts]
        return tuple(parameter for conv in last for parameter in conv.parameters())

    def learning_rate_scales(self, *, adaptive: bool) -> Mapping[str, float]:
        """The gates' rate; one expert has none."""
        return {"gates.": self.rate} if self.gates else {}

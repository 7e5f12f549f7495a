"""DSelect-k. Hazimeh, Zhao, Chowdhery, Sathiamoorthy, Chen, Mazumder, Hong, Chi: DSelect-k: Differentiable Selection in
the Mixture of Experts with Applications to Multi-Task Learning, NeurIPS 2021 (arXiv 2106.03760).

A mixture of n experts, as in `mmoe`, whose gate comes to use at most k of them, by gradient descent alone. A gate has k
selectors. Selector i holds m = ceil(log2 n) numbers z_i, each a soft bit S(z), and gives expert j, whose number from 0
in binary is b(j), the share

    r(z_i)_j = prod_l [ S(z_il) if b(j)_l = 1 else 1 - S(z_il) ],    sum_j r(z_i)_j = 1
    S(z) = 0 for z <= -gamma/2, 1 for z >= gamma/2, else -2/gamma^3 z^3 + 3/(2 gamma) z + 1/2      (smooth-step)

The gate's weights are sum_i softmax(alpha)_i r(z_i). Once all bits are 0 or 1 a selector has one expert, exactly. Two
penalties are added to a task's loss: `entropy` times the entropy of each selector, which drives bits to 0 or 1, and,
where n is not a power of two, 1 / sum_{j<n} r(z_i)_j, which keeps a selector off the codes of experts that don't exist
(as in the released code; until the penalty has worked, such a selector's shares sum to less than 1).

Static gates (default): alpha and z are numbers of the task's own, the same for every image. With `per_example` they are
linear functions of the channel means of the trunk's features. Trunk, experts and towers are mapped to images as in
`mmoe`. From the released code: z starts uniform in +-gamma/100, alpha in +-0.05, gamma is 1; the linear functions have
biases and start likewise.

A settled bit stays: S is flat there. To settle, a z has to move by gamma/2, which takes an adaptive optimiser gamma / 2
over its learning rate in steps at least; where a run is shorter than that, a smaller `gamma` makes gates sparse.

The paper names no learning rate of the gates' own: `rate=1` gives them the network's. A larger one settles bits in
fewer steps.

What the paper leaves open for us: the weight of the entropy, which its authors tune. With 0.01, chosen once and not
tuned, 15 of a run's 16 bits had settled after 350 steps on rendered shoes. With pretrained weights the experts start as
equals, and only the gates tell them apart.

Deviations: with `per_example` the penalties are means over a task's images, not sums, so that they don't grow with the
batch; the second penalty is lowered by 1, its least value, so that it ends at 0.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, Range, UserError, register_architecture

_TINY = 1e-6  # the released code's, inside the logarithm


def _smooth_step(z: Tensor, gamma: float) -> Tensor:
    x = (z / gamma + 0.5).clamp(0, 1)
    return x * x * (3 - 2 * x)


def _selectors(bits: Tensor, experts: int) -> Tensor:
    """(..., m) soft bits, the highest first -> (..., experts) shares: products of bits by the experts' binary codes."""
    shares = bits.new_ones(*bits.shape[:-1], 1)
    for bit in bits.unbind(-1):
        shares = (shares[..., None] * torch.stack([1 - bit, bit], -1)[..., None, :]).flatten(-2)
    return shares[..., :experts]


class _Gate(nn.Module):
    """One task's selectors of at least two experts; static where `channels` is None, else functions of that many."""

    def __init__(self, experts: int, k: int, gamma: float, channels: int | None) -> None:
        super().__init__()
        self.experts, self.k, self.gamma = experts, k, gamma
        self.bits = (experts - 1).bit_length()

        def start(size: int, bound: float) -> nn.Module | nn.Parameter:
            if channels is None:
                return nn.Parameter(torch.empty(size).uniform_(-bound, bound))
            linear = nn.Linear(channels, size)
            for parameter in linear.parameters():
                nn.init.uniform_(parameter, -bound, bound)
            return linear

        self.z = start(k * self.bits, gamma / 100)
        self.alpha = start(k, 0.05) if k > 1 else None  # one selector has all the weight

    def forward(self, means: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, C) channel means -> (N, experts) weights, (N, k, experts) selectors; static: N is 1, no means needed."""

        def value(part: nn.Module | nn.Parameter) -> Tensor:
            result: Tensor = part[None] if isinstance(part, nn.Parameter) else part(means)
            return result.float()

        bits = _smooth_step(value(self.z).unflatten(1, (self.k, self.bits)), self.gamma)
        shares = _selectors(bits, self.experts)
        if self.alpha is None:
            return shares[:, 0], shares
        return (value(self.alpha).softmax(1)[..., None] * shares).sum(1), shares


@register_architecture(
    "dselect-k",
    groups=("architectures",),
    cite="hazimeh2021dselectk",
    shares="trunk and experts; each task selects a few experts",
)
class DSelectK(Architecture):
    """A shared trunk and experts; each task learns which k of the experts it uses.

    Storage: one trunk, the later stages once per expert, and per task a gate (static: some k numbers) and one embedding
    layer; experts that no task has selected are counted too. Under one task only the experts of its static gate run.

    Args:
        experts: how many.
        k: how many of them a task may use in the end.
        after: the number of stages in the shared trunk, from 0; the experts are copies of the rest. Default: all stages
            but the last.
        gamma: the width of the smooth-step.
        entropy: the weight of the selectors' entropy in a task's loss.
        per_example: select by image rather than by task alone; then every expert runs for every batch.
        rate: the gates' learning rate as a multiple of the network's.
    """

    search = {"rate": Range(0.1, 100, log=True), "entropy": Range(1e-4, 0.1, log=True)}

    def __init__(
        self,
        backbones: BackboneFactory,
        tasks: Sequence[str],
        *,
        experts: int = 4,
        k: int = 2,
        after: int | None = None,
        gamma: float = 1.0,
        entropy: float = 0.01,
        per_example: bool = False,
        rate: float = 1.0,
    ) -> None:
        super().__init__(backbones, tasks)
        self.rate = rate
        stages = len(backbones.channels)
        after = stages - 1 if after is None else after
        if not 1 <= k <= experts:
            raise UserError(f"dselect-k: k={k} must lie between 1 and the number of experts, {experts}.")
        if not 0 <= after < stages:
            raise UserError(
                f"dselect-k: after={after} must lie between 0 and {stages - 1}: this backbone has {stages} stages."
            )
        if gamma <= 0:
            raise UserError(f"dselect-k: gamma={gamma} must be above 0.")
        if entropy < 0:
            raise UserError(f"dselect-k: entropy={entropy} must be at least 0.")
        self.entropy, self.per_example = entropy, per_example
        self.trunk = backbones.backbone().stages[:after]
        self.experts = nn.ModuleList(
            nn.Sequential(*backbones.backbone(f"expert {i}").stages[after:]) for i in range(experts)
        )
        self.gates = nn.ModuleList()
        if experts > 1:  # one expert leaves nothing to choose
            channels = (3, *backbones.channels)[after] if per_example else None
            for task in tasks:
                with backbones.seeded(task):
                    self.gates.append(_Gate(experts, k, gamma, channels))
        self.heads = nn.ModuleList(backbones.head(task) for task in tasks)
        self._shares: list[Tensor] = []  # per-example selectors of the latest forward pass

    def _features(self, images: Tensor) -> Tensor:
        for stage in self.trunk:
            images = stage(images)
        return images

    def _outputs(self, features: Tensor, experts: Sequence[int]) -> Tensor:
        """(N, C, H, W) -> (N, experts, h, w, c): channels last, as the convolutions leave them."""
        return torch.stack([self.experts[i](features).movedim(1, -1) for i in experts], 1)

    def _weights(self, features: Tensor, tasks: Sequence[int]) -> Tensor:
        """Weigh the experts for a group a task, or one for all: (len(tasks) or 1, B, C, H, W) -> (len(tasks), B, E)."""
        means = features.mean((3, 4)).expand(len(tasks), -1, -1)
        if not self.gates:
            return means.new_ones(*means.shape[:2], 1)
        found = [self.gates[t](x) for t, x in zip(tasks, means, strict=True)]
        self._shares = [shares for _, shares in found] if self.per_example and self.training else []
        return torch.stack([weights.expand(means.shape[1], -1) for weights, _ in found])

    def _mix(self, weights: Tensor, outputs: Tensor, tasks: Sequence[int]) -> Tensor:
        """Mix (len(tasks) or 1, B, E, h, w, c) outputs by (len(tasks), B, E) weights and embed: (len(tasks), B, D)."""
        mixed = torch.einsum("tbe,tbehwc->tbhwc", weights.to(outputs.dtype), outputs).movedim(-1, 2)
        return torch.stack([self.heads[t](x) for t, x in zip(tasks, mixed, strict=True)])

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D)."""
        groups, tasks = images.shape[:2], range(len(self.tasks))
        features = self._features(images.flatten(0, 1))
        outputs = self._outputs(features, range(len(self.experts)))
        return self._mix(self._weights(features.unflatten(0, groups), tasks), outputs.unflatten(0, groups), tasks)

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D): trunk and experts run once."""
        tasks = range(len(self.tasks))
        features = self._features(images)
        outputs = self._outputs(features, range(len(self.experts)))
        # per-example gates branch off the trunk's features too
        self.representation = outputs if self.training and not self.per_example else None
        return self._mix(self._weights(features[None], tasks), outputs[None], tasks)

    def embed_task(self, images: Tensor, task: int) -> Tensor:
        """(B, 3, H, W) -> (B, D): trunk, one embedding layer, and with a static gate only the experts it uses."""
        features = self._features(images)
        weights = self._weights(features[None], [task])
        used = list(range(len(self.experts)))
        if not (self.per_example or self.training):
            used = weights[0, 0].nonzero().flatten().tolist() or used[:1]
        return self._mix(weights[..., used], self._outputs(features, used)[None], [task])[0]

    def regulariser(self) -> Tensor | None:
        """(T,): the selectors' entropy by its weight, and what keeps them off experts that don't exist."""
        if not self.gates:
            return None
        every = self._shares
        if not self.per_example:
            every = [gate()[1] for gate in self.gates]
        if not every:
            return None
        return torch.stack([self._penalty(shares) for shares in every])

    def _penalty(self, shares: Tensor) -> Tensor:
        """Return the penalty on (N, k, experts) selectors, a mean over N."""
        entropies = -(shares * (shares + _TINY).log()).sum((1, 2))
        reached = shares.sum(2).clamp_min(_TINY)
        return (self.entropy * entropies + (1 / reached - 1).sum(1)).mean()

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

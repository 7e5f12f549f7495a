"""CGC and PLE. Tang, Liu, Zhao, Gong: Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for
Personalized Recommendations, RecSys 2020.

Experts are either one task's own or shared. Customized gate control (CGC) is one layer of them: task t mixes its own
experts E_t and the shared ones E_s, image by image, and never sees another task's:

    g_t(x) = w_t(x) [E_t(x), E_s(x)],    w_t(x) = softmax(W_t x)

Progressive layered extraction (PLE) stacks such layers. Layer j's own experts and gate of task t start from
g_{t,j-1}, its shared experts from g_{s,j-1}, where the shared gate of every layer but the last mixes the experts of all
tasks and the shared ones, by softmax(W_s g_{s,j-1}). The last layer's mix goes to the task's own tower.

The paper's experts are fully connected networks on shared input features. On images a shared trunk (the stages up to
`after`) makes those features, an expert is a copy of later stages with weights of its own (for `cgc` all of them, for
`ple` one: level by level), gates work on channel means, and the tower is the task's embedding layer. With the last
stage alone the two methods are one; with no own and one shared expert both are `shared`, with no own ones and more
shared ones `cgc` is `mmoe`.

What the paper leaves open: the initial values. Every expert starts from weights of its own and every gate as
`nn.Linear` does, without a bias; see `mmoe` for why not from zeros.

The paper names no learning rate of the gates' own: `rate=1` gives them the network's.

Deviations: LibMTL's PLE has no shared gate: it runs the shared experts on each task's own features, T times. We follow
the paper.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, Range, UserError, register_architecture


def _mix(logits: Tensor | None, outputs: Sequence[Tensor]) -> Tensor:
    """Sum experts' (N, C, H, W) outputs under the softmax of (N, experts) logits; one expert has none and stands."""
    if logits is None:
        return outputs[0]
    weights = logits.softmax(1).to(outputs[0].dtype)[..., None, None, None]
    mixed = weights[:, 0] * outputs[0]
    for i, output in enumerate(outputs[1:], 1):
        mixed = mixed + weights[:, i] * output
    return mixed


class _Level(nn.Module):
    """One extraction layer: own experts and a gate per task, shared experts, and a shared gate unless it is the last.

    Args:
        backbones: see `Architecture`.
        tasks: their names.
        stages: which stages an expert is made of.
        own: experts per task.
        shared: shared experts.
        last: no layer follows.
    """

    def __init__(
        self, backbones: BackboneFactory, tasks: Sequence[str], stages: slice, own: int, shared: int, *, last: bool
    ) -> None:
        super().__init__()

        def expert(owner: str) -> nn.Module:
            return nn.Sequential(*backbones.backbone(owner).stages[stages])

        channels = (3, *backbones.channels)[stages.start]
        self.shared = nn.ModuleList(expert(f"expert {i}") for i in range(shared))
        self.own: Sequence[nn.ModuleList] = nn.ModuleList(  # type: ignore[assignment]
            nn.ModuleList(expert(f"{task}, expert {i}") for i in range(own)) for task in tasks
        )
        self.gates = nn.ModuleList()
        # the shared gate's rows for one task's experts are that task's: each start by their owner alone
        self.shared_gates = nn.ModuleList()
        for task in tasks:
            with backbones.seeded(f"{task}, level {stages.start}"):
                if own + shared > 1:  # one expert leaves nothing to choose
                    self.gates.append(nn.Linear(channels, own + shared, bias=False))
                if own and not last:
                    self.shared_gates.append(nn.Linear(channels, own, bias=False))
        if not last and (own or shared > 1):
            with backbones.seeded(f"level {stages.start}"):
                self.shared_gates.append(nn.Linear(channels, shared, bias=False))

    def mix_for_task(self, task: int, features: Tensor, shared: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return g_t from the task's features and the shared experts' outputs, and the outputs of its own experts."""
        own = [expert(features) for expert in self.own[task]]
        logits = self.gates[task](features.mean((2, 3))) if self.gates else None
        return _mix(logits, [*own, *shared]), own

    def mix_for_all(self, features: Tensor, outputs: Sequence[Tensor]) -> Tensor:
        """Return g_s from the shared features and the outputs of every task's experts and the shared ones, in order."""
        means = features.mean((2, 3))
        logits = torch.cat([gate(means) for gate in self.shared_gates], 1) if self.shared_gates else None
        return _mix(logits, outputs)

    def of_task(self, task: int) -> list[nn.Module]:
        """What only this task has: its experts, its gate, and its rows of the shared gate."""
        rows = list(self.shared_gates)[:-1]  # the last are the shared experts'
        return [self.own[task], *self.gates[task : task + 1], *rows[task : task + 1]]


class _Extraction(Architecture):
    """A trunk, extraction layers, and an embedding layer per task."""

    search = {"rate": Range(0.1, 100, log=True)}

    def __init__(
        self,
        backbones: BackboneFactory,
        tasks: Sequence[str],
        name: str,
        own: int,
        shared: int,
        after: int,
        levels: Sequence[slice],
        rate: float,
    ) -> None:
        super().__init__(backbones, tasks)
        self.rate = rate
        stages = len(backbones.channels)
        if own < 0:
            raise UserError(f"{name}: own={own} must be at least 0.")
        if shared < 1:
            raise UserError(f"{name}: shared={shared} must be at least 1: its tasks share experts.")
        if not 0 <= after < stages:
            raise UserError(
                f"{name}: after={after} must lie between 0 and {stages - 1}: this backbone has {stages} stages."
            )
        self.trunk = backbones.backbone().stages[:after]
        self.levels: Sequence[_Level] = nn.ModuleList(  # type: ignore[assignment]
            _Level(backbones, tasks, level, own, shared, last=level is levels[-1]) for level in levels
        )
        self.heads = nn.ModuleList(backbones.head(task) for task in tasks)
        self.mixes_tasks = own > 0 and len(levels) > 1  # the shared gate of all levels but the last

    def _embed(self, images: Tensor, tasks: Sequence[int]) -> Tensor:
        """Embed one group of images for each task, or one for all: (len(tasks) or 1, B, 3, H, W) -> (len(tasks), B, D).

        Before the last layer every task's experts see all groups: the shared gate mixes them.
        """
        groups = images.shape[:2]
        shared = images.flatten(0, 1)
        for stage in self.trunk:
            shared = stage(shared)
        own = [shared] * len(self.tasks)
        *layers, last = self.levels
        for layer in layers:
            from_shared = [expert(shared) for expert in layer.shared]
            mixed = [layer.mix_for_task(t, x, from_shared) for t, x in enumerate(own)]
            own = [x for x, _ in mixed]
            shared = layer.mix_for_all(shared, [*(y for _, outputs in mixed for y in outputs), *from_shared])
        from_shared = [expert(shared).unflatten(0, groups) for expert in last.shared]
        embeddings = []
        for i, t in enumerate(tasks):
            group = i if len(images) > 1 else 0
            x, _ = last.mix_for_task(t, own[t].unflatten(0, groups)[group], [y[group] for y in from_shared])
            embeddings.append(self.heads[t](x))
        return torch.stack(embeddings)

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D)."""
        return self._embed(images, range(len(self.tasks)))

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D): trunk and experts run once."""
        return self._embed(images[None], range(len(self.tasks)))

    def embed_task(self, images: Tensor, task: int) -> Tensor:
        """(B, 3, H, W) -> (B, D): trunk, the layers before the last whole, and of the last what the task mixes."""
        return self._embed(images[None], [task])[0]

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        """Its experts, its gates, its rows of the shared gates and its embedding layer."""
        return (*(part for level in self.levels for part in level.of_task(task)), self.heads[task])

    def last_shared_layer(self) -> Sequence[nn.Parameter]:
        """The weights of the last convolution of the last layer's shared experts."""
        last = [[m for m in expert.modules() if isinstance(m, nn.Conv2d)][-1] for expert in self.levels[-1].shared]
        return tuple(parameter for conv in last for parameter in conv.parameters())

    def learning_rate_scales(self, *, adaptive: bool) -> Mapping[str, float]:
        """The gates' rate, at levels that have some."""
        kinds = [(n, kind) for n in range(len(self.levels)) for kind in ("gates", "shared_gates")]
        return {f"levels.{n}.{kind}.": self.rate for n, kind in kinds if len(getattr(self.levels[n], kind))}


@register_architecture(
    "cgc", groups=("architectures",), cite="tang2020ple", shares="trunk and shared experts; each task has experts too"
)
class CGC(_Extraction):
    """A shared trunk, then shared experts and each task's own, which the task's gate mixes.

    Storage: one trunk, the later stages once per shared expert and `own` times per task, and per task a gate and an
    embedding layer. Under one task its own experts and the shared ones run.

    Args:
        own: experts of each task's own, from 0.
        shared: shared experts, from 1.
        after: the number of stages in the shared trunk, from 0; the experts are copies of the rest. Default: all stages
            but the last.
        rate: the gates' learning rate as a multiple of the network's.
    """

    def __init__(
        self,
        backbones: BackboneFactory,
        tasks: Sequence[str],
        *,
        own: int = 1,
        shared: int = 1,
        after: int | None = None,
        rate: float = 1.0,
    ) -> None:
        stages = len(backbones.channels)
        after = stages - 1 if after is None else after
        super().__init__(backbones, tasks, "cgc", own, shared, after, [slice(after, stages)], rate)


@register_architecture(
    "ple",
    groups=("architectures",),
    cite="tang2020ple",
    shares="trunk and, level by level, experts that a shared gate mixes",
)
class PLE(_Extraction):
    """A shared trunk, then, stage by stage, shared experts and each task's own, mixed by task gates and a shared gate.

    Storage: one trunk, every later stage once per shared expert and `own` times per task, gates, and an embedding layer
    per task. Under any one task all experts but the other tasks' last ones run: the shared gate mixes them.

    Args:
        own: experts of each task's own at every level, from 0.
        shared: shared experts at every level, from 1.
        after: the number of stages in the shared trunk, from 0; each stage that follows is a level. Default: all stages
            but the last two.
        rate: the gates' learning rate as a multiple of the network's.
    """

    def __init__(
        self,
        backbones: BackboneFactory,
        tasks: Sequence[str],
        *,
        own: int = 1,
        shared: int = 1,
        after: int | None = None,
        rate: float = 1.0,
    ) -> None:
        stages = len(backbones.channels)
        after = max(stages - 2, 0) if after is None else after
        levels = [slice(n, n + 1) for n in range(after, stages)]
        super().__init__(backbones, tasks, "ple", own, shared, after, levels, rate)

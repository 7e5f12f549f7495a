"""Architectures with one planted fault each, of the kinds that are met; what each breaks is in test_check.py.

Each is `sound` but for a line or two. Not loaded by anything but that test.
"""

import random

import torch
from torch import nn

from mtlbench import Architecture, register_architecture


@register_architecture("sound")
class Sound(Architecture):
    """One network; each task scales the features of the last stage. Without a fault."""

    def __init__(self, backbones, tasks):
        super().__init__(backbones, tasks)
        self.net = backbones.backbone()
        self.scales = nn.ParameterList([torch.ones(backbones.channels[-1]) for _ in tasks])

    def features(self, images):
        for stage in self.net.stages:
            images = stage(images)
        return images

    def scaled(self, features, task):
        return features * self.scales[task].to(features.dtype)[:, None, None]

    def forward(self, images):
        groups = self.features(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        return torch.stack([self.net.head(self.scaled(group, t)) for t, group in enumerate(groups)])

    def task_state(self, task):
        return (self.scales[task],)

    def last_shared_layer(self):
        return tuple(self.net.head.parameters())


@register_architecture("task-average")
class TaskAverage(Sound):
    """Centres embeddings over the task axis: every group's depend on every group's images."""

    def forward(self, images):
        embeddings = super().forward(images)
        if len(embeddings) == 1:
            return embeddings
        return embeddings - 0.5 * embeddings.mean(0, keepdim=True).detach()


@register_architecture("batch-statistics")
class BatchStatistics(Sound):
    """Normalises by the statistics of the group at hand, in evaluation too: a batch norm without running ones."""

    def scaled(self, features, task):
        mean, deviation = features.mean((0, 2, 3), keepdim=True), features.std((0, 2, 3), keepdim=True)
        return super().scaled((features - mean) / (deviation + 1), task)


@register_architecture("joint-batch-norm")
class JointBatchNorm(Sound):
    """Normalises all groups together by their own statistics, in evaluation too: batches and tasks both leak."""

    def __init__(self, backbones, tasks):
        super().__init__(backbones, tasks)
        self.norm = nn.BatchNorm2d(backbones.channels[-1], track_running_stats=False)

    def features(self, images):
        return self.norm(super().features(images))


@register_architecture("unused-parameter")
class UnusedParameter(Sound):
    """Has a projection that no pass uses: it is counted, stored and never trained."""

    def __init__(self, backbones, tasks):
        super().__init__(backbones, tasks)
        self.projection = nn.Parameter(torch.zeros(backbones.embedding_size))


@register_architecture("plain-attribute")
class PlainAttribute(Sound):
    """Keeps fixed random directions in a plain attribute: neither saved nor moved."""

    def __init__(self, backbones, tasks):
        super().__init__(backbones, tasks)
        with backbones.seeded():
            self.directions = torch.randn(backbones.embedding_size)

    def forward(self, images):
        return super().forward(images) * self.directions


@register_architecture("counts-steps")
class CountsSteps(Sound):
    """Anneals while it trains by a number that no checkpoint holds: a run that goes on is another run."""

    def __init__(self, backbones, tasks):
        super().__init__(backbones, tasks)
        self.steps = 0

    def forward(self, images):
        found = super().forward(images)
        if not self.training:
            return found
        self.steps += 1
        return found * (1 + 1 / self.steps)


@register_architecture("warms-up")
class WarmsUp(CountsSteps):
    """Counts its steps in the same place, and acts on them long after any check ends."""

    def forward(self, images):
        self.steps += self.training
        return Sound.forward(self, images) * (1 if self.steps < 1000 else 2)


@register_architecture("looks-back")
class LooksBack(Sound):
    """Keeps what is of the latest pass, and what it makes once, in plain attributes: neither is memory. No fault."""

    latest = grid = None

    def forward(self, images):
        if self.grid is None:
            self.grid = list(range(images.shape[-1]))
        found = super().forward(images)
        self.latest = float(found.detach().abs().mean())
        return found


@register_architecture("in-place")
class InPlace(Sound):
    """Changes the images that it is given."""

    def forward(self, images):
        return super().forward(images.mul_(0.5))


@register_architecture("made-on-the-cpu")
class MadeOnTheCpu(Sound):
    """Makes a tensor during the pass without saying where: it works on the processor alone."""

    def forward(self, images):
        embeddings = super().forward(images)
        return embeddings + torch.linspace(0, 1, embeddings.shape[-1])


@register_architecture("batch-first")
class BatchFirst(Sound):
    """Returns (B, T, D): the leading axis is not the task."""

    def forward(self, images):
        return super().forward(images).transpose(0, 1)


@register_architecture("other-embed")
class OtherEmbed(Sound):
    """Its fast embed forgets the scales."""

    def embed(self, images):
        return self.net(images).expand(len(self.tasks), -1, -1)


@register_architecture("other-embed-task")
class OtherEmbedTask(Sound):
    """Counts tasks from 1 when it embeds under one alone."""

    def embed_task(self, images, task):
        return self.net.head(self.scaled(self.features(images), task - 1))


@register_architecture("embed-detached")
class EmbedDetached(Sound):
    """Its fast embed cuts the graph before the tasks' own part: by it, nothing that is shared ever trains."""

    def embed(self, images):
        features = self.features(images).detach()
        return torch.stack([self.net.head(self.scaled(features, t)) for t in range(len(self.tasks))])


@register_architecture("squeezes-one")
class SqueezesOne(Sound):
    """Removes the batch's axis where it is 1."""

    def embed_task(self, images, task):
        return self.net.head(self.scaled(self.features(images), task)).squeeze()


@register_architecture("claims-the-shared")
class ClaimsTheShared(Sound):
    """Names what all tasks share as the first task's own."""

    def task_state(self, task):
        return (self.scales[task], self.net.stages[0]) if task == 0 else (self.scales[task],)


@register_architecture("one-table")
class OneTable(Sound):
    """Keeps all tasks' scales in one tensor, which counts as shared: a task seems to cost nothing."""

    def __init__(self, backbones, tasks):
        super().__init__(backbones, tasks)
        del self.scales
        self.scales = nn.Parameter(torch.ones(len(tasks), backbones.channels[-1]))

    def task_state(self, task):
        return ()


@register_architecture("fused-head")
class FusedHead(Architecture):
    """Keeps all tasks' heads in one layer, which counts as shared: rows 0 to D - 1 are the first task's, and so on."""

    def __init__(self, backbones, tasks):
        super().__init__(backbones, tasks)
        self.net = nn.Sequential(*backbones.backbone().stages)
        channels, self.size = backbones.channels[-1], backbones.embedding_size
        with backbones.seeded():
            weight = torch.randn(self.size, channels) / channels**0.5
        self.head = nn.Parameter(weight.repeat(len(tasks), 1))

    def forward(self, images):
        features = self.net(images.flatten(0, 1)).mean((2, 3)).unflatten(0, images.shape[:2])
        every = features @ self.head.T.to(features.dtype)
        return torch.stack([group.split(self.size, dim=1)[t] for t, group in enumerate(every)])


@register_architecture("adapters")
class Adapters(Sound):
    """Without a fault: adapters of low rank whose second factor starts at 0, so that the first has no gradient yet."""

    def __init__(self, backbones, tasks):
        super().__init__(backbones, tasks)
        channels = backbones.channels[-1]
        del self.scales
        self.down, self.up = nn.ParameterList(), nn.ParameterList()
        for task in tasks:
            with backbones.seeded(task):
                self.down.append(torch.randn(channels, 4) / channels**0.5)
            self.up.append(torch.zeros(4, channels))

    def scaled(self, features, task):
        x = features.movedim(1, -1)
        return (x + x @ self.down[task].to(x.dtype) @ self.up[task].to(x.dtype)).movedim(-1, 1)

    def task_state(self, task):
        return (self.down[task], self.up[task])


@register_architecture("placed-adapters")
class PlacedAdapters(Adapters):
    """Draws the first factors in the order of tasks; the second ones, which are 0, hide that at the start."""

    def __init__(self, backbones, tasks):
        super().__init__(backbones, tasks)
        with backbones.seeded():
            self.down = nn.ParameterList([torch.randn_like(p) for p in self.down])


@register_architecture("drawn-by-python")
class DrawnByPython(Sound):
    """Draws in training from Python's generator, which the run's seed does not reach."""

    def scaled(self, features, task):
        if self.training:
            features = features * random.uniform(0.5, 1.5)
        return super().scaled(features, task)


@register_architecture("always-dropping")
class AlwaysDropping(Sound):
    """Drops features by chance in evaluation too."""

    def scaled(self, features, task):
        return super().scaled(nn.functional.dropout(features, 0.2), task)


@register_architecture("two-at-least")
class TwoAtLeast(Sound):
    """Pairs each task with another one in training: breaks with one task."""

    def forward(self, images):
        if self.training:
            assert len(self.tasks) > 1, "there is no other task"
        return super().forward(images)


@register_architecture("fixed-channels")
class FixedChannels(Sound):
    """Takes it for granted that the last stage has 128 channels."""

    def __init__(self, backbones, tasks):
        super().__init__(backbones, tasks)
        self.scales = nn.ParameterList([torch.ones(128) for _ in tasks])


@register_architecture("float-only")
class FloatOnly(Sound):
    """Gathers embeddings in a float32 tensor by an operation that takes no other type."""

    def forward(self, images):
        embeddings = super().forward(images)
        gathered = torch.zeros(embeddings.shape, device=images.device)
        return gathered.index_add(0, torch.arange(len(embeddings), device=images.device), embeddings)


@register_architecture("drawn-globally")
class DrawnGlobally(Sound):
    """Draws initial values from the global generator: they depend on what was drawn before."""

    def __init__(self, backbones, tasks):
        super().__init__(backbones, tasks)
        self.offset = nn.Parameter(torch.randn(backbones.embedding_size))

    def forward(self, images):
        return super().forward(images) + self.offset


@register_architecture("placed-start")
class PlacedStart(Sound):
    """A task's scales start by its place among the tasks: with other tasks beside it, it starts otherwise."""

    def __init__(self, backbones, tasks):
        super().__init__(backbones, tasks)
        self.scales = nn.ParameterList([torch.full((backbones.channels[-1],), 1.0 + t) for t in range(len(tasks))])


@register_architecture("mixes-unsaid")
class MixesUnsaid(Sound):
    """Task t's embedding also uses the first task's scales, without saying that tasks mix."""

    def scaled(self, features, task):
        return super().scaled(features, task) * self.scales[0].to(features.dtype)[:, None, None]


@register_architecture("mixes-in-words")
class MixesInWords(Sound):
    """Says that its tasks mix, which they don't, so that less would be checked of it."""

    mixes_tasks = True


@register_architecture("wrong-rates")
class WrongRates(Sound):
    """Asks for a learning rate of a parameter under a name that there is not."""

    def learning_rate_scales(self, *, adaptive):
        return {"scale.": 10.0}


@register_architecture("idle-rate")
class IdleRate(Sound):
    """Takes a rate and never gives it to anyone."""

    def __init__(self, backbones, tasks, *, rate: float = 1.0):
        super().__init__(backbones, tasks)

    def learning_rate_scales(self, *, adaptive):
        return {"scales.": 1.0}


@register_architecture("needs-an-option")
class NeedsAnOption(Sound):
    """Can't be built by its name alone."""

    def __init__(self, backbones, tasks, *, after: int):
        super().__init__(backbones, tasks)


@register_architecture("search-beyond")
class SearchBeyond(Sound):
    """Lets tuning try stages that there are not."""

    search = {"after": (0, 99)}

    def __init__(self, backbones, tasks, *, after: int = 0):
        super().__init__(backbones, tasks)
        self.scales = nn.ParameterList([torch.ones(backbones.channels[-1 - after]) for _ in tasks])

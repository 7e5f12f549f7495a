"""Basic items: an architecture can be built, returns the right shapes, trains, and is repeatable in evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mtlbench.checks.architecture.subject import BATCH, EMBEDDING, TASKS, Subject, train_a_little
from mtlbench.checks.items import Fault, Items, gap
from mtlbench.checks.options import ITEM, options_fit
from mtlbench.cost import weights_of
from mtlbench.names import joined
from mtlbench.registry import ARCHITECTURES

SAME = "two passes in evaluation are equal"
check = Items[Subject]()


@check("it is built")
def is_built(subject: Subject) -> str:
    """It is built from backbones and task names, and knows its tasks."""
    net = subject.build()
    if getattr(net, "tasks", None) != TASKS:
        raise Fault(f"tasks = {TASKS}", f"{getattr(net, 'tasks', None)}", "call super().__init__(backbones, tasks)")
    if not any(p.requires_grad for p in net.parameters()):
        raise Fault(
            "parameters to train", "none",
            "give modules and nn.Parameters to self; several go into an nn.ModuleList or nn.ParameterList, not a list",
        )  # fmt: skip
    return f"{sum(p.numel() for p in net.parameters()):,} parameters for 3 tasks"


@check(ITEM)
def has_options(subject: Subject) -> str:
    """Users can set its options, and tuning can vary them."""
    method = subject.method

    def build(options: dict[str, Any]) -> None:
        Subject(replace(method, architecture_options=method.architecture_options | options)).build()

    return options_fit("architecture", ARCHITECTURES.get(method.architecture), method.architecture_options, build)


@check("shapes", "it is built")
def shapes(subject: Subject) -> str:
    """The leading axis is the task, in training and in evaluation, for every way of embedding."""
    net, t, b, d = subject.build(), len(TASKS), BATCH, EMBEDDING
    calls: tuple[tuple[str, Callable[[Tensor], Tensor], tuple[int, ...], str], ...] = (
        ("forward of images (T, B, 3, H, W)", net, (t, b, d), "(T, B, D)"),
        ("embed of images (B, 3, H, W)", lambda images: net.embed(images[0]), (t, b, d), "(T, B, D)"),
        ("embed_task of images (B, 3, H, W)", lambda images: net.embed_task(images[0], 1), (b, d), "(B, D)"),
    )
    for mode in (True, False):
        net.train(mode)
        for what, run, wanted, meaning in calls:
            images = subject.images.clone()
            with torch.no_grad():
                found = run(images)
            of = f"{what} with T = {t}, B = {b}, D = {d}"
            if not torch.equal(images, subject.images):
                raise Fault(
                    "images left as they were given", f"{what.partition(' ')[0]} changes its images in place",
                    "work on a copy: images = images * 2, not images *= 2 or images.mul_(2)",
                )  # fmt: skip
            if not isinstance(found, Tensor):
                raise Fault(f"a tensor from {of}", type(found).__name__)
            if tuple(found.shape) != wanted:
                raise Fault(
                    f"{meaning} = {wanted} from {of}", f"{tuple(found.shape)}", "the leading axis is the task, always"
                )
            if not found.isfinite().all():
                raise Fault(f"finite numbers from {of}", "inf or nan")
    return "(T, B, D) from forward and embed, (B, D) from embed_task"


@check("it takes training steps", "shapes")
def trains(subject: Subject) -> str:
    """A few steps leave everything finite, with images in channels-last memory, as in runs, and without."""
    net = subject.trained
    broken = [n for n, p in net.named_parameters() if not p.isfinite().all()]
    if broken:
        raise Fault("finite parameters after three small steps", f"inf or nan in {joined(broken, 4)}")
    last = subject.build().to(memory_format=torch.channels_last)
    last = train_a_little(last, subject.images.movedim(2, -1).contiguous().movedim(-1, 2), 2)
    with torch.no_grad():
        if not last(subject.images).isfinite().all():
            raise Fault("finite embeddings after two steps with channels last in memory", "inf or nan")
    return ""


@check("two passes in evaluation are equal", "it takes training steps")
def is_repeatable(subject: Subject) -> str:
    """Evaluation uses no random numbers, and no pass changes the next one."""
    net = subject.trained
    with torch.no_grad():
        before = {n: tensor.clone() for n, tensor in weights_of(net).items()}
        for what, run in (
            ("forward", lambda: net(subject.images)),
            ("embed", lambda: net.embed(subject.images[0])),
            ("embed_task", lambda: net.embed_task(subject.images[0], 1)),
        ):
            one, two = run().clone(), run()
            if not torch.equal(one, two):
                raise Fault(
                    f"the same embeddings from the same images by {what}, in evaluation", gap(one, two),
                    "noise and dropout only `if self.training:` (nn.Dropout and F.dropout(x, training=self.training))",
                )  # fmt: skip
        changed = [n for n, tensor in weights_of(net).items() if not torch.equal(before[n], tensor)]
    if changed:
        raise Fault(
            "nothing of the network changed by passes in evaluation", joined(changed, 4), "update `if self.training:`"
        )
    return ""


ITEMS: Items[Subject] = check

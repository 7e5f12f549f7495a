"""Items on sizes and formats: any number of tasks, another backbone, bfloat16."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from mtlbench.architecture import Architecture
from mtlbench.checks.architecture import stored
from mtlbench.checks.architecture.subject import EMBEDDING, SIDE, TASKS, Subject, noise
from mtlbench.checks.items import Fault, Items, described
from mtlbench.devices import computing_in
from mtlbench.errors import FAULTS, counted
from mtlbench.names import joined

SAME = stored.SAME
MANY, FEWER = 40, 12
OTHER_BACKBONE, OTHER_SIZE = "resnet18", (32, 40)  # other stages and channels, and images that are not square
LIGHTER = "torchvision:mobilenet_v3_small"  # a quarter of the parameters of `OTHER_BACKBONE`
check = Items[Subject](stored.ITEMS)


def _works_with(subject: Subject, number: int) -> Architecture:
    """Build it for a number of tasks, embed in training and in evaluation, and run the backward pass.

    With many tasks, `embed` runs as usual, but `forward` only on the meta device: T columns on T groups take long.
    """
    batch = 2
    tasks = tuple(f"task {t}" for t in range(number))
    net = subject.build(tasks)
    images = noise(number, batch, 3, SIDE, SIDE, seed=6)
    if number < FEWER:
        net(images).square().sum().backward()
    net.eval()
    groups = net if number < FEWER else partial(_forward_of_many, subject, net)
    with torch.no_grad():
        for what, found, wanted in (
            ("embed", net.embed(images[0]), (number, batch, EMBEDDING)),
            ("embed_task", net.embed_task(images[0], number - 1), (batch, EMBEDDING)),
            ("forward", groups(images), (number, batch, EMBEDDING)),
        ):
            if tuple(found.shape) != wanted:
                raise Fault(f"{wanted} from {what} with {counted(number, 'task')}", str(tuple(found.shape)))
            if not found.isfinite().all():
                raise Fault(f"finite embeddings from {what} with {counted(number, 'task')}", "inf or nan")
    return net


def _forward_of_many(subject: Subject, net: Architecture, images: Tensor) -> Tensor:
    """Return zeros of the shape that `forward` has on meta, and leave the network there.

    If meta can't run it, return the real embeddings instead.
    """
    try:
        return torch.zeros(net.to("meta")(images.to("meta")).shape)
    except (NotImplementedError, RuntimeError):  # it reads values, or leaves a tensor behind: another item covers that
        embeddings: Tensor = subject.build(net.tasks).eval()(images)
        return embeddings


@check("it works with 1 task", "shapes")
def works_with_one(subject: Subject) -> str:
    """One task works as a special case of many."""
    return f"{sum(p.numel() for p in _works_with(subject, 1).parameters()):,} parameters"


@check("it works with 2 tasks", "shapes")
def works_with_two(subject: Subject) -> str:
    """Two tasks work: many papers try no more."""
    return f"{sum(p.numel() for p in _works_with(subject, 2).parameters()):,} parameters"


@check(f"it works with {MANY} tasks", "shapes")
def works_with_many(subject: Subject) -> str:
    """Forty tasks work, as many as CelebA has."""
    number = MANY if subject.thorough else FEWER
    size = f"{sum(p.numel() for p in _works_with(subject, number).parameters()):,} parameters"
    return size if subject.thorough else f"{size}, tried with {number}"


@check("it works on another backbone", "shapes")
def works_on_another_backbone(subject: Subject) -> str:
    """The architecture takes stages, channels and feature shapes from the backbone."""
    other = OTHER_BACKBONE if subject.thorough else LIGHTER
    net = subject.build(backbone=other, size=OTHER_SIZE)
    images = noise(len(TASKS), 2, 3, *OTHER_SIZE, seed=6)
    mend = "ask backbones.channels and backbones.feature_size, and take stages as they come"
    try:
        embeddings = net(images)
        embeddings.square().sum().backward()
        fast = net.eval().embed(images[0])
    except FAULTS as error:  # any error here comes from the change of backbone
        where = f"{other}, {OTHER_SIZE[0]} x {OTHER_SIZE[1]} px"
        raise Fault(f"no error on {where}, where 'small' works", described(error), mend) from error
    for found in (embeddings, fast):
        if tuple(found.shape) != (len(TASKS), 2, EMBEDDING) or not found.isfinite().all():
            raise Fault(f"finite (3, 2, {EMBEDDING}) embeddings on {other}", str(tuple(found.shape)), mend)
    return f"small and {other}, {OTHER_SIZE[0]} x {OTHER_SIZE[1]} px"


@check("it computes in bfloat16", SAME)
def computes_in_bfloat16(subject: Subject) -> str:
    """Under autocast, gradients are finite and embeddings differ from those in float32 only by rounding."""
    net, images = subject.trained, subject.images
    with torch.no_grad():
        exact = (net(images), net.embed(images[0]), net.embed_task(images[0], 0))
    mend = "features are bfloat16 after a layer, parameters float32: .to(features.dtype) where they meet"
    try:
        with torch.no_grad(), computing_in("bf16", images.device):
            rough = (net(images), net.embed(images[0]), net.embed_task(images[0], 0))
        fresh = subject.build()
        with computing_in("bf16", images.device):
            embeddings = fresh(images)
        embeddings.float().square().mean().backward()
    except FAULTS as error:  # any error here comes from bfloat16
        raise Fault("no error under bfloat16 autocast, where float32 works", described(error), mend) from error
    bad = [n for n, p in fresh.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    if bad:
        raise Fault("finite gradients under bfloat16 autocast", f"inf or nan for {joined(bad, 4)}")
    errors = [
        float((a - b.float()).square().mean().sqrt() / a.square().mean().sqrt())
        for a, b in zip(exact, rough, strict=True)
    ]
    if not max(errors) < 0.1:
        raise Fault("embeddings within a tenth of those of float32", f"{max(errors):.0%} off", mend)
    return f"within {max(errors):.1%} of float32"


ITEMS: Items[Subject] = check

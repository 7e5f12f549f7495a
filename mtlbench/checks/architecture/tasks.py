"""Items on the separation of tasks: no leaks, no influence of the batch, gradients only where they belong."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mtlbench.architecture import Architecture
from mtlbench.checks.architecture import basics
from mtlbench.checks.architecture.subject import BATCH, EMBEDDING, TASKS, Subject, noise, train_a_little
from mtlbench.checks.items import Fault, Items, NotApplicable, gap, near
from mtlbench.names import joined

SAME = basics.SAME
LEAK = "no leak between tasks"
check = Items[Subject](basics.ITEMS)


@check("embed, forward and embed_task agree", SAME)
def embeddings_agree(subject: Subject) -> str:
    """The ways of embedding agree with `forward`, whatever the architecture shares to save work."""
    net, images = subject.trained, subject.images[0]
    with torch.no_grad():
        plain, fast = Architecture.embed(net, images), net.embed(images)
        if not near(plain, fast):
            raise Fault("embed to give what forward gives of the same images under every task", gap(plain, fast))
        for t in range(len(TASKS)):
            one = net.embed_task(images, t)
            if not near(fast[t], one):
                raise Fault(f"embed_task(images, {t}) to give embed(images)[{t}]", gap(fast[t], one))
    return ""


@check(LEAK, SAME)
def tasks_do_not_leak(subject: Subject) -> str:
    """The embeddings of group t depend on the images of group t and on task t alone."""
    net, images = subject.trained, subject.images
    with torch.no_grad():
        before = net(images)
        for t in range(len(TASKS)):
            others = noise(*images.shape, seed=5)
            others[t] = images[t]
            after = net(others)
            if not near(before[t], after[t]):
                raise Fault(
                    f"embeddings of group {t} whatever the other groups' images", gap(before[t], after[t]),
                    "nothing may be summed, averaged or normalised over the leading axis of `forward`",
                )  # fmt: skip
            if any(near(before[s], after[s], 1e-3, 1e-3) for s in range(len(TASKS)) if s != t):
                raise Fault("other images to have other embeddings", "the same ones", "use the images of every group")
    return ""


@check("in evaluation an image's batch does not matter", SAME)
def batch_plays_no_part(subject: Subject) -> str:
    """In evaluation, an image's embedding does not depend on the other images of the batch."""
    net, images = subject.trained, subject.images.flatten(0, 1)
    with torch.no_grad():
        whole, part, one = net.embed(images), net.embed(images[3:6]), net.embed(images[3:4])
        several, single = net.embed_task(images[3:6], 1), net.embed_task(images[3:4], 1)
    for name, found in (("3 images", part), ("a single image", one)):
        expected = whole[:, 3 : 3 + found.shape[1]]
        if not near(expected, found):
            raise Fault(
                f"{name} to be embedded as within a batch of {len(images)}, in evaluation", gap(expected, found),
                "no statistics over the batch in evaluation: keep running ones in buffers, as batch norm does",
            )  # fmt: skip
    if not near(several[:1], single):
        raise Fault(
            "embed_task to embed a single image as within a batch", gap(several[:1], single),
            "keep the batch's axis, also where it is 1: flatten(1) or squeeze((2, 3)), not squeeze()",
        )  # fmt: skip
    return ""


@check("embed trains as forward does", "embed, forward and embed_task agree")
def embed_trains_as_forward(subject: Subject) -> str:
    """In training, `embed` gives the gradients of `forward` on the same images: joint protocols use `embed` alone."""
    images, weights = subject.images[0], noise(len(TASKS), BATCH, EMBEDDING)
    net = train_a_little(subject.build(), subject.images).train()

    def gradients(run: Callable[[Tensor], Tensor], seed: int = 0) -> Tensor:
        net.zero_grad(set_to_none=True)
        torch.default_generator.manual_seed(seed)
        (run(images) * weights).sum().backward()
        net.forget()
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in net.parameters()])

    plain = partial(Architecture.embed, net)
    if not near(gradients(plain, 0), gradients(plain, 1)):
        net.eval()
    expected, found = gradients(plain), gradients(net.embed)
    error = float((expected - found).norm() / expected.norm())
    if not error < 0.01:
        raise Fault(
            "embed to train as forward does on the same images", f"gradients {error:.0%} apart",
            "no detach, no torch.no_grad and nothing left out in embed: joint protocols train by it alone",
        )  # fmt: skip
    return "" if net.training else "compared in evaluation, since it draws by chance in training"


@check("every parameter is used", "it takes training steps")
def every_parameter_is_used(subject: Subject) -> str:
    """Every parameter gets a gradient from some loss; others would be counted and stored for nothing."""
    net = subject.build()
    (net(subject.images) * noise(len(TASKS), BATCH, EMBEDDING)).sum().backward()
    # fresh or after some steps: behind a factor that starts at 0 (LoRA, ReZero), the first gradient is 0
    unused = [
        n
        for n, p in net.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.any()) and not any(n in r for r in subject.reached)
    ]
    if unused:
        raise Fault(
            "a gradient for every parameter from the losses of all tasks", f"none for {joined(unused, 4)}",
            "leave out what is not used, or say requires_grad_(False) of what is fixed by design",
        )  # fmt: skip
    frozen = sum(p.numel() for p in net.parameters() if not p.requires_grad)
    return f"{frozen:,} are fixed by design" if frozen else ""


@check("only a task's own loss reaches what is its own", "it takes training steps")
def own_state_is_own(subject: Subject) -> str:
    """What `task_state` names belongs to that task alone; if tasks mix by design, other losses may reach it too."""
    net = subject.trained
    names = {id(p): n for n, p in net.named_parameters()}
    owner: dict[int, int] = {}
    claimed = "task_state to name what exists for one task alone"
    for t in range(len(TASKS)):
        for parameter in net.task_parameters(t):
            if id(parameter) not in names:
                raise Fault(
                    f"task_state({t}) to name parameters of the network", "a tensor that is none",
                    "return modules and parameters that are attributes of self, not copies or slices of them",
                )  # fmt: skip
            if owner.setdefault(id(parameter), t) != t:
                name = names[id(parameter)]
                raise Fault(claimed, f"{name} under tasks {owner[id(parameter)]} and {t}", "what is shared, leave out")
    own = {t: [n for i, n in names.items() if owner.get(i) == t] for t in range(len(TASKS))}
    trained = {n for n, p in net.named_parameters() if p.requires_grad}
    mixed = []
    for t, mine in own.items():
        missed = [n for n in mine if n in trained and n not in subject.reached[t]]
        if missed:
            raise Fault(
                f"the loss of task {t} to reach all of its own parameters", f"no gradient for {joined(missed, 4)}"
            )
        mixed += [(s, t, n) for s in own if s != t for n in mine if n in subject.reached[s]]
    if mixed and not net.mixes_tasks:
        s, t, name = mixed[0]
        raise Fault(
            claimed, f"the loss of task {s} reaches {name}, which task_state({t}) names",
            "name there only what task t alone uses; where tasks exchange features by design, set mixes_tasks = True",
        )  # fmt: skip
    if net.mixes_tasks:
        if not mixed:
            raise Fault(
                "tasks that mix, since mixes_tasks is set", "no loss that reaches another task's own parameters",
                "leave mixes_tasks out: with it, less is checked",
            )  # fmt: skip
        raise NotApplicable("its tasks mix by design (mixes_tasks)")
    count = sum(p.numel() for t in own for p in net.task_parameters(t))
    return f"{count // len(TASKS):,} parameters a task" if count else "no task has parameters of its own"


@check("what counts as shared serves several tasks", "it takes training steps")
def shared_is_shared(subject: Subject) -> str:
    """A parameter that a single task uses is in its `task_state`: storage and the cost of another task depend on it."""
    net = subject.trained
    shared = {id(p) for p in net.shared_parameters()}
    mend = "name it in task_state; give each task a parameter of its own in an nn.ParameterList"
    lonely, rows = [], []
    for name, parameter in net.named_parameters():
        if id(parameter) not in shared or not parameter.requires_grad:
            continue
        by_task = [reach[name] for reach in subject.reached if name in reach]
        if len(by_task) == 1:
            lonely.append(name)
        for axis, size in enumerate(parameter.shape):  # a multiple of T: tables, or all heads in one layer
            if len(by_task) == len(TASKS) and size % len(TASKS) == 0 and not net.mixes_tasks:
                used = [g.movedim(axis, 0).reshape(len(TASKS), -1).any(1).nonzero().flatten().tolist() for g in by_task]
                if used == [[t] for t in range(len(TASKS))]:
                    rows.append(name)
                    break
    if lonely:
        raise Fault("shared parameters to serve several tasks", f"one task's alone: {joined(lonely, 4)}", mend)
    if rows:
        raise Fault("shared parameters to serve several tasks", f"a part for each task in {joined(rows, 4)}", mend)
    strangers = [p for p in net.last_shared_layer() if id(p) not in shared]
    if strangers:
        raise Fault("last_shared_layer to name shared parameters", f"{len(strangers)} that are not shared")
    return f"{sum(p.numel() for p in net.shared_parameters()):,} parameters" if shared else "nothing is shared"


ITEMS: Items[Subject] = check

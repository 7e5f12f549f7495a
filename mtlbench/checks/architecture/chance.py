"""Items on chance and order: the seed decides, and the order of tasks does not matter."""

from __future__ import annotations

import torch

from mtlbench.checks.architecture import tasks
from mtlbench.checks.architecture.subject import TASKS, Subject, train_a_little
from mtlbench.checks.items import Fault, Items, NotApplicable, gap, near
from mtlbench.cost import weights_of
from mtlbench.names import joined

SAME, LEAK = tasks.SAME, tasks.LEAK
check = Items[Subject](tasks.ITEMS)


@check("the same seed gives the same network", "it takes training steps")
def seed_decides(subject: Subject) -> str:
    """The factory's seed decides the initial values; random draws in training use torch's global generator."""
    one, same, other = subject.build(), subject.build(random=7), subject.build(seed=4)
    states = [weights_of(net) for net in (one, same, other)]
    differ = [n for n in states[0] if not torch.equal(states[0][n], states[1][n])]
    if differ:
        raise Fault(
            "initial values that depend on the seed alone", f"others by chance for {joined(differ, 4)}",
            "draw them within `with backbones.seeded(task):`, or `backbones.seeded():` for what is shared",
        )  # fmt: skip
    if all(torch.equal(states[0][n], states[2][n]) for n in states[0]):
        raise Fault("another network from another seed", "the same one", "take networks from backbones.backbone()")
    for net in (one, same):
        torch.default_generator.manual_seed(8)
        train_a_little(net, subject.images)
    states = [weights_of(net) for net in (one, same)]
    differ = [n for n in states[0] if not torch.equal(states[0][n], states[1][n])]
    if differ:
        raise Fault(
            "the same training from the same random state of PyTorch", f"other values for {joined(differ, 4)}",
            "draw with torch alone: Python's and NumPy's generators don't follow the run's seed",
        )  # fmt: skip
    return ""


@check("a task starts the same whichever others there are", SAME, LEAK)
def start_is_own(subject: Subject) -> str:
    """Before training, a task's embeddings and own parameters equal those of a network built for this task alone."""
    if subject.build().mixes_tasks:
        raise NotApplicable("its tasks mix by design (mixes_tasks)")
    together, alone = subject.build().eval(), subject.build(TASKS[1:2]).eval()
    with torch.no_grad():
        many, single = together(subject.images)[1], alone(subject.images[1:2])[0]
    expected = f"'{TASKS[1]}' to start among three tasks as it would alone"
    mend = "a task's own modules: backbones.backbone(task), backbones.head(task), or within backbones.seeded(task)"
    if not near(many, single):
        raise Fault(expected, gap(many, single), mend)
    # a factor that starts at 0 can hide different values from the embeddings
    own, own_alone = together.task_parameters(1), alone.task_parameters(0)
    if [p.shape for p in own] == [p.shape for p in own_alone] and not all(map(torch.equal, own, own_alone)):
        raise Fault(expected, "other values of its own parameters", mend)
    return ""


@check("the order of tasks does not matter", SAME, LEAK)
def order_plays_no_part(subject: Subject) -> str:
    """The same tasks in another order give the same network, with its leading axis in that order."""
    order = [2, 0, 1]
    net, other = subject.build().eval(), subject.build([TASKS[t] for t in order]).eval()
    with torch.no_grad():
        expected, found = net(subject.images)[order], other(subject.images[order])
    if not near(expected, found):
        raise Fault(
            "the same embeddings for tasks in another order", gap(expected, found),
            "let initial values depend on a task's name (backbones.seeded(task)), not on its place",
        )  # fmt: skip
    return ""


ITEMS: Items[Subject] = check

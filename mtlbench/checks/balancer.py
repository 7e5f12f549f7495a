"""The items that are checked for a balancer, on the method's own architecture and on one small enough to calculate.

Each item states a part of the contract in `mtlbench.balancer`. The balancer's own tests check whether its weights
follow its paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from mtlbench.architecture import Architecture
from mtlbench.backbones import BackboneFactory
from mtlbench.balancer import Balancer
from mtlbench.checks.architecture import BATCH, EMBEDDING, SIDE, noise
from mtlbench.checks.items import Fault, Items, NotApplicable, gap, near, refuse_unsaved
from mtlbench.checks.options import ITEM, options_fit
from mtlbench.checks.rates import rate_acts
from mtlbench.errors import UserError, counted
from mtlbench.names import joined
from mtlbench.networks import load_state, state_of
from mtlbench.registry import ARCHITECTURES, BALANCERS
from mtlbench.specs import Method

NAMES = ("colour", "shape", "size", "weight", "age", "kind", "place")
STEPS = 4


class Line(Architecture):
    """A linear trunk on vectors; each task scales the trunk's features by its own vector."""

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(BackboneFactory("small", SIDE, EMBEDDING), tasks)
        self.trunk = nn.Linear(6, 5, bias=False)
        self.own = nn.ParameterList([torch.ones(5) for _ in tasks])
        with torch.no_grad():
            self.trunk.weight.copy_(noise(5, 6, seed=7))

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 6) -> (T, B, 5)."""
        return torch.stack([self.trunk(x) * own for x, own in zip(images, self.own, strict=True)])

    def embed(self, images: Tensor) -> Tensor:
        """(B, 6) -> (T, B, 5)."""
        features = self.trunk(images)
        self.representation = features if self.training else None
        return torch.stack([features * own for own in self.own])

    def task_state(self, task: int) -> Sequence[nn.Parameter]:
        """The task's own vector."""
        return list(self.own.parameters())[task : task + 1]

    def last_shared_layer(self) -> Sequence[nn.Parameter]:
        """The trunk."""
        return list(self.trunk.parameters())


class BalancerSubject:
    """A balancer under examination, with as many tasks as its options have values, or three."""

    def __init__(self, method: Method) -> None:
        self.method = method
        sizes = {len(v) for v in method.balancer_options.values() if isinstance(v, tuple | list)}
        number = sizes.pop() if len(sizes) == 1 else 3
        if number > len(NAMES):
            raise UserError(f"check: give {method.balancer} an option for at most {len(NAMES)} tasks.")
        self.tasks = NAMES[:number]

    def build(self, tasks: Sequence[str] | None = None, **changed: Any) -> Balancer:
        """Build a new one."""
        cls = BALANCERS.get(self.method.balancer).target
        options = self.method.balancer_options | changed
        balancer: Balancer = cls(self.tasks if tasks is None else tuple(tasks), **options)
        return balancer

    def line(self, tasks: Sequence[str] | None = None) -> Line:
        """Return the small architecture; a balancer that refuses it raises its error here."""
        net = Line(self.tasks if tasks is None else tasks)
        self.build(tasks).check(net)
        return net

    def targets(self, step: int, number: int | None = None) -> Tensor:
        """Return the targets of the embeddings, (T, 3, 5): different at every step, and larger for later tasks."""
        number = len(self.tasks) if number is None else number
        return noise(number, 3, 5, seed=20 + step) * torch.linspace(0.5, 1.5, number)[:, None, None]

    @cached_property
    def draws_by_chance(self) -> bool:
        """Whether the state of the global generator changes what it does."""
        found = []
        for seed in range(4):
            torch.default_generator.manual_seed(seed)
            found.append(rehearse(self.build(), self.line(), [self.targets(n) for n in range(STEPS)]))
        return any(
            not torch.equal(a[0], b[0]) or not torch.equal(a[1], b[1])
            for other in found[1:]
            for a, b in zip(found[0], other, strict=True)
        )


def losses_of(net: Line, targets: Tensor) -> Tensor:
    """Return (T,) losses of the small architecture on the same three vectors."""
    return (net.train().embed(noise(3, 6, seed=8)) - targets).square().mean((1, 2))


def update(balancer: Balancer, net: Line, losses: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Take one update; return its weights, the trunk's gradient and the tasks' own gradients."""
    net.zero_grad(set_to_none=True)
    weights = balancer.backward(losses, net)
    net.forget()
    zeros = torch.zeros(5)
    if net.trunk.weight.grad is None:
        raise Fault("a gradient in .grad of what is shared", "none", "end with self.weighted_backward(…)")
    return weights, net.trunk.weight.grad.clone(), [zeros if p.grad is None else p.grad.clone() for p in net.own]


def rehearse(balancer: Balancer, net: Line, targets: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, list[Tensor]]]:
    """Take several updates of a network that stays as it is, with different losses.

    The balancer's own parameters are trained as in a run.
    """
    own = [p for p in balancer.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(own, lr=0.1) if own else None
    found = []
    for target in targets:
        if optimiser:
            optimiser.zero_grad(set_to_none=True)
        weights, shared, owned = update(balancer, net, losses_of(net, target))
        if optimiser:
            optimiser.step()
        if balancer.judges_again:  # the network does not move: made-up gains, a different one for each task
            gains = torch.tensor([0.95 - 0.1 * len(task) / 10 for task in balancer.tasks])
            balancer.judge(losses_of(net, target).detach() * gains)
        found.append((weights.clone(), shared, owned))
    return found


check = Items[BalancerSubject]()


@check("its weights are (T,), detached and its own copy")
def weights_are_well_formed(subject: BalancerSubject) -> str:
    """The returned weights are logged at every step, so they must not change later or hold a graph."""
    balancer, net = subject.build(), subject.line()
    weights = balancer.backward(losses_of(net, subject.targets(0)), net)
    wanted = (len(subject.tasks),)
    if not isinstance(weights, Tensor):
        raise Fault(f"the weights used, a tensor {wanted}, from backward", type(weights).__name__)
    if tuple(weights.shape) != wanted:
        raise Fault(f"weights of shape (T,) = {wanted} from backward", str(tuple(weights.shape)))
    if weights.requires_grad:
        raise Fault("weights without a graph from backward", "requires_grad", "return weights.detach()")
    if not weights.isfinite().all():
        raise Fault("finite weights from backward", str(weights.tolist()))
    before = weights.clone()
    for step in (1, 2):
        net.zero_grad(set_to_none=True)
        balancer.backward(losses_of(net, subject.targets(step)), net)
    if not torch.equal(before, weights):
        raise Fault("the weights of a step to stay as returned", "later steps change them", "return a clone()")
    norms = balancer.gradient_norms
    if norms is not None and tuple(norms.shape) != wanted:
        raise Fault(f"gradient_norms of shape (T,) = {wanted}", str(tuple(norms.shape)))
    return ""


@check("gradients arrive in .grad")
def gradients_arrive(subject: BalancerSubject) -> str:
    """On the method's own architecture, backward gives every parameter a finite gradient."""
    method = subject.method
    cls = ARCHITECTURES.get(method.architecture).target
    net: Architecture = cls(BackboneFactory("small", SIDE, EMBEDDING, 3), subject.tasks, **method.architecture_options)
    balancer = subject.build()
    balancer.check(net)
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.05)
    without = [n for n, p in net.named_parameters() if p.requires_grad]
    for _ in range(3):  # behind a factor that starts at 0, a gradient arrives only at a later step
        optimiser.zero_grad(set_to_none=True)
        embeddings = net.train().embed(noise(BATCH, 3, SIDE, SIDE, seed=1))
        losses = (embeddings - noise(*embeddings.shape, seed=2)).square().mean((1, 2))
        penalty = net.regulariser()
        balancer.backward(losses if penalty is None else losses + penalty, net)
        net.forget()
        gradients = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
        broken = [n for n, gradient in gradients.items() if not gradient.isfinite().all()]
        if broken:
            raise Fault("finite gradients", f"inf or nan for {joined(broken, 4)}")
        without = [n for n in without if n not in gradients or not gradients[n].any()]
        if not without:
            break
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
    if without:
        raise Fault(
            "a gradient for every parameter", f"none for {joined(without, 4)}", "end with self.weighted_backward(…)"
        )
    return f"{sum(p.requires_grad for p in net.parameters())} parameters of {method.architecture}"


ARRIVE = "gradients arrive in .grad"
WEIGHTS = "its weights are (T,), detached and its own copy"


@check("weights of 1 mean the plain mean", WEIGHTS, ARRIVE)
def scale_is_the_plain_means(subject: BalancerSubject) -> str:
    """Where all tasks agree, the update equals that of the plain mean; else comparisons hide a learning rate.

    All tasks have the same loss. Shared parameters get the mean of the tasks' gradients, which equals each of them, and
    the weights sum to T at every step. A task's own parameters get their gradient, with or without the task's weight.
    """
    number = len(subject.tasks)
    balancer, net = subject.build(), subject.line()
    if balancer.own_scale:
        raise NotApplicable("its update's length is its own by design (own_scale)")
    target = subject.targets(0)[:1].expand(number, -1, -1)
    plain = torch.autograd.grad(losses_of(net, target)[0], [net.trunk.weight, net.own[0]])
    for step in range(1, STEPS + 1):  # several, since some balancers begin with weights of 1
        found = update(balancer, net, losses_of(net, target))  # the balancer's own parameters keep their initial values
        _is_the_plain_means(found, plain, "where all tasks agree" + (f", at step {step}" if step > 1 else ""))
    return ""


def _is_the_plain_means(found: tuple[Tensor, Tensor, list[Tensor]], plain: Sequence[Tensor], where: str) -> None:
    weights, shared, owned = found
    number = len(weights)
    mend = "bring the weights to a sum of T (weights * T / weights.sum()) and end with self.weighted_backward(…)"
    ratio = float((shared * plain[0]).sum() / plain[0].square().sum())
    if not near(shared, plain[0], 1e-2, 1e-3 * float(plain[0].abs().max())):
        raise Fault(
            f"the plain mean's gradient for what is shared, {where}",
            f"one {ratio:.3g} times as long" if near(shared, plain[0] * ratio, 1e-2, 1e-4) else "another direction",
            mend,
        )
    if abs(float(weights.sum()) - number) > 0.01 * number:
        raise Fault(f"weights that sum to T = {number} {where}", f"a sum of {weights.sum():.4g}", mend)
    for t, gradient in enumerate(owned):
        if not any(near(gradient, plain[1] * factor, 1e-2, 1e-4) for factor in (1.0, float(weights[t]))):
            raise Fault(
                f"each task's own parameters to get its own weighted gradient, {where}",
                f"another one for task {t}",
                mend,
            )


@check("the same losses give the same update", WEIGHTS, ARRIVE)
def is_repeatable(subject: BalancerSubject) -> str:
    """Two new balancers do the same when they start from the same random state."""
    runs = []
    for _ in range(2):
        torch.default_generator.manual_seed(1)
        runs.append(rehearse(subject.build(), subject.line(), [subject.targets(n) for n in range(STEPS)]))
    for step, (one, two) in enumerate(zip(*runs, strict=True)):
        if not torch.equal(one[0], two[0]) or not torch.equal(one[1], two[1]):
            raise Fault(
                "the same update from the same losses and random state", f"at step {step + 1}, {gap(one[0], two[0])}",
                "keep nothing on the class or in the module, and draw from torch's generator alone",
            )  # fmt: skip
    return "draws by chance" if subject.draws_by_chance else ""


SAME = "the same losses give the same update"


@check("a checkpoint brings its memory back", SAME)
def checkpoint_brings_memory_back(subject: BalancerSubject) -> str:
    """A new balancer that loads the saved state continues exactly as the saved one does."""
    balancer, net = subject.build(), subject.line()
    first, rest = [[subject.targets(n) for n in span] for span in (range(STEPS), range(STEPS, 2 * STEPS))]
    rehearse(balancer, net, first)
    state = {name: tensor.detach().clone().contiguous() for name, tensor in state_of(balancer).items()}
    saved = load(save(state)) if state else {}
    restored = subject.build()
    load_state(restored, saved)
    torch.default_generator.manual_seed(2)
    expected = rehearse(balancer, net, rest)
    torch.default_generator.manual_seed(2)
    found = rehearse(restored, net, rest)
    for step, (one, two) in enumerate(zip(expected, found, strict=True)):
        if not near(one[0], two[0], 1e-5, 1e-6) or not near(one[1], two[1], 1e-5, 1e-6):
            raise Fault(
                "a balancer restored from a checkpoint to go on as the saved one",
                f"at step {step + 1} after it, weights {_shown(two[0])} instead of {_shown(one[0])}",
                "keep what it remembers in buffers: self.register_buffer(name, tensor)",
            )
    refuse_unsaved(balancer, restored)
    return f"{len(saved)} tensors" if saved else "it remembers nothing"


def _shown(weights: Tensor) -> str:
    return "(" + ", ".join(f"{w:.3g}" for w in weights.tolist()) + ")"


@check("another order of tasks only reorders its weights", SAME)
def order_plays_no_part(subject: BalancerSubject) -> str:
    """No task is special because of its position; options with one value per task are reordered too."""
    number = len(subject.tasks)
    if subject.draws_by_chance:
        raise NotApplicable("it draws by chance, in the tasks' order")
    if number < 2:
        raise NotApplicable("there is one task")
    order = [*range(1, number), 0]
    tasks = [subject.tasks[t] for t in order]
    options = {
        name: type(value)(value[t] for t in order)
        for name, value in subject.method.balancer_options.items()
        if isinstance(value, tuple | list) and len(value) == number
    }
    one = rehearse(subject.build(), subject.line(), [subject.targets(n) for n in range(STEPS)])
    other = subject.build(tasks, **options)
    two = rehearse(other, subject.line(tasks), [subject.targets(n)[order] for n in range(STEPS)])
    for (weights, shared, _), (moved, same, _) in zip(one, two, strict=True):
        if not near(weights[order], moved, 1e-2, 1e-3):
            raise Fault(
                f"weights {_shown(weights[order])} for the tasks in another order", _shown(moved),
                "treat tasks alike, whatever their place",
            )  # fmt: skip
        if not near(shared, same, 1e-2, 1e-2 * float(shared.abs().max())):
            raise Fault("the same gradient for what is shared in any order of tasks", gap(shared, same))
    return ""


@check("losses of 0 leave all finite", WEIGHTS, ARRIVE)
def zero_losses_are_harmless(subject: BalancerSubject) -> str:
    """A triplet loss is 0 where every triplet is satisfied: for one task or for all, at the first step or later."""
    number = len(subject.tasks)
    patterns = [torch.ones(number), torch.ones(number), torch.zeros(number), torch.ones(number)]
    patterns[0][0] = 0
    patterns[1][-1] = 0
    for first in (0, 2):
        balancer, net = subject.build(), subject.line()
        for step in range(first, 4):
            losses = losses_of(net, subject.targets(step)) * patterns[step]
            weights, shared, owned = update(balancer, net, losses)
            for what, tensor in (("weights", weights), ("a shared gradient", shared), ("an own gradient", owned[0])):
                if not tensor.isfinite().all():
                    raise Fault(
                        f"finite {what} with losses {_shown(losses.detach())}", "inf or nan",
                        "keep losses away from 0 where you divide by one or take its logarithm: losses.clamp_min(1e-3)",
                    )  # fmt: skip
    return ""


@check("it works with 1, 2 and 40 tasks", WEIGHTS, ARRIVE)
def works_with_any_number(subject: BalancerSubject) -> str:
    """It works with other numbers of tasks, if its options leave the number open."""
    refused, numbers = [], (1, 2, 40)
    for number in numbers:
        tasks = tuple(f"task {t}" for t in range(number))
        try:
            balancer, net = subject.build(tasks), subject.line(tasks)
        except UserError:
            if any(isinstance(v, tuple | list) for v in subject.method.balancer_options.values()):
                raise NotApplicable(f"its options are for {counted(len(subject.tasks), 'task')}") from None
            refused.append(str(number))
            continue
        for step in range(2):
            weights, shared, _ = update(balancer, net, losses_of(net, subject.targets(step, number)))
            if tuple(weights.shape) != (number,) or not (weights.isfinite().all() and shared.isfinite().all()):
                raise Fault(f"finite weights ({number},) and gradients with {counted(number, 'task')}", _shown(weights))
    if len(refused) == len(numbers):
        raise Fault("to work with one of 1, 2 and 40 tasks at least", "it refuses all of them")
    return f"it refuses {' and '.join(refused)}" if refused else ""


@check(ITEM)
def has_options(subject: BalancerSubject) -> str:
    """Users can set its options, and tuning can vary them."""
    method = subject.method

    def build(options: dict[str, Any]) -> None:
        subject.build(**options)

    return options_fit("balancer", BALANCERS.get(method.balancer), method.balancer_options, build)


@check("a rate acts", WEIGHTS, ARRIVE)
def a_rate_acts(subject: BalancerSubject) -> str:
    """An option `rate` multiplies the learning rate of the balancer's own parameters."""

    def gradients(balancer: nn.Module) -> None:
        assert isinstance(balancer, Balancer)
        net = subject.line()
        update(balancer, net, losses_of(net, subject.targets(0)))

    cls = BALANCERS.get(subject.method.balancer).target
    return rate_acts(cls, lambda rate: subject.build(rate=rate), gradients)


ITEMS: Items[BalancerSubject] = check

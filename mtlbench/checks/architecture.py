"""The items that are checked of an architecture, on tiny networks and made-up images.

Each is a statement of the contract in `mtlbench.architecture`, or of what the engine does with an architecture. They
are in order: what fails early makes later items meaningless, and those say so.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mtlbench.architecture import Architecture
from mtlbench.backbones import BackboneFactory
from mtlbench.checks.items import Fault, Items, NotApplicable, apart, described, listed, near
from mtlbench.cost import seconds_each, storage, weights_of
from mtlbench.devices import computing_in
from mtlbench.registry import ARCHITECTURES
from mtlbench.specs import Method

TASKS = ("colour", "shape", "size")
BATCH, SIDE, EMBEDDING = 4, 24, 8
OTHER_BACKBONE, OTHER_SIZE = "resnet18", (32, 40)  # other stages, other channels, images that are not square
MANY = 40
ABSURD = 100.0  # times as slow as a shared trunk


class Subject:
    """An architecture under examination: builds it in many ways; holds one that has taken a few steps."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.images = torch.randn(len(TASKS), BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))

    def build(
        self,
        tasks: Sequence[str] = TASKS,
        *,
        backbone: str = "small",
        size: tuple[int, int] = (SIDE, SIDE),
        seed: int = 3,
        random: int = 0,
    ) -> Architecture:
        """Build it afresh; `random` is the state of the global generator, which should make no difference."""
        factory = BackboneFactory(backbone, size, EMBEDDING, seed)
        torch.default_generator.manual_seed(random)
        cls = ARCHITECTURES.get(self.method.architecture).target
        net: Architecture = cls(factory, tuple(tasks), **self.method.architecture_options)
        return net

    @cached_property
    def trained(self) -> Architecture:
        """The architecture after a few steps, in evaluation mode: tasks differ, nothing stands where it began."""
        return train_a_little(self.build(), self.images)

    @cached_property
    def reached(self) -> list[dict[str, Tensor]]:
        """The gradients of each task's loss alone, by the name of the parameter, where they are not 0.

        In evaluation mode: while training, a batch norm's statistics mix the tasks a little.
        """
        net, found = self.trained, []
        weights = noise(len(TASKS), BATCH, EMBEDDING)
        for t in range(len(TASKS)):
            net.zero_grad(set_to_none=True)
            (net(self.images) * weights)[t].sum().backward()
            gradients = {n: p.grad for n, p in net.named_parameters() if p.grad is not None and p.grad.any()}
            found.append(gradients)
        net.zero_grad(set_to_none=True)
        return found


def noise(*shape: int, seed: int = 4) -> Tensor:
    """Normal numbers that are the same every time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def train_a_little(net: Architecture, images: Tensor, steps: int = 3) -> Architecture:
    """Take a few steps with both ways of embedding and return the network in evaluation mode."""
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.05)
    net.train()
    target = noise(*net(images).shape, seed=2)
    for step in range(steps):
        optimiser.zero_grad(set_to_none=True)
        embeddings = net.embed(images[0]) if step == 1 else net(images)
        loss = (embeddings - target).square().sum()
        penalty = net.regulariser()
        (loss if penalty is None else loss + penalty.sum()).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
    net.representation = None  # as after every step of a run: with it goes the graph
    return net.eval()


check = Items[Subject]()


# --- what it is -------------------------------------------------------------------------------------------------------


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


@check("shapes", "it is built")
def shapes(subject: Subject) -> str:
    """The leading axis is the task: in training and in evaluation, from every way of embedding."""
    net, t, b, d = subject.build(), len(TASKS), BATCH, EMBEDDING
    for mode in (True, False):
        net.train(mode)
        with torch.no_grad():
            calls = (
                ("forward of images (T, B, 3, H, W)", net(subject.images), (t, b, d), "(T, B, D)"),
                ("embed of images (B, 3, H, W)", net.embed(subject.images[0]), (t, b, d), "(T, B, D)"),
                ("embed_task of images (B, 3, H, W)", net.embed_task(subject.images[0], 1), (b, d), "(B, D)"),
            )
        for what, found, wanted, meaning in calls:
            of = f"{what} with T = {t}, B = {b}, D = {d}"
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
    """A few steps leave all finite; in a memory layout with channels last, as runs have it, as in any other."""
    net = subject.trained
    broken = [n for n, p in net.named_parameters() if not p.isfinite().all()]
    if broken:
        raise Fault("finite parameters after three small steps", f"inf or nan in {listed(broken)}")
    last = subject.build().to(memory_format=torch.channels_last)
    last = train_a_little(last, subject.images.movedim(2, -1).contiguous().movedim(-1, 2), 2)
    with torch.no_grad():
        if not last(subject.images).isfinite().all():
            raise Fault("finite embeddings after two steps with channels last in memory", "inf or nan")
    return ""


@check("two passes in evaluation are equal", "it takes training steps")
def is_repeatable(subject: Subject) -> str:
    """In evaluation nothing is drawn by chance and nothing is remembered from pass to pass."""
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
                    f"the same embeddings from the same images by {what}, in evaluation", apart(one, two),
                    "noise and dropout only `if self.training:` (nn.Dropout and F.dropout(x, training=self.training))",
                )  # fmt: skip
        changed = [n for n, tensor in weights_of(net).items() if not torch.equal(before[n], tensor)]
    if changed:
        raise Fault(
            "nothing of the network changed by passes in evaluation", listed(changed), "update `if self.training:`"
        )
    return ""


# --- tasks are kept apart ---------------------------------------------------------------------------------------------

SAME = "two passes in evaluation are equal"


@check("embed, forward and embed_task agree", SAME)
def embeddings_agree(subject: Subject) -> str:
    """Whatever an architecture shares to save work, its embeddings are those of `forward`."""
    net, images = subject.trained, subject.images[0]
    with torch.no_grad():
        plain, fast = Architecture.embed(net, images), net.embed(images)
        if not near(plain, fast):
            raise Fault("embed to give what forward gives of the same images under every task", apart(plain, fast))
        for t in range(len(TASKS)):
            one = net.embed_task(images, t)
            if not near(fast[t], one):
                raise Fault(f"embed_task(images, {t}) to give embed(images)[{t}]", apart(fast[t], one))
    return ""


LEAK = "no leak between tasks"


@check(LEAK, SAME)
def tasks_do_not_leak(subject: Subject) -> str:
    """Group t's embeddings are made of group t's images, judged under task t."""
    net, images = subject.trained, subject.images
    with torch.no_grad():
        before = net(images)
        for t in range(len(TASKS)):
            others = noise(*images.shape, seed=5)
            others[t] = images[t]
            after = net(others)
            if not near(before[t], after[t]):
                raise Fault(
                    f"embeddings of group {t} whatever the other groups' images", apart(before[t], after[t]),
                    "nothing may be summed, averaged or normalised over the leading axis of `forward`",
                )  # fmt: skip
            if any(near(before[s], after[s], 1e-3, 1e-3) for s in range(len(TASKS)) if s != t):
                raise Fault("other images to have other embeddings", "the same ones", "use the images of every group")
    return ""


@check("in evaluation an image's batch plays no part", SAME)
def batch_plays_no_part(subject: Subject) -> str:
    """An embedding in evaluation is the image's own, whatever it is embedded with."""
    net, images = subject.trained, subject.images.flatten(0, 1)
    with torch.no_grad():
        whole, part, one = net.embed(images), net.embed(images[3:6]), net.embed(images[3:4])
        several, single = net.embed_task(images[3:6], 1), net.embed_task(images[3:4], 1)
    for name, found in (("3 images", part), ("a single image", one)):
        expected = whole[:, 3 : 3 + found.shape[1]]
        if not near(expected, found):
            raise Fault(
                f"{name} to be embedded as within a batch of {len(images)}, in evaluation", apart(expected, found),
                "no statistics over the batch in evaluation: keep running ones in buffers, as batch norm does",
            )  # fmt: skip
    if not near(several[:1], single):
        raise Fault(
            "embed_task to embed a single image as within a batch", apart(several[:1], single),
            "keep the batch's axis, also where it is 1: flatten(1) or squeeze((2, 3)), not squeeze()",
        )  # fmt: skip
    return ""


@check("embed trains as forward does", "embed, forward and embed_task agree")
def embed_trains_as_forward(subject: Subject) -> str:
    """A joint protocol trains by embed alone: in training its gradients are those of forward on the same images."""
    images, weights = subject.images[0], noise(len(TASKS), BATCH, EMBEDDING)
    net = train_a_little(subject.build(), subject.images).train()

    def gradients(run: Callable[[Tensor], Tensor], seed: int = 0) -> Tensor:
        net.zero_grad(set_to_none=True)
        torch.default_generator.manual_seed(seed)
        (run(images) * weights).sum().backward()
        net.representation = None
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
    """A parameter that no loss reaches would be counted and stored for nothing."""
    net = subject.build()
    (net(subject.images) * noise(len(TASKS), BATCH, EMBEDDING)).sum().backward()
    # fresh, or after some steps: behind a factor that starts at 0 (LoRA, ReZero) the first gradient is 0
    unused = [
        n
        for n, p in net.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.any()) and not any(n in r for r in subject.reached)
    ]
    if unused:
        raise Fault(
            "a gradient for every parameter from the losses of all tasks", f"none for {listed(unused)}",
            "leave out what is not used, or say requires_grad_(False) of what is fixed by design",
        )  # fmt: skip
    frozen = sum(p.numel() for p in net.parameters() if not p.requires_grad)
    return f"{frozen:,} are fixed by design" if frozen else ""


@check("only a task's own loss reaches what is its own", "it takes training steps")
def own_state_is_own(subject: Subject) -> str:
    """What `task_state` names exists for that task alone; where tasks mix by design, their losses may reach it."""
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
            raise Fault(f"the loss of task {t} to reach all of its own parameters", f"no gradient for {listed(missed)}")
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
    """A parameter that a single task uses is that task's own: storage, and what one more task adds, depend on it."""
    net = subject.trained
    shared = {id(p) for p in net.shared_parameters()}
    mend = "name it in task_state; a part for each task of one tensor belongs into an nn.ParameterList, one each"
    lonely, rows = [], []
    for name, parameter in net.named_parameters():
        if id(parameter) not in shared or not parameter.requires_grad:
            continue
        by_task = [reach[name] for reach in subject.reached if name in reach]
        if len(by_task) == 1:
            lonely.append(name)
        for axis, size in enumerate(parameter.shape):  # in as many parts as tasks: tables, all heads in one layer
            if len(by_task) == len(TASKS) and size % len(TASKS) == 0 and not net.mixes_tasks:
                used = [g.movedim(axis, 0).reshape(len(TASKS), -1).any(1).nonzero().flatten().tolist() for g in by_task]
                if used == [[t] for t in range(len(TASKS))]:
                    rows.append(name)
                    break
    if lonely:
        raise Fault("shared parameters to serve several tasks", f"one task's alone: {listed(lonely)}", mend)
    if rows:
        raise Fault("shared parameters to serve several tasks", f"a part for each task in {listed(rows)}", mend)
    strangers = [p for p in net.last_shared_layer() if id(p) not in shared]
    if strangers:
        raise Fault("last_shared_layer to name shared parameters", f"{len(strangers)} that are not shared")
    return f"{sum(p.numel() for p in net.shared_parameters()):,} parameters" if shared else "nothing is shared"


# --- chance and order -------------------------------------------------------------------------------------------------


@check("the same seed gives the same network", "it takes training steps")
def seed_decides(subject: Subject) -> str:
    """Initial values come from the factory's seed, not from the global generator; what training draws, from torch's."""
    one, same, other = subject.build(), subject.build(random=7), subject.build(seed=4)
    states = [weights_of(net) for net in (one, same, other)]
    differ = [n for n in states[0] if not torch.equal(states[0][n], states[1][n])]
    if differ:
        raise Fault(
            "initial values that depend on the seed alone", f"others by chance for {listed(differ)}",
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
            "the same training from the same random state of PyTorch", f"other values for {listed(differ)}",
            "draw with torch alone: Python's and NumPy's generators don't follow the run's seed",
        )  # fmt: skip
    return ""


@check("a task starts the same whichever others there are", SAME, LEAK)
def start_is_own(subject: Subject) -> str:
    """A task's embeddings and own parameters before training are those of a network for this task alone."""
    if subject.build().mixes_tasks:
        raise NotApplicable("its tasks mix by design (mixes_tasks)")
    together, alone = subject.build().eval(), subject.build(TASKS[1:2]).eval()
    with torch.no_grad():
        many, single = together(subject.images)[1], alone(subject.images[1:2])[0]
    expected = f"'{TASKS[1]}' to start among three tasks as it would alone"
    mend = "a task's own modules: backbones.backbone(task), backbones.head(task), or within backbones.seeded(task)"
    if not near(many, single):
        raise Fault(expected, apart(many, single), mend)
    # a factor that starts at 0 hides other values from the embeddings
    own, own_alone = together.task_parameters(1), alone.task_parameters(0)
    if [p.shape for p in own] == [p.shape for p in own_alone] and not all(map(torch.equal, own, own_alone)):
        raise Fault(expected, "other values of its own parameters", mend)
    return ""


@check("the tasks' order plays no part", SAME, LEAK)
def order_plays_no_part(subject: Subject) -> str:
    """The same tasks in another order are the same network with its leading axis in that order."""
    order = [2, 0, 1]
    net, other = subject.build().eval(), subject.build([TASKS[t] for t in order]).eval()
    with torch.no_grad():
        expected, found = net(subject.images)[order], other(subject.images[order])
    if not near(expected, found):
        raise Fault(
            "the same embeddings for tasks in another order", apart(expected, found),
            "let initial values depend on a task's name (backbones.seeded(task)), not on its place",
        )  # fmt: skip
    return ""


# --- what is stored ---------------------------------------------------------------------------------------------------


@check("counted parameters are the used and the saved ones", "it takes training steps")
def counts_are_true(subject: Subject) -> str:
    """Storage is what a file of the network holds, each tensor once."""
    net = subject.build()
    counted = storage(net)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file(weights_of(net), path)
        saved = load_file(path)
    with torch.device("meta"):
        without_memory = sum(p.numel() for p in subject.build().parameters())
    buffers = {name for name, _ in net.named_buffers()}
    numbers = {
        "counted": int(counted["parameters"]),
        "saved": sum(t.numel() for n, t in saved.items() if n not in buffers),
        "in the network": sum(p.numel() for p in net.parameters()),
        "of one that is built without memory, on meta": without_memory,
    }
    if len(set(numbers.values())) > 1:
        raise Fault("one number of parameters", ", ".join(f"{n:,} {what}" for what, n in numbers.items()))
    size = sum(t.numel() * t.element_size() for t in saved.values())
    if counted["bytes"] != size:
        raise Fault(f"{counted['bytes']:,.0f} bytes, as counted, in the file's tensors", f"{size:,.0f}")
    whole = counted["parameters_shared"] + len(TASKS) * counted["parameters_per_task"]
    if round(whole) != numbers["counted"] and len({id(p) for t in range(3) for p in net.task_parameters(t)}) == sum(
        len(net.task_parameters(t)) for t in range(3)
    ):  # parts that are claimed twice are another item's finding
        raise Fault("shared and own parameters that add up to all", f"{whole:,.0f} of {numbers['counted']:,}")
    return f"{numbers['counted']:,}, in {len(saved)} tensors"


@check("a checkpoint brings it back", SAME)
def checkpoint_brings_it_back(subject: Subject) -> str:
    """The saved weights, loaded into a network of another seed, embed to the last bit as the first one."""
    net = subject.trained
    other = subject.build(seed=99).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file(weights_of(net), path)
        missing, unexpected = other.load_state_dict(load_file(path), strict=False)
    tied = {name for name in net.state_dict() if name not in weights_of(net)}  # a tensor's second name
    lost = [n for n in missing if n not in tied]
    if lost or unexpected:
        raise Fault("the same names in every network", f"{listed([*lost, *unexpected])} in one of two alone")
    with torch.no_grad():
        expected, found = net(subject.images), other(subject.images)
    if not torch.equal(expected, found):
        raise Fault(
            "a network loaded from its file to embed as the saved one", apart(expected, found),
            "keep what a network learns or draws in nn.Parameters and buffers (self.register_buffer)",
        )  # fmt: skip
    return f"{len(weights_of(net))} tensors"


# --- where it has to work ---------------------------------------------------------------------------------------------


def _works_with(subject: Subject, number: int, batch: int = 2) -> Architecture:
    """Build it for a number of tasks, embed in training and in evaluation, and step back through it.

    For many tasks `forward` is tried without memory, on meta, and `embed` really: T columns on T groups take long.
    """
    tasks = tuple(f"task {t}" for t in range(number))
    net = subject.build(tasks)
    images = noise(number, batch, 3, SIDE, SIDE, seed=6)
    if number < MANY:
        net(images).square().sum().backward()
    net.eval()
    groups = net if number < MANY else partial(_forward_of_many, subject, net)
    with torch.no_grad():
        for what, found, wanted in (
            ("embed", net.embed(images[0]), (number, batch, EMBEDDING)),
            ("embed_task", net.embed_task(images[0], number - 1), (batch, EMBEDDING)),
            ("forward", groups(images), (number, batch, EMBEDDING)),
        ):
            if tuple(found.shape) != wanted:
                raise Fault(f"{wanted} from {what} with {number} tasks", str(tuple(found.shape)))
            if not found.isfinite().all():
                raise Fault(f"finite embeddings from {what} with {number} tasks", "inf or nan")
    return net


def _forward_of_many(subject: Subject, net: Architecture, images: Tensor) -> Tensor:
    """Return zeros of the shape that `forward` has on meta, where the network is left; failing that, its embeddings."""
    try:
        return torch.zeros(net.to("meta")(images.to("meta")).shape)
    except (NotImplementedError, RuntimeError):  # it looks at values, or leaves a tensor behind: another item's matter
        embeddings: Tensor = subject.build(net.tasks).eval()(images)
        return embeddings


@check("it works with 1 task", "shapes")
def works_with_one(subject: Subject) -> str:
    """One task is a special case of many."""
    return f"{sum(p.numel() for p in _works_with(subject, 1).parameters()):,} parameters"


@check("it works with 2 tasks", "shapes")
def works_with_two(subject: Subject) -> str:
    """Two tasks are what many papers stop at."""
    return f"{sum(p.numel() for p in _works_with(subject, 2).parameters()):,} parameters"


@check(f"it works with {MANY} tasks", "shapes")
def works_with_many(subject: Subject) -> str:
    """Forty tasks are CelebA's."""
    return f"{sum(p.numel() for p in _works_with(subject, MANY).parameters()):,} parameters"


@check("it works on another backbone", "shapes")
def works_on_another_backbone(subject: Subject) -> str:
    """Stages, channels and the shape of features are the backbone's to say."""
    net = subject.build(backbone=OTHER_BACKBONE, size=OTHER_SIZE)
    images = noise(len(TASKS), 2, 3, *OTHER_SIZE, seed=6)
    mend = "ask backbones.channels and backbones.feature_size, and take stages as they come"
    try:
        embeddings = net(images)
        embeddings.square().sum().backward()
        fast = net.eval().embed(images[0])
    except Exception as error:  # whatever breaks, it breaks for the other network
        where = f"{OTHER_BACKBONE}, {OTHER_SIZE[0]} x {OTHER_SIZE[1]} px"
        raise Fault(f"no error on {where}, where 'small' works", described(error), mend) from error
    for found in (embeddings, fast):
        if tuple(found.shape) != (len(TASKS), 2, EMBEDDING) or not found.isfinite().all():
            raise Fault(f"finite (3, 2, {EMBEDDING}) embeddings on {OTHER_BACKBONE}", str(tuple(found.shape)), mend)
    return f"small and {OTHER_BACKBONE}, {OTHER_SIZE[0]} x {OTHER_SIZE[1]} px"


@check("it computes in bfloat16", SAME)
def computes_in_bfloat16(subject: Subject) -> str:
    """Under autocast a step has finite gradients, and embeddings are those of float32 but for its rounding."""
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
    except Exception as error:  # whatever breaks, it breaks for bfloat16
        raise Fault("no error under bfloat16 autocast, where float32 works", described(error), mend) from error
    bad = [n for n, p in fresh.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    if bad:
        raise Fault("finite gradients under bfloat16 autocast", f"inf or nan for {listed(bad)}")
    errors = [
        float((a - b.float()).square().mean().sqrt() / a.square().mean().sqrt())
        for a, b in zip(exact, rough, strict=True)
    ]
    if not max(errors) < 0.1:
        raise Fault("embeddings within a tenth of those of float32", f"{max(errors):.0%} off", mend)
    return f"within {max(errors):.1%} of float32"


_LOOSE = "name it a buffer: self.register_buffer(name, tensor), or make it an nn.Parameter"


def unregistered(net: nn.Module) -> list[str]:
    """Return the names of tensors that modules hold in plain attributes, lists and dictionaries."""
    known = {id(t) for t in (*net.parameters(), *net.buffers())}
    found = []

    def look(name: str, value: object, deep: int = 3) -> None:
        if isinstance(value, Tensor):
            if id(value) not in known:
                found.append(name)
        elif deep and isinstance(value, Mapping):
            for key, inner in value.items():
                look(f"{name}[{key!r}]", inner, deep - 1)
        elif deep and isinstance(value, list | tuple | set):
            for place, inner in enumerate(value):
                look(f"{name}[{place}]", inner, deep - 1)
        elif deep and isinstance(value, nn.Module):  # a module that is hidden from its parent
            for key, inner in value.state_dict(keep_vars=True).items():
                look(f"{name}.{key}", inner, 0)

    for path, module in net.named_modules():
        for name, value in vars(module).items():
            if name not in ("_parameters", "_buffers", "_modules"):
                look(f"{path}.{name}" if path else name, value)
    return found


@check("it moves to a CUDA device" if torch.cuda.is_available() else "it would move to a device (tried on meta)", SAME)
def moves(subject: Subject) -> str:
    """Moved as a whole, it works: nothing stays behind, nothing is made in the wrong place.

    Without an accelerator, the meta device stands in: it refuses to mix places as an accelerator does, holds no values,
    and says nothing of numerics there.
    """
    net = subject.build()
    loose = unregistered(net)
    if loose:
        raise Fault("every tensor to move and be saved with the network", f"a plain attribute: {listed(loose)}", _LOOSE)
    target = torch.device("cuda" if torch.cuda.is_available() else "meta")
    with torch.no_grad():
        before = net.eval().embed(subject.images[0])
        images = subject.images.to(target)
        net, found, blind = net.to(target), [], []
        for what, training, run in (
            ("forward", False, lambda: net(images)),
            ("embed", False, lambda: net.embed(images[0])),
            ("embed_task", False, lambda: net.embed_task(images[0], 1)),
            ("forward in training", True, lambda: net(images)),
            ("embed in training", True, lambda: net.embed(images[0])),
        ):
            net.train(training)
            try:
                found.append(run())
            except RuntimeError as error:  # NotImplementedError is one
                if target.type == "meta" and (isinstance(error, NotImplementedError) or "meta tensors" in str(error)):
                    blind.append(what)  # looks at values, which is allowed and which meta has none of
                    continue
                if "device" not in str(error):
                    raise
                raise Fault(
                    f"a pass on {target} after .to({target})", described(error),
                    "make tensors where the images are: torch.zeros(…, device=images.device); keep others in buffers",
                ) from error  # fmt: skip
    if not found:
        raise NotApplicable("no tensor stays behind; meta lacks the values that its pass looks at")
    stayed = [e.device.type for e in found if e.device.type != target.type]
    if stayed:
        raise Fault(f"embeddings on {target}", f"on {stayed[0]}")
    if target.type == "cuda" and not near(before, found[1].cpu(), 1e-2, 1e-3):
        raise Fault("the processor's embeddings on CUDA", apart(before, found[1].cpu()))
    if blind:
        return f"every tensor is registered; meta lacks the values that it looks at in {listed(blind, 5)}"
    return "really moved, embeds as on the processor" if target.type == "cuda" else "every tensor is registered"


@check("the optional parts are well-formed", "it takes training steps")
def optional_parts(subject: Subject) -> str:
    """Penalties, learning rates and the shared representation, where there are any."""
    net, said = subject.build(), []
    for what, run in (("forward", lambda: net(subject.images)), ("embed", lambda: net.embed(subject.images[0]))):
        run()
        penalty = net.regulariser()
        if penalty is not None and (penalty.shape != (len(TASKS),) or not penalty.isfinite().all()):
            raise Fault(f"a finite (T,) = (3,) regulariser after {what}", f"{tuple(penalty.shape)}: {penalty.tolist()}")
        if what == "forward" and net.representation is not None:
            raise Fault("representation set by embed alone", "it is set by forward", "set it in embed, in training")
    said += ["a regulariser"] if penalty is not None else []
    features = net.representation
    if features is not None:
        if features.shape[0] != BATCH or not features.requires_grad:
            raise Fault(
                f"a representation with its graph whose leading axis is the batch, {BATCH}", str(tuple(features.shape))
            )
        if len(net.shared_parameters()) == 0:
            raise Fault("shared parameters before the shared representation", "none")
        said.append("a shared representation")
        net.eval().embed(subject.images[0])
        if net.representation is not None:
            raise Fault("no representation kept in evaluation", "one", "set it if self.training, else to None")
    for adaptive in (True, False):
        for prefix, scale in net.learning_rate_scales(adaptive=adaptive).items():
            if not any(n.startswith(prefix) for n, _ in net.named_parameters()):
                raise Fault("learning_rate_scales to name parameters by how they begin", f"'{prefix}', which none does")
            if not scale > 0:
                raise Fault("learning-rate scales above 0", f"{scale} for '{prefix}'")
    said += ["learning rates of its own"] if net.learning_rate_scales(adaptive=False) else []
    if net.last_shared_layer():
        said.append("a last shared layer")
    return ", ".join(said) or "it has none"


class SharedTrunk(Architecture):
    """One trunk and an embedding layer per task: the plainest sharing, which speeds are compared with."""

    def __init__(self, backbones: BackboneFactory, tasks: Sequence[str]) -> None:
        super().__init__(backbones, tasks)
        self.trunk = nn.Sequential(*backbones.backbone().stages)
        self.heads = nn.ModuleList(backbones.head(task) for task in tasks)

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D)."""
        features = self.trunk(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        return torch.stack([head(group) for head, group in zip(self.heads, features, strict=True)])

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D): the trunk runs once."""
        features = self.trunk(images)
        return torch.stack([head(features) for head in self.heads])


@check("speed beside a shared trunk", "it takes training steps")
def speed(subject: Subject) -> str:
    """Times in the same process on the same images; only an absurd one is a fault."""
    side = 48
    images = noise(12, 3, side, side, seed=6)
    factory = BackboneFactory("small", side, 64, 3)
    cls = ARCHITECTURES.get(subject.method.architecture).target
    nets: list[Architecture] = [
        SharedTrunk(factory, TASKS),
        cls(factory, TASKS, **subject.method.architecture_options),
    ]
    ratios = []
    gc.collect()
    for training in (True, False):
        times = []
        for net in nets:
            net.train(training)

            def step(net: Architecture = net, training: bool = training) -> None:
                net.zero_grad(set_to_none=True)
                with torch.set_grad_enabled(training):
                    embeddings = net.embed(images)
                if training:
                    embeddings.square().mean().backward()

            times.append(median(seconds_each(step, images.device, enough=0.1)))
        ratios.append(times[1] / times[0])
    words = f"training takes {ratios[0]:.1f} times as long, embedding under all tasks {ratios[1]:.1f} times"
    if max(ratios) > ABSURD:
        raise Fault(f"less than {ABSURD:.0f} times the time of a shared trunk", words, "no loop over images or pixels")
    return words


ITEMS: Items[Subject] = check

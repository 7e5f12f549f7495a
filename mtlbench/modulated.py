"""Channel modulation in a network of one's own: a vector of scales per task after modules chosen by name.

It knows nothing of benchmarks: no stages, no embeddings, no training. How methods are compared is elsewhere.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlbench.errors import UserError, a, counted, did_you_mean

_SIDE, _LARGER = 224, 32  # of the images of a dry run, in pixels; what the second one's sides have more


def modulate(
    network: nn.Module,
    tasks: Iterable[str],
    after: str | Iterable[str],
    *,
    relu: bool = True,
    channel_axis: int | None = None,
    example: Tensor | None = None,
) -> Modulated:
    """Put the channel-modulation module of Zhao et al. (ECCV 2018, arXiv 1807.06708) into a convolutional network.

    The channels of each chosen module's output are multiplied by ReLU(v), v being the task's own vector of one number
    per channel. All start at 1: to begin with, every task sees the network as it is, bit for bit.

    >>> import torch
    >>> from torch import nn
    >>> from mtlbench import modulate
    >>> trunk = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    >>> net = modulate(trunk, tasks=("closure", "heel"), after=["0", "4"])
    >>> images = torch.randn(5, 3, 32, 32)
    >>> net(images, "heel").shape
    torch.Size([5, 4])
    >>> net(images, [0, 1, 1, 0, 1]).shape  # each image under a task of its own
    torch.Size([5, 4])
    >>> net.task_bytes("heel")  # (8 + 4) numbers of 4 bytes
    48

    To find the numbers of channels, the network runs once on two images and once on larger ones, in evaluation mode and
    without gradients; its parameters, buffers and modes are afterwards what they were. It is not copied: `net.network`
    is the very network, and called by itself it is what it was, unmodulated.

    Args:
        network: takes images and calls each chosen module once in every forward pass.
        tasks: their names.
        after: the modules whose outputs are scaled, by the names of `network.named_modules()`.
        relu: pass the vectors through a ReLU, as published; without it a scale may turn a channel's sign.
        channel_axis: of the modules' outputs. Default: 1, for (B, C, H, W) and (B, C); networks that put channels last
            need -1, and where it isn't plain which axis holds the channels, it must be named.
        example: a batch of images as the network takes them, (B, ...), B at least 1. Default: of zeros, 3 channels and
            224 x 224 pixels.

    Raises:
        UserError: no tasks, a name twice; a module that isn't there, isn't called once in a pass, or whose output has
            no channels where they are looked for; a network that can't run on the example.
    """
    return Modulated(network, tasks, after, relu=relu, channel_axis=channel_axis, example=example)


class Modulated(nn.Module):
    """What `modulate` returns, with the same arguments: a network that is called with images and their task.

    The checkpoint holds the network under `network.` and one vector per module and task, `scales.layer4:heel`
    (dots in names become slashes).

    >>> import torch
    >>> from torch import nn
    >>> from mtlbench import modulate
    >>> trunk = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> net = modulate(trunk, tasks=("closure", "heel"), after=["0"])
    >>> net.add_task("toe")  # to a trained network
    >>> net = net.eval()  # batch norm stays as it is, and with it the other tasks
    >>> optimiser = torch.optim.Adam(net.task_parameters("toe").values(), lr=0.01)  # and nothing else is trained
    >>> loss = net(torch.randn(2, 3, 16, 16), "toe").square().mean()
    >>> loss.backward()
    >>> optimiser.step()
    >>> list(net.task_parameters("toe"))  # enough to save: net.load_state_dict(saved, strict=False) takes it
    ['scales.0:toe']

    In training mode batch norm moves its running statistics with every batch, whatever the optimiser holds: the other
    tasks would change, and a task's vectors would no longer be enough to save. Train a new task in evaluation mode.

    Threads may share it. Under `torch.compile` give tasks as a tensor: for every name it would compile again. Gradient
    checkpointing around a modulated module is refused, when backward gets there.

    Attributes:
        network: the network that was given, not a copy.
        tasks: the names, in the order of the indices.
        after: the names of the modulated modules.
    """

    def __init__(
        self,
        network: nn.Module,
        tasks: Iterable[str],
        after: str | Iterable[str],
        *,
        relu: bool = True,
        channel_axis: int | None = None,
        example: Tensor | None = None,
    ) -> None:
        super().__init__()
        names = tuple(tasks) if isinstance(tasks, Iterable) else (tasks,)
        if isinstance(tasks, str) or not all(isinstance(name, str) for name in names):
            raise UserError(f"modulate: tasks={tasks!r} must be a sequence of names: tasks=('closure', 'heel').")
        if not names:
            raise UserError("modulate: tasks is empty; name at least one.")
        if not isinstance(after, Iterable):
            raise UserError(f"modulate: after={after!r} must be names of modules: after=['layer3', 'layer4'].")
        self.after = (after,) if isinstance(after, str) else tuple(after)
        if not self.after:
            raise UserError("modulate: after is empty; name the modules whose outputs are to be scaled.")
        modules = _named(network, self.after)
        outputs = _dry_run(network, modules, example, channel_axis)
        self.network, self.relu = network, relu
        self.tasks: tuple[str, ...] = ()
        self.scales = nn.ParameterDict()  # one vector per task and module: what one task adds can be counted and saved
        axis = 1 if channel_axis is None else channel_axis
        for task in map(str, names):  # NumPy's too
            vectors = {n: torch.ones(out.shape[axis], dtype=out.dtype, device=out.device) for n, out in outputs.items()}
            self._add(task, vectors)
        self._current = _CurrentPass()
        for name, module in modules.items():
            module.register_forward_hook(_Scale(self._current, name, axis))

    def forward(self, images: Tensor, task: str | int | Tensor | Sequence[str | int]) -> Tensor:
        """Run the network: (B, ...) images -> its output.

        Args:
            images: what the network takes.
            task: of all images, by name or index, which a tensor () may hold; or a sequence or a (B,) tensor of whole
                numbers, one task per image. A task that no image has gets no gradient where `task` is a single name or
                number, and zeros where it is a tensor or many.

        Raises:
            UserError: there is no such task, the number of tasks isn't that of the images, or a modulated module was
                not called just once. Where a tensor's numbers can't be looked at without waiting, on an accelerator
                and under `torch.compile`, an image whose number is out of range gets NaN.
        """
        rows = self._rows(images, task)
        this_pass = _Pass({name: self._scales(name, rows) for name in self.after})
        with self._current.holding(this_pass):
            output: Tensor = self.network(images)
        for name in self.after:
            if name not in this_pass.seen:
                raise UserError(f"modulate: {_quoted(name)} was not called in this pass, so nothing scaled its output.")
        return output

    def add_task(self, task: str) -> None:
        """Add a task, whose vectors start at 1; adding it leaves the others as they are. Its index is the next.

        An optimiser made before doesn't know the new vectors: give it `task_parameters(task).values()`. If nothing else
        is trained, and the network is in evaluation mode meanwhile (`eval()`), the other tasks stay as they are; in
        training mode batch norm would move its running statistics, and so all tasks.

        Raises:
            UserError: the name is taken.
        """
        some = self.task_parameters(self.tasks[0]).values()
        self._add(task, {name: torch.ones_like(vector) for name, vector in zip(self.after, some, strict=True)})

    def task_parameters(self, task: str | int) -> dict[str, nn.Parameter]:
        """Return the vectors of a task by their names in the checkpoint, in the order of `after`.

        Raises:
            UserError: there is no such task.
        """
        keys = [_key(name, self.tasks[self._index(task)]) for name in self.after]
        return {f"scales.{key}": self.scales[key] for key in keys}

    def task_bytes(self, task: str | int) -> int:
        """Return what a task stores beside the network, in bytes.

        Raises:
            UserError: there is no such task.
        """
        return sum(vector.numel() * vector.element_size() for vector in self.task_parameters(task).values())

    def _add(self, task: str, vectors: dict[str, Tensor]) -> None:
        keys = {_key(name, task): vector for name, vector in vectors.items()}
        if not task:
            raise UserError("modulate: a task needs a name that isn't empty.")
        if keys.keys() & self.scales.keys():
            raise UserError(f"modulate: the task '{task}' is there already; each needs a name of its own.")
        self.scales.update({key: nn.Parameter(vector) for key, vector in keys.items()})
        self.tasks = (*self.tasks, task)

    def _index(self, task: str | int) -> int:
        if isinstance(task, str) and task in self.tasks:
            return self.tasks.index(task)
        if isinstance(task, int | Integral) and not isinstance(task, bool) and 0 <= task < len(self.tasks):
            return int(task)
        hint = did_you_mean(task, self.tasks) if isinstance(task, str) else ""
        raise UserError(
            f"Unknown task {task!r}.{hint} Tasks: {', '.join(self.tasks)}, or their indices from 0 to"
            f" {len(self.tasks) - 1}."
        )

    def _rows(self, images: Tensor, task: str | int | Tensor | Sequence[str | int]) -> int | Tensor:
        """Return the index of the one task, or (B,) indices."""
        if isinstance(task, str | int | Integral):  # NumPy's too
            return self._index(task)
        if not isinstance(task, Tensor):
            if not isinstance(task, Iterable):
                raise UserError(f"modulate: task={task!r} must be a name or an index, or one of them for each image.")
            rows = torch.tensor([self._index(t) for t in task], dtype=torch.long, device=images.device)
        elif task.is_floating_point() or task.is_complex() or task.dtype == torch.bool:
            raise UserError(f"modulate: task must hold whole numbers, not {task.dtype}.")
        else:
            rows = task.long() if task.dim() else task.long().expand(len(images))
        if rows.shape != images.shape[:1]:
            raise UserError(
                f"modulate: task has the shape {tuple(rows.shape)} for {counted(len(images), 'image')}; give one task"
                " for all, or one for each."
            )
        # on an accelerator, looking would wait for all that is queued
        if rows.device.type == "cpu" and not torch.compiler.is_compiling():
            for row in rows[(rows < 0) | (rows >= len(self.tasks))].tolist():
                self._index(row)
        return rows

    def _scales(self, name: str, rows: int | Tensor) -> Tensor:
        """Return the (1, C) scales of the one task, or (B, C)."""
        if isinstance(rows, int):
            scales = self.scales[_key(name, self.tasks[rows])][None]
        else:
            table = torch.stack([self.scales[_key(name, task)] for task in self.tasks])
            rows = rows.to(table.device)
            scales = table.index_select(0, rows.clamp(0, len(table) - 1))
            # those that _rows couldn't look at
            scales = scales.masked_fill(((rows < 0) | (rows >= len(table)))[:, None], torch.nan)
        return F.relu(scales) if self.relu else scales


@dataclass
class _Pass:
    """The scales of one forward pass, and which modules have used them."""

    scales: dict[str, Tensor]
    seen: set[str] = field(default_factory=set)


class _CurrentPass(threading.local):
    """The pass under way in this thread; a copy, pickled or deep, begins with none."""

    this_pass: _Pass | None = None

    def __reduce__(self) -> tuple[type[_CurrentPass], tuple[()]]:
        return _CurrentPass, ()

    @contextmanager
    def holding(self, this_pass: _Pass) -> Iterator[None]:
        self.this_pass = this_pass
        try:
            yield
        finally:
            self.this_pass = None


class _Scale:
    """A forward hook that scales a module's output during a pass of the `Modulated` it belongs to, and only then.

    The scales come by way of the thread: a network's forward has no argument that could carry them.
    """

    def __init__(self, now: _CurrentPass, name: str, axis: int) -> None:
        self.now, self.name, self.axis = now, name, axis

    def __call__(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        this_pass, name = self.now.this_pass, _quoted(self.name)
        if this_pass is None:
            # Recomputed without its scales, a checkpointed segment would give wrong gradients without a word.
            if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
                raise UserError(f"modulate: gradient checkpointing around {name} isn't supported; turn it off there.")
            return output
        if self.name in this_pass.seen:
            raise UserError(f"modulate: {name} was called twice in one pass; choose modules that are called once.")
        this_pass.seen.add(self.name)
        scales = this_pass.scales[self.name]
        rows, channels = scales.shape
        if output.shape[self.axis] != channels or rows not in (1, len(output)):
            raise UserError(
                f"modulate: the output of {name} is {tuple(output.shape)}, and its scales are for"
                f" {counted(channels, 'channel')}" + (f" of {rows} images." if rows > 1 else ".")
            )
        shape = [1] * output.dim()
        shape[0], shape[self.axis] = rows, channels
        return output * scales.to(output.dtype).reshape(shape)


def _quoted(name: str) -> str:
    return f"the module '{name}'" if name else "the network itself"


def _key(name: str, task: str) -> str:
    """Return the name of a parameter, in which torch allows no dots."""
    return f"{name}:{task}".replace(".", "/")


def _named(network: nn.Module, after: Sequence[str]) -> dict[str, nn.Module]:
    """Return the modules of these names, in order; each may be named once."""
    known = dict(network.named_modules(remove_duplicate=False))
    found: dict[str, nn.Module] = {}
    for name in after:
        if name not in known:
            top = ", ".join(child for child, _ in network.named_children())
            raise UserError(
                f"Unknown module {name!r}.{did_you_mean(str(name), filter(None, known))} The network has: {top}; and"
                f" what network.named_modules() lists."
            )
        if any(known[name] is module for module in found.values()):
            raise UserError(f"modulate: after= names {_quoted(name)} twice.")
        found[name] = known[name]
    return found


def _dry_run(
    network: nn.Module, modules: dict[str, nn.Module], example: Tensor | None, axis: int | None
) -> dict[str, Tensor]:
    """Return each module's output for a few images, of which the channels have been found to be where `axis` says."""
    if example is None:
        some = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
        example = torch.zeros(2, 3, _SIDE, _SIDE, dtype=some.dtype, device=some.device)
    elif len(example) == 1:
        example = torch.cat([example, example])  # two, since the axis of the images must show
    try:
        outputs = _outputs(network, modules, example)
    except Exception as error:
        raise UserError(
            f"modulate: the network failed on images {tuple(example.shape)}, on which it was run to count channels"
            f" ({type(error).__name__}: {error}); give a batch that it takes as example=."
        ) from error
    for name, calls in outputs.items():
        if len(calls) != 1:
            raise UserError(
                f"modulate: {_quoted(name)} is called {len(calls)} times in a pass of the network in evaluation mode;"
                f" choose modules that are called once."
            )
        (output,) = calls
        if not isinstance(output, Tensor):
            raise UserError(f"modulate: {_quoted(name)} returns {a(type(output).__name__)}, not a tensor of channels.")
        if output.dim() < 2 or len(output) != len(example):
            raise UserError(
                f"modulate: the output of {_quoted(name)} has no channels of every image: it is {tuple(output.shape)}"
                f" for {counted(len(example), 'image')}."
            )
        if axis is not None and not (-output.dim() < axis < output.dim() and axis % output.dim()):
            raise UserError(
                f"modulate: channel_axis={axis} is no axis of channels in {tuple(output.shape)}, the output of"
                f" {_quoted(name)}."
            )
        if axis is None and output.dim() not in (2, 4):
            raise UserError(
                f"modulate: the output of {_quoted(name)} is {tuple(output.shape)}, in which channels aren't plain to"
                f" find; say channel_axis=1 or channel_axis=-1."
            )
    found = {name: output for name, (output,) in outputs.items()}
    if axis is None:
        _refuse_channels_last(network, modules, example, found)
    return found


def _refuse_channels_last(
    network: nn.Module, modules: dict[str, nn.Module], example: Tensor, found: dict[str, Tensor]
) -> None:
    """Refuse maps whose second axis is a length in space: one that grows with the images isn't a count of channels."""
    maps = {name: output.shape for name, output in found.items() if output.dim() == 4}
    larger: dict[str, list[Any]] = {}
    if maps and example.dim() == 4:
        try:
            larger = _outputs(network, modules, F.pad(example, (0, _LARGER, 0, _LARGER)))
        except Exception:  # a network for one size of images, which may refuse others in any way
            larger = {}
    for name, shape in maps.items():
        grown = larger[name][0].shape if larger.get(name) else shape
        if grown[1] != shape[1] or (grown == shape and shape[1] == shape[2] != shape[3]):
            raise UserError(
                f"modulate: the output of {_quoted(name)} is {tuple(shape)}, with channels last; say channel_axis=-1."
            )
        # Channels are plain to find where the last axis grows with the images, or else beside a square.
        if grown[-1] == shape[-1] and not shape[1] != shape[2] == shape[3]:
            raise UserError(
                f"modulate: the output of {_quoted(name)} is {tuple(shape)}, in which channels aren't plain to find;"
                f" say channel_axis=1 or channel_axis=-1."
            )


def _outputs(network: nn.Module, modules: dict[str, nn.Module], images: Tensor) -> dict[str, list[Any]]:
    """Return what each module returned, call by call, in one pass that leaves the network as it was."""
    found: dict[str, list[Any]] = {name: [] for name in modules}
    modes = {module: module.training for module in network.modules()}
    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: found[name].append(output))
        for name, module in modules.items()
    ]
    try:
        network.eval()
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
        network.train(modes[network])  # what some modules undo here, such as weights they merge for evaluation
        for module, training in modes.items():
            module.training = training
    return found

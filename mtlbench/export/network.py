"""The network that is exported: raw uint8 images in, embeddings out, traced with a batch of any size."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.overrides import TorchFunctionMode

from mtlbench.architecture import copied
from mtlbench.data.pixels import applied, factors
from mtlbench.errors import FAULTS, UserError, first_line
from mtlbench.search import Run

_TRACED = 7  # images of the example, a number that no count of tasks or channels is taken for


class Deployed(nn.Module):
    """A run's network with its preprocessing: (N, H, W, 3) uint8 RGB -> (T, N, D) float32, or (N, D) of one task.

    Args:
        run: whose network; it is copied.
        task: the task's index, or None for all.
        half: keep weights and compute in float16; pixel values are normalised in float32 first.
        whole: run all tasks and choose the one, for methods whose `embed_task` can't be traced.
    """

    def __init__(self, run: Run, task: int | None, half: bool = False, whole: bool = False) -> None:
        super().__init__()
        self.architecture = copied(run.architecture).cpu().eval().requires_grad_(False)
        self.task, self.half_precision, self.whole = task, half, whole
        if half:
            self.architecture.half()
        scale, offset = factors(run.benchmark.data.pixels)
        self.register_buffer("scale", scale)
        self.register_buffer("offset", offset)
        self.pixels = run.benchmark.data.pixels

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        seen = applied(images, self.get_buffer("scale"), self.get_buffer("offset"), self.pixels)
        seen = seen.half() if self.half_precision else seen
        if self.task is None:
            return self.architecture.embed(seen).float()
        if self.whole:
            return self.architecture.embed(seen)[self.task].float()
        return self.architecture.embed_task(seen, self.task).float()


class _AnyBatch(TorchFunctionMode):
    """Says in operations that tracing understands what methods do with the number of images.

    `repeat_interleave` and `chunk` would fix the traced number of images; their equivalents here give the same values.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given: Mapping[str, Any] = kwargs or {}
        if func in (torch.Tensor.repeat_interleave, torch.repeat_interleave):
            repeats = args[1] if len(args) > 1 else given.get("repeats")
            dim = args[2] if len(args) > 2 else given.get("dim")
            if isinstance(repeats, torch.SymInt) and isinstance(dim, int):
                tensor: Tensor = args[0]
                dim %= tensor.dim()
                sizes = [*tensor.shape[: dim + 1], repeats, *tensor.shape[dim + 1 :]]
                return tensor.unsqueeze(dim + 1).expand(sizes).flatten(dim, dim + 1)
        if func in (torch.Tensor.chunk, torch.chunk):
            tensor, parts = args[0], args[1] if len(args) > 1 else given["chunks"]
            dim = args[2] if len(args) > 2 else given.get("dim", 0)
            size = tensor.shape[dim]
            if isinstance(size, torch.SymInt) and size % parts == 0:
                return tuple(tensor.unflatten(dim, (parts, size // parts)).unbind(dim))
        return func(*args, **given)


def _length(of: Any) -> Any:
    """Return `len`, and of a tensor that is being traced the symbol that stands for its number of rows."""
    return of.shape[0] if isinstance(of, Tensor) and of.dim() else len(of)


@contextmanager
def _symbolic_lengths(network: nn.Module) -> Iterator[None]:
    """Have the code of a network's classes see `_length` as `len`: Python's own must return a plain number.

    Tracing would take that number for a constant, and the program would take only as many images as the example had.
    """
    names = {cls.__module__ for module in network.modules() for cls in type(module).__mro__}
    homes = [sys.modules[name] for name in sorted(names) if name.partition(".")[0] not in ("torch", "builtins")]
    changed = [home for home in homes if "len" not in vars(home)]
    for home in changed:
        vars(home)["len"] = _length
    try:
        yield
    finally:
        for home in changed:
            del vars(home)["len"]


def trace(run: Run, task: int | None, half: bool) -> ExportedProgram:
    """Trace a run's network for batches of any size.

    Raises:
        UserError: the method computes something that can't be traced.
    """
    reasons = []
    for whole in (False, True) if task is not None else (False,):
        try:
            return _traced(Deployed(run, task, half, whole), run.benchmark.data.size)
        except FAULTS as error:  # whatever a method's own code makes of stand-ins for tensors
            kind, words = type(error).__name__, first_line(error)
            reasons.append(kind if words == kind else f"{kind}: {words}")
    remedy = "Export it with --precision fp32." if half else "Export its weights with --format safetensors."
    raise UserError(f"{run.record.method} can't be traced ({reasons[0]}). {remedy}")


@torch.no_grad()
def _traced(network: Deployed, size: Sequence[int]) -> ExportedProgram:
    images = torch.zeros(_TRACED, *size, 3, dtype=torch.uint8)
    with _AnyBatch(), _symbolic_lengths(network.architecture):
        program = torch.export.export(
            network,
            (images,),
            dynamic_shapes={"images": {0: Dim("N", min=1)}},
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names files of this machine
    return program

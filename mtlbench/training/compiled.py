"""The network of a run as torch.compile makes it, where that was asked for and gives the same gradients.

Compiled code adds up numbers in another order: the last bits differ, so a setup says `compiled`, and such runs share
no table with others. Shapes are static; on a GPU steps are replayed as CUDA graphs. Only training's passes are
compiled: validation, tests, probes of agreement and what a balancer looks at are not.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mtlbench.architecture import Architecture
from mtlbench.benchmark import Benchmark
from mtlbench.errors import FAULTS, UserError

LONG = 20_000
"""Steps from which `auto` compiles on a GPU. The start takes one to two minutes, and a step of some 400 launches, which
take about 2 ms to give, can't save more than those."""
_BACKEND: Any = "inductor"
_TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}  # of a gradient; compiled bfloat16 rounds at other places
_FLOOR = 0.1  # of all gradients together: what is next to nothing has no direction to keep
_TRIES = {"cpu": 2, "cuda": 3}  # CUDA graphs are warmed up, recorded and replayed
_MORE = "its balancer passes back through the network more than once a step, for which the compiled one keeps nothing"

Gradients = Mapping[str, Tensor]


def compiles(benchmark: Benchmark, device: torch.device) -> bool:
    """Tell whether a benchmark's networks are to be compiled on a device; see `train.compile`."""
    chosen = benchmark.train.compile
    return chosen == "on" or (chosen == "auto" and device.type == "cuda" and benchmark.train.steps >= LONG)


def check_compiler(benchmark: Benchmark, device: torch.device) -> None:
    """Refuse to compile where there is nothing to compile with.

    Raises:
        UserError: it was asked for, and a compiler is missing here.
    """
    if benchmark.train.compile == "on" and (lacking := missing(device)):
        raise UserError(
            f"train.compile = 'on' needs {lacking}, which is not here: install it, or set train.compile = 'off'."
        )


def missing(device: torch.device) -> str:
    """Return what torch.compile lacks here, in a few words; empty where it lacks nothing."""
    if _BACKEND != "inductor":
        return ""
    if device.type == "cuda":
        return "" if importlib.util.find_spec("triton") else "the package triton"
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "a C++ compiler, such as g++"
    return ""


class CompiledNetwork:
    """An architecture's `forward` and `embed`, compiled when they are first called."""

    def __init__(self, architecture: Architecture, device: torch.device) -> None:
        self._cuda_graphs = device.type == "cuda"
        options: dict[str, Any] | None = None
        if _BACKEND == "inductor":
            # dropout draws what it draws otherwise; a pool of compiling processes would outlive a run that is killed
            options = {"fallback_random": True}
            options |= {"triton.cudagraphs": True} if self._cuda_graphs else {"compile_threads": 1}
        self._calls = {
            joint: torch.compile(call, fullgraph=True, dynamic=False, backend=_BACKEND, options=options)
            for joint, call in ((True, architecture.embed), (False, architecture.forward))
        }

    def embed(self, images: Tensor, joint: bool) -> Tensor:
        """Return (T, B, D) of a batch's images; see `Batch`."""
        if self._cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        embeddings: Tensor = self._calls[joint](images)
        return embeddings


def why_not(step: Callable[[bool], tuple[Gradients, int]], precision: str, device: torch.device) -> str:
    """Return why a method's network stays as it is, in a few words; empty where it can be compiled.

    The same step is tried as it is, compiled, and compiled again, for which nothing may be compiled anew.

    Args:
        step: whether compiled -> the gradients that a step would have by parameter, and how many times they come
            through the embeddings; it changes nothing.
        precision: `bf16` or `fp32`; device: where networks run.

    Raises:
        whatever the step raises as it is.
    """
    wanted, passes = step(False)
    if passes > 1:
        return _MORE
    try:
        for number in range(_TRIES[device.type]):
            with torch.compiler.set_stance("fail_on_recompile" if number else "default"):
                found, _ = step(True)
            if name := _unlike(found, wanted, _TOLERANCE[precision]):
                return f"compiled, its gradients would be others, at {name} first"
    except FAULTS as error:  # torch may fail in any way: the network as it is runs on
        torch.compiler.reset()
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"torch can't compile it ({type(error).__name__}: {lines[0][:160] if lines else 'no reason given'})"
    return ""


def _unlike(found: Gradients, wanted: Gradients, tolerance: float) -> str:
    """Return the first parameter with another gradient; empty where there is none."""
    if unlike := found.keys() ^ wanted.keys():
        return min(unlike)
    lengths = {name: gradient.float().norm() for name, gradient in wanted.items()}
    whole = torch.stack(list(lengths.values())).norm()
    for name, gradient in wanted.items():
        off = (found[name].float() - gradient.float()).norm()
        if not off <= tolerance * (lengths[name] + _FLOOR * whole):  # written so that a NaN is another
            return name
    return ""

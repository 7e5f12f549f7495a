"""What a method costs: parameters and bytes, floating-point operations, throughput and memory.

Counts are exact; times are medians over repeats, after a warm-up, on the device in use, synchronised. What embedding
costs is measured on the network that is given: where what was learned decides how much runs, give the trained one.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mtlbench.architecture import Architecture, copied
from mtlbench.benchmark import Benchmark
from mtlbench.devices import computing_in
from mtlbench.errors import UserError
from mtlbench.networks import build, deployed_state
from mtlbench.returned import check_architecture
from mtlbench.specs import PLAIN, Method

Costs = dict[str, float]
_REPEATS = 5  # at least, and until they add up to _ENOUGH seconds; slow work stops at _TOO_LONG seconds
_ENOUGH, _TOO_LONG = 1.0, 3.0


def weights_of(architecture: Architecture) -> dict[str, Tensor]:
    """Return what a deployed network needs, by name, each tensor once, contiguous and on the CPU.

    That is every parameter and persistent buffer but batch norm's step counters, which only training reads.
    """
    return {name: tensor.detach().cpu().contiguous() for name, tensor in deployed_state(architecture).items()}


def storage(architecture: Architecture) -> Costs:
    """Count what a deployed network stores: parameters, and bytes with buffers.

    `*_shared` is what all tasks use, `*_per_task` the mean of what one task alone has. Frozen stages are the same in
    all of a method's networks, and so are stored once and shared.
    """
    tasks = range(len(architecture.tasks))
    states = [tensors_of(architecture.task_state(t)) for t in tasks]
    every = {id(t): t for t in tensors_of([architecture])}
    owners = Counter(id(t) for tensors in states for t in tensors)
    owned = [[t for t in tensors if owners[id(t)] == 1] for tensors in states]
    shared = [t for i, t in every.items() if owners[i] != 1]

    def parameters(tensors: list[Tensor]) -> int:
        return sum(t.numel() for t in tensors if isinstance(t, nn.Parameter))

    def size(tensors: list[Tensor]) -> int:
        return sum(t.numel() * t.element_size() for t in tensors)

    return {
        "parameters": parameters(list(every.values())),
        "parameters_shared": parameters(shared),
        "parameters_per_task": sum(map(parameters, owned)) / len(tasks),
        "bytes": size(list(every.values())),
        "bytes_shared": size(shared),
        "bytes_per_task": sum(map(size, owned)) / len(tasks),
    }


def tensors_of(parts: object) -> list[Tensor]:
    """List the parameters and deployed buffers of modules and parameters, each once."""
    found: dict[int, Tensor] = {}
    for part in parts:  # type: ignore[attr-defined]
        if isinstance(part, nn.Module):
            found |= {id(t): t for t in deployed_state(part).values()}
        else:
            found[id(part)] = part
    return list(found.values())


def added_by_one_task(method: Method, benchmark: Benchmark, tasks: tuple[str, ...]) -> Costs:
    """Count what one more task adds, exactly: the method is built (without memory) for T and for T + 1 tasks."""
    alone = replace(method, balancer=PLAIN, balancer_options={})  # a balancer may fit one number of tasks only
    with torch.device("meta"):
        now = storage(build(alone, benchmark, tasks, 0)[0])
        more = storage(build(alone, benchmark, (*tasks, "one more task"), 0)[0])
    return {f"{what}_added": more[what] - now[what] for what in ("parameters", "bytes")}


def storage_law(method: Method, benchmark: Benchmark) -> tuple[int, int, int] | None:
    """Return (a, b, c) for which a + b T + c T² is the number of parameters for T tasks, counted without memory.

    None where no such law holds, or the method can't be built for up to 7 tasks.
    """
    counts = {}
    for number in (2, 3, 4, 7):
        try:
            with torch.device("meta"):
                architecture = build(method, benchmark, tuple(f"task {t}" for t in range(number)), 0)[0]
        except UserError:
            return None
        check_architecture(architecture)
        counts[number] = int(storage(architecture)["parameters"])
    twice_c = counts[4] - 2 * counts[3] + counts[2]
    c = twice_c // 2
    b = counts[3] - counts[2] - 5 * c
    a = counts[2] - 2 * b - 4 * c
    holds = twice_c % 2 == 0 and all(a + b * t + c * t * t == n for t, n in counts.items())
    return (a, b, c) if holds else None


def file_size(architecture: Architecture) -> int:
    """Return the bytes of the saved network's file, measured by saving it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file(weights_of(architecture), path)
        return path.stat().st_size


def operations(architecture: Architecture, image: Tensor) -> Costs:
    """Count floating-point operations to embed one image, (1, 3, H, W): under one task, and under all.

    A multiply-add counts as two; convolutions and matrix products count, element-wise work does not. Under one task
    they are the mean over tasks: a method may have learned to take less for some.
    """
    # torch's counter stumbles over a view of a parameter, unless no parameter wants a gradient
    architecture = copied(architecture).requires_grad_(False).eval()
    counts: Costs = {}
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            for task in range(len(architecture.tasks)):
                architecture.embed_task(image, task)
        counts["flops_one_task"] = counter.get_total_flops() / len(architecture.tasks)
        with FlopCounterMode(display=False) as counter:
            architecture.embed(image)
        counts["flops_all_tasks"] = counter.get_total_flops()
    return counts


def seconds_each(work: Callable[[], object], device: torch.device, enough: float = _ENOUGH) -> list[float]:
    """Time `work` repeatedly after a warm-up, waiting for the device.

    It is done at least five times and until it has taken `enough` seconds, but no longer than three seconds; once at
    least.
    """

    def once() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begun

    once()
    times: list[float] = []
    while (len(times) < _REPEATS or sum(times) < enough) and sum(times) < _TOO_LONG:
        times.append(once())
    return times


def seconds_for(once: float) -> float:
    """Return how long `seconds_each` takes to time work that takes `once` seconds."""
    repeats = max(once, min(max(_REPEATS * once, _ENOUGH), _TOO_LONG))
    return once + repeats


def _rates(name: str, images: int, times: list[float]) -> Costs:
    """Images per second: the median, slowest and fastest of rounds, each the median of a fifth of the repeats in order.

    The range of single repeats would grow with their number, which is higher the faster the work is.
    """
    number = min(_REPEATS, len(times))
    ends = [len(times) * place // number for place in range(number + 1)]
    rounds = [statistics.median(times[begin:end]) for begin, end in itertools.pairwise(ends)]
    return {
        name: images / statistics.median(rounds),
        f"{name}_slowest": images / max(rounds),
        f"{name}_fastest": images / min(rounds),
    }


def training_rate(step: Callable[[], object], images: int, device: torch.device) -> Costs:
    """Time training steps, in images per second. Takes real steps: give it a run made for this.

    Args:
        step: takes one.
        images: drawn from the data set at each, the same for every method.
        device: where they run.
    """
    return _rates("train_rate", images, seconds_each(step, device))


def embedding_rates(architecture: Architecture, images: Tensor, precision: str) -> Costs:
    """Time embedding, in query images per second, under the first task and under all: (B, 3, H, W) images."""
    architecture.eval()
    costs: Costs = {}
    with torch.no_grad(), computing_in(precision, images.device):
        for name, run in (
            ("embed_rate_one_task", lambda: architecture.embed_task(images, 0)),
            ("embed_rate_all_tasks", lambda: architecture.embed(images)),
        ):
            costs |= _rates(name, len(images), seconds_each(run, images.device))
    return costs


def training_memory(step: Callable[[], object], kept: Sequence[Tensor], device: torch.device) -> int | None:
    """Return the peak bytes of tensors while training, the data set left out; None where the device can't tell.

    It is what the network, its gradients, the optimiser and one step's activations take together; what the framework
    itself needs is not in it.

    Args:
        step: takes one real step, and frees the gradients of the last before it.
        kept: the tensors that stay between steps: parameters, buffers, what optimiser and balancer hold.
        device: where it runs.
    """
    static: int = sum(t.numel() * t.element_size() for t in {id(t): t for t in kept}.values())
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        return static + int(torch.cuda.max_memory_allocated(device)) - before
    if device.type != "cpu":
        return None
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # without it the profiler writes to the terminal
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    results = profile.profiler.kineto_results if profile.profiler else None
    if results is None:
        return None
    held, peak = 0, 0
    for event in sorted((e for e in results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += int(event.nbytes())
        peak = max(peak, held)
    return static + peak

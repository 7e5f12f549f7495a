"""What a method costs: parameters and bytes, floating-point operations, throughput and memory.

Counts are exact; times are medians over repeats, after a warm-up, on the device in use, synchronised. Nothing is
learned here: networks as they are built serve as well as trained ones.
"""

from __future__ import annotations

import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mtlbench.architecture import Architecture
from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.devices import computing_in
from mtlbench.errors import UserError
from mtlbench.networks import EMBEDDING_BATCH, build, state_of
from mtlbench.specs import PLAIN, Method
from mtlbench.training.loop import Trainer

Costs = dict[str, float]
_REPEATS = 5  # at least, and until they add up to _ENOUGH seconds; slow work stops at _TOO_LONG seconds
_ENOUGH, _TOO_LONG = 1.0, 3.0


def weights_of(architecture: Architecture) -> dict[str, Tensor]:
    """Return what a deployed network needs, by name, each tensor once, contiguous and on the CPU.

    That is every parameter and persistent buffer but batch norm's step counters, which only training reads.
    """
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in state_of(architecture).items()
        if not name.endswith("num_batches_tracked")
    }


def storage(architecture: Architecture) -> Costs:
    """Count what a deployed network stores: parameters, and bytes with buffers.

    `*_shared` is what all tasks use, `*_per_task` the mean of what one task alone has.
    """
    tasks = range(len(architecture.tasks))
    owned = [_tensors_of(architecture.task_state(t)) for t in tasks]
    every = {id(t): t for t in _tensors_of([architecture])}
    own_ids = {id(t) for tensors in owned for t in tensors}
    shared = [t for i, t in every.items() if i not in own_ids]

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


def _tensors_of(parts: object) -> list[Tensor]:
    """List the parameters and deployed buffers of modules and parameters, each once."""
    found: dict[int, Tensor] = {}
    for part in parts:  # type: ignore[attr-defined]
        if isinstance(part, nn.Module):
            found |= {id(t): t for n, t in state_of(part).items() if not n.endswith("num_batches_tracked")}
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

    A multiply-add counts as two; convolutions and matrix products count, element-wise work does not.
    """
    # torch's counter stumbles over a view of a parameter, unless no parameter wants a gradient
    architecture = copy.deepcopy(architecture).requires_grad_(False).eval()
    counts: Costs = {}
    with torch.no_grad():
        for name, run in (
            ("flops_one_task", lambda: architecture.embed_task(image, 0)),
            ("flops_all_tasks", lambda: architecture.embed(image)),
        ):
            with FlopCounterMode(display=False) as counter:
                run()  # type: ignore[no-untyped-call]
            counts[name] = counter.get_total_flops()
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


def _rates(name: str, images: int, times: list[float]) -> Costs:
    """Images per second: the median, and the slowest and fastest repeat."""
    return {
        name: images / statistics.median(times),
        f"{name}_slowest": images / max(times),
        f"{name}_fastest": images / min(times),
    }


def throughput(trainer: Trainer) -> Costs:
    """Time training steps and embedding, in images per second. Takes real steps: give it a trainer made for this.

    Training counts the images drawn from the data set, as each method sees the same ones; embedding counts query
    images, under one task and under all.
    """
    dataset, architecture = trainer.dataset, trainer.architecture
    costs = _rates("train_rate", trainer.images_per_step, seconds_each(trainer.step, dataset.device))
    images = dataset.batch(dataset.members("val").repeat(EMBEDDING_BATCH)[:EMBEDDING_BATCH])
    architecture.eval()
    with torch.no_grad(), computing_in(trainer.precision, dataset.device):
        for name, run in (
            ("embed_rate_one_task", lambda: architecture.embed_task(images, 0)),
            ("embed_rate_all_tasks", lambda: architecture.embed(images)),
        ):
            costs |= _rates(name, len(images), seconds_each(run, dataset.device))
    return costs


def training_memory(trainer: Trainer) -> int | None:
    """Return the peak bytes of tensors while training, the data set left out.

    It is what the network, its gradients, the optimiser and one step's activations take together; what the framework
    itself needs is not in it. Takes one real step.
    """
    device = trainer.dataset.device
    kept = [*trainer.architecture.parameters(), *trainer.architecture.buffers()]
    for values in trainer.optimiser.state.values():
        kept += [t for t in values.values() if isinstance(t, Tensor)]
    static: int = sum(t.numel() * t.element_size() for t in kept)
    trainer.optimiser.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        trainer.step()
        torch.cuda.synchronize(device)
        return static + int(torch.cuda.max_memory_allocated(device)) - before
    if device.type != "cpu":
        return None
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # without it the profiler writes to the terminal
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        trainer.step()
    results = profile.profiler.kineto_results if profile.profiler else None
    if results is None:
        return None
    held, peak = 0, 0
    for event in sorted((e for e in results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += int(event.nbytes())
        peak = max(peak, held)
    return static + peak


def measure(method: Method, benchmark: Benchmark, dataset: Dataset, precision: str) -> Costs:
    """Measure all costs of a method; see the functions above. Memory is left out on devices that can't tell it.

    Raises:
        UserError: the method can't be built for this benchmark.
    """
    trainer = Trainer(method, benchmark, dataset, 0, precision)
    costs = storage(trainer.architecture) | added_by_one_task(method, benchmark, dataset.tasks)
    costs["file_bytes"] = file_size(trainer.architecture)
    costs |= operations(trainer.architecture, dataset.batch(dataset.members("val")[:1]))
    costs |= throughput(trainer)
    memory = training_memory(trainer)
    return costs if memory is None else costs | {"training_memory": memory}

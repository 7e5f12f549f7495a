"""Counts kernel launches and waits of the host in a training step and in drawing its batch: ResNet-18, 112 px, joint.

    python tools/speed/launches.py                                        # on a GPU, counted by torch's profiler
    NULLGPU=BUILD python tools/speed/launches.py --null FOLDER            # without one
    python tools/speed/launches.py --tasks 4 40 --methods shared gradnorm

Without a GPU, FOLDER holds `nullgpu.py`, and BUILD holds `libshim.so` and `libcuda.so.1`: replacements for CUDA's
libraries that count calls and compute nothing, so that torch runs its own host code. Convolutions, for which torch asks
cuDNN, count as one launch forward and one for each gradient. These counts say nothing about time.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from mtlbench import gradients
from mtlbench.benchmark import load_benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_methods
from mtlbench.training.loop import Trainer

METHODS = ("shared", "modulation", "gradnorm", "pcgrad", "independent", "cross-stitch")
PIXELS, IMAGES, VALUES = 112, 2000, 4
Counts = tuple[int, int]  # launches, waits


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--null", type=Path, help="folder of nullgpu.py")
    parser.add_argument("--tasks", type=int, nargs="+", default=[4, 40])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--sampling", default="joint")
    arguments = parser.parse_args()
    counted = _null_counter(arguments.null) if arguments.null else _profiled
    if not torch.cuda.is_available():
        sys.exit("There is no GPU here: give --null, see --help.")
    load_plugins()
    rows = []
    for tasks in arguments.tasks:
        for spec in arguments.methods:
            trainer = trainer_of(spec, tasks, arguments.sampling, null=bool(arguments.null))
            for _ in range(4):  # the first ones also confirm short cuts
                trainer.step()
            drawn = counted(lambda trainer=trainer: trainer.sampler.draw(trainer.generators))
            step = counted(trainer.step)
            rows.append((spec, tasks, trainer.images_per_step, *drawn, *step))
            print(f"{spec}, {tasks} tasks: {step[0]} launches", file=sys.stderr, flush=True)
    heads = ("method", "tasks", "images", "launches of drawing", "waits", "launches of a step", "waits")
    print(tabulate(rows, heads, tablefmt="github", intfmt=","))


def trainer_of(spec: str, tasks: int, sampling: str, *, null: bool = False) -> Trainer:
    """Return a trainer on made-up images on the GPU, with about 750 images per step."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, VALUES, (tasks, IMAGES), generator=random)
    images = torch.randint(0, 255, (IMAGES, PIXELS, PIXELS, 3), dtype=torch.uint8, generator=random)
    split = torch.zeros(IMAGES, dtype=torch.int64)
    split[IMAGES // 2 :], split[IMAGES * 3 // 4 :] = 1, 2
    dataset = Dataset(
        images=images.cuda(),
        labels=labels.cuda(),
        split=split.cuda(),
        tasks=tuple(f"t{number}" for number in range(tasks)),
        values=(tuple("abcd"),) * tasks,
        ordered=(False,) * tasks,
        pixels="imagenet",
        facts={"fingerprint": "made up"},
    )
    settings = [
        "model.backbone=resnet18", f"data.image_size={PIXELS}", f"train.sampling='{sampling}'", "train.flip=true",
        f"train.triplets={max(1, 256 // tasks)}", "train.optimiser=adam", "train.anchors=balanced",
        "evaluation.triplets=50",
    ]  # fmt: skip
    if not null:
        return Trainer(parse_methods(spec)[0], load_benchmark("zappos", settings=settings), dataset, 0, "bf16")
    import nullgpu  # type: ignore[import-not-found]

    with nullgpu.Values():  # tables that are computed once need true values
        trainer = Trainer(parse_methods(spec)[0], load_benchmark("zappos", settings=settings), dataset, 0, "bf16")
    trainer._looked = True  # no kernel computes, so there is no value to look at
    # take short cuts unchecked that real values would confirm
    gradients._alike = gradients._none_is_zero = lambda *_: True
    gradients._stay_in_blocks = lambda *_: sampling == "per-task"
    return trainer


def _profiled(step: Callable[[], object]) -> Counts:
    """Count the launches and waits of a step, as torch's profiler records them."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=activities) as profile:
        step()
        torch.cuda.synchronize()  # one wait of our own
    names = [event.name for event in profile.events()]
    launches = sum("Launch" in name and name.startswith(("cuda", "cu")) for name in names)
    launches += sum(name.startswith("cudaMemset") for name in names)
    return launches, sum(name in _SYNCHRONISING for name in names) - 1


_SYNCHRONISING = {"cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"}


def _null_counter(folder: Path) -> Callable[[Callable[[], object]], Counts]:
    """Return a function that counts on the null GPU; first restart the process with its libraries loaded early."""
    build = os.environ.get("NULLGPU") or sys.exit("NULLGPU must name the folder that build.sh made.")
    library = f"{build}/libshim.so"
    if os.environ.get("LD_PRELOAD") != library:
        path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
        more = {"LD_PRELOAD": library, "LD_LIBRARY_PATH": build, "PYTHONPATH": path}
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | more)
    import nullgpu

    convolutions = [0]

    def forward(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, *rest: Any) -> torch.Tensor:
        convolutions[0] += 1
        sides = [
            (x.shape[i + 2] + 2 * padding[i] - dilation[i] * (weight.shape[i + 2] - 1) - 1) // stride[i] + 1
            for i in range(2)
        ]
        shape = (x.shape[0], weight.shape[0], *sides)
        return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)

    def backward(gradient: Any, x: Any, weight: Any, sizes: Any, *rest: Any) -> tuple[torch.Tensor | None, ...]:
        mask = rest[-1]
        convolutions[0] += int(mask[0]) + int(mask[1])
        bias = gradient.new_empty(weight.shape[0]) if mask[2] else None
        return torch.empty_like(x) if mask[0] else None, torch.empty_like(weight) if mask[1] else None, bias

    library_of_ours = torch.library.Library("aten", "IMPL")
    library_of_ours.impl("convolution", forward, "CUDA")
    library_of_ours.impl("convolution_backward", backward, "CUDA")

    def counted(step: Callable[[], object]) -> Counts:
        nullgpu.reset()
        convolutions[0] = 0
        step()
        found = nullgpu.counts()
        launches = sum(found[name] for name in ("launches", "memset", "d2d", "gemm")) + convolutions[0]
        return launches, found["sync"]

    counted.__dict__["library"] = library_of_ours  # keep it alive: deleting it undoes its work
    return counted


if __name__ == "__main__":
    main()

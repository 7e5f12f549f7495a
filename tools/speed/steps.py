"""Measures the time of a training step of each method relative to `shared`, in turn in one process.

    python tools/speed/steps.py --methods shared gradnorm modulation --tasks 4

Images are random numbers, since their values don't change the cost of a step; the protocol is that of `shoes`, with
joint sampling. In every round, each method takes a few steps, one method after the other, so that other work on the
machine slows all of them; `--clock cpu` leaves out the time in which other processes had the core. The tool prints
medians over the rounds: milliseconds per step, and the ratio to shared's step of the same round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from tabulate import tabulate

from mtlbench.benchmark import load_benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.devices import choose_device, choose_precision, device_name
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

METHODS = (
    "shared",
    "gradnorm",
    "modulation",
    "film",
    "csn",
    "mgda",
    "cr-mogm",
    "pcgrad",
    "independent",
    "cross-stitch",
)
BASE = "shared"


def random_images(tasks: int, height: int, width: int, device: torch.device, number: int = 2000) -> Dataset:
    """Return a data set of noise with four label values per task; half of it is for training."""
    generator = torch.Generator().manual_seed(0)
    split = torch.zeros(number, dtype=torch.int64)
    split[number // 2 : number * 3 // 4], split[number * 3 // 4 :] = 1, 2
    return Dataset(
        images=torch.randint(0, 255, (number, height, width, 3), dtype=torch.uint8, generator=generator).to(device),
        labels=torch.randint(0, 4, (tasks, number), generator=generator).to(device),
        split=split.to(device),
        tasks=tuple(f"task {t}" for t in range(tasks)),
        values=(("a", "b", "c", "d"),) * tasks,
        ordered=(False,) * tasks,
        pixels="unit",
        facts={"fingerprint": "noise"},
    )


def seconds_a_step(trainer: Trainer, steps: int, clock: Callable[[], float]) -> float:
    """Return the seconds per step over some steps, waiting for the device."""
    device = trainer.dataset.device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = clock()
    for _ in range(steps):
        trainer.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (clock() - begun) / steps


def main() -> None:
    """Read the command line, measure, print."""
    what, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=what, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="shared is always among them")
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--backbone", default="small")
    parser.add_argument("--size", type=int, nargs=2, default=[48, 64], help="height and width in pixels")
    parser.add_argument("--images", type=int, default=96, help="a step, at most")
    parser.add_argument("--embedding", type=int, default=64)
    parser.add_argument("--sampling", default="joint")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=2, help="of each method in a round")
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"], help="cpu: this process's own seconds")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16", "fp32"])
    chosen = parser.parse_args()
    load_plugins()
    clock = time.perf_counter if chosen.clock == "wall" else time.process_time
    device = choose_device(chosen.device)
    precision = choose_precision(chosen.precision, device)
    height, width = chosen.size
    benchmark = load_benchmark(
        "shoes",
        settings=[
            f"model.backbone={chosen.backbone}",
            f"model.embedding={chosen.embedding}",
            f"data.image_size=[{height}, {width}]",
            f"train.sampling={chosen.sampling}",
            f"train.triplets={max(1, chosen.images // (3 * chosen.tasks))}",
            "train.shift=2",
            "evaluation.triplets=50",
        ],
    )
    dataset = random_images(chosen.tasks, height, width, device)
    names = [BASE, *(m for m in chosen.methods if m != BASE)]
    trainers = {name: Trainer(parse_method(name), benchmark, dataset, 0, precision) for name in names}
    for trainer in trainers.values():
        seconds_a_step(trainer, 3, clock)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(chosen.rounds):
        for name in names if number % 2 else reversed(names):
            times[name].append(seconds_a_step(trainers[name], chosen.steps, clock))
    load = f", load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    images = trainers[BASE].images_per_step
    print(f"{device_name(device)}, {precision}, torch {torch.__version__}{load}")
    print(f"{chosen.backbone}, {height} x {width} px, {chosen.tasks} tasks, {images} images a step, {chosen.sampling}")
    rows = []
    for name in names:
        ratios = [own / base for own, base in zip(times[name], times[BASE], strict=True)]
        spread = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        rows.append(
            [
                name,
                f"{1e3 * statistics.median(times[name]):.1f}",
                f"{statistics.median(ratios):.3f}",
                f"{spread[0]:.3f} to {spread[-1]:.3f}",
            ]
        )
    headings = ["method", "ms a step", f"x {BASE}", "middle half"]
    print(tabulate(rows, headings, disable_numparse=True, colalign=("left", "right", "right", "left")))


if __name__ == "__main__":
    main()

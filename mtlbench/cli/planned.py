"""The plan that `mtlbench run` prints: which runs are done, which continue, and how long the rest will take."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mtlbench.cli.progress import duration, say, status
from mtlbench.errors import counted
from mtlbench.names import listed

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.benchmark import Benchmark
    from mtlbench.data.dataset import Dataset
    from mtlbench.jobs.experiment import Part

_A_WHILE, _A_DAY = 120, 86_400
_STARTS = 2 * 5.0  # seconds; before it begins, a process imports torch and reads the data: one to train, one for costs


def show_plan(console: Console, parts: Sequence[Part], at_once: int = 1) -> dict[Path, float]:
    """Print what will be done and how long it will take, estimated from a few steps of each method.

    Args:
        console: to print on; parts: the plan; at_once: how many runs are done at a time.

    Returns:
        the seconds that each run has still to take, by its folder; 0 where its first steps failed.
    """
    planned: dict[Path, float] = {}
    for part in parts:
        if part is parts[0] or part.variant.varied:
            _show_head(console, part)
        if part is parts[0] and any(job.state != "done" for job in part.jobs):
            slow = "An idle machine would be faster than this plan says, and speeds measured now are too low"
            tell_busy(console, slow, part.dataset.device.type)
        planned |= _show_jobs(console, part)
    if planned:
        first = parts[0]
        tell_in_all(console, planned.values(), at_once, first.variant.benchmark, first.dataset, "runs")
    return planned


def tell_in_all(
    console: Console, each: Collection[float], at_once: int, benchmark: Benchmark, dataset: Dataset, what: str
) -> None:
    """Print how long the work takes in all, and what would make it shorter.

    Args:
        console: to print on; each: seconds of each piece of work; at_once: how many are done at a time.
        benchmark: their protocol; dataset: its data; what: what a piece is called, in the plural.
    """
    seconds, side_by_side = in_all(each, at_once), min(at_once, len(each))
    some = f", {side_by_side} at a time" if side_by_side > 1 else ""
    say(console, f"In all about {duration(seconds)}{some}.")
    if at_once == 1 and len(each) > 1 and seconds > _A_WHILE and _has_cores(dataset):
        say(console, f"--jobs 2 does two {what} at a time, which with small networks is faster on a CPU.")
    if seconds > _A_DAY and benchmark.protocol == "full":
        say(console, "That is the full protocol; --quick is a short one for a CPU.", "yellow")


def in_all(each: Iterable[float], at_once: int) -> float:
    """Return how long runs take in all, each in seconds, that are done in this order and so many at a time.

    Those that are done side by side have processes of their own.
    """
    ends = [0.0] * max(1, at_once)
    starts = _STARTS if at_once > 1 else 0.0
    for seconds in each:
        heapq.heapreplace(ends, ends[0] + seconds + starts)
    return max(ends)


def agreed(console: Console, each: Iterable[float], yes: bool, at_once: int = 1) -> bool:
    """Return whether to begin: asked on a terminal before more than a day of work, without `yes`."""
    seconds = in_all(each, at_once)
    if yes or seconds <= _A_DAY or not console.is_terminal or not sys.stdin.isatty():
        return True
    return typer.confirm(f"This takes about {duration(seconds)}. Begin?")


def _has_cores(dataset: Dataset) -> bool:
    import torch

    return dataset.device.type == "cpu" and torch.get_num_threads() > 1


def tell_busy(console: Console, consequence: str, device: str = "cpu") -> None:
    """Warn where other work uses the processor, and of the consequence; of work on another device, say nothing."""
    import torch

    from mtlbench.busy import STARVED, share_of_cores

    if device != "cpu":
        return
    share = share_of_cores(torch.get_num_threads())
    if share < STARVED:
        got = f"mtlbench gets {100 * share:.0f} % of the processor time that it asks for"
        say(console, f"This machine is busy: {got}. {consequence}.", "yellow")


def _show_head(console: Console, part: Part) -> None:
    from mtlbench.devices import device_name

    data, benchmark = part.dataset, part.variant.benchmark
    drawn = f" on {data.facts['name']}, not real images" if data.facts["rendered"] else ""
    varied = "".join(f", {key}={value}" for key, value in part.variant.varied.items())
    tasks = counted(len(data.tasks), "task")
    say(
        console,
        f"{benchmark.title} ({benchmark.name}{varied}){drawn}: {tasks} ({listed(data.tasks)}),"
        f" {data.facts['train_images']:,} / {data.facts['val_images']:,} / {data.facts['test_images']:,} images,"
        f" {counted(benchmark.train.steps, 'step')}, on {device_name(data.device)}, {part.precision}",
    )


def _show_jobs(console: Console, part: Part) -> dict[Path, float]:
    """Print a line per run; return the seconds that each run to be trained will take, by folder."""
    import torch

    from mtlbench.jobs.plan import seconds_needed

    benchmark = part.variant.benchmark
    whole: dict[str, tuple[float, str]] = {}  # seconds of a whole run, or why they can't be told, by method
    left: dict[Path, float] = {}
    names = list(dict.fromkeys(job.method.name for job in part.jobs if job.state != "done"))
    for job in part.jobs:
        words = {
            "done": "done already",
            "interrupted": f"continues from step {job.steps_done:,}",
            "failed": "failed before, tried again",
            "new": "to do",
        }[job.state]
        if job.costs_due:
            words = "done, but its costs are still to be measured"
        other = part.dataset.device.type == "cpu" and job.threads not in (0, torch.get_num_threads())
        threads = f"{job.threads} thread{'s' * (job.threads > 1)}"
        if job.state == "done":
            words += f", with {threads}" if other else ""
        else:
            name = job.method.name
            if name not in whole:
                with status(console, f"timing a few steps of {name}, {len(whole) + 1} of {len(names)} methods …"):
                    whole[name] = seconds_needed(job.method, job.seed, benchmark, part.dataset, part.precision)
            seconds, reason = whole[name]
            seconds *= 1 - job.steps_done / benchmark.train.steps
            left[job.folder] = seconds
            words += f" with the {threads} that it began with" if other else ""
            words += f", but its first steps failed: {reason}" if reason else f", about {duration(seconds)}"
        say(console, f"  {job.label}: {words}")
    return left

"""The plan as `mtlbench run` prints it: what is done, what goes on, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mtlbench.cli.progress import duration, say, status

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.jobs.experiment import Part

_A_DAY = 86_400


def show_plan(console: Console, parts: Sequence[Part]) -> None:
    """Print what will be done and how long it will take, from a few timed steps of each method."""
    left, timed = 0.0, False
    for part in parts:
        if part is parts[0] or part.variant.varied:
            _show_head(console, part)
        seconds = _show_jobs(console, part)
        left, timed = left + (seconds or 0.0), timed or seconds is not None
    if timed:
        say(console, f"In all about {duration(left)}.")
    if left > _A_DAY and parts[0].variant.benchmark.protocol == "full":
        say(console, "That is the full protocol; --quick is a short one for a CPU.", "yellow")


def _show_head(console: Console, part: Part) -> None:
    from mtlbench.devices import device_name

    data, benchmark = part.dataset, part.variant.benchmark
    drawn = f" on {data.facts['name']}, not real images" if data.facts["rendered"] else ""
    varied = "".join(f", {key}={value}" for key, value in part.variant.varied.items())
    say(
        console,
        f"{benchmark.title} ({benchmark.name}{varied}){drawn}: {len(data.tasks)} tasks ({', '.join(data.tasks)}),"
        f" {data.facts['train_images']:,} / {data.facts['val_images']:,} / {data.facts['test_images']:,} images,"
        f" {benchmark.train.steps:,} steps, on {device_name(data.device)}, {part.precision}",
    )


def _show_jobs(console: Console, part: Part) -> float | None:
    """Print a line per run; return the seconds that they take, or None where nothing is to be trained."""
    import torch

    from mtlbench.jobs.plan import seconds_needed

    benchmark = part.variant.benchmark
    whole: dict[str, tuple[float, str]] = {}  # seconds of a whole run, or why they can't be told, by method
    left = 0.0
    for job in part.jobs:
        words = {
            "done": "done already",
            "interrupted": f"goes on from step {job.steps_done:,}",
            "failed": "failed before, tried again",
            "new": "to do",
        }[job.state]
        if job.costs_due:
            words = "done already, but for its costs"
        other = part.dataset.device.type == "cpu" and job.threads not in (0, torch.get_num_threads())
        threads = f"{job.threads} thread{'s' * (job.threads > 1)}"
        if job.state == "done":
            words += f", with {threads}" if other else ""
        else:
            name = job.method.name
            if name not in whole:
                with status(console, f"timing a few steps of {name} …"):
                    whole[name] = seconds_needed(job, benchmark, part.dataset, part.precision)
            seconds, reason = whole[name]
            seconds *= 1 - job.steps_done / benchmark.train.steps
            left += seconds
            words += f" with the {threads} that it began with" if other else ""
            words += f", but its first steps failed: {reason}" if reason else f", about {duration(seconds)}"
        say(console, f"  {job.label}: {words}")
    return left if whole else None

"""`mtlbench run`: plan, train, evaluate, compare."""

from __future__ import annotations

import os
import signal
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtlbench.cli.progress import bar, duration, say, status, watcher

if TYPE_CHECKING:
    from rich.console import Console


class Precision(StrEnum):
    """In which numbers networks run."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


def run(
    dataset: Annotated[
        str, typer.Option(help="A benchmark (see: mtlbench list benchmarks) or the path of your own .toml.")
    ],
    methods: Annotated[
        str, typer.Option(help="Groups and methods: core, all, modulation,shared+gradnorm[alpha=0.12].")
    ] = "core",
    quick: Annotated[
        bool, typer.Option("--quick", help="A short protocol for two CPU cores instead of the full one.")
    ] = False,
    data_dir: Annotated[Path | None, typer.Option(help="The data set's folder.", show_default=False)] = None,
    tasks: Annotated[str | None, typer.Option(help="Tasks by name, joined by commas.", show_default=False)] = None,
    seeds: Annotated[str, typer.Option(help="Seeds joined by commas: 0,1,2.")] = "0",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the protocol: --set train.steps=500; may be repeated.", show_default=False),
    ] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out images that are missing or broken, and count them.")
    ] = False,
    results: Annotated[Path, typer.Option(help="Where run records go.")] = Path("results"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Redo runs that are done already.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    precision: Annotated[
        Precision | None,
        typer.Option(help="auto takes bfloat16 where the device is made for it.", show_default="auto"),
    ] = None,
    plugins: Annotated[
        list[Path] | None,
        typer.Option(help="A file or folder with methods of your own; may be repeated.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its time, then stop.")] = False,
) -> None:
    """Train methods on a data set, judge them, and print the comparison.

    Runs that are done are skipped, interrupted ones go on. Exit code 1 if a method failed, 2 if nothing could be done.
    """
    from rich.console import Console

    # what torch's profiler, which counts memory, would write into the live view
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    console = Console()
    with status(console, "loading torch …"):
        import torch

        from mtlbench.benchmark import load_benchmark
        from mtlbench.data.dataset import prepare
        from mtlbench.devices import choose_device, choose_precision
        from mtlbench.errors import UserError
        from mtlbench.jobs.execute import execute
        from mtlbench.jobs.memory import guard_memory
        from mtlbench.jobs.plan import plan
        from mtlbench.networks import build
        from mtlbench.plugins import load_plugins
        from mtlbench.runs import remove_run
        from mtlbench.runs.references import references
        from mtlbench.specs import left_out_line, left_out_methods, parse_methods
        from mtlbench.training.protocol import check_protocol
        from mtlbench.training.state import Interrupted

    for broken in load_plugins(plugins or []):
        say(console, f"warning: {broken}", "yellow")
    chosen = parse_methods(methods)
    waiting = left_out_methods(methods)
    if waiting:
        say(console, f"note: {left_out_line(waiting)}", "yellow")
    overrides = [*(settings or []), *([f"train.precision={precision.value}"] if precision else [])]
    overrides += ["data.skip_unreadable=true"] if skip_unreadable else []
    benchmark = load_benchmark(dataset, quick=quick, settings=overrides)
    check_protocol(benchmark)
    numbers = _seeds(seeds)
    wanted = [t.strip() for t in tasks.split(",") if t.strip()] if tasks is not None else None
    place = choose_device(device)
    accuracy = choose_precision(benchmark.train.precision, place)

    with bar(console, "drawing images") as drawing, bar(console, "packing images") as packing:
        data, notes = prepare(benchmark, data_dir, wanted, place, drawing, packing, lambda words: say(console, words))
    guard_memory()
    for note in notes:
        say(console, f"note: {note}", "yellow")
    for method in chosen:  # an option that a method refuses is found before anything is trained
        try:
            with torch.device("meta"):
                build(method, benchmark, data.tasks, 0)
        except UserError:
            raise
        except Exception as error:  # a fault in a plug-in: its own run will fail with it, and the others run on
            say(console, f"warning: {method.name}: {error}", "yellow")

    jobs = plan(chosen, numbers, benchmark, data, accuracy, results, overwrite)
    if not dry_run:  # a folder that can't be written to is found before anything is timed
        results.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=results).close()
    _show_plan(console, jobs, benchmark, data, accuracy, place)
    if dry_run:
        return
    if overwrite:
        for job in jobs:
            remove_run(job.folder)
    with status(console, "measuring the reference rows …"):
        references(numbers, benchmark, data, accuracy, results, overwrite)
    asked = False

    def ask(signum: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        say(console, "Stopping as soon as this run can be kept; once more to stop at once.", "yellow")

    failed = 0
    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with watcher(console, sum(job.state != "done" for job in jobs)) as seen:
            for job in jobs:
                if job.state != "done":
                    record = execute(job, benchmark, data, accuracy, seen, lambda: asked)
                    failed += record.status == "failed"
                if asked:
                    raise Interrupted
    except Interrupted:
        same = "The same command without --overwrite" if overwrite else "The same command"
        say(console, f"Stopped; what is done is kept. {same} goes on from here.")
        raise typer.Exit(130) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    _show_tables(console, jobs, results, benchmark.name)
    if failed:
        raise typer.Exit(1)


def _seeds(text: str) -> list[int]:
    from mtlbench.errors import UserError

    try:
        seeds = list(dict.fromkeys(int(word) for word in text.split(",") if word.strip()))
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**32:
        raise UserError(f"--seeds {text}: give whole numbers from 0 to 2^32 - 1 joined by commas, such as 0,1,2.")
    return seeds


def _show_tables(console: Console, jobs: Any, results: Path, name: str) -> None:
    """Print the tables of the methods that were asked for, with all their seeds, and of the reference rows.

    Other methods' runs count in the comparison, as they do in `mtlbench report`: a verdict hangs on how many there are.
    """
    from mtlbench.cli.report import say_next
    from mtlbench.report.summary import Choice
    from mtlbench.report.tables import show
    from mtlbench.runs import find_records

    console.print()
    show(find_records(results, name), "table", console, Choice(folders=frozenset(job.folder for job in jobs)), results)
    say_next(console, name, results)
    say(console, f"Records: {results / name}")


def _show_plan(console: Console, jobs: Any, benchmark: Any, data: Any, precision: str, place: Any) -> None:
    """Print what will be done and how long it will take, from a few timed steps of each method."""
    from mtlbench.devices import device_name
    from mtlbench.jobs.plan import seconds_needed

    drawn = f" on {data.facts['name']}, not real images" if data.facts["rendered"] else ""
    say(
        console,
        f"{benchmark.title} ({benchmark.name}){drawn}: {len(data.tasks)} tasks ({', '.join(data.tasks)}),"
        f" {data.facts['train_images']:,} / {data.facts['val_images']:,} / {data.facts['test_images']:,} images,"
        f" {benchmark.train.steps:,} steps, on {device_name(place)}, {precision}",
    )
    whole: dict[str, tuple[float, str]] = {}  # seconds of a whole run, or why they can't be told, by method
    left = 0.0
    for job in jobs:
        words = {
            "done": "done already",
            "interrupted": f"goes on from step {job.steps_done:,}",
            "failed": "failed before, tried again",
            "new": "to do",
        }[job.state]
        if job.state != "done":
            name = job.method.name
            if name not in whole:
                with status(console, f"timing a few steps of {name} …"):
                    whole[name] = seconds_needed(job, benchmark, data, precision)
            seconds, reason = whole[name]
            seconds *= 1 - job.steps_done / benchmark.train.steps
            left += seconds
            words += f", but its first steps failed: {reason}" if reason else f", about {duration(seconds)}"
        say(console, f"  {job.method.name}, seed {job.seed}: {words}")
    if whole:
        say(console, f"In all about {duration(left)}.")
    if left > 86_400 and not benchmark.name.endswith("-quick"):
        say(console, "That is the full protocol; --quick is a short one for a CPU.", "yellow")

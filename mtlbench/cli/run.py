"""`mtlbench run`: plan, train, evaluate, compare."""

from __future__ import annotations

import os
import re
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtlbench.cli.live import watcher
from mtlbench.cli.planned import Part, show_plan
from mtlbench.cli.progress import bar, say, status

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.benchmark import Benchmark
    from mtlbench.jobs.executors.contract import Executor
    from mtlbench.jobs.factors import Variant
    from mtlbench.jobs.job import Job, Site
    from mtlbench.jobs.tracking import Chosen
    from mtlbench.runs import Json
    from mtlbench.specs import Method


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
    seeds: Annotated[str, typer.Option(help="Seeds: 0,1,2 or 0-4.")] = "0",
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
    jobs: Annotated[
        int | None, typer.Option(min=1, help="So many runs at a time, each in a process.", show_default="1")
    ] = None,
    on: Annotated[
        str | None, typer.Option(help="Who does the runs: here, processes[jobs=4].", show_default="here")
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            help="Train every method under each value: --vary train.lr=1e-3,3e-3; may be repeated.", show_default=False
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--track", help="Tell a tracker what happens: --track tensorboard; may be repeated.", show_default=False
        ),
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

        from mtlbench.devices import choose_device
        from mtlbench.jobs.data import forget
        from mtlbench.jobs.factors import variants
        from mtlbench.jobs.job import Site
        from mtlbench.jobs.tracking import read_trackers
        from mtlbench.plugins import load_plugins
        from mtlbench.specs import left_out_line, left_out_methods, parse_methods

    for broken in load_plugins(plugins or []):
        say(console, f"warning: {broken}", "yellow")
    chosen = parse_methods(methods)
    trackers = read_trackers(track or [])
    waiting = left_out_methods(methods)
    if waiting:
        say(console, f"note: {left_out_line(waiting)}", "yellow")
    executor, trackers = _executor(jobs, on), read_trackers(track or [])
    overrides = [*(settings or []), *([f"train.precision={precision.value}"] if precision else [])]
    overrides += ["data.skip_unreadable=true"] if skip_unreadable else []
    versions = variants(dataset, quick, overrides, vary or [])
    numbers = read_seeds(seeds)
    wanted = tuple(t.strip() for t in tasks.split(",") if t.strip()) if tasks is not None else None
    site = Site(data_dir, str(choose_device(device)), tuple(plugins or ()), wanted)
    before = torch.get_num_threads()
    forget()
    try:
        torch.set_num_threads(executor.threads(before))  # for timing too: records say with how many they were made
        parts = _parts(console, versions, chosen, numbers, site, results, overwrite)
        if not dry_run:  # a folder that can't be written to is found before anything is timed
            results.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=results).close()
        show_plan(console, parts)
        if dry_run:
            return
        failed = _train(console, executor, trackers, parts, numbers, results, overwrite)
    finally:
        forget()
        torch.set_num_threads(before)
    _show_tables(console, parts, results)
    if failed:
        raise typer.Exit(1)


def _executor(jobs: int | None, on: str | None) -> Executor:
    from mtlbench.errors import UserError
    from mtlbench.options import read_spec
    from mtlbench.registry import EXECUTORS

    if jobs is not None and on is not None:
        raise UserError(f"--jobs {jobs} is --on processes[jobs={jobs}]: give one of the two.")
    entry, options = read_spec(EXECUTORS, on or (f"processes[jobs={jobs}]" if jobs and jobs > 1 else "here"))
    made: Executor = entry.target(**options)
    return made


def _parts(
    console: Console,
    versions: Sequence[Variant],
    methods: Sequence[Method],
    seeds: Sequence[int],
    site: Site,
    results: Path,
    overwrite: bool,
) -> list[Part]:
    """Prepare the data of every variant and plan its runs; what can't work is found before anything is trained."""
    import torch

    from mtlbench.jobs.data import prepared
    from mtlbench.jobs.memory import guard_memory
    from mtlbench.jobs.plan import plan
    from mtlbench.soundness import sound_precision
    from mtlbench.training.protocol import check_protocol

    device, parts, told = torch.device(site.device), [], set()

    def tell(words: str) -> None:
        say(console, words)

    for version in versions:
        check_protocol(version.benchmark)
    for version in versions:
        with bar(console, "drawing images") as drawing, bar(console, "packing images") as packing:
            data, notes = prepared(
                version.benchmark,
                site.data_dir,
                site.tasks,
                device,
                drawing,
                packing,
                tell,
            )
        for note in notes:
            if note not in told:
                say(console, f"note: {note}", "yellow")
        told.update(notes)
        _check_builds(console, methods, version.benchmark, data.tasks)
        precision, warning = sound_precision(version.benchmark, device)
        if warning and warning not in told:
            say(console, f"note: {warning}", "yellow")
        told.add(warning)
        jobs = plan(
            methods, seeds, version.benchmark, data, precision, results, overwrite,
            site=site, varied=version.varied, reference_varied=version.reference_varied,
        )  # fmt: skip
        parts.append(Part(version, data, precision, jobs))
    guard_memory()
    return parts


def _check_builds(console: Console, methods: Sequence[Method], benchmark: Benchmark, tasks: tuple[str, ...]) -> None:
    """Find an option that a method refuses before anything is trained."""
    import torch

    from mtlbench.errors import UserError
    from mtlbench.networks import build

    for method in methods:
        try:
            with torch.device("meta"):
                build(method, benchmark, tasks, 0)
        except UserError:
            raise
        except Exception as error:  # a fault in a plug-in: its own run will fail with it, and the others run on
            say(console, f"warning: {method.name}: {error}", "yellow")


def _train(
    console: Console,
    executor: Executor,
    trackers: Chosen,
    parts: Sequence[Part],
    seeds: Sequence[int],
    results: Path,
    overwrite: bool,
) -> bool:
    """Do the runs; tell whether one failed."""
    from mtlbench.errors import UserError
    from mtlbench.jobs.failure import reason_of
    from mtlbench.jobs.tracking import tracking
    from mtlbench.runs import read_record
    from mtlbench.runs.references import references
    from mtlbench.training.state import Interrupted

    jobs = [job for part in parts for job in part.jobs]
    if overwrite:
        _remove(jobs)
    with status(console, "measuring the reference rows …"):
        judged: list[Json] = []
        for part in parts:
            varied = part.variant.reference_varied
            if varied in judged:
                continue
            judged.append(varied)
            try:
                references(seeds, part.variant.benchmark, part.dataset, part.precision, results, overwrite, varied)
            except (UserError, OSError):
                raise
            except Exception as error:  # a fault in a plug-in's backbone or metric: the runs will say it too
                say(console, f"warning: the reference rows can't be measured: {reason_of(error)}", "yellow")
    todo = [job for job in jobs if job.state != "done" or job.costs_due]
    with _asking(console) as asked:
        try:
            with (
                watcher(console, len(todo)) as shown,
                tracking(trackers, shown, lambda words: say(console, f"warning: {words}", "yellow")) as seen,
            ):
                executor.run(todo, seen, asked)
        except (UserError, OSError):
            raise
        except Interrupted:
            same = "The same command without --overwrite" if overwrite else "The same command"
            say(console, f"Stopped; what is done is kept. {same} goes on from here.")
            raise typer.Exit(130) from None
        except Exception as error:  # what is done is kept
            raise UserError(f"The executor failed: {reason_of(error)}. What is done is kept.") from error
    records = [read_record(job.folder) for job in todo]
    return any(record is None or record.status == "failed" for record in records)


def _remove(jobs: Sequence[Job]) -> None:
    """Remove the runs that are to be made anew."""
    from mtlbench.errors import UserError
    from mtlbench.runs import remove_run
    from mtlbench.runs.lock import Busy, busy_with, working_on

    for job in jobs:
        if who := busy_with(job.folder):
            raise UserError(f"{who} works on {job.folder}: nothing is replaced. Stop it first, or wait for its end.")
    for job in jobs:
        try:
            with working_on(job.folder):
                remove_run(job.folder)
        except Busy as busy:
            raise UserError(f"{busy.who} works on {job.folder}: stop it first, or wait for its end.") from busy


@contextmanager
def _asking(console: Console) -> Iterator[Callable[[], bool]]:
    """Yield what tells whether the user asked to stop; asking twice stops at once."""
    asked = False

    def ask(signum: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        say(console, "Stopping as soon as the runs under way can be kept; once more to stop at once.", "yellow")

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def read_seeds(text: str) -> list[int]:
    """Read `0,1,2` or `0-4`, or both joined by commas.

    Raises:
        UserError: something else, a number that torch takes for no seed, or more than a thousand.
    """
    from mtlbench.errors import UserError

    seeds: dict[int, None] = {}
    for word in filter(None, (w.strip() for w in text.split(","))):
        found = re.fullmatch(r"(\d{1,10})(?:\s*-\s*(\d{1,10}))?", word)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if last < first or last >= 2**32 or last - first >= 1000:
            seeds.clear()
            break
        seeds.update(dict.fromkeys(range(first, last + 1)))
    if not seeds:
        raise UserError(f"--seeds {text}: give whole numbers from 0 to 2^32 - 1, such as 0,1,2 or 0-4.")
    return list(seeds)


def _show_tables(console: Console, parts: Sequence[Part], results: Path) -> None:
    """Print the tables of the methods that were asked for, with all their seeds, and of the reference rows.

    Other methods' runs count in the comparison, as they do in `mtlbench report`: a verdict hangs on how many there are.
    """
    from mtlbench.cli.report import say_next
    from mtlbench.report.summary import Choice
    from mtlbench.report.tables import show
    from mtlbench.runs import find_records

    name = parts[0].variant.benchmark.name
    wanted = frozenset(job.folder for part in parts for job in part.jobs)
    varied = tuple(dict.fromkeys(key for part in parts for key in part.variant.varied))
    console.print()
    show(find_records(results, name), "table", console, Choice(folders=wanted, across=varied), results)
    say_next(console, name, results, varied)
    say(console, f"Records: {results / name}")

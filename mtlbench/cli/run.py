"""`mtlbench run`: plan, train, evaluate, compare."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlbench.cli.live import terminal
from mtlbench.cli.options import (
    DataDirOption,
    DatasetOption,
    DeviceOption,
    JobsOption,
    MethodsOption,
    NotesOption,
    OnOption,
    PluginsOption,
    QuickOption,
    SettingsOption,
    TasksOption,
)
from mtlbench.cli.planned import agreed, show_plan
from mtlbench.cli.progress import say, status

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.jobs.experiment import Part


class Precision(StrEnum):
    """The numbers in which networks run."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Compile(StrEnum):
    """Whether networks are compiled for training."""

    auto = "auto"
    on = "on"
    off = "off"


def run(
    dataset: DatasetOption,
    methods: MethodsOption = "core",
    quick: QuickOption = False,
    data_dir: DataDirOption = None,
    tasks: TasksOption = None,
    seeds: Annotated[str, typer.Option(help="Seeds: 0,1,2 or 0-4.")] = "0",
    settings: SettingsOption = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out images that are missing or broken, and count them.")
    ] = False,
    results: Annotated[Path, typer.Option(help="The folder for run records.")] = Path("results"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Repeat runs that are already done.")] = False,
    device: DeviceOption = "auto",
    precision: Annotated[
        Precision | None,
        typer.Option(help="auto uses bfloat16 where the device is made for it.", show_default="auto"),
    ] = None,
    compile_: Annotated[
        Compile | None,
        typer.Option("--compile", help="Train with torch.compile; auto: long runs on a GPU.", show_default="off"),
    ] = None,
    plugins: PluginsOption = None,
    jobs: JobsOption = None,
    on: OnOption = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            help="Train every method under each value: --vary train.lr=1e-3,3e-3; may be repeated.", show_default=False
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option("--track", help="Log to a tracker: --track tensorboard; may be repeated.", show_default=False),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Ignore the benchmark's recipes.")] = False,
    recipes: Annotated[
        Path | None,
        typer.Option(
            help="Use the recipes of this file, which mtlbench tune --write made, before the benchmark's.",
            show_default="the benchmark's own",
        ),
    ] = None,
    notes: NotesOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Begin long work without being asked.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its time, then stop.")] = False,
) -> None:
    """Train methods on a data set, evaluate them, and print the comparison.

    Skips finished runs and continues interrupted ones. Exit code 1 if a method failed, 2 if nothing could be done.
    """
    from rich.console import Console

    # what torch's profiler, which counts memory, would write into the live view
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    console = Console()
    with status(console, "loading torch …"):
        from mtlbench.jobs.experiment import (
            asking,
            at_once,
            check_folder,
            plan_experiment,
            read_experiment,
            resources_of,
            train,
        )
        from mtlbench.jobs.job import Site
        from mtlbench.plugins import load_given
        from mtlbench.training.state import Interrupted

    planned: dict[Path, float] = {}
    view = terminal(console, planned)
    for broken in load_given(plugins or []):
        view.warn(f"warning: {broken}")
    overrides = [*(settings or []), *([f"train.precision={precision.value}"] if precision else [])]
    overrides += [f"train.compile={compile_.value}"] if compile_ else []
    overrides += ["data.skip_unreadable=true"] if skip_unreadable else []
    experiment = read_experiment(
        view, dataset=dataset, methods=methods, quick=quick, seeds=read_seeds(seeds), settings=overrides,
        vary=vary or [], tasks=tasks, site=Site(data_dir, device, tuple(plugins or ())), results=results, jobs=jobs,
        on=on, track=track or [], overwrite=overwrite, plain=plain, recipes=recipes,
    )  # fmt: skip
    with resources_of(experiment):
        parts = plan_experiment(experiment, view)
        if not dry_run:
            check_folder(results)
        planned.update(show_plan(console, parts, at_once(experiment.executor)))
        if dry_run:
            return
        if not agreed(console, planned.values(), yes, at_once(experiment.executor)):
            say(console, "Nothing was trained. --yes begins without being asked, --dry-run only shows the plan.")
            return
        try:
            with asking(lambda: tell_stopping(console)) as asked:
                failed = train(experiment, parts, view, asked)
        except Interrupted:
            same = "The same command without --overwrite" if overwrite else "The same command"
            say(console, f"Stopped; what is done is kept. {same} continues from here.")
            raise typer.Exit(130) from None
    _show_tables(console, parts, results, notes)
    if failed:
        raise typer.Exit(1)


def tell_stopping(console: Console) -> None:
    """Confirm that the user has asked to stop."""
    say(console, "Stopping as soon as the runs under way can be kept; once more to stop at once.", "yellow")


def read_seeds(text: str) -> list[int]:
    """Read `0,1,2` or `0-4`, or both joined by commas.

    Raises:
        UserError: something else, a number that torch does not take as a seed, or more than a thousand.
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


def _show_tables(console: Console, parts: Sequence[Part], results: Path, notes: bool = False) -> None:
    """Print the tables of the requested methods, with all their seeds, and of the reference rows.

    Write the conclusions beside the records, as `verdict.json`. Other methods' runs count in the comparison, as in
    `mtlbench report`: the verdict depends on how many methods there are.
    """
    from mtlbench.cli.report import say_next
    from mtlbench.report.summary import Choice, summarise
    from mtlbench.report.tables import for_terminal
    from mtlbench.report.verdict import write_verdicts
    from mtlbench.runs import find_records

    name = parts[0].variant.benchmark.name
    wanted = frozenset(job.folder for part in parts for job in part.jobs)
    varied = tuple(dict.fromkeys(key for part in parts for key in part.variant.varied))
    choice = Choice(folders=wanted, across=varied)
    found = summarise(find_records(results, name), choice, results)
    for summary in found:
        console.print()
        console.print(for_terminal(summary, console.width, notes))
    console.print()
    write_verdicts(results / name / "verdict.json", found)
    say_next(console, name, results, choice, notes)
    say(console, f"Records: {results / name}; verdict.json beside them")

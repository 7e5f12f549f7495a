"""`mtlbench runs`: lists, compares and removes the runs of a results folder."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtlbench.cli.options import ResultsOption
from mtlbench.cli.progress import say
from mtlbench.cli.report import folders
from mtlbench.errors import counted

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.runs import Record

runs_app = typer.Typer(no_args_is_help=True, help="List, compare or remove the runs of a results folder.")
_RECEIPT = ("device", "precision", "mtlbench", "commit", "torch", "torchvision", "python", "system", "date")
_FoldersArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="FOLDER", help="Folders of runs, or of a method or benchmark, with all runs below.", show_default=False
    ),
]


@runs_app.command("list")
def list_(
    benchmark: Annotated[
        str | None,
        typer.Argument(help="Only this benchmark's runs, by its folder's name.", autocompletion=folders),
    ] = None,
    results: ResultsOption = Path("results"),
    all: Annotated[
        bool, typer.Option("--all", help="Also the runs of results folders inside it, such as published.")
    ] = False,
) -> None:
    """List runs, a line each: done, failed or interrupted, with mean accuracy, date and size on disk."""
    from rich.console import Console

    from mtlbench.errors import UserError
    from mtlbench.report.grids import Grid, for_terminal
    from mtlbench.runs import results_inside

    place = results / benchmark if benchmark else results
    found = _below(place)
    if not found:
        there = results_inside(results, benchmark)
        hint = f" {there[0]} has some: mtlbench runs list {benchmark} --results {there[0]}" if there else ""
        raise UserError(f"There are no runs in {place}.{hint}")
    own, inside = (found, {}) if all else _apart(place, found)
    console = Console()
    if not console.is_terminal:
        console.width = 1000  # for grep and the like: a line each
    if own:
        body = [_line(folder, results) for folder in own]
        head = ["run", "state", "accuracy %", "date", "MB"]
        title = f"{counted(len(own), 'run')} in {place}"
        console.print(for_terminal([Grid(title, head, body, names=2)], [], console.width))
    else:
        say(console, f"There are no runs in {place} itself.")
    for folder, number in inside.items():
        say(console, f"{counted(number, 'run')} in {folder}: --all lists them too.")


def _line(folder: Path, results: Path) -> list[str]:
    from mtlbench.errors import UserError
    from mtlbench.runs import read_record

    name = str(folder.relative_to(results)) if folder.is_relative_to(results) else str(folder)
    size = f"{_size(folder) / 1e6:,.1f}"
    try:
        record = read_record(folder)
    except UserError:
        return [name, "unreadable", "", "", size]
    if record is None:
        return [name, "interrupted", "", "", size]
    mean = record.accuracy
    state = "collapsed" if record.collapsed else record.status
    date = str(record.receipt.get("date", ""))[:10]
    return [name, state, "" if mean is None else f"{100 * mean:.1f}", date, size]


def _below(place: Path) -> list[Path]:
    """Return the folders of runs in a folder, or itself alone, sorted; includes interrupted runs."""
    from mtlbench.runs import partial_folder

    def is_run(folder: Path) -> bool:
        return folder.suffix == "" and ((folder / "run.json").is_file() or partial_folder(folder).is_dir())

    if place.name.startswith("seed-"):
        return [place] if is_run(place) else []
    every = {path.with_name(path.name.removesuffix(".partial")) for path in place.rglob("seed-*")}
    return sorted(folder for folder in every if is_run(folder))


def _apart(place: Path, found: Sequence[Path]) -> tuple[list[Path], Mapping[Path, int]]:
    """Return the runs of a folder itself, and of each results folder inside it how many there are."""
    own = dict.fromkeys(run for run in found if len(run.relative_to(place).parts) <= _depth(run))
    return list(own), Counter(run.parents[_depth(run) - 1] for run in found if run not in own)


def _depth(run: Path) -> int:
    """Return how deep a run lies in its results folder: benchmark, method, seed; of a trial, two folders deeper."""
    return 5 if run.parent.name.startswith("trial-") else 3


def _size(folder: Path) -> int:
    from mtlbench.runs import partial_folder

    files = [path for place in (folder, partial_folder(folder)) for path in place.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files)


@runs_app.command("rm")
def remove(
    folders: _FoldersArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without being asked.")] = False,
) -> None:
    """Remove runs: their records and interrupted runs' files. tried.jsonl still notes what was tried.

    A results folder inside another, such as results/published, stays unless it is named alone.
    """
    from contextlib import suppress

    from rich.console import Console

    from mtlbench.errors import UserError
    from mtlbench.runs import remove_run
    from mtlbench.runs.lock import Busy, working_on

    console = Console()
    found = list(dict.fromkeys(run for folder in folders for run in _meant(folder, len(folders) == 1, console)))
    if not found:
        raise UserError("Nothing was removed: name a results folder alone, or what is in it.")
    for run in found:
        say(console, str(run))
    if not yes:
        if not sys.stdin.isatty():
            raise UserError("Nothing was removed: there is no terminal to ask on. --yes removes without asking.")
        runs = f"these {counted(len(found), 'run')}, {sum(map(_size, found)) / 1e6:,.1f} MB"
        if not typer.confirm(f"Remove {runs if len(found) > 1 else 'this run'}?"):
            say(console, "Nothing was removed.")
            return
    busy = []
    for run in found:
        try:
            with working_on(run):
                remove_run(run)
        except Busy as error:
            busy.append(f"{run} ({error.who})")
            continue
        run.with_name(f".{run.name}.lock").unlink(missing_ok=True)
        run.parents[1].joinpath("verdict.json").unlink(missing_ok=True)  # it judges runs that are gone
        for above in list(run.parents)[:2]:  # of the method and of the benchmark, where nothing else is in them
            with suppress(OSError):
                above.rmdir()
    if busy:
        raise UserError(f"Not removed, because a process works on them: {', '.join(busy)}.")


def _meant(folder: Path, alone: bool, console: Console) -> list[Path]:
    """Return the runs that are removed with a folder: none of a results folder that is not named alone."""
    from mtlbench.errors import UserError

    found = _below(folder)
    if not found:
        raise UserError(f"{folder}: there is no run. mtlbench runs list shows what there is.")
    own, inside = _apart(folder, found)
    if not alone:
        whole = [run for run in own if len(run.relative_to(folder).parts) == _depth(run)]
        own = [run for run in own if run not in whole]
        inside = {**inside, **Counter(run.parents[_depth(run) - 1] for run in whole)}
    for kept, number in inside.items():
        say(console, f"Left as they are: {counted(number, 'run')} in {kept}, a results folder of its own.")
    return own


@runs_app.command("diff")
def diff(
    first: Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Another run's folder.", show_default=False)],
) -> None:
    """Show how two runs differ: settings, receipt and numbers."""
    from rich.console import Console

    from mtlbench.report.grids import Grid, for_terminal
    from mtlbench.runs import changes

    console = Console()
    one, other = _read(first), _read(second)
    settings = [(change.key, change.old, change.new) for change in changes(one.setup, other.setup)]
    settings += [
        (key, one.receipt.get(key), other.receipt.get(key))
        for key in _RECEIPT
        if one.receipt.get(key) != other.receipt.get(key)
    ]
    body = [[key, _shown(old), _shown(new)] for key, old, new in settings]
    grids = [Grid("Settings and receipt", ["setting", "first", "second"], body)] if body else []
    numbers = _numbers(one, other)
    grids += [Grid("Numbers", ["number", "first", "second", "difference"], numbers)] if numbers else []
    if not grids:
        say(console, "Nothing differs.")
        return
    console.width = console.width if console.is_terminal else 1000
    console.print(for_terminal(grids, [], console.width))


def _read(folder: Path) -> Record:
    from mtlbench.errors import UserError
    from mtlbench.runs import read_record

    record = read_record(folder)
    if record is None:
        raise UserError(f"{folder}: there is no record of a run. mtlbench runs list shows what there is.")
    return record


def _shown(value: Any) -> str:
    return "–" if value is None else str(value)


def _numbers(one: Record, other: Record) -> Sequence[list[str]]:
    """Return the triplet accuracies, in per cent, and costs that differ."""
    pairs: dict[str, tuple[float | None, float | None]] = {
        "mean accuracy %": (_percent(one.accuracy), _percent(other.accuracy))
    }
    for task in dict.fromkeys([*one.metrics, *other.metrics]):
        values = [_percent(record.metrics.get(task, {}).get("triplet")) for record in (one, other)]
        pairs[f"{task} %"] = (values[0], values[1])
    for key in dict.fromkeys([*one.costs, *other.costs]):
        pairs[key] = (one.costs.get(key), other.costs.get(key))
    return [
        [name, _number(a), _number(b), "" if a is None or b is None else f"{'+' * (b > a)}{_number(round(b - a, 6))}"]
        for name, (a, b) in pairs.items()
        if a != b
    ]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"

"""`mtlbench reproduce`: repeats runs from their records and compares the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlbench.cli.live import terminal
from mtlbench.cli.options import DataDirOption, DeviceOption, PluginsOption
from mtlbench.cli.planned import show_plan
from mtlbench.cli.progress import say, status
from mtlbench.cli.run import read_seeds, tell_stopping

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.report.reproduction import Repetition
    from mtlbench.runs import Record


def reproduce(
    folder: Annotated[
        Path,
        typer.Argument(
            help="The folder of a benchmark, a method or a run, such as results/published/shoes-quick.",
            show_default=False,
        ),
    ],
    methods: Annotated[
        str, typer.Option(help="Only these methods, groups or patterns: core,'shared*'.", show_default="all")
    ] = "",
    seeds: Annotated[str, typer.Option(help="Only these seeds: 0,1,2 or 0-4.", show_default="all")] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Where the weights are that runs began from: --set model.pretrained=FILE.", show_default=False
        ),
    ] = None,
    data_dir: DataDirOption = None,
    results: Annotated[Path, typer.Option(help="Where the new records go.")] = Path("results/reproduced"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Repeat runs that were already reproduced.")] = False,
    device: DeviceOption = "auto",
    plugins: PluginsOption = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many runs at a time, each in its own process.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its time, then stop.")] = False,
) -> None:
    """Repeat runs from their records, under the same settings, and compare the numbers.

    With the same number of threads, processor and versions, all numbers are the same; otherwise they differ by no
    more than another seed changes them. Exit code 1 if a method's numbers differ by more.
    """
    from rich.console import Console

    from mtlbench.errors import UserError

    console = Console()
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}: name a benchmark's folder of records, or one run's.")
    with status(console, "loading torch …"):
        from mtlbench.devices import choose_device
        from mtlbench.jobs.experiment import (
            Experiment,
            asking,
            at_once,
            check_folder,
            executor_of,
            resources_of,
            train,
        )
        from mtlbench.jobs.job import Site
        from mtlbench.jobs.reproduction import finished_runs, grouped, plan_again
        from mtlbench.plugins import load_given
        from mtlbench.report.reproduction import repetitions
        from mtlbench.runs import read_record
        from mtlbench.training.state import Interrupted

    planned: dict[Path, float] = {}
    view = terminal(console, planned)
    for broken in load_given(plugins or []):
        view.warn(f"warning: {broken}")
    weights = _weights(settings or [])
    published = finished_runs(folder)
    chosen = _chosen(published, methods, seeds)
    if results.resolve() in (folder.resolve(), *folder.resolve().parents[:2]):
        raise UserError(f"--results {results} holds the records to reproduce: name another folder.")
    site = Site(data_dir, str(choose_device(device)), tuple(plugins or ()))
    experiment = Experiment([], [], [], site, results, executor_of(jobs, None), overwrite=overwrite)
    with resources_of(experiment):
        groups = grouped(chosen, weights)
        parts = plan_again(groups, experiment, view)
        planned.update(show_plan(console, parts, at_once(experiment.executor)))
        if dry_run:
            return
        check_folder(results)
        try:
            with asking(lambda: tell_stopping(console)) as asked:
                train(experiment, parts, view, asked)
        except Interrupted:
            say(console, "Stopped; what is done is kept. The same command continues from here.")
            raise typer.Exit(130) from None
    originals = [record for group in groups for record in group.originals]
    folders = [job.folder for part in parts for job in part.jobs]
    found = repetitions(
        published, [(old, read_record(place)) for old, place in zip(originals, folders, strict=True)], results
    )
    _show(console, found)
    say(console, f"Records: {results}")
    if any(one.verdict in ("differs", "failed") for one in found):
        raise typer.Exit(1)


def _weights(settings: Sequence[str]) -> Path | None:
    """Return the file of `--set model.pretrained=FILE`; all else is the records' to set."""
    from mtlbench.errors import UserError

    found = None
    for text in settings:
        key, _, file = text.partition("=")
        if key.strip() != "model.pretrained" or not file:
            raise UserError(f"--set {text}: records hold all settings but the path in --set model.pretrained=FILE.")
        found = Path(file)
    return found


def _chosen(published: Sequence[Record], methods: str, seeds: str) -> list[Record]:
    """Return the records of some methods and seeds.

    Raises:
        UserError: none of them, or a seed that there isn't.
    """
    from mtlbench.errors import UserError
    from mtlbench.report.summary import chosen_records

    chosen = chosen_records(published, methods)
    if not seeds:
        return chosen
    wanted, known = read_seeds(seeds), sorted({record.seed for record in chosen})
    if absent := sorted(set(wanted) - set(known)):
        raise UserError(f"--seeds {seeds}: there is no run of seed {absent[0]}. There: {', '.join(map(str, known))}.")
    return [record for record in chosen if record.seed in wanted]


def _show(console: Console, found: Sequence[Repetition]) -> None:
    from rich.box import HORIZONTALS
    from rich.table import Table
    from rich.text import Text

    from mtlbench.report.reproduction import MEANINGS

    table = Table(box=HORIZONTALS, title="Mean triplet accuracy, %", title_style="", title_justify="left")
    for name, justify in (("method", "left"), ("seeds", "left"), ("record", "right"), ("here", "right"),
                          ("difference", "right"), ("allowed", "right"), ("", "left")):  # fmt: skip
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for one in found:
        colour = {"same": "green", "differs": "red", "failed": "red"}.get(one.verdict, "")
        here = one.verdict != "failed"
        table.add_row(
            Text(one.method),
            ", ".join(map(str, one.seeds)),
            f"{100 * one.before:.1f}",
            f"{100 * one.now:.1f}" if here else "",
            f"{100 * (one.now - one.before):+.1f}" if here else "",
            f"±{100 * one.tolerance:.1f}" if one.tolerance >= 0 and one.verdict != "same" else "",
            Text(one.verdict, style=colour),
        )
    console.print(table)
    for one in found:
        if one.reason:
            say(console, f"{one.method}: {one.reason}{f' ({one.worst})' if one.worst else ''}.", "red")
    if unlike := list(dict.fromkeys(words for one in found for words in one.conditions)):
        say(console, f"Other conditions: {'; '.join(unlike)}.")
    for verdict in dict.fromkeys(one.verdict for one in found):
        say(console, f"{verdict}: {MEANINGS[verdict]}.", "dim")

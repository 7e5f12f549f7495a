"""`mtlbench paper`: the modulation paper's tables, measured beside reported; --run trains what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlbench.cli.options import DataDirOption, JobsOption, OnOption
from mtlbench.cli.progress import say
from mtlbench.cli.report import Format

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.paper import FilledTable


def paper(
    table: Annotated[str | None, typer.Argument(help="Which table; without it, list all.")] = None,
    train: Annotated[bool, typer.Option("--run", help="Train what is missing; continues where it stopped.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="The short protocol, for two CPU cores.")] = False,
    data_dir: DataDirOption = None,
    seeds: Annotated[str, typer.Option(help="Seeds to train: 0,1,2 or 0-4.")] = "0",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Train under another protocol: --set model.pretrained=true; may be repeated.",
            show_default=False,
        ),
    ] = None,
    results: Annotated[Path, typer.Option(help="The folder of run records.")] = Path("results"),
    jobs: JobsOption = None,
    on: OnOption = None,
    format: Annotated[
        Format, typer.Option(metavar="FORMAT", help="How to write the table: table, md, latex or csv.")
    ] = Format.table,
) -> None:
    """Show a table of the modulation paper (Zhao et al., ECCV 2018): measured, reported, and the difference."""
    from rich.console import Console

    from mtlbench.cli.run import run
    from mtlbench.errors import UserError
    from mtlbench.paper import fill, load_table, paper_tables, run_settings

    console = Console()
    if table is None:
        for name in paper_tables():
            say(console, f"{name:12} {load_table(name).title}")
        return
    if format in (Format.runs, Format.verdict):
        raise UserError("The paper's tables come as --format table, md, latex or csv.")
    chosen = load_table(table)
    if train or chosen.kind == "storage":  # what was measured is shown without torch
        from mtlbench.plugins import load_plugins

        for broken in load_plugins():
            say(console, f"warning: {broken}", "yellow")
    if train and chosen.kind == "storage":
        raise UserError(f"{table} is counted, not trained: leave out --run.")
    if settings and not train:
        raise UserError("--set changes what is trained: it goes with --run.")
    if (jobs or on) and not train:
        raise UserError("--jobs and --on change how runs are trained: they go with --run.")
    code = 0
    if train:
        try:
            run(
                dataset=chosen.benchmark,
                methods=",".join(chosen.methods),
                quick=quick,
                data_dir=data_dir,
                seeds=seeds,
                settings=[*run_settings(table, chosen, quick), f"data.tasks={chosen.tasks!r}", *(settings or [])],
                results=results,
                jobs=jobs,
                on=on,
                plain=True,
            )
        except typer.Exit as stop:
            if stop.exit_code != 1:  # 1: a method failed, which the table says
                raise
            code = 1
    _show(console, fill(table, chosen, results, quick), format)
    if code:
        raise typer.Exit(code)


def _show(console: Console, filled: FilledTable, format: Format) -> None:
    import csv
    import sys

    from mtlbench.report.grids import as_markup, for_terminal, in_csv, notes

    if format is Format.csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(filled.values[0])
        writer.writerows([[in_csv(cell) for cell in row.values()] for row in filled.values])
    elif format is Format.table:
        console.print(for_terminal([filled.grid], notes(("small", filled.notes)), console.width))
    else:
        typer.echo(as_markup([filled.grid], notes(("small", filled.notes)), format.value))

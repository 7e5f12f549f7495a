"""`mtlbench data`: look at a data set on disk before training on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtlbench.cli.progress import bar, say

data_app = typer.Typer(no_args_is_help=True, help="Look at a data set on disk.")


@data_app.callback()
def _group() -> None:
    """Look at a data set on disk."""


@data_app.command("check")
def check(
    folder: Annotated[Path, typer.Argument(help="The data set's folder.", show_default=False)],
    all_tasks: Annotated[bool, typer.Option("--all", help="Show also the tasks without labels.")] = False,
) -> None:
    """Say which data set a folder holds and how many images each task labels; exit code 2 if it can't be used."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    from mtlbench.data.check import check_folder
    from mtlbench.data.table import SPLITS

    console = Console()
    with bar(console, "opening images") as opening:
        table, broken = check_folder(folder, opening)
    counts = [int((table.split == n).sum()) for n in range(len(SPLITS))]
    say(
        console,
        f"{folder}: {table.name}, {len(table):,} images ({' / '.join(f'{c:,}' for c in counts)} {' / '.join(SPLITS)},"
        f" {table.split_rule})",
    )
    shown = RichTable("task", *SPLITS, "values", "most common", "", box=None, header_style="bold", pad_edge=False)
    for name, column in table.columns.items():
        reason = table.trainable(name) or ""
        labelled = [int(((table.split == n) & (column.codes >= 0)).sum()) for n in range(len(SPLITS))]
        if not any(labelled) and not all_tasks:
            continue
        values = sorted(((int((column.codes == c).sum()), v) for c, v in enumerate(column.values)), reverse=True)
        common = ", ".join(f"{v} {n:,}" for n, v in values[:4]) + (", …" if len(values) > 4 else "")
        used = sum(n > 0 for n, _ in values)
        shown.add_row(name, *(f"{n:,}" for n in labelled), f"{used:,}", Text(common), Text(reason, style="red"))
    console.print(shown)
    empty = [t for t in table.columns if not (table.columns[t].codes >= 0).any()]
    if empty and not all_tasks:
        say(console, f"Without labels: {', '.join(empty)}.")
    for path, reason in broken[:10]:
        say(console, f"broken: {path}: {reason}")
    if broken:
        say(console, f"Images that can't be used: {len(broken):,}.")
    if not table.tasks_with_labels():
        say(console, "No task here can be trained and tested.")
    if broken or not table.tasks_with_labels():
        raise typer.Exit(2)

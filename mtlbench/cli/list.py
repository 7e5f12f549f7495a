"""`mtlbench list`: what there is to choose from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtlbench.cli.listing import CHOICES


def _known(kind: str) -> str:
    if kind not in CHOICES:
        raise typer.BadParameter(f"'{kind}' is not one of {', '.join(CHOICES)}.")
    return kind


def list_(
    kind: Annotated[
        str, typer.Argument(help=f"What to list: {', '.join(CHOICES)}.", show_default=False, callback=_known)
    ],
    benchmark: Annotated[str, typer.Option(help="Whose backbone methods' parameters are counted with.")] = "shoes",
    bibtex: Annotated[bool, typer.Option("--bibtex", help="Print the sources of methods as BibTeX.")] = False,
    plugins: Annotated[
        list[Path] | None, typer.Option(help="A file or folder with things of your own; may be repeated.")
    ] = None,
) -> None:
    """List what there is of a kind, with its options; or print citations."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mtlbench.cli.kept import listing
    from mtlbench.errors import UserError

    found = listing(kind, benchmark, plugins or [])
    for warning in found.warnings:
        typer.echo(warning, err=True)
    if bibtex:
        if kind in ("benchmarks", "settings"):
            raise UserError(f"mtlbench list {kind} has no sources: --bibtex is for methods and other things of a kind.")
        typer.echo("\n\n".join(found.citations))
        return
    console = Console()
    if not console.is_terminal:
        console.width = 1000  # for grep and the like: a line each
    table = Table(*found.headings, box=None, header_style="bold", pad_edge=False)
    for line in found.lines:
        table.add_row(*(Text(cell) for cell in line))
    console.print(table)
    for note in found.notes:
        console.print(f"\n{note}", markup=False, highlight=False)
    if kind == "methods":
        console.print(
            f"\nParameters: for T tasks, with the backbone of {benchmark}; balanced: the share of them that"
            " the balancer acts on, with its tasks. An architecture goes with any balancer:"
            " architecture+balancer[option=value]. Sources: --bibtex.",
            markup=False,
            highlight=False,
        )

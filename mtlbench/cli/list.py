"""`mtlbench list`: what there is to choose from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlbench.cli.listing import CHOICES

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from mtlbench.cli.listing import Listing

_PROSE = "what it is"  # the one column whose cells are sentences
_ENOUGH = 36  # characters that a column of sentences needs


def _known(kind: str) -> str:
    if kind not in CHOICES:
        raise typer.BadParameter(f"'{kind}' is not one of {', '.join(CHOICES)}.")
    return kind


def list_(
    kind: Annotated[
        str,
        typer.Argument(
            help=f"What to list: {', '.join(CHOICES)}.",
            show_default=False,
            callback=_known,
            autocompletion=lambda incomplete: [kind for kind in CHOICES if kind.startswith(incomplete)],
        ),
    ],
    benchmark: Annotated[str, typer.Option(help="Count parameters for this benchmark's backbone.")] = "shoes",
    bibtex: Annotated[bool, typer.Option("--bibtex", help="Print the sources of methods as BibTeX.")] = False,
    plugins: Annotated[
        list[Path] | None, typer.Option(help="A file or folder with things of your own; may be repeated.")
    ] = None,
) -> None:
    """List the methods, losses, backbones, … that there are, with their options; or print citations."""
    from rich.console import Console
    from rich.text import Text

    from mtlbench.cli.kept import listing
    from mtlbench.errors import UserError
    from mtlbench.report.grids import Trimmed

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
    console.print(Trimmed(_in_columns(found, console.width) or _in_blocks(found)), soft_wrap=False)
    for note in found.notes:
        console.print(Trimmed(Text(f"\n{note}")))
    if kind == "methods":
        console.print(
            Trimmed(
                Text(
                    f"\nParameters: for T tasks, two or more, with the backbone of {benchmark}; balanced: the share of"
                    " them that the balancer acts on, with its tasks. An architecture goes with any balancer:"
                    " architecture+balancer[option=value]. Sources: --bibtex."
                )
            )
        )


def _in_columns(found: Listing, width: int) -> Table | None:
    """Return a table in which sentences alone are wrapped; None where it does not fit the width."""
    from rich.table import Table
    from rich.text import Text

    needed = 0
    table = Table(box=None, header_style="bold", pad_edge=False)
    for place, heading in enumerate(found.headings):
        longest = max(map(len, (heading, *(line[place] for line in found.lines))))
        prose = heading == _PROSE
        needed += 2 + (min(longest, _ENOUGH) if prose else longest)
        table.add_column(Text(heading), no_wrap=not prose)
    if needed - 2 > width:
        return None
    for line in found.lines:
        table.add_row(*map(Text, line))
    return table


def _in_blocks(found: Listing) -> Group:
    """Return all things below each other: name, description, and the rest, a line each."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    parts: list[Text | Padding] = []
    for line in found.lines:
        cells = dict(zip(found.headings, line, strict=True))
        name, *rest = cells
        parts.append(Text(cells[name], style="bold"))
        if cells.get(_PROSE):
            parts.append(Padding(Text(cells[_PROSE]), (0, 0, 0, 2)))
        parts += [
            Padding(Text(f"{heading}: {cells[heading]}", style="dim"), (0, 0, 0, 4))
            for heading in rest
            if cells[heading] and heading != _PROSE
        ]
    return Group(*parts)

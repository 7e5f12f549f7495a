"""`mtlbench list`: what there is to choose from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mtlbench.registry import Entry


class Kind(StrEnum):
    """What can be listed."""

    methods = "methods"
    balancers = "balancers"
    backbones = "backbones"
    benchmarks = "benchmarks"


def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.", show_default=False)],
    plugins: Annotated[
        list[Path] | None, typer.Option(help="A file or folder with methods of your own; may be repeated.")
    ] = None,
) -> None:
    """List methods, balancers, backbones or benchmarks."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    headings, lines = {
        Kind.methods: lambda: _methods(plugins or []),
        Kind.balancers: lambda: _balancers(plugins or []),
        Kind.backbones: _backbones,
        Kind.benchmarks: _benchmarks,
    }[kind]()
    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    console.print(table)
    if kind is Kind.methods:
        console.print("\nAny architecture goes with any balancer: architecture+balancer[option=value].", markup=False)


Listing = tuple[tuple[str, ...], "Sequence[tuple[str, ...]]"]


def _load(plugins: list[Path]) -> None:
    from mtlbench.registry import load_plugins

    for broken in load_plugins(plugins):
        typer.echo(f"warning: {broken}", err=True)


def _methods(plugins: list[Path]) -> Listing:
    from mtlbench.registry import ALIASES, ARCHITECTURES

    _load(plugins)
    entries: list[Entry[Any]] = [*ARCHITECTURES.entries.values(), *ALIASES.entries.values()]
    lines = [(e.name, " ".join(e.groups), e.summary, _short(e.origin)) for e in sorted(entries, key=lambda e: e.name)]
    return ("method", "groups", "what it is", "from"), lines


def _balancers(plugins: list[Path]) -> Listing:
    from mtlbench.registry import BALANCERS

    _load(plugins)
    entries = sorted(BALANCERS.entries.values(), key=lambda e: e.name)
    return ("balancer", "what it is", "from"), [(e.name, e.summary, _short(e.origin)) for e in entries]


def _short(origin: str) -> str:
    """Shorten an origin to folder/file:line."""
    return "/".join(Path(origin).parts[-2:])


def _backbones() -> Listing:
    from mtlbench.backbones import BACKBONES

    return ("backbone", "what it is"), list(BACKBONES.items())


def _benchmarks() -> Listing:
    from mtlbench.benchmark import benchmark_files, load_benchmark

    lines = []
    for name in benchmark_files():
        b = load_benchmark(name)
        lines.append((name, b.title, ", ".join(b.data.tasks), b.model.backbone, f"{b.train.steps:,}"))
    return ("benchmark", "data", "tasks", "backbone", "steps"), lines

"""`mtlbench list`: what there is to choose from."""

from __future__ import annotations

import re
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
    settings = "settings"


def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.", show_default=False)],
    benchmark: Annotated[str, typer.Option(help="Whose backbone methods' parameters are counted with.")] = "shoes",
    bibtex: Annotated[bool, typer.Option("--bibtex", help="Print the sources of methods as BibTeX.")] = False,
    plugins: Annotated[
        list[Path] | None, typer.Option(help="A file or folder with methods of your own; may be repeated.")
    ] = None,
) -> None:
    """List methods, balancers, backbones, benchmarks or settings; or print the methods' citations."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mtlbench.cli.settings import rows

    if bibtex:
        _load(plugins or [])
        typer.echo("\n\n".join(_citations(kind)))
        return
    console = Console()
    if not console.is_terminal:
        console.width = 250  # for grep and the like: a line each
    headings, lines = {
        Kind.methods: lambda: _methods(plugins or [], benchmark),
        Kind.balancers: lambda: _balancers(plugins or []),
        Kind.backbones: lambda: _backbones(plugins or []),
        Kind.benchmarks: _benchmarks,
        Kind.settings: rows,
    }[kind]()
    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    console.print(table)
    if kind is Kind.methods:
        console.print(
            f"\nParameters: for T tasks, with the backbone of {benchmark}. An architecture goes with any balancer:"
            " architecture+balancer[option=value]. Sources: --bibtex.",
            markup=False,
            highlight=False,
        )


Listing = tuple[tuple[str, ...], "Sequence[tuple[str, ...]]"]


def _load(plugins: list[Path]) -> None:
    from mtlbench.plugins import load_plugins

    for broken in load_plugins(plugins):
        typer.echo(f"warning: {broken}", err=True)


def _methods(plugins: list[Path], name: str) -> Listing:
    from mtlbench.benchmark import load_benchmark
    from mtlbench.cost import storage_law
    from mtlbench.registry import ALIASES, ARCHITECTURES, BALANCERS
    from mtlbench.specs import parse_method

    _load(plugins)
    benchmark = load_benchmark(name)
    laws: dict[str, str] = {}
    lines = []
    entries: list[Entry[Any]] = [*ARCHITECTURES.entries.values(), *ALIASES.entries.values()]
    for entry in sorted(entries, key=lambda e: (e.name not in ARCHITECTURES, e.name)):
        if entry.name in ARCHITECTURES:
            architecture, cite = entry, entry.cite
        else:
            architecture = ARCHITECTURES.get(entry.target.architecture)
            cite = BALANCERS.get(entry.target.balancer).cite
        if architecture.name not in laws:
            laws[architecture.name] = _law(storage_law(parse_method(architecture.name), benchmark))
        lines.append(
            (
                entry.name,
                " ".join(entry.groups),
                _paper(cite) or _short(entry.origin),
                architecture.shares,
                laws[architecture.name],
                entry.summary,
            )
        )
    return ("method", "groups", "from", "tasks share", "parameters", "what it is"), lines


def _law(law: tuple[int, int, int] | None) -> str:
    """Write a + b T + c T² without the parts that are 0."""
    if law is None:
        return ""
    parts = [f"{number:,}{unit}" for number, unit in zip(law, ("", " T", " T²"), strict=True) if number]
    return " + ".join(parts).replace("+ -", "- ") or "0"


def _paper(cite: str) -> str:
    """Return a BibTeX entry's first author and year: Zhao et al. 2018."""
    authors = re.search(r"author\s*=\s*\{(.+?)\}\s*,?\s*$", cite, re.MULTILINE | re.DOTALL)
    year = re.search(r"year\s*=\s*\{?(\d{4})", cite)
    if authors is None:
        return ""
    people = re.split(r"\s+and\s+", authors[1].strip())
    last = [p.split(",")[0] if "," in p else p.split()[-1] for p in people]
    named = last[0] if len(last) == 1 else f"{last[0]} and {last[1]}" if len(last) == 2 else f"{last[0]} et al."
    return f"{named} {year[1]}" if year else named


def _citations(kind: Kind) -> list[str]:
    from mtlbench.registry import ARCHITECTURES, BACKBONES, BALANCERS

    registries = {Kind.balancers: [BALANCERS], Kind.backbones: [BACKBONES]}.get(kind, [ARCHITECTURES, BALANCERS])
    return sorted({entry.cite for registry in registries for entry in registry.entries.values() if entry.cite})


def _balancers(plugins: list[Path]) -> Listing:
    from mtlbench.registry import BALANCERS

    _load(plugins)
    entries = sorted(BALANCERS.entries.values(), key=lambda e: e.name)
    lines = [(e.name, _paper(e.cite), e.summary, _short(e.origin)) for e in entries]
    return ("balancer", "paper", "what it is", "from"), lines


def _short(origin: str) -> str:
    """Shorten an origin to folder/file:line."""
    return "/".join(Path(origin).parts[-2:])


def _backbones(plugins: list[Path]) -> Listing:
    from mtlbench.registry import BACKBONES

    _load(plugins)
    entries = [BACKBONES.get(name) for name in BACKBONES]
    lines = [(e.name, _paper(e.cite), e.summary, _short(e.origin)) for e in entries]
    families = [(f"{f.prefix}:<name>", "", f.summary, _short(f.origin)) for f in BACKBONES.families.values()]
    return ("backbone", "paper", "what it is", "from"), [*lines, *families]


def _benchmarks() -> Listing:
    from mtlbench.benchmark import benchmark_files, load_benchmark

    lines = []
    for name in benchmark_files():
        b = load_benchmark(name)
        lines.append((name, b.title, ", ".join(b.data.tasks), b.model.backbone, f"{b.train.steps:,}"))
    return ("benchmark", "data", "tasks", "backbone", "steps"), lines

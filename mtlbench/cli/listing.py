"""What `mtlbench list` shows of each kind: headings, and a line for each thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlbench.errors import FAULTS
from mtlbench.registry import ALIASES, ARCHITECTURES, BALANCERS, KINDS, Registry

if TYPE_CHECKING:
    from mtlbench.architecture import Architecture
    from mtlbench.benchmark import Benchmark
    from mtlbench.registry import Entry

Lines = tuple[Sequence[str], list[Sequence[str]]]
CHOICES = tuple(dict.fromkeys(["methods", *KINDS, "benchmarks", "settings"]))
"""Every word that `mtlbench list` takes."""


@dataclass(frozen=True)
class Listing:
    """What is printed of one kind: `notes` below it, `warnings` of plug-ins that could not be loaded."""

    headings: list[str]
    lines: list[list[str]]
    citations: list[str]
    notes: list[str]
    warnings: list[str]


def make_listing(kind: str, benchmark: str, plugins: Sequence[Path]) -> Listing:
    """List a kind.

    Args:
        kind: one of `CHOICES`.
        benchmark: whose backbone methods' parameters are counted with.
        plugins: files and folders to load beside what is found anyway.

    Raises:
        UserError: a plug-in's path that is not there, an unknown benchmark, or a kind whose home breaks on import.
    """
    from mtlbench.cli.settings import settings_lines
    from mtlbench.plugins import load_plugins
    from mtlbench.specs import left_out_line, left_out_methods

    warnings = [f"warning: {broken}" for broken in load_plugins(plugins)]
    special: dict[str, Callable[[], Lines]] = {
        "methods": lambda: _methods(benchmark, warnings),
        "balancers": _balancers,
        "benchmarks": _benchmarks,
        "settings": settings_lines,
    }
    headings, lines = special[kind]() if kind in special else _entries(kind)
    cited = [ARCHITECTURES, BALANCERS] if kind == "methods" else [KINDS[kind]] if kind in KINDS else []
    citations, doubts = _citations([entry for registry in cited for entry in registry.entries.values()])
    warnings += doubts
    waiting = left_out_methods() if kind == "methods" else []
    notes = [f"{left_out_line(waiting)}."] if waiting else []
    return Listing(list(headings), [list(line) for line in lines], citations, notes, warnings)


def _citations(entries: Sequence[Entry[Any]]) -> tuple[list[str], list[str]]:
    """Return the sources of things as a BibTeX file, and what is wrong with them.

    Each entry stands once, in the order of keys, below a line with the names of what it is the source of; the last line
    names what has none. BibTeX passes over such lines.
    """
    from mtlbench.bibliography import key_of

    names: dict[str, list[str]] = {}
    texts: dict[str, Entry[Any]] = {}
    doubts = []
    for entry in sorted((e for e in entries if e.cite), key=lambda e: (key_of(e.cite), not e.bundled, e.name)):
        key = key_of(entry.cite)
        first = texts.setdefault(key, entry)
        names.setdefault(key, []).append(entry.name)
        if first.cite.split() != entry.cite.split():
            doubts.append(
                f"warning: {key} stands for two sources, of {first.name} ({short(first.origin)}) and of {entry.name}"
                f" ({short(entry.origin)}): --bibtex prints the first"
            )
    without = sorted(entry.name for entry in entries if not entry.cite)
    found = [f"% {', '.join(names[key])}\n{texts[key].cite}" for key in texts]
    # an @ would begin an entry
    plain = [name.replace("@", " at ") for name in without]
    return [*found, *([f"% without a source: {', '.join(plain)}"] if plain else [])], doubts


def load_home(registry: Registry[Any]) -> None:
    """Import what registers a kind's bundled things; a kind without a home has none.

    Raises:
        UserError: the home is there and breaks.
    """
    from mtlbench.errors import UserError

    try:
        registry.load()
    except ModuleNotFoundError as error:
        if error.name is None or not f"{registry.home}.".startswith(f"{error.name}."):
            raise UserError(f"{registry.home} can't be imported: {error}.") from error
    except ImportError as error:
        raise UserError(f"{registry.home} can't be imported: {error}.") from error


def _entries(kind: str) -> Lines:
    """List any kind: its entries by name, then its families."""
    from mtlbench.options import described

    registry = KINDS[kind]
    load_home(registry)
    lines: list[Sequence[str]] = [
        (entry.name, described(entry.target), entry.summary, short(entry.origin))
        for entry in sorted(registry.entries.values(), key=lambda e: e.name)
    ]
    for family in registry.families.values():
        lines.append((f"{family.prefix}:<name>", "", family.summary, short(family.origin)))
    return (registry.kind, "options", "what it is", "from"), lines


def _methods(name: str, warnings: list[str]) -> Lines:
    """List methods; where an architecture can't be built, warn and leave out its numbers."""
    from mtlbench.balancer import share_acted_on
    from mtlbench.benchmark import load_benchmark
    from mtlbench.bibliography import paper
    from mtlbench.blame import described
    from mtlbench.cost import storage_law
    from mtlbench.specs import parse_method

    benchmark = load_benchmark(name)
    laws: dict[str, str] = {}
    built: dict[str, Architecture] = {}
    lines: list[Sequence[str]] = []
    entries: list[Entry[Any]] = [*ARCHITECTURES.entries.values(), *ALIASES.entries.values()]
    for own in ARCHITECTURES.entries:
        try:
            laws[own] = _law(storage_law(parse_method(own), benchmark))
        except FAULTS as error:  # a fault in a plug-in
            warnings.append(f"warning: {own} can't be built: {described(error)}")
    for entry in sorted(entries, key=lambda e: (e.name not in ARCHITECTURES, e.name)):
        if entry.name in ARCHITECTURES:
            architecture, cite, acts_on = entry, entry.cite, ""
        else:
            architecture = ARCHITECTURES.get(entry.target.architecture)
            balancer = BALANCERS.get(entry.target.balancer)
            cite, acts_on = balancer.cite, ""
            if architecture.name in laws:
                if architecture.name not in built:
                    built[architecture.name] = _empty(architecture.name, benchmark)
                acts_on = f"{100 * share_acted_on(balancer.target, built[architecture.name]):.3g} %"
        lines.append(
            (
                entry.name,
                " ".join(entry.groups),
                paper(cite) or short(entry.origin),
                architecture.shares,
                laws.get(architecture.name, ""),
                acts_on,
                entry.summary,
            )
        )
    return ("method", "groups", "from", "tasks share", "parameters", "balanced", "what it is"), lines


def _empty(architecture: str, benchmark: Benchmark) -> Architecture:
    """Build an architecture for a benchmark's tasks, without memory for its weights."""
    import torch

    from mtlbench.networks import build
    from mtlbench.specs import parse_method

    with torch.device("meta"):
        return build(parse_method(architecture), benchmark, tuple(benchmark.data.tasks), 0)[0]


def _law(law: tuple[int, int, int] | None) -> str:
    """Write a + b T + c T² without the parts that are 0."""
    if law is None:
        return ""
    parts = [f"{number:,}{unit}" for number, unit in zip(law, ("", " T", " T²"), strict=True) if number]
    return " + ".join(parts).replace("+ -", "- ") or "0"


def _balancers() -> Lines:
    from mtlbench.bibliography import paper
    from mtlbench.options import described

    entries = sorted(BALANCERS.entries.values(), key=lambda e: e.name)
    return ("balancer", "paper", "options", "what it is", "from"), [
        (e.name, paper(e.cite), described(e.target), e.summary, short(e.origin)) for e in entries
    ]


def _benchmarks() -> Lines:
    from mtlbench.benchmark import benchmark_files, load_benchmark

    lines: list[Sequence[str]] = []
    for name in benchmark_files():
        b = load_benchmark(name)
        lines.append((name, b.title, ", ".join(b.data.tasks), b.model.backbone, f"{b.train.steps:,}"))
    return ("benchmark", "data", "tasks", "backbone", "steps"), lines


def short(origin: str) -> str:
    """Shorten an origin to folder/file:line."""
    return "/".join(Path(origin).parts[-2:])

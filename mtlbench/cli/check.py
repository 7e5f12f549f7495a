"""`mtlbench check`: tests methods against the contract, item by item, in a few seconds each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtlbench.cli.options import PluginsOption
from mtlbench.cli.progress import say, status

if TYPE_CHECKING:
    from rich.console import Console

MARKS = {"passed": ("✓", "green"), "failed": ("✗", "bold red"), "skipped": ("–", "dim")}


def check(
    methods: Annotated[
        str,
        typer.Argument(
            metavar="METHOD",
            help="my-method, 'film\\[after=3]+pcgrad', several joined by commas, or a group: all.",
        ),
    ],
    plugins: PluginsOption = None,
) -> None:
    """Test a method against the contract, item by item, on the CPU, in less than a minute.

    Exit code 0: every item holds; 1: one does not.
    """
    from rich.console import Console

    from mtlbench.errors import UserError

    console = Console()
    with status(console, "loading …"):
        import torch

        from mtlbench.checks import parts_of
        from mtlbench.runs.checked import remember

        chosen = _chosen(methods, plugins or [])
    torch.set_num_threads(1)  # tiny networks are slower on more, and speeds are compared as on one core
    several = len(chosen) > 1
    done: dict[tuple[str, str], tuple[str, int]] = {}  # what was checked, and under which method: its failures
    bad: list[str] = []
    for method in chosen:
        failures = 0
        for part in parts_of(method):
            key = (part.kind, part.spec)
            if key in done:
                under, found = done[key]
                if not several or found:
                    say(console, f"{method.name}: {part.kind} {part.spec} was checked with {under}", "dim")
            else:
                try:
                    found = _check_part(console, method.name, part, brief=several)
                except UserError as error:
                    if not several:
                        raise
                    say(console, f"✗ {method.name}, {part.kind}: refused. {error}", MARKS["failed"][1])
                    found = 1
                remember(method, part.kind, part.spec, kept=not found)
                done[key] = (method.name, found)
            failures += found
        if failures:
            bad.append(method.name)
    _verdict(console, [method.name for method in chosen], bad)
    if bad:
        raise typer.Exit(1)


def _chosen(methods: str, plugins: list[Path]) -> list[Any]:
    """Load all methods and read which ones are named.

    Raises:
        UserError: there is no such method, or its file is broken, with the reason.
    """
    from mtlbench.errors import UserError
    from mtlbench.plugins import load_given
    from mtlbench.specs import parse_methods

    if methods.endswith(".py"):
        raise UserError(f"'{methods}' is a file: give the method's name, and the file with --plugins {methods}.")
    broken = load_given(plugins)
    for one in broken:
        typer.echo(f"warning: {one}", err=True)
    try:
        return parse_methods(methods)
    except UserError as error:
        if broken:  # what was asked for may be in what could not be loaded
            raise UserError(f"{error} Not everything could be loaded: {'; '.join(map(str, broken))}.") from error
        raise


def _check_part(console: Console, name: str, part: Any, *, brief: bool) -> int:
    """Check one half of a method and show it; return how many items failed."""
    if not brief:
        say(console, f"{part.kind} {part.spec if part.kind == 'architecture' else part.method.balancer}", "bold")
    results, seconds, failed, shown = part.results(), 0.0, 0, 0
    items = part.items
    while shown < len(items):
        with status(console, f"{name}: {items[shown]} …"):
            result = next(results)
        shown += 1
        seconds += result.seconds
        failed += result.status == "failed"
        if brief and result.status != "failed":
            continue
        mark, style = MARKS[result.status]
        note = f": {result.note}" if result.note else ""
        prefix = f"{name}, {part.kind}: " if brief else ""
        say(console, f"  {mark} {prefix}{result.name}{note}", style if result.status != "passed" else "")
        for line in result.lines:
            say(console, f"      {line}")
    if brief:
        words = f"{failed} of {shown} items failed" if failed else f"{shown} items"
        mark, style = MARKS["failed" if failed else "passed"]
        say(console, f"{mark} {name}, {part.kind}: {words}, {seconds:.0f} s", style if failed else "")
    return failed


def _verdict(console: Console, names: list[str], bad: list[str]) -> None:
    if not bad:
        words = f"{names[0]} keeps the contract." if len(names) == 1 else f"All {len(names)} methods keep the contract."
        say(console, words, "green")
    elif len(names) == 1:
        say(console, f"{bad[0]} does not keep the contract; fix the first ✗ first.", "bold red")
    else:
        say(console, f"{len(bad)} of {len(names)} methods do not keep the contract: {', '.join(bad)}.", "bold red")

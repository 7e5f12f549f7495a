"""`mtlbench report`: makes tables from run records, without training."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlbench.cli.options import NotesOption

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.report.suites import Suite
    from mtlbench.report.summary import Choice
    from mtlbench.runs import Record


_KEPT = r"\w.-"  # of a benchmark's name, in the name of its folder


class Recipes(StrEnum):
    """Which runs of a method are shown."""

    both = "both"
    plain = "plain"
    tuned = "tuned"


class Format(StrEnum):
    """How tables are written."""

    table = "table"
    md = "md"
    latex = "latex"
    csv = "csv"
    runs = "runs"
    verdict = "verdict"


def folders(context: typer.Context, incomplete: str) -> list[str]:
    """Return the benchmarks that have runs and begin with what was typed, for the shell's completion."""
    results = Path(context.params.get("results") or "results")
    names = sorted({run.parent.parent.name for run in results.glob("*/*/seed-*")})
    return [name for name in names if name.startswith(incomplete)]


def report(
    benchmark: Annotated[
        str | None,
        typer.Argument(
            help="The benchmark, by its folder's name: celeba, celeba-quick. Default: all.",
            autocompletion=folders,
        ),
    ] = None,
    results: Annotated[Path, typer.Option(help="The folder of run records.")] = Path("results"),
    metric: Annotated[str, typer.Option(help="What the accuracy table shows: triplet, map@r, …")] = "triplet",
    sort: Annotated[
        str, typer.Option(help="The column to sort by, by its heading: worst, Δm, parameters, …", show_default="mean")
    ] = "",
    tasks: Annotated[
        str, typer.Option(help="Only these tasks, joined by commas; means are over them.", show_default="all")
    ] = "",
    methods: Annotated[
        str, typer.Option(help="Only these methods, groups or patterns: core,'shared*'.", show_default="all")
    ] = "",
    across: Annotated[
        list[str] | None,
        typer.Option(
            help="A setting in which runs of one table may differ, such as loss.margin; row names show it."
            " May be repeated.",
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        str,
        typer.Option(help="Compare every method with this one as well as with the best: single.", show_default=False),
    ] = "",
    recipes: Annotated[
        Recipes, typer.Option(help="Show runs with the method's recipe (tuned), without it (plain), or both.")
    ] = Recipes.both,
    at_seconds: Annotated[
        str,
        typer.Option(
            help="Rank by validation accuracy after this many seconds of training; shortest: the"
            " time of the fastest method.",
            show_default="equal steps",
        ),
    ] = "",
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Show how far tasks' gradients agreed, in runs that probed it.")
    ] = False,
    conflict: Annotated[bool, typer.Option("--conflict", hidden=True, help="The old name of --agreement.")] = False,
    figures: Annotated[
        Path | None,
        typer.Option(help="Draw the figures too, as PNG, SVG and PDF, into this folder.", show_default=False),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write a page for a browser into this folder instead: leaderboard, figures, galleries.",
            show_default=False,
        ),
    ] = None,
    galleries: Annotated[
        Path | None,
        typer.Option(
            help="Draw test images with their nearest neighbours under each task, methods side by side, as PNG into"
            " this folder.",
            show_default=False,
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="The folder of the galleries' images.", show_default="where mtlbench run looks"),
    ] = None,
    columns: Annotated[bool, typer.Option("--columns", help="Show what the tables' columns mean, then stop.")] = False,
    notes: NotesOption = False,
    format: Annotated[
        Format,
        typer.Option(
            metavar="FORMAT",
            help="How to write the tables: table, md, latex, csv (a row per method), runs (a row per run),"
            " or verdict (the conclusions, as JSON).",
        ),
    ] = Format.table,
) -> None:
    """Make the comparison tables from run records, without training."""
    from rich.console import Console

    from mtlbench.errors import UserError
    from mtlbench.report.suites import by_recipe
    from mtlbench.report.summary import Choice, check_metric, chosen_records, records_in
    from mtlbench.report.tables import show

    if columns:
        _explain_columns()
        return
    if benchmark is not None and Path(benchmark).name != benchmark:
        raise UserError(
            f"'{benchmark}' is not a benchmark's name: give the folder's name, and the folder above it by --results:"
            f" mtlbench report {Path(benchmark).name} --results {Path(benchmark).parent}"
        )
    records = by_recipe(records_in(results, benchmark), recipes.value)
    check_metric(metric, records)
    factors = tuple(across or ())
    choice = Choice(
        metric=metric, sort=sort, tasks=tasks, methods=methods, seconds=at_seconds, across=factors, against=against
    )
    console = Console()
    agreement = agreement or conflict
    if html is not None and (agreement or format is not Format.table):
        raise UserError("--html writes all tables and formats into its folder: leave out --agreement and --format.")
    if tasks and (agreement or figures is not None):
        raise UserError("--agreement and --figures cover all tasks: leave out --tasks.")
    if agreement and (format in (Format.runs, Format.verdict) or sort or against or at_seconds):
        raise UserError(
            "--agreement makes one table, as table, md, latex or csv: leave out --sort, --against and --at-seconds, and"
            " take another --format."
        )
    if html is not None:
        _page(console, records, choice, results, html, data_dir)
    elif agreement:
        from mtlbench.report.agreement import show as show_agreement

        show_agreement(chosen_records(records, methods), results, format.value, console, factors)
    else:
        show(records, format.value, console, choice, results, notes)
        if format is Format.table and figures is None and galleries is None:
            say_next(console, benchmark, results, choice, notes, recipes.value)
    aside = console if format is Format.table else Console(stderr=True)  # a table in a file holds nothing else
    if figures is not None:
        _draw(aside, chosen_records(records, methods), results, figures, factors)
    if galleries is not None:
        _draw_galleries(aside, records, choice, results, galleries, data_dir)


def say_next(
    console: Console, benchmark: str | None, results: Path, choice: Choice, notes: bool = True, recipes: str = "both"
) -> None:
    """Suggest what to do after the tables, of what they show; without `notes`, also how to see the small print."""
    from mtlbench.cli.progress import command

    given = {
        "results": str(results) if results != Path("results") else "",
        "recipes": recipes if recipes != "both" else "",
        "metric": choice.metric if choice.metric != "triplet" else "",
        "sort": choice.sort, "tasks": choice.tasks, "methods": choice.methods, "against": choice.against,
        "at-seconds": choice.seconds,
    }  # fmt: skip
    options = [(name, value) for name, value in given.items() if value] + [("across", key) for key in choice.across]
    words = ["mtlbench report", *([benchmark] if benchmark else [])]
    asked = " ".join([*words, *(f"--{name} {shlex.quote(value)}" for name, value in options)])
    if not notes:
        command(console, "All columns, and how this was measured", f"{asked} --notes")
    command(console, "Next, a page of all this", f"{asked} --html page")


def _explain_columns() -> None:
    """Print what every column means; columns of single tasks hold the same quantity as the mean."""
    import textwrap

    from mtlbench.cli.kept import listing
    from mtlbench.report.columns import all_columns, glossary

    found = listing("metrics", "shoes", [])
    name, summary = (found.headings.index(heading) for heading in ("metric", "what it is"))
    further = {line[name]: line[summary] for line in found.lines}
    for term, meaning in glossary(all_columns(further)):
        typer.echo(f"{term}\n{textwrap.fill(meaning, 100, initial_indent='    ', subsequent_indent='    ')}")


def _page(
    console: Console, records: Sequence[Record], choice: Choice, results: Path, folder: Path, data_dir: Path | None
) -> None:
    """Write the pages and print their path."""
    from mtlbench.cli.progress import say
    from mtlbench.report.page import write_page
    from mtlbench.report.summary import summarise

    index = write_page(
        summarise(records, choice, results), results, folder, data_dir, lambda words: say(console, words)
    )
    say(console, f"page: {index}; open it in a browser.")


def _draw(console: Console, records: Sequence[Record], results: Path, folder: Path, across: Sequence[str]) -> None:
    """Draw every suite's figures into a folder of its own."""
    from mtlbench.cli.progress import say, status
    from mtlbench.report.figures import draw_all
    from mtlbench.report.suites import suites

    names: list[str] = []
    for suite in suites(records, across):
        place = _place(folder, suite, names)
        with status(console, f"drawing {place} …"):
            drawn = draw_all(suite, results, place)
        say(console, f"{place}: {', '.join(figure.stem for figure in drawn) or 'nothing to draw'}")


def _place(folder: Path, suite: Suite, names: list[str]) -> Path:
    """Return a suite's own folder; `names` are those of the suites before it, and grow by its own."""
    from mtlbench.names import file_name

    name = file_name(str(suite.benchmark["name"]), _KEPT)
    names.append(name)
    return folder / (name if names.count(name) == 1 else f"{name}-{names.count(name)}")


def _draw_galleries(
    console: Console, records: Sequence[Record], choice: Choice, results: Path, folder: Path, data_dir: Path | None
) -> None:
    """Draw every suite's galleries, a picture per task; where its images are absent, say so and continue."""
    from mtlbench.cli.progress import bar, say, status
    from mtlbench.names import slug
    from mtlbench.report import gallery
    from mtlbench.report.summary import summarise

    names: list[str] = []
    for summary in summarise(records, replace(choice, seconds="")):  # of the tables, rows and tasks alone are asked
        place = _place(folder, summary.suite, names)
        methods = [row.method for row in summary.rows if not row.again]
        try:
            with bar(console, "drawing images") as drawing, bar(console, "packing images") as packing:
                found = gallery.galleries(
                    summary.suite, results, data_dir,
                    queries_per_task=3, methods=methods, tasks=summary.tasks, drawing=drawing, packing=packing,
                )  # fmt: skip
        except gallery.NoImages as error:
            say(console, str(error), "yellow")
            continue
        place.mkdir(parents=True, exist_ok=True)
        with status(console, f"drawing {place} …"):
            drawn: list[str] = []
            for task in dict.fromkeys(query.task for query in found.queries):
                stem = slug(task)
                drawn.append(f"{stem}.png" if f"{stem}.png" not in drawn else f"{stem}-{len(drawn)}.png")
                gallery.draw(found, task).save(place / drawn[-1])
        say(console, f"{place}: {', '.join(drawn) or 'nothing to draw'}")

"""`mtlbench data`: get, check, show or draw a data set before training."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtlbench.cli.get import get
from mtlbench.cli.options import OldTaskOption, task_words
from mtlbench.cli.progress import bar, say
from mtlbench.errors import counted
from mtlbench.names import listed, printable, slug
from mtlbench.rendered.kinds import KINDS

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.data.check import Findings, Recognised
    from mtlbench.data.table import Labels, Table

data_app = typer.Typer(no_args_is_help=True, help="Get, check, show or draw a data set.")
data_app.command("get")(get)
_SHORT_LIST = 12  # values of a task that are counted without being asked for
_LONG_LIST = 40  # values of a task that are counted when it is named
_FEW_TASKS = 10
_ATTRIBUTE = ("no", "yes")  # the values of a task that asks whether
_NAMED = 10  # images that are named of those that can't be read


class Split(StrEnum):
    """A part of a data set."""

    train = "train"
    val = "val"
    test = "test"


Drawn = StrEnum("Drawn", list(KINDS))  # type: ignore[misc]  # mypy wants the names written out


SourceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="The data set's folder, or the .toml of a benchmark that names one.",
        show_default=False,
    ),
]


PluginsOption = Annotated[
    list[Path] | None,
    typer.Option("--plugins", help="A file or folder with a reader of your own; may be repeated.", show_default=False),
]


@data_app.callback()
def _group() -> None:
    """Get, check, show or draw a data set."""


@data_app.command("check")
def check(
    source: SourceArgument,
    tasks: Annotated[
        str, typer.Option(help="Only these tasks, value by value, joined by commas.", show_default="all")
    ] = "",
    task: OldTaskOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show every value, and the tasks without labels too.")
    ] = False,
    near_copies: Annotated[
        bool,
        typer.Option("--near-copies", help="Find test images that look like a training image, saved again or resized."),
    ] = False,
    plugins: PluginsOption = None,
) -> None:
    """Show what a data set holds per task, value and split, and what is missing, broken or contradictory in it.

    Every image is opened. Exit code 2 if it can't be trained on as it is.
    """
    from rich.console import Console

    from mtlbench.data.check import FEW, few_test_images, open_images, read_source
    from mtlbench.data.table import SPLITS, remarks_on_words

    console = Console()
    _load(console, plugins)
    with bar(console, "drawing images") as drawing:
        found = read_source(source, drawing, lambda words: say(console, words))
    table = found.table
    named = list(dict.fromkeys(map(table.find_task, task_words(tasks, task))))
    counts = [int((table.split == n).sum()) for n in range(len(SPLITS))]
    rendered = " (rendered)" if table.rendered and "rendered" not in table.name.lower() else ""
    say(
        console,
        f"{table.root}: {table.name}{rendered}, {counted(len(table), 'image')}"
        f" ({' / '.join(f'{c:,}' for c in counts)} {' / '.join(SPLITS)}, {table.split_in_words})",
    )
    for number, name in enumerate(SPLITS):
        if table.roles and (roles := table.roles.of(table.split == number)):
            say(console, f"Searched in the {name} split: {roles}.")
    _show_tasks(console, table, named, everything)
    _show_values(console, table, named, everything)
    for remark in table.remarks:
        say(console, f"note: {remark}", "yellow")
    for odd in remarks_on_words(table, named or table.columns):  # they may be why a task can't be trained
        say(console, f"note: {odd}", "yellow")
    if found.min_images < FEW:
        for few in few_test_images(table, named or table.tasks_with_labels(), found.anchors)[:_FEW_TASKS]:
            say(console, f"note: {few}", "yellow")
    with bar(console, "opening images") as opening:
        seen = open_images(table, opening, thumbnails=near_copies)
    _show_images(console, table, seen)
    if near_copies:
        _show_near_copies(console, table, seen)
    if not _show_verdict(console, found, seen, named):
        raise typer.Exit(2)


def _load(console: Console, plugins: list[Path] | None) -> None:
    """Load the named plug-ins; this loads torch, which bundled readers do not need."""
    from mtlbench.plugins import load_given

    for broken in load_given(plugins) if plugins else []:
        say(console, f"warning: {broken}", "yellow")


def _grid(numbers: Sequence[str], *others: str, first: str) -> Any:
    """Return an empty table without lines: a first column, then columns of numbers, then others."""
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=None, header_style="bold", pad_edge=False)
    grid.add_column(Text(printable(first)))
    for name in numbers:
        grid.add_column(name, justify="right", no_wrap=True)
    for name in others:
        grid.add_column(name)
    return grid


def _show_tasks(console: Console, table: Table, named: list[str], everything: bool) -> None:
    """Show a line per task: how many images are labelled in each split, its values, why it can't be trained.

    Tasks whose values are no and yes have a table of their own, which shows all of them.
    """
    from rich.text import Text

    from mtlbench.data.table import SPLITS

    tasks = _grid([*SPLITS, "values"], "most common", "", first="labelled")
    attributes = _grid([*SPLITS, "share"], "", first="yes of labelled")
    empty = []
    for name in named or table.columns:
        column = table.columns[name]
        here = [column.codes[table.split == n] for n in range(len(SPLITS))]
        labelled = [int((codes >= 0).sum()) for codes in here]
        reason = Text(table.trainable(name) or "", style="red")
        if not any(labelled) and not everything and not named:
            empty.append(name)
        elif column.values == _ATTRIBUTE:
            yes = [int((codes == 1).sum()) for codes in here]
            cells = [Text.assemble(_count(y), (f" of {n:,}", "dim")) for y, n in zip(yes, labelled, strict=True)]
            share = f"{100 * sum(yes) / sum(labelled):.1f} %" if any(labelled) else ""
            attributes.add_row(Text(printable(name)), *cells, share, reason)
        else:
            values = _by_count(*column.of_parts(column.codes >= 0))
            common = ", ".join(f"{v} {n:,}" for n, v in values[:2]) + (", …" if len(values) > 2 else "")
            cells = [Text(f"{n:,}") for n in (*labelled, len(values))]
            tasks.add_row(Text(printable(name)), *cells, Text(printable(common)), reason)
    for grid in (attributes, tasks):
        if grid.row_count:
            console.print()
            console.print(grid)
    if empty:
        say(console, f"Without labels: {', '.join(empty)}.")
    for name in named or table.columns:
        if name in table.triplets:
            lengths = " / ".join(f"{len(table.triplets[name].get(s, ())):,}" for s in SPLITS)
            say(console, f"Triplets of {name} that came with the data: {lengths} {' / '.join(SPLITS)}.")


def _by_count(codes: Labels, values: Sequence[str]) -> list[tuple[int, str]]:
    """Return the values that occur with their numbers of images, the most common first."""
    import numpy as np

    counts = np.bincount(codes[codes >= 0], minlength=len(values)).tolist()
    return sorted(((n, v) for n, v in zip(counts, values, strict=True) if n), key=lambda pair: (-pair[0], pair[1]))


def _show_values(console: Console, table: Table, named: list[str], everything: bool) -> None:
    """Show how many images of each split have each value, for the named tasks and those with few values."""
    tasks = [t for t in named or table.columns if (table.columns[t].codes >= 0).any()]
    counts = {t: len(_by_count(*(c := table.columns[t]).of_parts(c.codes >= 0))) for t in tasks}
    shown = [t for t in tasks if table.columns[t].values != _ATTRIBUTE]
    if not named and not everything:
        shown = [t for t in shown if counts[t] <= _SHORT_LIST][:_FEW_TASKS]
    for name in shown:
        console.print()
        console.print(_values(table, name, everything))
    held = [t for t in tasks if t not in shown and table.columns[t].values != _ATTRIBUTE]
    console.print()
    if held:
        names = ", ".join(f"{t} {counts[t]:,}" for t in held)
        say(
            console,
            f"Numbers of values that are not shown: {names}. See them with --tasks {shlex.quote(listed(held[:1]))}.",
        )


def _values(table: Table, task: str, everything: bool) -> Any:
    """Return the table of one task: its values in their order if they have one, else the most common first."""
    from rich.text import Text

    from mtlbench.data.table import SPLITS

    column = table.columns[task]
    codes, names = column.of_parts(column.codes >= 0)
    code = {value: i for i, value in enumerate(names)}
    common = _by_count(codes, names)
    shown = common if everything else common[:_LONG_LIST]
    if column.ordered:
        shown = sorted(shown, key=lambda pair: code[pair[1]])
    grid = _grid(
        [*SPLITS, "all"],
        first=f"{task} (in order)" if column.ordered else f"{task} (sets)" if column.members is not None else task,
    )
    for total, value in shown:
        at = [int((column.of_parts(table.split == n)[0] == code[value]).sum()) for n in range(len(SPLITS))]
        grid.add_row(Text(printable(value)), *map(_count, at), f"{total:,}")
    left = len(common) - len(shown)
    if left:
        rest = sum(n for n, _ in common[len(shown) :])
        grid.add_row(Text(f"… {left:,} more: --all shows them", "dim"), "", "", "", Text(f"{rest:,}", "dim"))
    none = [int((column.codes[table.split == n] < 0).sum()) for n in range(len(SPLITS))]
    if any(none):
        grid.add_row(Text("not labelled", "dim"), *(Text(f"{n:,}", "dim") for n in (*none, sum(none))))
    return grid


def _count(number: int) -> Any:
    """Return a number, as a warning where it is 0: a value that a split lacks is not trained or not tested."""
    from rich.text import Text

    return Text(f"{number:,}", "" if number else "yellow")


def _show_images(console: Console, table: Table, seen: Findings) -> None:
    """Show what was found on opening the images: sizes, copies, and images that can't be used."""
    from mtlbench.data.check import SMALL
    from mtlbench.data.depth import remark_on_dim
    from mtlbench.data.splits import remark_on_leaks

    paths = table.paths
    common = seen.sizes.most_common()
    if len(common) > 3:
        (w, h), n = common[0]
        widths, heights = ([size[i] for size in seen.sizes] for i in (0, 1))
        sides = f"{min(widths):,} to {max(widths):,} wide, {min(heights):,} to {max(heights):,} high"
        say(console, f"Sizes in pixels: {sides}; most often {w}x{h} ({counted(n, 'image')}).")
    elif common:
        each = ", ".join(f"{w}x{h} ({counted(n, 'image')})" for (w, h), n in common)
        say(console, f"Sizes in pixels: {each}.")
    if seen.small:
        size = f"less than {SMALL} pixels wide or high, such as {paths[seen.small[0]]}"
        say(console, f"warning: {_images(len(seen.small))} {size}.", "yellow")
    for remark in remark_on_dim(table, seen.dim, len(table)):
        say(console, f"warning: {remark}", "yellow")
    if seen.flat:
        first, colour = next(iter(seen.flat.items()))
        such = f"of one colour, such as {paths[first]} (red, green, blue {', '.join(map(str, colour))})"
        say(
            console,
            f"warning: {_images(len(seen.flat))} {such}: they show nothing as they are read.",
            "yellow",
        )
    if seen.leak:
        say(console, f"warning: {remark_on_leaks(seen.leaks, seen.leak, table)}", "yellow")
    if seen.contradiction:
        a, b, task = seen.contradiction
        column = table.columns[task]
        first, second = (column.values[column.codes[i]] for i in (a, b))
        say(
            console,
            f"warning: {seen.contradictions:,} images have the same content and different labels, such as {paths[a]}"
            f" and {paths[b]}: {task} is '{first}' and '{second}'.",
            "yellow",
        )
    if seen.copies:
        say(console, f"Images with the same content as another: {seen.copies:,}.")
    for i in seen.missing[:_NAMED]:
        say(console, f"missing: {paths[i]}", "red")
    if len(seen.missing) > _NAMED:
        say(console, f"missing: … and {len(seen.missing) - _NAMED:,} more", "red")
    for i, reason in list(seen.broken.items())[:_NAMED]:
        say(console, f"broken: {paths[i]}: {reason}", "red")
    if len(seen.broken) > _NAMED:
        say(console, f"broken: … and {len(seen.broken) - _NAMED:,} more", "red")


def _show_near_copies(console: Console, table: Table, seen: Findings) -> None:
    """Show how many held-out images resemble a training image, and name the most similar ones."""
    from mtlbench.data.near_copies import near_copies
    from mtlbench.data.table import SPLITS

    assert seen.thumbnails is not None
    with bar(console, "comparing images") as comparing:
        found = near_copies(seen.thumbnails, table.split, comparing)
    counts = []
    for name in SPLITS[1:]:
        total = int((table.split == SPLITS.index(name)).sum())
        number = sum(table.split[one.image] == SPLITS.index(name) for one in found)
        counts += [f"{number:,} of {total:,} {name} images ({number / total:.1%})"] if total else []
    say(
        console,
        f"Images that look like a training image, perhaps saved again: {', '.join(counts)}.",
        "yellow" if found else "",
    )
    for one in found[:_NAMED]:
        paths = f"{table.paths[one.image]} and {table.paths[one.other]} (train)"
        say(console, f"alike: {paths}, likeness {one.likeness:.3f}", "yellow")
    if found:
        say(
            console,
            "Look at them. Copies belong on one side of the split: data.csv.group keeps images of one value together in"
            ' your own CSV, data.split = "product" those of one product in UT-Zappos50K.',
        )


def _images(count: int) -> str:
    return f"{count:,} images are" if count > 1 else "1 image is"


def _show_verdict(console: Console, found: Recognised, seen: Findings, named: list[str]) -> bool:
    """Say whether the data can be trained on as they are, and what to do if not."""
    from mtlbench.data.pack import MOST_UNREADABLE
    from mtlbench.errors import UserError

    usable = True
    table = found.table
    if seen.unreadable:
        lost = f"{len(seen.missing):,} missing, {len(seen.broken):,} broken"
        if len(seen.unreadable) > MOST_UNREADABLE * len(table):
            usable = False
            say(
                console,
                f"Images that can't be used: {len(seen.unreadable):,} of {len(table):,} ({lost}). A run stops at"
                f" them, and more than {MOST_UNREADABLE:.0%} are too many to leave out: repair them, or remove them"
                " from the data set.",
                "red",
            )
        elif found.skips_unreadable:
            say(console, f"Images that are left out: {len(seen.unreadable):,} ({lost}).", "yellow")
            table = table.subset(_others(len(table), seen.unreadable))
        else:
            usable = False
            say(
                console,
                f"Images that can't be used: {len(seen.unreadable):,} ({lost}). A run stops at them: repair them, or"
                " leave them out with --skip-unreadable.",
                "red",
            )
    able = [t for t in table.tasks_with_labels() if (t in named if named else t != table.group)]
    if not able:
        can = f"No task {'named' if named else 'here'} can be trained and tested."
        say(console, f"{can} {'' if table.tasks_with_labels() else table.what_splits_need}".strip(), "red")
        return False
    if found.tasks and not named:
        try:
            _, note = table.choose_default(found.tasks, found.fallback_tasks)
        except UserError as error:
            say(console, str(error), "red")
            return False
        if note:
            say(console, f"note: {note}", "yellow")
    if usable:
        say(console, f"Tasks that can be trained and tested: {len(able)}.", "green")
    return usable


def _others(count: int, without: set[int]) -> Labels:
    import numpy as np

    return np.array([i for i in range(count) if i not in without], dtype=np.int64)


@data_app.command("show")
def show(
    source: SourceArgument,
    task: Annotated[str, typer.Option(help="The task to look at.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option(help="The picture to write.", show_default="<data set>-<task>.png")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", hidden=True, help="The old name of --output.")] = None,
    examples: Annotated[int, typer.Option(min=1, max=50, help="Images a row.")] = 8,
    split: Annotated[Split, typer.Option(help="The split to draw from.")] = Split.train,
    seed: Annotated[int, typer.Option(min=0, help="The seed that draws the examples.")] = 0,
    plugins: PluginsOption = None,
) -> None:
    """Draw example images of a task, a row per label value."""
    from rich.console import Console

    from mtlbench.data.check import read_source
    from mtlbench.data.show import draw_examples
    from mtlbench.errors import UserError

    output = output or out
    if output is not None and output.suffix.lower() != ".png":
        raise UserError(f"--output {output}: the picture is a PNG, so give a name that ends in .png.")
    console = Console()
    _load(console, plugins)
    with bar(console, "drawing images") as drawing:
        table = read_source(source, drawing, lambda words: say(console, words)).table
    task = table.find_task(task)
    picture = draw_examples(table, task, split.value, examples, seed)
    output = output or Path(f"{slug(table.name)}-{slug(task)}.png")
    output.parent.mkdir(parents=True, exist_ok=True)
    picture.save(output, "PNG")
    say(console, str(output))


@data_app.command("render")
def render(
    what: Annotated[Drawn, typer.Argument(help="What to draw.", show_default=False)],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or new folder.", show_default=False)],
    images: Annotated[int, typer.Option(min=1, help="How many images.")] = 3000,
    size: Annotated[
        str | None, typer.Option(help="Width x height in pixels.", show_default="shoes 96x72, faces 76x93")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of the drawing.")] = 0,
    conflict: Annotated[float, typer.Option(min=0.0, max=1.0, help="How strongly tasks conflict, from 0 to 1.")] = 0.0,
) -> None:
    """Draw a rendered data set into a folder, in the layout of its real counterpart."""
    from rich.console import Console

    from mtlbench.benchmark import load_benchmark
    from mtlbench.data.making import making
    from mtlbench.errors import UserError
    from mtlbench.rendered.writing import clear_away, drawn_meanwhile

    kind = KINDS[what.value]
    draw = kind.renderer()
    shape = _size(size) if size is not None else {}
    console = Console()
    done, waited = 0, False
    wanted: dict[str, str | int | float] = {"what": what.value, "images": images, "seed": seed, "conflict": conflict}
    with bar(console, "drawing images") as drawing:

        def count(new: int) -> None:
            nonlocal done
            done += new
            drawing(done, images)

        def wait(words: str) -> None:
            nonlocal waited
            waited = True
            say(console, words)

        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with making(folder, wait):
                clear_away(folder)
                if not (waited and drawn_meanwhile(folder, wanted | shape)):
                    draw(folder, images, seed, progress=count, conflict=conflict, **shape)
        except OSError as error:
            raise UserError(f"{folder} can't be written: {error.strerror or error}. Name another folder.") from error
    place = shlex.quote(str(folder))
    usual, drawn = load_benchmark(what.value).data.rendered, {"images": images, "seed": seed, "conflict": conflict}
    settings = [f" --set data.rendered.{key}={value}" for key, value in drawn.items() if value != getattr(usual, key)]
    say(console, f"Look at them: mtlbench data show {place} --task {kind.example}")
    say(console, f"Train on them: mtlbench run --dataset {what.value} --data-dir {place}{''.join(settings)}")


def _size(text: str) -> dict[str, int]:
    from mtlbench.errors import UserError

    sides = re.fullmatch(r"(\d+)[x×](\d+)", text.strip().lower())
    if sides is None:
        raise UserError(f"--size {text}: give width x height in pixels, such as 96x72.")
    return {"width": int(sides[1]), "height": int(sides[2])}

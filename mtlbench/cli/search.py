"""`mtlbench search`: finds the images nearest to a photo of yours, by a trained run's embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from mtlbench.cli.options import DeviceOption, ImagesOption, PluginsOption

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from mtlbench.report.originals import Originals
    from mtlbench.search import Embeds, Found, Run

M = TypeVar("M")

_UNLABELLED = "not labelled"
_MOST_FILES = 3  # unreadable ones that are named


def search(
    run: Annotated[
        Path,
        typer.Argument(
            help="A run's folder, such as results/shoes-quick/shared@tuned/seed-0, or what mtlbench export wrote.",
            show_default=False,
        ),
    ],
    query: Annotated[list[Path], typer.Option(help="A photo to search with; may be repeated.", show_default=False)],
    task: Annotated[str, typer.Option(help="The tasks to search under, joined by commas.", show_default="all")] = "",
    gallery: Annotated[
        Path | None,
        typer.Option(help="Search this folder of images, not the test images.", show_default="the run's test images"),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(help="Search the images of an index that mtlbench index saved.", show_default=False),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many neighbours to show.", min=1)] = 10,
    output: Annotated[Path, typer.Option(help="The picture to write.")] = Path("search.png"),
    data_dir: ImagesOption = None,
    device: DeviceOption = "auto",
    plugins: PluginsOption = None,
) -> None:
    """Find the images nearest to a photo of yours, under each task, and draw them."""
    from rich.console import Console

    from mtlbench.cli.progress import bar, say, status
    from mtlbench.errors import UserError
    from mtlbench.names import names_in

    console = Console()
    if not console.is_terminal:
        console.width = 250  # for grep and the like: a line each
    _check(query, gallery, index, output)
    with status(console, "loading torch …"):
        from mtlbench import search as engine
        from mtlbench.index import embedded, indexed, read_index
    loaded = open_model(console, run, device, plugins)
    saved = read_index(index) if index is not None else None
    asked_for = [loaded.find_task(word) for word in names_in(task)]
    tasks = list(dict.fromkeys(asked_for)) or (saved.tasks if saved else loaded.tasks)
    searched = None
    if saved is not None:
        with status(console, "comparing the index with its folder …"):
            searched = indexed(loaded, saved, tasks)
        gallery = saved.folder
    elif gallery is None:
        embeddings, codes = engine.read_stored(loaded)
    _warn_of_chance(console, loaded, tasks)
    asked, _, unreadable = engine.embed_files(loaded, query)
    if unreadable:
        path, reason = unreadable[0]
        raise UserError(
            f"--query {path} can't be read: {reason}. Give a photo in a common format, such as JPEG or PNG."
        )
    originals = None
    if gallery is not None:
        if searched is None:
            with bar(console, "embedding images") as progress:
                searched = embedded(loaded, gallery, progress)
            tell_left_out(console, searched.left_out)
        embeddings, names, files = searched.embeddings, list(searched.names), list(searched.files)
        labels = [["" for _ in names] for _ in loaded.tasks]
        if not files:
            say(console, f"note: no picture: the images are not at {gallery}.", "yellow")
    else:
        assert isinstance(loaded, engine.Run)
        originals = _originals(console, loaded, data_dir)
        if originals is not None:
            files = list(originals.files)
            names = [_within(file, originals.root) for file in files]
            values = originals.values
            labels = [[values[t][c] if c >= 0 else _UNLABELLED for c in row] for t, row in enumerate(codes.tolist())]
        else:
            files = []
            names = [f"test image {n:,}" for n in range(1, embeddings.shape[1] + 1)]
            labels = [[f"value {c + 1}" if c >= 0 else _UNLABELLED for c in row] for row in codes.tolist()]
    found = engine.search(loaded, asked, embeddings, tasks, k, searched.tasks if searched else None, names)
    for path, answers in zip(query, found, strict=True):
        _print(console, loaded, path, answers, names, labels, gallery is None)
    measure = "between embeddings of unit length" if loaded.benchmark.embedding.normalise else "between embeddings"
    say(console, f"distance: Euclidean, {measure}.", "dim")
    if files:
        with status(console, f"drawing {output} …"):
            _draw(loaded, query, found, files, labels, gallery, originals, output)
        say(console, f"picture: {output}")


def open_model(console: Console, path: Path, device: str, plugins: Sequence[Path] | None) -> Embeds:
    """Open a run's folder, or an exported file, which runs on the processor.

    Raises:
        UserError: see `mtlbench.export.served.open_network`.
    """
    from mtlbench.export.served import open_network

    return _opened(console, plugins, lambda: open_network(path, device))


def tell_left_out(console: Console, left: Sequence[tuple[Path, str]]) -> None:
    """Say which images can't be read."""
    from mtlbench.cli.progress import say

    if left:
        named = ", ".join(f"{path} ({reason})" for path, reason in left[:_MOST_FILES])
        more = f" and {len(left) - _MOST_FILES:,} more" if len(left) > _MOST_FILES else ""
        images = "image" if len(left) == 1 else "images"
        say(console, f"note: {len(left):,} {images} left out that can't be read: {named}{more}.", "yellow")


def open_run(console: Console, folder: Path, device: str, plugins: Sequence[Path] | None) -> Run:
    """Load plug-ins and a run's network, and warn where it may embed differently than before.

    Raises:
        UserError: see `mtlbench.search.load_run`.
    """
    from mtlbench.devices import choose_device
    from mtlbench.search import load_run

    return _opened(console, plugins, lambda: load_run(folder, choose_device(device)))


def _opened(console: Console, plugins: Sequence[Path] | None, load: Callable[[], M]) -> M:
    """Load plug-ins and then a network, and warn of a run whose method has changed."""
    from mtlbench.cli.progress import say
    from mtlbench.plugins import load_given
    from mtlbench.search import Run

    for broken in load_given(plugins or []):
        say(console, f"warning: {broken}", "yellow")
    loaded = load()
    if isinstance(loaded, Run) and loaded.edited:
        say(
            console,
            f"warning: the source of {loaded.record.method} has changed since {loaded.folder} was made; its"
            " weights fit, but embeddings may differ.",
            "yellow",
        )
    return loaded


def _check(query: Sequence[Path], gallery: Path | None, index: Path | None, output: Path) -> None:
    """Refuse what can't be read or written, before anything is loaded."""
    from PIL import Image

    from mtlbench.errors import UserError

    for path in query:
        if not path.is_file():
            raise UserError(f"--query {path}: there is no such file.")
    if gallery is not None and index is not None:
        raise UserError("--gallery and --index exclude each other: give one of them.")
    if gallery is not None and not gallery.is_dir():
        raise UserError(f"--gallery {gallery}: there is no such folder.")
    if output.suffix.lower() not in Image.registered_extensions():
        raise UserError(f"--output {output}: end its name in .png, or in another image format's ending.")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}.")


def _warn_of_chance(console: Console, loaded: Embeds, tasks: Sequence[str]) -> None:
    """Warn of tasks on which this run is near chance: their neighbours are nearly random."""
    from mtlbench.cli.progress import say
    from mtlbench.report.rows import at_chance

    for task in tasks:
        if at_chance(loaded.record, task):
            reached = f"{100 * loaded.record.metrics[task]['triplet']:.1f} % of its test triplets"
            say(
                console,
                f"warning: {task} is near chance in this run, {reached} where 50 % is chance:"
                " its neighbours mean little.",
                "yellow",
            )


def _within(file: Path, root: Path) -> str:
    return str(file.relative_to(root))


def _originals(console: Console, loaded: Run, data_dir: Path | None) -> Originals | None:
    """Return the run's test images; where they are absent, say so."""
    from mtlbench.cli.progress import bar, say
    from mtlbench.errors import UserError
    from mtlbench.report.originals import read_originals

    try:
        with bar(console, "drawing images") as drawing, bar(console, "packing images") as packing:
            return read_originals(loaded.record, data_dir, True, drawing, packing)
    except UserError as error:
        say(
            console,
            f"note: no picture, and label values by number, of {loaded.record.setup['benchmark']['name']}: {error}",
            "yellow",
        )
        return None


def _print(
    console: Console,
    loaded: Embeds,
    path: Path,
    answers: Sequence[Found],
    names: Sequence[str],
    labels: Sequence[Sequence[str]],
    labelled: bool,
) -> None:
    """Print what was found for a query, task by task."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from mtlbench.cli.progress import say
    from mtlbench.names import printable

    say(console, f"nearest to {path}, according to {loaded.folder}:", "bold")
    table = Table(box=SIMPLE_HEAD)
    for heading in ("task", "rank", "file", *(["label"] if labelled else []), "distance"):
        table.add_column(heading, justify="right" if heading in ("rank", "distance") else "left", overflow="fold")
    for answer in answers:
        row = labels[loaded.tasks.index(answer.task)]
        for rank, (place, distance) in enumerate(zip(answer.places, answer.distances, strict=True), 1):
            cells = [answer.task if rank == 1 else "", str(rank), names[place], *([row[place]] if labelled else [])]
            table.add_row(
                *map(Text, map(printable, [*cells, f"{distance:.4f}"])), end_section=rank == len(answer.places)
            )
    console.print(table)


def _draw(
    loaded: Embeds,
    query: Sequence[Path],
    found: Sequence[Sequence[Found]],
    files: Sequence[Path],
    labels: Sequence[Sequence[str]],
    gallery: Path | None,
    originals: Originals | None,
    output: Path,
) -> None:
    """Draw the queries with a row of neighbours per task; those of a test image are marked right or wrong."""
    from mtlbench.report.sheet import Block, Cell, Strip, lay_out

    record = loaded.record
    data = record.receipt.get("data", {})
    asked = {path.name for path in query}
    same = {file.resolve(): i for i, file in enumerate(files) if file.name in asked} if originals is not None else {}
    unlabelled = {_UNLABELLED}
    blocks = []
    for path, answers in zip(query, found, strict=True):
        own = same.get(path.resolve())
        strips = []
        for answer in answers:
            row = labels[loaded.tasks.index(answer.task)]
            cells = []
            for place, distance in zip(answer.places, answer.distances, strict=True):
                right = None if own is None or unlabelled & {row[place], row[own]} else row[place] == row[own]
                words = row[place] if gallery is None else files[place].name
                cells.append(Cell(files[place], f"{distance:.3f} · {words}", right))
            strips.append(Strip(answer.task.replace("_", " "), "" if own is None else row[own], tuple(cells)))
        blocks.append(Block(path, path.name, (), tuple(strips)))
    where = (
        f"the images in {gallery}" if gallery else f"the {len(files):,} test images of {data.get('name', 'the run')}"
    )
    rendered = " (rendered, not real ones)" if data.get("rendered") and not gallery else ""
    below = (
        f"Searched: {where}{rendered}. {record.method}, trained on {data.get('name', 'its data')}"
        f" ({record.setup['benchmark']['name']}), seed {record.seed}. Below each image: its distance and its label."
    )
    if gallery:
        below = below.replace("its distance and its label", "its distance and its name")
    picture = lay_out(
        f"{record.method}: nearest under {', '.join(strip.name for strip in blocks[0].strips)}", below, blocks
    )
    picture.save(output)

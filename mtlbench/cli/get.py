"""`mtlbench data get`: download a data set from its official source, check it and unpack it."""

from __future__ import annotations

import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlbench.cli.progress import say
from mtlbench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from mtlbench.data.download.shared import Progress
    from mtlbench.data.download.source import Source


def get(
    name: Annotated[str, typer.Argument(help="Which data set, such as celeba or zappos.", show_default=False)],
    data_dir: Annotated[
        Path | None, typer.Option(help="The data set's own folder; made where absent.", show_default=False)
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Agree to the terms without being asked.")
    ] = False,
) -> None:
    """Download a data set from its official source, check and unpack it; run it again to continue."""
    from rich.console import Console

    from mtlbench.data.download.get import download, missing
    from mtlbench.data.download.shared import in_words
    from mtlbench.data.reading import default_folder

    console = Console()
    source, folder = _source_of(name), data_dir or default_folder(name)
    absent = missing(source, folder)
    if absent:
        say(console, source.licence)
        size = sum(file.size for file in absent)
        say(console, f"To download to {folder}: {', '.join(file.name for file in absent)}, about {in_words(size)}.")
        if not accept_licence:
            if not _asks():
                raise UserError(
                    f"{source.title} requires that you agree to its terms: read them, then add --accept-licence."
                )
            if not typer.confirm("Do you agree to these terms?"):
                say(console, "Nothing was downloaded.")
                raise typer.Exit(2)
    with _bytes_bar(console) as progress:
        download(source, folder, progress, lambda words: say(console, words))
    say(console, f"{source.title} is in {folder}. To look it over: mtlbench data check {shlex.quote(str(folder))}")


def _source_of(name: str) -> Source:
    """Return where a reader's data set is published."""
    from mtlbench.datasets.contract import readers
    from mtlbench.plugins import load_plugins

    if name not in readers():
        load_plugins()
    sources = {reader: cls.source for reader, cls in readers().items() if cls.source}
    if name not in sources:
        raise UserError(
            f"There is no data set '{name}' to download.{did_you_mean(name, sources)} Available: {', '.join(sources)}."
        )
    return sources[name]()


def _asks() -> bool:
    """Return whether somebody can answer a question."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()  # None: begun with it closed


@contextmanager
def _bytes_bar(console: Console) -> Iterator[Progress]:
    """Yield a callback (bytes done, of, what) that shows a bar on a terminal, and a line for each thing elsewhere."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    from mtlbench.data.download.shared import in_words

    shown = ""
    if not console.is_terminal:

        def line(done: int, total: int, what: str) -> None:
            nonlocal shown
            if what != shown:
                shown = what
                say(console, f"{what}: {in_words(total) if total else 'size not known'}")

        yield line
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        number = bar.add_task("", total=None, visible=False)

        def update(done: int, total: int, what: str) -> None:
            nonlocal shown
            if what != shown:  # the speed of what came before says nothing about this
                shown = what
                bar.reset(number, description=what, total=total or None, completed=done, visible=True)
            bar.update(number, completed=done, total=total or None)

        yield update

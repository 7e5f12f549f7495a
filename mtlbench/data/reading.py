"""Finds a benchmark's data set on disk, draws it if it is a rendered one and missing, and reads its table."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from mtlbench.benchmark import Data, Rendered
from mtlbench.data.making import Tell, making
from mtlbench.data.pack import Progress
from mtlbench.data.table import Table
from mtlbench.datasets.contract import Reader, build_reader, read_with, readers
from mtlbench.errors import UserError
from mtlbench.names import file_name
from mtlbench.plugins import load_plugins
from mtlbench.rendered.kinds import KINDS
from mtlbench.rendered.marks import DRAWING, as_rendered, rendered_facts
from mtlbench.rendered.writing import clear_away


def default_folder(name: str) -> Path:
    """Return the default folder of a data set: under `$MTLBENCH_DATA`, else the platform's folder for user data."""
    return Path(os.environ.get("MTLBENCH_DATA") or platformdirs.user_data_dir("mtlbench")) / name


def rendered_folder(what: Rendered) -> Path:
    """Return the folder of a rendered set; the set is drawn there if missing."""
    conflict = f"-conflict{what.conflict:g}" if what.conflict else ""
    return default_folder(f"rendered-{what.what}-{what.images}-seed{what.seed}{conflict}")


def home_of(data: Data, reader: Reader) -> Path:
    """Return the default folder of a data set that isn't rendered."""
    if data.folder:
        return Path(data.folder)
    usual = default_folder(data.reader)
    return usual / file_name(reader.fetches) if reader.fetches else usual


def read_table(data: Data, root: Path | None, progress: Progress | None = None, tell: Tell | None = None) -> Table:
    """Read the table of a benchmark's data set; draw a rendered one first if it is missing.

    Args:
        data: the benchmark's section.
        root: the data set's folder; by default `default_folder`.
        progress: called while images are drawn.
        tell: called with a sentence before waiting for another process that draws them.

    Raises:
        UserError: the folder does not exist or does not hold the data set.
    """
    if root is not None and not root.is_dir():
        raise UserError(f"--data-dir {root}: there is no such folder.")
    if data.reader not in readers():
        load_plugins()  # `mtlbench run` has done so; other commands need no plug-in
    reader = build_reader(data)
    if data.rendered is not None:
        what = data.rendered
        root = root or rendered_folder(what)
        if _is_empty(root):
            _draw(what, root, progress, tell)
    elif root is None:
        root = home_of(data, reader)
        if reader.found(root) is False:
            raise UserError(f"There is no {data.reader} data at {root}: {_ways_to_images(data.reader, type(reader))}.")
        if not root.is_dir() and (data.folder or not reader.fetches):
            mend = "Correct" if data.folder else "Set"
            raise UserError(f"{root}: there is no such folder. {mend} data.folder, or name one with --data-dir.")
    table = as_rendered(read_with(reader, root, data))
    if data.rendered is not None:
        if not table.rendered:
            raise UserError(
                f"{root} holds real images; this benchmark draws its own. Name another folder with --data-dir."
            )
        facts = rendered_facts(table)
        if facts.get("drawing") != DRAWING:
            raise UserError(
                f"{root} was drawn by another version of mtlbench, whose pictures differ. Remove that folder, so that"
                " it is drawn again."
            )
        for key, wanted in data.rendered.model_dump().items():
            if facts.get(key) != wanted:
                raise UserError(
                    f"{root} was drawn with {key} {facts.get(key)} and this benchmark has {wanted}. Name another folder"
                    f" with --data-dir, or --set data.rendered.{key}={facts.get(key)}."
                )
    if data.camera:
        table = table.by_camera(data.camera)
    return table.limited(data.limit).without_rare(data.min_images)


def _is_empty(folder: Path) -> bool:
    return not folder.exists() or not any(folder.iterdir())


def _draw(what: Rendered, root: Path, progress: Progress | None, tell: Tell | None) -> None:
    """Draw a set, unless another process draws it meanwhile."""
    done = 0

    def count(n: int) -> None:
        nonlocal done
        done += n
        if progress:
            progress(done, what.images)

    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with making(root, tell):
            if _is_empty(root):
                clear_away(root)
                KINDS[what.what].renderer()(root, what.images, what.seed, progress=count, conflict=what.conflict)
    except OSError as error:
        raise UserError(
            f"The rendered set {root} can't be written: {error.strerror or error}. Set MTLBENCH_DATA to a folder that"
            " can be written to and has room."
        ) from error


def _ways_to_images(name: str, reader: type[Reader]) -> str:
    """Return what a user can do to get the images of a reader."""
    ways = [f"fetch it with mtlbench data get {name}"] if reader.source else []
    ways.append("name its folder with --data-dir")
    if reader.stand_in:
        ways.append(f"try --dataset {reader.stand_in}, which draws its own images")
    return ways[0] if len(ways) == 1 else f"{', '.join(ways[:-1])}, or {ways[-1]}"

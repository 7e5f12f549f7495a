"""Recognises a data set on disk, opens every image in it, and reports what would spoil a comparison."""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import UnidentifiedImageError

from mtlbench.benchmark import Data, benchmark_files, load_benchmark
from mtlbench.data.decoding import BROKEN, FILE, Pixels, most_of_deep, read_image, reason_of, size_of
from mtlbench.data.depth import DIM
from mtlbench.data.making import Tell
from mtlbench.data.near_copies import SIDE, Thumbnails
from mtlbench.data.pack import Progress
from mtlbench.data.reading import read_table
from mtlbench.data.splits import in_two_splits
from mtlbench.data.table import SPLITS, Table
from mtlbench.data.webpage import holds_drawing, holds_web_page
from mtlbench.datasets.contract import build_reader, proposed_by, read_with, readers
from mtlbench.datasets.rows import unread
from mtlbench.errors import UserError
from mtlbench.options import toml
from mtlbench.rendered.marks import as_rendered

FEW = 24  # test images per value: with fewer, a handful of images decides its triplets
SMALL = 8  # pixels: nothing is visible on an image with a shorter side
_NAMED = 3  # how many unreadable tables to name, of a folder that holds nothing known
_BENCHMARK = """\
name = {name}
title = {title}

[data]
{data}
image_size = 64  # pixels, or [height, width]

[model]
backbone = "small"
embedding = 64

[train]
sampling = "joint"
triplets = 16
steps = 400
optimiser = "adamw"
lr = 3e-3
schedule = "one-cycle"

[evaluation]
every = 80
triplets = 2000
"""


@dataclass
class Recognised:
    """A data set that was recognised.

    Attributes:
        table: its images and labels.
        min_images: in its benchmark, values with fewer test images anchor fewer triplets.
        tasks, fallback_tasks: the tasks that its benchmark names, and their replacements; empty for a folder.
        skips_unreadable: its benchmark leaves out images that are missing or broken.
        anchors: which images anchor its benchmark's test triplets: `balanced` or `positive`.
    """

    table: Table
    tasks: list[str] = field(default_factory=list)
    fallback_tasks: list[str] = field(default_factory=list)
    skips_unreadable: bool = False
    min_images: int = 0
    anchors: str = "balanced"


@dataclass
class Findings:
    """The findings from opening the images of a table; numbers are indices into its paths.

    Attributes:
        missing: images whose file does not exist.
        broken: images that can't be decoded, with the reasons.
        sizes: how many images have each (width, height) in pixels.
        small: images with a side shorter than `SMALL`.
        dim: images of 16 bits per channel whose values need at most 12 bits, with the highest value, of 255.
        flat: images of a single colour, with that colour.
        copies: images whose file has the same bytes as another's.
        leaks: copies whose twin is in another split; `leak` is one such pair.
        contradictions: copies whose twin has another label; `contradiction` is one such pair, and the task.
        thumbnails: of all images, for `near_copies`, if requested.
    """

    missing: list[int] = field(default_factory=list)
    broken: dict[int, str] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    small: list[int] = field(default_factory=list)
    dim: dict[int, int] = field(default_factory=dict)
    flat: dict[int, tuple[int, ...]] = field(default_factory=dict)
    copies: int = 0
    leaks: int = 0
    leak: tuple[int, int] | None = None
    contradictions: int = 0
    contradiction: tuple[int, int, str] | None = None
    thumbnails: Thumbnails | None = None

    @property
    def unreadable(self) -> set[int]:
        """Images that a run can't use."""
        return {*self.missing, *self.broken}


def read_source(source: Path, drawing: Progress | None = None, tell: Tell | None = None) -> Recognised:
    """Read the table of a data set, given its folder or the file of a benchmark.

    Args:
        source: a folder that a reader recognises, or the path of a benchmark's .toml.
        drawing: called while images are drawn, for a benchmark that draws its own.
        tell: called with a sentence before waiting for another process that draws them.

    Raises:
        UserError: the folder holds nothing known, or its label files can't be used. For a folder of the user's own
            images, the message gives a benchmark to write.
    """
    if source.suffix == ".toml" and not source.is_dir():
        benchmark = load_benchmark(str(source))
        data = benchmark.data
        return Recognised(
            read_table(data, None, drawing, tell), data.tasks, data.fallback_tasks, data.skip_unreadable,
            benchmark.evaluation.min_images, benchmark.evaluation.anchors,
        )  # fmt: skip
    if not source.is_dir():
        raise UserError(f"{source}: there is no such folder.")
    known = readers()
    for reader, cls in known.items():
        if cls.found(source):
            data = Data(reader=reader, image_size=SMALL)
            return Recognised(as_rendered(read_with(build_reader(data), source, data)))
    what, name, text = suggested_benchmark(source)
    raise UserError(
        f"{source} holds {what}: describe them in a benchmark of your own. Write these lines to {name}.toml,"
        f" as mtlbench new --benchmark {shlex.quote(str(source))} does, then run mtlbench data check {name}.toml"
        f"\n\n{text}"
    )


def suggested_benchmark(source: Path, at: Path = Path()) -> tuple[str, str, str]:
    """Return what a folder of the user's own images holds, and the name and text of a benchmark that reads it.

    Args:
        source: the folder.
        at: where the benchmark's file will lie; images there or below are named relative to it.

    Raises:
        UserError: there is no such folder, it holds nothing known, or its data set already has a benchmark.
    """
    if not source.is_dir():
        raise UserError(f"{source}: there is no such folder.")
    known = readers()
    for reader, cls in known.items():
        if cls.found(source):
            raise UserError(
                f"{source} holds the data set '{reader}', which needs no file of its own: run mtlbench data check"
                f" {shlex.quote(str(source))}, or give the folder to a benchmark with --data-dir."
            )
    proposals = [found for cls in known.values() if (found := proposed_by(cls, source)) is not None]
    proposal = min(proposals, key=lambda found: not found.certain, default=None)
    if proposal is None:
        layouts = ", ".join(cls.layout for cls in known.values() if cls.layout)
        tables = " ".join(unread(source)[:_NAMED])
        raise UserError(
            f"{source} holds no data set known here: {layouts}, and images of your own come with a CSV of labels or in"
            f" a folder per label. {tables}".rstrip()
        )
    folder = source.resolve()
    name = re.sub(r"[^a-z0-9._-]+", "-", folder.name.lower()).strip("-._") or "photos"
    if name in benchmark_files():  # the results of both would share a folder
        name = f"my-{name}"
    beside = folder.is_relative_to(at.resolve())
    where = folder.relative_to(at.resolve()).as_posix() if beside else str(folder)
    text = _BENCHMARK.format(
        name=toml(name),
        title=toml(folder.name or "My photos"),
        data="\n".join([*proposal.section, f"folder = {toml(where)}"]),
    )
    return proposal.what, name, text


@dataclass(frozen=True)
class FewImages:
    """A task with values that have few test images.

    Attributes:
        task: its name.
        values: these values with their numbers of test images, at least two, the fewest first.
        share: the share of the task's test triplets whose anchor has one of these values.
        anchors: `balanced`: anchors are drawn evenly over values; `positive`: from label 1 alone.
    """

    task: str
    values: tuple[tuple[str, int], ...]
    share: float
    anchors: str = "balanced"

    def __str__(self) -> str:
        value, count = self.values[0]
        pairs = count * (count - 1) // 2
        rest = f"1 pair of images: {value}" if pairs == 1 else f"{pairs:,} pairs of images: {value}"
        if self.anchors == "positive":
            return (
                f"{self.task}: the value {value}, which anchors all test triplets, has fewer than {FEW} test images:"
                f" they rest on {rest.partition(':')[0]}. Take anchors of every value with evaluation.anchors ="
                ' "balanced", or another task.'
            )
        number = f"{len(self.values)} values have" if len(self.values) > 1 else "1 value has"
        return (
            f"{self.task}: {number} fewer than {FEW} test images and {self.share:.0%} of the test triplets, since"
            f" anchors are drawn evenly over values. Triplets of one value rest on as few as {rest}. Merge such values,"
            f" leave them out with data.min_images, or let them count less with evaluation.min_images = {FEW}."
        )


def few_test_images(table: Table, tasks: Sequence[str], anchors: str = "balanced") -> list[FewImages]:
    """Return the tasks with values that have few test images.

    Tasks whose triplets depend most on such values come first.

    Args:
        table: of the data set; tasks: by name.
        anchors: see `FewImages`.
    """
    found: list[FewImages] = []
    if table.roles and table.roles.of(table.split == SPLITS.index("test")):
        return found  # the message counts pairs of any two images, which does not apply to queries and gallery
    for task in tasks:
        column = table.columns[task]
        if column.members is not None:
            continue
        codes = column.codes[(table.split == SPLITS.index("test")) & (column.codes >= 0)]
        counts = np.bincount(codes, minlength=len(column.values))
        able = counts >= 2  # a single image anchors no triplet
        if anchors == "positive":
            able &= np.arange(len(counts)) == 1
        few = sorted((int(counts[code]), column.values[code]) for code in np.flatnonzero(able & (counts < FEW)))
        if few and task not in table.triplets:
            share = len(few) / int(able.sum())
            found.append(FewImages(task, tuple((value, n) for n, value in few), share, anchors))
    return sorted(found, key=lambda one: -one.share)


def open_images(table: Table, progress: Progress | None = None, thumbnails: bool = False) -> Findings:
    """Open and decode every image of a table as packing does, and compare their files byte by byte.

    Args:
        table: its images.
        progress: called as images are opened.
        thumbnails: keep a thumbnail of each image.
    """
    found = Findings()
    if thumbnails:
        found.thumbnails = np.zeros((len(table), SIDE * SIDE * 3), np.uint8)
    same: dict[bytes, list[int]] = {}  # by the digest of the file
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without the interpreter's lock
        for start in range(0, len(table), 512):
            chunk = range(start, min(start + 512, len(table)))
            for i, image in zip(chunk, pool.map(_open, (table.root / table.paths[i] for i in chunk)), strict=True):
                if image is None:
                    found.missing.append(i)
                elif isinstance(image, str):
                    found.broken[i] = image
                else:
                    digest, size, pixels, most = image
                    if most is not None and most <= DIM:
                        found.dim[i] = most
                    if found.thumbnails is not None:
                        found.thumbnails[i] = pixels.reshape(-1)
                    same.setdefault(digest, []).append(i)
                    found.sizes[size] += 1
                    if min(size) < SMALL:
                        found.small.append(i)
                    if (pixels == pixels[:1, :1]).all():
                        found.flat[i] = tuple(pixels[0, 0].tolist())
            if progress:
                progress(chunk.stop, len(table))
    for group in same.values():
        if len(group) > 1:
            _compare(table, group, found)
    return found


def _open(file: Path) -> tuple[bytes, tuple[int, int], Pixels, int | None] | str | None:
    """Return an image's digest, (width, height), thumbnail and the result of `most_of_deep`.

    If it can't be decoded, return the reason; if there is no file, return None.
    """
    record = np.zeros(1, FILE)
    try:
        pixels = read_image(file, (SIDE, SIDE), "squash", record[0])
        return record["digest"].tobytes(), size_of(file), pixels, most_of_deep(file)
    except FileNotFoundError:
        return None
    except UnidentifiedImageError as error:
        if not record["size"][0]:
            return "the file is empty"
        if holds_drawing(file):
            return "an SVG drawing, not an image of pixels: export it as PNG"
        return "a web page, not an image" if holds_web_page(file) else reason_of(error)
    except BROKEN as error:
        return reason_of(error)


def _compare(table: Table, group: list[int], found: Findings) -> None:
    """Record images with the same bytes, and whether their splits or labels differ."""
    found.copies += len(group)
    if pair := in_two_splits(group, table.split):
        found.leaks += len(group)
        found.leak = found.leak or pair
    for task, column in table.columns.items():
        codes = column.codes[group]
        labelled = np.flatnonzero(codes >= 0)
        other = labelled[codes[labelled] != codes[labelled[0]]] if len(labelled) else labelled
        if len(other):
            found.contradictions += len(group)
            found.contradiction = found.contradiction or (group[labelled[0]], group[other[0]], task)
            return

"""The contract of a reader, which turns files on disk into a `Table`, and where readers are found by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np

from mtlbench.benchmark import Data
from mtlbench.blame import breach
from mtlbench.data.download.source import Source
from mtlbench.data.table import SPLITS, Column, Kin, Table
from mtlbench.errors import counted
from mtlbench.options import valid
from mtlbench.registry import READERS, register_class

T = TypeVar("T")


@dataclass(frozen=True)
class Proposal:
    """How a folder of a user's own images can be read.

    Attributes:
        what: it holds, in words: "images in folders".
        section: the lines of a benchmark's [data] that say so; those of the folder and the image size are not among
            them.
        certain: the layout is that of a known kind of data set. It goes before what fits any folder of images.
    """

    what: str
    section: tuple[str, ...]
    certain: bool = False


class Reader(ABC):
    """Reads images and labels in one layout; nothing is decoded, and nothing downloaded but by a reader that `fetches`.

    A subclass takes its options as keyword-only arguments with types and defaults; a benchmark sets them in
    `[data.options]`. What the keys of `[data]` say of any data set, such as `split_seed`, comes with `data`.

    >>> from mtlbench import Reader, Table, register_reader
    >>> from mtlbench.data.table import column_of, split_at_random
    >>> @register_reader("by-first-letter")
    ... class ByFirstLetter(Reader):
    ...     '''The images of one folder; the label of each is how its name begins.'''
    ...
    ...     def __init__(self, *, letters: int = 1):
    ...         self.letters = letters
    ...
    ...     def read(self, folder, data):
    ...         paths = sorted(path.name for path in folder.glob("*.jpg"))
    ...         split = split_at_random(paths, data.split_seed)
    ...         labels = column_of([path[: self.letters] for path in paths])
    ...         return Table(folder.name, folder, tuple(paths), {"letter": labels}, split, "by image at random")

    Attributes:
        layout: what lies where in a folder of this data set, in words: "CelebA has img_align_celeba/ and …".
        stand_in: the benchmark that draws images in the same layout.
        source: returns where the data set is published; `mtlbench data get` fetches it from there.
        fetches: the name of the data set that `read` gets by itself where its folder is not there, as options say.
    """

    layout: ClassVar[str] = ""
    stand_in: ClassVar[str] = ""
    source: ClassVar[Callable[[], Source] | None] = None
    fetches: str = ""

    @abstractmethod
    def read(self, folder: Path, data: Data) -> Table:
        """Return the paths, labels and split of the data set in a folder, and in `Table.remarks` what is odd about it.

        Images may be missing: packing finds out.

        Args:
            folder: the data set's own.
            data: the benchmark's section.

        Raises:
            UserError: something is missing or malformed; it says what, and what to do.
        """

    @classmethod
    def found(cls, folder: Path) -> bool | None:
        """Return whether a folder looks like this data set, whole or not; None if that can't be told, as by default."""
        return None

    @classmethod
    def propose(cls, folder: Path) -> Proposal | None:
        """Return how this reader can read a folder of a user's own images, if it can."""
        return None


def register_reader(name: str, *, groups: Sequence[str] = (), cite: str = "") -> Callable[[type[T]], type[T]]:
    """Class decorator: make a `Reader` known as `name`, for a benchmark's `data.reader`.

    >>> import numpy as np
    >>> from mtlbench import Reader, Table, register_reader
    >>> from mtlbench.data.table import column_of
    >>> @register_reader("three-photos")
    ... class ThreePhotos(Reader):
    ...     '''Three photos, one a split.'''
    ...
    ...     def read(self, folder, data):
    ...         columns = {"kind": column_of(["boot", "boot", "sandal"])}
    ...         paths, split = ("a.jpg", "b.jpg", "c.jpg"), np.arange(3)
    ...         return Table("three", folder, paths, columns, split, "as published")

    Args:
        name: what benchmarks call it.
        groups: by which lists find it beside others.
        cite: the data set's source: a BibTeX entry, or a key of methods/references.bib.

    Raises:
        UserError: no subclass of `Reader`, abstract methods left, or the name is taken.
    """
    return register_class(READERS, Reader, name, groups=groups, cite=cite)


def readers() -> dict[str, type[Reader]]:
    """Return every reader in the order of their names: those of this folder, and of plug-ins that were loaded."""
    return {name: READERS.get(name).target for name in sorted(READERS)}


def build_reader(data: Data) -> Reader:
    """Build the reader of a benchmark's data with its options.

    Raises:
        UserError: no such reader, an option that it does not have or that is missing, or a value of another type.
    """
    cls = READERS.get(data.reader).target
    reader: Reader = cls(**valid(READERS.kind, data.reader, cls, data.options, "data.options"))
    return reader


def read_with(reader: Reader, folder: Path, data: Data) -> Table:
    """Return what a reader reads.

    Raises:
        UserError: the reader refuses the folder.
        ContractError: what it returned is no table whose parts fit each other.
    """
    found, cls = reader.read(folder, data), type(reader)

    def refuse(must: str, what: object) -> Exception:
        return breach(READERS, cls, must, what, cls.read)

    if not isinstance(found, Table):
        raise refuse("return a Table from read", found)
    number = len(found.paths)
    if not number or not all(isinstance(path, str) for path in found.paths):
        one = next((path for path in found.paths if not isinstance(path, str)), None)
        raise refuse("name its images by text in Table.paths", "an empty tuple" if not number else one)
    if not isinstance(found.columns, dict) or not found.columns:
        raise refuse("name its tasks in Table.columns, a dict of name to Column", found.columns)
    for task, column in found.columns.items():
        where = f"give '{task}' in Table.columns"
        if not isinstance(column, Column):
            raise refuse(f"{where} a Column, such as column_of(labels)", column)
        if not _whole(column.codes, number):
            raise refuse(f"{where} {number} whole numbers, one an image, as codes", column.codes)
        low, high = int(column.codes.min()), int(column.codes.max())
        if low < -1 or high >= len(column.values):
            words = f"{where} codes from -1 to {len(column.values) - 1}, of its {counted(len(column.values), 'value')}"
            raise refuse(words, f"from {low} to {high}")
        if column.members is not None:
            shape = (len(column.values), len(column.parts))
            if column.members.dtype != np.bool_ or column.members.shape != shape:
                raise refuse(f"{where} truth values {shape} as members, a row a set", column.members)
            if not column.members[column.codes[column.codes >= 0]].any(1).all():
                raise refuse(
                    f"{where} sets of at least one value; an image without any has the code -1", "an empty set"
                )
    if not _whole(found.split, number) or not np.isin(found.split, range(len(SPLITS))).all():
        must = f"return {number} numbers 0 (train), 1 (val) or 2 (test), one an image, as Table.split"
        raise refuse(must, "other numbers" if _whole(found.split, number) else found.split)
    if found.kin is not None and not (isinstance(found.kin, Kin) and _whole(found.kin.codes, number)):
        must = f"return None or a Kin with {number} whole numbers, one an image, as Table.kin"
        raise refuse(must, found.kin.codes if isinstance(found.kin, Kin) else found.kin)
    for flags in (found.roles.query, found.roles.gallery) if found.roles else ():
        if not (isinstance(flags, np.ndarray) and flags.shape == (number,) and flags.dtype == np.bool_):
            raise refuse(f"return {number} truth values, one an image, in Table.roles", flags)
    if found.apart is not None and not _whole(found.apart, number):
        raise refuse(f"return None or {number} whole numbers, one an image, as Table.apart", found.apart)
    for task, sides in found.triplets.items():
        for split, rows in sides.items():
            if task not in found.columns or split not in SPLITS:
                must = f"give triplets by task and split ({', '.join(SPLITS)}) in Table.triplets"
                raise refuse(must, f"'{split}' of '{task}'")
            where = f"Table.triplets of '{task}', {split}"
            if not (isinstance(rows, np.ndarray) and rows.shape == (len(rows), 3) and rows.dtype.kind in "iu"):
                raise refuse(f"return (n, 3) whole numbers, indices into Table.paths, in {where}", rows)
            if rows.size and not 0 <= rows.min() <= rows.max() < number:
                raise refuse(f"name images from 0 to {number - 1} in {where}", f"from {rows.min()} to {rows.max()}")
            others = found.split[rows] != SPLITS.index(split)
            if others.any():
                raise refuse(f"name images of that split alone in {where}", f"image {rows[others][0]} of another")
    return found


def proposed_by(cls: type[Reader], folder: Path) -> Proposal | None:
    """Return how a reader can read a folder of a user's own images, if it can.

    Raises:
        ContractError: it returned something else.
    """
    found: object = cls.propose(folder)
    if found is not None and not isinstance(found, Proposal):
        raise breach(READERS, cls, "return a Proposal or None from propose", found, cls.propose)
    return found


def _whole(found: object, number: int) -> bool:
    return isinstance(found, np.ndarray) and found.shape == (number,) and np.issubdtype(found.dtype, np.integer)

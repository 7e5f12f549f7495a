"""The contract of a reader, which turns files on disk into a `Table`, and where readers are found by name."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from mtlbench.benchmark import Data
from mtlbench.bibliography import bibtex
from mtlbench.data.download.source import Source
from mtlbench.data.table import Table
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
    """

    what: str
    section: tuple[str, ...]


class Reader(ABC):
    """Reads images and labels in one layout; nothing is downloaded, unpacked or decoded.

    A subclass takes its options as keyword-only arguments with types and defaults; a benchmark sets them in
    `[data.options]`. What the keys of `[data]` say of any data set, such as `split_seed`, comes with `data`.

    >>> import numpy as np
    >>> from mtlbench.data.table import Table, column_of, split_at_random
    >>> from mtlbench.datasets.contract import Reader, register_reader
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
    """

    layout: ClassVar[str] = ""
    stand_in: ClassVar[str] = ""
    source: ClassVar[Callable[[], Source] | None] = None

    @abstractmethod
    def read(self, folder: Path, data: Data) -> Table:
        """Return the paths, labels and split of the data set in a folder, and in `Table.remarks` what is odd about it.

        Whether each image is there is left to packing.

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

    Args:
        name: what benchmarks call it.
        groups: by which lists find it beside others.
        cite: the data set's source: a BibTeX entry, or a key of methods/references.bib.

    Raises:
        UserError: no subclass of `Reader`, abstract methods left, or the name is taken.
    """
    return register_class(READERS, Reader, name, groups=groups, cite=bibtex(cite))


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


def quoted(text: str) -> str:
    """Return a TOML string, for a proposal's lines."""
    return json.dumps(text, ensure_ascii=False)

"""Query and gallery sets, as in re-identification and shops: which held-out images are queries, and which are searched.

Without roles, every held-out image is a query, and all the others are searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mtlbench.errors import UserError, counted

Bools = npt.NDArray[np.bool_]
QUERY, GALLERY = "is_query", "is_gallery"  # names of the columns
_QUERY_WORDS, _GALLERY_WORDS = ("query",), ("gallery", "bounding_box_test")
_YES, _NO = ("true", "yes", "1", "1.0", "t", "y"), ("false", "no", "0", "0.0", "f", "n")
_EMPTY = ("", "nan")


@dataclass(frozen=True)
class Roles:
    """(N,) bool: which images are queries, and which are in the gallery; an image may be both, or neither.

    If no image of a split has a role, all its images have both.

    >>> import numpy as np
    >>> from mtlbench import Roles
    >>> print(Roles(query=np.array([True, False]), gallery=np.array([False, True])))
    1 query against 1 gallery image
    """

    query: Bools
    gallery: Bools

    def subset(self, keep: npt.NDArray[np.int64]) -> Roles:
        """Return the roles of some images."""
        return Roles(self.query[keep], self.gallery[keep])

    def of(self, members: Bools) -> Roles | None:
        """Return the roles of a split's images, (N,) bool, or None if none of them has one."""
        found = self.subset(np.flatnonzero(members))
        return found if (found.query | found.gallery).any() else None

    def __str__(self) -> str:
        both = int((self.query & self.gallery).sum())
        also = f", {both:,} of them both" if both else ""
        number = int(self.query.sum())
        queries = f"{number:,} queries" if number != 1 else "1 query"
        return f"{queries} against {counted(int(self.gallery.sum()), 'gallery image')}{also}"


def roles_of(words: Sequence[str]) -> Roles | None:
    """Return the roles that split names or top folders give: query, and gallery or bounding_box_test.

    Other names give no role. Unless both roles occur, there are none at all.
    """
    plain = [word.lower() for word in words]
    query = np.array([word in _QUERY_WORDS for word in plain], dtype=bool)
    gallery = np.array([word in _GALLERY_WORDS for word in plain], dtype=bool)
    return Roles(query, gallery) if query.any() and gallery.any() else None


def check_roles(found: Roles | None, split: npt.NDArray[np.int64], words: Sequence[str], where: str) -> Roles | None:
    """Check the roles from folders or splits, and return them.

    Raises:
        UserError: a test image is in neither set, for example if a folder test/ is beside query/ and gallery/.
    """
    if found is None:
        return None
    left = np.flatnonzero((split == 2) & ~(found.query | found.gallery))
    if len(left):
        raise UserError(
            f"{where}: '{words[left[0]]}' is a test set beside query and gallery, and its images are in neither: move"
            " them into one of these."
        )
    return found


def roles_in(
    query: Sequence[str] | None, gallery: Sequence[str] | None, split: npt.NDArray[np.int64], where: str
) -> tuple[Roles | None, list[str]]:
    """Return the roles from the columns is_query and is_gallery, and remarks on them.

    Args:
        query, gallery: their N cells, None for a missing column.
        split: (N,) 0 train, 1 val, 2 test.
        where: the file or data that holds them, for messages.

    Raises:
        UserError: one column without the other, a cell that is neither yes nor no, or a set that is empty.
    """
    if query is None and gallery is None:
        return None, []
    if query is None or gallery is None:
        there, lacking = (GALLERY, QUERY) if query is None else (QUERY, GALLERY)
        raise UserError(
            f"{where} has a column '{there}' and none '{lacking}': add it, or rename the first to be a task."
        )
    found = Roles(flags_in(query, QUERY, where), flags_in(gallery, GALLERY, where))
    trained = (split == 0) & (found.query | found.gallery)
    held_out = Roles(found.query & (split != 0), found.gallery & (split != 0))
    for name, flags in ((QUERY, held_out.query), (GALLERY, held_out.gallery)):
        if not (flags & (split == 2)).any():
            raise UserError(f"{where}: no test image is marked by '{name}': mark some, or leave out both columns.")
    remarks = []
    if trained.any():
        remarks.append(f"{_images(trained, 'training')} marked as query or gallery: trained on, not searched.")
    idle = (split == 2) & ~(held_out.query | held_out.gallery)
    if idle.any():
        remarks.append(f"{_images(idle, 'test')} neither query nor gallery, and not used.")
    return held_out, remarks


def _images(which: Bools, split: str) -> str:
    number = int(which.sum())
    return f"{number:,} {split} images are" if number != 1 else f"1 {split} image is"


def are_flags(cells: Iterable[str]) -> bool:
    """Return whether a column's cells are yes, no or empty, and not all empty."""
    words = {cell.strip().lower() for cell in cells} - set(_EMPTY)
    return bool(words) and words <= {*_YES, *_NO}


def flags_in(cells: Sequence[str], name: str, where: str, lines: Sequence[int] = ()) -> Bools:
    """Return which of a column's cells mean yes, (N,) bool; an empty cell means no, unless `lines` are given.

    Args:
        cells: N; name: of the column; where: the data, for messages.
        lines: N, numbers of the rows, where each of them has to say yes or no.

    Raises:
        UserError: a cell is neither yes nor no; the message names its line where lines are given.
    """
    plain = [cell.strip().lower() for cell in cells]
    known = {*_YES, *_NO, *(() if len(lines) else _EMPTY)}
    odd = next((place for place, word in enumerate(plain) if word not in known), None)
    if odd is not None:
        says = f"says '{cells[odd]}'"
        said = f"line {lines[odd]} {says} in column {name}" if len(lines) else f"the column '{name}' {says}"
        raise UserError(
            f"{where}: {said} where true or false belongs: correct it, or rename the column if it is a task."
        )
    return np.array([word in _YES for word in plain], dtype=bool)

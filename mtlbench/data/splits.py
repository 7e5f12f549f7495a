"""Splits of a user's own images: names that stand for splits, and random splits that leave none empty."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtlbench.data.roles import are_flags, flags_in
from mtlbench.data.table import SPLITS, Labels, Table, split_at_random
from mtlbench.errors import UserError, counted, plain_name

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "bounding_box_train"), 0),
    **dict.fromkeys(("val", "validation", "valid", "dev"), 1),
    **dict.fromkeys(("test", "testing", "query", "gallery", "bounding_box_test"), 2),
}
_FLAGS = {
    f"is{word}": side for word, side in SPLIT_WORDS.items() if word.isalpha() and word not in ("query", "gallery")
}
_SIDES = "|".join(name.removeprefix("is") for name in _FLAGS)
_LIKE_FLAGS = re.compile(rf"(is)?(in|for)?({_SIDES})(set|split|subset|images?|samples?|data|flag)?")
SPLIT_COLUMNS = ("split", "splits", "partition", "subset", "set", "phase", "usage")  # they say the split, or nothing
NUMBERS = ("0", "1", "2")  # of train, val and test, as CelebA's partition has them
_FOLDS = ("fold", "folds", "foldid", "foldnumber", "kfold", "cvfold")


@dataclass(frozen=True)
class Aside:
    """Columns that are tasks only if the user asks.

    Attributes:
        flags: that say whether an image is in one split, such as `is_train`, with the split's number.
        folds: that number the folds of a cross-validation.
        alike: that look like flags of splits and are none: `train`; or two about the same split, `is_val` and `is_dev`.
    """

    flags: dict[str, int]
    folds: list[str]
    alike: list[str]

    def remarks(self) -> list[str]:
        """Return remarks that these columns are not tasks."""
        flagged = [f"'{name}' says the split, and is no task unless data.tasks names it." for name in self.flags]
        alike = [f"'{name}' looks like a split, and is no task unless data.tasks names it." for name in self.alike]
        folds = [f"'{name}' numbers folds, and is no task unless data.tasks names it: left out." for name in self.folds]
        return folds + flagged + alike

    def refuse_alike(self, where: str) -> None:
        """Refuse what looks like flags of splits where nothing else says the split: a random one would replace it.

        Raises:
            UserError: there are such columns.
        """
        if self.alike:
            look = f"columns {', '.join(self.alike)} look" if len(self.alike) > 1 else f"column {self.alike[0]} looks"
            raise UserError(
                f"{where}: the {look} like the split. Have one column for each split, called is_train, is_val or"
                " is_test; or name it in data.tasks if it is a task."
            )


def columns_aside(names: Iterable[str], cells: Callable[[str], Iterable[str]], asked: Iterable[str]) -> Aside:
    """Return the columns that are tasks only if the user asks.

    Args:
        names: of columns; cells: returns the cells of a column.
        asked: names of the columns that the user wants as a task or a group.
    """
    wanted = {plain_name(name) for name in asked}
    free = [name for name in names if plain_name(name) not in wanted]
    flags = {name: _FLAGS[plain_name(name)] for name in free if plain_name(name) in _FLAGS}
    alike = [
        name for name in free
        if name not in flags and _LIKE_FLAGS.fullmatch(plain_name(name).replace(" ", "")) and are_flags(cells(name))
    ]  # fmt: skip
    if len(set(flags.values())) < len(flags):
        flags, alike = {}, [*flags, *alike]
    return Aside(flags, [name for name in free if are_folds(name, cells(name))], alike)


def like_split(name: str, cells: Iterable[str]) -> bool:
    """Return whether a column is the split by its name or its words: as a task it would be learned and not kept to."""
    words = {cell.strip().lower() for cell in cells} - {""}
    sides = {SPLIT_WORDS.get(word) for word in words}
    numbered = name.lower() in SPLIT_COLUMNS and len(words) > 1 and words <= set(NUMBERS)
    return numbered or (None not in sides and len(sides) > 1)


def split_by_words(words: Sequence[str], lines: Sequence[int], where: str, column: str, remedy: str) -> Labels:
    """Return the (N,) sides that a column of train, val and test, or of 0, 1 and 2, gives.

    Args:
        words: its cells, N; lines: N, numbers of the rows.
        where: the data, column: the column's name, remedy: what else can be done, for messages.

    Raises:
        UserError: a cell names no split; the message names the line.
    """
    plain = [word.strip().lower() for word in words]
    numbered = bool(set(plain) - {""}) and set(plain) - {""} <= set(NUMBERS)
    known = {number: int(number) for number in NUMBERS} if numbered else SPLIT_WORDS
    odd = next((place for place, word in enumerate(plain) if word not in known), None)
    if odd is not None:
        belongs = "0, 1 or 2" if numbered else "train, val or test"
        raise UserError(
            f"{where}: line {lines[odd]} says '{words[odd]}' in column {column} where {belongs} belongs. Correct it, or"
            f" {remedy}."
        )
    return np.array([known[word] for word in plain], dtype=np.int64)


def in_two_splits(group: Sequence[int], split: Labels) -> tuple[int, int] | None:
    """Return the first of some images that are the same, and the first of them in another split; None without one."""
    splits = split[list(group)]
    other = int(np.argmax(splits != splits[0]))
    return (int(group[0]), int(group[other])) if other else None


def remark_on_leaks(number: int, pair: tuple[int, int], table: Table) -> str:
    """Return a remark on images that are in two splits: how many there are, and a pair of them."""
    such = " and ".join(f"{table.paths[i]} ({SPLITS[table.split[i]]})" for i in pair)
    return (
        f"{counted(number, 'image')} have the same content as one of another split, such as {such}: a training image"
        " must not be a test image."
    )


def split_of_columns(
    saying: Mapping[str, Sequence[str]], lines: Sequence[int], groups: Sequence[str], seed: int, where: str
) -> tuple[Labels, str]:
    """Return the complete split given by columns, and what was drawn to complete it.

    Args:
        saying: the cells of each column, N: of flags, see `Aside`, or of one of words, see `split_by_words`.
        lines: N, numbers of the rows; where: the data, for messages.
        groups, seed: see `completed`.

    Raises:
        UserError: see `split_by_flags`, `split_by_words` and `check_splits`.
    """
    sides = {name: _FLAGS[plain_name(name)] for name in saying if plain_name(name) in _FLAGS}
    if sides:
        split = split_by_flags(saying, sides, lines, where)
    else:
        [(name, words)] = saying.items()
        split = split_by_words(words, lines, where, name, "name it in data.tasks if it is a task")
    split, drawn = completed(split, groups, seed)
    remedy = "give it some images, or drop these columns to split 70/10/20 at random"
    check_splits(split, f"{where}, {', '.join(saying)}", remedy)
    return split, f"{', '.join(saying)}{drawn}"


def split_by_flags(
    cells: Mapping[str, Sequence[str]], sides: Mapping[str, int], lines: Sequence[int], where: str
) -> Labels:
    """Return the (N,) sides given by columns of true and false, see `Aside`.

    An image with no true cell is in a split that has no column: with `is_train` alone, in test; with `is_val` or
    `is_test` alone, in train.

    Args:
        cells: of each of these columns, N.
        sides: the columns' splits.
        lines: N, numbers of the rows; where: the data, for messages.

    Raises:
        UserError: a cell is empty or neither true nor false, or an image is in two splits or none; the message names
            the line.
    """
    split = np.full(len(lines), -1, dtype=np.int64)
    for name, side in sides.items():
        flags = flags_in(cells[name], name, where, lines)
        twice = np.flatnonzero(flags & (split >= 0))
        if len(twice):
            raise UserError(
                f"{where}: line {lines[twice[0]]} is in two splits by the columns {', '.join(sides)}: correct it, or"
                " name them in data.tasks if they are tasks."
            )
        split[flags] = side
    others = [side for side in (2, 0, 1) if side not in sides.values()]
    if 0 not in sides.values():
        others = [0]
    left = np.flatnonzero(split < 0)
    if len(left) and not others:
        raise UserError(
            f"{where}: line {lines[left[0]]} is in no split by the columns {', '.join(sides)}: correct it, or name"
            " them in data.tasks if they are tasks."
        )
    split[left] = others[0] if others else -1
    return split


def are_folds(name: str, cells: Iterable[str]) -> bool:
    """Return whether a column numbers the folds of a cross-validation, judged by its name and its cells."""
    return plain_name(name) in _FOLDS and all(
        re.fullmatch(r"((fold)?[ _-]?\d+(\.0)?)?", cell.strip().lower()) for cell in set(cells)
    )


def are_split(paths: Iterable[str]) -> bool:
    """Return whether the top folders in the paths of images have names such as train, val or test."""
    return all(path.split("/")[0].lower() in SPLIT_WORDS for path in paths)


def beside_splits(paths: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the top folders of images that are called like splits, and the others; none if those are of one split."""
    tops = sorted({path.split("/")[0] for path in paths})
    splits = [top for top in tops if top.lower() in SPLIT_WORDS]
    if len({SPLIT_WORDS[top.lower()] for top in splits}) < 2:
        return [], []
    return splits, [top for top in tops if top not in splits]


def check_beside_splits(paths: Iterable[str], where: str, remedy: str) -> None:
    """Refuse images beside those in folders of splits: a split at random would train on the user's own test images.

    Raises:
        UserError: there are some; with the remedy.
    """
    splits, others = beside_splits(paths)
    if others:
        more = f" and {len(others) - 1:,} more" if len(others) > 1 else ""
        raise UserError(
            f"{where}: the images of {', '.join(splits)} are in splits, and those of {others[0]}{more} in none:"
            f" {remedy}."
        )


def split_own(groups: list[str], seed: int, by: str, root: Path) -> tuple[Labels, str]:
    """Split a user's own images at random; return the (N,) sides and the rule as text.

    Args:
        groups: of the images; images of one group stay on one side.
        seed: of the split.
        by: what a group is, as text.
        root: the images' folder.

    Raises:
        UserError: there are too few groups for three splits.
    """
    split = split_at_random(groups, seed)
    if len(np.unique(split)) < len(SPLITS):
        raise UserError(f"{root} is too small to be split 70/10/20 by {by}: it has {len(set(groups))}; add images.")
    return split, f"by {by} at random, 70/10/20, seed {seed}"


def completed(split: Labels, groups: Sequence[str], seed: int) -> tuple[Labels, str]:
    """Draw a missing validation split, an eighth of train's groups; if only test is missing, val becomes test first.

    Args:
        split: (N,) the given sides.
        groups: of the images; images of one group stay together.
        seed: of the draw.

    Returns:
        the (N,) sides, and text on what was done, to append to the rule; "" if nothing was done.
    """
    present, said = set(np.unique(split).tolist()), ""
    if present == {0, 1}:  # as in ImageNet: the split called val was held out for comparison
        split, present, said = np.where(split == 1, 2, split), {0, 2}, ", val taken as test"
    if present != {0, 2}:
        return split, said
    names = sorted({group for group, side in zip(groups, split.tolist(), strict=True) if side == 0})
    if len(names) < 2:
        return split, said
    drawn = set(np.random.default_rng(seed).permutation(names)[: max(1, round(len(names) / 8))].tolist())
    taken = np.array([group in drawn for group in groups]) & (split == 0)
    return np.where(taken, 1, split), f"{said}, validation an eighth of train at random, seed {seed}"


def torn_groups(what: str, groups: Sequence[str], split: Labels) -> list[str]:
    """Return a sentence on groups that are in several splits, or nothing if there are none.

    Args:
        what: a word for a group.
        groups: of the images, empty if an image has none; split: (N,) the sides.
    """
    sides = Counter(group for group, _ in set(zip(groups, split.tolist(), strict=True)) if group)
    torn = sorted(group for group, count in sides.items() if count > 1)
    are = f"values of {what} are" if len(torn) > 1 else f"value of {what} is"
    return [f"{len(torn):,} {are} in several splits, such as {torn[0]}."] if torn else []


def check_splits(split: Labels, where: str, remedy: str) -> None:
    """Raise UserError, with the remedy, if one of the splits has no image."""
    empty = [name for number, name in enumerate(SPLITS) if not (split == number).any()]
    if empty:
        raise UserError(f"{where}: no image is in the split {' or '.join(empty)}: {remedy}.")

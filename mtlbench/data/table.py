"""The table that every data set becomes: image paths, one integer label column per task, one split column.

A reader makes it from files on disk; later code does not know which data set it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mtlbench.data.roles import Bools, Roles
from mtlbench.errors import UserError, did_you_mean, plain_name
from mtlbench.names import MEASURES, find_task, listed

SPLITS = ("train", "val", "test")
SHARES = (0.7, 0.1, 0.2)  # of a random split, as in Conditional Similarity Networks
Labels = npt.NDArray[np.int64]
_NAMED = 3  # tasks to name in a sentence


@dataclass(frozen=True)
class Column:
    """One task's labels: (N,) codes into `values`, -1 for an unlabelled image.

    Attributes:
        ordered: the values have an order, as heel heights do.
        members: (V, U) bool, if labels are sets: which of U plain values are in each of the V sets in `values`; two
            images are alike if their sets share a value. None if an image has one value.
        parts: the names of the plain values.

    >>> from mtlbench import column_of
    >>> heels = column_of(["high", "", "flat", "high"], order=["flat", "mid", "high"])
    >>> heels.codes.tolist(), heels.values, heels.ordered
    ([2, -1, 0, 2], ('flat', 'mid', 'high'), True)
    """

    codes: Labels
    values: tuple[str, ...]
    ordered: bool = False
    members: Bools | None = None
    parts: tuple[str, ...] = ()

    def of_parts(self, images: Labels | Bools) -> tuple[Labels, tuple[str, ...]]:
        """Return codes and names of the plain values of some images, one code for each value of an image."""
        codes = self.codes[images]
        if self.members is None:
            return codes, self.values
        return np.nonzero(self.members[codes[codes >= 0]])[1].astype(np.int64), self.parts


@dataclass(frozen=True)
class Kin:
    """Which images belong together, so that one in train reveals something about another in test.

    Attributes:
        codes: (N,) images with the same number belong together; a negative number stands alone.
        other: another image of the same kind, as text: "another image of the same person".

    >>> from mtlbench import Kin
    >>> Kin.of(["ann", "bob", "ann"], "another image of the same person").codes.tolist()
    [0, 1, 0]
    """

    codes: Labels
    other: str

    @classmethod
    def of(cls, names: Sequence[str], other: str) -> Kin:
        """Return the kin of images from the names of their groups; an empty name is no group."""
        _, codes = np.unique(np.asarray(names, dtype=str), return_inverse=True)
        return cls(np.where(np.asarray(names, dtype=str) == "", -1, codes), other)

    def in_order(self) -> Labels:
        """Return (N,) codes numbered as they first appear: the same whatever the groups are called."""
        _, first, place = np.unique(self.codes, return_index=True, return_inverse=True)
        return np.where(self.codes < 0, -1, np.argsort(np.argsort(first))[place])


@dataclass(frozen=True)
class Table:
    """N images with their labels and splits.

    >>> from pathlib import Path
    >>> import numpy as np
    >>> from mtlbench import Table
    >>> from mtlbench.data.table import column_of
    >>> kinds = column_of(["boot", "", "sandal"])  # the second has no label
    >>> table = Table("mine", Path("photos"), ("a.jpg", "b.jpg", "c.jpg"), {"kind": kinds}, np.arange(3), "by hand")
    >>> table.columns["kind"].codes.tolist()
    [0, -1, 1]

    Attributes:
        name: of the data set.
        root: the folder that `paths` are relative to.
        paths: N image files.
        columns: all tasks by name, including those without labels.
        split: (N,) 0 train, 1 val, 2 test.
        split_rule: the rule as text, for the receipt.
        rendered: this project drew the images; the data set is not a real one.
        triplets: fixed triplets that came with the data set, by task and split: (n, 3) indices into `paths` of anchor,
            positive and negative; empty if they are drawn from the labels.
        remarks: notes for anyone who looks at the data, a sentence each.
        group: the column that keeps images on one side of a split; it is a task only if the user asks for it.
        kin: which images show the same product, person or the like, if known; `split_in_words` says how many test
            images have a related image in train.
        roles: which held-out images are queries and which are in the gallery; None if each is both.
        apart: (N,) codes; images with the same code are left out of each other's galleries, and -1 stands for no code.
            None if no images are left out.
    """

    name: str
    root: Path
    paths: tuple[str, ...]
    columns: dict[str, Column]
    split: Labels
    split_rule: str
    rendered: bool = False
    triplets: dict[str, dict[str, Labels]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    group: str = ""
    kin: Kin | None = None
    roles: Roles | None = None
    apart: Labels | None = None

    @property
    def split_in_words(self) -> str:
        """The rule of the split, and the share of test images that belong together with an image in train."""
        if self.kin is None:
            return self.split_rule
        train, tested = (self.kin.codes[self.split == side] for side in (0, 2))
        share = float((np.isin(tested, train) & (tested >= 0)).mean()) if len(tested) else 0.0
        said = "no test image has" if share == 0 else f"{100 * share:.1f} % of the test images have"
        return f"{self.split_rule}; {said} {self.kin.other} in train"

    def __len__(self) -> int:
        return len(self.paths)

    def trainable(self, task: str) -> str | None:
        """Return why a task can't be trained and tested, or None if it can.

        In each split, a task needs two values and two images of one of them.
        """
        codes = self.columns[task].codes
        if task in MEASURES:
            return f"has a name that stands for {MEASURES[task]} in every table: rename it"
        if not (codes >= 0).any():
            return "has no labels"
        for number, split in enumerate(SPLITS):
            here = self.split == number
            counts = np.bincount(codes[here & (codes >= 0)], minlength=1)
            roles = self.roles.of(here) if self.roles else None
            if counts.sum() == 0:
                return f"has no labelled image in the {split} split"
            listless = self.triplets and not len(self.triplets.get(task, {}).get(split, ()))
            members = self.columns[task].members
            if members is not None:
                everyone = np.ones(int(here.sum()), dtype=bool)
                if not _can_be_asked(codes[here], roles or Roles(everyone, everyone), members):
                    return f"has no {split} image that shares a value with another and none with a third"
            elif (counts > 0).sum() < 2:
                return f"has only one value in the {split} split"
            elif counts.max() < 2:
                return f"has no two {split} images of one value"
            if listless:
                return f"has no {split} triplets"
            if members is None and roles and not _can_be_asked(codes[here], roles, None):
                return f"has no {split} query with a gallery image of its value and one of another"
        return None

    @property
    def what_splits_need(self) -> str:
        """A sentence on what to do if no task can be trained."""
        counts = ", ".join(f"{name} {int((self.split == n).sum()):,}" for n, name in enumerate(SPLITS))
        return (
            "Each split needs two labelled images of one value and one of another: add images, or move some there from"
            f" another split ({counts})."
        )

    def tasks_with_labels(self) -> list[str]:
        """Return the tasks that can be trained and tested, in the data set's order."""
        return [task for task in self.columns if self.trainable(task) is None]

    def find_task(self, name: str) -> str:
        """Return the data set's spelling of a task name; case, hyphens, underscores and blanks don't matter.

        Raises:
            UserError: there is no such task.
        """
        return find_task(name, list(self.columns), self.name)

    def choose(self, wanted: list[str]) -> list[str]:
        """Return the tasks that a user asked for, in the data set's spelling.

        Raises:
            UserError: no task, an unknown one, a repeated one, or one that can't be trained; the message lists the
                possible ones.
        """
        if not wanted:
            raise UserError(f"No task is named. Tasks with labels: {', '.join(self.tasks_with_labels()) or 'none'}.")
        tasks = [self.find_task(name) for name in wanted]
        for task in tasks:
            if tasks.count(task) > 1:
                raise UserError(f"The task '{task}' is named twice.")
            reason = self.trainable(task)
            if reason:
                able = ", ".join(self.tasks_with_labels())
                also = f"Tasks with labels there: {able}." if able else self.what_splits_need
                raise UserError(f"In {self.root} the task '{task}' {reason}. {also}")
        return tasks

    def choose_default(self, wanted: list[str], fallback: list[str]) -> tuple[list[str], str]:
        """Return the benchmark's tasks, and a message for the user if the data lacks labels for some.

        Tasks without labels are left out. If fewer than two remain, the tasks of `fallback` that have labels join. A
        benchmark that names no tasks takes every column but the one that groups images.

        Raises:
            UserError: no task remains.
        """
        asked = [self.find_task(name) for name in wanted] or [t for t in self.columns if t != self.group]
        chosen = [t for t in asked if self.trainable(t) is None]
        if chosen == asked:
            return asked, ""
        if chosen and not wanted:
            left = "; ".join(f"{t} {self.trainable(t)}" for t in asked if t not in chosen)
            return chosen, f"Left out of the tasks: {left}."
        if len(chosen) < 2:
            others = [] if self.triplets else [self.find_task(s) for s in fallback]  # CSN's lists have four tasks
            chosen += [t for t in others if t not in chosen and self.trainable(t) is None]
        if not chosen:
            why = "; ".join(f"{task} {self.trainable(task)}" for task in asked[:_NAMED]) or "it has none"
            more = f"; and {len(asked) - _NAMED:,} more" if len(asked) > _NAMED else ""
            raise UserError(f"In {self.root} no task can be trained: {why}{more}. {self.what_splits_need}")
        missing = [f"{t} {self.trainable(t)}" for t in asked if t not in chosen]
        return chosen, f"{'; '.join(missing)} in {self.root}: using {listed(chosen)} instead (choose with --tasks)."

    def limited(self, limit: int, seed: int = 0) -> Table:
        """Return at most `limit` images, drawn at random by `seed`; all splits shrink in proportion. 0 means all."""
        if limit <= 0 or limit >= len(self):
            return self
        order = np.random.default_rng(seed).permutation(len(self))
        quantile = np.empty(len(self))  # an image's place in the random order of its split, from 0 to 1
        for number in range(len(SPLITS)):
            members = order[self.split[order] == number]
            quantile[members] = (np.arange(len(members)) + 0.5) / max(1, len(members))
        keep = np.sort(order[np.argsort(quantile[order], kind="stable")[:limit]])
        rule = f"{self.split_rule}; {limit} image{'s' * (limit > 1)} drawn at random"
        return replace(self.subset(keep), split_rule=rule)

    def subset(self, keep: Labels) -> Table:
        """Return the table of the images at the ascending indices `keep`; drop fixed triplets that lose an image."""
        place = np.full(len(self), -1, dtype=np.int64)
        place[keep] = np.arange(len(keep))
        moved = {task: {s: place[rows] for s, rows in splits.items()} for task, splits in self.triplets.items()}
        return replace(
            self,
            paths=tuple(self.paths[i] for i in keep),
            columns={t: replace(c, codes=c.codes[keep]) for t, c in self.columns.items()},
            split=self.split[keep],
            kin=replace(self.kin, codes=self.kin.codes[keep]) if self.kin else None,
            triplets={t: {s: rows[(rows >= 0).all(1)] for s, rows in splits.items()} for t, splits in moved.items()},
            roles=self.roles.subset(keep) if self.roles else None,
            apart=None if self.apart is None else self.apart[keep],
        )

    def by_camera(self, name: str) -> Table:
        """Return a table in which images of the same group and camera are left out of each other's galleries.

        Args:
            name: of the column that names the camera of each image.

        Raises:
            UserError: there is no such column, its cells hold several cameras, or no groups are known.
        """
        camera = self.columns[self.find_task(name)]
        if self.kin is None:
            raise UserError(
                f"data.camera = '{name}' needs groups, such as persons: name their column to the reader, as in"
                ' data.options.group = "identity" or csv = { group = "identity" }.'
            )
        if camera.members is not None:
            raise UserError(f"data.camera = '{name}': its cells hold several values; name a column with one.")
        both = np.stack([self.kin.codes, camera.codes])
        codes = np.unique(both, axis=1, return_inverse=True)[1].reshape(-1)
        other = self.kin.other[:1].upper() + self.kin.other[1:]
        said = f"{other} is left out of a query's gallery where its {name} is the query's too."
        apart = np.where((both >= 0).all(0), codes, -1).astype(np.int64)
        return replace(self, apart=apart, remarks=(*self.remarks, said))

    def without_rare(self, least: int) -> Table:
        """Return the table without label values of fewer than `least` images; those images become unlabelled."""
        columns = {}
        for task, column in self.columns.items():
            if column.members is not None:  # a set loses its rare values; an empty set is no label
                codes, names = column.of_parts(column.codes >= 0)
                members = column.members & (np.bincount(codes, minlength=len(names)) >= least)
                left = np.append(members.any(1), False)
                codes = np.where(left[column.codes], column.codes, -1)
                columns[task] = replace(column, codes=codes, members=members)
                continue
            counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.values))
            kept = np.flatnonzero(counts >= least)
            code = np.full(len(column.values) + 1, -1, dtype=np.int64)  # the last entry stands for unlabelled images
            code[kept] = np.arange(len(kept))
            columns[task] = replace(column, codes=code[column.codes], values=tuple(column.values[i] for i in kept))
        return replace(self, columns=columns)


def _can_be_asked(codes: Labels, roles: Roles, members: Bools | None) -> bool:
    """Return whether some query has another image like it in the gallery, and one unlike it."""
    labelled = codes >= 0
    counts = np.bincount(codes[labelled & roles.gallery], minlength=1 + int(codes.max(initial=0)))
    total = counts.sum()
    alike = counts if members is None else alike_counts(members[: len(counts)], counts)
    asked = labelled & roles.query
    others = alike[codes[asked]]
    return bool(((others - roles.gallery[asked] > 0) & (others < total)).any())


def alike_counts(members: Bools, counts: Labels) -> Labels:
    """Return how many images share a value with each of V sets.

    Args:
        members: (V, U) bool, see `Column`.
        counts: (V,) how many images have each set.
    """
    plain = members.astype(np.float32)
    rows = [(plain[i : i + 1024] @ plain.T > 0) @ counts for i in range(0, len(plain), 1024)]
    return np.concatenate(rows) if rows else counts


def check_distinct(tasks: Iterable[str], where: str) -> None:
    """Refuse names that `Table.find_task` can't tell apart."""
    seen: dict[str, str] = {}
    for task in tasks:
        key = plain_name(task)
        if key in seen:
            raise UserError(f"{where}: the tasks '{seen[key]}' and '{task}' have the same name; rename one.")
        seen[key] = task


def split_at_random(groups: list[str], seed: int) -> Labels:
    """Split 70/10/20 into train, val and test by group: images of one group stay on one side.

    The result depends on the groups' names and the seed, not on the order of images.
    """
    names, member = np.unique(np.array(groups, dtype=str), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    side = np.full(len(names), 2, dtype=np.int64)
    train, val = (round(len(names) * share) for share in (SHARES[0], SHARES[0] + SHARES[1]))
    side[order[:train]] = 0
    side[order[train:val]] = 1
    return side[member]


def column_of(cells: npt.ArrayLike, order: list[str] | None = None) -> Column:
    """Make a label column of N strings; empty ones are unlabelled. `order` lists the values in their order.

    >>> from mtlbench import column_of
    >>> column_of(["boots", "sandals", ""]).values
    ('boots', 'sandals')
    """
    text = np.asarray(cells, dtype=str)
    values = order if order is not None else sorted(set(text.tolist()) - {""})
    code = {value: i for i, value in enumerate(values)}
    codes = np.array([code.get(cell, -1) for cell in text.tolist()], dtype=np.int64)
    return Column(codes, tuple(values), ordered=order is not None)


def labels_of(
    cells: Sequence[str],
    multi_valued: str,
    order: list[str] | None = None,
    *,
    missing: Sequence[str] = (),
    separator: str = ";",
) -> Column:
    """Make a label column of N cells of text; a cell "a;b" holds several values, an empty cell holds none.

    Args:
        cells: spaces around a value and repeated values don't count.
        multi_valued: how to treat a cell of several values: `value`, as a value of its own, "a;b" and "b;a" the same;
            `first`, as its first value; `unlabelled`; `set`: as the set of its values, alike if two share one.
        order: the values from low to high. A combination has no place in the order: it is unlabelled.
        missing: words that stand for no value; case does not matter.
        separator: separates the values of a cell.

    Raises:
        UserError: `order` names a value twice, or lacks a value that a cell holds.
    """
    if multi_valued not in ("value", "first", "unlabelled", "set"):
        raise ValueError(f"multi_valued is value, first, unlabelled or set, not {multi_valued!r}")
    absent = {word.strip().casefold() for word in missing}
    text: dict[str, str] = {}  # the label of each distinct cell, "" for none
    for cell in set(cells):
        parts = [part for part in values_in(cell, separator) if part.casefold() not in absent]
        if multi_valued == "first":
            parts = parts[:1]
        if len(parts) > 1:
            parts = [separator.join(sorted(parts))] if multi_valued in ("value", "set") and order is None else []
        text[cell] = parts[0] if parts else ""
    used = set(text.values()) - {""}
    values = sorted(used) if order is None else [value.strip() for value in order]
    code = {value: i for i, value in enumerate(values)}
    if len(code) < len(values):
        raise UserError(f"The order {', '.join(values)} names a value twice.")
    unknown = sorted(used - set(values))
    if unknown:
        raise UserError(
            f"The value '{unknown[0]}' has no place in the order {', '.join(values)}."
            f"{did_you_mean(unknown[0], values)} Add it to the order, or correct the cell."
        )
    codes = np.array([code.get(text[cell], -1) for cell in cells], dtype=np.int64)
    if multi_valued == "set" and order is None:
        plain = sorted({part for value in values for part in values_in(value, separator)})
        if any(len(values_in(value, separator)) > 1 for value in values):
            sets = [set(values_in(value, separator)) for value in values]
            members = np.array([[part in one for part in plain] for one in sets], dtype=bool)
            return Column(codes, tuple(values), members=members, parts=tuple(plain))
    return Column(codes, tuple(values), ordered=order is not None)


def values_in(cell: str, separator: str = ";") -> list[str]:
    """Return the distinct values of a cell "a;b" as written; an empty cell has none."""
    return list(dict.fromkeys(part.strip() for part in cell.split(separator) if part.strip()))


def remark_on_several(
    task: str, cells: Sequence[str], multi_valued: str, ordered: bool = False, separator: str = ";"
) -> list[str]:
    """Return a sentence on how a task's cells of several values were treated, or nothing if there are no such cells."""
    count = sum(separator in cell and len(values_in(cell, separator)) > 1 for cell in cells)
    if not count:
        return []
    hold = f"{count:,} cells of {task} hold" if count > 1 else f"1 cell of {task} holds"
    if multi_valued == "first":
        return [f"{hold} several values: the first counts."]
    if multi_valued == "value" and not ordered:
        return [f"{hold} several values: each combination is a value of its own."]
    if multi_valued == "set" and not ordered:
        return [f"{hold} several values: images that share one are alike."]
    return [f"{hold} several values: counted as unlabelled."]


_NO_VALUE = {"nan", "none", "null", "n/a", "na", "nil", "#n/a", "-", "?", "missing"}


def remarks_on_words(table: Table, tasks: Iterable[str]) -> list[str]:
    """Return remarks on label values that do not look like labels, each with the setting that changes them.

    These are words for a missing value, values that differ only in case or in the way a number is written, cells that
    look like several values under another separator, and lists written as text.
    """
    found = []
    for task in tasks:
        column = table.columns[task]
        codes, names = column.of_parts(column.codes >= 0)
        counts = np.bincount(codes, minlength=len(names))
        used = [value for value, count in zip(names, counts.tolist(), strict=True) if count]
        absent = [value for value in used if value.casefold() in _NO_VALUE]
        if absent:
            words = ", ".join(f"'{value}'" for value in absent)
            setting = ", ".join(f'"{value}"' for value in absent)
            found.append(
                f"{task}: {words} {'are label values' if len(absent) > 1 else 'is a label value'} like any other; with"
                f" data.missing = [{setting}] such images are unlabelled."
            )
        alike: dict[str, list[str]] = {}
        for value in used:
            alike.setdefault(_plain_word(value), []).append(value)
        spelt = [" and ".join(f"'{value}'" for value in several) for several in alike.values() if len(several) > 1]
        if spelt:
            more = f", and {len(spelt) - 3:,} more like them," if len(spelt) > 3 else ""
            words = "; ".join(spelt[:3])
            found.append(f"{task}: {words}{more} are different label values; correct the table if they are one.")
        listed = [value for value in used if value[:1] + value[-1:] in ("[]", "{}")]
        if listed:
            what = "a list" if listed[0].startswith("[") else "JSON"
            found.append(f"{task}: '{listed[0]}' is {what} written as text, one value; write a;b instead.")
        known = {_plain_word(value) for value in used}
        for mark in ("|", "/", ","):
            torn = [v for v in used if mark in v and all(_plain_word(part) in known for part in v.split(mark))]
            if torn:
                found.append(
                    f"{task}: '{torn[0]}' counts as one value, though its parts are values too; with data.separator ="
                    f' "{mark}" it is several.'
                )
                break
    return found


def _plain_word(value: str) -> str:
    """Return the text that two spellings of one value share."""
    word = value.strip().casefold()
    try:
        return repr(float(word))
    except ValueError:
        return word

"""Reads a user's own images whose labels are in their paths: `0002_c1s1_000451_03.jpg` is person 0002 by camera 1.

Images are not opened here: packing and `data check` say which are missing or broken.
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np

from mtlbench.benchmark import Data
from mtlbench.data.files import files_in, first_files_in, is_image, name_of
from mtlbench.data.roles import check_roles, roles_of
from mtlbench.data.splits import (
    SPLIT_WORDS,
    are_split,
    check_beside_splits,
    check_splits,
    completed,
    like_split,
    split_own,
    torn_groups,
)
from mtlbench.data.table import SPLITS, Kin, Labels, Table, check_distinct, labels_of
from mtlbench.datasets.contract import Proposal, Reader, register_reader
from mtlbench.errors import UserError, counted, did_you_mean

_PERSON = r"^(bounding_box_train|bounding_box_test|query)/(?P<identity>-?\d+)_c(?P<camera>\d+)"
_NOBODY = "0000"  # what Market-1501 calls boxes that are no person of a query
_PAIR = r"^images/(?P<attribute>[^/_ ]+)[_ ](?P<object>[^/]+)/"


@register_reader("names")
class Names(Reader):
    r"""Images of one's own with labels in their paths; `data.options` gives the pattern that finds them.

    Args:
        pattern: a regular expression that is searched in the path of each image, relative to the folder and with
            slashes. Each named group is a task: `(?P<identity>\d+)_c(?P<camera>\d+)`.
        group: the task whose images stay on one side of a random split.
        lists: a folder with `train_pairs.txt`, `val_pairs.txt` and `test_pairs.txt`, as compositional learning has
            them: each line is one combination of the tasks' values, whose images are all in that split.
    """

    def __init__(self, *, pattern: str, group: str = "", lists: str = "") -> None:
        try:
            self.pattern = re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise UserError(f"data.options.pattern is not a regular expression: {error}.") from error
        self.tasks = sorted(self.pattern.groupindex, key=self.pattern.groupindex.__getitem__)
        if not self.tasks:
            raise UserError(
                "data.options.pattern names no task: give each a named group, as in"
                r" '(?P<identity>\d+)_c(?P<camera>\d+)'."
            )
        check_distinct(self.tasks, "data.options.pattern")
        if group and group not in self.tasks:
            raise UserError(
                f"data.options.group: the pattern has no task '{group}'.{did_you_mean(group, self.tasks)} Tasks:"
                f" {', '.join(self.tasks)}."
            )
        self.group, self.lists = group, lists

    def read(self, folder: Path, data: Data) -> Table:
        """Read the images whose paths the pattern fits; others are left out and remarked.

        The split is that of `lists`; else of the top folders where these are called train, val, test, query, gallery
        or the like, a missing validation split drawn from train; else 70/10/20 at random.

        Raises:
            UserError: the pattern fits no image or some beside folders of splits, a split has none, or a list can't be
                used.
        """
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder.")
        images = sorted(path for path in files_in(folder) if is_image(path))
        matches = {path: match for path in images if (match := self.pattern.search(path))}
        if not matches:
            such = f", such as {images[0]}" if images else ""
            raise UserError(
                f"{folder}: data.options.pattern, {self.pattern.pattern}, fits none of"
                f" {counted(len(images), 'image')}{such}."
            )
        cells = {task: {path: match[task] or "" for path, match in matches.items()} for task in self.tasks}
        for task in self.tasks:
            if task not in data.tasks and like_split(task, cells[task].values()):
                raise UserError(
                    f"{folder}: '{task}' of data.options.pattern looks like the split, which is that of top folders"
                    " called train, val and test: make such folders and take the name out of the pattern, or name it in"
                    " data.tasks if it is a task."
                )
        listed = self._listed(folder) if self.lists else None
        paths = list(matches)
        if listed is not None:
            paths = [path for path in paths if tuple(cells[task][path] for task in self.tasks) in listed]
        remarks = []
        left = sorted(set(images) - set(paths))
        if left:
            what = "images whose path doesn't fit were" if len(left) > 1 else "image whose path doesn't fit was"
            remarks.append(f"{len(left):,} {what} left out, such as {left[0]}.")
        columns = {
            task: labels_of(
                [cells[task][path] for path in paths], data.multi_valued, missing=data.missing,
                separator=data.separator,
            )
            for task in self.tasks
        }  # fmt: skip
        known = labels_of(  # a group is what its cell says, of whatever values that is made as a label
            [cells[self.group][path] if self.group else "" for path in paths], "value", missing=data.missing,
            separator="\0",
        )  # fmt: skip
        own = known.codes.tolist()
        groups = [path if code < 0 else str(code) for path, code in zip(paths, own, strict=True)]
        split, rule = self._split(folder, paths, cells, listed, groups, data.split_seed)
        kin = None
        if self.group:
            values = [known.values[code] if code >= 0 else "" for code in own]
            remarks += torn_groups(self.group, values, split)
            kin = Kin.of(values, f"another image of the same {self.group}")
        tops = [path.split("/")[0] for path in paths]
        roles = None
        if listed is None and are_split(paths):
            roles = check_roles(roles_of(tops), split, tops, str(folder))
        if roles and "bounding_box_test" in tops:
            remarks.append(_as_published(data))
        return Table(
            name_of(folder), folder, tuple(paths), columns, split, rule, remarks=tuple(remarks), kin=kin, roles=roles
        )

    def _split(
        self,
        folder: Path,
        paths: list[str],
        cells: dict[str, dict[str, str]],
        listed: dict[tuple[str, ...], int] | None,
        groups: list[str],
        seed: int,
    ) -> tuple[Labels, str]:
        """Return the (N,) sides of images and the rule in words."""
        if listed is not None:
            given = [listed[tuple(cells[task][path] for task in self.tasks)] for path in paths]
            rule = f"by {' and '.join(self.tasks)}, as in {self.lists}"
        elif are_split(paths):
            given, rule = [SPLIT_WORDS[path.split("/")[0].lower()] for path in paths], "as in folders"
        else:
            check_beside_splits(paths, str(folder), "move the latter away, or give a pattern that doesn't fit them")
            return split_own(groups, seed, self.group or "image", folder)
        split, drawn = completed(np.array(given, dtype=np.int64), groups, seed)
        check_splits(split, str(folder), "give it some images")
        return split, rule + drawn

    def _listed(self, folder: Path) -> dict[tuple[str, ...], int]:
        """Return the split of each combination of values that the lists name."""
        sides: dict[tuple[str, ...], int] = {}
        files = [folder / self.lists / f"{split}_pairs.txt" for split in SPLITS]
        for side, file in enumerate(files):
            if side == 1 and not file.exists():
                continue
            for line, words in _lines(file):
                pair = tuple(words)
                if len(pair) != len(self.tasks):
                    raise UserError(
                        f"{file}: line {line} has {counted(len(pair), 'word')} where {len(self.tasks)} belong,"
                        f" {' '.join(self.tasks)}."
                    )
                if sides.setdefault(pair, side) != side:
                    raise UserError(
                        f"{file}: line {line}, {' '.join(pair)}, is in {files[sides[pair]].name} too. Only a .t7 file,"
                        " a pickle that mtlbench never loads, says which of its images are for training: use lists"
                        " that share no line, or leave out data.options.lists to split at random."
                    )
        return sides

    @classmethod
    def propose(cls, folder: Path) -> Proposal | None:
        """See `Reader.propose`: persons as Market-1501 names them, or pairs of attribute and object."""
        if (folder / "bounding_box_train").is_dir() and _fits(_PERSON, folder, "bounding_box_train/"):
            return Proposal(
                "images of persons, as Market-1501 has them",
                (
                    'reader = "names"',
                    f"options = {{ pattern = '{_PERSON}', group = \"identity\" }}",
                    'missing = ["-1"]  # boxes that published figures leave out; 0000 is nobody\'s match, and wrong',
                    'camera = "camera"  # a query\'s own person by its own camera is left out of its gallery',
                    'tasks = ["identity"]  # camera is one too',
                ),
                certain=True,
            )
        lists = sorted(file.parent for file in folder.glob("*/train_pairs.txt") if file.is_file())
        if lists and (folder / "images").is_dir() and _fits(_PAIR, folder, "images/"):
            usable = [place.name for place in lists if _apart(place)]
            named = f", lists = {json.dumps(usable[0])}" if usable else ""
            why = "" if usable else "  # the lists' pairs are in several splits: split at random"
            return Proposal(
                "images of pairs of attribute and object",
                ('reader = "names"', f"options = {{ pattern = '{_PAIR}'{named} }}{why}"),
                certain=True,
            )
        return None


def _as_published(data: Data) -> str:
    """Return whether persons are searched for as in published figures of Market-1501."""
    said = "query/ is searched for in bounding_box_test/."
    if data.camera and _NOBODY not in data.missing:
        return (
            f"{said} A query's own person by its own camera is left out, and {_NOBODY} counts as wrong, as published."
        )
    return (
        f"{said} Published figures leave out a query's own person by its own camera and count {_NOBODY} as wrong: don't"
        f' compare with them, or set data.camera = "camera" and keep {_NOBODY} out of data.missing.'
    )


def _fits(pattern: str, folder: Path, inside: str) -> bool:
    """Tell whether a pattern fits most of the images in a folder inside; a look at some is enough."""
    found = [path for path in first_files_in(folder, inside) if is_image(path)]
    return sum(re.search(pattern, path) is not None for path in found) > len(found) / 2


def _apart(place: Path) -> bool:
    """Tell whether lists of pairs can be read and share no line."""
    try:
        sets = [{tuple(words) for _, words in _lines(place / f"{split}_pairs.txt")} for split in ("train", "test")]
        if (place / "val_pairs.txt").exists():
            sets.append({tuple(words) for _, words in _lines(place / "val_pairs.txt")})
    except UserError:
        return False
    return all(not a & b for a, b in itertools.combinations(sets, 2))


def _lines(file: Path) -> list[tuple[int, list[str]]]:
    """Return the words of each line that has some, with its number."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{file} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{file} is not UTF-8 text: save it as UTF-8.") from error
    return [(i, line.split()) for i, line in enumerate(text.splitlines(), 1) if line.strip()]

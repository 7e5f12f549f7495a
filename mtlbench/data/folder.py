"""Reads a user's own images: a CSV with a column of paths and one per task, or folders that are named after labels.

Images are not opened here: packing and `data check` say which are missing or broken.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from mtlbench.benchmark import Csv, Data
from mtlbench.data.table import SPLITS, Labels, Table, labels_of, remark_on_several, split_at_random
from mtlbench.errors import UserError, did_you_mean

_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), 0),
    **dict.fromkeys(("val", "validation", "valid", "dev"), 1),
    **dict.fromkeys(("test", "testing"), 2),
}
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_RUN = re.compile(r"/seed-\d+/run\.json$")
_CLUTTER = ("__macosx", "thumbs.db", "desktop.ini")  # what systems leave behind; names with a leading dot go too


def read_csv(root: Path, data: Data) -> Table:
    """Read the images that a CSV in `root` lists (UTF-8; commas, semicolons or tabs).

    `data.csv` names the file and its columns of paths (relative to `root`), splits and groups. Every column but those
    of paths and splits is a task, the group's only where it is asked for. Empty cells are unlabelled;
    `data.multi_valued` says what a cell "a;b" is, `data.ordered` which tasks have ordered values. Without a column of
    splits, the split is 70/10/20 at random by `data.split_seed`, images of one group on one side; an image without a
    group is on its own.

    Raises:
        UserError: the file or a column is missing, a line is malformed (it names the line and what belongs there), or
            a column looks like the split and has another name.
    """
    section = data.csv or Csv()
    file = root / section.file
    header, rows, lines = _read_rows(file, section.path)
    column = {name: i for i, name in enumerate(header) if name}
    known = ", ".join(column)
    wanted = [("path", section.path), ("group", section.group)]
    if section.split != Csv().split:  # the default name is looked for, one that the user chose has to be there
        wanted.append(("split", section.split))
    for key, name in wanted:
        if name not in column and (name or key == "path"):
            raise UserError(
                f"{file} has no column '{name}'.{did_you_mean(name, column)} Its columns: {known}. Name the right one"
                f" with data.csv.{key}."
            )
    tasks = [name for name in column if name not in (section.path, section.split)]
    if section.split and section.split not in column:
        _refuse_split({task: [row[column[task]] for row in rows] for task in tasks}, section.split, file)
    if not tasks:
        raise UserError(f"{file} has no column to be a task: give it one for each kind of label, beside '{known}'.")
    _check_distinct(tasks, str(file))
    for name in data.ordered:
        if name not in tasks:
            raise UserError(
                f"data.ordered: {file} has no task '{name}'.{did_you_mean(name, tasks)} Tasks: {', '.join(tasks)}."
            )
    paths = _paths([row[column[section.path]] for row in rows], lines, file, root)
    cells = {task: [row[column[task]] for row in rows] for task in tasks}
    columns, remarks = {}, []
    for task in tasks:
        order = data.ordered.get(task)
        try:
            columns[task] = labels_of(cells[task], data.multi_valued, order)
        except UserError as error:
            raise UserError(f"{file}, column {task}: {error}") from error
        remarks += remark_on_several(task, cells[task], data.multi_valued, ordered=order is not None)
    nameless = header.count("")
    if nameless:
        remarks.append(f"{nameless} column{'s' * (nameless > 1)} of {file.name} without a name: left out.")
    own = [cell.strip() for cell in cells[section.group]] if section.group in tasks else [""] * len(rows)
    groups = [group or path for group, path in zip(own, paths, strict=True)]
    if section.split in column:
        words = [row[column[section.split]] for row in rows]
        split, rule = _split_column(words, lines, file, section.split), f"as in {file.name}, column {section.split}"
        sides = Counter(group for group, _ in set(zip(groups, split.tolist(), strict=True)))
        torn = sorted(group for group, count in sides.items() if count > 1)
        if torn:
            lie = "values of {} lie" if len(torn) > 1 else "value of {} lies"
            remarks.append(f"{len(torn):,} {lie.format(section.group)} in several splits, such as {torn[0]}.")
    else:
        by = section.group if section.group in tasks else "image"
        split, rule = _split_at_random(groups, data.split_seed, by, root)
    return Table(
        name=_name(root),
        root=root,
        paths=tuple(paths),
        columns=columns,
        split=split,
        split_rule=rule,
        remarks=tuple(remarks),
        group=section.group if section.group in tasks else "",
    )


def read_folders(root: Path, data: Data) -> Table:
    """Read images that lie in folders named after their labels.

    `data.levels` names the task of each level: `["category", "colour"]` reads `<root>/<category>/<colour>/*.jpg`, also
    .jpeg, .png, .webp and .bmp. Where the top folders are called train, val and test (or validation, ...), they are the
    split and the labels follow below; else it is 70/10/20 at random by image, by `data.split_seed`. Hidden files are
    ignored; folders of runs, images in no folder and other files are left out and remarked.

    Raises:
        UserError: no image is there, one lies deeper or less deep than the levels, or a split has no images.
    """
    _check_distinct(data.levels, "data.levels")
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder.")
    files = sorted(files_in(root))
    runs = sorted(run_folders(files))
    files = [file for file in files if file.split("/")[0] not in runs]
    images = [file for file in files if is_image(file)]
    paths = [path for path in images if "/" in path]
    if not paths:
        raise UserError(
            f"{root} holds no images: put them into {'/'.join(f'<{level}>' for level in data.levels)}/, as"
            f" {', '.join(IMAGE_ENDINGS)}."
        )
    has_splits = are_split(paths)
    levels = [*(["split"] if has_splits else []), *data.levels]
    folders = [path.split("/")[:-1] for path in paths]
    for path, names in zip(paths, folders, strict=True):
        if len(names) != len(levels):
            raise UserError(
                f"{root}: {path} lies in {len(names)} folder{'s' * (len(names) != 1)} where {len(levels)} belong,"
                f" {'/'.join(f'<{level}>' for level in levels)}/: move it, or change data.levels."
            )
    columns, remarks = {}, []
    for depth, task in enumerate(data.levels, start=int(has_splits)):
        cells = [names[depth] for names in folders]
        columns[task] = labels_of(cells, data.multi_valued)
        remarks += remark_on_several(task, cells, data.multi_valued)
    remarks += [f"{folder}/ holds runs of mtlbench: left out." for folder in runs]
    loose = sorted(set(images) - set(paths))
    if loose:
        what = "images that lie in no folder were" if len(loose) > 1 else "image that lies in no folder was"
        remarks.append(f"{len(loose):,} {what} left out, such as {loose[0]}.")
    others = sorted(set(files) - set(images))
    if others:
        what = "files that are no images were" if len(others) > 1 else "file that is no image was"
        remarks.append(f"{len(others):,} {what} left out, such as {others[0]}.")
    if has_splits:
        split, rule = np.array([_SPLIT_WORDS[names[0].lower()] for names in folders], dtype=np.int64), "as in folders"
        _check_splits(
            split,
            str(root),
            f"move some images there, or the folders of all labels up into {_name(root)}/ to split 70/10/20 at random",
        )
    else:
        split, rule = _split_at_random(paths, data.split_seed, "image", root)
    return Table(
        name=_name(root),
        root=root,
        paths=tuple(paths),
        columns=columns,
        split=split,
        split_rule=rule,
        remarks=tuple(remarks),
    )


def is_image(path: str) -> bool:
    """Tell by its ending whether a file is an image."""
    return PurePosixPath(path).suffix.lower() in IMAGE_ENDINGS


def run_folders(files: Iterable[str]) -> set[str]:
    """Return the top folders among paths with slashes that hold records of runs: `results`, or a benchmark's name."""
    return {file.split("/")[0] for file in files if _RUN.search(file)}


def are_split(paths: Iterable[str]) -> bool:
    """Tell whether the top folders of images, given by their paths, are called train, val, test or the like."""
    return all(path.split("/")[0].lower() in _SPLIT_WORDS for path in paths)


def _read_rows(file: Path, path_column: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Return a CSV's header, its rows, and the number of the line that each row begins in; blank rows are left out."""
    try:
        text = file.read_bytes()
    except FileNotFoundError as error:
        near = sorted(path.name for path in file.parent.glob("*") if path.suffix.lower() in (".csv", ".tsv", ".txt"))
        there = f" There: {', '.join(near)}." if near else ""
        raise UserError(
            f"{file} is missing: put the table of images there, or name it with data.csv.file.{there}"
        ) from error
    except OSError as error:
        raise UserError(f"{file} can't be read: {error.strerror}.") from error
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{file} is not UTF-8 text (line {line}): save it as UTF-8, in Excel as 'CSV UTF-8 (comma delimited)'."
        ) from error

    def parse(delimiter: str) -> Iterator[tuple[int, list[str]]]:
        reader, before = csv.reader(io.StringIO(decoded, newline=""), strict=True, delimiter=delimiter), 0
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise UserError(f"{file}: line {before + 1} can't be read: {error}.") from error
            if row is None:
                return
            if any(cell.strip() for cell in row):
                yield before + 1, row
            before = reader.line_num

    def header_of(delimiter: str) -> list[str]:
        try:
            return [name.strip() for name in next(parse(delimiter), (0, [""]))[1]]
        except UserError:  # quotes that only another delimiter makes sense of
            return []

    headers = {delimiter: header_of(delimiter) for delimiter in ",;\t"}
    delimiter = max(headers, key=lambda d: (path_column in headers[d], len(headers[d])))
    header = headers[delimiter]
    for name in header:
        if name and header.count(name) > 1:
            raise UserError(f"{file} names the column '{name}' twice in its header.")
    numbered = list(parse(delimiter))[1:]
    if not numbered:
        raise UserError(f"{file} lists no image: it needs a header and a line for each image.")
    for line, row in numbered:
        if len(row) != len(header):
            raise UserError(f"{file}: line {line} has {len(row)} fields where {len(header)} belong, as in the header.")
    return header, [row for _, row in numbered], [line for line, _ in numbered]


def _paths(cells: Sequence[str], lines: Sequence[int], file: Path, root: Path) -> list[str]:
    """Return the paths with slashes and without detours; all different, all inside the folder."""
    first: dict[str, int] = {}
    for cell, line in zip(cells, lines, strict=True):
        path = PurePosixPath(cell.strip().replace("\\", "/"))
        if not path.parts:
            raise UserError(f"{file}: line {line} names no image; write its path, or delete the line.")
        if path.is_absolute() or re.match("[A-Za-z]:/", str(path)) or ".." in path.parts:
            raise UserError(
                f"{file}: line {line}: the path {cell.strip()} leads out of the folder; paths are relative to {root}."
                " Set data.folder (or --data-dir) to a folder that holds the table and all images."
            )
        if str(path) in first:
            raise UserError(f"{file}: lines {first[str(path)]} and {line} both list {path}; each image has one line.")
        first[str(path)] = line
    return list(first)


def _split_column(words: Sequence[str], lines: Sequence[int], file: Path, column: str) -> Labels:
    for word, line in zip(words, lines, strict=True):
        if word.strip().lower() not in _SPLIT_WORDS:
            raise UserError(
                f"{file}: line {line} says '{word}' in column {column} where train, val or test belongs. Correct it, or"
                " set data.csv.split to another column."
            )
    split = np.array([_SPLIT_WORDS[word.strip().lower()] for word in words], dtype=np.int64)
    _check_splits(
        split, f"{file}, column {column}", "give it some images, or drop the column to split 70/10/20 at random"
    )
    return split


def _refuse_split(cells: dict[str, list[str]], wanted: str, file: Path) -> None:
    """Refuse a column that is the split by its name or its words: as a task it would be learned and not kept to."""
    for name, column in cells.items():
        words = {cell.strip().lower() for cell in column} - {""}
        sides = {_SPLIT_WORDS.get(word) for word in words}
        if name.lower() == wanted.lower() or (None not in sides and len(sides) > 1):
            raise UserError(
                f"{file}: the column '{name}' looks like the split, which is looked for in '{wanted}'. Set"
                f" data.csv.split = '{name}', or '' if that column is a task."
            )


def _split_at_random(groups: list[str], seed: int, by: str, root: Path) -> tuple[Labels, str]:
    split = split_at_random(groups, seed)
    if len(np.unique(split)) < len(SPLITS):
        raise UserError(f"{root} is too small to be split 70/10/20 by {by}: it has {len(set(groups))}; add images.")
    return split, f"by {by} at random, 70/10/20, seed {seed}"


def _check_splits(split: Labels, where: str, remedy: str) -> None:
    empty = [name for number, name in enumerate(SPLITS) if not (split == number).any()]
    if empty:
        raise UserError(f"{where}: no image is in the split {' or '.join(empty)}: {remedy}.")


def _check_distinct(tasks: Iterable[str], where: str) -> None:
    """Refuse names that `Table.find_task` can't tell apart."""
    seen: dict[str, str] = {}
    for task in tasks:
        plain = task.lower().replace("_", "").replace("-", "")
        if plain in seen:
            raise UserError(f"{where}: the tasks '{seen[plain]}' and '{task}' have the same name; rename one.")
        seen[plain] = task


def files_in(root: Path, inside: str = "") -> Iterator[str]:
    """Yield the paths of the files under `root` that are not hidden, relative to it, with slashes."""
    try:
        with os.scandir(root / inside) as scan:
            entries = [entry for entry in scan if not _is_hidden(entry.name)]
    except OSError as error:
        raise UserError(f"{root / inside} can't be read: {error.strerror}.") from error
    for entry in entries:
        if entry.is_dir():
            yield from files_in(root, f"{inside}{entry.name}/")
        else:
            yield f"{inside}{entry.name}"


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _CLUTTER


def _name(root: Path) -> str:
    return root.name or root.resolve().name

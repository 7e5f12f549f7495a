"""Reads a user's own images that a table lists, CSV or JSON lines: a column of paths and one for each task.

Images are not opened here: packing and `data check` say which are missing or broken.
"""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import numpy as np

from mtlbench.benchmark import Csv, Data
from mtlbench.data.files import IMAGE_ENDINGS, files_in, first_files_in, is_image, name_of
from mtlbench.data.roles import GALLERY, QUERY, check_roles, roles_in, roles_of
from mtlbench.data.splits import (
    NUMBERS,
    SPLIT_COLUMNS,
    SPLIT_WORDS,
    Aside,
    are_split,
    check_beside_splits,
    check_splits,
    columns_aside,
    completed,
    like_split,
    split_by_words,
    split_of_columns,
    split_own,
    torn_groups,
)
from mtlbench.data.table import SPLITS, Kin, Table, check_distinct, labels_of, remark_on_several
from mtlbench.datasets.contract import Proposal, Reader, register_reader
from mtlbench.datasets.rows import TABLES, Rows, first_row, read_rows
from mtlbench.errors import UserError, did_you_mean, plain_name
from mtlbench.names import listed
from mtlbench.options import toml

_LOCAL = "/data/local-files/?d="


@register_reader("csv")
class CsvFile(Reader):
    """Images of one's own that a CSV or JSON lines list; `data.csv` names the file and its columns."""

    def read(self, folder: Path, data: Data) -> Table:
        """See `read_csv`."""
        return read_csv(folder, data)

    @classmethod
    def propose(cls, folder: Path) -> Proposal | None:
        """See `Reader.propose`: the first table whose first row names an image, or those of the splits together."""
        files = sorted(path for path in folder.glob("*") if path.suffix.lower() in TABLES)
        proposal = _alone(folder, [path for path in files if path.stem.lower() not in SPLIT_WORDS])
        if proposal is not None:
            return proposal
        sides = _tables_of_splits(folder)
        for name in sides.values():
            column = _path_column(folder, folder / name)
            if column is not None and len(sides) == 1:
                return Proposal(f"a table of images, {name}", _section(folder, folder / name, column))
            if column is not None:
                listed = ", ".join(f"{side} = {toml(other)}" for side, other in sides.items())
                named = f"files = {{ {listed} }}, path = {toml(column)}"
                what = f"a table of images for each split, {', '.join(sides.values())}"
                return Proposal(what, ('reader = "csv"', f"csv = {{ {named} }}"))
        looked_at = first_files_in(folder)
        below = sorted(Path(folder, name) for name in looked_at if name.count("/") == 1 and name.endswith(TABLES))
        return _alone(folder, below)


def _alone(folder: Path, files: list[Path]) -> Proposal | None:
    """Propose the first of some tables whose first row names an image; below the folder, one that is there."""
    for file in files:
        column = _path_column(folder, file)
        if column is not None:
            name = file.relative_to(folder).as_posix()
            return Proposal(f"a table of images, {name}", _section(folder, file, column))
    return None


def _path_column(folder: Path, file: Path) -> str | None:
    """Return the column of a table that names an image in its first row, by its ending or since it is there."""
    for header, row in first_row(file):
        for name, cell in zip(header, map(str.strip, row), strict=False):
            bare = PurePosixPath(cell.replace("\\", "/")) if cell and "\0" not in cell and len(cell) < 200 else None
            ended = cell.lower().endswith(IMAGE_ENDINGS)
            places = {file.parent, folder}
            if ended and (file.parent == folder or any(_there(place / str(bare)) for place in places)):
                return name
            if bare and any(_there(place / f"{bare}{end}") for end in IMAGE_ENDINGS for place in places):
                return name
    return None


def _there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a cell of prose is no name
        return False


def _section(folder: Path, file: Path, column: str) -> tuple[str, ...]:
    """Return the lines of [data] that read one table by its column of paths."""
    header = next((header for header, _ in first_row(file) if column in header), [])
    row = next((row for header, row in first_row(file) if column in header), [])
    cells = dict(zip(header, (cell.strip().lower() for cell in row), strict=False))
    split = next((name for name in header if name.lower() == "split"), "") or next(
        (name for name, cell in cells.items() if name.lower() in SPLIT_COLUMNS and cell in {*SPLIT_WORDS, *NUMBERS}),
        "split",
    )
    named = f"file = {toml(file.relative_to(folder).as_posix())}, path = {toml(column)}"
    named += f", split = {toml(split)}" if split != "split" else ""
    return 'reader = "csv"', f"csv = {{ {named} }}"


def _tables_of_splits(folder: Path) -> dict[str, str]:
    """Return the tables of single splits by the word that names the split.

    They are called train.csv, val.csv and test.csv or the like, or are in folders that are, as metadata.csv or alone. A
    table that is the only one of its split goes by the split's usual name, others keep their own: none is lost.
    """
    words = {
        path.stem.lower(): path.name
        for path in sorted(folder.glob("*"))
        if path.suffix.lower() in TABLES and path.stem.lower() in SPLIT_WORDS
    }
    inner = sorted(path for path in folder.glob("*") if path.name.lower() in SPLIT_WORDS and path.is_dir())
    for place in inner if not words else ():
        tables = sorted(path for path in place.glob("*") if path.suffix.lower() in TABLES)
        tables = [path for path in tables if path.stem.lower() == "metadata"] or tables
        if len(tables) == 1:
            words[place.name.lower()] = f"{place.name}/{tables[0].name}"
    sides = Counter(SPLIT_WORDS[word] for word in words)
    found = {SPLITS[SPLIT_WORDS[w]] if sides[SPLIT_WORDS[w]] == 1 else w: name for w, name in words.items()}
    return dict(sorted(found.items(), key=lambda item: (SPLIT_WORDS[item[0]], item[0])))


def read_csv(root: Path, data: Data) -> Table:
    """Read the images that a table in `root` lists: CSV (commas, semicolons or tabs) or JSON lines, in UTF-8.

    `data.csv` names the file and its columns of paths (relative to `root`), splits and groups. Every column but those
    of paths and splits is a task, the group's only where it is asked for. Empty cells are unlabelled;
    `data.multi_valued` says what a cell "a;b" is, `data.ordered` which tasks have ordered values. Without a column of
    splits, the split is that of the paths where all begin with train/, val/, test/ or the like; else it is 70/10/20 at
    random by `data.split_seed`, images of one group on one side; an image without a group is on its own. Without a
    column of splits, columns `is_train`, `is_val` and `is_test` of true and false say it. They, and a column `fold` or
    `kfold` of numbers, are no tasks unless `data.tasks` names them. Columns `is_query` and `is_gallery`, or splits
    called query and gallery, say which test images are searched for among which.

    Raises:
        UserError: the file or a column is missing, a line is malformed (it names the line and what belongs there), or
            a column looks like the split and has another name, such as `train` of 0 and 1.
    """
    section = data.csv or Csv()
    file, table = _read_tables(root, section, data.separator)
    header, rows, lines = table.header, table.cells, table.lines
    column = {name: i for i, name in enumerate(header) if name}
    if any(name.lower().endswith(IMAGE_ENDINGS) for name in header):
        raise UserError(
            f"{file} has no header: its first line, {', '.join(header)}, is that of an image. Write the names of the"
            f" columns above it, such as {section.path if section.path not in header else Csv().path},label."
        )
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
    tasks = [name for name in column if name not in (section.path, section.split, QUERY, GALLERY)]
    aside = columns_aside(
        tasks, lambda name: (row[column[name]] for row in rows), (*data.tasks, *data.ordered, section.group)
    )
    aside = aside if section.split else Aside({}, aside.folds, [])
    named = {plain_name(name) for name in (*data.tasks, *data.ordered, section.group)}
    real = {
        name: number for name in tasks
        if plain_name(name) not in named and (number := _fraction_in([row[column[name]] for row in rows], data.missing))
    }  # fmt: skip
    tasks = [name for name in tasks if name not in (*aside.flags, *aside.folds, *aside.alike, *real)]
    if section.split and section.split not in column and not aside.flags:
        _refuse_split({task: [row[column[task]] for row in rows] for task in tasks}, section.split, file)
        aside.refuse_alike(str(file))
    if not tasks:
        raise UserError(f"{file} has no column for a task: add one for each kind of label, beside '{known}'.")
    check_distinct(tasks, str(file))
    for name in data.ordered:
        if name not in tasks:
            raise UserError(
                f"data.ordered: {file} has no task '{name}'.{did_you_mean(name, tasks)} Tasks: {listed(tasks)}."
            )
    paths = _paths([row[column[section.path]] for row in rows], lines, file, root)
    paths, found_elsewhere = _as_they_lie(paths, root)
    cells = {task: [row[column[task]] for row in rows] for task in tasks}
    columns, remarks = {}, [*table.remarks, *found_elsewhere, *aside.remarks()]
    remarks += [
        f"'{name}' holds real numbers, such as {number}, and is no task unless data.tasks names it: left out."
        for name, number in real.items()
    ]
    for task in tasks:
        order = data.ordered.get(task)
        try:
            columns[task] = labels_of(
                cells[task], data.multi_valued, order, missing=data.missing, separator=data.separator
            )
        except UserError as error:
            raise UserError(f"{file}, column {task}: {error}") from error
        remarks += remark_on_several(
            task, cells[task], data.multi_valued, ordered=order is not None, separator=data.separator
        )
    nameless = header.count("")
    if nameless:
        remarks.append(f"{nameless} column{'s' * (nameless > 1)} of {file.name} without a name: left out.")
    own = [cell.strip() for cell in cells[section.group]] if section.group in tasks else [""] * len(rows)
    groups = [group or path for group, path in zip(own, paths, strict=True)]
    sides: list[str] = []  # what images are called by, where that may be query and gallery
    if section.split in column:
        words = [row[column[section.split]] for row in rows]
        given = f"as in {', '.join(section.files.values())}" if section.files else ""
        rule = given or f"as in {file.name}, column {section.split}"
        split = split_by_words(words, lines, str(file), section.split, "set data.csv.split to another column")
        sides = [word.strip() for word in words]
        split, drawn = completed(split, groups, data.split_seed)
        rule += drawn
        check_splits(
            split,
            f"{file}, column {section.split}",
            "give it some images, or drop the column to split 70/10/20 at random",
        )
        remarks += torn_groups(section.group, own, split)
    elif aside.flags:
        of_flags = {name: [row[column[name]] for row in rows] for name in aside.flags}
        split, by_flags = split_of_columns(of_flags, lines, groups, data.split_seed, str(file))
        rule = f"as in {file.name}, {by_flags}"
        remarks += torn_groups(section.group, own, split)
    elif section.split and all("/" in path for path in paths) and are_split(paths):
        sides = [path.split("/")[0] for path in paths]
        split, drawn = completed(np.array([SPLIT_WORDS[side.lower()] for side in sides]), groups, data.split_seed)
        rule = f"as in the paths of {file.name}{drawn}"
        check_splits(split, f"{file}, paths", "list some, or set data.csv.split = '' to split 70/10/20 at random")
        remarks += torn_groups(section.group, own, split)
    else:
        if section.split:
            remedy = (
                "delete the latter's lines, name all splits in a column, or set data.csv.split = '' to split 70/10/20"
            )
            check_beside_splits(paths, f"{file}, paths", f"{remedy} at random")
        by = section.group if section.group in tasks else "image"
        split, rule = split_own(groups, data.split_seed, by, root)
    marks = [[row[column[name]] for row in rows] if name in column else None for name in (QUERY, GALLERY)]
    roles, said = roles_in(marks[0], marks[1], split, str(file))
    return Table(
        name=name_of(root),
        root=root,
        paths=tuple(paths),
        columns=columns,
        split=split,
        split_rule=rule,
        remarks=(*remarks, *said),
        group=section.group if section.group in tasks else "",
        kin=Kin.of(own, f"another image of the same {section.group}") if section.group in tasks else None,
        roles=roles or check_roles(roles_of(sides), split, sides, str(file)),
    )


def _fraction_in(cells: Sequence[str], missing: Sequence[str]) -> str:
    """Return a number with a fraction from a column that holds numbers alone; empty where it is no such column."""
    filled = [text for cell in cells if (text := cell.strip()) and text not in missing]
    try:
        numbers = [float(text) for text in filled]
    except ValueError:
        return ""
    return next((text for text, number in zip(filled, numbers, strict=True) if number % 1 > 0), "")


def _paths(cells: Sequence[str], lines: Sequence[int], file: Path, root: Path) -> list[str]:
    """Return the paths with slashes and without detours; all different, all inside the folder."""
    first: dict[str, int] = {}
    known: dict[PurePosixPath, PurePosixPath] = {}
    for cell, line in zip(cells, lines, strict=True):
        if re.match(r"(?!file:///)[a-z][a-z0-9+.-]+://", cell.strip(), re.I):
            raise UserError(
                f"{file}: line {line} gives an address, {cell.strip()}: fetch the images first, and give their paths."
            )
        if "\0" in cell:
            raise UserError(
                f"{file}: line {line} has a NUL byte in its path, which no file name holds: delete it, or save the"
                " table as UTF-8 again."
            )
        path = PurePosixPath(_local(cell.strip()).replace("\\", "/"))
        if path.is_absolute():
            path = _inside(path, root, known)
        if not path.parts:
            raise UserError(f"{file}: line {line} names no image; write its path, or delete the line.")
        if path.is_absolute() or re.match("[A-Za-z]:/", str(path)) or ".." in path.parts:
            raise UserError(
                f"{file}: line {line}: the path {cell.strip()} leads out of the folder; paths are relative to {root}."
                " Set data.folder (or --data-dir) to a folder that holds the table and all images."
            )
        if str(path) in first:
            raise UserError(
                f"{file}: lines {first[str(path)]} and {line} both list {path}; each image has one line. Pivot a"
                " table with a line per label to a column per task first, as with pandas' DataFrame.pivot."
            )
        first[str(path)] = line
    return list(first)


def _inside(path: PurePosixPath, root: Path, known: dict[PurePosixPath, PurePosixPath]) -> PurePosixPath:
    """Return an absolute path relative to the images' folder where it leads through it, by links too; else as it is.

    Args:
        known: the images' folder as each folder of the table names it; filled here.
    """
    if path.parent not in known:
        real = os.path.realpath(root)
        names = (place for place in reversed(path.parents) if os.path.realpath(place) == real)
        known[path.parent] = next(names, PurePosixPath("/"))
    return path if known[path.parent] == PurePosixPath("/") else path.relative_to(known[path.parent])


def _local(cell: str) -> str:
    """Return the path of an address of this machine: as it is in Label Studio's folder of media, or of file:///."""
    if cell[:8].lower() == "file:///":
        return unquote(cell[7:])
    if cell.startswith("/data/upload/"):
        return cell.removeprefix("/data/")
    return unquote(cell.removeprefix(_LOCAL)) if cell.startswith(_LOCAL) else cell


def _read_tables(root: Path, section: Csv, separator: str) -> tuple[Path, Rows]:
    """Read the table, or those of the splits as one with a column that says which.

    Returns:
        the (first) file, and its rows. Paths in a table in a folder of its own are relative to that folder
        where the images lie there.
    """
    if not section.files:
        table = read_rows(root / section.file, section.path, separator)
        if section.path in table.header:
            place = table.header.index(section.path)
            for row in table.cells:
                row[place] = _beside(root, PurePosixPath(section.file).parent, row[place].strip())
        return root / section.file, table
    header: list[str] = []
    cells: list[list[str]] = []
    lines: list[int] = []
    remarks: tuple[str, ...] = ()
    first = root / next(iter(section.files.values()))
    for split, name in section.files.items():
        if split.lower() not in SPLIT_WORDS:
            raise UserError(f"data.csv.files: '{split}' is no split; name train, val and test.")
        table = read_rows(root / name, section.path, separator)
        header = header or [*table.header, section.split]
        if sorted(table.header) != sorted(header[:-1]) or section.split in table.header:
            raise UserError(f"{root / name} has different columns from {first}: make them alike.")
        order = [table.header.index(column) for column in header[:-1]]
        at = header.index(section.path) if section.path in table.header else None
        above = PurePosixPath(name).parent
        for row in table.cells:
            own = [row[i] for i in order]
            if at is not None and above.parts and not _there(root / own[at].strip()):
                own[at] = str(above / own[at].strip())
            cells.append([*own, split])
        lines += table.lines
        remarks += table.remarks
    return first, Rows(header, cells, lines, remarks)


def _beside(root: Path, above: PurePosixPath, cell: str) -> str:
    """Return a path of a table in the folder `above`, where it is meant from there: it is there, or goes up first."""
    plain = cell.replace("\\", "/")
    if not above.parts or not cell or "\0" in cell or _there(root / plain):
        return cell
    inside = posixpath.normpath(str(above / plain))
    return inside if plain.startswith("../") or _there(root / inside) else cell


def _as_they_lie(paths: list[str], root: Path) -> tuple[list[str], list[str]]:
    """Return the paths of images as their files are called, and a remark where some differ from the table's.

    A path may begin with the folder's own name, lack its ending, be written in another Unicode form than the disk's or
    with %20 for a blank, and all may be meant from one folder inside. One that nothing is found for stays: packing
    names it.
    """
    lost = [path for path in paths if not (root / path).is_file()]
    if not lost:
        return paths, []
    there = {unicodedata.normalize("NFC", path): path for path in files_in(root) if is_image(path)}
    bare: dict[str, list[str]] = {}
    files: dict[str, list[str]] = {}
    for plain, path in there.items():
        files.setdefault(PurePosixPath(plain).name, []).append(path)
        bare.setdefault(str(PurePosixPath(plain).with_suffix("")), []).append(path)
    moved = {}
    for path in lost:
        plain = unicodedata.normalize("NFC", path)
        inside = plain.removeprefix(f"{name_of(root)}/")
        for name in dict.fromkeys((plain, inside, unquote(plain), unquote(inside))):
            if name in there:
                moved[path] = there[name]
            elif len(bare.get(name, ())) == 1:
                moved[path] = bare[name][0]
        if path.startswith("upload/") and path not in moved:  # Label Studio puts eight digits before a name
            own = PurePosixPath(plain).name
            spelt = (own, unquote(own), *(re.sub("^[0-9a-f]{8}-", "", name) for name in (own, unquote(own))))
            candidates = next((files[name] for name in spelt if name in files), [])
            moved |= {path: candidates[0]} if len(candidates) == 1 else {}
    if len(lost) == len(paths) and not moved:
        moved = _from_one_folder(lost, there)
    moved = {path: name for path, name in moved.items() if name != path}  # a pipe, say, of an image's name
    found = [moved.get(path, path) for path in paths]
    if len(set(found)) < len(found):  # two lines of one image: the table's own paths are named
        return paths, []
    if not moved:
        return found, []
    first = next(iter(moved))
    have = "images have" if len(moved) > 1 else "image has"
    same = unicodedata.normalize("NFC", first) == unicodedata.normalize("NFC", moved[first])
    such = f"{moved[first]} for {first}{', in another Unicode form' if same else ''}"
    return found, [f"{len(moved):,} {have} another path than in the table, such as {such}."]


def _from_one_folder(paths: list[str], there: dict[str, str]) -> dict[str, str]:
    """Return where paths lie that are meant from a folder inside: the one that holds most of them, if one does."""
    plain = {path: unicodedata.normalize("NFC", path) for path in paths}
    ends = f"/{plain[paths[0]]}"
    prefixes = [name.removesuffix(ends) for name in there if name.endswith(ends)]
    held = {prefix: sum(f"{prefix}/{name}" in there for name in plain.values()) for prefix in prefixes}
    best = sorted(held, key=lambda prefix: -held[prefix])[:2]
    if not best or (len(best) == 2 and held[best[0]] == held[best[1]]):
        return {}
    return {path: there[f"{best[0]}/{name}"] for path, name in plain.items() if f"{best[0]}/{name}" in there}


def _refuse_split(cells: dict[str, list[str]], wanted: str, file: Path) -> None:
    """Refuse a column that is the split by its name or its words, see `like_split`."""
    for name, column in cells.items():
        if name.lower() == wanted.lower() or like_split(name, column):
            raise UserError(
                f"{file}: the column '{name}' looks like the split, which is looked for in '{wanted}'. Set"
                f" data.csv.split = '{name}', or '' if that column is a task."
            )

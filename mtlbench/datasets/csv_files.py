"""Reads a user's own images that a CSV lists: a column of paths and one for each task.

Images are not opened here: packing and `data check` say which are missing or broken.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from mtlbench.benchmark import Csv, Data
from mtlbench.data.files import IMAGE_ENDINGS, files_in, is_image, name_of
from mtlbench.data.splits import SPLIT_WORDS, check_splits, completed, split_own, torn_groups
from mtlbench.data.table import SPLITS, Labels, Table, check_distinct, labels_of, remark_on_several
from mtlbench.datasets.contract import Proposal, Reader, register_reader
from mtlbench.errors import UserError, did_you_mean
from mtlbench.options import toml


@register_reader("csv")
class CsvFile(Reader):
    """Images of one's own that a CSV lists; `data.csv` names the file and its columns."""

    def read(self, folder: Path, data: Data) -> Table:
        """See `read_csv`."""
        return read_csv(folder, data)

    @classmethod
    def propose(cls, folder: Path) -> Proposal | None:
        """See `Reader.propose`: the first table whose first row names an image, or those of the splits together."""
        for file in sorted(folder.glob("*.csv"), key=lambda path: (path.stem.lower() in SPLIT_WORDS, path.name)):
            try:
                with file.open(newline="", encoding="utf-8-sig") as lines:
                    rows = list(itertools.islice(lines, 2))
                tables = [list(csv.reader(rows, delimiter=delimiter)) for delimiter in ",;\t"]
            except (OSError, ValueError, csv.Error):
                continue
            for header, first in (table for table in tables if len(table) == 2):
                for name, cell in zip(header, first, strict=False):
                    if cell.strip().lower().endswith(IMAGE_ENDINGS):
                        named = f"file = {toml(file.name)}, path = {toml(name.strip())}"
                        split = next((n.strip() for n in header if n.strip().lower() == "split"), "split")
                        named += f", split = {toml(split)}" if split != "split" else ""
                        sides = _tables_of_splits(folder)
                        if file.stem.lower() in SPLIT_WORDS and len(sides) > 1:
                            listed = ", ".join(f"{side} = {toml(other)}" for side, other in sides.items())
                            named = f"files = {{ {listed} }}, path = {toml(name.strip())}"
                            what = f"a table of images for each split, {', '.join(sides.values())}"
                            return Proposal(what, ('reader = "csv"', f"csv = {{ {named} }}"))
                        return Proposal(f"a table of images, {file.name}", ('reader = "csv"', f"csv = {{ {named} }}"))
        return None


def _tables_of_splits(folder: Path) -> dict[str, str]:
    """Return the tables that are called train.csv, val.csv and test.csv or the like, by the word that names the split.

    A table that is the only one of its split goes by the split's usual name, others keep their own: none is lost.
    """
    words = {path.stem.lower(): path.name for path in sorted(folder.glob("*.csv")) if path.stem.lower() in SPLIT_WORDS}
    sides = Counter(SPLIT_WORDS[word] for word in words)
    found = {SPLITS[SPLIT_WORDS[w]] if sides[SPLIT_WORDS[w]] == 1 else w: name for w, name in words.items()}
    return dict(sorted(found.items(), key=lambda item: (SPLIT_WORDS[item[0]], item[0])))


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
    file, header, rows, lines = _read_tables(root, section)
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
    check_distinct(tasks, str(file))
    for name in data.ordered:
        if name not in tasks:
            raise UserError(
                f"data.ordered: {file} has no task '{name}'.{did_you_mean(name, tasks)} Tasks: {', '.join(tasks)}."
            )
    paths = _paths([row[column[section.path]] for row in rows], lines, file, root)
    paths, found_elsewhere = _as_they_lie(paths, root)
    cells = {task: [row[column[task]] for row in rows] for task in tasks}
    columns, remarks = {}, found_elsewhere
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
    if section.split in column:
        words = [row[column[section.split]] for row in rows]
        given = f"as in {', '.join(section.files.values())}" if section.files else ""
        rule = given or f"as in {file.name}, column {section.split}"
        split = _split_column(words, lines, file, section.split)
        split, drawn = completed(split, groups, data.split_seed)
        rule += drawn
        check_splits(
            split,
            f"{file}, column {section.split}",
            "give it some images, or drop the column to split 70/10/20 at random",
        )
        remarks += torn_groups(section.group, own, split)
    else:
        by = section.group if section.group in tasks else "image"
        split, rule = split_own(groups, data.split_seed, by, root)
    return Table(
        name=name_of(root),
        root=root,
        paths=tuple(paths),
        columns=columns,
        split=split,
        split_rule=rule,
        remarks=tuple(remarks),
        group=section.group if section.group in tasks else "",
    )


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
        if re.match(r"[a-z][a-z0-9+.-]+://", cell.strip(), re.I):
            raise UserError(
                f"{file}: line {line} gives an address, {cell.strip()}: fetch the images first, and give their paths."
            )
        if "\0" in cell:
            raise UserError(
                f"{file}: line {line} has a NUL byte in its path, which no file name holds: delete it, or save the"
                " table as UTF-8 again."
            )
        path = PurePosixPath(cell.strip().replace("\\", "/"))
        if path.is_absolute() and path.is_relative_to(root.resolve()):
            path = path.relative_to(root.resolve())
        if not path.parts:
            raise UserError(f"{file}: line {line} names no image; write its path, or delete the line.")
        if path.is_absolute() or re.match("[A-Za-z]:/", str(path)) or ".." in path.parts:
            raise UserError(
                f"{file}: line {line}: the path {cell.strip()} leads out of the folder; paths are relative to {root}."
                " Set data.folder (or --data-dir) to a folder that holds the table and all images."
            )
        if str(path) in first:
            raise UserError(
                f"{file}: lines {first[str(path)]} and {line} both list {path}; each image has one line. A table with"
                " a line per label is to be pivoted to a column per task first, as with pandas' DataFrame.pivot."
            )
        first[str(path)] = line
    return list(first)


def _read_tables(root: Path, section: Csv) -> tuple[Path, list[str], list[list[str]], list[int]]:
    """Read the table, or those of the splits as one with a column that says which.

    Returns:
        the (first) file, the header, the rows, and the number of the line that each row begins in. Paths in a table
        that lies in a folder of its own are relative to that folder where the images lie there.
    """
    if not section.files:
        file = root / section.file
        return file, *_read_rows(file, section.path)
    header: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    for split, name in section.files.items():
        if split.lower() not in SPLIT_WORDS:
            raise UserError(f"data.csv.files: '{split}' is no split; name train, val and test.")
        file = root / name
        own, read, numbers = _read_rows(file, section.path)
        header = header or [*own, section.split]
        if sorted(own) != sorted(header[:-1]) or section.split in own:
            raise UserError(
                f"{file} has other columns than {root / next(iter(section.files.values()))}: make them alike."
            )
        order = [own.index(column) for column in header[:-1]]
        above = PurePosixPath(name).parent
        for row in read:
            cells = [row[i] for i in order]
            if section.path in own and above.parts and not (root / cells[header.index(section.path)].strip()).is_file():
                cells[header.index(section.path)] = str(above / cells[header.index(section.path)].strip())
            rows.append([*cells, split])
        lines += numbers
    return root / next(iter(section.files.values())), header, rows, lines


def _as_they_lie(paths: list[str], root: Path) -> tuple[list[str], list[str]]:
    """Return the paths of images as their files are called, and a remark where some differ from the table's.

    A path may begin with the folder's own name, lack its ending, or be written in another Unicode form than the disk's.
    One that nothing is found for stays: packing names it.
    """
    lost = [path for path in paths if not (root / path).is_file()]
    if not lost:
        return paths, []
    there = {unicodedata.normalize("NFC", path): path for path in files_in(root) if is_image(path)}
    bare: dict[str, list[str]] = {}
    for plain, path in there.items():
        bare.setdefault(str(PurePosixPath(plain).with_suffix("")), []).append(path)
    moved = {}
    for path in lost:
        plain = unicodedata.normalize("NFC", path)
        inside = plain.removeprefix(f"{name_of(root)}/")
        for name in (plain, inside):
            if name in there:
                moved[path] = there[name]
            elif len(bare.get(name, ())) == 1:
                moved[path] = bare[name][0]
    moved = {path: name for path, name in moved.items() if name != path}  # a pipe, say, of an image's name
    found = [moved.get(path, path) for path in paths]
    if len(set(found)) < len(found):  # two lines of one image: the table's own paths are named
        return paths, []
    if not moved:
        return found, []
    first = next(iter(moved))
    lie = "images lie" if len(moved) > 1 else "image lies"
    return found, [f"{len(moved):,} {lie} under another path than the table's, such as {moved[first]} for {first}."]


def _split_column(words: Sequence[str], lines: Sequence[int], file: Path, column: str) -> Labels:
    if {word.strip() for word in words} <= set("012"):  # as CelebA's partition
        return np.array([int(word) for word in words], dtype=np.int64)
    for word, line in zip(words, lines, strict=True):
        if word.strip().lower() not in SPLIT_WORDS:
            raise UserError(
                f"{file}: line {line} says '{word}' in column {column} where train, val or test belongs. Correct it, or"
                " set data.csv.split to another column."
            )
    return np.array([SPLIT_WORDS[word.strip().lower()] for word in words], dtype=np.int64)


def _refuse_split(cells: dict[str, list[str]], wanted: str, file: Path) -> None:
    """Refuse a column that is the split by its name or its words: as a task it would be learned and not kept to."""
    for name, column in cells.items():
        words = {cell.strip().lower() for cell in column} - {""}
        sides = {SPLIT_WORDS.get(word) for word in words}
        if name.lower() == wanted.lower() or (None not in sides and len(sides) > 1):
            raise UserError(
                f"{file}: the column '{name}' looks like the split, which is looked for in '{wanted}'. Set"
                f" data.csv.split = '{name}', or '' if that column is a task."
            )

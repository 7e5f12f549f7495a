"""Reads the rows of a table of images as text, from CSV of any usual dialect and from JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlbench.data.files import first_files_in
from mtlbench.errors import UserError, counted

TABLES = (".csv", ".tsv", ".jsonl")
_JSON = "make JSON lines of it, as with pandas.read_json('{0}').to_json('labels.jsonl', orient='records', lines=True)"
_PARQUET = "make a CSV of it, as with pandas.read_parquet('{0}').to_csv('labels.csv', index=False)"
_HUB = "write reader = 'hub' in place of reader and csv in [data]"
_SHEET = "save it as CSV, in Excel as 'CSV UTF-8 (comma delimited)'"
OTHERS = {  # tables that are not read: what each is, and what makes one of it that is
    ".parquet": ("a Parquet table", f"{_PARQUET}; if the images are in it, {_HUB}"),
    ".arrow": ("an Arrow table", f"write it as CSV; if the images are in it, {_HUB}"),
    ".xlsx": ("a spreadsheet", _SHEET),
    ".xls": ("a spreadsheet", _SHEET),
    ".ods": ("a spreadsheet", _SHEET),
    ".json": ("one JSON text", _JSON),
    ".txt": ("plain text", "write it as CSV, with a header such as path,label"),
}


@contextmanager
def _any_length() -> Iterator[None]:
    """Let cells be of any length: a column of masks or prose, which is no task, must not stop the others."""
    before = csv.field_size_limit(2**31 - 1)  # of the whole process
    try:
        yield
    finally:
        csv.field_size_limit(before)


@dataclass(frozen=True)
class Rows:
    """A table as text.

    Attributes:
        header: the columns' names, of which several may be empty.
        cells: a list for each row, as long as the header.
        lines: the number of the line that each row begins in.
        remarks: what was left out, a sentence each.
    """

    header: list[str]
    cells: list[list[str]]
    lines: list[int]
    remarks: tuple[str, ...] = ()


def read_rows(file: Path, path_column: str, separator: str = ";") -> Rows:
    """Read a table whose name ends in .jsonl as JSON lines, any other as CSV; blank rows are left out.

    Args:
        file: in UTF-8.
        path_column: tells which of commas, semicolons and tabs part the columns of a CSV.
        separator: joins the values of a list in JSON.

    Raises:
        UserError: the file is missing, no UTF-8, or malformed; it names the line.
    """
    if file.suffix.lower() in OTHERS and file.is_file():
        raise UserError(_refused(file))
    text = _text(file)
    rows = _json_lines(file, text, separator) if file.suffix.lower() == ".jsonl" else _csv(file, text, path_column)
    if not rows.cells:
        needs = "a line for each image" if file.suffix.lower() == ".jsonl" else "a header and a line for each image"
        raise UserError(f"{file} lists no image: it needs {needs}.")
    return rows


def _refused(file: Path) -> str:
    what, remedy = OTHERS[file.suffix.lower()]
    return f"{file} is {what}, which is not read: {remedy.format(file.name)}."


def unread(folder: Path) -> list[str]:
    """Say of each table in a folder, or one below, why no images of one's own are read from it."""
    found = []
    for name in sorted(first_files_in(folder)):
        file = folder / name
        if name.count("/") > 1:
            continue
        if file.suffix.lower() in OTHERS:
            found.append(_refused(file))
        elif file.suffix.lower() in TABLES:
            try:
                read_rows(file, "path")
                found.append(f"{file}: no column of its first row names an image.")
            except UserError as error:
                found.append(str(error))
    return found


@_any_length()
def first_row(file: Path) -> list[tuple[list[str], list[str]]]:
    """Return the header and the first row of a table, of a CSV under each delimiter; nothing where it has none."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            start = [text.readline(2**20) for _ in range(2)]
        if file.suffix.lower() == ".jsonl":
            rows = _json_lines(file, start[0], ";")
            return [(rows.header, rows.cells[0])] if rows.cells else []
        tables = [list(csv.reader(start, delimiter=delimiter)) for delimiter in ",;\t"]
    except (OSError, ValueError, csv.Error, UserError):
        return []
    return [([name.strip() for name in table[0]], table[1]) for table in tables if len(table) == 2]


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        near = sorted(path.name for path in file.parent.glob("*") if path.suffix.lower() in (*TABLES, ".txt"))
        there = f" There: {', '.join(near)}." if near else ""
        raise UserError(
            f"{file} is missing: put the table of images there, or name it with data.csv.file.{there}"
        ) from error
    except OSError as error:
        raise UserError(f"{file} can't be read: {error.strerror}.") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{file} is not UTF-8 text (line {line}): save it as UTF-8, in Excel as 'CSV UTF-8 (comma delimited)'."
        ) from error


@_any_length()
def _csv(file: Path, text: str, path_column: str) -> Rows:
    def parse(delimiter: str) -> Iterator[tuple[int, list[str]]]:
        reader, before = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter), 0
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
    for line, row in numbered:
        if len(row) != len(header):
            found = counted(len(row), "field")
            raise UserError(f"{file}: line {line} has {found} where {len(header)} belong, as in the header.")
    return Rows(header, [row for _, row in numbered], [line for line, _ in numbered])


def _json_lines(file: Path, text: str, separator: str) -> Rows:
    """Read an object a line; its keys are columns, null and keys that a line lacks are empty cells."""
    found: list[dict[str, str | None]] = []
    lines = []
    for number, line in enumerate(io.StringIO(text), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_distinct)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise UserError(f"{file}: line {number} can't be read as JSON: {reason}.") from error
        if not isinstance(row, dict):
            raise UserError(
                f'{file}: line {number} is not a JSON object; give each image a line such as {{"file_name": "a.jpg",'
                ' "colour": "red"}.'
            )
        cells = {name.strip(): _cell(value, separator) for name, value in row.items()}
        if any("\ud800" <= letter <= "\udfff" for pair in cells.items() for letter in f"{pair[0]}{pair[1]}"):
            raise UserError(f"{file}: line {number} holds half of a character, \\ud800 to \\udfff: write it whole.")
        found.append(cells)
        lines.append(number)
    header = list(dict.fromkeys(name for row in found for name in row))
    nested = [name for name in header if any(row.get(name, "") is None for row in found)]
    header = [name for name in header if name not in nested]
    rows = [[row.get(name) or "" for name in header] for row in found]
    remarks = [
        f"{file.name}: '{name}' holds objects or lists of lists, which are no labels: left out." for name in nested
    ]
    return Rows(header, rows, lines, tuple(remarks))


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, whose names are all different and whose text is whole."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has '{next(name for name in names if names.count(name) > 1)}' twice")
    return found


def _cell(value: object, separator: str) -> str | None:
    """Return a value of JSON as a cell of text, None where it is neither one nor several."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = [_cell(part, separator) for part in value]
        texts = [part for part in parts if part is not None]
        flat = len(texts) == len(parts) and not any(isinstance(part, list) for part in value)
        return separator.join(texts) if flat else None
    return None if isinstance(value, dict) else json.dumps(value)

"""Shoes written in UT-Zappos50K's layout, row by row."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from mtlbench.data.table import Table
from mtlbench.datasets.zappos import read_zappos

TABLE = "ut-zap50k-data/meta-data.csv"


COLUMNS = ["CID", "Category", "SubCategory", "HeelHeight", "Insole", "Closure", "Gender", "Material", "ToeStyle"]


OXFORD = {"Category": "Shoes", "SubCategory": "Oxfords", "Closure": "Lace up", "Gender": "Men", "HeelHeight": "Flat"}


def write(root: Path, *shoes: tuple[str, str, dict[str, str]]) -> Path:
    """Write shoes given as (CID, brand's folder, cells) in the official layout."""
    for cid, brand, cells in shoes:
        folder = root / "ut-zap50k-images" / cells["Category"] / cells["SubCategory"] / brand
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(folder / f"{cid.replace('-', '.')}.jpg")
    write_rows(root, [[cid, *(cells.get(c, "") for c in COLUMNS[1:])] for cid, _, cells in shoes])
    return root


def write_rows(root: Path, rows: list[list[str]], header: list[str] = COLUMNS) -> None:
    (root / "ut-zap50k-data").mkdir(exist_ok=True)
    with (root / TABLE).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def change_rows(root: Path, change: Callable[[list[list[str]]], list[list[str]]]) -> None:
    """Rewrite the table's rows, header excluded."""
    with (root / TABLE).open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    write_rows(root, change(rows), header)


def labels(root: Path, task: str, multi_valued: str = "value") -> list[str | None]:
    """Return each image's value in words, None where it has none."""
    return words(read_zappos(root, multi_valued=multi_valued), task)


def words(table: Table, task: str) -> list[str | None]:
    column = table.columns[task]
    return [column.values[c] if c >= 0 else None for c in column.codes]


def with_values(root: Path, column: str, values: list[str]) -> Path:
    """Write a shoe for each value of a column."""
    return write(root, *((f"{i + 1}-1", "Keen", {**OXFORD, column: value}) for i, value in enumerate(values)))

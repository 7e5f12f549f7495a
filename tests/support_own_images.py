"""A user's own images, as tests write and read them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from mtlbench.benchmark import Data
from mtlbench.data.table import Column, Table

TEN = [f"{i}.jpg" for i in range(10)]


SIDES = ["train"] * 6 + ["val"] * 2 + ["test"] * 2


def options(reader: str = "csv", **more: Any) -> Data:
    return Data.model_validate({"reader": reader, "image_size": 8, **more})


def write(root: Path, *rows: list[str], name: str = "labels.csv", delimiter: str = ",") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with (root / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return root


def ten(root: Path, **columns: list[str]) -> Path:
    """Ten images with the columns given."""
    columns = {"path": TEN, **columns}
    return write(root, list(columns), *map(list, zip(*columns.values(), strict=True)))


def names(column: Column) -> list[str | None]:
    """Each image's value, None where it has none."""
    return [column.values[code] if code >= 0 else None for code in column.codes]


def facts(table: Table) -> tuple[object, ...]:
    columns = {t: (c.codes.tolist(), c.values, c.ordered) for t, c in table.columns.items()}
    return table.paths, columns, table.split.tolist()


COLOURS = ["red", "blue", "red", "", "blue", " red", "red", "blue", "red", "blue"]


SIZES = ["s", "m", "l", "s", "m", "l", "s", "m", "", "s"]

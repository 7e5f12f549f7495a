"""Reads UT-Zappos50K as it lies on disk: nine label columns of shoes, and a seeded split by image.

Yu, Grauman: Fine-Grained Visual Comparisons with Local Learning, CVPR 2014. The rendered shoes have the same layout.
"""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import pandas as pd

from mtlbench.data.rendered.shoes import BRANDS
from mtlbench.data.table import Table, column_of, split_at_random
from mtlbench.errors import UserError

IMAGES, TABLE = "ut-zap50k-images", "ut-zap50k-data/meta-data.csv"
_COLUMNS = {
    "category": "Category",
    "closure": "Closure",
    "gender": "Gender",
    "heel": "HeelHeight",
    "subcategory": "SubCategory",
    "material": "Material",
    "toe": "ToeStyle",
    "insole": "Insole",
}


def read_zappos(root: Path, seed: int = 0) -> Table:
    """Read UT-Zappos50K from `root`, which holds `ut-zap50k-images/` and `ut-zap50k-data/meta-data.csv`.

    The tasks are category, closure, gender, heel (ordered), subcategory, material, toe, insole and brand (from the
    path). Empty cells are unlabelled; a cell with several values is a value of its own. The split is by image, 70/10/20
    at random by `seed` (there is no official one); a CID lies on one side only.

    A set whose brands are those of the rendered shoes is called rendered, whatever folder it lies in.

    Raises:
        UserError: something is missing or malformed; it says what.
    """
    for name in (IMAGES, TABLE):
        if not (root / name).exists():
            raise UserError(
                f"{root} is not UT-Zappos50K: {name} is missing. Unpack ut-zap50k-images.zip and ut-zap50k-data.zip"
                " there, from the data set's official page, or name another folder with --data-dir."
            )
    frame = _read(root / TABLE)
    lacking = [name for name in ("CID", *_COLUMNS.values()) if name not in frame]
    if lacking:
        raise UserError(f"{root / TABLE} has no column {', '.join(lacking)}; is it the official meta-data.csv?")
    if frame["CID"].duplicated().any():
        raise UserError(f"{root / TABLE} lists {frame['CID'][frame['CID'].duplicated()].iloc[0]} twice.")
    files = _find_images(root / IMAGES)
    lost = [cid for cid in frame["CID"] if cid not in files]
    if lost:
        raise UserError(f"{root / IMAGES} has no image of {lost[0]} ({len(lost)} of {len(frame)} rows lack theirs).")
    found = [files[cid] for cid in frame["CID"]]
    columns = {task: column_of(frame[c], _heels(frame[c]) if task == "heel" else None) for task, c in _COLUMNS.items()}
    brands = [path.split("/")[-2] if path.count("/") >= 3 else "" for path in found]  # Category/SubCategory/Brand/file
    columns["brand"] = column_of(brands)
    rendered = bool(brands) and set(brands) <= set(BRANDS)
    return Table(
        name="rendered shoes" if rendered else "UT-Zappos50K",
        root=root,
        paths=tuple(f"{IMAGES}/{path}" for path in found),
        columns=columns,
        split=split_at_random(frame["CID"].tolist(), seed),
        split_rule=f"by image at random, 70/10/20, seed {seed}",
        rendered=rendered,
    )


def _read(path: Path) -> pd.DataFrame:
    """Read a CSV with a header; a line of another length is an error, as at the end of a file that was cut short."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = list(csv.reader(file, strict=True)) or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} can't be read: {error}. Is it the official meta-data.csv?") from error
    rows = [row for row in rows if row]
    for row in rows:
        if len(row) != len(header):
            raise UserError(f"{path} has {len(row)} fields in the line of {row[0]} and {len(header)} in its header.")
    return pd.DataFrame(rows, columns=header, dtype=str)


def _find_images(root: Path) -> dict[str, str]:
    """Map each CID to its image's path under `root`: 100627-72 lies in .../100627.72.jpg."""
    found: dict[str, str] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.suffix.lower() in (".jpg", ".jpeg"):
                cid = path.stem.replace(".", "-")
                if cid in found:
                    raise UserError(f"{root} holds two images of {cid}: {found[cid]} and {path.relative_to(root)}.")
                found[cid] = path.relative_to(root).as_posix()
    return found


def _heels(cells: pd.Series[str]) -> list[str]:
    """Return the heel heights from low to high: "Flat", then "Under 1in", then by the first number in the words."""

    def height(words: str) -> tuple[float, str]:
        number = re.search(r"\d+", words)
        if words.lower().startswith("flat"):
            return 0.0, words
        if number is None:
            return float("inf"), words
        return int(number[0]) - (0.5 if words.lower().startswith("under") else 0.0), words

    return sorted(set(cells) - {""}, key=height)

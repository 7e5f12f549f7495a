"""Reads CSN's lists of triplets of UT-Zappos50K: images, splits, and which image is close to an anchor, which far.

Veit, Belongie, Karaletsos: Conditional Similarity Networks (CSN), CVPR 2017.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtlbench.data.table import SPLITS, Column, Labels
from mtlbench.errors import UserError, counted

# CSN: the list of images in spite of its name, and the task that each family of triplet lists is of
_FILENAMES = "filenames.json"
LISTS = {"category": "class", "closure": "closure", "gender": "gender", "heel": "heel"}


@dataclass(frozen=True)
class TripletLists:
    """CSN's lists: N images by CID, the split of each, and triplets as in `Table.triplets`."""

    cids: list[str]
    split: Labels
    triplets: dict[str, dict[str, Labels]]


def read_lists(root: Path, homes: list[Path]) -> TripletLists:
    """Read CSN's lists; only images that a triplet mentions count, each on the side of the lists that mention it.

    Args:
        root: the data set's folder, for errors.
        homes: where they are looked for, and in `csn/` in each.

    Raises:
        UserError: a list is missing or malformed, or an image is mentioned on two sides.
    """
    names = {(task, split): f"{LISTS[task]}_tripletlist_{split}.txt" for task in LISTS for split in SPLITS}
    folders = [home / inner for home in homes for inner in ("", "csn")]
    paths = {
        name: next(
            (p for folder in folders for p in (folder / "tripletlists" / name, folder / name) if p.is_file()), None
        )
        for name in (_FILENAMES, *names.values())
    }
    missing = [name if name == _FILENAMES else f"tripletlists/{name}" for name, path in paths.items() if path is None]
    if missing:
        raise UserError(
            f"{root} lacks some of CSN's lists: missing {'are' if len(missing) > 1 else 'is'} {', '.join(missing)}."
            " Unpack csn_zappos_triplets.zip of CSN's authors there, or take data.split = 'default'."
        )
    there = {name: path for name, path in paths.items() if path is not None}
    named = _read_filenames(there[_FILENAMES])
    cids, image = np.unique(np.array(named), return_inverse=True)
    drawn = {key: image[_read_triplets(there[name], len(named))] for key, name in names.items()}
    mentioned = np.zeros((len(SPLITS), len(cids)), dtype=bool)
    for (_, split), rows in drawn.items():
        mentioned[SPLITS.index(split), rows] = True
    several = np.flatnonzero(mentioned.sum(0) > 1)
    if len(several):
        where = [names[key] for key, rows in drawn.items() if (rows == several[0]).any()]
        raise UserError(
            f"CSN's lists put {cids[several[0]]} into more than one split: {', '.join(where)} all mention it"
            f" ({counted(len(several), 'such image')}). Unpack CSN's lists again, all of one copy."
        )
    keep = mentioned.any(0)
    place = np.cumsum(keep) - 1
    triplets: dict[str, dict[str, Labels]] = {task: {} for task in LISTS}
    for (task, split), rows in drawn.items():
        triplets[task][split] = place[rows][:, [0, 2, 1]].astype(np.int64)  # listed as anchor, far, close
    return TripletLists(cids[keep].tolist(), mentioned[:, keep].argmax(0).astype(np.int64), triplets)


def _read_filenames(path: Path) -> list[str]:
    """Return the CIDs of the images that CSN's triplets count from 0: one relative path a line, or a JSON list."""
    try:
        # brands are spelt and encoded differently in different copies, and only the file's name matters here
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        is_json = text.lstrip().startswith("[")
        listed = json.loads(text) if is_json else text.rstrip().split("\n")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read: {error}. Unpack CSN's lists again.") from error
    cids = []
    for number, line in enumerate(listed, start=1):
        stem, _, suffix = re.split(r"[/\\]", str(line))[-1].strip().rpartition(".")
        if suffix.lower() not in ("jpg", "jpeg"):
            raise UserError(
                f"{path}, {'entry' if is_json else 'line'} {number}: '{str(line).strip()[:60]}' is not the path of"
                " an image. Unpack CSN's lists again."
            )
        cids.append(stem.replace(".", "-"))
    return cids


def _read_triplets(path: Path, images: int) -> Labels:
    """Read lines of three indices below `images` as (n, 3)."""
    import pandas as pd

    reason: Exception | str = "its lines do not hold three numbers each"
    try:
        rows = pd.read_csv(path, sep=r"\s+", header=None, dtype=np.int64, quoting=csv.QUOTE_NONE, encoding="utf-8-sig")
        triplets: Labels = rows.to_numpy()
        if triplets.shape[1] == 3 and triplets.min() >= 0 and triplets.max() < images:
            return triplets
    except (OSError, ValueError) as error:
        reason = error
    _refuse_first_bad_line(path, images)
    raise UserError(f"{path} can't be read: {reason}. Unpack CSN's lists again.")


def _refuse_first_bad_line(path: Path, images: int) -> None:
    """Raise UserError for an empty list or its first line that is not three indices; only return if it has none."""
    again = "Unpack CSN's lists again."
    number = 0
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in ((i, line) for i, line in enumerate(lines, start=1) if line.strip()):
            fields = line.split()
            if len(fields) != 3 or not all(re.fullmatch(r"-?[0-9]+", field) for field in fields):
                raise UserError(f"{path}, line {number}: '{line.strip()[:60]}' is not three integers. {again}")
            outside = [field for field in fields if not 0 <= int(field) < images]
            if outside:
                raise UserError(
                    f"{path}, line {number}: there is no image {outside[0]}, as {_FILENAMES} lists {images:,},"
                    f" counted from 0. {again}"
                )
    if not number:
        raise UserError(f"{path} holds no triplet. {again}")


def disagreements(columns: dict[str, Column], triplets: dict[str, dict[str, Labels]], table: str) -> list[str]:
    """Return a sentence for each task of which some listed triplets disagree with its labels, where both are known."""
    remarks = []
    for task, splits in triplets.items():
        rows = np.concatenate(list(splits.values()))
        anchor, close, far = columns[task].codes[rows].T
        if columns[task].ordered:  # CSN: close is of similar height, by a threshold that was not published
            labelled = (anchor >= 0) & (close >= 0) & (far >= 0)
            wrong = labelled & (np.minimum(anchor, close) <= far) & (far <= np.maximum(anchor, close))
            fault = "their far image is no further from the anchor in height than their close one"
        else:
            wrong = (anchor >= 0) & (((close >= 0) & (close != anchor)) | (far == anchor))
            fault = "their close image has another label than the anchor, or their far one the same"
        if wrong.any():
            listed = f"{int(wrong.sum()):,} of CSN's {len(rows):,} triplets of {task}"
            remarks.append(f"{listed} disagree with the labels of {table}: {fault}.")
    return remarks

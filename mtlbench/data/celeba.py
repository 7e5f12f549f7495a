"""Reads CelebA as it lies on disk: 40 binary attributes, identities, and the partition file's splits.

Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild, ICCV 2015. Nothing is downloaded or decoded here.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from mtlbench.data.table import Column, Table
from mtlbench.errors import UserError

IMAGES, ATTRIBUTES = "img_align_celeba", "list_attr_celeba.txt"
IDENTITIES, PARTITION = "identity_CelebA.txt", "list_eval_partition.txt"


def read_celeba(root: Path) -> Table:
    """Read CelebA from `root`, which holds the image folder and the three text files.

    The tasks are the 40 attributes by their official names (values no, yes) and `identity`.

    Raises:
        UserError: something is missing or malformed; it says what, and what belongs there.
    """
    for name in (IMAGES, ATTRIBUTES, IDENTITIES, PARTITION):
        if not (root / name).exists():
            raise UserError(
                f"{root} is not CelebA: {name} is missing. Put {IMAGES}/, {ATTRIBUTES}, {IDENTITIES} and {PARTITION}"
                " there, from the data set's official page, or name another folder with --data-dir."
            )
    attributes = _read(root / ATTRIBUTES)
    identities = _read(root / IDENTITIES, columns=["identity"])["identity"]
    partition = _read(root / PARTITION, columns=["split"])["split"]
    for name, other in ((IDENTITIES, identities), (PARTITION, partition)):
        lost = attributes.index.difference(other.index)
        if len(lost):
            raise UserError(f"{root / name} has no line for {lost[0]} ({len(lost)} images of {ATTRIBUTES} lack one).")
    if not attributes.isin([-1, 1]).to_numpy().all():
        raise UserError(f"{root / ATTRIBUTES} holds values other than -1 and 1; is it the official file?")
    partition = partition.loc[attributes.index]
    if not partition.isin([0, 1, 2]).all():
        raise UserError(f"{root / PARTITION} holds splits other than 0, 1 and 2; is it the official file?")
    columns = {
        str(name): Column((attributes[name].to_numpy() > 0).astype(np.int64), ("no", "yes")) for name in attributes
    }
    codes, values = pd.factorize(identities.loc[attributes.index], sort=True)
    columns["identity"] = Column(codes.astype(np.int64), tuple(str(v) for v in values))
    return Table(
        name="CelebA",
        root=root,
        paths=tuple(f"{IMAGES}/{name}" for name in attributes.index),
        columns=columns,
        split=partition.to_numpy().astype(np.int64),
        split_rule=f"as in {PARTITION}",
    )


def _read(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read runs-of-spaces text whose first field is the image's file name.

    Without `columns` it opens with two lines of header: the number of images, and the names of the columns.
    """
    count = None
    try:
        if columns is None:
            with path.open(encoding="utf-8") as lines:
                count, columns = next(lines, "").strip(), next(lines, "").split()
        # no names are given to pandas: it would take columns in excess for an index, and shift the labels
        frame = pd.read_csv(
            path, sep=r"\s+", skiprows=0 if count is None else 2, header=None, dtype={0: str}, quoting=csv.QUOTE_NONE
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read: {str(error).strip()}. Is it the official file?") from error
    if frame.shape[1] != len(columns) + 1 or len(set(columns)) < len(columns):
        raise UserError(
            f"{path} can't be read: its lines have {frame.shape[1]} fields where a file name and {len(set(columns))}"
            " different columns belong. Is it the official file?"
        )
    frame = frame.set_axis(["file", *columns], axis=1).set_index("file")
    if frame.isna().to_numpy().any() or not all(pd.api.types.is_integer_dtype(t) for t in frame.dtypes):
        raise UserError(f"{path} can't be read: a line has too few fields or a word where a number belongs.")
    if count is not None and count != str(len(frame)):
        raise UserError(
            f"{path} is cut short or altered: its first line says '{count}' images and {len(frame)} follow."
            " Fetch it again, or correct that line."
        )
    if frame.index.has_duplicates:
        raise UserError(f"{path} lists {frame.index[frame.index.duplicated()][0]} twice.")
    return frame

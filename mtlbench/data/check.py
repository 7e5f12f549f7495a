"""Recognises a data set on disk and opens every image in it. Reading labels is left to the readers."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from mtlbench.data import celeba, zappos
from mtlbench.data.pack import Progress
from mtlbench.data.table import Table
from mtlbench.errors import UserError


def check_folder(folder: Path, progress: Progress | None = None) -> tuple[Table, list[tuple[str, str]]]:
    """Return the table of the data set in a folder, and its broken images with the reasons.

    Args:
        folder: where the data set lies.
        progress: called as images are opened.

    Raises:
        UserError: no known data set is there, or its label files can't be used.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder.")
    if any((folder / name).exists() for name in (celeba.IMAGES, celeba.ATTRIBUTES)):
        table = celeba.read_celeba(folder)
    elif any((folder / name).exists() for name in (zappos.IMAGES, zappos.TABLE)):
        table = zappos.read_zappos(folder)
    else:
        raise UserError(
            f"{folder} holds no data set known here: CelebA has {celeba.IMAGES}/ and {celeba.ATTRIBUTES}, UT-Zappos50K"
            f" has {zappos.IMAGES}/ and {zappos.TABLE}."
        )

    def look(path: str) -> str:
        try:
            with Image.open(folder / path) as image:
                image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            return str(error) or type(error).__name__
        return ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reasons = []
        for reason in pool.map(look, table.paths):
            reasons.append(reason)
            if progress and (len(reasons) % 500 == 0 or len(reasons) == len(table)):
                progress(len(reasons), len(table))
    return table, [(path, reason) for path, reason in zip(table.paths, reasons, strict=True) if reason]

"""The files in a folder of images: lists them, and tells which are images and which are records of runs."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from mtlbench.errors import UserError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_LOOKED_AT = 20_000  # files: a folder given by mistake may hold millions
_RUN = re.compile(r"/seed-\d+/run\.json$")
_CLUTTER = ("__macosx", "thumbs.db", "desktop.ini")  # system files; names with a leading dot are ignored too


def is_image(path: str) -> bool:
    """Return whether a file is an image, judged by its ending."""
    return PurePosixPath(path).suffix.lower() in IMAGE_ENDINGS


def run_folders(files: Iterable[str]) -> set[str]:
    """Return the top folders, among paths with slashes, that hold records of runs: `results`, or a benchmark's name."""
    return {file.split("/")[0] for file in files if _RUN.search(file)}


def files_in(root: Path, inside: str = "") -> Iterator[str]:
    """Yield the paths of the visible files under `root`, relative to it, with slashes."""
    try:
        with os.scandir(root / inside) as scan:
            entries = [entry for entry in scan if not _is_hidden(entry.name)]
    except OSError as error:
        raise UserError(f"{root / inside} can't be read: {error.strerror}.") from error
    for entry in entries:
        if _is_folder(entry):
            if entry.is_symlink() and (root / inside).resolve().is_relative_to(Path(entry.path).resolve()):
                raise UserError(f"{entry.path} is a link to a folder that contains it: remove the link.")
            yield from files_in(root, f"{inside}{entry.name}/")
        else:
            yield f"{inside}{entry.name}"


def first_files_in(root: Path, inside: str = "") -> Iterator[str]:
    """Yield the paths that `files_in` yields, but only as many as needed to tell what a folder holds."""
    return itertools.islice(files_in(root, inside), _LOOKED_AT)


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # for example a link to itself
        return False


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _CLUTTER


def name_of(root: Path) -> str:
    """Return a folder's own name, also for `.`."""
    return root.name or root.resolve().name

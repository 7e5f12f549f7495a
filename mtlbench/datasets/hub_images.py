"""The images of a Hugging Face data set as files: those that are files stay where they are, others are written once.

Packing, `data check` and pictures of the originals read files; images that lie as bytes in parquet or arrow files are
written to the cache, and written again only where their source has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mtlbench.data.files import files_in
from mtlbench.data.making import making
from mtlbench.data.pack import cache_folder
from mtlbench.errors import UserError
from mtlbench.names import slug

_FORMAT = 1  # raised when images come to be written otherwise
_INDEX = "unpacked.json"
_BATCH = 256  # rows that are read at once
_MAGIC = ((b"\xff\xd8\xff", ".jpg"), (b"\x89PNG", ".png"), (b"RIFF", ".webp"), (b"BM", ".bmp"))
_NONE = "no-image"  # the folder, which isn't there, of rows without an image: packing names them


def files_of(splits: Mapping[str, Any], column: str, name: str, source: str) -> tuple[Path, list[str]]:
    """Return a folder and the paths in it of the images of all splits, in the order of splits and rows.

    Args:
        splits: the library's data sets by name; the column of images is not decoded in them.
        column: of images.
        name: of the data set, for the folder.
        source: what the data set was read from; two sources never share a folder.

    Raises:
        UserError: the cache can't be written to, or the images are of a kind that is no file and no bytes.
    """
    key = hashlib.sha256(json.dumps([source, column]).encode()).hexdigest()[:16]
    folder = cache_folder() / "hub" / f"{slug(name)}-{key}"
    state = [_FORMAT, {split: _state(data) for split, data in splits.items()}]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with making(folder):
            kept = _kept(folder, state)
            if kept is not None:
                return kept
            root, paths = _written(splits, column, folder)
            text = json.dumps({"state": state, "root": str(root), "paths": paths})
            folder.mkdir(exist_ok=True)
            partial = folder / f"{_INDEX}.partial"
            partial.write_text(text)
            partial.rename(folder / _INDEX)
            return root, paths
    except OSError as error:
        raise UserError(
            f"The images of {name} can't be written to {folder}: {error.strerror or error}. Make room, or set"
            " MTLBENCH_CACHE to a folder that can be written to."
        ) from error


def _state(data: Any) -> list[Any]:
    """Return what tells one version of a split from another: its number of rows, and the files that hold them."""
    files = [Path(part["filename"]) for part in data.cache_files]
    return [len(data), [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]]


def _kept(folder: Path, state: list[Any]) -> tuple[Path, list[str]] | None:
    """Return what an earlier call found, if it is of the same source and all of it is there still."""
    try:
        found = json.loads((folder / _INDEX).read_text())
        # a data set in memory alone has no files to be known again by
        if found["state"] != state or not all(files for _, files in state[1].values()):
            return None
        root, paths = Path(found["root"]), [str(path) for path in found["paths"]]
        if root != folder:
            return root, paths  # files of the user's: packing says which are gone
        there = set(files_in(folder))
        return (root, paths) if all(path in there or path.startswith(f"{_NONE}/") for path in paths) else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _written(splits: Mapping[str, Any], column: str, folder: Path) -> tuple[Path, list[str]]:
    """Write the images that are bytes; where all are files, write nothing and return the folder that holds them."""
    from tqdm import tqdm

    total = sum(map(len, splits.values()))
    short = [slug(split) for split in splits]  # names in other letters than these may come to the same
    places = [name if short.count(name) == 1 else f"{name}-{i}" for i, name in enumerate(short)]
    paths: list[str] = []
    files: dict[int, str] = {}  # those that are files already, by the place of their image
    with tqdm(total=total, desc="unpacking images", unit="", disable=None, leave=False) as bar:
        for place, data in zip(places, splits.values(), strict=True):
            for row, image in enumerate(_rows(data, column)):
                content, file = (image.get("bytes"), image.get("path")) if image else (None, None)
                if content is None and file and os.path.isabs(file):  # noqa: PTH117 - of many thousands
                    files[len(paths)] = file
                    paths.append("")
                elif content is None:
                    paths.append(f"{_NONE}/{place}-{row}")
                else:
                    paths.append(f"{place}/{row:07d}{_ending(content)}")
                    _write(folder / paths[-1], content)
                bar.update()
    if files and len(files) == len(paths) - sum(path.startswith(f"{_NONE}/") for path in paths):
        root = Path(os.path.commonpath({str(Path(file).parent) for file in files.values()}))
        for number, file in files.items():
            paths[number] = Path(file).relative_to(root).as_posix()
        return root, paths
    for number, file in files.items():  # some are files and some are bytes: all are brought together
        paths[number] = f"{_NONE}/{number}"
        if Path(file).is_file():
            paths[number] = f"files/{number:07d}{Path(file).suffix.lower()}"
            _write(folder / paths[number], Path(file).read_bytes())
    return folder, paths


def _rows(data: Any, column: str) -> Iterator[dict[str, Any] | None]:
    for batch in data.select_columns([column]).iter(batch_size=_BATCH):
        yield from batch[column]


def _ending(content: bytes) -> str:
    return next((ending for magic, ending in _MAGIC if content.startswith(magic)), ".img")


def _write(file: Path, content: bytes) -> None:
    """Write a file whole or not at all; one that holds the same already keeps its time, so that no pack is outdated."""
    if file.is_file() and file.stat().st_size == len(content) and file.read_bytes() == content:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.partial")
    partial.write_bytes(content)
    partial.rename(file)

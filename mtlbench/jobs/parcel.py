"""Packs and unpacks, as bytes, what travels between machines.

These are the files of a run, plug-ins, and a data set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlbench.data.dataset import Dataset, placed
from mtlbench.plugins import files_imported_by, plugin_files
from mtlbench.runs.disk import replacing

Files = dict[str, bytes]
Sources = tuple[Files, list[str]]


def packed(folder: Path) -> Files:
    """Return the files of a folder by name; an empty mapping if there is no folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*")) if path.is_file()}


def unpack(files: Mapping[str, bytes], folder: Path) -> None:
    """Replace a folder's content by these files, completely or not at all.

    Raises:
        DiskFull: the disk has no space for them.
    """
    with replacing(folder) as new:
        for name, content in files.items():
            place = new.joinpath(*(part for part in Path(name).parts if part not in ("..", "/")))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)


def packed_plugins(paths: Sequence[Path]) -> list[Sources]:
    """Return plug-ins, one entry per folder: its sources by path, and the names of those that are plug-ins.

    A plug-in may import the other sources of its folder, and packages there.
    """
    found: dict[Path, list[Path]] = {}
    for file in plugin_files(paths):
        found.setdefault(file.parent, []).append(file)
    packed_folders = []
    for folder, own in found.items():
        imported = {path for file in own for path in files_imported_by(file) if path.is_relative_to(folder)}
        sources = sorted({*folder.glob("*.py"), *imported})
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sources}
        packed_folders.append((files, [file.name for file in own]))
    return packed_folders


def unpacked_plugins(folders: Sequence[Sources], scratch: Path) -> list[Path]:
    """Write plug-ins to a scratch folder, with the same path for the same sources; return the files to load."""
    found = []
    for files, own in folders:
        digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:16]
        place = scratch / f"plugins-{digest}"
        unpack(files, place)
        found += [place / name for name in own]
    return found


def without_images(dataset: Dataset) -> tuple[Dataset, NDArray[np.uint8]]:
    """Split a data set for sending: everything but the images, on the CPU, and the (N, H, W, 3) images."""
    return _moved(dataset, torch.device("cpu"), torch.empty(0, dtype=torch.uint8)), dataset.images.cpu().numpy()


def with_images(dataset: Dataset, images: NDArray[np.uint8], device: torch.device) -> Dataset:
    """Reassemble on a device what `without_images` split; read-only images are shared, not copied."""
    return _moved(dataset, device, placed(images, device))


def _moved(dataset: Dataset, device: torch.device, images: Tensor) -> Dataset:
    others = {
        field.name: _to(getattr(dataset, field.name), device) for field in fields(dataset) if field.name != "images"
    }
    return replace(dataset, images=images, **others)


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _to(inner, device) for key, inner in value.items()}
    if isinstance(value, list):
        return [_to(inner, device) for inner in value]
    return value

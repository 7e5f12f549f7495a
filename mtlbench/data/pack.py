"""Images decoded once and resized, kept as one uint8 memory map with a fingerprint of what it was made from.

A pack is made whole or not at all, and is found again as long as no source file has changed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import platformdirs
from PIL import Image

from mtlbench.data.table import Table
from mtlbench.errors import UserError

_FORMAT = 1  # raised when the pixels that packing makes change
Pixels = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]  # images done, of how many


@dataclass(frozen=True)
class Pack:
    """Packed images: (N, H, W, 3) uint8 RGB in the order of the table, and the fingerprint of files and settings."""

    images: Pixels
    fingerprint: str


def cache_folder() -> Path:
    """Return where packs lie: `$MTLBENCH_CACHE`, else the platform's folder for caches."""
    return Path(os.environ.get("MTLBENCH_CACHE") or platformdirs.user_cache_dir("mtlbench"))


def open_pack(table: Table, size: tuple[int, int], fit: str, progress: Progress | None = None) -> Pack:
    """Return the pack of a table's images, made now unless it is there.

    Args:
        table: its images, in its order.
        size: (height, width) in pixels.
        fit: `squash` resizes to the size whatever the shape; `crop` keeps the shape and cuts the centre.
        progress: called as images are done; not called when the pack is there already.

    Raises:
        UserError: an image is missing or can't be decoded (named), the disk is full, or the pack is damaged.
    """
    folder = cache_folder() / f"{table.name.lower()}-{size[0]}x{size[1]}-{_key(table, size, fit)}"
    if not (folder / "pack.json").exists():
        _make(table, size, fit, folder, progress)
    try:
        facts = json.loads((folder / "pack.json").read_text())
        return Pack(np.load(folder / "images.npy", mmap_mode="c"), facts["fingerprint"])
    except (OSError, ValueError) as error:
        raise UserError(f"The pack {folder} is damaged: {error}. Remove that folder; it will be made again.") from error


def _key(table: Table, size: tuple[int, int], fit: str) -> str:
    """Hash what must be unchanged for a pack to be used again: settings, and every file's name, size and time."""
    digest = hashlib.sha256(json.dumps([_FORMAT, size, fit, str(table.root.resolve())]).encode())
    for path in table.paths:
        try:
            stat = (table.root / path).stat()
        except OSError as error:
            raise UserError(f"{table.root / path} can't be read: {error.strerror}.") from error
        digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _make(table: Table, size: tuple[int, int], fit: str, folder: Path, progress: Progress | None) -> None:
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        need, free = len(table) * size[0] * size[1] * 3, shutil.disk_usage(partial).free
        if need > free:
            raise UserError(
                f"The pack {folder} needs {need / 1e9:.1f} GB and {free / 1e9:.1f} GB are free."
                " Make room, or set MTLBENCH_CACHE to a roomier folder."
            )
        images = np.lib.format.open_memmap(
            partial / "images.npy", mode="w+", dtype=np.uint8, shape=(len(table), *size, 3)
        )
        digests = [b""] * len(table)

        def work(i: int) -> None:
            images[i], digests[i] = decode(table.root / table.paths[i], size, fit)

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and resizes outside the interpreter's lock
            for start in range(0, len(table), 512):
                chunk = range(start, min(start + 512, len(table)))
                list(pool.map(work, chunk))
                if progress:
                    progress(chunk.stop, len(table))
        images.flush()
        fingerprint = hashlib.sha256(json.dumps([_FORMAT, size, fit]).encode() + b"".join(digests)).hexdigest()[:16]
        (partial / "pack.json").write_text(json.dumps({"images": len(table), "fingerprint": fingerprint}))
        try:
            partial.rename(folder)
        except OSError:
            if not (folder / "pack.json").exists():  # else another process has made the same pack meanwhile
                raise
    except OSError as error:
        remedy = "Set MTLBENCH_CACHE to a folder that can be written to and has room."
        raise UserError(f"The pack {folder} can't be written: {error}. {remedy}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def decode(path: Path, size: tuple[int, int], fit: str) -> tuple[Pixels, bytes]:
    """Return an image's pixels, (H, W, 3) uint8 RGB, antialiased to (H, W) = `size`, and a digest of its file.

    Raises:
        UserError: the file is no image, or a broken one.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as opened:
            height, width = size
            if fit == "crop":
                scale = max(width / opened.width, height / opened.height)
                w, h = min(width / scale, opened.width), min(height / scale, opened.height)  # a quotient may round up
                left, top = (opened.width - w) / 2, (opened.height - h) / 2
                box = (left, top, left + w, top + h)
            else:
                box = (0.0, 0.0, float(opened.width), float(opened.height))
            image = opened.convert("RGB").resize((width, height), Image.Resampling.BILINEAR, box=box)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        remedy = "Replace the file or take it out of the data set."
        raise UserError(f"{path} can't be decoded: {error}. {remedy}") from error
    return np.asarray(image), hashlib.sha256(data).digest()

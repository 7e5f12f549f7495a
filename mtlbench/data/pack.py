"""Packs: images decoded and resized once, kept as one uint8 memory map with a fingerprint of their source.

One process at a time makes a pack, completely or not at all. It continues what a killed process left.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from mtlbench.data import decoding
from mtlbench.data.decoding import BROKEN, FILE, STAMPS, Files, Pixels, read_image, reason_of, stamps_of
from mtlbench.data.making import Tell, making
from mtlbench.data.table import Labels, Table
from mtlbench.errors import UserError
from mtlbench.names import slug

Progress = Callable[[int, int], None]  # images done, images in all

_FORMAT = 2  # raised whenever packing gives different pixels
_CHUNK_IMAGES, _CHUNK_BYTES = 64, 2**24  # size of a write; a kill loses at most this per lane
MOST_UNREADABLE = 0.1
_NAMED = 5  # unreadable images to name in a message
_MANY = 2048  # number of images from which processes are worth their start
_PROCESSES = 16  # at most, since each takes memory


@dataclass(frozen=True)
class Pack:
    """Packed images and their source.

    Attributes:
        images: (n, H, W, 3) uint8 RGB, a private memory map: writing to it does not change the file.
        fingerprint: of the source files' bytes, the settings, and which images were left out.
        kept: (n,) the table's indices of these images, ascending; all indices if no image was left out.
        digests: (n, 32) uint8, the SHA-256 of their files.
        unreadable: path and reason of each image left out.
        changed: files whose bytes had changed since they were packed before; 0 for a fresh or an unchanged pack.
    """

    images: Pixels
    fingerprint: str
    kept: Labels
    digests: Pixels
    unreadable: tuple[tuple[str, str], ...] = ()
    changed: int = 0


def cache_folder() -> Path:
    """Return the folder for packs: `$MTLBENCH_CACHE`, else the platform's folder for caches."""
    return Path(os.environ.get("MTLBENCH_CACHE") or platformdirs.user_cache_dir("mtlbench"))


def open_pack(
    table: Table,
    size: tuple[int, int],
    fit: str,
    progress: Progress | None = None,
    skip_unreadable: bool = False,
    tell: Tell | None = None,
) -> Pack:
    """Return the pack of a table's images; make it first if it does not exist or a file has changed since.

    If several processes ask for the same pack, one makes it and the others wait. All images are tried before unreadable
    ones are reported, and decoded images are kept for the next call. Even with `skip_unreadable`, leaving out more than
    a tenth is refused: that suggests a half-copied folder, not a few broken files.

    Args:
        table: its images, in its order.
        size: (height, width) in pixels.
        fit: `squash` resizes to the size and ignores the shape; `crop` resizes until both sides are covered and cuts
            out the centre, as torchvision's Resize and CenterCrop do.
        progress: called as images are done; not called if the pack exists or another process makes it.
        skip_unreadable: leave out images that are missing or can't be decoded.
        tell: called with a sentence before waiting for another process.

    Raises:
        UserError: an image is missing or can't be decoded (named), the disk is full, or the cache can't be written to.
    """
    most = os.environ.get("MTLBENCH_MAX_PIXELS")  # an image that was too large under another limit is tried again
    settings = json.dumps([_FORMAT, size, fit, str(table.root.resolve()), table.paths, *([most] if most else [])])
    key = hashlib.sha256(settings.encode()).hexdigest()[:16]
    folder = cache_folder() / f"{slug(table.name)}-{size[0]}x{size[1]}-{key}"
    pack = _find(folder, table, size)
    if pack is None:
        with ExitStack() as lock:
            with _writing(folder):
                folder.parent.mkdir(parents=True, exist_ok=True)
                lock.enter_context(making(folder, tell))
            pack = _find(folder, table, size)  # another process may have made it meanwhile
            if pack is None:
                changed = _make(table, size, fit, folder, skip_unreadable, progress)
                pack = _find(folder, table, size)
                if pack is None:
                    raise UserError(
                        f"Images in {table.root} changed while they were packed. Try again when nothing writes there."
                    )
                pack = replace(pack, changed=changed)
    _refuse(pack.unreadable, table, skip_unreadable)
    return pack


def decode(path: Path, size: tuple[int, int], fit: str) -> tuple[Pixels, bytes]:
    """Return an image's pixels, (H, W, 3) uint8 RGB, antialiased to (H, W) = `size`, and the SHA-256 of its file.

    The image is turned by its EXIF orientation. 16 bits per channel become 8, transparency becomes white, and an
    animation gives its first frame. Resizing is Pillow's bilinear filter with antialiasing. A JPEG of more than 512 x
    512 pixels and four times the size is reduced while it is decoded, but never below twice the size: that is two to
    ten times as fast, and within half a grey level on average.

    Raises:
        UserError: the file is missing, no image, or a broken one.
    """
    file = np.zeros(1, FILE)
    try:
        pixels = read_image(path, size, fit, file[0])
    except BROKEN as error:
        raise UserError(
            f"{path} can't be decoded: {reason_of(error)}. Replace the file or take it out of the data set."
        ) from error
    return pixels, file["digest"].tobytes()


def _find(folder: Path, table: Table, size: tuple[int, int]) -> Pack | None:
    """Return the pack in a folder, or None if there is none, it is incomplete, or the files have changed.

    This may run without the lock. It reads the facts before and after, since another process may replace the folder.
    """
    try:
        text = (folder / "pack.json").read_text()
        facts = json.loads(text)
        files = np.fromfile(folder / "files", FILE)
        if not _unchanged(files, _stat(table)).all():
            return None
        shape = (int(facts["images"]), *size, 3)
        if (folder / "images").stat().st_size != np.prod(shape):
            return None
        images = np.memmap(folder / "images", np.uint8, "c", shape=shape)
        if (folder / "pack.json").read_text() != text:
            return None
        left_out = [(int(i), str(reason)) for i, reason in facts["left_out"]]
        kept = np.delete(np.arange(len(table)), [i for i, _ in left_out])
        unreadable = tuple((table.paths[i], reason) for i, reason in left_out)
        return Pack(images, facts["fingerprint"], kept, files["digest"][kept], unreadable)
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        return None  # it will be made again


def _stat(table: Table) -> Files:
    """Return the stamps of every file, many at a time, since network disks are slow to answer."""
    files = np.zeros(len(table), FILE)
    root = str(table.root)

    def look(start: int) -> None:
        found = []
        for path in table.paths[start : start + 4096]:
            try:
                stat = os.stat(f"{root}/{path}")  # noqa: PTH116 - a Path for each would take three times as long
                if not S_ISREG(stat.st_mode):  # a folder, a pipe: no image, and its size says nothing
                    raise OSError
                found.append(stamps_of(stat))
            except OSError:
                found.append((-1, -1, -1))
        for stamp, values in zip(STAMPS, zip(*found, strict=True), strict=True):
            files[stamp][start : start + 4096] = values

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(look, range(0, len(table), 4096)))
    return files


def _unchanged(files: Files, now: Files) -> npt.NDArray[np.bool_]:
    """Return which files have the stamps that they had when they were packed; none if their number differs."""
    same = np.full(len(now), len(files) == len(now))
    for stamp in STAMPS if len(files) == len(now) else ():
        same &= files[stamp] == now[stamp]
    return same


def _refuse(unreadable: tuple[tuple[str, str], ...], table: Table, skip: bool) -> None:
    """Raise an error that names unreadable images, unless they may be left out and are few enough."""
    few = len(unreadable) <= MOST_UNREADABLE * len(table)
    if not unreadable or (skip and few):
        return
    named = "; ".join(f"{table.root / path} ({reason})" for path, reason in unreadable[:_NAMED])
    rest = f" and {len(unreadable) - _NAMED:,} more" if len(unreadable) > _NAMED else ""
    it = "it" if len(unreadable) == 1 else "them"
    remedy = f"Replace {it}, take {it} out of the data set, or leave {it} out with --skip-unreadable."
    if not few:
        remedy = f"Replace {it} or take {it} out of the data set; more than a tenth is too many to leave out."
    raise UserError(f"{len(unreadable):,} of {len(table):,} images can't be read: {named}{rest}. {remedy}")


@contextmanager
def _writing(folder: Path, partial: Path | None = None) -> Iterator[None]:
    """Turn a failure to write into an error for the user, and remove a half-made pack."""
    try:
        yield
    except OSError as error:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"The disk is full: the pack {folder} doesn't fit. Make room, or set MTLBENCH_CACHE to a roomier"
            raise UserError(f"{message} folder.") from error
        message = f"The pack {folder} can't be written: {error.strerror or error}. Set MTLBENCH_CACHE to a folder"
        raise UserError(f"{message} that can be written to.") from error


def _make(table: Table, size: tuple[int, int], fit: str, folder: Path, skip: bool, progress: Progress | None) -> int:
    """Make the pack of a table and replace an outdated one; return how many files had changed since.

    Three files grow side by side: the pixels, the records of their source files, and a journal. The journal has a line
    for each complete chunk, with the chunk's first image and the checksum of pixels and records. The line is written
    after the chunk. It is checked before the chunk is used again, by a later process if this one is killed, or when
    some files have changed.
    """
    now = _stat(table)
    missing = np.flatnonzero(now["size"] < 0)
    if len(missing) > MOST_UNREADABLE * len(table):  # a few are reported later, together with broken images
        _refuse(tuple((table.paths[i], os.strerror(errno.ENOENT)) for i in missing), table, skip)
    row = size[0] * size[1] * 3
    length = max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // row))
    starts = range(0, len(table), length)
    partial = folder.with_name(f"{folder.name}.partial")
    unreadable: dict[int, str] = {}
    done = 0
    with _writing(folder, partial):
        before, vouched = _prepare(partial, folder, now, row)

        def pack(start: int) -> tuple[int, dict[int, str], int | None]:
            """Return the chunk's start, its unreadable images and its checksum (None if the chunk existed)."""
            stop = min(start + length, len(table))
            if start in vouched and _intact(partial, start, now[start:stop], row, vouched[start]):
                return start, {}, None
            paths = [f"{table.root}/{path}" for path in table.paths[start:stop]]
            return start, *decoders.pack_chunk(partial, start, paths, size, fit)

        journal = (partial / "journal").open("ab", buffering=0)
        decoders = _Processes() if len(now) >= _MANY and now["size"].max() <= decoding.LARGE_FILE else _Threads()
        with journal, decoders, ThreadPoolExecutor(decoders.lanes) as lanes:
            journal.write(b"\n")  # the last line may be incomplete
            chunks = [lanes.submit(pack, start) for start in starts]
            try:
                for chunk in as_completed(chunks):
                    start, reasons, checked = chunk.result()
                    if checked is not None and not reasons:  # unreadable images are tried again next time
                        journal.write(f"{start} {checked}\n".encode())
                    unreadable |= reasons
                    done += min(length, len(table) - start)
                    if progress:
                        progress(done, len(table))
            finally:
                lanes.shutdown(cancel_futures=True)
        left_out = sorted(unreadable.items())
        _refuse(tuple((table.paths[i], reason) for i, reason in left_out), table, skip)
        if left_out:
            (partial / "journal").unlink()  # closing gaps will move its chunks
            _close_gaps(partial / "images", np.array([i for i, _ in left_out]), len(table), row, length)
        for name in ("images", "files"):
            with (partial / name).open("r+b") as file:
                os.fsync(file.fileno())
        digests = np.fromfile(partial / "files", FILE)["digest"]
        changed = int((digests != before["digest"]).any(1).sum()) if len(before) == len(table) else 0
        digests[[i for i, _ in left_out]] = 0
        fingerprint = hashlib.sha256(json.dumps([_FORMAT, size, fit]).encode() + digests.tobytes()).hexdigest()[:16]
        facts = {"images": len(table) - len(left_out), "fingerprint": fingerprint, "left_out": left_out}
        (partial / "pack.json").write_text(json.dumps(facts))
        old = folder.with_name(f"{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    return changed


class _Threads(ExitStack):
    """Decode in this process. For large images, Pillow runs mostly without the interpreter's lock."""

    lanes = 4  # chunks at a time: while one waits for a slow image, the others keep the cores busy

    def __init__(self) -> None:
        super().__init__()
        self._pool = self.enter_context(ThreadPoolExecutor(available_cores()))

    def pack_chunk(
        self, partial: Path, start: int, paths: list[str], size: tuple[int, int], fit: str
    ) -> tuple[dict[int, str], int]:
        return decoding.pack_chunk(partial, start, paths, size, fit, self._pool.map)


class _Processes(ExitStack):
    """Decode in other processes. For small images, threads would mostly wait for the interpreter's lock.

    The processes are not forked: forking is unsafe beside other threads, and would pass them the lock on the pack. They
    are not started by `multiprocessing` either, since that would run the user's main script again. They end when this
    process does.
    """

    def __init__(self) -> None:
        super().__init__()
        processes = [self.enter_context(_Process()) for _ in range(min(available_cores(), _PROCESSES))]
        self.lanes = 2 * len(processes)  # so that each finds its next chunk waiting
        self._free: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        for process in processes * 2:
            self._free.put(process)

    def pack_chunk(
        self, partial: Path, start: int, paths: list[str], size: tuple[int, int], fit: str
    ) -> tuple[dict[int, str], int]:
        process = self._free.get()
        try:
            answer = process.ask(start, [str(partial), start, paths, size, fit])
        finally:
            self._free.put(process)
        if isinstance(answer, dict):
            raise OSError(answer["errno"], answer["strerror"])
        reasons, checked = answer
        return {int(i): reason for i, reason in reasons.items()}, checked


class _Process:
    """A process that runs `decoding.serve`; several threads may ask it at once."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", decoding.__file__]
        self._popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._sending, self._receiving = threading.Lock(), threading.Lock()
        self._answers: dict[int, Any] = {}  # one thread may read the answer that another waits for

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(BrokenPipeError), self._popen:  # a process that failed does not read its input
            pass

    def ask(self, start: int, question: list[object]) -> Any:
        """Return the answer to a request for the chunk that begins at `start`."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        try:
            with self._sending:
                self._popen.stdin.write(json.dumps(question).encode() + b"\n")
                self._popen.stdin.flush()
            while True:
                with self._receiving:
                    if start in self._answers:
                        return self._answers.pop(start)
                    which, answer = json.loads(self._popen.stdout.readline())
                    self._answers[which] = answer
        except (BrokenPipeError, ValueError) as error:  # ValueError: an empty line
            raise RuntimeError(f"a process that decodes images ended with status {self._popen.wait()}") from error


def _prepare(partial: Path, folder: Path, now: Files, row: int) -> tuple[Files, dict[int, int]]:
    """Create the partial pack's files, as copies of an outdated pack's if most of its images are unchanged.

    Returns:
        the outdated pack's records (empty without one), and the checksums of the chunks in the journal.
    """
    try:
        before = np.fromfile(folder / "files", FILE)
    except OSError:
        before = np.zeros(0, FILE)
    partial.mkdir(exist_ok=True)
    need = len(now) * row
    free = shutil.disk_usage(partial).free
    if (partial / "images").exists():
        free += (partial / "images").stat().st_size
    if need > free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    names = ("images", "files", "journal")  # the journal last, since it vouches for the others
    mostly = _unchanged(before, now).sum() > len(now) / 2
    # a pack that left out images has no journal, since its rows have moved
    if mostly and not (partial / "journal").exists() and all((folder / name).exists() for name in names):
        for name in names:
            shutil.copyfile(folder / name, partial / name)
    for name in names:
        (partial / name).touch()
    # an incomplete line does not match, or has a wrong checksum
    lines = (re.fullmatch(rb"(\d+) (\d+)", line) for line in (partial / "journal").read_bytes().splitlines())
    vouched = {int(line[1]): int(line[2]) for line in lines if line}
    return before, vouched


def _intact(partial: Path, start: int, now: Files, row: int, checksum: int) -> bool:
    """Return whether a chunk was made from the current files and is unchanged since it was written."""
    files = np.fromfile(partial / "files", FILE, len(now), offset=start * FILE.itemsize)
    if not _unchanged(files, now).all():
        return False
    return (
        decoding.checksum(np.fromfile(partial / "images", np.uint8, len(now) * row, offset=start * row), files)
        == checksum
    )


def _close_gaps(file: Path, gaps: Labels, count: int, row: int, length: int) -> None:
    """Close the gaps in a file of `count` images: later rows move up over those at `gaps`."""
    end = start = int(gaps[0])
    with file.open("r+b", buffering=0) as images:
        while start < count:
            rows = np.arange(start, min(start + length, count))
            images.seek(start * row)
            pixels = np.frombuffer(images.read(len(rows) * row), np.uint8).reshape(len(rows), row)
            kept = pixels[~np.isin(rows, gaps)]
            decoding.write_rows(images, end * row, kept)
            end, start = end + len(kept), start + len(rows)
        images.truncate(end * row)


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

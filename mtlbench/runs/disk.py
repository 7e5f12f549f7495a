"""A full disk: told apart from a method's failure, with the space needed and the space left."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mtlbench.errors import UserError
from mtlbench.runs.lock import writer

if TYPE_CHECKING:
    from torch import Tensor

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the last: a limit on the size of files, as by ulimit -f


class DiskFull(UserError, OSError):
    """Nothing more can be written: every run stops, and what is there is kept."""


def is_full(error: BaseException) -> bool:
    """Tell whether an error is a full disk's, a used-up quota's or that of a limit on the size of files."""
    return isinstance(error, DiskFull) or (isinstance(error, OSError) and error.errno in _FULL)


def disk_full(path: Path | str, needed: int = 0, number: int | None = errno.ENOSPC) -> DiskFull:
    """Return the error for `path`, which takes `needed` bytes, as far as that is known; `number` says what is full."""
    place = next((p for p in (Path(path), *Path(path).parents) if p.exists()), Path())
    takes, remedy = "", "Free some space"
    if number == errno.EFBIG:
        takes, remedy = f" It takes {_size(needed)}." if needed else "", "Raise the limit on the size of files"
    elif needed:
        takes = f" It takes {_size(needed)}; {_size(shutil.disk_usage(place).free)} are free."
    return DiskFull(
        f"{os.strerror(number or errno.ENOSPC)} for {path}.{takes} {remedy} and run the same command again: what is"
        " finished is kept."
    )


def stopped_by(error: BaseException, path: Path) -> DiskFull:
    """Return the error for the file that an error names, or else for `path`, where `is_full` found one."""
    return disk_full(getattr(error, "filename", None) or path, number=getattr(error, "errno", None))


@contextmanager
def writing(path: Path, needed: int = 0) -> Iterator[None]:
    """Turn the failure to write `path` on a full disk into one sentence.

    Raises:
        DiskFull: there was no space.
    """
    try:
        yield
    except DiskFull:
        raise
    except OSError as error:
        if is_full(error):
            raise disk_full(error.filename or path, needed, error.errno) from error
        raise


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside one, which then takes its place: whole, or the one that was there stays.

    Raises:
        DiskFull: there was no space.
    """
    new, old = (folder.with_name(f"{folder.name}.{what}-{writer()}") for what in ("new", "old"))
    shutil.rmtree(new, ignore_errors=True)
    try:
        with writing(new):
            new.mkdir(parents=True)
            yield new
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, as readable for others as any file that the user makes.

    Raises:
        DiskFull: there is no space for it.
    """
    import safetensors.torch
    from safetensors import SafetensorError

    needed = sum(t.numel() * t.element_size() for t in tensors.values())
    with writing(path, needed):
        path.touch()
        mode = path.stat().st_mode  # as the umask has it; safetensors would keep the file to its owner
        try:
            safetensors.torch.save_file(dict(tensors), path, metadata)
        except SafetensorError:  # it has no error number: whether there is space is tried
            try:
                _try_to_write(path, needed)
            finally:
                path.unlink(missing_ok=True)
            raise
        path.chmod(stat.S_IMODE(mode))


def _try_to_write(path: Path, size: int) -> None:
    """Write so many bytes, for the error that comes of it."""
    block = bytes(2**20)
    with path.open("wb", buffering=0) as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])
        os.fsync(file.fileno())


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"

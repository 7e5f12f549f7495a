"""A full disk: told apart from a method's failure, with what is needed and what there is."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mtlbench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

_FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFull(UserError, OSError):
    """Nothing more can be written: every run stops, and what is there is kept."""


def is_full(error: BaseException) -> bool:
    """Tell whether an error is a full disk's or a used-up quota's."""
    return isinstance(error, DiskFull) or (isinstance(error, OSError) and error.errno in _FULL)


def disk_full(path: Path | str, needed: int = 0) -> DiskFull:
    """Return the error for `path`, which takes `needed` bytes, as far as that is known."""
    place = next((p for p in (Path(path), *Path(path).parents) if p.exists()), Path())
    takes = f" It takes {_size(needed)}; {_size(shutil.disk_usage(place).free)} are free." if needed else ""
    return DiskFull(
        f"No space left on device for {path}.{takes} Free some space and give the same command again: what is finished"
        " is kept."
    )


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
            raise disk_full(error.filename or path, needed) from error
        raise


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file.

    Raises:
        DiskFull: there is no space for it.
    """
    import safetensors.torch
    from safetensors import SafetensorError

    needed = sum(t.numel() * t.element_size() for t in tensors.values())
    with writing(path, needed):
        try:
            safetensors.torch.save_file(dict(tensors), path)
        except SafetensorError as error:  # it has no error number: whether there is space is looked up
            path.unlink(missing_ok=True)
            if shutil.disk_usage(path.parent).free < needed:
                raise disk_full(path, needed) from error
            raise


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"

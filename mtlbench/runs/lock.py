"""The lock of a run: one process at a time works on it, others learn which, and dead processes' files are removed."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


class Busy(Exception):
    """Another process works on the run.

    Attributes:
        who: that process, in words.
    """

    def __init__(self, who: str) -> None:
        super().__init__(who)
        self.who = who


def writer() -> str:
    """Return what temporary names carry: this process and its host, so that no two processes share a name."""
    return f"{re.sub(r'[^A-Za-z0-9-]', '-', socket.gethostname())}-{os.getpid()}"


@contextmanager
def working_on(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a run's folder. It ends with its process, by whatever cause.

    Args:
        folder: of the run, there or not.
        wait: wait for another process instead of raising.

    Raises:
        Busy: another process holds it.
        OSError: nothing can be written beside the folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    worker = folder.with_name(f".{folder.name}.worker")
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        raise Busy(_named(worker)) from None
    try:
        with suppress(OSError):  # a courtesy: a full disk is told by what is made
            worker.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        _clean(folder)
        yield
    finally:
        with suppress(OSError):
            worker.unlink()
        lock.release()


def busy_with(folder: Path) -> str:
    """Return who works on a run, in words; an empty string when nobody does."""
    try:
        with working_on(folder):
            return ""
    except Busy as busy:
        return busy.who


def _clean(folder: Path) -> None:
    """Remove what processes that died while writing left; whoever holds the lock knows that they are dead."""
    for old in folder.parent.glob(f"{folder.name}.old-*"):
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:  # it died between the two renames of `write_record`
            old.rename(folder)
    for new in folder.parent.glob(f"{folder.name}.new-*"):
        shutil.rmtree(new, ignore_errors=True)
    for part in folder.parent.glob(f"{folder.name}.partial/*.new"):
        part.unlink(missing_ok=True)


def _named(worker: Path) -> str:
    try:
        note = json.loads(worker.read_text())
        return f"process {int(note['pid'])}@{note['host']}"
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        return "another process"

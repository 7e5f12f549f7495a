"""One process at a time makes a thing on disk, such as a drawn set or a pack; others wait and are told for whom."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

Tell = Callable[[str], None]


@contextmanager
def making(thing: Path, tell: Tell | None = None) -> Iterator[None]:
    """Hold the lock on a thing that is made; look again then, as another process may have made it meanwhile.

    The lock lies beside the thing and ends with its process, by whatever cause.

    Args:
        thing: a file or folder, there or not; its parent is.
        tell: called with a sentence before waiting for another process.

    Raises:
        OSError: nothing can be written beside the thing.
    """
    lock = FileLock(thing.with_name(f".{thing.name}.lock"))
    maker = thing.with_name(f".{thing.name}.maker.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if tell:
            tell(f"Waiting for {_named(maker)}, which makes {thing}.")
        lock.acquire()
    try:
        with suppress(OSError):  # a courtesy: a full disk is told by what is made
            maker.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        yield
    finally:
        try:
            with suppress(OSError):
                maker.unlink()
        finally:
            lock.release()


def _named(maker: Path) -> str:
    """Return in words who holds a lock, as far as that was noted."""
    try:
        note = json.loads(maker.read_text())
        where = "" if note["host"] == socket.gethostname() else f" on {note['host']}"
        return f"process {int(note['pid'])}{where}"
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        return "another process"

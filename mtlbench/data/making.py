"""A lock on something that is made on disk, such as a drawn set or a pack.

One process at a time makes it; the others wait, and say which process they wait for.
"""

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
    """Hold the lock on something that is about to be made.

    Check again inside whether it exists: another process may have made it meanwhile. The lock is a file beside it, and
    ends with its process in any case.

    Args:
        thing: a file or folder, which may not exist yet; its parent must exist.
        tell: called with a sentence before waiting for another process.

    Raises:
        OSError: the folder can't be written to.
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
        with suppress(OSError):  # optional: a full disk is reported when the thing is made
            maker.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        yield
    finally:
        try:
            with suppress(OSError):
                maker.unlink()
        finally:
            lock.release()


def _named(maker: Path) -> str:
    """Return a description of the process that holds a lock, as far as it is known."""
    try:
        note = json.loads(maker.read_text())
        where = "" if note["host"] == socket.gethostname() else f" on {note['host']}"
        return f"process {int(note['pid'])}{where}"
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        return "another process"

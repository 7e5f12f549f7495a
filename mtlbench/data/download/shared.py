"""Code that fetching and unpacking share: exceptions, cleaned messages from others, and checks of disk space."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from mtlbench.errors import UserError

Progress = Callable[[int, int, str], None]  # bytes done, bytes in all (0: not known), current activity

CHUNK = 1 << 18  # bytes read at once
SLACK = 10  # how many times its known size a download or its unpacked content may have


class RefusedError(Exception):
    """The file is not available, or something else arrived; another try would end the same way."""


class DroppedError(Exception):
    """The connection failed; another try may continue from there."""


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raise UserError unless this many bytes are free on a folder's disk."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what} needs about {in_words(needed)} and {folder} has {in_words(free)} free: make room, or name another"
            " folder with --data-dir."
        )


def in_words(size: int) -> str:
    """Return a number of bytes as text, such as 1.4 GB."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def clean(words: object) -> str:
    """Return text from others on one line, without control characters, and not too long."""
    text = " ".join(str(words).split())
    return "".join(c for c in text if c.isprintable())[:100] or type(words).__name__

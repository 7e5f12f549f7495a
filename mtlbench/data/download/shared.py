"""What fetching and unpacking share: refusals, what somebody else says in clean words, and room on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from mtlbench.errors import UserError

Progress = Callable[[int, int, str], None]  # bytes done, of how many (0: not known), what is being done

CHUNK = 1 << 18  # bytes read at once
SLACK = 10  # how many times its known size a download, or what it unpacks to, may have


class RefusedError(Exception):
    """This file can't be had, or what came is not it; another try would end the same way."""


class DroppedError(Exception):
    """The connection failed; another try may go on from there."""


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raise UserError unless so many bytes are free on a folder's disk."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what} needs about {in_words(needed)} and {folder} has {in_words(free)} free: make room, or name another"
            " folder with --data-dir."
        )


def in_words(size: int) -> str:
    """Return a number of bytes in words: 1.4 GB."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def clean(words: object) -> str:
    """Return somebody else's words on one line, without control characters, and not too long."""
    text = " ".join(str(words).split())
    return "".join(c for c in text if c.isprintable())[:100] or type(words).__name__

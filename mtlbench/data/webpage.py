"""Tells web pages from data.

A host that refuses a file may answer with a web page, which then has the file's name.
"""

from __future__ import annotations

from pathlib import Path

from mtlbench.errors import UserError


def is_web_page(start: bytes) -> bool:
    """Return whether a file with this start is a web page or other markup; label files, archives and photos are not."""
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def holds_drawing(path: Path) -> bool:
    """Return whether a file is an SVG drawing, which is markup but not a web page."""
    with path.open("rb") as file:
        start = file.read(4096).lower()
    return is_web_page(start) and b"<svg" in start and b"<html" not in start


def holds_web_page(path: Path) -> bool:
    """Return whether a file holds a web page instead of its own content.

    Raises:
        UserError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            return is_web_page(file.read(1024))
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}.") from error

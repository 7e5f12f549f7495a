"""Arguments that take one thing or several: a text or a path is one, never its letters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def several(given: T | Iterable[T]) -> list[T]:
    """Return what was given as a list; a text, a path or a number is one thing.

    >>> several("heel"), several(0.2), several(("heel", "closure"))
    (['heel'], [0.2], ['heel', 'closure'])
    """
    if isinstance(given, Iterable) and not isinstance(given, str):
        return list(given)
    return [given]  # type: ignore[list-item]  # a text is an iterable of texts, but meant as one


def with_commas(names: str | Iterable[str]) -> str:
    """Return names as the command line takes them, joined by commas.

    >>> with_commas("core,film"), with_commas(["core", "film"])
    ('core,film', 'core,film')
    """
    return ",".join(several(names))

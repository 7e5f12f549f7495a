"""Arguments that take one thing or several: a text or a path is one, never its letters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mtlbench.names import listed


def several(given: object) -> list[Any]:
    """Return what was given as a list; a text, a path or a number is one thing.

    >>> several("heel"), several(0.2), several(("heel", "closure"))
    (['heel'], [0.2], ['heel', 'closure'])
    """
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]


def with_commas(names: str | Iterable[str]) -> str:
    """Return names as the command line takes them, joined by commas.

    >>> with_commas("core,film"), with_commas(["core", "film"])
    ('core,film', 'core,film')
    """
    return ",".join(several(names))


def task_words(names: str | Iterable[str]) -> str:
    """Return tasks' names as the command line takes them: one that holds a comma is in quotes.

    >>> print(task_words(["male", "big, lips"]))
    male, "big, lips"
    """
    return names if isinstance(names, str) else listed(names)

"""The one error that a user can cause: a clear sentence with its remedy, shown without a traceback (exit code 2)."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable

FAULTS = (Exception, SystemExit)  # what other people's code may raise: sys.exit() in a method must not end a command


class UserError(Exception):
    """What the user asked for can't be done; the message is one sentence that says why and what to do instead.

    Methods raise it for options that make no sense; commands show it without a traceback.

    >>> from mtlbench import BackboneFactory, UserError
    >>> try:
    ...     BackboneFactory("smal", image_size=24, embedding_size=8)
    ... except UserError as error:
    ...     print(str(error).split(" Available")[0])
    Unknown backbone 'smal'. Did you mean: small?
    """


class LeftOut(UserWarning):
    """Something on disk can't be read; it is left out, and all else goes on. Commands show the sentence on stderr."""


def leave_out(sentence: str) -> None:
    """Say that something is left out, and why: a warning in Python, a line of a command."""
    warnings.warn(sentence, LeftOut, stacklevel=3)


def first_line(error: BaseException, most: int = 200) -> str:
    """Return the first line of an error's words without its full stop; its type where it has none."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:most].rstrip(".")


def a(word: str) -> str:
    """Return a word with its indefinite article: `a loss`, `an architecture`, `a unit`."""
    plain = word.lower()
    vowel = plain[:1] in set("aeiou") and not plain.startswith(("eu", "one", "uni", "use", "usu"))
    return f"{'an' if vowel else 'a'} {word}"


def counted(number: int, what: str) -> str:
    """Return a number with its noun: `1 image`, `2 images`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def plain_name(name: str) -> str:
    """Return what names have in common that differ in case, hyphens and underscores alone."""
    return name.lower().replace("-", "").replace("_", "")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean: x?" with the nearest known words, or an empty string when none is near.

    Nearness ignores case, hyphens and underscores.
    """
    names = {plain_name(name): name for name in known}
    near = difflib.get_close_matches(plain_name(word), names, n=3, cutoff=0.6)
    return f" Did you mean: {', '.join(names[n] for n in near)}?" if near else ""

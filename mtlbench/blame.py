"""Which code is at fault: what an exception passed through, and what returned what its contract does not allow.

Plug-ins and the bundled methods are named with the file and line of their own code; nothing here knows a kind.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from mtlbench.errors import UserError
from mtlbench.registry import KINDS, Entry, Registry

_LONGEST = 300  # characters of an exception's own words


class ContractError(UserError):
    """A registered thing returned what its contract does not allow."""


def breach(
    registry: Registry[Any], target: Any, must: str, found: object, at: Callable[..., Any] | None = None
) -> ContractError:
    """Return the error of a thing that returned something else than it must.

    Args:
        registry: of its kind.
        target: the registered class or function.
        must: what was expected, as it follows the word "must": "return a tensor of shape (2,) from forward".
        found: what came: words, or the object itself.
        at: the function that returned it, whose line is told where it stands in the thing's own file.
    """
    entry = next((e for e in registry.entries.values() if e.target is target), None)
    name = f"'{entry.name}' ({_place(entry, at)})" if entry else f"'{getattr(target, '__name__', target)}'"
    return ContractError(f"The {registry.kind} {name} must {must}, not {said(found)}.")


def _place(entry: Entry[Any], at: Callable[..., Any] | None) -> str:
    """Return file:line of a function, or of the entry's own definition where the function is inherited."""
    file, _, line = entry.origin.rpartition(":")
    code = getattr(inspect.unwrap(at), "__code__", None) if at is not None else None
    if code is not None and code.co_filename == file:
        line = str(code.co_firstlineno)
    return f"{Path(file).name}:{line}"


def said(found: object) -> str:
    """Return what an object is, in words for a sentence: "a float32 tensor of shape (2, 5)", "a tuple of 3", "None"."""
    if isinstance(found, str):
        return found
    if found is None or isinstance(found, bool | int | float):
        return repr(found)
    kind = type(found).__name__
    if hasattr(found, "shape") and hasattr(found, "dtype"):
        kind = f"{str(found.dtype).removeprefix('torch.')} {'tensor' if kind in ('Tensor', 'Parameter') else kind}"
        return f"{_article(kind)} {kind} of shape {tuple(found.shape)}"
    article = _article(kind)
    return f"{article} {kind} of {len(found)}" if isinstance(found, list | tuple | dict | set) else f"{article} {kind}"


def _article(word: str) -> str:
    return "an" if word[0].lower() in "aeiou" else "a"


def described(error: BaseException) -> str:
    """Return an exception in one line, with the thing that it arose in, or else the last line of code.

    `ValueError: no pairs (loss 'my-loss', my_loss.py:34)`
    """
    words = next(iter(str(error).strip().splitlines()), "")
    words = f"{words[:_LONGEST]} …" if len(words) > _LONGEST else words
    frames = list(_frames(error))
    where = culprit(error) or (f"{_file(frames[-1][0]).name}:{frames[-1][1]}" if frames else "")
    return type(error).__name__ + (f": {words}" if words else "") + (f" ({where})" if where else "")


def culprit(error: BaseException) -> str:
    """Return the plug-in or method in whose code an exception arose: "loss 'my-loss', my_loss.py:34".

    The line is the innermost one of its files: those that register something, and their neighbours. Empty where the
    exception passed through none of them.
    """
    registered: dict[Path, list[tuple[str, Entry[Any]]]] = {}
    for registry in KINDS.values():
        for entry in registry.entries.values():
            if not entry.bundled and (file := entry.origin.rpartition(":")[0]):
                registered.setdefault(Path(file), []).append((registry.kind, entry))
    folders = {file.parent for file in registered}
    theirs = [(frame, line) for frame, line in _frames(error) if _file(frame).parent in folders]
    if not theirs:
        return ""
    innermost, line = theirs[-1]
    name = next(filter(None, (_owner(frame, registered.get(_file(frame), [])) for frame, _ in reversed(theirs))), "")
    return f"{name}{_file(innermost).name}:{line}"


def _owner(frame: FrameType, entries: list[tuple[str, Entry[Any]]]) -> str:
    """Return which of a file's things a frame is of; empty where that can't be told."""
    inside = [
        (kind, entry)
        for kind, entry in entries
        if (made := getattr(entry.target, "__qualname__", "")) and f"{frame.f_code.co_qualname}.".startswith(f"{made}.")
    ]
    chosen = inside or (entries if len({(kind, entry.name) for kind, entry in entries}) == 1 else [])
    return f"{chosen[0][0]} '{chosen[0][1].name}', " if chosen else ""


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """Yield the frames that an exception passed through, the outermost first, each with its line."""
    step = error.__traceback__
    while step is not None:
        yield step.tb_frame, step.tb_lineno
        step = step.tb_next


def _file(frame: FrameType) -> Path:
    return Path(frame.f_code.co_filename)

"""The code of what was defined in a notebook or at a prompt, where there is no source file."""

from __future__ import annotations

import contextlib
import dis
import functools
import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import CodeType
from typing import Any

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_GIVEN = {  # by Python
    "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__", "__module__", "__abstractmethods__",
    "_abc_impl",
}  # fmt: skip


def source_file(thing: Any) -> Path | None:
    """Return the file that a class or function is defined in; None for a notebook or a prompt."""
    try:
        file = inspect.getsourcefile(thing)
    except (OSError, TypeError):
        return None
    return Path(file) if file and Path(file).is_file() else None


def code_of(thing: Any) -> bytes:
    """Return what tells one version of a class or function without a file from another.

    That is its bytecode, with that of the classes and functions without a file that it uses by name, and the plain
    values of the names that it reads: numbers, texts, dataclasses, and collections of them. Other Python versions have
    other bytecode.
    """
    return "\n".join(_parts(thing, {})).encode()


def _parts(thing: Any, seen: dict[int, object]) -> Iterator[str]:
    thing = inspect.unwrap(thing) if callable(thing) else thing
    if isinstance(thing, staticmethod | classmethod):
        thing = thing.__func__
    if id(thing) in seen and not isinstance(thing, _PLAIN):
        return
    seen[id(thing)] = thing  # held, so that no other object gets its number
    if isinstance(thing, _PLAIN):
        yield repr(thing)
    elif isinstance(thing, type):
        yield thing.__qualname__
        if source_file(thing) is None and thing.__module__ != "builtins":
            for base in thing.__bases__:
                yield from _parts(base, seen)
            for name, member in sorted(vars(thing).items()):
                if name not in _GIVEN:
                    yield name
                    yield from _parts(member, seen)
    elif inspect.isfunction(thing):
        yield thing.__qualname__
        if source_file(thing) is None:
            yield from _of_function(thing, seen)
    elif isinstance(thing, property | functools.cached_property):
        for part in (getattr(thing, name, None) for name in ("fget", "fset", "func")):
            yield from _parts(part, seen)
    elif isinstance(thing, functools.partial):
        yield from _parts([thing.func, list(thing.args), thing.keywords], seen)
    elif isinstance(thing, list | tuple | set | frozenset | dict):
        yield type(thing).__name__
        parts = thing.items() if isinstance(thing, dict) else thing
        each = ["\n".join(_parts(part, seen)) for part in parts]
        yield from sorted(each) if isinstance(thing, set | frozenset) else each
    else:
        yield repr(thing) if is_dataclass(thing) else type(thing).__qualname__  # another repr may hold an address


def _of_function(function: Any, seen: dict[int, object]) -> Iterator[str]:
    yield from _parts([function.__defaults__, function.__kwdefaults__], seen)
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # an empty one
            yield from _parts(cell.cell_contents, seen)
    waiting: list[CodeType] = [function.__code__]
    while waiting:
        code = waiting.pop()
        yield code.co_code.hex()
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                waiting.append(constant)
            else:
                yield from _parts(constant, seen)
        for step in dis.get_instructions(code):
            known = function.__globals__
            if isinstance(step.argval, str):
                yield step.argval
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in known:
                value = known[step.argval]
                if not inspect.ismodule(value):
                    yield from _parts(value, seen)

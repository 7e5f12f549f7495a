"""The code of what was defined in a notebook or at a prompt, where there is no source file."""

from __future__ import annotations

import contextlib
import copyreg
import dis
import functools
import hashlib
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, MappingProxyType, ModuleType
from typing import Any

import numpy as np
import torch

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

    That is its bytecode, with that of the classes and functions that it uses by name, and the values of the names that
    it reads: tensors and arrays too, and objects by what they hold. Of modules it is what is used of them, as it is in
    this process. What is installed, Python's own and mtlbench's stand by their names alone. Other Python versions have
    other bytecode. Where a value can't be read, a warning names it.
    """
    return "\n".join(_named(thing, getattr(thing, "__qualname__", ""), {})).encode()


def _named(thing: Any, name: str, seen: dict[object, object]) -> Iterator[str]:
    """Yield the parts of what has a name; where some of them can't be read, its type alone, and warn once."""
    try:
        parts = list(_parts(thing, seen))
    except Exception:  # of any object, which may answer in any way
        warnings.warn(
            f"A method, loss or metric of a cell uses '{name}', a value that can't be watched: after a change of it,"
            " run with overwrite=True.",
            stacklevel=2,
        )
        parts = [type(thing).__qualname__]
    yield from parts


def _own(thing: Any) -> bool:
    """Return whether a module, class or function is the user's: of a cell, or of a file that is not installed."""
    name = str(thing.__name__ if inspect.ismodule(thing) else thing.__module__)
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top == "mtlbench":
        return False
    files = [getattr(sys.modules.get(module), "__file__", None) for module in (top, name)]
    return top == "__main__" or not _installed(next(filter(None, files), None))


def _installed(file: str | None) -> bool:
    return file is not None and bool({"site-packages", "dist-packages"} & set(Path(file).parts))


def _parts(thing: Any, seen: dict[object, object]) -> Iterator[str]:
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
        if _own(thing):
            for base in thing.__bases__:
                yield from _parts(base, seen)
            for name, member in sorted(vars(thing).items()):
                if name not in _GIVEN:
                    yield name
                    yield from _named(member, f"{thing.__qualname__}.{name}", seen)
    elif inspect.isfunction(thing):
        yield thing.__qualname__
        if _own(thing):
            yield from _of_function(thing, seen)
    elif inspect.ismodule(thing):
        yield from _of_module(thing, [name for name in vars(thing) if not name.startswith("__")], seen)
    elif isinstance(thing, property | functools.cached_property):
        for part in (getattr(thing, name, None) for name in ("fget", "fset", "func")):
            yield from _parts(part, seen)
    elif isinstance(thing, functools.partial):
        yield from _parts([thing.func, list(thing.args), thing.keywords], seen)
    elif isinstance(thing, list | tuple | set | frozenset | dict | MappingProxyType):
        yield type(thing).__name__
        parts = thing.items() if isinstance(thing, dict | MappingProxyType) else thing
        each = ["\n".join(_parts(part, seen)) for part in parts]
        yield from sorted(each) if isinstance(thing, set | frozenset) else each
    elif isinstance(thing, torch.Tensor):
        flat = thing.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        yield f"{type(thing).__qualname__} {thing.dtype} {tuple(thing.shape)} {_sum(flat.numpy())}"
    elif isinstance(thing, np.ndarray) and not thing.dtype.hasobject:
        yield f"{thing.dtype.str} {thing.shape} {_sum(thing)}"
    elif inspect.isbuiltin(thing):
        yield thing.__qualname__
    else:  # as it is copied and stored
        reduce: Any = copyreg.dispatch_table.get(type(thing))
        made = reduce(thing) if reduce else thing.__reduce_ex__(2)
        parts = [made] if isinstance(made, str) else made
        yield type(thing).__qualname__
        yield from _parts([list(part) if isinstance(part, Iterator) else part for part in parts], seen)


def _sum(array: Any) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def _of_function(function: Any, seen: dict[object, object]) -> Iterator[str]:
    yield from _named([function.__defaults__, function.__kwdefaults__], f"{function.__qualname__}'s defaults", seen)
    used = _used(function.__code__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty one
            yield from _of_name(cell.cell_contents, name, used, seen)
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
                yield from _of_name(known[step.argval], step.argval, used, seen)
            elif step.opname == "IMPORT_NAME":
                yield from _of_import(step.argval, used, seen)


def _used(code: CodeType) -> set[str]:
    """Return the names that a function uses of whatever."""
    return {*code.co_names, *(n for inner in code.co_consts if isinstance(inner, CodeType) for n in _used(inner))}


def _of_name(value: Any, name: str, used: Iterable[str], seen: dict[object, object]) -> Iterator[str]:
    yield from _of_module(value, used, seen) if inspect.ismodule(value) else _named(value, name, seen)


def _of_module(module: ModuleType, used: Iterable[str], seen: dict[object, object]) -> Iterator[str]:
    """Yield the parts of those of a module's names that are used, if it is the user's own."""
    names = frozenset(set(used) & vars(module).keys())
    if _own(module) and (module, names) not in seen:
        seen[module, names] = module
        for name in sorted(names):
            yield name
            yield from _of_name(vars(module)[name], f"{module.__name__}.{name}", used, seen)


def _of_import(name: str, used: Iterable[str], seen: dict[object, object]) -> Iterator[str]:
    """Yield the parts of a module that is imported where it is used."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return
    module = None
    with contextlib.suppress(Exception):  # what can't be imported can't be used either
        spec = importlib.util.find_spec(top)
        if spec and not any(map(_installed, [spec.origin, *(spec.submodule_search_locations or ())])):
            module = importlib.import_module(name)
    if module is not None:
        yield from _of_module(module, used, seen)

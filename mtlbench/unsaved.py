"""What a module keeps outside its parameters and buffers, where no checkpoint holds it: prints of it, to be compared.

A print is a number for this process alone: equal values have equal ones, whatever objects they are.
"""

from __future__ import annotations

import inspect
import marshal
import warnings
import zlib
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

# what the contracts themselves keep: of the latest step, of the run, or found again where it is lost
_OURS = {"representation", "views", "gradient_norms", "task_gradients", "source", "context"}
_OURS |= vars(nn.Module()).keys()
_FIXED = (type, ModuleType, BuiltinFunctionType)


def unsaved(parts: Mapping[str, nn.Module]) -> dict[str, int]:
    """Return prints of the plain attributes of modules and of their submodules, by name: `balancer.step`.

    Left out are those of a module that says itself what a checkpoint holds (`get_extra_state`), and of the value None.

    Args:
        parts: the modules by the beginning of their attributes' names; empty for none.
    """
    seen: dict[int, Any] = {}
    for part in parts.values():
        seen |= {id(one): one for one in (*part.modules(), *part.parameters(), *part.buffers())}
    found = {}
    for prefix, part in parts.items():
        for path, module in part.named_modules():
            if type(module).get_extra_state is not nn.Module.get_extra_state:
                continue
            for name, value in _attributes(module).items():
                if value is not None:
                    found[".".join(filter(None, (prefix, path, name)))] = print_of(value, seen)
    return found


def changed(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """Return the names of the attributes whose prints differ."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Return what a module and its classes hold, as the module sees it."""
    found: dict[str, Any] = {}
    for cls in reversed(type(module).__mro__):
        if cls.__module__.partition(".")[0] not in ("builtins", "abc", "typing", "torch"):
            found |= {k: v for k, v in vars(cls).items() if not k.startswith(("__", "_abc_")) and not _is_code(v)}
    found |= vars(module)
    # a function on the object in place of its class's is a wrapper; the value of a cached property is no memory
    return {k: v for k, v in found.items() if k not in _OURS and not _is_code(getattr(type(module), k, None))}


def _is_code(value: object) -> bool:
    return hasattr(type(value), "__get__") or isinstance(value, _FIXED)


def print_of(value: Any, seen: dict[int, Any] | None = None) -> int:
    """Return a value's print; what can't be looked into has that of its type.

    Args:
        value: anything.
        seen: by their id, objects that are looked at elsewhere; those that are found are added.
    """
    seen = {} if seen is None else seen
    try:
        return hash(marshal.dumps(value, 2))  # version 2 depends on values alone; large lists take no time
    except ValueError:
        pass
    if id(value) in seen:
        return 0
    seen[id(value)] = value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return hash((type(value).__qualname__, *(_inside(value, seen))))
    except Exception:  # it can't be looked into: a lock, a file
        return hash(type(value).__qualname__)


def _inside(value: Any, seen: dict[int, Any]) -> Iterator[int]:
    """Yield the prints of what an object is made of."""
    if isinstance(value, Tensor):
        yield hash((value.dtype, tuple(value.shape)))
        if value.device.type != "meta":
            yield zlib.crc32(value.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().data)
    elif isinstance(value, torch.Generator):
        yield print_of(value.get_state(), seen)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from (print_of(key, seen), print_of(inner, seen))
    elif isinstance(value, set | frozenset):
        yield from sorted(print_of(inner, seen) for inner in value)
    elif isinstance(value, list | tuple):
        yield from (print_of(inner, seen) for inner in value)
    elif isinstance(value, MethodType):
        yield from (print_of(value.__func__, seen), print_of(value.__self__, seen))
    elif isinstance(value, FunctionType):
        yield from (print_of(inner, seen) for inner in _of_function(value))
    elif inspect.isgenerator(value):
        yield print_of(value.gi_frame and value.gi_frame.f_lasti)
        yield print_of(inspect.getgeneratorlocals(value), seen)
    elif not _is_code(value):
        _, *rest = value.__reduce_ex__(2)  # what a pickle would hold
        for part in rest:
            yield print_of(list(part) if inspect.isgenerator(part) or isinstance(part, Iterator) else part, seen)


def _of_function(function: FunctionType) -> list[object]:
    """Return what a function may remember by: what it closes over, its defaults, and variables of its file."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    there = [function.__globals__.get(name) for name in function.__code__.co_names]
    own = [v for v in there if not isinstance(v, FunctionType) or v.__module__ == function.__module__]
    return [cells, function.__defaults__, function.__kwdefaults__, vars(function), own]

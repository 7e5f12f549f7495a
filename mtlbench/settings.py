"""Every key of a benchmark's file, with its meaning, default and valid values, as the pydantic models state them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mtlbench.benchmark import Benchmark
from mtlbench.options import toml


@dataclass(frozen=True)
class Setting:
    """One key that a benchmark's file, or `--set`, may set.

    Attributes:
        key: `train.lr`.
        meaning: a sentence or two.
        default: as it is written in TOML; empty where the file must set the key.
        valid: the valid values, in words.
    """

    key: str
    meaning: str
    default: str
    valid: str


def settings() -> list[Setting]:
    """Return every setting, in the order of the sections.

    A section's own options that depend on a name, such as those of a loss, aren't among them.
    """
    return list(_walk(Benchmark, ""))


def section_meanings() -> dict[str, str]:
    """Return what each top-level section is for; under the empty name, what the benchmark itself is."""
    sections = {name: _section(field.annotation) for name, field in Benchmark.model_fields.items()}
    models = {"": Benchmark} | {name: model for name, model in sections.items() if model is not None}
    return {name: (model.__doc__ or "").split("\n", 1)[0] for name, model in models.items()}


def _walk(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        inside = _section(field.annotation)
        if inside is None:
            default = "" if field.is_required() else toml(field.get_default(call_default_factory=True))
            yield Setting(prefix + name, field.description or "", default, _valid(field.annotation, field.metadata))
        else:
            any_key = "METHOD." if get_origin(field.annotation) is dict else ""
            yield from _walk(inside, f"{prefix}{name}.{any_key}")


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a section, which may be optional."""
    parts = (annotation, *get_args(annotation))
    return next((part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)), None)


def _valid(annotation: Any, limits: Iterable[Any] = ()) -> str:
    """Say in words which values a type takes within limits."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [m for extra in parts[1:] for m in (extra.metadata if isinstance(extra, FieldInfo) else [extra])]
        return _valid(parts[0], inner)
    if origin is Literal:
        return ", ".join(map(str, parts))
    if origin in (Union, UnionType):
        return " or ".join(_valid(part) for part in parts)
    if origin is list:
        return f"a list; each: {_valid(parts[0])}"
    if origin is tuple:
        many = "" if parts[-1] is Ellipsis else f" of {len(parts)}"
        return f"a list{many}; each: {_valid(parts[0])}"
    if origin is dict:
        return "a table" if parts[1] is Any else f"a table of keys; each: {_valid(parts[1])}"
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation)):
        return "a table"
    if annotation is bool:
        return "true, false"
    if annotation in (int, float):
        return f"a {'whole ' if annotation is int else ''}number{_range(limits)}"
    return {str: "text"}.get(annotation, "any value")


_NO_LIMIT = 10**9  # from here on, a limit that only keeps numbers from running over


def _range(limits: Iterable[Any]) -> str:
    words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "at most"}
    found = [(sign, getattr(limit, sign)) for limit in limits for sign in words if hasattr(limit, sign)]
    said = [f"{words[sign]} {end:,}" for sign, end in found if abs(end) < _NO_LIMIT]
    return f" {' and '.join(said)}" if said else ""

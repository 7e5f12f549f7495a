"""Options of named things: `name[option=value,…]` or a TOML table, checked against keyword-only arguments."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mtlbench.errors import UserError, did_you_mean
from mtlbench.registry import Entry, Registry

T = TypeVar("T")
Options = dict[str, Any]
Words = dict[str, str]  # options as the user wrote them
_PART = re.compile(r"(?P<name>[^\[\]+,]+)(\[(?P<options>[^\[\]]*)\])?")


def split(text: str, separator: str) -> list[str]:
    """Split at separators outside brackets."""
    pieces, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == separator and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += letter
    return [p.strip() for p in pieces]


def read_part(text: str, whole: str) -> tuple[str, Words]:
    """Read `name[option=value,…]`, a part of `whole`, into the name and its options as they were written.

    Raises:
        UserError: the text can't be read, or an option has two values.
    """
    match = _PART.fullmatch(text)
    if match is None:
        raise UserError(f"'{whole}' can't be read: write it as name, name[option=value] or architecture+balancer.")
    words: Words = {}
    for pair in split(match["options"] or "", ","):
        if not pair:
            continue
        key, equals, value = (s.strip() for s in pair.partition("="))
        if not (key and equals and value):
            raise UserError(f"'{whole}': '{pair}' is not option=value.")
        if words.setdefault(key.replace("-", "_"), value) != value:
            raise UserError(f"'{whole}': the option '{key}' has two values.")
    return match["name"].strip(), words


def _pieces(text: str) -> list[str]:
    return [piece.strip() for piece in text.removesuffix(":").split(":")]


def _value(text: str) -> Any:
    """Read a value without knowing its type."""
    if ":" in text:
        return tuple(_value(piece) for piece in _pieces(text))
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def typed(kind: str, name: str, cls: Callable[..., Any], words: Words) -> Options:
    """Convert options as a user wrote them to the types that the class or function is annotated with.

    Raises:
        UserError: an option that it does not have, or a value of another type.
    """
    annotations = options_of(cls)
    check_known(f"{kind} '{name}'", words, annotations)
    options: Options = {}
    for option, text in words.items():
        annotation = annotations[option]
        adapter = _adapter(annotation)
        for reading in (_value(text), *([_pieces(text)] if ":" in text else []), text):
            try:
                options[option] = adapter.validate_python(reading, strict=not isinstance(reading, str | list))
                break
            except ValidationError as error:
                problem = error
        else:
            raise UserError(f"The {kind} '{name}' can't take {option}={text}: {_said(problem)}.") from problem
    return options


def valid(kind: str, name: str, cls: Callable[..., Any], values: Mapping[str, Any], section: str) -> Options:
    """Return the values of a TOML table, `section`, as the options of a class or function, its defaults filled in.

    Raises:
        UserError: an option that it does not have, a value of another type, or an option without a default left out.
    """
    parameters = _parameters(cls)
    check_known(f"{kind} '{name}'", values, parameters)
    options: Options = {}
    for option, parameter in parameters.items():
        if option in values:
            try:
                options[option] = _adapter(parameter.annotation).validate_python(values[option])
            except ValidationError as error:
                raise UserError(
                    f"The {kind} '{name}' can't take {option} = {values[option]!r}: {_said(error)}."
                ) from error
        elif parameter.default is inspect.Parameter.empty:
            raise UserError(f"The {kind} '{name}' needs the option '{option}': set {section}.{option}.")
        else:
            options[option] = parameter.default
    return options


def checked(kind: str, entry: Entry[Any], values: Mapping[str, Any]) -> Options:
    """Return values of a TOML table or of JSON as options of an entry, those alone.

    Raises:
        UserError: an option that it does not have, or a value of another type.
    """
    annotations = options_of(entry.target)
    check_known(f"{kind} '{entry.name}'", values, annotations)
    options: Options = {}
    for option, value in values.items():
        try:
            options[option] = _adapter(annotations[option]).validate_python(value)
        except ValidationError as error:
            raise UserError(f"The {kind} '{entry.name}' can't take {option} = {value!r}: {_said(error)}.") from error
    return options


def read_spec(registry: Registry[T], text: str) -> tuple[Entry[T], Options]:
    """Read `name[option=value,…]` as one entry of a kind and its options, typed; those not given are left out.

    Raises:
        UserError: an unknown name or option (with the nearest known one), or text that can't be read.
    """
    name, words = read_part(text, text)
    entry = registry.get(name)
    return entry, typed(registry.kind, name, cast(Any, entry.target), words)


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    unknown = annotation is inspect.Parameter.empty or isinstance(annotation, str)
    config = ConfigDict(allow_inf_nan=False, arbitrary_types_allowed=True)
    return TypeAdapter(Any if unknown else annotation, config=config)


def _said(problem: ValidationError) -> str:
    return " or ".join(dict.fromkeys(e["msg"][0].lower() + e["msg"][1:] for e in problem.errors()))


def show(options: Options) -> str:
    """Write options as a user does: `[after=3:4,relu=false]`; an empty string where there are none."""

    return f"[{','.join(f'{k}={_shown(v)}' for k, v in sorted(options.items()))}]" if options else ""


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ":".join(map(_shown, value)) + (":" if len(value) == 1 else "")
    return str(value).lower() if isinstance(value, bool) else str(value)


def described(thing: Any) -> str:
    """Write the options of a class or function with their defaults, as a user does: `after=3:4, relu=false`.

    An option without a default stands alone; what takes no options, or can't be called, has none.
    """
    if not callable(thing):
        return ""
    try:
        parameters = _parameters(thing)
    except (TypeError, ValueError):  # a callable without a signature
        return ""
    written = []
    for name, parameter in parameters.items():
        default = parameter.default
        text = "none" if default is None else _shown(default) or repr(default)
        written.append(name if default is inspect.Parameter.empty else f"{name}={text}")
    return ", ".join(written)


def _parameters(cls: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the keyword-only parameters by name."""
    try:
        signature = inspect.signature(cls, eval_str=True)
    except NameError:  # a name that only type checkers import
        signature = inspect.signature(cls)
    return {p.name: p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}


def options_of(cls: Callable[..., Any]) -> dict[str, Any]:
    """Return the options of a class or function, its keyword-only arguments, with their annotations."""
    return {name: parameter.annotation for name, parameter in _parameters(cls).items()}


def check_known(what: str, words: Iterable[str], known: Iterable[str]) -> None:
    """Refuse an option that isn't known.

    Raises:
        UserError: with the nearest known option, and all.
    """
    names = list(known)
    for option in words:
        if option not in names:
            has = f"It has: {', '.join(names)}." if names else "It has none."
            raise UserError(f"The {what} has no option '{option}'.{did_you_mean(option, names)} {has}")


def toml(value: Any) -> str:
    """Write a value as TOML does, such as after `--set key=`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{toml_key(str(key))} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value)


def toml_key(name: str) -> str:
    """Write a key as TOML does: in quotes where it needs them."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)

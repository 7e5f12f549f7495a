"""The user's words for methods: `core`, `modulation,shared`, `shared+gradnorm[alpha=0.12]` -> what to build."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mtlbench.errors import UserError, did_you_mean
from mtlbench.registry import ALIASES, ARCHITECTURES, BALANCERS

if TYPE_CHECKING:
    from mtlbench.architecture import Architecture
    from mtlbench.backbones import BackboneFactory
    from mtlbench.balancer import Balancer

Options = dict[str, Any]
Words = dict[str, str]  # options as the user wrote them
_PART = re.compile(r"(?P<name>[^\[\]+,]+)(\[(?P<options>[^\[\]]*)\])?")
_PARTS = (ARCHITECTURES, BALANCERS)
PLAIN = "mean"  # the balancer of a spec that names none


@dataclass(frozen=True)
class Method:
    """An architecture with a balancer, and their options; `name` is what tables and folders call it."""

    name: str
    architecture: str
    balancer: str = PLAIN
    architecture_options: Options = field(default_factory=dict)
    balancer_options: Options = field(default_factory=dict)

    @property
    def architecture_spec(self) -> str:
        """The architecture with its options, as a user writes it."""
        return self.architecture + _show(self.architecture_options)

    def build(self, backbones: BackboneFactory, tasks: Sequence[str]) -> tuple[Architecture, Balancer]:
        """Build both parts.

        Raises:
            UserError: an option has a value that the part refuses, or the two don't go together.
        """
        architecture = ARCHITECTURES.get(self.architecture).target(backbones, tasks, **self.architecture_options)
        balancer = BALANCERS.get(self.balancer).target(tasks, **self.balancer_options)
        balancer.check(architecture)
        return architecture, balancer


def method_names() -> list[str]:
    """Return every method that has a name: the architectures, and the named pairs."""
    return [*ARCHITECTURES, *ALIASES]


def method_groups() -> dict[str, list[str]]:
    """Return the groups of methods, each with its members in alphabetical order; `all` holds every named method."""
    groups: dict[str, list[str]] = {"all": sorted(method_names())}
    for registry in (ARCHITECTURES, ALIASES):
        for group, members in registry.groups().items():
            groups[group] = sorted([*groups.get(group, []), *members])
    return groups


def groups_of(name: str) -> list[str]:
    """Return the groups that a method is in, whatever its options; a pair without a name of its own is in none."""
    plain = name.partition("[")[0] if "+" not in name else ""
    return [group for group, members in method_groups().items() if group != "all" and plain in members]


def parse_methods(text: str) -> list[Method]:
    """Read a `--methods` value: groups and specs joined by commas, each method once, in the order given.

    Raises:
        UserError: an unknown name or option (with the nearest known one), or text that can't be read.
    """
    found: dict[str, Method] = {}
    for word in filter(None, _split(text, ",")):
        group = method_groups().get(word)
        for spec in group if group is not None else [word]:
            method = parse_method(spec)
            found.setdefault(method.name, method)
    if not found:
        raise UserError("--methods is empty: name a group or methods, such as --methods core.")
    return list(found.values())


def parse_method(text: str) -> Method:
    """Read one method: `name`, `architecture+balancer`, each with `[option=value,…]` where wanted.

    Values are numbers, true/false or words; `3:5` is the list 3, 5, and `3:` the list 3. They are converted to the type
    that the option is annotated with.

    Raises:
        UserError: see `parse_methods`.
    """
    parts = [_read_part(p, text) for p in _split(text, "+")]
    if len(parts) > 2:
        raise UserError(f"'{text}': a method is one architecture and at most one balancer, joined by '+'.")
    (first, words), *rest = parts
    if first in ALIASES and not rest:
        alias = ALIASES.get(first).target
        shared, own = (_options_of(r.get(n).target) for r, n in zip(_PARTS, astuple(alias), strict=True))
        _check_known(f"method '{first}'", words, [*shared, *own])
        balancer_words = {k: v for k, v in words.items() if k in own}
        return _named(
            alias.architecture,
            {k: v for k, v in words.items() if k not in own},
            alias.balancer,
            balancer_words,
        )
    if first not in ARCHITECTURES:
        raise UserError(_unknown(first, text))
    balancer, balancer_words = rest[0] if rest else (PLAIN, {})
    return _named(first, words, balancer, balancer_words)


def _unknown(name: str, text: str) -> str:
    if name in ALIASES:
        pair = "+".join(astuple(ALIASES.get(name).target))
        return f"'{text}': {name} is {pair}, which has its balancer; put another one behind an architecture."
    groups = method_groups()
    if name in groups:
        members = ", ".join(groups[name])
        return f"'{text}': '{name}' is a group and takes no options or balancer; its methods do: {members}."
    known = [*method_names(), *groups]
    hint = did_you_mean(name, known)
    if name in BALANCERS:
        hint = f" It is a balancer: write it behind an architecture, as in architecture+{name}."
    return f"Unknown method '{name}'.{hint} Available: {', '.join(sorted(known))}."


def _named(architecture: str, words: Words, balancer: str, balancer_words: Words) -> Method:
    options = _typed("architecture", architecture, ARCHITECTURES.get(architecture).target, words)
    balancer_options = _typed("balancer", balancer, BALANCERS.get(balancer).target, balancer_words)
    name = architecture + _show(options)
    if balancer != PLAIN or balancer_options:
        name += f"+{balancer}{_show(balancer_options)}"
    pairs = {astuple(entry.target): alias for alias, entry in reversed(ALIASES.entries.items())}  # the first one names
    if not options and balancer != PLAIN and (architecture, balancer) in pairs:
        name = pairs[architecture, balancer] + _show(balancer_options)
    return Method(name, architecture, balancer, options, balancer_options)


def _split(text: str, separator: str) -> list[str]:
    """Split at separators outside brackets."""
    pieces, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == separator and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += letter
    return [p.strip() for p in pieces]


def _read_part(text: str, whole: str) -> tuple[str, Words]:
    match = _PART.fullmatch(text)
    if match is None:
        raise UserError(f"'{whole}' can't be read: write it as name, name[option=value] or architecture+balancer.")
    words: Words = {}
    for pair in _split(match["options"] or "", ","):
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


def _typed(kind: str, name: str, cls: type[Any], words: Words) -> Options:
    """Convert a part's options to the types of its constructor.

    Raises:
        UserError: an option that it does not have, or a value of another type.
    """
    annotations = _options_of(cls)
    _check_known(f"{kind} '{name}'", words, annotations)
    options: Options = {}
    for option, text in words.items():
        annotation = annotations[option]
        adapter = TypeAdapter[Any](
            Any if annotation is inspect.Parameter.empty or isinstance(annotation, str) else annotation,
            config=ConfigDict(allow_inf_nan=False, arbitrary_types_allowed=True),
        )
        for reading in (_value(text), *([_pieces(text)] if ":" in text else []), text):
            try:
                options[option] = adapter.validate_python(reading, strict=not isinstance(reading, str | list))
                break
            except ValidationError as error:
                problem = error
        else:
            said = " or ".join(dict.fromkeys(e["msg"][0].lower() + e["msg"][1:] for e in problem.errors()))
            raise UserError(f"The {kind} '{name}' can't take {option}={text}: {said}.") from problem
    return options


def _show(options: Options) -> str:
    def value(v: Any) -> str:
        if isinstance(v, tuple | list):
            return ":".join(map(value, v)) + (":" if len(v) == 1 else "")
        return str(v).lower() if isinstance(v, bool) else str(v)

    return f"[{','.join(f'{k}={value(v)}' for k, v in sorted(options.items()))}]" if options else ""


def _options_of(cls: type[Any]) -> dict[str, Any]:
    """Return a part's options with their annotations."""
    try:
        signature = inspect.signature(cls, eval_str=True)
    except NameError:  # a name that only type checkers import
        signature = inspect.signature(cls)
    return {p.name: p.annotation for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}


def _check_known(what: str, words: Words, known: Iterable[str]) -> None:
    names = list(known)
    for option in words:
        if option not in names:
            has = f"It has: {', '.join(names)}." if names else "It has none."
            raise UserError(f"The {what} has no option '{option}'.{did_you_mean(option, names)} {has}")

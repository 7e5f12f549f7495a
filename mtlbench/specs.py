"""The user's words for methods: `core`, `modulation,shared`, `shared+gradnorm[alpha=0.12]` -> what to build."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mtlbench.errors import UserError, did_you_mean
from mtlbench.registry import ALIASES, ARCHITECTURES, BALANCERS

if TYPE_CHECKING:
    from mtlbench.architecture import Architecture
    from mtlbench.backbones import BackboneFactory
    from mtlbench.balancer import Balancer

Options = dict[str, Any]
_PART = re.compile(r"(?P<name>[^\[\]+,]+)(\[(?P<options>[^\[\]]*)\])?")
PLAIN = "mean"  # the balancer of a spec that names none


@dataclass(frozen=True)
class Method:
    """An architecture with a balancer, and their options; `name` is what tables and folders call it."""

    name: str
    architecture: str
    balancer: str = PLAIN
    architecture_options: Options = field(default_factory=dict)
    balancer_options: Options = field(default_factory=dict)

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


def parse_methods(text: str) -> list[Method]:
    """Read a `--methods` value: groups and specs joined by commas, each method once, in the order given.

    Raises:
        UserError: an unknown name or option (with the nearest known one), or text that can't be read.
    """
    found: dict[str, Method] = {}
    for word in _split(text, ","):
        group = method_groups().get(word)
        for spec in group if group is not None else [word]:
            method = parse_method(spec)
            found.setdefault(method.name, method)
    if not found:
        raise UserError("--methods is empty: name a group or methods, such as --methods core.")
    return list(found.values())


def parse_method(text: str) -> Method:
    """Read one method: `name`, `architecture+balancer`, each with `[option=value,…]` where wanted.

    Values are numbers, true/false or words; `3:5` is the list 3, 5.

    Raises:
        UserError: see `parse_methods`.
    """
    parts = [_read_part(p, text) for p in _split(text, "+")]
    if len(parts) > 2:
        raise UserError(f"'{text}': a method is one architecture and at most one balancer, joined by '+'.")
    (first, options), *rest = parts
    if first in ALIASES and not rest:
        alias = ALIASES.get(first).target
        taken = _options_of(BALANCERS.get(alias.balancer).target)
        return _named(
            alias.architecture,
            {k: v for k, v in options.items() if k not in taken},
            alias.balancer,
            {k: v for k, v in options.items() if k in taken},
        )
    if first not in ARCHITECTURES:
        known = [*method_names(), *method_groups()]
        raise UserError(f"Unknown method '{first}'.{did_you_mean(first, known)} Available: {', '.join(sorted(known))}.")
    balancer, balancer_options = rest[0] if rest else (PLAIN, {})
    return _named(first, options, balancer, balancer_options)


def _named(architecture: str, options: Options, balancer: str, balancer_options: Options) -> Method:
    _check_options("architecture", architecture, ARCHITECTURES.get(architecture).target, options)
    _check_options("balancer", balancer, BALANCERS.get(balancer).target, balancer_options)
    name = architecture + _show(options)
    if balancer != PLAIN or balancer_options:
        name += f"+{balancer}{_show(balancer_options)}"
    if not options:
        for alias in ALIASES.entries.values():
            if (alias.target.architecture, alias.target.balancer) == (architecture, balancer):
                name = alias.name + _show(balancer_options)
    return Method(name, architecture, balancer, options, balancer_options)


def _split(text: str, separator: str) -> list[str]:
    """Split at separators outside brackets, dropping blanks."""
    pieces, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == separator and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += letter
    return [p.strip() for p in pieces if p.strip()]


def _read_part(text: str, whole: str) -> tuple[str, Options]:
    match = _PART.fullmatch(text)
    if match is None:
        raise UserError(f"'{whole}' can't be read: write it as name, name[option=value] or architecture+balancer.")
    options: Options = {}
    for pair in _split(match["options"] or "", ","):
        key, equals, value = (s.strip() for s in pair.partition("="))
        if not (key and equals and value):
            raise UserError(f"'{whole}': '{pair}' is not option=value.")
        options[key.replace("-", "_")] = _value(value)
    return match["name"].strip(), options


def _value(text: str) -> Any:
    if ":" in text:
        return tuple(_value(piece) for piece in text.split(":") if piece)
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _show(options: Options) -> str:
    def value(v: Any) -> str:
        return ":".join(map(value, v)) if isinstance(v, tuple) else str(v).lower() if isinstance(v, bool) else str(v)

    return f"[{','.join(f'{k}={value(v)}' for k, v in sorted(options.items()))}]" if options else ""


def _options_of(cls: type[Any]) -> list[str]:
    return [p.name for p in inspect.signature(cls).parameters.values() if p.kind is p.KEYWORD_ONLY]


def _check_options(kind: str, name: str, cls: type[Any], options: Options) -> None:
    known = _options_of(cls)
    for option in options:
        if option not in known:
            has = f"It has: {', '.join(known)}." if known else "It has none."
            raise UserError(f"The {kind} '{name}' has no option '{option}'.{did_you_mean(option, known)} {has}")

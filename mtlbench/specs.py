"""The user's words for methods: `core`, `modulation,shared`, `shared+gradnorm[alpha=0.12]` -> what to build."""

from __future__ import annotations

import fnmatch
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import TYPE_CHECKING

from mtlbench.errors import UserError, did_you_mean
from mtlbench.options import Options, Words, check_known, checked, options_of, read_part, show, split, typed
from mtlbench.registry import ALIASES, ARCHITECTURES, BALANCERS, IN_A_FILE, LeftOut

if TYPE_CHECKING:
    from mtlbench.architecture import Architecture
    from mtlbench.backbones import BackboneFactory
    from mtlbench.balancer import Balancer
    from mtlbench.benchmark import Benchmark

_PARTS = (ARCHITECTURES, BALANCERS)
PLAIN = "mean"  # the balancer of a spec that names none
TUNED = "tuned"  # what a row, a run and a folder of a method with a recipe are called by


@dataclass(frozen=True)
class MethodAlias:
    """A method's own name for an architecture with a balancer."""

    architecture: str
    balancer: str


@dataclass(frozen=True)
class Method:
    """An architecture with a balancer, and their options; `name` is what tables and folders call it.

    `recipe` is what it has of a benchmark's recipe, see `Recipe.content`: its options are among the options; None of a
    plain method.
    """

    name: str
    architecture: str
    balancer: str = PLAIN
    architecture_options: Options = field(default_factory=dict)
    balancer_options: Options = field(default_factory=dict)
    recipe: dict[str, Options] | None = None

    def spec_of(self, kind: str) -> str:
        """Return the name of a part, `architecture` or `balancer`, as `mtlbench check` tests it."""
        return self.architecture_spec if kind == "architecture" else self.name

    @property
    def label(self) -> str:
        """What a user reads: its name, and whether it has a recipe."""
        return self.name if self.recipe is None else f"{self.name}, {TUNED}"

    @property
    def folder(self) -> str:
        """What its runs' folder is called."""
        return self.name if self.recipe is None else f"{self.name}@{TUNED}"

    def protocol(self, benchmark: Benchmark) -> Benchmark:
        """Return a benchmark with the settings of its recipe.

        Raises:
            UserError: a setting that there isn't, or a value that doesn't fit.
        """
        settings = {part: values for part, values in (self.recipe or {}).items() if part in ("train", "loss")}
        return benchmark.changed(settings, f"recipes.{self.name}") if settings else benchmark

    def with_recipe(self, content: Mapping[str, Options]) -> Method:
        """Return it with a recipe; options that it has from its user stay.

        Raises:
            UserError: an option that it doesn't have, or a value of another type.
        """
        options = checked("architecture", ARCHITECTURES.get(self.architecture), content.get("options", {}))
        own = checked("balancer", BALANCERS.get(self.balancer), content.get("balancer_options", {}))
        return replace(
            self,
            architecture_options=options | self.architecture_options,
            balancer_options=own | self.balancer_options,
            recipe={part: dict(values) for part, values in content.items() if values},
        )

    @property
    def architecture_spec(self) -> str:
        """The architecture with its options, as a user writes it."""
        return self.architecture + show(self.architecture_options)

    def build(self, backbones: BackboneFactory, tasks: Sequence[str]) -> tuple[Architecture, Balancer]:
        """Build both parts.

        Raises:
            UserError: an option has a value that the part refuses, or the two don't go together.
        """
        from mtlbench.balancer import check_share  # torch comes with it

        architecture = ARCHITECTURES.get(self.architecture).target(backbones, tasks, **self.architecture_options)
        balancer = BALANCERS.get(self.balancer).target(tasks, **self.balancer_options)
        balancer.check(architecture)
        check_share(self.balancer, balancer, architecture)
        for part in (architecture, balancer):
            for scale in part.learning_rate_scales(adaptive=True).values():
                if not 0 < scale < math.inf:
                    raise UserError(f"{self.name}: a rate, a multiple of the learning rate, must be above 0.")
        return architecture, balancer


def register_method(
    name: str, *, architecture: str, balancer: str, groups: Sequence[str] = (), summary: str = ""
) -> None:
    """Give an architecture with a balancer a method name of its own (`gradnorm` for `shared+gradnorm`).

    >>> from mtlbench import register_method
    >>> register_method("film-pcgrad", architecture="film", balancer="pcgrad", groups=("mine",))

    Raises:
        UserError: the name is taken.
    """
    caller = sys._getframe(1)
    origin = f"{caller.f_code.co_filename}:{caller.f_lineno}"
    ALIASES.add(name, MethodAlias(architecture, balancer), groups=groups, summary=summary, origin=origin)


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


def left_out_methods(text: str = "all") -> list[LeftOut]:
    """Return the methods that the groups in a `--methods` value lack, since packages that they need are missing."""
    words = split(text, ",")
    waiting = [one for name, one in ALIASES.left_out.items() if name not in ALIASES]
    return [one for one in waiting if "all" in words or set(one.groups) & set(words)]


def left_out_line(waiting: Sequence[LeftOut]) -> str:
    """Return how many methods are left out, which, and what brings them, in one line."""
    parts = dict.fromkeys(f"'mtlbench[{one.extra}]'" if one.extra else " ".join(one.packages) for one in waiting)
    return f"{len(waiting)} left out ({', '.join(one.name for one in waiting)}): pip install {' '.join(parts)}"


def groups_of(name: str) -> list[str]:
    """Return the groups that a method is in, whatever its options; a pair without a name of its own is in none."""
    plain = name.partition("[")[0] if "+" not in name else ""
    return [group for group, members in method_groups().items() if group != "all" and plain in members]


def parse_methods(text: str) -> list[Method]:
    """Read a `--methods` value: groups, patterns of names and specs, joined by commas, each method once, in order.

    `csn*` stands for all methods whose names begin so.

    Raises:
        UserError: an unknown name or option (with the nearest known one), or text that can't be read.
    """
    found: dict[str, Method] = {}
    for word in filter(None, split(text, ",")):
        for spec in method_groups().get(word) or _fitting(word) or [word]:
            method = parse_method(spec)
            found.setdefault(method.name, method)
    if not found:
        raise UserError("--methods is empty: name a group or methods, such as --methods core.")
    return list(found.values())


def _fitting(word: str) -> list[str]:
    """Return the methods whose names fit a pattern; nothing for a word that is none.

    Raises:
        UserError: no name fits it.
    """
    if not re.search(r"[*?]", word) or re.search(r"[\[+]", word):
        return []
    found = sorted(name for name in method_names() if fnmatch.fnmatchcase(name, word))
    if not found:
        raise UserError(f"--methods {word}: no method has such a name. Available: {', '.join(sorted(method_names()))}.")
    return found


def parse_method(text: str) -> Method:
    """Read one method: `name`, `architecture+balancer`, each with `[option=value,…]` where wanted.

    Values are numbers, true/false or words; `3:5` is the list 3, 5, and `3:` the list 3. They are converted to the type
    that the option is annotated with.

    Raises:
        UserError: see `parse_methods`.
    """
    parts = [read_part(p, text) for p in split(text, "+")]
    if len(parts) > 2:
        raise UserError(f"'{text}': a method is one architecture and at most one balancer, joined by '+'.")
    (first, words), *rest = parts
    if first in ALIASES and not rest:
        alias = ALIASES.get(first).target
        shared, own = (options_of(r.get(n).target) for r, n in zip(_PARTS, astuple(alias), strict=True))
        check_known(f"method '{first}'", words, [*shared, *own])
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
        return f"'{text}': {name} is {pair}, which already has a balancer; write another one after an architecture."
    if name in ALIASES.left_out:
        return f"{ALIASES.left_out[name]}."
    groups = method_groups()
    if name in groups:
        members = ", ".join(groups[name])
        return f"'{text}': '{name}' is a group and takes no options or balancer; its methods do: {members}."
    known = [*method_names(), *groups]
    hint = did_you_mean(name, known)
    if name in BALANCERS:
        hint = f" It is a balancer: write it after an architecture, as in architecture+{name}."
    return f"Unknown method '{name}'.{hint} Available: {', '.join(sorted(known))}. {IN_A_FILE}"


def _named(architecture: str, words: Words, balancer: str, balancer_words: Words) -> Method:
    options = typed("architecture", architecture, ARCHITECTURES.get(architecture).target, words)
    balancer_options = typed("balancer", balancer, BALANCERS.get(balancer).target, balancer_words)
    name = architecture + show(options)
    if balancer != PLAIN or balancer_options:
        name += f"+{balancer}{show(balancer_options)}"
    pairs = {astuple(entry.target): alias for alias, entry in reversed(ALIASES.entries.items())}  # the first one names
    if not options and balancer != PLAIN and (architecture, balancer) in pairs:
        name = pairs[architecture, balancer] + show(balancer_options)
    return Method(name, architecture, balancer, options, balancer_options)

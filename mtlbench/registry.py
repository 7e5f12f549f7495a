"""Where things are found by name: one registry per kind, filled by decorators at the contracts.

`plugins.py` imports the files that register; `specs.py` turns a user's words into methods, `options.py` into options.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

from mtlbench.bibliography import bibtex
from mtlbench.errors import UserError, a, did_you_mean
from mtlbench.names import NO_METHODS

T = TypeVar("T")
IN_A_FILE = "One in a file of your own needs --plugins FILE."  # what an unknown name is answered with
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


class RegistrationError(UserError):
    """What can't be registered, and where it stands.

    Args:
        origin: file:line; what: one sentence.
    """

    def __init__(self, origin: str, what: str) -> None:
        super().__init__(f"{origin}: {what}")
        self.origin, self.what = origin, what


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered thing: its name, the thing, and where it comes from."""

    name: str
    target: T
    groups: tuple[str, ...]
    summary: str
    origin: str  # file:line
    cite: str = ""  # BibTeX
    shares: str = ""  # what tasks share, in words
    bundled: bool = False  # it comes with the engine
    needs: tuple[str, ...] = ()  # packages to install beside mtlbench
    extra: str = ""  # mtlbench's extra that brings them
    loaded_from: str = ""  # the plug-in whose import registered it

    def left_out(self, name: str = "", groups: tuple[str, ...] = ()) -> LeftOut | None:
        """Return what is missing for it to work, and how to get it; None where nothing is.

        Args:
            name: of what is left out, where that isn't the entry itself but a method of it.
            groups: which hold it.
        """
        missing = tuple(package for package in self.needs if find_spec(package) is None)
        if not missing:
            return None
        return LeftOut(name or self.name, groups, missing, self.extra)


@dataclass(frozen=True)
class LeftOut:
    """A thing that would be registered if packages that it needs were installed."""

    name: str
    groups: tuple[str, ...]
    packages: tuple[str, ...]  # those missing
    extra: str = ""  # mtlbench's, which brings them

    def __str__(self) -> str:
        either = f", or pip install 'mtlbench[{self.extra}]'" if self.extra else ""
        return f"{self.name} needs {' and '.join(self.packages)}: pip install {' '.join(self.packages)}{either}"


@dataclass(frozen=True)
class Family(Generic[T]):
    """Things whose names begin alike, `timm:resnet18`: made when one is asked for."""

    prefix: str  # without the colon
    member: Callable[[str], T]  # takes what follows the colon; raises UserError where there is none
    summary: str
    origin: str
    bundled: bool = False  # it comes with the engine
    needs: tuple[str, ...] = ()  # packages to install beside mtlbench


@dataclass(frozen=True)
class Snapshot(Generic[T]):
    """What a registry held at some time."""

    registry: Registry[T]
    entries: dict[str, Entry[T]]
    families: dict[str, Family[T]]
    left_out: dict[str, LeftOut]

    def restore(self) -> None:
        """Take back what was registered since, but what comes with the engine: its files are imported only once."""
        here = self.registry
        here.entries = self.entries | {n: e for n, e in here.entries.items() if e.bundled}
        here.families = self.families | {n: f for n, f in here.families.items() if f.bundled}
        here.left_out = self.left_out


class Registry(Generic[T]):
    """Things of one kind by name.

    Names are lower case, with letters, digits, dots, hyphens and underscores. `all` and group names can't be entries.
    Registries that are `beside` each other share names: what the user writes must mean one thing.

    Args:
        kind: what one thing is called in messages: "loss".
        also: a further character that names may have.
        home: the package, or module, whose files register what comes with the engine; it is imported when something is
            looked up for the first time.
    """

    def __init__(self, kind: str, home: str = "", also: str = "") -> None:
        self.kind = kind
        self._name = re.compile(_NAME.pattern.replace("._-", f"{also}._-"))
        self.home = home
        self.entries: dict[str, Entry[T]] = {}
        self.families: dict[str, Family[T]] = {}
        self.left_out: dict[str, LeftOut] = {}  # entries that were taken out again, for want of a package
        self.beside: tuple[Registry[Any], ...] = ()
        self._loaded, self._loading = not home, False

    def load(self) -> None:
        """Import the home's files, once."""
        if self._loaded:
            return
        self._loaded, self._loading = True, True
        try:
            home = import_module(self.home)
            for module in pkgutil.iter_modules(getattr(home, "__path__", [])):
                import_module(f"{self.home}.{module.name}")
        finally:
            self._loading = False

    def add(
        self,
        name: str,
        target: T,
        *,
        groups: Sequence[str] = (),
        summary: str = "",
        origin: str = "",
        cite: str = "",
        shares: str = "",
        needs: Sequence[str] = (),
        extra: str = "",
    ) -> None:
        """Register `target` under `name`.

        Raises:
            UserError: the name or a group's is malformed, taken, or one of a group.
        """
        self.load()  # else an engine's own entry would come later and find its name taken
        if isinstance(groups, str):
            raise RegistrationError(origin, f"write the groups of '{name}' as a tuple: groups=('{groups}',).")
        for word, what in ((name, self.kind), *((group, "group") for group in groups)):
            if not self._name.fullmatch(word):
                raise RegistrationError(
                    origin, f"'{word}' can't name {a(what)}: use lower-case letters, digits, . - and _."
                )
        family = (self, *self.beside)
        for registry in family:
            # a notebook's cell that runs again replaces what it registered before
            again = registry is self and name in self.entries and interactive(self.entries[name].origin)
            if name in registry.entries and not (again and interactive(origin)):
                raise RegistrationError(
                    origin,
                    f"the name '{name}' of this {self.kind} is registered already, for the {registry.kind} of"
                    f" {registry.entries[name].origin}; rename one.",
                )
            for group in groups:
                if group in registry.entries:
                    raise RegistrationError(
                        origin,
                        f"the group '{group}' of '{name}' has the name of the {registry.kind} of"
                        f" {registry.entries[group].origin}; rename one.",
                    )
        if name == "all" or name in groups or any(name in registry.groups() for registry in family):
            raise RegistrationError(origin, f"'{name}' is the name of a group; call the {self.kind} something else.")
        if name == "none":
            raise RegistrationError(origin, f"'none' stands for nothing; call the {self.kind} something else.")
        if ALIASES in family and name in NO_METHODS:
            raise RegistrationError(
                origin,
                f"'{name}' is {NO_METHODS[name]} beside the runs of methods; call the {self.kind} something else.",
            )
        if "all" in groups:
            raise RegistrationError(origin, f"'{name}' is in the group 'all' anyway; leave that group out.")
        self.entries[name] = Entry(
            name,
            target,
            tuple(groups),
            summary,
            origin,
            inspect.cleandoc(cite),
            shares,
            self._is_bundled(target),
            tuple(needs),
            extra,
        )

    def _is_bundled(self, target: object) -> bool:
        """Return whether a thing comes with the engine, whose files are imported once, whoever asks for them first."""
        module = str(getattr(target, "__module__", ""))
        return self._loading or (bool(self.home) and module.startswith(self.home))

    def add_family(
        self,
        prefix: str,
        member: Callable[[str], T],
        *,
        summary: str = "",
        origin: str = "",
        needs: Sequence[str] = (),
    ) -> None:
        """Register all names `prefix:…`; `member` makes the one that is asked for, of the packages that it `needs`.

        Raises:
            UserError: the prefix is malformed or taken.
        """
        self.load()
        if not _NAME.fullmatch(prefix) or prefix in self.families:
            raise RegistrationError(origin, f"'{prefix}:' can't name a family: it is taken or not lower case.")
        self.families[prefix] = Family(prefix, member, summary, origin, self._is_bundled(member), tuple(needs))

    def snapshot(self) -> Snapshot[T]:
        """Return what is registered now, for `restore`."""
        return Snapshot(self, dict(self.entries), dict(self.families), dict(self.left_out))

    def get(self, name: str) -> Entry[T]:
        """Return the entry called `name`.

        Raises:
            UserError: there is none; the message names the nearest and all that there are.
        """
        self.load()
        if name in self.entries:
            return self.entries[name]
        prefix, colon, rest = name.partition(":")
        if colon and prefix in self.families:
            family = self.families[prefix]
            return Entry(name, family.member(rest), (), family.summary, family.origin, needs=family.needs)
        raise UserError(
            f"Unknown {self.kind} '{name}'.{did_you_mean(name, self.entries)} Available: {', '.join(self.names())}."
            f" {IN_A_FILE}"
        )

    def names(self) -> list[str]:
        """Return every name, and `prefix:<name>` for each family."""
        return [*self, *(f"{prefix}:<name>" for prefix in self.families)]

    def groups(self) -> dict[str, list[str]]:
        """Return the group names, each with its members in order of registration."""
        found: dict[str, list[str]] = {}
        for entry in self.entries.values():
            for group in entry.groups:
                found.setdefault(group, []).append(entry.name)
        return found

    def __contains__(self, name: str) -> bool:
        self.load()
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        self.load()
        return iter(self.entries)


ARCHITECTURES: Registry[type[Any]] = Registry("architecture")
BALANCERS: Registry[type[Any]] = Registry("balancer")
ALIASES: Registry[Any] = Registry("method")
ARCHITECTURES.beside, ALIASES.beside = (ALIASES,), (ARCHITECTURES,)
BACKBONES: Registry[Any] = Registry("backbone", "mtlbench.backbones")
READERS: Registry[type[Any]] = Registry("reader", "mtlbench.datasets")
SAMPLERS: Registry[type[Any]] = Registry("sampler", "mtlbench.sampling")
LOSSES: Registry[type[Any]] = Registry("loss", "mtlbench.losses")
AUGMENTATIONS: Registry[Any] = Registry("augmentation", "mtlbench.augmentation")
OPTIMISERS: Registry[Any] = Registry("optimiser", "mtlbench.optimisers")
METRICS: Registry[Any] = Registry("metric", "mtlbench.evaluation.metrics", also="@")
EXECUTORS: Registry[type[Any]] = Registry("executor", "mtlbench.jobs.executors")
TRACKERS: Registry[type[Any]] = Registry("tracker", "mtlbench.trackers")
KINDS: dict[str, Registry[Any]] = {
    "architectures": ARCHITECTURES,
    "balancers": BALANCERS,
    "methods": ALIASES,
    "backbones": BACKBONES,
    "readers": READERS,
    "samplers": SAMPLERS,
    "losses": LOSSES,
    "augmentations": AUGMENTATIONS,
    "optimisers": OPTIMISERS,
    "metrics": METRICS,
    "executors": EXECUTORS,
    "trackers": TRACKERS,
}
"""Every kind by the word that `mtlbench list` takes."""


def interactive(origin: str) -> bool:
    """Return whether something was defined in a notebook or at a prompt: in no file."""
    return not Path(origin.rpartition(":")[0]).is_file()


def origin_of(thing: Any) -> str:
    """Return where a class or function is defined, as file:line; its module where that is a notebook or a prompt."""
    try:
        return f"{inspect.getsourcefile(thing)}:{inspect.getsourcelines(thing)[1]}"
    except (OSError, TypeError):  # defined where there is no source: a prompt, a notebook
        return str(thing.__module__)


def summary_of(thing: Any) -> str:
    """Return the first line of a class's or function's own docstring."""
    return inspect.cleandoc(thing.__doc__ or "").split("\n", 1)[0]  # its own: an inherited one speaks of the contract


def check_arguments(kind: str, name: str, thing: Callable[..., Any], given: Sequence[str], origin: str) -> None:
    """Refuse a class or function that does not take what it is given, or options that are not keyword-only.

    Args:
        kind, name: what it is and is called.
        thing: the class or function.
        given: the names of what mtlbench gives it, in their order.
        origin: where it stands.

    Raises:
        RegistrationError: with the way to write it.
    """
    try:
        parameters = list(inspect.signature(thing).parameters.values())
    except (TypeError, ValueError):  # a callable without a signature
        return
    own = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    options = own[len(given) :]
    if options:
        written = ", ".join([*own[: len(given)], "*", *(f"{option}=…" for option in options)])
        raise RegistrationError(
            origin, f"the {kind} '{name}' must take its options as keyword-only arguments, behind a star: ({written})."
        )
    if len(own) < len(given) and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise RegistrationError(origin, f"the {kind} '{name}' must take {' and '.join(given)}, not ({', '.join(own)}).")


def register_class(
    registry: Registry[type[Any]], base: type[Any], name: str, *, cite: str = "", **facts: Any
) -> Callable[[type[T]], type[T]]:
    """Class decorator of a kind: check that the class keeps the kind's contract `base`, and register it.

    Args:
        registry: of the kind.
        base: its contract.
        name: what users call the class.
        cite: its source: a BibTeX entry, or a key of methods/references.bib.
        facts: groups, shares, needs, extra; see `Entry`.

    Raises:
        RegistrationError: the class is no subclass of `base`, lacks an abstract method, its source is neither a key nor
            an entry, or the name is taken.
    """

    def decorate(cls: type[T]) -> type[T]:
        origin = origin_of(cls)
        if not (inspect.isclass(cls) and issubclass(cls, base)):
            raise RegistrationError(
                origin, f"the {registry.kind} '{name}' must be a subclass of mtlbench.{base.__name__}."
            )
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        if missing:
            raise RegistrationError(origin, f"the {registry.kind} '{name}' lacks {missing}.")
        check_arguments(registry.kind, name, cls, list(inspect.signature(base).parameters), origin)
        try:
            source = bibtex(cite)
        except UserError as error:
            raise RegistrationError(origin, f"the {registry.kind} '{name}': {error}") from error
        registry.add(name, cls, summary=summary_of(cls), origin=origin, cite=source, **facts)
        return cls

    return decorate

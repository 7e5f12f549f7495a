"""Where methods are found by name: registries, and the plug-in folders, files and entry points that fill them.

Knows nothing of what a method does; `specs.py` turns the user's words into methods.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from mtlbench.errors import UserError, did_you_mean

T = TypeVar("T")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


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


class Registry(Generic[T]):
    """Things of one kind by name.

    Names are lower case, with letters, digits, dots, hyphens and underscores. `all` and group names can't be entries.
    Registries that are `beside` each other share names: what the user writes must mean one thing.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.entries: dict[str, Entry[T]] = {}
        self.beside: tuple[Registry[Any], ...] = ()

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
    ) -> None:
        """Register `target` under `name`.

        Raises:
            UserError: the name or a group's is malformed, taken, or one of a group.
        """
        if isinstance(groups, str):
            raise UserError(f"{origin}: write the groups of '{name}' as a tuple: groups=('{groups}',).")
        for word, what in ((name, self.kind), *((group, "group") for group in groups)):
            if not _NAME.fullmatch(word):
                raise UserError(f"{origin}: '{word}' can't name a {what}: use lower-case letters, digits, . - and _.")
        family = (self, *self.beside)
        for registry in family:
            if name in registry:
                raise UserError(
                    f"{origin}: the name '{name}' of this {self.kind} is registered already, for the {registry.kind} of"
                    f" {registry.entries[name].origin}; rename one."
                )
            for group in groups:
                if group in registry:
                    raise UserError(
                        f"{origin}: the group '{group}' of '{name}' has the name of the {registry.kind} of"
                        f" {registry.entries[group].origin}; rename one."
                    )
        if name == "all" or name in groups or any(name in registry.groups() for registry in family):
            raise UserError(f"{origin}: '{name}' is the name of a group; call the {self.kind} something else.")
        if "all" in groups:
            raise UserError(f"{origin}: '{name}' is in the group 'all' anyway; leave that group out.")
        self.entries[name] = Entry(name, target, tuple(groups), summary, origin, inspect.cleandoc(cite), shares)

    def get(self, name: str) -> Entry[T]:
        """Return the entry called `name`.

        Raises:
            UserError: there is none; the message names the nearest and all that there are.
        """
        if name not in self.entries:
            raise UserError(
                f"Unknown {self.kind} '{name}'.{did_you_mean(name, self.entries)} Available: {', '.join(self)}."
            )
        return self.entries[name]

    def groups(self) -> dict[str, list[str]]:
        """Return the group names, each with its members in order of registration."""
        found: dict[str, list[str]] = {}
        for entry in self.entries.values():
            for group in entry.groups:
                found.setdefault(group, []).append(entry.name)
        return found

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)


@dataclass(frozen=True)
class MethodAlias:
    """A method's own name for an architecture with a balancer."""

    architecture: str
    balancer: str


ARCHITECTURES: Registry[type[Any]] = Registry("architecture")
BALANCERS: Registry[type[Any]] = Registry("balancer")
ALIASES: Registry[MethodAlias] = Registry("method")
ARCHITECTURES.beside, ALIASES.beside = (ALIASES,), (ARCHITECTURES,)


def _origin_of(thing: type[Any]) -> str:
    try:
        return f"{inspect.getsourcefile(thing)}:{inspect.getsourcelines(thing)[1]}"
    except (OSError, TypeError):  # defined where there is no source: a prompt, a notebook
        return thing.__module__


def _summary_of(thing: type[Any]) -> str:
    return inspect.cleandoc(thing.__doc__ or "").split("\n", 1)[0]  # its own: an inherited one speaks of the contract


def _register_class(
    registry: Registry[type[Any]], base: type[Any], name: str, **facts: Any
) -> Callable[[type[T]], type[T]]:
    def decorate(cls: type[T]) -> type[T]:
        origin = _origin_of(cls)
        if not (inspect.isclass(cls) and issubclass(cls, base)):
            raise UserError(f"{origin}: the {registry.kind} '{name}' must be a subclass of mtlbench.{base.__name__}.")
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        if missing:
            raise UserError(f"{origin}: the {registry.kind} '{name}' lacks {missing}.")
        registry.add(name, cls, summary=_summary_of(cls), origin=origin, **facts)
        return cls

    return decorate


def register_architecture(
    name: str, *, groups: Sequence[str] = (), cite: str = "", shares: str = ""
) -> Callable[[type[T]], type[T]]:
    """Class decorator: make an `Architecture` known as `name`; with the plain mean of losses it is a method too.

    >>> from mtlbench import Architecture, register_architecture
    >>> @register_architecture("one-for-all", groups=("mine",), shares="everything")
    ... class OneForAll(Architecture):
    ...     '''One network, which knows of no task.'''
    ...
    ...     def __init__(self, backbones, tasks):
    ...         super().__init__(backbones, tasks)
    ...         self.net = backbones.backbone()
    ...
    ...     def forward(self, images):
    ...         return self.net(images.flatten(0, 1)).unflatten(0, images.shape[:2])

    In a file, `mtlbench run --methods mine --plugins that_file.py` finds it.

    Args:
        name: what users call it.
        groups: by which `--methods` finds it beside others.
        cite: a BibTeX entry of its source; lists take the year and the title from it.
        shares: what the tasks share, in a few words.

    Raises:
        UserError: no subclass of `Architecture`, abstract methods left, or the name is taken.
    """
    from mtlbench.architecture import Architecture

    return _register_class(ARCHITECTURES, Architecture, name, groups=groups, cite=cite, shares=shares)


def register_balancer(name: str, *, cite: str = "") -> Callable[[type[T]], type[T]]:
    """Class decorator: make a `Balancer` known as `name`, to be used as `architecture+name`.

    >>> import torch
    >>> from mtlbench import Balancer, register_balancer
    >>> @register_balancer("by-turns")
    ... class ByTurns(Balancer):
    ...     '''One task a step, at random.'''
    ...
    ...     def backward(self, losses, architecture):
    ...         weights = torch.zeros_like(losses.detach())
    ...         weights[torch.randint(len(losses), ())] = len(losses)
    ...         self.weighted_backward(losses, weights, architecture)
    ...         return weights

    Args:
        name: what users call it.
        cite: a BibTeX entry of its source.

    Raises:
        UserError: no subclass of `Balancer`, abstract methods left, or the name is taken.
    """
    from mtlbench.balancer import Balancer

    return _register_class(BALANCERS, Balancer, name, cite=cite)


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


@dataclass(frozen=True)
class BrokenPlugin:
    """A plug-in that could not be imported, and where it broke."""

    source: str
    where: str  # file:line
    reason: str

    def __str__(self) -> str:
        return f"plug-in {self.source} left out: {self.reason} ({self.where})"


def bundled(folder: str) -> Path:
    """Return a folder that comes with mtlbench (`methods`, `benchmarks`).

    Installed, it lies inside the package; in a checkout, beside it.
    """
    inside = Path(__file__).parent / folder
    return inside if inside.is_dir() else Path(__file__).parent.parent / folder


def _broken(source: str, error: BaseException) -> BrokenPlugin:
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_file():
        return BrokenPlugin(source, f"{error.filename}:{error.lineno}", f"{type(error).__name__}: {error.msg}")
    frames = traceback.extract_tb(error.__traceback__)
    machinery = ("importlib", __file__)
    theirs = [f for f in frames if not any(part in f.filename for part in machinery)]
    own = [f for f in frames if f.filename == source] or theirs
    where = f"{own[-1].filename}:{own[-1].lineno}" if own else source
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return BrokenPlugin(source, where, f"{kind}{error}")


def _guarded(source: str, load: Callable[[], object]) -> BrokenPlugin | None:
    """Run one plug-in's import; when it breaks, take back what it had registered and say where it broke."""
    registries: tuple[Registry[Any], ...] = (ARCHITECTURES, BALANCERS, ALIASES)
    before = [dict(r.entries) for r in registries]
    try:
        load()
    except (Exception, SystemExit) as error:  # a plug-in may break in any way; it is reported, never hidden
        for registry, entries in zip(registries, before, strict=True):
            registry.entries = entries
        return _broken(source, error)
    return None


def _import_file(path: Path, module_name: str) -> None:
    if module_name in sys.modules and getattr(sys.modules[module_name], "__file__", None) == str(path):
        return
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise


def _files(path: Path, given_as: str) -> list[Path]:
    if path.is_file():
        return [path.resolve()]
    if not path.is_dir():
        raise UserError(f"{given_as} {path}: there is no such file or folder.")
    files = sorted(f.resolve() for f in path.glob("*.py") if not f.name.startswith("_"))
    if not files:
        raise UserError(f"{given_as} {path}: the folder has no .py file to load (those that begin with _ are not).")
    return files


def _module_name(file: Path) -> str:
    """Return a file's one module name: under another, it would be loaded twice and clash with itself."""
    if file.parent == bundled("methods").resolve():
        return f"mtlbench.methods.{file.stem}"
    return f"mtlbench_plugins.{file}"


def load_plugins(extra: Sequence[Path] = ()) -> list[BrokenPlugin]:
    """Import every method: the bundled folder, `MTLBENCH_PLUGINS`, `extra` files or folders, and installed packages.

    `MTLBENCH_PLUGINS` holds paths separated as in PATH; packages offer modules in the entry-point group
    `mtlbench.plugins`. Loading again imports only what is new. A named method whose architecture or balancer did not
    load is left out too.

    Returns:
        what could not be imported; everything else works.

    Raises:
        UserError: a path in `extra` or `MTLBENCH_PLUGINS` does not exist, or is a folder without Python files.
    """
    importlib.import_module("mtlbench.balancer")  # registers the plain mean before a broken plug-in can take it back
    named = [Path(p).expanduser() for p in os.environ.get("MTLBENCH_PLUGINS", "").split(os.pathsep) if p]
    files = [
        *_files(bundled("methods"), "the bundled methods"),
        *(file for path in named for file in _files(path, "MTLBENCH_PLUGINS")),
        *(file for path in extra for file in _files(path.expanduser(), "--plugins")),
    ]
    broken = [_guarded(str(file), partial(_import_file, file, _module_name(file))) for file in dict.fromkeys(files)]
    for point in importlib.metadata.entry_points(group="mtlbench.plugins"):
        broken.append(_guarded(f"{point.name} ({point.value})", point.load))
    return [*(b for b in broken if b is not None), *_take_back_incomplete()]


def _take_back_incomplete() -> list[BrokenPlugin]:
    """Take back named methods whose architecture or balancer is not there, so that groups hold only what works."""
    left_out = []
    for alias in list(ALIASES.entries.values()):
        parts = ((ARCHITECTURES, alias.target.architecture), (BALANCERS, alias.target.balancer))
        for registry, part in parts:
            if part not in registry:
                ALIASES.entries.pop(alias.name, None)
                reason = f"there is no {registry.kind} '{part}' for it.{did_you_mean(part, registry)}"
                left_out.append(BrokenPlugin(alias.name, alias.origin, reason))
    return left_out

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


class Registry(Generic[T]):
    """Things of one kind by name.

    Names are lower case, with letters, digits, dots, hyphens and underscores. `all` and group names can't be entries.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.entries: dict[str, Entry[T]] = {}

    def add(self, name: str, target: T, *, groups: Sequence[str] = (), summary: str = "", origin: str = "") -> None:
        """Register `target` under `name`.

        Raises:
            UserError: the name is malformed, taken, or the name of a group.
        """
        if not _NAME.fullmatch(name):
            raise UserError(f"{origin}: '{name}' can't name a {self.kind}: use lower-case letters, digits, . - and _.")
        if name in self.entries:
            raise UserError(
                f"{origin}: the {self.kind} '{name}' is registered already, by {self.entries[name].origin}; rename one."
            )
        if name == "all" or name in self.groups() or name in groups:
            raise UserError(f"{origin}: '{name}' is the name of a group; call the {self.kind} something else.")
        for group in groups:
            if group in self.entries or group == "all":
                raise UserError(f"{origin}: the group '{group}' of '{name}' has the name of a {self.kind}; rename one.")
        self.entries[name] = Entry(name, target, tuple(groups), summary, origin)

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


def _origin_of(thing: type[Any]) -> str:
    try:
        return f"{inspect.getsourcefile(thing)}:{inspect.getsourcelines(thing)[1]}"
    except (OSError, TypeError):  # defined where there is no source: a prompt, a notebook
        return thing.__module__


def _summary_of(thing: type[Any]) -> str:
    return (inspect.getdoc(thing) or "").split("\n", 1)[0]


def _register_class(
    registry: Registry[type[Any]], base: type[Any], name: str, groups: Sequence[str]
) -> Callable[[type[T]], type[T]]:
    def decorate(cls: type[T]) -> type[T]:
        origin = _origin_of(cls)
        if not (inspect.isclass(cls) and issubclass(cls, base)):
            raise UserError(f"{origin}: the {registry.kind} '{name}' must be a subclass of mtlbench.{base.__name__}.")
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        if missing:
            raise UserError(f"{origin}: the {registry.kind} '{name}' lacks {missing}.")
        registry.add(name, cls, groups=groups, summary=_summary_of(cls), origin=origin)
        return cls

    return decorate


def register_architecture(name: str, *, groups: Sequence[str] = ()) -> Callable[[type[T]], type[T]]:
    """Class decorator: make an `Architecture` known as `name`; with the plain mean of losses it is a method too.

    Raises:
        UserError: no subclass of `Architecture`, abstract methods left, or the name is taken.
    """
    from mtlbench.architecture import Architecture

    if name in ALIASES:
        raise UserError(f"The architecture '{name}' has the name of a method of {ALIASES.get(name).origin}; rename it.")
    return _register_class(ARCHITECTURES, Architecture, name, groups)


def register_balancer(name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: make a `Balancer` known as `name`, to be used as `architecture+name`.

    Raises:
        UserError: no subclass of `Balancer`, abstract methods left, or the name is taken.
    """
    from mtlbench.balancer import Balancer

    return _register_class(BALANCERS, Balancer, name, ())


def register_method(
    name: str, *, architecture: str, balancer: str, groups: Sequence[str] = (), summary: str = ""
) -> None:
    """Give an architecture with a balancer a method name of its own (`gradnorm` for `shared+gradnorm`).

    Raises:
        UserError: the name is taken.
    """
    caller = sys._getframe(1)
    origin = f"{caller.f_code.co_filename}:{caller.f_lineno}"
    if name in ARCHITECTURES:
        raise UserError(f"{origin}: the method '{name}' has the name of an architecture; rename it.")
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
    if isinstance(error, SyntaxError):
        return BrokenPlugin(source, f"{error.filename}:{error.lineno}", f"SyntaxError: {error.msg}")
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename == source] or [f for f in frames if "importlib" not in f.filename] or frames
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


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(f for f in path.glob("*.py") if not f.name.startswith("_"))
    if path.is_file():
        return [path]
    raise UserError(f"--plugins {path}: there is no such file or folder.")


def load_plugins(extra: Sequence[Path] = ()) -> list[BrokenPlugin]:
    """Import every method: the bundled folder, `MTLBENCH_PLUGINS`, `extra` files or folders, and installed packages.

    `MTLBENCH_PLUGINS` holds paths separated as in PATH; packages offer modules in the entry-point group
    `mtlbench.plugins`. Loading again imports only what is new.

    Returns:
        what could not be imported; everything else works.

    Raises:
        UserError: a path in `extra` or `MTLBENCH_PLUGINS` does not exist.
    """
    broken: list[BrokenPlugin | None] = []
    for file in _files(bundled("methods")):
        name = f"mtlbench.methods.{file.stem}"
        broken.append(_guarded(str(file), lambda f=file, n=name: _import_file(f, n)))  # type: ignore[misc]
    named = [Path(p) for p in os.environ.get("MTLBENCH_PLUGINS", "").split(os.pathsep) if p]
    for path in (*named, *extra):
        for file in _files(path.expanduser()):
            resolved = file.resolve()
            name = f"mtlbench_plugins.{resolved.parent.name}.{resolved.stem}"
            broken.append(_guarded(str(resolved), lambda f=resolved, n=name: _import_file(f, n)))  # type: ignore[misc]
    for point in importlib.metadata.entry_points(group="mtlbench.plugins"):
        broken.append(_guarded(f"{point.name} ({point.value})", point.load))
    return [b for b in broken if b is not None]

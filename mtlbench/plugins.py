"""Loads what registers methods and the other kinds: bundled files, users' files and folders, installed packages."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from mtlbench.bundled import bundled
from mtlbench.errors import FAULTS, UserError, did_you_mean
from mtlbench.registry import ALIASES, ARCHITECTURES, BALANCERS, KINDS, Entry, RegistrationError

_LONGEST = 300  # characters of an exception's own words
_FOLDERS: list[Path] = []  # of plug-ins, the latest first; they stand last in sys.path
_LOADED: dict[Path, dict[Path, bytes]] = {}  # the sources that each plug-in was made of when it was imported


@dataclass(frozen=True)
class BrokenPlugin:
    """A plug-in that could not be imported, and where it broke."""

    source: str
    where: str  # file:line
    reason: str

    def __str__(self) -> str:
        return f"plug-in {self.source} left out: {self.reason} ({self.where})"


def _broken(source: str, error: BaseException) -> BrokenPlugin:
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_file():
        return BrokenPlugin(source, f"{error.filename}:{error.lineno}", f"{type(error).__name__}: {error.msg}")
    frames = traceback.extract_tb(error.__traceback__)
    machinery = ("importlib", str(Path(__file__).parent) + os.sep)
    theirs = [f for f in frames if not any(part in f.filename for part in machinery)]
    own = [f for f in frames if f.filename == source] or theirs
    where = f"{own[-1].filename}:{own[-1].lineno}" if own else source
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    words = " ".join((error.what.rstrip(".") if isinstance(error, RegistrationError) else str(error)).split())
    words = f"{words[:_LONGEST]} …" if len(words) > _LONGEST else words
    return BrokenPlugin(source, where, f"{kind}{words}")


def _guarded(source: str, load: Callable[[], object]) -> BrokenPlugin | None:
    """Run one plug-in's import; when it breaks, take back what it had registered and say where it broke."""
    before = [registry.snapshot() for registry in KINDS.values()]
    try:
        load()
    except FAULTS as error:  # a plug-in may break in any way; it is reported, never hidden
        for snapshot in before:
            snapshot.restore()
        return _broken(source, error)
    return None


def _import_file(path: Path, module_name: str) -> None:
    if getattr(sys.modules.get(module_name), "__file__", None) == str(path):
        return
    if not path.is_relative_to(bundled("methods").resolve()):
        _LOADED[path] = _sources(path)
        _refuse_late_twins(path)
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        with _beside(path), _registering(path):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise


@contextmanager
def _registering(path: Path) -> Iterator[None]:
    """Note in everything that is registered meanwhile which plug-in's import did it."""
    before = {id(entry) for registry in KINDS.values() for entry in registry.entries.values()}
    yield
    for registry in KINDS.values():
        for name, entry in registry.entries.items():
            if id(entry) not in before and not entry.bundled:
                registry.entries[name] = replace(entry, loaded_from=str(path))


def _forget_edited(path: Path, module_name: str) -> None:
    """Take back a plug-in whose sources have changed since it was imported, as in a notebook: it is imported anew."""
    if path not in _LOADED or _LOADED[path] == _sources(path):
        return
    for registry in KINDS.values():
        registry.entries = {n: e for n, e in registry.entries.items() if e.loaded_from != str(path)}
    files = {str(file) for file in _LOADED.pop(path)}
    for file in files:  # Python takes a cached one of the same second and size for that of the edited file
        with suppress(OSError, NotImplementedError):
            Path(importlib.util.cache_from_source(file)).unlink()
    for name, module in list(sys.modules.items()):
        if name == module_name or getattr(module, "__file__", None) in files:
            del sys.modules[name]


def sources_of_plugin(path: Path) -> dict[Path, bytes]:
    """Return the sources of a plug-in that runs in this process, as they were when it was imported.

    They are its file, and the files beside it that it imports; see `files_imported_by`. Of one that was not imported
    as a plug-in, they are those of now.
    """
    return _LOADED.get(path) or _sources(path)


def _sources(path: Path) -> dict[Path, bytes]:
    found = {}
    for file in (path, *files_imported_by(path)):
        with suppress(OSError):
            found[file] = file.read_bytes()
    return found


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    """Let a plug-in import the files beside it, by `import helper` or `from .helper import …`; bundled ones need none.

    Two folders may each have a `helper.py`: a plug-in gets its own. What is installed goes before a file of its name.
    """
    folder, package = path.parent, _package(path)
    if package is None:
        yield
        return
    if package not in sys.modules:
        made = ModuleType(package, f"The plug-ins in {folder}.")
        made.__path__ = [str(folder)]
        sys.modules[package] = made
    others = [f for f in _FOLDERS if f != folder]
    theirs = {n for n, m in list(sys.modules.items()) if "." not in n and _has(folder, n) and _lies_in(m, others)}
    for name in list(sys.modules):
        if name.partition(".")[0] in theirs:
            del sys.modules[name]
    places = [str(f) for f in _FOLDERS]
    sys.path[:] = [*(p for p in sys.path if p not in places), str(folder), *map(str, others)]
    _FOLDERS[:] = [folder, *others]
    yield


def _has(folder: Path, name: str) -> bool:
    """Return whether a folder holds a module or package of a name."""
    return (folder / f"{name}.py").is_file() or any((folder / name).glob("*.py"))


def _lies_in(module: ModuleType, folders: Sequence[Path]) -> bool:
    """Return whether a module's file, or a package's folder, lies in one of the folders."""
    known = getattr(module, "__dict__", {})
    places = [*(known.get("__path__") or []), known.get("__file__")]
    return any(Path(place).parent in folders for place in places if isinstance(place, str))


def _refuse_late_twins(path: Path) -> None:
    """Refuse a plug-in where an import within a function would find another folder's module of that name.

    Such an import runs when all plug-ins are there, and Python knows one module of a name.

    Raises:
        RegistrationError: with the two folders.
    """
    loaded = [file for file in _LOADED if file.parent in _FOLDERS and _module_name(file) in sys.modules]
    pairs = [*((path, folder) for folder in _FOLDERS), *((file, path.parent) for file in loaded)]
    for plugin, folder in pairs:
        for file in _LOADED[plugin] if folder != plugin.parent else ():
            for name in _late_imports(file):
                if _has(plugin.parent, name) and _has(folder, name):
                    raise RegistrationError(
                        str(path),
                        f"{file} imports '{name}' within a function, and {folder} has one too, which Python would take"
                        " for it: move that import to the top of the file, or rename one.",
                    )


def _late_imports(file: Path) -> set[str]:
    """Return the first parts of names that a file imports within functions, without leading dots."""
    found = set()
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for inner in ast.walk(node):
                found |= {name.partition(".")[0] for level, name in _names_in(inner) if not level}
    return found


def files_imported_by(path: Path) -> list[Path]:
    """Return the files that a plug-in imports, and those that these import: it is made of them too.

    Looked for beside it, in packages there, and in the package that it is part of; not among what is installed, and not
    in mtlbench, for which the version of training stands: in a checkout, that is beside the plug-in.
    """
    top = path.parent
    while (top / "__init__.py").is_file() and top != top.parent:
        top = top.parent
    of_engine = path.is_relative_to(Path(__file__).parent)  # for which the version of training stands
    own = "" if of_engine else path.relative_to(top).parts[0]  # the package that it is part of, or the plug-in itself
    found: dict[Path, None] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        for level, name in _imported_names(file):
            if not level and name.partition(".")[0] == "mtlbench":
                continue
            folders = [file.parents[level - 1]] if level else [path.parent]
            folders += [top] if not level and name.partition(".")[0] == own else []
            for beside in (module for folder in folders for module in _modules(folder, name)):
                if beside != path and beside not in found:
                    found[beside] = None
                    waiting.append(beside)
    return sorted(found)


def _modules(folder: Path, name: str) -> Iterator[Path]:
    """Yield the files in a folder that run where a dotted name is imported."""
    for part in name.split("."):
        folder /= part
        yield from (file for file in (folder / "__init__.py", folder.with_name(f"{part}.py")) if file.is_file())


def _imported_names(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the dotted names that a file imports, each after its number of leading dots."""
    for node in ast.walk(_tree(file)):
        yield from _names_in(node)


def _tree(file: Path) -> ast.Module:
    """Return a file's code; none where it can't be read."""
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return ast.Module([], [])


def _names_in(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the dotted names that one statement imports, each after its number of leading dots."""
    if isinstance(node, ast.Import):
        yield from ((0, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):  # what is imported may be a module itself
        base = f"{node.module}." if node.module else ""
        yield from ((node.level, f"{base}{alias.name}") for alias in node.names)


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
    methods = bundled("methods").resolve()
    if file.is_relative_to(methods):
        return ".".join(["mtlbench.methods", *file.relative_to(methods).with_suffix("").parts])
    return f"{_package(file)}.{file.stem.replace('.', '_')}"


def _package(file: Path) -> str | None:
    """Return the package that a user's file is a module of, its folder's; bundled files have none."""
    if file.is_relative_to(bundled("methods").resolve()):
        return None
    return f"mtlbench_plugins.{zlib.crc32(str(file.parent).encode('utf-8', 'surrogateescape')):08x}"


def plugin_files(extra: Sequence[Path] = ()) -> list[Path]:
    """Return the users' own files: those of `MTLBENCH_PLUGINS`, then of `extra`; `load_plugins` imports them.

    Raises:
        UserError: a path does not exist, or is a folder without Python files.
    """
    named = [Path(p).expanduser() for p in os.environ.get("MTLBENCH_PLUGINS", "").split(os.pathsep) if p]
    return [
        *(file for path in named for file in _files(path, "MTLBENCH_PLUGINS")),
        *(file for path in extra for file in _files(path.expanduser(), "--plugins")),
    ]


def load_plugins(extra: Sequence[Path] = ()) -> list[BrokenPlugin]:
    """Import every file that registers something.

    Those are the bundled methods, `MTLBENCH_PLUGINS` (paths separated as in PATH), `extra` files or folders, and the
    modules that installed packages offer in the entry-point group `mtlbench.plugins`. Loading again imports only what
    is new. A named method whose architecture or balancer did not load is left out too, and so is one whose balancer
    needs a package that is not installed: `specs.left_out_methods` names those.

    Returns:
        what could not be imported; everything else works.

    Raises:
        UserError: a path in `extra` or `MTLBENCH_PLUGINS` does not exist, or is a folder without Python files.
    """
    files = [
        *sorted(f.resolve() for f in bundled("methods").rglob("*.py") if not f.name.startswith("_")),
        *plugin_files(extra),
    ]
    broken = []
    for file in dict.fromkeys(files):
        _forget_edited(file, _module_name(file))
        broken.append(_guarded(str(file), partial(_import_file, file, _module_name(file))))
    for point in importlib.metadata.entry_points(group="mtlbench.plugins"):
        broken.append(_guarded(f"{point.name} ({point.value})", partial(_import_installed, point)))
    return [*(b for b in broken if b is not None), *_take_back_incomplete()]


def load_given(plugins: Sequence[Path]) -> list[BrokenPlugin]:
    """Load plug-ins as `load_plugins` does, but refuse a named file that can't be loaded: it is what the user wants.

    Without it, a bundled method of the same name, or an older one, would do the work.

    Returns:
        what could not be imported from folders, the environment and packages; everything else works.

    Raises:
        UserError: see `load_plugins`; or a file that was named itself is broken.
    """
    broken = load_plugins(plugins)
    named = {str(path.expanduser().resolve()) for path in plugins}
    for one in broken:
        if one.source in named:
            raise UserError(f"{one}.")
    return broken


def _import_installed(point: importlib.metadata.EntryPoint) -> None:
    file = getattr(find_spec(point.module), "origin", None)
    with _registering(Path(file)) if file else nullcontext():
        point.load()


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
                break
        else:
            _leave_out_unequipped(alias)
    return left_out


def _leave_out_unequipped(alias: Entry[Any]) -> None:
    """Take back a named method whose balancer needs a package that is missing: a group would stop at it."""
    waiting = BALANCERS.get(alias.target.balancer).left_out(alias.name, alias.groups)
    if waiting is not None:
        del ALIASES.entries[alias.name]
        ALIASES.left_out[alias.name] = waiting

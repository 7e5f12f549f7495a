"""Listings in the user's cache: showing one again imports neither torch nor what is listed.

A listing is kept under a digest of all that it is made of: the files of mtlbench, its methods and benchmarks, plug-in
files and those beside them, and the installed packages. One changed byte, and it is made again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from mtlbench.bundled import bundled
from mtlbench.cli.listing import Listing, make_listing
from mtlbench.plugins import files_imported_by, plugin_files


def listing(kind: str, benchmark: str, plugins: Sequence[Path]) -> Listing:
    """Return a listing, from the cache where nothing that it is made of has changed since; see `make_listing`.

    It is made again whenever a plug-in is broken, or an installed package brings plug-ins: those may do anything.
    """
    files = plugin_files(plugins)
    if importlib.metadata.entry_points(group="mtlbench.plugins"):
        return make_listing(kind, benchmark, plugins)
    asked = _digest([kind, benchmark, *(str(file) for file in files)])
    path = _folder() / f"{kind}-{asked[:16]}.json"
    key = _digest(_ingredients(benchmark, files))
    found = _read(path, key)
    if found is None:
        found = make_listing(kind, benchmark, plugins)
        if not found.warnings:
            _write(path, key, found)
    return found


def _folder() -> Path:
    import platformdirs

    return Path(os.environ.get("MTLBENCH_CACHE") or platformdirs.user_cache_dir("mtlbench")) / "listings"


def _digest(parts: Sequence[str] | Iterator[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogateescape"))
        digest.update(b"\0")
    return digest.hexdigest()


def _ingredients(benchmark: str, plugins: Sequence[Path]) -> Iterator[str]:
    """Yield all that may change a listing, as text."""
    yield sys.version
    for place in dict.fromkeys(sys.path):  # what is installed, by the names of folders such as torch-2.11.0.dist-info
        with suppress(OSError):
            yield from sorted(entry.name for entry in os.scandir(place or ".") if entry.name.endswith("-info"))
    files = {Path(benchmark)} if benchmark.endswith(".toml") else set()
    for folder, patterns in (
        (Path(__file__).parents[1], ("*.py",)),
        (bundled("methods"), ("*.py", "*.bib")),
        (bundled("benchmarks"), ("*.toml",)),
    ):
        files |= {file for pattern in patterns for file in folder.rglob(pattern)}
    for plugin in plugins:  # a plug-in may import its neighbours
        files |= {plugin, *plugin.parent.glob("*.py"), *files_imported_by(plugin)}
    for file in sorted(files):
        yield str(file)
        with suppress(OSError):
            yield hashlib.sha256(file.read_bytes()).hexdigest()


def _read(path: Path, key: str) -> Listing | None:
    """Return the listing kept at `path` under this key; None where there is none, or it can't be read."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Listing(**kept["listing"]) if kept["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, key: str, made: Listing) -> None:
    """Keep a listing; where the cache can't be written to, the next call makes it again."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"key": key, "listing": asdict(made)}, file)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

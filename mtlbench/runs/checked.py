"""What `mtlbench check` found of methods that don't come with mtlbench, kept in the user's cache for later runs."""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from pathlib import Path

import mtlbench
from mtlbench.data.pack import cache_folder
from mtlbench.runs.provenance import only_here, own_parts, own_sources
from mtlbench.runs.record import BROKEN, KEPT, UNCHECKED
from mtlbench.specs import Method


def remember(method: Method, kind: str, spec: str, kept: bool) -> None:
    """Keep whether a part of a method keeps its contract; of a part that comes with mtlbench, nothing is kept.

    Args:
        method: the method; kind: `architecture` or `balancer`; spec: the part's name, with options.
        kept: whether every item holds.
    """
    digest = own_sources(method).get(kind)
    if digest is None:
        return
    found = _found(kind, digest) | {spec: kept}
    file = cache_folder() / "checked" / f"{kind}-{digest}.json"
    with suppress(OSError):  # a cache that can't be written to keeps nothing
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"mtlbench": mtlbench.__version__, "found": found}), encoding="utf-8")


def checked_parts(method: Method) -> dict[str, str]:
    """Return `kept`, `broken` or `unchecked` for each part that does not come with mtlbench, as its source is now.

    A part that was checked with other options alone counts as checked, and as broken where any of these were.
    """
    states = {}
    for kind, digest in own_sources(method).items():
        found = _found(kind, digest)
        kept = found.get(method.spec_of(kind), all(found.values()) if found else None)
        states[kind] = UNCHECKED if kept is None else KEPT if kept else BROKEN
    return states


def _found(kind: str, digest: str) -> dict[str, bool]:
    """Return what this version of mtlbench found of a source, by the part's name and options."""
    try:
        content = json.loads((cache_folder() / "checked" / f"{kind}-{digest}.json").read_text(encoding="utf-8"))
        if content["mtlbench"] != mtlbench.__version__:
            return {}
        return {str(spec): bool(kept) for spec, kept in content["found"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or a damaged one
        return {}


def unsure_of(method: Method) -> str:
    """Say that a part of a method breaks its contract, or that it was not checked, and how to; empty where all hold."""
    states = checked_parts(method)
    if BROKEN in states.values():
        return f"warning: {method.name} breaks the contract, as `mtlbench check` found; its numbers may be wrong"
    if UNCHECKED not in states.values():
        return ""
    entries = own_parts(method).values()
    if any(map(only_here, entries)):
        remedy = "put its definition into a file, and `mtlbench check` tests it"
    else:
        here, files = Path.cwd(), dict.fromkeys(Path(entry.loaded_from) for entry in entries if entry.loaded_from)
        shown = [str(file.relative_to(here) if file.is_relative_to(here) else file) for file in files]
        command = shlex.join(["mtlbench", "check", method.name, *(w for file in shown for w in ("--plugins", file))])
        remedy = f"`{command}` takes less than a minute"
    return f"note: {method.name} was not checked against the contract: {remedy}"

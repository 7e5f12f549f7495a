"""What was tried in a results folder: every run that began is noted, and stays noted when its record is removed.

`<results>/tried.jsonl` has a line for each, with its whole setup. Nothing needs it to train or to rank; tables say from
it what was tried on their data and is not in them.
"""

from __future__ import annotations

import datetime
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock

from mtlbench.runs.record import Json
from mtlbench.runs.schema import checked_setup

TRIED = "tried.jsonl"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Tried:
    """A run that began: the data set's name, its setup as `run.json` has it, and when."""

    dataset: str
    setup: Json
    date: str = field(default_factory=_now)


def note_tried(results: Path, tried: Tried) -> None:
    """Note that a run begins. That it can't be noted, as on a full disk, stops no run."""
    line = json.dumps(asdict(tried)) + "\n"
    with suppress(OSError):
        results.mkdir(parents=True, exist_ok=True)
        with FileLock(results / f".{TRIED}.lock"), (results / TRIED).open("a", encoding="utf-8") as file:
            file.write(line)


def read_tried(results: Path) -> list[Tried] | None:
    """Return the runs that were noted, in their order; None where nothing was noted. Damaged lines are left out."""
    try:
        lines = (results / TRIED).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            content = json.loads(line)
            setup = checked_setup(content["setup"])
            if "seed" in setup:
                found.append(Tried(str(content["dataset"]), setup, str(content["date"])))
    return found

"""The outcome of trials: each method's best recipe, its gain, and whether the order of methods changed.

This module does not import torch.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

from mtlbench.errors import UserError, counted
from mtlbench.options import toml, toml_key
from mtlbench.recipes import nested
from mtlbench.runs.lock import writer
from mtlbench.runs.record import Json
from mtlbench.tuning.study import Trial

FOLDER = "tuning"  # in the benchmark's results
FILE = "trials.json"


@dataclass(frozen=True)
class Outcome:
    """The outcome of one method's trials.

    Attributes:
        method: its name; trials: all its trials, in order.
    """

    method: str
    trials: tuple[Trial, ...]

    @property
    def done(self) -> list[Trial]:
        """The trials that have a score."""
        return [trial for trial in self.trials if trial.state == "done" and trial.score is not None]

    @property
    def default(self) -> Trial | None:
        """The trial of the plain method, unless it failed."""
        return next((trial for trial in self.done if trial.number == 0), None)

    @property
    def best(self) -> Trial | None:
        """The trial with the best score, the first of equal ones; None if all have failed."""
        return max(self.done, key=lambda trial: (trial.score, -trial.number), default=None)

    @property
    def gain(self) -> float | None:
        """How far the best trial is above the default, as a share; None if one of them is missing."""
        if self.best is None or self.default is None:
            return None
        return float((self.best.score or 0.0) - (self.default.score or 0.0))

    @property
    def recipe(self) -> dict[str, dict[str, Any]] | None:
        """The best recipe, empty if it is the default; None if all trials failed."""
        if self.best is None:
            return None
        return {} if self.best.number == 0 else nested(self.best.values)


def sentences(outcomes: Sequence[Outcome]) -> list[str]:
    """Return sentences on how much tuning gained on the validation split, and whether it changed the order."""
    said = []
    gains = {one.method: 100 * one.gain for one in outcomes if one.gain is not None}
    halved = any(trial.state == "dropped" for one in outcomes for trial in one.trials)
    ended = max(len(one.done) - 1 for one in outcomes) if halved else None
    if gains:
        low, high = min(gains, key=lambda m: gains[m]), max(gains, key=lambda m: gains[m])
        if gains[high] == 0:
            against = "" if ended is None else f"; halving trained {counted(ended, 'other trial')} of each to the end"
            said.append(f"Tuning found nothing better than the default on the validation split{against}.")
        elif len(gains) == 1:
            said.append(f"Tuning raised the validation score of {high} by {gains[high]:.1f} points.")
        else:
            said.append(
                f"Tuning raised the validation score by {median(gains.values()):.1f} points in the median over"
                f" {len(gains)} methods, from {gains[low]:.1f} ({low}) to {gains[high]:.1f} ({high})."
            )
    both = [one for one in outcomes if one.method in gains]
    if len(both) > 1:
        said.append(_order(both))
    for one in outcomes:
        failed = [trial for trial in one.trials if trial.state == "failed"]
        if failed and one.best is None:
            every = f"{'All' if len(failed) > 1 else 'The'} {counted(len(failed), 'trial')}"
            said.append(f"{every} of {one.method} failed; the first: {failed[0].reason}.")
        elif failed:
            some = f"{len(failed)} of {len(one.trials)} trials"
            said.append(f"{some} of {one.method} failed; number {failed[0].number}: {failed[0].reason}.")
    return said


def _order(outcomes: Sequence[Outcome]) -> str:
    before = {one.method: one.default.score or 0.0 for one in outcomes if one.default}
    after = {one.method: one.best.score or 0.0 for one in outcomes if one.best}
    pairs = list(combinations(before, 2))
    turned = sum((before[a] - before[b]) * (after[a] - after[b]) < 0 for a, b in pairs)
    first, now = places(before), places(after)
    if not turned:
        return "The order of the methods stayed the same."
    moved = sorted((m for m in first if first[m] != now[m]), key=lambda m: (-abs(first[m] - now[m]), now[m]))
    shown = ", ".join(f"{m} from {first[m]} to {now[m]}" for m in moved[:4])
    chance = "scores of one training each may differ by chance"
    return f"The order changed in {turned} of {len(pairs)} pairs of methods ({chance}); places: {shown}."


def places(scores: Mapping[str, float]) -> dict[str, int]:
    """Return each method's rank by its score, 1 for the highest; equal scores share a rank."""
    return {method: 1 + sum(other > score for other in scores.values()) for method, score in scores.items()}


def write_trials(folder: Path, outcomes: Sequence[Outcome], about: Json) -> None:
    """Write all trials to a file beside the journal; trials of other methods stay in it.

    Reports read this file, not the journal.
    """
    path = folder / FILE
    kept = {one.method: one for one in read_trials(folder)} | {one.method: one for one in outcomes}
    content = {"about": about, "methods": {m: [asdict(t) for t in one.trials] for m, one in kept.items()}}
    _replace(path, json.dumps(content, indent=1) + "\n")


def read_trials(folder: Path) -> list[Outcome]:
    """Return the trials that `write_trials` wrote, or none if there is no file."""
    path = folder / FILE
    if not path.exists():
        return []
    try:
        methods = json.loads(path.read_text())["methods"]
        return [Outcome(name, tuple(Trial(**trial) for trial in trials)) for name, trials in methods.items()]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} can't be read ({error}): run the mtlbench tune command again.") from error


def write_recipes(path: Path, outcomes: Sequence[Outcome], found: Mapping[str, Json], quick: bool) -> None:
    """Write recipes to a TOML file; recipes of the same methods are replaced, and everything else stays.

    Args:
        path: a benchmark's file, a file of recipes alone, or a new one.
        outcomes: the best recipe of each is written; a method whose trials all failed gets none.
        found: the facts of each recipe, by method, such as where it came from.
        quick: write them for the quick protocol.

    Raises:
        UserError: the existing file can't be read, or the new one would not be read as it is written.
    """
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"--write {path}: the existing file can't be read as TOML ({error}).") from error
    above = "quick.recipes" if quick else "recipes"
    tables = [one for one in outcomes if one.recipe is not None]
    parts = []
    for one in tables:
        name = f"{above}.{toml_key(one.method)}"
        text = _without(text, name)
        parts.append(_table(name, one.recipe or {}, found[one.method]))
    written = "\n\n".join(filter(None, [text.rstrip("\n"), *parts])) + "\n"
    try:
        content: Any = tomllib.loads(written)
        for section in above.split("."):
            content = content[section]
        assert all(content[one.method]["found"]["trials"] == found[one.method]["trials"] for one in tables)
    except (tomllib.TOMLDecodeError, LookupError, AssertionError) as error:
        raise UserError(f"--write {path}: its recipes can't be replaced where they stand; name a new file.") from error
    _replace(path, written)


def _table(name: str, recipe: Mapping[str, Mapping[str, Any]], found: Json) -> str:
    lines = [f"[{name}]", *(f"{part} = {toml(values)}" for part, values in recipe.items())]
    return "\n".join([*lines, f"[{name}.found]", *(f"{toml_key(key)} = {toml(value)}" for key, value in found.items())])


def _without(text: str, name: str) -> str:
    """Return TOML without the table of this name and its subtables."""
    kept, inside = [], False
    for line in text.splitlines():
        header = re.fullmatch(r"\s*\[+\s*(.+?)\s*\]+\s*(#.*)?", line)
        if header:
            inside = header[1] == name or header[1].startswith(f"{name}.")
        if not inside:
            kept.append(line)
    return "\n".join(kept)


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new-{writer()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)

"""Setups compared: all that decides a run's result, and in what two runs differ."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from mtlbench.benchmark import Benchmark, with_protocol
from mtlbench.errors import UserError
from mtlbench.runs.record import Json, Record
from mtlbench.specs import Method

# Settings that decide nothing, or are in the setup a second time, as they came out.
_WITHOUT_EFFECT = (
    ("title",),
    ("protocol",),
    ("search",),
    ("recipes",),  # that of a run's own method is in its setup's method
    ("data", "tasks"),
    ("data", "fallback_tasks"),
    ("data", "folder"),
    ("data", "skip_unreadable"),
    ("train", "precision"),
    ("train", "compile"),
    ("train", "deterministic"),
    ("train", "protocols_tried"),
)
_WHILE_TRAINING = ("every", "select", "agreement_every", "agreement_layers")  # settings of evaluation as a run trains


def in_todays_words(benchmark: Json) -> Json:
    """Return a record's benchmark with today's names of settings, and defaults for those that it did not know."""
    try:
        return Benchmark.model_validate(with_protocol(benchmark)).model_dump(mode="json")
    except ValidationError:
        return with_protocol(copy.deepcopy(benchmark))


def decisive(setup: Json) -> Json:
    """Return the part of a setup that decides a run's result: runs of which it is equal are the same run.

    The number of threads decides the last bits alone. It is no reason to refuse a record: the plan says it, and tables
    keep runs apart by their device, which names it.
    """
    kept: Json = copy.deepcopy(setup)
    kept.pop("threads", None)
    kept["benchmark"] = in_todays_words(kept["benchmark"])
    for *path, last in _WITHOUT_EFFECT:
        section = kept["benchmark"]
        for key in path:
            section = section.get(key, {})
        section.pop(last, None)
    return kept


def benchmark_of(record: Record) -> Benchmark:
    """Return the benchmark that a run was made on.

    Raises:
        UserError: its settings are none that this version knows.
    """
    try:
        return Benchmark.model_validate(with_protocol(record.setup["benchmark"]))
    except ValidationError as error:
        raise UserError(
            f"The settings of {record.method}, seed {record.seed}, were written by another version of mtlbench,"
            " which this one can't read; use that version."
        ) from error


def method_of(record: Record) -> Method:
    """Return the method of a record, with its recipe.

    Raises:
        UserError: another version of mtlbench wrote it.
    """
    try:
        return Method(**record.setup["method"])
    except TypeError as error:
        raise UserError(f"{record.folder} was written by another version of mtlbench; use that version.") from error


@dataclass(frozen=True)
class Change:
    """A setting that two setups don't have in common: the keys down to it, and its two values."""

    path: tuple[str, ...]
    old: Any
    new: Any

    @property
    def key(self) -> str:
        """The setting's whole name: `benchmark.train.steps`."""
        return ".".join(self.path)


def changes(old: Json, new: Json) -> list[Change]:
    """List the settings that differ between two setups."""
    return _unlike(decisive(old), decisive(new), ())


def differences(old: Json, new: Json) -> list[str]:
    """List what differs between two setups, as `benchmark.train.steps: 300 there, 500 now`."""
    return [f"{change.key}: {change.old} there, {change.new} now" for change in changes(old, new)]


def _unlike(old: Json, new: Json, above: tuple[str, ...]) -> list[Change]:
    found = []
    for key in dict.fromkeys([*old, *new]):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _unlike(a, b, (*above, key))
        elif a != b:
            found.append(Change((*above, key), a, b))
    return found


def without_training(setup: Json) -> Json:
    """Return the part of a setup that decides the reference rows: neither method nor how it is trained."""
    left_out = ("method", "seed", "compiled", "deterministic")
    kept = {key: value for key, value in decisive(setup).items() if key not in left_out}
    code = kept.get("code", {})  # of plug-ins, each under its kind and name
    kept["code"] = {key: value for key, value in code.items() if key.partition(" ")[0] in ("backbone", "metric")}
    for section in ("train", "loss"):
        kept["benchmark"].pop(section, None)
    for key in ("freeze", "pretrained_rate"):
        kept["benchmark"].get("model", {}).pop(key, None)
    for key in _WHILE_TRAINING:
        kept["benchmark"].get("evaluation", {}).pop(key, None)
    return kept

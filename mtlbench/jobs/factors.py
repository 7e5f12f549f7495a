"""Factors: `--vary key=value,value` makes variants of a benchmark, one for each combination of values."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from mtlbench.backbones.weights import stated
from mtlbench.benchmark import Benchmark, load_benchmark
from mtlbench.errors import UserError
from mtlbench.options import split
from mtlbench.runs.record import Json, variant
from mtlbench.runs.setup import without_training


@dataclass(frozen=True)
class Variant:
    """A benchmark with some settings changed.

    Attributes:
        benchmark: the benchmark with the changes.
        varied: the settings in which it differs from the requested benchmark, with their values.
        reference_varied: the same for its reference rows; empty if they equal those of the requested benchmark.
    """

    benchmark: Benchmark
    varied: Json = field(default_factory=dict)
    reference_varied: Json = field(default_factory=dict)


def variants(name: str, quick: bool, settings: Sequence[str], vary: Sequence[str]) -> list[Variant]:
    """Return the benchmark in all combinations of the varied settings; without any, just the benchmark.

    Args:
        name: of the benchmark, or its path; quick, settings: see `load_benchmark`.
        vary: for example `train.lr=1e-3,3e-3`; commas within brackets belong to the value.

    Raises:
        UserError: a text can't be parsed, a key does not exist, or a value does not fit.
    """
    base = load_benchmark(name, quick=quick, settings=settings)
    factors = [_factor(text) for text in vary]
    keys = [key for key, _ in factors]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise UserError(f"--vary names {twice[0]} twice: join its values by commas, as in {twice[0]}=a,b.")
    before = _settings(base)
    found: dict[str, Variant] = {}
    for values in itertools.product(*(words for _, words in factors)):
        changes = [f"{key}={value}" for key, value in zip(keys, values, strict=True)]
        try:
            benchmark = load_benchmark(name, quick=quick, settings=[*settings, *changes])
        except UserError as error:
            raise UserError(f"--vary {' '.join(changes)}: {str(error).removeprefix('--set: ')}") from error
        after = _settings(benchmark)
        if benchmark.name != base.name:
            raise UserError("--vary can't change the benchmark's name: all variants share it.")
        varied = {k: after.get(k) for k in dict.fromkeys([*before, *after]) if before.get(k) != after.get(k)}
        if all(key in after for key in keys):  # otherwise the user gave an old name of a key, or a whole table
            varied = {key: value for key, value in varied.items() if key in keys}
        same = _judged_alike(base, benchmark)
        found.setdefault(variant(varied), Variant(benchmark, varied, {} if same else varied))
    return list(found.values())


def _factor(text: str) -> tuple[str, list[str]]:
    key, equals, values = text.partition("=")
    words = split(values, ",")
    if not (key.strip() and equals and all(words)):
        raise UserError(f"--vary {text}: write it as key=value,value, such as --vary train.lr=1e-3,3e-3.")
    return key.strip(), words


def _settings(benchmark: Benchmark) -> Json:
    """Return the settings by full keys; a weights file by its content, since its path is local."""
    found = _flat(benchmark.model_dump(mode="json"))
    return found | {"model.pretrained": stated(benchmark.model.pretrained)}


def _flat(content: Json, prefix: str = "") -> Json:
    found: Json = {}
    for key, value in content.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _judged_alike(one: Benchmark, other: Benchmark) -> bool:
    """Return whether both benchmarks have the same reference rows."""
    first, second = (without_training({"benchmark": b.model_dump(mode="json")}) for b in (one, other))
    return first == second

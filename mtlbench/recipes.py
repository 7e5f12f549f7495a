"""Recipes, what may differ from method to method within one protocol, and the spaces in which tuning looks for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from mtlbench.names import joined

CLOSED = ("steps", "triplets", "precision", "protocols_tried")  # what every method gets alike
PARTS = ("options", "balancer_options", "train", "loss")


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Range:
    """Numbers between two bounds, both included; whole ones where both bounds are whole.

    >>> from mtlbench import Range
    >>> Range(0.1, 100, log=True)
    Range(low=0.1, high=100, log=True)

    Args:
        low: the least; high: the greatest.
        log: look evenly over orders of magnitude.

    Raises:
        ValueError: bounds that enclose nothing, or `log` with one that is not above 0.
    """

    low: int | float
    high: int | float
    log: bool = field(default=False)

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low} must be below high = {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log = true needs low above 0 (not {self.low})")

    def __contains__(self, value: object) -> bool:
        fits = int if self.whole else (int, float)
        return isinstance(value, fits) and not isinstance(value, bool) and self.low <= value <= self.high

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers alone."""
        return isinstance(self.low, int) and isinstance(self.high, int) and not self.log

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', log' if self.log else ''}"


Where = Range | tuple[bool | int | float | str, ...]
"""Where tuning looks for one value: a range, or some values."""
Space = Mapping[str, Where]


class Search(BaseModel):
    """The settings that every method may tune."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: dict[str, Where] = Field(
        default={}, description="Settings of [train], each with a range {low, high, log} or a list of values."
    )
    loss: dict[str, Where] = Field(default={}, description="Settings of [loss], in the same form.")

    @model_validator(mode="after")
    def _open(self) -> Search:
        _check_open(self.train)
        for name, where in (*self.train.items(), *self.loss.items()):
            if not isinstance(where, Range) and len(where) < 2:
                raise ValueError(f"the values of {name} must be at least two")
        return self

    def space(self) -> dict[str, Where]:
        """Return where to look, by `train.lr`."""
        sections = {"train": self.train, "loss": self.loss}
        return {f"{section}.{key}": where for section, space in sections.items() for key, where in space.items()}


class Recipe(BaseModel):
    """One method's own settings within a protocol, as `mtlbench tune` found them."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    decisive: ClassVar[tuple[str, ...]] = PARTS

    options: dict[str, Any] = Field(default={}, description="Options of its architecture.")
    balancer_options: dict[str, Any] = Field(default={}, description="Options of its balancer.")
    train: dict[str, Any] = Field(default={}, description="Settings of [train].")
    loss: dict[str, Any] = Field(default={}, description="Settings of [loss].")
    found: dict[str, Any] = Field(
        default={}, description="Its origin, for the receipt: trials, seeds, split, space, command."
    )

    @model_validator(mode="after")
    def _open(self) -> Recipe:
        _check_open(self.train)
        return self

    def content(self) -> dict[str, dict[str, Any]]:
        """Return what decides a run, without what is empty and without where it came from."""
        return {part: dict(getattr(self, part)) for part in PARTS if getattr(self, part)}


def _check_open(train: Mapping[str, Any]) -> None:
    for key in CLOSED:
        if key in train:
            raise ValueError(f"train.{key} is the same for every method: a recipe can't have it")


def conditions(benchmark: Mapping[str, Any], tasks: Sequence[str], data: object) -> dict[str, Any]:
    """Return the conditions that a recipe was found under, or that it is used under.

    Args:
        benchmark: its settings, as records have them; tasks: those trained; data: the fingerprint of images and labels.
    """
    train = benchmark["train"]
    known = {
        "steps": train["steps"],
        "triplets": train.get("triplets"),
        "backbone": benchmark["model"]["backbone"],
        "loss": benchmark.get("loss", {}).get("name"),
        **{key: train.get(key) for key in ("optimiser", "schedule", "sampling")},
    }
    return {"tasks": list(tasks), "data": data} | {key: value for key, value in known.items() if value is not None}


def unlike(found: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return in what the conditions under which a recipe was found differ from those of its use, in words.

    Args:
        found: what the recipe's table says of its origin; what it doesn't say counts as alike.
        here: the `conditions` of its use, with the digests of the method's sources as `code` where they are known.
    """
    said = []
    for key in ("tasks", "steps", "triplets", "backbone", "loss", "optimiser", "schedule", "sampling"):
        what = "triplets a task" if key == "triplets" else key
        if key in found and key in here and _unordered(found[key]) != _unordered(here[key]):
            then, now = _briefly(found[key]), _briefly(here[key])
            said.append(f"{what} ({then}, here {now})" if then != now else what)
    same_tasks = found.get("tasks") == here["tasks"]  # in the same order: the fingerprint is of labels too
    if "data" in found and found["data"] != here["data"] and (same_tasks or "tasks" not in found):
        said.insert(0, "images" if same_tasks else "images or tasks")
    code = here.get("code", {})
    if any(code.get(part, digest) != digest for part, digest in found.get("code", {}).items()):
        said.append("code")
    return said


def in_which(differ: Mapping[str, Sequence[str]]) -> str:
    """Say of several names in what each differs, as `unlike` has it; those that differ alike stand together."""
    alike: dict[str, list[str]] = {}
    for name, words in differ.items():
        if words:
            alike.setdefault(joined(words), []).append(name)
    return "; ".join(f"{joined(names)} with other {words}" for words, names in alike.items())


def _unordered(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, list) else value


def _briefly(value: Any) -> str:
    return f"{len(value) if isinstance(value, list) else value:,}" if isinstance(value, int | list) else str(value)


def flat(content: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a recipe's values by their whole names: `train.lr`, `options.rate`."""
    return {f"{part}.{key}": value for part in PARTS for key, value in content.get(part, {}).items()}


def nested(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what `flat` was made of."""
    content: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        part, _, key = name.partition(".")
        content.setdefault(part, {})[key] = value
    return content


def in_words(content: Mapping[str, Mapping[str, Any]]) -> str:
    """Write what a recipe says: `rate=30, train.lr=0.005`."""
    said = [f"{short(name)}={_number(value)}" for name, value in flat(content).items()]
    return ", ".join(said) or "as by default"


def short(name: str) -> str:
    """Return the name of a recipe's value as a user writes it: an option by its own name."""
    return name.removeprefix("balancer_").removeprefix("options.")


def _number(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ":".join(map(_number, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.3g}" if isinstance(value, float) and math.isfinite(value) else str(value)

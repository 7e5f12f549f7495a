"""Where tuning looks for a method's recipe: the benchmark's settings and the method's own options, by their names."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from mtlbench.benchmark import Benchmark
from mtlbench.errors import UserError
from mtlbench.recipes import Range, Where, nested
from mtlbench.registry import ARCHITECTURES, BALANCERS
from mtlbench.runs.record import Json
from mtlbench.specs import Method


@dataclass(frozen=True)
class MethodSpace:
    """What may be tuned of a method.

    Attributes:
        where: by name, the benchmark's settings first: `train.lr`, `options.rate`.
        defaults: the values that a plain run has, where they are known.
    """

    where: dict[str, Where]
    defaults: Json

    def known(self) -> Json:
        """Return the defaults that lie where tuning looks."""
        return {name: value for name, value in self.defaults.items() if value in self.where[name]}

    def as_json(self) -> Json:
        """Return it as recipes tell it."""
        return {name: str(w) if isinstance(w, Range) else list(w) for name, w in self.where.items()}


def space_of(method: Method, benchmark: Benchmark) -> MethodSpace:
    """Return what may be tuned of a method on a benchmark; options that its user has set are not.

    Raises:
        UserError: the method names an option that it doesn't have, the benchmark a setting, or there is nothing.
    """
    where, defaults = dict(benchmark.search.space()), dict[str, Any]()
    settings = benchmark.model_dump(mode="json")
    for name, place in where.items():
        section, _, key = name.partition(".")
        for value in (place.low, place.high) if isinstance(place, Range) else place:
            benchmark.changed(nested({name: value}), "search")
        defaults[name] = settings[section].get(key)
    parts = (
        ("options", ARCHITECTURES.get(method.architecture), method.architecture_options),
        ("balancer_options", BALANCERS.get(method.balancer), method.balancer_options),
    )
    for part, entry, given in parts:
        parameters = inspect.signature(entry.target).parameters
        for option, place in entry.target.search.items():
            if option not in parameters:
                raise UserError(f"{entry.origin}: search names '{option}', and {entry.name} has no such option.")
            if option not in given:
                where[f"{part}.{option}"] = place
                default = parameters[option].default
                if default is not None:
                    defaults[f"{part}.{option}"] = default
    if not where:
        raise UserError(
            f"There is nothing to tune: {benchmark.name} has no [search], and {method.name} no search of its own. Give"
            " the benchmark's file one, such as [search] train.lr = {low = 1e-3, high = 1e-2, log = true}."
        )
    return MethodSpace(where, {name: value for name, value in defaults.items() if value is not None})

"""The space in which a method's recipe is searched: benchmark settings and options of the method, by name."""

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
    """The settings of a method that tuning may change.

    Attributes:
        where: the values to search, by name, the benchmark's settings first: `train.lr`, `options.rate`.
        defaults: the values of a plain run, if known.
    """

    where: dict[str, Where]
    defaults: Json

    def known(self) -> Json:
        """Return the defaults that are inside the search space."""
        return {name: value for name, value in self.defaults.items() if value in self.where[name]}

    def as_json(self) -> Json:
        """Return the space in the form that recipes store."""
        return {name: str(w) if isinstance(w, Range) else list(w) for name, w in self.where.items()}


def space_of(method: Method, benchmark: Benchmark) -> MethodSpace:
    """Return what tuning may change about a method on a benchmark; options that the user has set are left out.

    Raises:
        UserError: the method names an option or the benchmark a setting that does not exist, or nothing can be tuned.
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

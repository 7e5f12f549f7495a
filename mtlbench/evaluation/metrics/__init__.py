"""The contract of a retrieval metric, a function of ranked neighbours; `standard.py` has those that every task has.

`ranking.py` ranks the neighbours once for all of them, `retrieval.py` takes the means over queries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.options import options_of, read_spec, show
from mtlbench.registry import METRICS, origin_of

_ORDERED = "ordered"  # the group of metrics for tasks whose label values have an order
_AT = re.compile(r"([^@\[\]]+)@([0-9]+)")


@dataclass(frozen=True)
class Ranked:
    """A chunk of queries, each with its gallery from the nearest image to the farthest.

    An image is relevant when it carries the query's label. Among images at the same distance the least relevant one
    comes first, so that no metric needs to care for ties.

    Attributes:
        gains: (queries, n) int, what each image gains: `best` where it is relevant. Where the label values have an
            order, one whose label is j ranks away gains max(0, best - j), else every other one nothing.
        best: the gain of a relevant image, 1 where there is no order.
        relevant: (queries,) int64, how many relevant images there are; 0 for a query that no metric can score.
        positions: (n,) float64, 1 … n.
        discount: (n,) float64, 1 / log2(1 + position).
        ideal: (queries,) float64, the discounted gains of the ideal order, where there is an order.
    """

    gains: Tensor
    best: int
    relevant: Tensor
    positions: Tensor
    discount: Tensor
    ideal: Tensor | None = None

    @cached_property
    def hits(self) -> Tensor:
        """(queries, n) bool: which images are relevant."""
        return self.gains == self.best

    @cached_property
    def hits_within_r(self) -> Tensor:
        """(queries, R of the query that has most) bool: the relevant ones among each query's own first R."""
        depth = int(self.relevant.max())
        return self.hits[:, :depth] & (self.positions[:depth] <= self.relevant[:, None])


Function = Callable[[Ranked], Tensor]


@dataclass(frozen=True)
class Metric:
    """A metric as a benchmark names it: `hit@5`, `map@r`."""

    name: str
    function: Function
    ordered_only: bool

    def __call__(self, ranked: Ranked) -> Tensor:
        """Return the score of every query, (queries,) float64; NaN where it has none."""
        scores = self.function(ranked)
        if scores.shape != ranked.relevant.shape:
            raise ValueError(
                f"the metric {self.name} must return a score for each of {len(ranked.relevant)} queries, found the"
                f" shape {tuple(scores.shape)}"
            )
        return scores.double()


def register_metric(
    name: str, *, meaning: str, ordered_only: bool = False
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Decorator of a metric: a function of a `Ranked` chunk that returns (queries,) scores, the higher the better.

    Keyword-only arguments are its options, `name[option=value]`; one called `k` is written `name@5` too. NaN stands
    where a query has no score. Queries without a relevant image are left out whatever is returned.

    Args:
        name: what users call it.
        meaning: what it measures, in a line.
        ordered_only: it is for tasks whose label values have an order.

    Raises:
        UserError: the name is malformed or taken.

    Example:
        >>> from mtlbench.evaluation.metrics import Ranked, register_metric
        >>> @register_metric("reciprocal-rank", meaning="one over the place of the first relevant image")
        ... def reciprocal_rank(ranked: Ranked) -> Tensor:
        ...     return (ranked.hits / ranked.positions).amax(dim=1)
    """

    def decorate(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        groups = (_ORDERED,) if ordered_only else ()
        METRICS.add(name, function, groups=groups, summary=meaning, origin=origin_of(function))
        return function

    return decorate


def metric(spec: str) -> Metric:
    """Read a metric as users write it: `hit@5`, `map@r`, `name[option=value]`.

    Raises:
        UserError: an unknown name or option, with the nearest known one, or an option left out.
    """
    short = _AT.fullmatch(spec)
    named, depth = (short[1].strip(), short[2]) if short else (spec, "")
    if short and named in METRICS and "k" not in options_of(METRICS.get(named).target):
        raise UserError(f"The metric '{named}' has no depth: write it without @{depth}.")
    entry, options = read_spec(METRICS, f"{named}[k={depth}]" if short else spec)
    missing = [option for option in _needed(entry.target) if option not in options]
    if missing:
        example = f"{entry.name}@5" if missing == ["k"] else f"{entry.name}[{missing[0]}=…]"
        raise UserError(f"The metric '{entry.name}' needs {', '.join(missing)}: write {example}.")
    if options.get("k", 1) < 1:
        raise UserError(f"The metric '{spec}' needs a k of at least 1.")
    name = f"{entry.name}@{options['k']}" if set(options) == {"k"} else entry.name + show(options)
    return Metric(name, partial(entry.target, **options), _ORDERED in entry.groups)


def _needed(function: Any) -> list[str]:
    defaults = getattr(function, "__kwdefaults__", None) or {}
    return [option for option in options_of(function) if option not in defaults]


def standard_metrics(ks: Sequence[int], ordered: bool = True) -> list[Metric]:
    """Return the metrics that every task has, in the order of records; NDCG only where label values have an order."""
    names = [f"{name}@{k}" for name in ("hit", "precision") for k in ks] + ["map@r", "r-precision"]
    return [metric(name) for name in [*names, *(["ndcg"] if ordered else [])]]


def extra_metrics(specs: Sequence[str], ks: Sequence[int], ordered: bool = True) -> list[Metric]:
    """Return the metrics that a benchmark asks for besides the standard ones, each once.

    Raises:
        UserError: see `metric`.
    """
    names = {found.name for found in standard_metrics(ks)}
    extra = {found.name: found for found in map(metric, specs) if found.name not in names}
    return [found for found in extra.values() if ordered or not found.ordered_only]

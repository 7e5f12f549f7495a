"""Retrieval metrics by name: functions of a chunk of queries with their galleries in ranked order."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.names import MEASURES
from mtlbench.options import Options, read_spec
from mtlbench.registry import METRICS, Entry, RegistrationError, check_arguments, origin_of, summary_of
from mtlbench.returned import check_scores, check_unscored

Metric = Callable[..., Tensor]
Depth = Annotated[int, Field(gt=0)]
RELEVANT = "R"
STANDARD = ("map@r", "r-precision")  # measured in every run, beside hit@k and precision@k


@dataclass(frozen=True)
class Ranked:
    """Some queries of one task, each with its gallery in the order of distance.

    >>> import torch
    >>> from mtlbench import Ranked
    >>> gains = torch.tensor([[0, 1, 0], [1, 1, 0]])
    >>> Ranked(gains, best=1, relevant=torch.tensor([1, 2]), ideal=None, discount=torch.ones(3)).hits.tolist()
    [[False, True, False], [True, True, False]]

    Attributes:
        gains: (q, n) whole numbers; `best` where an image has the query's label, else less: 0, or, where labels have an
            order, the less the more ranks it lies away, or, where they are sets, the less they have in common. The
            whole gallery, or as much of it as metrics look at.
        best: the gain of a relevant image.
        relevant: (q,) R, how many relevant images there are.
        ideal: (q,) the discounted gain of the ideal order, where labels have an order or are sets; else None.
        discount: (n,) what position i's gain is multiplied by, 1 / log2(1 + i).
        worth: where labels are sets, the Jaccard index that each gain from 0 to `best` stands for; every gain above 0
            is then relevant.
    """

    gains: Tensor
    best: int
    relevant: Tensor
    ideal: Tensor | None
    discount: Tensor
    worth: Tensor | None = None

    @cached_property
    def hits(self) -> Tensor:
        """(q, n) bool: whether the image at a position is relevant."""
        return self.gains == self.best if self.worth is None else self.gains > 0

    @cached_property
    def positions(self) -> Tensor:
        """(n,) float64: 1, 2, …"""
        return torch.arange(1, self.gains.shape[1] + 1, device=self.gains.device, dtype=torch.float64)

    @cached_property
    def hits_within_r(self) -> Tensor:
        """(q, largest R) bool: the hits among the first R of each query."""
        depth = int(self.relevant.max())
        hits = self.hits[:, :depth]
        return hits if int(self.relevant.min()) == depth else hits & (self.positions[:depth] <= self.relevant[:, None])

    @cached_property
    def found_within_r(self) -> Tensor:
        """(q, largest R) int32: how many hits there are among the first of each query, none beyond its R."""
        return self.hits_within_r.cumsum(dim=1, dtype=torch.int32)


@dataclass(frozen=True)
class Measure:
    """A metric with its options.

    Attributes:
        of: scores a `Ranked`, (q,) float64.
        depth: how many images of a gallery it looks at: a number, `R` for as many as are relevant, None for all.
    """

    of: Callable[[Ranked], Tensor]
    depth: int | str | None


_DEPTHS: dict[Metric, str] = {}


def register_metric(name: str, *, ordered: bool = False, depth: str | None = None) -> Callable[[Metric], Metric]:
    """Decorator: make a function of a `Ranked` known as `name`, for a benchmark's `evaluation.metrics`.

    It returns (q,) float64 scores, the higher the better; those of queries without a relevant image are left out of all
    means. So are scores that are NaN, which may depend on the query but not on the ranking. Options are keyword-only
    arguments; `name@5` sets the option `k`.

    >>> from mtlbench import register_metric
    >>> @register_metric("reciprocal-rank")
    ... def reciprocal_rank(ranked):
    ...     '''One over the position of the first relevant image.'''
    ...     return 1 / (1 + ranked.hits.int().argmax(1).double())

    Args:
        name: what benchmarks and columns call it.
        ordered: it is for tasks whose labels have an order.
        depth: how far it looks down a gallery, which saves ranking the rest: `R`, to the R-th image, or the name of an
            option, to as many as that says. It sees no more than that; by default, the whole gallery.

    Raises:
        UserError: the name is taken or has a meaning of its own, or there is no such option.
    """

    def decorate(function: Metric) -> Metric:
        if name in MEASURES or re.fullmatch(r".+@\d+", name):
            what = f"stands for {MEASURES[name]}" if name in MEASURES else "sets the option k of another metric"
            raise RegistrationError(origin_of(function), f"'{name}' {what}; call the metric something else.")
        groups = ("ordered",) if ordered else ()
        check_arguments(METRICS.kind, name, function, ["ranked"], origin_of(function))
        if depth is not None:
            if depth != RELEVANT and depth not in inspect.signature(function).parameters:
                raise RegistrationError(
                    origin_of(function),
                    f"depth of the metric '{name}' must be 'R' or one of its options, not '{depth}'.",
                )
            _DEPTHS[function] = depth
        METRICS.add(name, function, groups=groups, summary=summary_of(function), origin=origin_of(function))
        return function

    return decorate


def read_metric(text: str) -> tuple[Entry[Metric], Options]:
    """Read a metric's name with its options: `map@r`, `hit@5`, `mine[option=value]`.

    Raises:
        UserError: there is no such metric or option.
    """
    name, at, depth = text.partition("@")
    if at and text.partition("[")[0] not in METRICS and depth.isdigit():
        text = f"{name}[k={depth}]"
    return read_spec(METRICS, text)


def measured(ks: Sequence[int], extra: Sequence[str], *, ordered: bool) -> dict[str, Measure]:
    """Return the metrics of a task by the name of their columns.

    Args:
        ks: depths of `hit@k` and `precision@k`.
        extra: further metrics, as `read_metric` takes them.
        ordered: whether the task's labels have an order or are sets; metrics that need one are left out elsewhere.

    Raises:
        UserError: see `read_metric`.
    """
    names = [f"{name}@{k}" for name in ("hit", "precision") for k in ks]
    names += [*STANDARD, "ndcg", *(name for name in extra if name not in (*names, *STANDARD, "ndcg"))]
    functions = {}
    for name in names:
        entry, options = read_metric(name)
        if ordered or "ordered" not in entry.groups:
            functions[name] = _bound(entry, options)
    return functions


def _bound(entry: Entry[Metric], options: Options) -> Measure:
    where = _DEPTHS.get(entry.target)
    depth: int | str | None = where
    if where is not None and where != RELEVANT:
        depth = int(options.get(where, inspect.signature(entry.target).parameters[where].default))

    def scores(ranked: Ranked) -> Tensor:
        seen = ranked if entry.bundled else _seen(ranked, depth)
        return check_scores(entry.target, entry.target(seen, **options), len(ranked.relevant))

    def apply(ranked: Ranked) -> Tensor:
        found = scores(ranked)
        if entry.bundled:
            return found.double()
        asked = ranked.relevant > 0
        if found[asked].isnan().any():
            alike = (replace(ranked, gains=torch.full_like(ranked.gains, gain)) for gain in (0, ranked.best))
            check_unscored(entry.target, found[asked], *(scores(one)[asked] for one in alike))
        return found.double()

    return Measure(apply, depth)


def _seen(ranked: Ranked, depth: int | str | None) -> Ranked:
    """Return what a plug-in's metric sees: copies, as far as its depth, whatever other metrics there are.

    With `R`, images beyond a query's own R gain nothing.
    """
    most = depth if isinstance(depth, int) else None
    if depth == RELEVANT:
        most = max(1, int(ranked.relevant.max()))
    gains = ranked.gains[:, :most].clone()
    if depth == RELEVANT:
        gains.masked_fill_(ranked.positions[: gains.shape[1]] > ranked.relevant[:, None], 0)
    ideal, worth = (None if one is None else one.clone() for one in (ranked.ideal, ranked.worth))
    return Ranked(gains, ranked.best, ranked.relevant.clone(), ideal, ranked.discount[:most].clone(), worth)


@register_metric("hit", depth="k")
def hit(ranked: Ranked, *, k: Depth = 1) -> Tensor:
    """Whether one of the first k images is relevant."""
    return ranked.hits[:, :k].any(dim=1).double()


@register_metric("precision", depth="k")
def precision(ranked: Ranked, *, k: Depth = 1) -> Tensor:
    """The relevant ones among the first k images, divided by k."""
    return ranked.hits[:, :k].sum(dim=1).double() / k


@register_metric("recall", depth="k")
def recall(ranked: Ranked, *, k: Depth = 10) -> Tensor:
    """The relevant ones among the first k images, divided by all relevant ones."""
    return ranked.hits[:, :k].sum(dim=1).double() / ranked.relevant


@register_metric("map@r", depth=RELEVANT)
def map_at_r(ranked: Ranked) -> Tensor:
    """Mean average precision at R: 1/R times the sum of precision@i over the relevant ones among the first R."""
    within = ranked.hits_within_r
    counted = (ranked.found_within_r * within).double()
    return counted @ ranked.positions[: within.shape[1]].reciprocal() / ranked.relevant


@register_metric("map")
def mean_average_precision(ranked: Ranked) -> Tensor:
    """Mean average precision over the whole gallery: 1/R times the sum of precision@i over all relevant images."""
    found = ranked.hits.cumsum(dim=1, dtype=torch.int32)
    return (found * ranked.hits).double() @ ranked.positions.reciprocal() / ranked.relevant


@register_metric("r-precision", depth=RELEVANT)
def r_precision(ranked: Ranked) -> Tensor:
    """The relevant ones among the first R images, divided by R."""
    found = ranked.found_within_r
    return (found[:, -1] if found.shape[1] else found.sum(dim=1)).double() / ranked.relevant


@register_metric("ndcg", ordered=True)
def ndcg(ranked: Ranked) -> Tensor:
    """Normalised discounted cumulative gain over the whole gallery, for labels that have an order or are sets."""
    if ranked.ideal is None:
        raise UserError("The metric 'ndcg' needs a task whose labels have an order or are sets.")
    gains = ranked.gains.double() if ranked.worth is None else ranked.worth[ranked.gains.long()]
    return gains @ ranked.discount / ranked.ideal

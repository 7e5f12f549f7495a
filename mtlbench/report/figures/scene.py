"""What the figures of one suite have in common: who is shown, how each looks, and the titles."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mtlbench.names import joined
from mtlbench.report.clustering import SharedImages
from mtlbench.report.evidence import read_groups, read_hits, read_labels, read_triplets
from mtlbench.report.figures import checkpoints, data
from mtlbench.report.figures.checkpoints import Part
from mtlbench.report.figures.data import Method
from mtlbench.report.figures.style import FAINT, Look, looks, shorts
from mtlbench.report.groups import CORE, recorded
from mtlbench.report.rows import Standing
from mtlbench.report.suites import RECIPE, Suite, Values, row_name
from mtlbench.runs import folder_of

if TYPE_CHECKING:
    import pandas as pd

_OPTIONS = re.compile(r"([\w-]+)\[([^\[\]]*)\]")
PROMINENT = 8  # methods that one can tell apart in one plot


@dataclass
class Scene:
    """A suite, ready to be drawn.

    Attributes:
        methods: those with finished runs, best first; of rows that are the same run twice, one (see `Suite.again`).
        references: rows that nothing was trained for.
        looks: by method.
        first: of each method the row that is shown before its others: the tuned one, of several the best.
        core: the rows of the core comparison's methods.
        said: what the names of rows leave out: `by model.backbone`, `all tuned`.
        bases: by row, what its Δm is relative to, or the row that stands for it, shown or not; nothing where there is
            none.
        again: the rows that another one of `methods` stands for.
        standing: how methods stand to the best in the mean, as the tables have it; empty where nothing was compared.
    """

    suite: Suite
    results: Path
    methods: list[Method]
    references: list[Method]
    looks: dict[str, Look]
    first: frozenset[str] = frozenset()
    core: frozenset[str] = frozenset()
    said: tuple[str, ...] = ()
    bases: Mapping[str, Method] = field(default_factory=dict)
    again: list[Method] = field(default_factory=list)
    standing: Mapping[str, Standing] = field(default_factory=dict)
    _curves: dict[str, list[pd.DataFrame]] = field(default_factory=dict)
    validations: dict[str, pd.DataFrame] = field(default_factory=dict)  # see `accuracy.validations`
    _learned: dict[str, list[tuple[int, list[Part]]]] = field(default_factory=dict)
    _asked: list[tuple[npt.NDArray[np.integer], SharedImages]] = field(
        default_factory=list
    )  # the last triplets that were read, for all runs alike

    @staticmethod
    def of(
        suite: Suite,
        results: Path,
        rows: Collection[str] | None = None,
        standing: Mapping[str, Standing] | None = None,
    ) -> Scene:
        """Set up a suite whose runs are in folders below `results`; of its methods, `rows` alone where given."""
        found = data.finished(suite)
        asked = [method for method in found if method.kind == "method" and (rows is None or method.name in rows)]
        names, said = labels(suite, [method.name for method in asked])
        found = [replace(method, label=names.get(method.name, method.name)) for method in found]
        methods, references = (
            [method for method in found if method.kind == kind and (kind == "reference" or method.name in names)]
            for kind in ("method", "reference")
        )
        twins = suite.again([method.name for method in methods])
        once = [method for method in methods if method.name not in twins]
        first: dict[str, str] = {}
        of = methods_in([suite])
        for method in sorted(once, key=lambda method: RECIPE not in suite.values.get(method.name, ())):
            first.setdefault(of[method.name], method.name)
        core = frozenset(r.method for r in suite.records if recorded(r, CORE) or of.get(r.method) == suite.base)
        measured = {method.name: method for method in found if method.kind == "method"}
        alike = suite.again(list(measured))
        wanted = {method.name: suite.row_of(suite.base, method.name) for method in found}
        return Scene(
            suite,
            results,
            once,
            references,
            looks_in([suite]),
            frozenset(first.values()),
            core,
            said,
            {row: measured[base] for row, name in wanted.items() if (base := alike.get(name, name)) in measured},
            [method for method in methods if method.name in twins],
            standing or {},
        )

    @property
    def tasks(self) -> list[str]:
        """The tasks' names as they are shown."""
        return [task.replace("_", " ") for task in self.suite.tasks]

    def where(self, methods: Iterable[Method]) -> str:
        """Say on which data and over how many seeds these methods are shown."""
        return f"{self.about}; {seeds(methods)}"

    @property
    def about(self) -> str:
        """The subject, with what the names of rows leave out."""
        return "; ".join([self.subject, *self.said])

    @property
    def subject(self) -> str:
        """The benchmark's title; drawn data are called rendered."""
        title = str(self.suite.benchmark["title"])
        drawn = any(record.receipt.get("data", {}).get("rendered") for record in self.suite.records)
        if drawn and "rendered" not in title.lower():
            title += " (rendered images)"
        return title + (", quick protocol" if self.suite.quick else "")

    def prominent(self, methods: Sequence[Method], most: int = PROMINENT) -> list[Method]:
        """Choose who is shown in colour where not all can be; best first.

        Each method has one row before any has two: its tuned one. The core methods come first, then the best.
        """
        order = sorted(methods, key=lambda m: (m.name not in self.first, m.name not in self.core))
        chosen = {method.name for method in order[:most]}
        return [method for method in methods if method.name in chosen]

    def curves(self, method: Method) -> list[pd.DataFrame]:
        """Return `data.curves`, read once."""
        if method.name not in self._curves:
            self._curves[method.name] = data.curves(self.suite, self.results, method)
        return self._curves[method.name]

    def learned(self, method: Method) -> list[tuple[int, list[Part]]]:
        """Return `checkpoints.learned`, read once."""
        if method.name not in self._learned:
            self._learned[method.name] = checkpoints.learned(self.results, method, len(self.suite.tasks))
        return self._learned[method.name]

    def test_error(self, method: Method) -> float:
        """Return the standard error that other test images would bring to a method's mean accuracy, in points.

        Of its first run; nan where its answers are not at hand.
        """
        record = method.records[0]
        folder = folder_of(record, self.results)
        hits, triplets = read_hits(folder, record), read_triplets(folder)
        if hits is None or triplets is None or triplets.shape[:2] != hits.shape:
            return math.nan
        if not self._asked or not np.array_equal(self._asked[0][0], triplets):
            shared = SharedImages(triplets, read_groups(folder), read_labels(folder, record))
            self._asked[:] = [(triplets, shared)]
        return 100 * math.sqrt(self._asked[0][1].spread(hits.astype(np.float64)))


def looks_in(suites: Sequence[Suite]) -> dict[str, Look]:
    """Return how the rows of some suites look, and their methods."""
    records = [record for suite in suites for record in suite.records]
    core = {str(record.setup["method"]["name"]) for record in records if recorded(record, CORE)}
    base = next((suite.base for suite in suites if suite.base), "")
    of = methods_in(suites)
    return looks(of, core, base, of)


def methods_in(suites: Sequence[Suite]) -> dict[str, str]:
    """Return the method of each row, which is its name without its recipe and factors."""
    return {
        record.method: record.method.removesuffix(row_name("", suite.values.get(record.method, ())))
        for suite in suites
        for record in suite.records
        if record.kind == "method"
    }


def labels(suite: Suite, rows: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Name rows as short as they stay clear: without what all have in common, values of factors without their key.

    Returns:
        the names of these rows and of the reference rows, and in words what they leave out.
    """
    of, options = _without_common_options(methods_in([suite]), rows)
    references = [record.method for record in suite.records if record.kind == "reference"]
    values = {row: suite.values.get(row, ()) for row in rows}
    common = [pair for pair in values[rows[0]] if all(pair in own for own in values.values())] if rows else []
    told: dict[tuple[str, str], str] = {}
    for key in suite.factors:
        every = {json.dumps(value): value for own in suite.values.values() for k, value in own if k == key}
        told |= {(key, text): short for text, short in zip(every, _shortly(key, list(every.values())), strict=True)}

    def name(method: str, own: Values, left_out: Sequence[tuple[str, Any]]) -> str:
        kept = [pair for pair in own if pair not in left_out]
        return " · ".join([method, *(v if (k, v) == RECIPE else told[k, json.dumps(v)] for k, v in kept)])

    found = {row: name(of[row], values[row], common) for row in rows}
    for row in references:
        own = suite.values.get(row, ())
        found[row] = name(row.removesuffix(row_name("", own)), own, ())
    shared = [row_name("all", (pair,)).replace(" · ", " ") for pair in common]
    varied = [key for key in suite.factors if key not in dict(common)]
    return found, tuple([f"by {joined(varied)}"] * bool(varied and rows) + options + shared)


def _without_common_options(of: dict[str, str], rows: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Leave out the options that rows of one method all have: `[after=3,rate=9]` and `[after=4,rate=9]` have a rate."""
    parts = {row: _OPTIONS.fullmatch(of[row]) for row in rows}
    split = {row: (match[1], match[2].split(",")) for row, match in parts.items() if match}
    if len({of[row] for row in rows}) < 2 or len(split) < len(parts) or len({name for name, _ in split.values()}) > 1:
        return of, []
    common = [option for option in split[rows[0]][1] if all(option in own for _, own in split.values())]
    short = {}
    for row, (name, own) in split.items():
        kept = ",".join(option for option in own if option not in common)
        short[row] = f"{name}[{kept}]" if kept else name
    return of | short, [f"all {option}" for option in common]


def _shortly(key: str, values: Sequence[Any]) -> list[str]:
    """Write the values of a factor: `small[width=0.5]` and `small` as `width=0.5` and `small`, 0.2 as `margin=0.2`."""
    if not all(isinstance(value, str) for value in values):
        return [row_name("", ((key.rpartition(".")[2], value),)).removeprefix(" · ") for value in values]
    one = len({value.partition("[")[0] for value in values}) == 1
    return [value.partition("[")[2].removesuffix("]") if one and "[" in value else value for value in values]


def seeds(methods: Iterable[Method]) -> str:
    """Return how many seeds these methods have: `3 seeds`, or `1 to 3 seeds`."""
    numbers = [len(method.records) for method in methods]
    low, high = min(numbers), max(numbers)
    several = f"{low} to {high}" if low < high else str(high)
    return f"{several} seed{'s' * (high > 1)}"


def method_lines(scene: Scene, methods: Sequence[Method], others: int = 0) -> list[Any]:
    """Return what a legend shows of methods' lines, and of those that are drawn without a name."""
    from matplotlib.lines import Line2D

    lines = []
    for method, name in zip(methods, shorts([m.label for m in methods]), strict=True):
        look = scene.looks[method.name]
        lines.append(
            Line2D([], [], color=look.colour, ls=look.line, marker=look.marker, fillstyle=look.fill, markersize=3.2,
                   markeredgewidth=0.6, markerfacecoloralt="white", label=name)
        )  # fmt: skip
    if others:
        lines.append(Line2D([], [], color=FAINT, lw=0.8, label=f"{others} other method{'s' * (others > 1)}"))
    return lines

"""How the tasks' gradients agreed in training, as tables: the update compliance ratio and the mean cosine of methods.

Made from the probes beside run records (`agreement.csv`); `agreement` and `training` define a probe.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console, Group

from mtlbench.errors import UserError, counted, leave_out
from mtlbench.probes import ALL, COLUMNS, FILE, pairs, probes_file
from mtlbench.report import grids
from mtlbench.report.frames import SCHEMA, Field
from mtlbench.report.grids import Grid, Note
from mtlbench.report.outcome import Outcome
from mtlbench.report.receipt import receipt_of
from mtlbench.report.rows import Cell
from mtlbench.report.suites import Suite, suites
from mtlbench.runs import Json, Record, folder_of, in_todays_words

_SCHEMA = (
    Field("schema", "", "The version of these columns."),
    Field("benchmark", "", "The benchmark's name."),
    Field("method", "", "The method."),
    Field("seed", "", "The seed."),
    Field("part", "", "`whole training` or `last third`."),
    Field("layer", "", "`all` for all shared parameters, or a layer's name."),
    Field("task_a", "", "One task; empty for all pairs."),
    Field("task_b", "", "The other task; empty for all pairs."),
    Field("cosines", "", "The number of (probe, pair of tasks) with a cosine."),
    Field("without_cosine", "", "The number of those without, since a gradient was 0."),
    Field("mean_cosine", "", "The mean cosine of two tasks' gradients."),
    Field("update_compliance_ratio", "share", "How often the cosine is above 0."),
)
MOST_PAIRS = 28  # of 8 tasks; of more tasks the table by pair shows the LEAST that agree least
LEAST = 10


@dataclass(frozen=True)
class Measure:
    """What some of a method's probes come to, over its seeds.

    Attributes:
        ratio: the update compliance ratio: the share of (probe, pair of tasks) whose gradients have a positive inner
            product, of those that have a cosine at all.
        cosine: its mean over the same.
        without: how many (probe, pair) of all seeds have no cosine, and `of` how many: there a gradient was 0.
    """

    ratio: Cell
    cosine: Cell
    without: int
    of: int


@dataclass(frozen=True)
class Agreement:
    """How the tasks' gradients agreed in one method's runs.

    Attributes:
        probes: in each run; 0 where there are none.
        shared: number of parameters that the gradients are taken of, where it was measured.
        whole: over the whole training; late: over its last third.
        pairs: over the whole training, by pair of tasks; layers: by layer, where layers were probed.
        outcome: how its runs ended.
        missing: seeds of runs whose file of probes is not there; unshared: of those without shared parameters.
    """

    method: str
    seeds: tuple[int, ...] = ()
    probes: int = 0
    shared: int | None = None
    whole: Measure | None = None
    late: Measure | None = None
    pairs: dict[tuple[str, str], Measure] = field(default_factory=dict)
    layers: dict[str, Measure] = field(default_factory=dict)
    outcome: Outcome = field(default_factory=Outcome)
    missing: tuple[int, ...] = ()
    unshared: tuple[int, ...] = ()

    @property
    def alarming(self) -> bool:
        """Whether a run failed, collapsed or lost its probes."""
        return bool(self.outcome.failed or self.outcome.collapsed or self.missing)

    @property
    def note(self) -> str:
        """What is to be said beside the numbers, in words; empty where nothing is."""
        said = []
        for seed in self.outcome.seeds:
            one = self.outcome.named(seed)
            if seed in self.outcome.failed:
                said.append(f"{one}FAILED: {self.outcome.failed[seed]}")
            if seed in self.missing:
                said.append(
                    f"{one}has no {FILE} beside its run.json that can be read, though its gradients were probed"
                )
            if seed in self.unshared:
                said.append(f"{one}shares no parameters between tasks")
            if seed in self.outcome.collapsed:
                said.append(
                    f"{one}{self.outcome.collapse(seed)}: all embeddings are nearly equal, so their"
                    " gradients say little"
                )
        if self.whole and self.whole.without:
            said.append(f"{self.whole.without:,} of {self.whole.of:,} cosines are missing: there a gradient was 0")
        return "; ".join(said)


def agreement(suite: Suite, results: Path) -> list[Agreement]:
    """Summarise a suite's probes, a row per method, those whose tasks agree most first; those without probes follow.

    Empty where the benchmark asks for no probes.

    Args:
        suite: its records.
        results: where they lie.
    """
    if not any(_every(_settings(suite, record)) for record in suite.records):
        return []
    methods = dict.fromkeys(r.method for r in suite.records if r.kind == "method")
    found = [_summarised(name, [r for r in suite.records if r.method == name], suite, results) for name in methods]
    return sorted(found, key=lambda row: (row.whole is None, -((row.whole and row.whole.ratio.mean) or 0)))


def _settings(suite: Suite, record: Record) -> Json:
    """Return a run's own benchmark, which is the suite's unless they differ in factors."""
    return in_todays_words(record.setup["benchmark"]) if suite.factors else suite.benchmark


def _every(benchmark: Json) -> int:
    return int(benchmark["evaluation"].get("agreement_every", 0))  # older records know of no probes


def _late(benchmark: Json) -> int:
    """Return the step at which the last third of training begins."""
    return -(-2 * int(benchmark["train"]["steps"]) // 3)


def _summarised(method: str, records: list[Record], suite: Suite, results: Path) -> Agreement:
    missing, unshared, tables = [], [], {}
    for record in sorted(records, key=lambda r: r.seed):
        if record.status != "done" or not _every(_settings(suite, record)):
            continue
        table = probes_or_none(suite, results, record)
        if table is None:
            missing.append(record.seed)
        elif table.empty:
            unshared.append(record.seed)
        else:
            tables[record.seed] = table
    outcome = Outcome.of(records)
    if not tables:
        return Agreement(method, outcome=outcome, missing=tuple(missing), unshared=tuple(unshared))
    overall = [table[table["layer"] == ALL] for table in tables.values()]
    layers = dict.fromkeys(layer for table in tables.values() for layer in table["layer"] if layer != ALL)
    counts = {r.costs["parameters_shared"] for r in records if "parameters_shared" in r.costs}
    return Agreement(
        method,
        seeds=tuple(tables),
        probes=int(overall[0]["step"].nunique()),
        shared=int(counts.pop()) if len(counts) == 1 else None,
        whole=_measure(overall),
        late=_measure([table[table["step"] >= _late(_settings(suite, records[0]))] for table in overall]),
        pairs={
            (a, b): _measure([table[(table["task_a"] == a) & (table["task_b"] == b)] for table in overall])
            for a, b in pairs(suite.tasks)
        },
        layers={name: _measure([table[table["layer"] == name] for table in tables.values()]) for name in layers},
        outcome=outcome,
        missing=tuple(missing),
        unshared=tuple(unshared),
    )


def _measure(tables: Sequence[pd.DataFrame]) -> Measure:
    """Summarise the probes of several seeds, a table each."""
    known = [table["cosine"].dropna() for table in tables]

    def over(value: Callable[[Any], Any]) -> Cell:
        return Cell.of([float(value(cosines)) if len(cosines) else None for cosines in known])

    total = sum(map(len, tables))
    return Measure(
        over(lambda cosines: (cosines > 0).mean()),
        over(lambda cosines: cosines.mean()),
        total - sum(map(len, known)),
        total,
    )


def probes_or_none(suite: Suite, results: Path, record: Record) -> pd.DataFrame | None:
    """Do what `read_probes` does; a damaged file is left out with a warning that names it."""
    try:
        return read_probes(suite, results, record)
    except UserError as error:
        leave_out(f"left out: {error}")
        return None


def read_probes(suite: Suite, results: Path, record: Record) -> pd.DataFrame | None:
    """Read a finished run's probes: step, layer, task_a, task_b, cosine (nan where there is none).

    None if there is no such file; empty if no two tasks share parameters.

    Raises:
        UserError: it can't be read, or probes are missing from it.
    """
    path = probes_file(folder_of(record, results))
    if not path.exists():
        return None
    try:
        texts = dict.fromkeys(("layer", "task_a", "task_b"), "str")  # a task may be called NA
        table = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values={"cosine": [""]})[list(COLUMNS)]
        table = table.astype({"step": "int64", "cosine": "float64"})
    except (OSError, ValueError, KeyError, OverflowError) as error:
        raise UserError(f"{path} can't be read ({error}); remove its folder and run that method again.") from error
    settings = _settings(suite, record)
    steps = range(0, int(settings["train"]["steps"]), _every(settings))
    wanted = {(step, a, b) for step in steps for a, b in pairs(suite.tasks)}
    there = table[table["layer"] == ALL]
    if len(table) and (
        len(there) != len(wanted)
        or set(zip(*(there[name].to_numpy(object) for name in ("step", "task_a", "task_b")), strict=True)) != wanted
    ):
        raise UserError(
            f"{path} does not hold each of the {len(wanted):,} cosines of its run once; copy it again, or remove its"
            " folder and run that method again."
        )
    return table


# --- tables -----------------------------------------------------------------------------------------------------------


def _ratio(cell: Cell) -> str:
    if cell.mean is None:
        return ""
    return f"{100 * cell.mean:.1f}" + ("" if cell.deviation is None else f" ±{100 * cell.deviation:.1f}")


def _cosine(cell: Cell) -> str:
    if cell.mean is None:
        return ""
    return f"{cell.mean:+.3f}" + ("" if cell.deviation is None else f" ±{cell.deviation:.3f}")


def _grids(suite: Suite, found: Sequence[Agreement]) -> list[Grid]:
    probed = [row for row in found if row.whole and row.late]
    if not probed:
        return []
    several = any(len(row.seeds) > 1 for row in probed)
    body = []
    for row in probed:
        cells = [
            row.method,
            *([str(len(row.seeds))] if several else []),
            "" if row.shared is None else f"{row.shared:,}",
        ]
        for measure in (row.whole, row.late):
            assert measure is not None
            cells += [_ratio(measure.ratio), _cosine(measure.cosine)]
        body.append(cells)
    head = ["method", *(["seeds"] if several else []), "shared parameters"]
    head += ["compliance", "cosine", "compliance, last third", "cosine, last third"]
    title = f"{suite.title}: how the tasks' gradients agree, update compliance ratio in %"
    made = [Grid(title, head, body)]
    if len(suite.tasks) > 2:
        made.append(_by_pair(suite, probed))
    if any(row.layers for row in probed):
        cells_of = [(row.method, name, m) for row in probed for name, m in row.layers.items()]
        body = [[method, name, _ratio(m.ratio), _cosine(m.cosine)] for method, name, m in cells_of]
        title = f"By layer, {suite.title}: update compliance ratio in %, and cosine"
        made.append(Grid(title, ["method", "layer", "compliance", "cosine"], body, names=2))
    return made


def _by_pair(suite: Suite, probed: Sequence[Agreement]) -> Grid:
    shown = pairs(suite.tasks)
    title = f"By pair of tasks, {suite.title}: update compliance ratio in %, and cosine"
    if len(shown) > MOST_PAIRS:

        def mean(pair: tuple[str, str]) -> float:
            ratios = [row.pairs[pair].ratio.mean for row in probed]
            return statistics.mean([r for r in ratios if r is not None] or [1.0])

        title += f"; the {LEAST} pairs of {len(shown):,} that agree least, on average over methods (csv has all)"
        shown = sorted(shown, key=mean)[:LEAST]
    body = []
    for pair in shown:
        measures = [row.pairs[pair] for row in probed]
        cells = [f"{_ratio(m.ratio)} ({_cosine(m.cosine)})" if m.ratio.mean is not None else "" for m in measures]
        body.append([" · ".join(task.replace("_", " ") for task in pair), *cells])
    return Grid(title, ["tasks", *(row.method for row in probed)], body)


def definition_lines(suite: Suite, found: Sequence[Agreement]) -> list[str]:
    """Return the small print: what the figures are, and what the runs were made on and with."""
    train, number = suite.benchmark["train"], len(suite.tasks)
    seeds = max(len(row.seeds) for row in found)
    images = 3 * train.get("triplets", 0)
    batch = f"{images} images for each task" if images else "images as another version of mtlbench draws them"
    if images and train["sampling"] == "joint" and "joint_triplets" in train:
        triplets = counted(train["joint_triplets"], "triplet")
        batch = f"{images * number} images for all tasks, {triplets} formed within it for each task"
    over = ", mean ± sample standard deviation over seeds" if seeds > 1 else ""
    probes = max(row.probes for row in found)
    when = f"{probes:,} a run, before every {_every(suite.benchmark)}th step from the first; the last third from step"
    when += f" {_late(suite.benchmark):,}"
    if {"train.steps", "evaluation.agreement_every"} & set(suite.factors):
        when = f"at most {probes:,} a run, at equal distances from the first step"
    runs = [r for r in suite.records if r.kind == "method"]
    return [
        "update compliance ratio (compliance): the share of probe batches in which two tasks' gradients on the"
        " parameters that tasks share have a positive inner product, over all pairs of tasks. The term is from Zhao et"
        " al., ECCV 2018; the paper does not give the formula; this one is ours. Unrelated directions"
        " give 50 %.",
        f"cosine: of the same gradients, mean over probes and pairs of tasks{over}. Gradients are taken of the"
        " parameters that a method shares, whose number is given; methods with few or different shared"
        " parameters compare poorly.",
        f"probes: {when}. Each on a batch of training images of its own, {batch}, the same for every method, in"
        f" training mode, {suite.receipt.get('precision')}, on {suite.receipt.get('device')}; gradients of the triplet"
        " losses alone, without balancers' weights and regularisers. Smaller batches have noisier gradients, nearer to"
        " 50 % and 0.",
        *map(str, receipt_of(suite, runs).lines(timed=False)),
    ]


def _below(suite: Suite, found: Sequence[Agreement]) -> list[Note]:
    """Return what stands below the tables."""
    said = [Note(f"{row.method}: {row.note}.", "trouble" if row.alarming else "remark") for row in found if row.note]
    return said + [Note(line) for line in definition_lines(suite, found)]


# --- the formats ------------------------------------------------------------------------------------------------------


def for_terminal(suite: Suite, found: Sequence[Agreement], width: int) -> Group:
    """Return a suite's tables and small print for a rich console of `width` characters."""
    return grids.for_terminal(_grids(suite, found), _below(suite, found), width)


def as_markup(suite: Suite, found: Sequence[Agreement], style: str) -> str:
    """Return a suite's tables and small print as Markdown (`md`) or LaTeX (`latex`)."""
    return grids.as_markup(_grids(suite, found), _below(suite, found), style)


def as_frame(suites_: Sequence[Suite], results: Path) -> pd.DataFrame:
    """Return what `--format csv` writes, unrounded: a row per run, layer, pair of tasks, and part of training.

    An empty pair stands for all pairs, the layer `all` for all shared parameters.
    """
    lines = []
    for suite in suites_:
        for record in suite.done:
            settings = _settings(suite, record)
            if not _every(settings):
                continue
            probes = probes_or_none(suite, results, record)
            if probes is None or probes.empty:
                continue
            for part, first in (("whole training", 0), ("last third", _late(settings))):
                late = probes[probes["step"] >= first]
                groups: list[tuple[Any, pd.DataFrame]] = [
                    ((name, "", ""), table) for name, table in late.groupby("layer", sort=False)
                ]
                groups += list(late.groupby(list(COLUMNS[1:4]), sort=False))
                for (layer, a, b), table in groups:
                    known = table["cosine"].dropna()
                    lines.append(
                        {
                            "schema": SCHEMA,
                            "benchmark": suite.benchmark["name"],
                            "method": record.method,
                            "seed": record.seed,
                            "part": part,
                            "layer": layer,
                            "task_a": a,
                            "task_b": b,
                            "cosines": len(known),
                            "without_cosine": len(table) - len(known),
                            "mean_cosine": known.mean() if len(known) else None,
                            "update_compliance_ratio": (known > 0).mean() if len(known) else None,
                        }
                    )
    return pd.DataFrame(lines, columns=[field.name for field in schema()])


def schema() -> list[Field]:
    """Return the columns of `--agreement --format csv`."""
    return list(_SCHEMA)


def show(records: Sequence[Record], results: Path, style: str, console: Console, across: Sequence[str] = ()) -> None:
    """Write how gradients agreed in all suites that have probes, as `table`, `md`, `latex` or `csv`.

    Raises:
        UserError: no run has any, or see `agreement`.
    """
    summarised = [(suite, agreement(suite, results)) for suite in suites(records, across)]
    found = [(suite, rows) for suite, rows in summarised if any(row.probes for row in rows)]
    if not found:
        raise UserError(
            "None of these runs probed how tasks' gradients agree. Train methods that share parameters with"
            " --set evaluation.agreement_every=50 on at least two tasks."
        )
    if style == "csv":
        console.file.write(grids.as_csv(as_frame([suite for suite, _ in found], results)))
    elif style == "table":
        for suite, rows in found:
            console.print(for_terminal(suite, rows, console.width))
            console.print()
    else:
        console.file.write("\n".join(as_markup(suite, rows, style) for suite, rows in found))

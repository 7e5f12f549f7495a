"""The modulation paper's tables, and those it is compared with: what was measured beside what was reported.

A table is a TOML file in `benchmarks/paper/`. Its cells are filled from run records, those of storage by counting.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mtlbench.benchmark import Benchmark, load_benchmark
from mtlbench.bundled import bundled
from mtlbench.errors import UserError, counted, did_you_mean
from mtlbench.report.agreement import agreement
from mtlbench.report.frames import SCHEMA, Field
from mtlbench.report.grids import Grid
from mtlbench.report.groups import BASE
from mtlbench.report.receipt import receipt_of
from mtlbench.report.rows import Cell, rows
from mtlbench.report.suites import Suite, differing_settings, in_words, suites
from mtlbench.report.tried import tried_line
from mtlbench.runs import changes, find_records
from mtlbench.sections import Positive

ROUNDED = 2  # decimals of a percentage


class Reported(BaseModel):
    """Figures that a publication gives, in per cent, by method as this table names it.

    `under` holds the settings, by their dotted keys, in which the publication's protocol differs from the benchmark's
    own: what is measured is compared with it under the same settings alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    values: dict[str, float]
    under: dict[str, bool | int | float | str] = {}


class PaperTable(BaseModel):
    """One table: what is compared, on what, and what was reported.

    `accuracy` and `error` are means over tasks of the share of test triplets in order, or out of it; `agreement` is the
    share of probes in which two tasks' gradients on shared parameters have a positive inner product, a mean over pairs;
    `storage` is counted for each number of tasks in `counts`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    kind: Literal["accuracy", "error", "agreement", "storage"]
    benchmark: str
    tasks: list[str] = []
    methods: list[str]
    counts: list[Positive] = []
    reported: Reported | None = None

    @model_validator(mode="after")
    def _consistent(self) -> PaperTable:
        if (self.kind == "storage") != bool(self.counts) or (self.kind == "storage") == bool(self.tasks):
            raise ValueError("a table of storage has counts, any other has tasks")
        unknown = [name for name in (self.reported.values if self.reported else {}) if name not in self.methods]
        if unknown:
            raise ValueError(f"reported.values names {', '.join(unknown)}, which is not in methods")
        return self


@dataclass(frozen=True)
class FilledTable:
    """A table with its cells, empty where nothing is known, and what is said below it.

    Attributes:
        values: the same for machines, a row per method, unrounded: shares, bytes and counts; None where nothing is
            known.
    """

    grid: Grid
    notes: list[str]
    values: list[dict[str, str | float | None]]


def schema() -> list[Field]:
    """Return the columns of the tables' CSV; those of bytes are the counted tables' alone."""
    return [
        Field("schema", "", "The version of these columns."),
        Field("table", "", "The table's name, as `mtlbench paper` lists it."),
        Field("quick", "", "1 for the quick protocol, else 0."),
        Field("method", "", "The method."),
        Field("comparable", "", "1 where measured and reported are of the same tasks and settings, else 0."),
        Field("measured", "share", "What was measured, mean over the seeds; an error where the table is of errors."),
        Field("measured/sd", "share", "Sample standard deviation over seeds; empty with one."),
        Field("reported", "share", "What the table's source reports."),
        Field("difference", "share", "Measured minus reported; empty where they are not comparable."),
        Field("n", "", "The number of finished seeds."),
        Field("seeds", "", "The finished seeds, joined by blanks."),
        Field("bytes/<T>", "bytes", "Size of all stored tensors for T tasks."),
        Field("bytes_added", "bytes", "What one more task adds, at the largest T."),
        Field("share_of_independent", "share", "The size at the largest T, relative to a network for each task."),
    ]


def paper_tables() -> dict[str, Path]:
    """Return the tables by name."""
    return {file.stem: file for file in sorted((bundled("benchmarks") / "paper").glob("*.toml"))}


def load_table(name: str) -> PaperTable:
    """Read a table by its name.

    Raises:
        UserError: there is no such table, or its file is malformed.
    """
    files = paper_tables()
    if name not in files:
        raise UserError(f"There is no table '{name}'.{did_you_mean(name, files)} Tables: {', '.join(files)}.")
    try:
        return PaperTable.model_validate(tomllib.loads(files[name].read_text(encoding="utf-8")))
    except (ValidationError, ValueError, RecursionError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{files[name]} can't be read: {first}.") from error


def run_name(name: str, table: PaperTable, quick: bool) -> str:
    """Return the benchmark's name under which a table's runs are kept: its tasks are its own."""
    return f"paper-{name}-{table.benchmark}{'-quick' if quick else ''}"


def run_settings(name: str, table: PaperTable, quick: bool) -> list[str]:
    """Return the settings with which a table's runs differ from the benchmark's own."""
    settings = [f"name={run_name(name, table, quick)}"]
    if table.kind == "agreement":
        steps = load_benchmark(table.benchmark, quick=quick).train.steps
        settings.append(f"evaluation.agreement_every={max(1, steps // 50)}")
    return settings


def fill(name: str, table: PaperTable, results: Path, quick: bool) -> FilledTable:
    """Fill a table's cells: from the records in `results`, or by counting.

    Records of rendered images never fill the cells of a real data set; failed and collapsed runs are named.

    Raises:
        UserError: the records there can't share a table, or a run's probes can't be read.
    """
    benchmark = load_benchmark(table.benchmark, quick=quick)
    if table.kind == "storage":
        return _storage(table, benchmark)
    folder = results / run_name(name, table, quick)
    records = [r for r in find_records(results, folder.name) if r.kind == "method"]
    real = [r for r in records if benchmark.data.rendered or not r.receipt.get("data", {}).get("rendered")]
    notes = []
    if len(real) < len(records):
        left_out = len(records) - len(real)
        runs = f"{counted(left_out, 'run')} on rendered images"
        notes.append(f"Left out: {runs}. Rendered images say nothing about {benchmark.title}.")
    found = suites(real)
    if len(found) > 1:
        raise UserError(
            f"{folder} holds runs that can't share a table ({in_words(differing_settings(*found[:2]))}); keep each kind"
            " under a folder of its own, and name it with --results."
        )
    suite = found[0] if found else None
    alike = suite is None or suite.tasks == tuple(table.tasks)  # a mean over other tasks belongs in no cell
    measured = _measured(table, suite, results, alike) if suite else []
    if suite is None:
        short = " --quick" if quick else ""
        notes.append(f"Nothing measured yet: mtlbench paper {name} --run{short} --data-dir DIR trains what is missing.")
    reported = table.reported.values if table.reported else {}
    otherwise = _otherwise(name, table, suite) if suite and reported and not quick else []
    comparable = not quick and not otherwise and alike
    if otherwise:
        notes.append(
            "no difference is given, because the reported figures were measured under other settings:"
            f" {'; '.join(otherwise)}."
        )
    if suite and reported and quick:
        notes.append("measured under the quick protocol, reported under the full one: no difference is given.")
    if suite and not alike:
        notes.append(
            f"measured on other tasks than the table's, because labels are missing: {', '.join(suite.tasks)} instead of"
            f" {', '.join(table.tasks)}; so no cell is filled. These runs alone: mtlbench report {folder.name}"
        )
    body, values = [], []
    for method in table.methods:
        of_method = [m for m in measured if m.method == method]
        for row in of_method or [Measured(method, method, Cell(None), (), "")]:
            body.append([row.label, *_cells(row.cell, reported.get(method), comparable), str(len(row.seeds) or "")])
            values.append(_values(row, reported.get(method), comparable))
    notes += [f"{row.label}: {row.note}." for row in measured if row.note]
    if any(row.cell.deviation is not None for row in measured):
        notes.append("measured: mean ± sample standard deviation over seeds.")
    if table.kind == "agreement":
        notes.append(
            "update compliance ratio: the share of (probe batch, pair of tasks) whose gradients on the shared"
            " parameters have a positive inner product. The name is the paper's, which does not"
            " give the formula; this one is ours."
        )
    if table.reported:
        theirs = suite is not None and comparable and "data.split" in table.reported.under
        split = "" if theirs else "; on its own split and triplets, the measured on those below"
        notes.append(f"reported: {table.reported.source}{split}.")
    if suite:
        notes += map(str, receipt_of(suite, suite.records).lines(timed=False))
        notes += map(str, filter(None, [tried_line(suite, suite.records, results)]))
    title = f"{table.title} in %{', quick protocol' if quick else ''}"
    about: dict[str, str | float | None] = {"schema": SCHEMA, "table": name, "quick": int(quick)}
    grid = Grid(title, ["method", "measured", "reported", "difference", "seeds"], body)
    return FilledTable(grid, notes, [about | row for row in values])


def _otherwise(name: str, table: PaperTable, suite: Suite) -> list[str]:
    """List the settings in which runs differ from those that the reported figures were measured under."""
    under = table.reported.under if table.reported else {}
    theirs = load_benchmark(
        table.benchmark,
        settings=[*run_settings(name, table, quick=False), *(f"{k}={json.dumps(v)}" for k, v in under.items())],
    ).model_dump(mode="json")
    theirs["evaluation"] |= {k: suite.benchmark["evaluation"][k] for k in ("agreement_every", "agreement_layers")}
    theirs["loss"] = suite.benchmark["loss"] | theirs["loss"]  # a record has the loss's defaults too
    found = changes({"benchmark": theirs}, {"benchmark": suite.benchmark})
    return [f"{change.key.removeprefix('benchmark.')} = {change.old} there, {change.new} here" for change in found]


@dataclass(frozen=True)
class Measured:
    """What a method's runs come to, in per cent; where its source has several versions, `label` tells which."""

    method: str
    label: str
    cell: Cell
    seeds: tuple[int, ...]
    note: str


def _measured(table: PaperTable, suite: Suite, results: Path, alike: bool) -> list[Measured]:
    methods = {r.method: str(r.setup["method"]["name"]) for r in suite.records}
    made = []
    if table.kind == "agreement":
        for probed in agreement(suite, results):
            ratio = probed.whole.ratio if probed.whole else Cell(None)
            made.append(Measured(methods[probed.method], probed.method, ratio, probed.seeds, probed.note))
    else:
        for row in rows(suite):
            made.append(Measured(methods[row.method], row.method, row.accuracy["mean"], row.seeds, row.note))
    if not alike:
        made = [replace(row, cell=Cell(None), seeds=()) for row in made]
    return [replace(row, cell=_in_percent(row.cell, table.kind == "error")) for row in made]


def _in_percent(cell: Cell, error: bool) -> Cell:
    if cell.mean is None:
        return cell
    mean = 100 * (1 - cell.mean if error else cell.mean)
    return Cell(mean, None if cell.deviation is None else 100 * cell.deviation)


def _cells(cell: Cell, reported: float | None, comparable: bool) -> list[str]:
    """Write what was measured, what was reported, and the difference where both are of the same tasks and protocol."""
    spread = "" if cell.deviation is None else f" ±{cell.deviation:.{ROUNDED}f}"
    return [
        "" if cell.mean is None else f"{cell.mean:.{ROUNDED}f}{spread}",
        "" if reported is None else f"{reported:.{ROUNDED}f}",
        "" if cell.mean is None or reported is None or not comparable else f"{cell.mean - reported:+.{ROUNDED}f}",
    ]


def _values(row: Measured, reported: float | None, comparable: bool) -> dict[str, str | float | None]:
    """Return the same as `_cells` unrounded, as shares."""
    mean, deviation = row.cell.mean, row.cell.deviation
    both = mean is not None and reported is not None and comparable
    return {
        "method": row.label,
        "comparable": int(comparable),
        "measured": None if mean is None else mean / 100,
        "measured/sd": None if deviation is None else deviation / 100,
        "reported": None if reported is None else reported / 100,
        "difference": ((mean or 0) - (reported or 0)) / 100 if both else None,
        "n": len(row.seeds),
        "seeds": " ".join(map(str, row.seeds)),
    }


def _storage(table: PaperTable, benchmark: Benchmark) -> FilledTable:
    """Count the parameters' and buffers' bytes of every method for each number of tasks, without memory."""
    import torch

    from mtlbench.cost import storage
    from mtlbench.networks import build
    from mtlbench.specs import PLAIN, groups_of, parse_method

    counted: dict[str, list[int]] = {}
    for name in table.methods:
        method = replace(parse_method(name), balancer=PLAIN, balancer_options={})
        for count in table.counts:
            tasks = tuple(f"task {t}" for t in range(count))
            with torch.device("meta"):
                counted.setdefault(name, []).append(int(storage(build(method, benchmark, tasks, 0)[0])["bytes"]))
    base = next((name for name in table.methods if BASE in groups_of(name)), "")
    most = counted[base][-1] if base else 0
    body, values = [], []
    for name, sizes in counted.items():
        added = (sizes[-1] - sizes[-2]) / (table.counts[-1] - table.counts[-2]) if len(sizes) > 1 else 0
        ratio = f"{100 * sizes[-1] / most:.2f}" if most else ""
        body.append(
            [name, *(f"{size / 1e6:.2f}" for size in sizes), f"{added / 1e3:,.{2 if added < 1e5 else 0}f}", ratio]
        )
        values.append(
            {
                "schema": SCHEMA,
                "table": "storage",
                "method": name,
                **{f"bytes/{count}": size for count, size in zip(table.counts, sizes, strict=True)},
                "bytes_added": added,
                "share_of_independent": sizes[-1] / most if most else None,
            }
        )
    head = ["method", *(f"T={count}" for count in table.counts), "kB a task, at last"]
    grid = Grid(
        f"{table.title}, {benchmark.model.backbone} backbone: megabytes",
        [*head, f"% of {base or '…'} at T={table.counts[-1]}"],
        body,
    )
    return FilledTable(
        grid,
        [
            f"counted from the networks as they are built, float32, buffers included, for images of"
            f" {benchmark.data.size[0]}×{benchmark.data.size[1]} px and {benchmark.model.embedding} dimensions; a saved"
            " file's header comes on top."
        ],
        values,
    )

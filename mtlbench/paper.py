"""The modulation paper's tables, and those it is compared with: what was measured beside what was reported.

A table is one TOML file in `benchmarks/paper/`. This reads it and fills its cells from run records, or, for storage, by
counting. Training what is missing is left to the command line.
"""

from __future__ import annotations

import csv
import statistics
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mtlbench.benchmark import Benchmark, Positive, load_benchmark
from mtlbench.errors import UserError, did_you_mean
from mtlbench.registry import bundled
from mtlbench.runs import Record, find_records, run_folder

ROUNDED = 2  # decimals of a percentage


class Reported(BaseModel):
    """Figures that a publication gives, in per cent, by method as this table names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    values: dict[str, float]


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
class Filled:
    """A table with its cells: rows of text under headings, None where nothing is known; and what is said below it."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    notes: tuple[str, ...]


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
    except (ValidationError, ValueError) as error:
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
        settings.append(f"evaluation.conflict_every={max(1, steps // 50)}")
    return settings


def fill(name: str, table: PaperTable, results: Path, quick: bool) -> Filled:
    """Fill a table's cells: from the records in `results`, or by counting.

    Records of rendered images never fill the cells of a real data set, nor do failed runs or collapsed ones without a
    word. Seeds are averaged only where all of a method's records have the same data.
    """
    benchmark = load_benchmark(table.benchmark, quick=quick)
    if table.kind == "storage":
        return _storage(table, benchmark)
    records = [r for r in find_records(results, run_name(name, table, quick)) if r.kind == "method"]
    notes = []
    drawn = [r for r in records if r.receipt.get("data", {}).get("rendered") and benchmark.data.rendered is None]
    if drawn:
        notes.append(f"{len(drawn)} runs on rendered images are left out: they say nothing about {benchmark.title}.")
    records = [r for r in records if r not in drawn]
    failed = [r for r in records if r.status != "done"]
    notes += [f"{r.method}, seed {r.seed}: FAILED: {r.reason}" for r in failed]
    done = [r for r in records if r.status == "done"]
    fingerprints = {r.receipt["data"]["fingerprint"] for r in done}
    if len(fingerprints) > 1:
        raise UserError(
            f"{results / run_name(name, table, quick)} holds runs on {len(fingerprints)} different data sets; keep each"
            " in a folder of its own, and name it with --results."
        )
    tasks = sorted({tuple(r.setup["tasks"]) for r in done})
    if any(list(t) != table.tasks for t in tasks):
        notes.append(f"The data lack labels: {len(tasks[0])} tasks of {len(table.tasks)} ({', '.join(tasks[0])}).")
    measured = _agreement(done, results, run_name(name, table, quick)) if table.kind == "agreement" else _means(done)
    if table.kind == "error":
        measured = {method: [100 - value for value in values] for method, values in measured.items()}
    rows = []
    reported = table.reported.values if table.reported else {}
    for method in table.methods:
        values = measured.get(_shown_name(method), [])
        mean = statistics.mean(values) if values else None
        figure = reported.get(method)
        difference = mean - figure if mean is not None and figure is not None else None
        rows.append(
            (
                method,
                _with_deviation(values),
                None if figure is None else f"{figure:.{ROUNDED}f}",
                None if difference is None else f"{difference:+.{ROUNDED}f}",
                str(len(values)) if values else None,
            )
        )
    collapsed = [f"{r.method}, seed {r.seed}: COLLAPSED ({', '.join(r.collapsed)})" for r in done if r.collapsed]
    return Filled(
        f"{table.title} in %{', quick protocol' if quick else ''}",
        ("method", "measured", "reported", "difference", "seeds"),
        tuple(rows),
        (*_data_notes(done, table), *notes, *collapsed),
    )


def _shown_name(method: str) -> str:
    """Return a method's name as records have it, options in their order."""
    from mtlbench.specs import parse_method

    return parse_method(method).name


def _means(records: Iterable[Record]) -> dict[str, list[float]]:
    """Return each method's triplet accuracy in per cent, a mean over tasks, by seed."""
    found: dict[str, list[float]] = {}
    for record in records:
        mean = statistics.mean(record.metrics[task]["triplet"] for task in record.setup["tasks"])
        found.setdefault(record.method, []).append(100 * mean)
    return found


def _agreement(records: Iterable[Record], results: Path, benchmark: str) -> dict[str, list[float]]:
    """Return each method's update compliance ratio in per cent, a mean over pairs of tasks, by seed."""
    found: dict[str, list[float]] = {}
    for record in records:
        path = run_folder(results, benchmark, record.method, record.seed) / "conflict.csv"
        if not path.exists():
            continue
        pairs: dict[tuple[str, str], list[bool]] = {}
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if row["layer"] == "all" and row["cosine"]:
                    pairs.setdefault((row["task_a"], row["task_b"]), []).append(float(row["cosine"]) > 0)
        if pairs:
            shares = [statistics.mean(agree) for agree in pairs.values()]
            found.setdefault(record.method, []).append(100 * statistics.mean(shares))
    return found


def _with_deviation(values: list[float]) -> str | None:
    if not values:
        return None
    spread = f" ±{statistics.stdev(values):.{ROUNDED}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{ROUNDED}f}{spread}"


def _data_notes(done: list[Record], table: PaperTable) -> list[str]:
    notes = []
    if done:
        receipt = done[0].receipt
        data = receipt["data"]
        named = "rendered, not real" if data.get("rendered") else "real images"
        versions = sorted({f"{r.receipt.get('mtlbench')} ({r.receipt.get('commit') or 'installed'})" for r in done})
        notes.append(
            f"measured on: {data['name']} ({named}), {data['images']:,} images ({data['train_images']:,} /"
            f" {data['val_images']:,} / {data['test_images']:,} train / val / test), split {data['split']}, fingerprint"
            f" {data['fingerprint']}; {receipt['steps']:,} steps, {receipt['device']}, {receipt['precision']}; mtlbench"
            f" {', '.join(versions)}; mean ± sample standard deviation over seeds."
        )
    else:
        notes.append("Nothing measured yet: mtlbench paper TABLE --run trains what is missing.")
    if table.kind == "agreement":
        notes.append(
            "update compliance ratio: the share of probe batches in which two tasks' gradients on the shared parameters"
            " have a positive inner product, a mean over pairs. The name is the paper's, whose formula is not at hand;"
            " this one is ours."
        )
    if table.reported:
        notes.append(f"reported: {table.reported.source}.")
    return notes


def _storage(table: PaperTable, benchmark: Benchmark) -> Filled:
    """Count the parameters' and buffers' bytes of every method for each number of tasks, without memory."""
    import torch

    from mtlbench.cost import storage
    from mtlbench.specs import PLAIN, parse_method
    from mtlbench.training import build

    counted: dict[str, list[int]] = {}
    for name in table.methods:
        method = replace(parse_method(name), balancer=PLAIN, balancer_options={})
        for count in table.counts:
            tasks = tuple(f"task {t}" for t in range(count))
            with torch.device("meta"):
                counted.setdefault(name, []).append(int(storage(build(method, benchmark, tasks, 0)[0])["bytes"]))
    most = counted.get("independent", [0])[-1]
    rows = []
    for name, sizes in counted.items():
        added = (sizes[-1] - sizes[-2]) / (table.counts[-1] - table.counts[-2]) if len(sizes) > 1 else 0
        ratio = f"{100 * sizes[-1] / most:.2f}" if most else None
        rows.append(
            (name, *(f"{size / 1e6:.2f}" for size in sizes), f"{added / 1e3:,.{2 if added < 1e5 else 0}f}", ratio)
        )
    return Filled(
        f"{table.title}, {benchmark.model.backbone} backbone: megabytes",
        (
            "method",
            *(f"T={count}" for count in table.counts),
            "kB a task, at last",
            f"% of independent at T={table.counts[-1]}",
        ),
        tuple(rows),
        (
            f"counted from the networks as they are built, float32, buffers included, for images of"
            f" {benchmark.data.size[0]}×{benchmark.data.size[1]} px and {benchmark.model.embedding} dimensions; a saved"
            " file's header comes on top.",
        ),
    )

"""`mtlbench report`: the tables again, from run records alone."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How tables are written."""

    table = "table"
    md = "md"
    latex = "latex"
    csv = "csv"


def report(
    benchmark: Annotated[
        str | None,
        typer.Argument(help="Whose runs, by the folder's name: celeba, celeba-quick. Default: all there are."),
    ] = None,
    results: Annotated[Path, typer.Option(help="Where run records lie.")] = Path("results"),
    metric: Annotated[str, typer.Option(help="What the accuracy table shows: triplet, map@r, …")] = "triplet",
    format: Annotated[Format, typer.Option(help="How to write the tables.")] = Format.table,
) -> None:
    """Rebuild the comparison tables from run records; nothing is trained."""
    from rich.console import Console

    from mtlbench.errors import UserError, did_you_mean
    from mtlbench.report.tables import show
    from mtlbench.runs import find_records

    if benchmark is not None and Path(benchmark).name != benchmark:
        raise UserError(
            f"'{benchmark}' is no benchmark's name; give the folder's name, and where it lies by --results:"
            f" mtlbench report {Path(benchmark).name} --results {Path(benchmark).parent}"
        )
    records = find_records(results, benchmark)
    if not records:
        there = sorted({p.parent.parent.parent.name for p in results.glob("*/*/seed-*/run.json")})
        has = f"{did_you_mean(benchmark or '', there)} There: {', '.join(there)}." if there else ""
        whose = benchmark or "any benchmark"
        raise UserError(f"No run records of {whose} in {results}.{has or ' Make some with mtlbench run.'}")
    known = list(dict.fromkeys(name for r in records for metrics in r.metrics.values() for name in metrics))
    if known and metric not in known:
        raise UserError(f"No run has the metric '{metric}'.{did_you_mean(metric, known)} There: {', '.join(known)}.")
    show(records, format.value, Console(), metric)

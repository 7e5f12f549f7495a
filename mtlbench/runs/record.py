"""Run records: what a run leaves behind, written whole or not at all, found and compared.

`<results>/<benchmark>/<method>/seed-<n>/` holds

- `run.json`: configuration, metrics, costs, receipt; or the reason why the run failed,
- `curve.csv`: losses, weights, gradient norm and validation accuracy by step,
- `agreement.csv`: where the benchmark asks for it, the cosine between every two tasks' gradients by step and layer; no
  rows where no two tasks share parameters,
- `weights.safetensors`: the chosen checkpoint, what a deployed network needs,
- `test.safetensors`: embeddings of the test images (T, N, D; float16), their labels (T, N), and which test triplets
  were ordered rightly (T, n), the test images of these triplets (T, n, 3), and
  under `queries/` the scores of single queries (T, N), NaN where a query has none.

A run under way keeps what continuing needs in `seed-<n>.partial/`, and its lock in `.seed-<n>.lock` (see `lock.py`). No
pickle is ever written or read.
"""

from __future__ import annotations

import csv
import glob
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mtlbench.data.files import digest_of
from mtlbench.errors import UserError, leave_out
from mtlbench.names import file_name, printable
from mtlbench.probes import COLUMNS, FILE
from mtlbench.runs.disk import replacing, save_tensors, writing
from mtlbench.runs.lock import Busy, working_on, writer
from mtlbench.runs.schema import checked

if TYPE_CHECKING:  # reports read records without PyTorch, whose import takes longer than a table
    from torch import Tensor

SCHEMA = 1
WEIGHTS = "weights"  # in the receipt: the SHA-256 of weights.safetensors as the run wrote it
COSTS_DUE = "costs_due"  # in the receipt of a finished run whose costs wait for a quiet machine
KEPT, BROKEN, UNCHECKED = "kept", "broken", "unchecked"  # the contract, by a part of a method, as `checked_parts` says
Json = dict[str, Any]


@dataclass
class Record:
    """One run, as `run.json` holds it.

    Attributes:
        method: the name that tables show; reference rows (`untrained`, `chance`) have kind `reference`.
        setup: all that decides the result: method, benchmark, tasks, seed, data fingerprint, precision.
        status: `done` or `failed`; reason: what failed.
        metrics: by task.
        collapsed: tasks whose embeddings are all nearly equal, in the chosen checkpoint or at the end of training.
        costs: see `jobs.measure.measure`; empty where measuring them failed, with the reason in `reason`.
        receipt: where, when and with what it was made.
        learned: what the architecture says that it learned, see `mtlbench.Learned`; None in records of mtlbench 0.1.
        folder: where it was read from, whatever the folder's name; it is no part of `run.json`.
    """

    method: str
    seed: int
    kind: str
    setup: Json
    status: str = "done"
    reason: str = ""
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    collapsed: list[str] = field(default_factory=list)
    costs: Json = field(default_factory=dict)
    receipt: Json = field(default_factory=dict)
    learned: list[Json] | None = None
    schema: int = SCHEMA
    folder: Path | None = field(default=None, compare=False, repr=False)

    @property
    def accuracy(self) -> float | None:
        """The mean triplet accuracy over tasks, a share; None where none was measured."""
        measured = [metrics["triplet"] for metrics in self.metrics.values() if "triplet" in metrics]
        return fmean(measured) if measured else None


def run_folder(results: Path, benchmark: str, method: str, seed: int) -> Path:
    """Return where `mtlbench run` leaves a run's record."""
    return results / file_name(benchmark, r"\w.-") / file_name(method, r"\w.+=,@\[\]-") / f"seed-{seed}"


def variant(varied: Mapping[str, Any]) -> str:
    """Return what a variant adds to the method's name in its folder's: `@train.lr=0.003`; empty without variation."""
    return "@" + ",".join(f"{key}={value}" for key, value in sorted(varied.items())) if varied else ""


def partial_folder(folder: Path) -> Path:
    """Return where a run under way keeps what continuing needs."""
    return folder.with_name(f"{folder.name}.partial")


def folder_of(record: Record, results: Path) -> Path:
    """Return where a record lies: where it was read from, else where `mtlbench run` would leave it."""
    setup = record.setup  # a table may call the method otherwise
    return record.folder or run_folder(results, setup["benchmark"]["name"], setup["method"]["name"], record.seed)


def read_record(folder: Path) -> Record | None:
    """Return the record in a run's folder, or None where there is none.

    Raises:
        UserError: the record can't be read, or was written by a newer mtlbench.
    """
    path = folder / "run.json"
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and isinstance(content.get("schema"), int) and content["schema"] > SCHEMA:
            raise UserError(f"{path} was written by a newer mtlbench; update mtlbench to read it.")
        return Record(**checked(content), folder=folder)
    except (OSError, ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else printable(str(error))
        raise UserError(
            f"{path} is not a run record ({why}); remove its folder, with mtlbench runs rm, and run that method again."
        ) from error


def find_records(results: Path, benchmark: str | None = None) -> list[Record]:
    """Return every record `results/<benchmark>/<any>/seed-<n>`, or one benchmark's, in the order of their paths.

    A file that is no record is left out with a warning, `LeftOut`, that names it.
    """
    found = []
    for folder in record_folders(results, benchmark):
        try:
            found.append(read_record(folder))
        except UserError as error:
            leave_out(f"left out: {error}")
    return [record for record in found if record is not None]


def record_folders(results: Path, benchmark: str | None = None) -> list[Path]:
    """Return the folders that hold a record, sorted; half-written ones (`seed-0.new-…`) are none."""
    found = results.glob(f"{glob.escape(benchmark) if benchmark else '*'}/*/seed-*/run.json")
    return [path.parent for path in sorted(found) if path.parent.suffix == ""]


def results_inside(results: Path, benchmark: str | None = None) -> list[Path]:
    """Return the results folders inside another that hold records, or one benchmark's: results/published."""
    inside = sorted(path for path in results.glob("*") if path.is_dir())
    return [path for path in inside if record_folders(path, benchmark)]


def write_record(
    folder: Path,
    record: Record,
    curve: Sequence[Mapping[str, float]] = (),
    weights: Mapping[str, Tensor] | None = None,
    test: Mapping[str, Tensor] | None = None,
    probes: Sequence[Mapping[str, str]] | None = None,
) -> None:
    """Write a run's record whole: into a folder beside it, which then takes its place.

    A record of a failure never takes the place of a finished run's. The receipt gets the SHA-256 of the weights.

    Raises:
        DiskFull: there is no space for it; what was there is kept.
    """
    if record.status == "failed" and _is_done(folder):
        return
    with replacing(folder) as new:
        _write_tables(new, curve, probes)
        if weights:
            save_tensors(weights, new / "weights.safetensors")
            record.receipt[WEIGHTS] = digest_of(new / "weights.safetensors")
        if test:
            whole = {k: v.detach().cpu().contiguous() for k, v in test.items()}
            save_tensors(whole, new / "test.safetensors")
        (new / "run.json").write_text(_as_text(record), encoding="utf-8")
    if record.status == "done":
        shutil.rmtree(partial_folder(folder), ignore_errors=True)


def update_record(folder: Path, record: Record) -> None:
    """Replace `run.json` alone; what lies beside it stays.

    Raises:
        DiskFull: there is no space for it; what was there is kept.
    """
    new = folder / f"run.json.new-{writer()}"
    try:
        with writing(new):
            new.write_text(_as_text(record), encoding="utf-8")
            new.replace(folder / "run.json")
    finally:
        new.unlink(missing_ok=True)


def _is_done(folder: Path) -> bool:
    try:
        record = read_record(folder)
    except UserError:
        return False
    return record is not None and record.status == "done"


def _as_text(record: Record) -> str:
    content = {name: value for name, value in asdict(record).items() if name != "folder"}
    return json.dumps(content, indent=1, allow_nan=True) + "\n"


def _write_tables(new: Path, curve: Sequence[Mapping[str, float]], probes: Sequence[Mapping[str, str]] | None) -> None:
    if curve:
        fields = list(dict.fromkeys(key for row in curve for key in row))
        with (new / "curve.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fields, restval="")
            writer.writeheader()
            writer.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in curve)
    if probes is not None:
        with (new / FILE).open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            table.writerows(probes)


def remove_run(folder: Path) -> None:
    """Remove a run's record, and what an interrupted one left.

    Raises:
        UserError: the record is still there, as it may not be removed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(partial_folder(folder), ignore_errors=True)
    if (folder / "run.json").exists():
        raise UserError(f"{folder} can't be removed: change its permissions, or remove it yourself.")


def tidy(folder: Path) -> None:
    """Remove what a process left that was killed just after it had written a finished run's record."""
    if partial_folder(folder).exists() or folder.with_name(f".{folder.name}.worker").exists():
        with suppress(Busy, OSError), working_on(folder):
            shutil.rmtree(partial_folder(folder), ignore_errors=True)


def half(embeddings: Tensor) -> Tensor:
    """Return embeddings as they are stored: float16, what lies beyond its range clamped."""
    import torch

    limit = torch.finfo(torch.float16).max
    return embeddings.clamp(-limit, limit).half()

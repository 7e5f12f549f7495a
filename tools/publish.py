"""Copies run records in the form to publish: numbers and tables, without networks and embeddings.

    python tools/publish.py RESULTS shoes-quick faces-quick --to results/published
    python tools/publish.py RESULTS shoes-quick --without-times    # runs that were timed beside other work
    python tools/publish.py RESULTS shoes-quick --add              # further runs, beside those that are published
    python tools/publish.py results/tuned                          # write the tables of published records again

The tool keeps `run.json`, the validations of `curve.csv`, and `agreement.csv` of each run. From `test.safetensors` it
keeps which test triplets were ordered correctly, the scores of single queries, and the labels: comparisons between
methods need them. The triplets, and which test images show the same person or product, go to `triplets.safetensors`,
once for all runs of a benchmark that answered the same ones. Beside a benchmark's folder, `NAME.md` holds its tables,
`tried.jsonl` the other runs on its data, and `tuning/trials.json` the trials behind its recipes. All tables in the
folder are written again, since new runs change what others on the same data say.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from safetensors.numpy import load_file, save_file

from mtlbench.data.table import Kin
from mtlbench.errors import UserError
from mtlbench.probes import FILE, probes_file
from mtlbench.report import agreement, tables
from mtlbench.report.evidence import TRIPLETS, read_groups, read_triplets
from mtlbench.report.suites import suites
from mtlbench.runs import find_records
from mtlbench.runs.tried import note_tried, read_tried
from mtlbench.tuning.outcome import FILE as TRIALS
from mtlbench.tuning.outcome import FOLDER, read_trials, write_trials

TIMES = ("train_rate", "embed_rate")  # beginnings of the names of costs


def publish(run: Path, place: Path, times: bool) -> None:
    """Copy one run's record, with or without its speeds, in place of an earlier copy.

    Raises:
        UserError: the run kept no test triplets, so nothing could be compared with it.
    """
    content = json.loads((run / "run.json").read_text())
    tested = content["kind"] == "method" and (run / "test.safetensors").exists()
    triplets = read_triplets(run) if tested else None
    if tested and triplets is None:
        raise UserError(f"{run} lacks its test triplets; run it again.")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    if not times:
        content["costs"] = {name: cost for name, cost in content["costs"].items() if not name.startswith(TIMES)}
        content["receipt"].pop("training_seconds", None)
    (place / "run.json").write_text(json.dumps(content, indent=1) + "\n")
    if (run / "curve.csv").exists():
        curve = pd.read_csv(run / "curve.csv").dropna(subset=["accuracy"])
        if not times:
            curve["seconds"] = None
        curve.to_csv(place / "curve.csv", index=False)
    if probes_file(run).exists():
        shutil.copyfile(probes_file(run), place / FILE)
    if triplets is not None:
        test = load_file(run / "test.safetensors")
        queries = {name: scores for name, scores in test.items() if name.startswith("queries/")}
        kept = {name: test[name] for name in ("hits", "gallery", "labels", *queries) if name in test}
        if "labels" in kept:
            kept["labels"] = _small(kept["labels"])
        save_file(kept, place / "test.safetensors")
        groups = read_groups(run)
        shared = {"triplets": triplets} | ({} if groups is None else {"groups": Kin(groups, "").in_order()})
        save_file({name: _small(numbers) for name, numbers in shared.items()}, place / TRIPLETS)


def _small(numbers: NDArray[np.integer]) -> NDArray[np.integer]:
    return numbers.astype("int16") if numbers.max() < 2**15 else numbers


def share_triplets(folder: Path) -> None:
    """Keep the triplets that most runs of a benchmark answered once, in its folder; others stay with their runs."""
    own = {path: path.read_bytes() for path in sorted(folder.glob(f"*/seed-*/{TRIPLETS}"))}
    if not own:
        return
    shared = folder / TRIPLETS
    if not shared.exists():
        shared.write_bytes(Counter(own.values()).most_common(1)[0][0])
    usual = shared.read_bytes()
    for path, content in own.items():
        if content == usual:
            path.unlink()


def publish_tried(results: Path, place: Path, datasets: set[str]) -> None:
    """Copy the notes on every run on some data sets, including runs that are not published or were deleted."""
    noted, there = (read_tried(folder) or [] for folder in (results, place))
    for tried in noted:
        if tried.dataset in datasets and tried not in there:
            note_tried(place, tried)
    (place / ".tried.jsonl.lock").unlink(missing_ok=True)


def tables_of(results: Path, name: str) -> str:
    """Return a benchmark's tables in Markdown: accuracy, cost, and the agreement of gradients if it was recorded."""
    records = find_records(results, name)
    console = Console(file=io.StringIO(), width=200)
    tables.show(records, "md", console, results=results)
    if any(suite.benchmark["evaluation"].get("agreement_every") for suite in suites(records)):
        console.file.write("\n")
        agreement.show(records, results, "md", console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def main() -> None:
    """Publish the benchmarks named on the command line, and write all tables there again.

    Without `--add`, first remove what was published of these benchmarks.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="where the run records lie")
    parser.add_argument("names", nargs="*", help="benchmarks, by their folders' names")
    parser.add_argument(
        "--to", type=Path, help="where they go: results/published, or, of those in results/, where they are"
    )
    parser.add_argument("--without-times", action="store_true", help="leave speeds and seconds out")
    parser.add_argument("--add", action="store_true", help="keep the other runs that are published of these benchmarks")
    chosen = parser.parse_args()
    published = chosen.results.resolve().parent.name == "results"
    if not published and not chosen.names:
        parser.error(f"say which of {chosen.results}'s benchmarks to publish")
    chosen.to = chosen.to or (chosen.results if published else Path("results/published"))
    for name in chosen.names:
        records = find_records(chosen.results, name)
        if not any(record.status == "done" for record in records):
            raise UserError(f"{chosen.results} has no finished runs of {name}.")
        if chosen.results.resolve() != chosen.to.resolve():
            if not chosen.add:
                shutil.rmtree(chosen.to / name, ignore_errors=True)
            for run in [record.folder for record in records if record.folder]:
                publish(run, chosen.to / run.relative_to(chosen.results), not chosen.without_times)
            if (trials := chosen.results / name / FOLDER / TRIALS).exists():
                (chosen.to / name / FOLDER).mkdir(exist_ok=True)
                about = json.loads(trials.read_text())["about"]
                write_trials(chosen.to / name / FOLDER, read_trials(trials.parent), about)  # those of others stay
            datasets = {str(record.receipt.get("data", {}).get("name")) for record in records}
            publish_tried(chosen.results, chosen.to, datasets)
        print(f"{chosen.to / name}: {len(find_records(chosen.to, name))} records")
    for name in sorted(path.name for path in chosen.to.iterdir() if path.is_dir()):
        share_triplets(chosen.to / name)
        (chosen.to / f"{name}.md").write_text(tables_of(chosen.to, name))
        print(f"{chosen.to / name}.md: written")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

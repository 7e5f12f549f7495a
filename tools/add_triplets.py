"""Adds test triplets to run records of mtlbench 0.1, which lack them, by drawing them again from the data set.

    python tools/add_triplets.py results/published shoes-quick
    python tools/add_triplets.py results/published celeba-10k-quick --data-dir DIR

Comparisons between methods need to know which triplets share images. A benchmark draws its test triplets from its own
seed, so the tool can draw the same ones again. It first makes two checks: the data set's fingerprint must equal that of
the records, and random embeddings must reach the accuracy in the record of `chance`. If either check fails, it writes
nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from mtlbench.data.dataset import prepare
from mtlbench.errors import UserError
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.runs import Record, find_records
from mtlbench.runs.setup import benchmark_of


def redraw(records: list[Record], data_dir: Path | None) -> NDArray[np.integer]:
    """Return the (T, n, 3) test triplets of records of the same benchmark, tasks and data.

    Raises:
        UserError: the images or the triplets differ from those of the records.
    """
    first = records[0]
    benchmark = benchmark_of(first)
    dataset, _ = prepare(benchmark, data_dir, list(first.setup["tasks"]), torch.device("cpu"))
    found, wanted = dataset.facts["fingerprint"], {record.setup["data"] for record in records}
    if wanted != {found}:
        raise UserError(f"{benchmark.name}: the images here have the fingerprint {found}, the records {wanted}.")
    held_out = HeldOutTriplets.draw(dataset, benchmark, "test")
    chances = [record for record in records if record.method == "chance"]
    if not chances:
        raise UserError(f"{benchmark.name}: no record of chance, by which the triplets could be checked.")
    for record in chances:
        generator = torch.Generator().manual_seed(record.seed)
        one = torch.randn(len(held_out.images), benchmark.model.embedding, generator=generator)
        hits = held_out.hits(one.expand(len(dataset.tasks), *one.shape), benchmark.embedding.normalise)
        for task, share in zip(dataset.tasks, hits.float().mean(dim=1).tolist(), strict=True):
            if abs(share - record.metrics[task]["triplet"]) > 1e-5:
                raise UserError(f"{benchmark.name}: the triplets of {task} are drawn otherwise by this mtlbench.")
    small = np.int16 if len(held_out.images) < 2**15 else np.int32
    return held_out.triplets.numpy().astype(small)


def main() -> None:
    """Add the triplets to one benchmark's records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="where the run records lie")
    parser.add_argument("name", help="a benchmark, by its folder's name")
    parser.add_argument("--data-dir", type=Path, help="the data set's folder; rendered sets are drawn anew")
    chosen = parser.parse_args()
    records = [record for record in find_records(chosen.results, chosen.name) if record.status == "done"]
    if not records:
        raise UserError(f"{chosen.results} has no finished runs of {chosen.name}.")
    triplets = redraw(records, chosen.data_dir)
    changed = 0
    for record in records:
        file = record.folder / "test.safetensors" if record.folder else None
        if file is None or not file.exists():
            continue
        kept = load_file(file)
        if kept["hits"].shape != triplets.shape[:2]:
            raise UserError(f"{file} holds answers to {kept['hits'].shape}, not to {triplets.shape[:2]} triplets.")
        save_file(kept | {"triplets": triplets}, file)
        changed += 1
    print(f"{chosen.name}: {triplets.shape} test triplets beside {changed} runs")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

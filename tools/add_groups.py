"""Adds to published records which test images show the same person or product: comparisons count these as one.

    python tools/add_groups.py results/tuned celeba-quick --data-dir DIR

The groups go to the benchmark's `triplets.safetensors`, from images of the fingerprint that is in the records. New
runs keep them themselves.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from mtlbench.data.dataset import prepare
from mtlbench.errors import UserError
from mtlbench.report.evidence import TRIPLETS
from mtlbench.runs import benchmark_of, find_records


def main() -> None:
    """Add the groups to the benchmarks named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("names", nargs="+", help="benchmarks, by their folders' names")
    parser.add_argument("--data-dir", type=Path)
    chosen = parser.parse_args()
    for name in chosen.names:
        record = next(r for r in find_records(chosen.results, name) if r.kind == "method" and r.status == "done")
        dataset, _ = prepare(benchmark_of(record), chosen.data_dir, record.setup["tasks"], torch.device("cpu"))
        if dataset.facts["fingerprint"] != record.setup["data"]:
            raise UserError(f"{name}: these are other images or labels than those of the records.")
        if dataset.kin is None:
            print(f"{name}: no groups are known")
            continue
        groups = dataset.kin[dataset.members("test")].numpy()
        groups = np.where(groups < 0, -1, np.unique(groups, return_inverse=True)[1])
        file = chosen.results / name / TRIPLETS
        save_file(load_file(file) | {"groups": groups.astype("int16")}, file)
        print(f"{name}: {len(groups)} test images, {len(np.unique(groups))} groups")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

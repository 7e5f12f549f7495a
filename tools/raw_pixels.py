"""Measures nearest neighbours on raw pixels by a benchmark's own test triplets: the baseline for networks.

    python tools/raw_pixels.py shoes-quick
    python tools/raw_pixels.py celeba --data-dir ~/celeba --set data.limit=20000 --results results

Nothing is trained. If `--results` holds run records of trained networks, the table shows them too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from mtlbench.benchmark import Benchmark, load_benchmark
from mtlbench.data.dataset import Dataset, prepare
from mtlbench.errors import UserError
from mtlbench.evaluation.scores import scores_of
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.networks import EMBEDDING_BATCH
from mtlbench.runs import find_records

SHOWN = {"triplet": "Triplet accuracy", "macro/map@r": "mAP@R", "macro/precision@1": "P@1"}
Metrics = dict[str, dict[str, float]]


def pixels(dataset: Dataset, index: Tensor) -> Tensor:
    """Return images as rows of pixels, as networks see them: (n,) indices -> (n, 3 H W) float32."""
    return torch.cat([dataset.batch(part).flatten(1) for part in index.split(EMBEDDING_BATCH)])


def mean_image(dataset: Dataset) -> Tensor:
    """Return the mean of the training images, (3 H W,)."""
    members = dataset.members("train")
    sums = [dataset.batch(part).flatten(1).double().sum(0) for part in members.split(EMBEDDING_BATCH)]
    return (torch.stack(sums).sum(0) / len(members)).float()


def without_training(benchmark: Benchmark, dataset: Dataset) -> dict[str, Metrics]:
    """Judge pixels by Euclidean distance, pixels at unit length about the mean image, and random embeddings."""
    questions = HeldOutTriplets.draw(dataset, benchmark, "test")
    plain = pixels(dataset, questions.images)
    noise = torch.randn(len(plain), benchmark.model.embedding, generator=torch.Generator().manual_seed(0))
    found = {}
    for name, embeddings, normalise in (
        ("raw pixels", plain, False),
        ("raw pixels - mean image, unit length", plain - mean_image(dataset), True),
        ("chance", noise.to(dataset.device), True),
    ):
        embedding = benchmark.embedding.model_copy(update={"normalise": normalise})
        protocol = benchmark.model_copy(update={"embedding": embedding})
        found[name] = scores_of(embeddings.expand(len(dataset.tasks), *embeddings.shape), questions, protocol, dataset)[
            0
        ]
    return found


def trained(results: Path, benchmark: Benchmark, dataset: Dataset) -> dict[str, list[Metrics]]:
    """Return the metrics of the runs that answered the same triplets, a list over seeds by method."""
    found: dict[str, list[Metrics]] = {}
    asked = benchmark.evaluation.model_dump(mode="json")
    for record in find_records(results, benchmark.name):
        same = record.setup["data"] == dataset.facts["fingerprint"] and record.setup["tasks"] == list(dataset.tasks)
        same = same and record.setup["benchmark"]["evaluation"] == asked
        if record.status == "done" and record.kind == "method" and same:
            found.setdefault(record.method, []).append(record.metrics)
    return found


def main() -> None:
    """Print one table per metric, in per cent."""
    parser = argparse.ArgumentParser(description="Nearest neighbours on raw pixels, on a benchmark's test triplets.")
    parser.add_argument("benchmark", help="shoes-quick, celeba, or the path of a .toml file")
    parser.add_argument("--data-dir", type=Path, help="the data set's folder")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where run records lie")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="see mtlbench run --help")
    chosen = parser.parse_args()
    try:
        name = chosen.benchmark.removesuffix("-quick")
        benchmark = load_benchmark(name, quick=name != chosen.benchmark, settings=chosen.set)
        dataset, _ = prepare(benchmark, chosen.data_dir, None, torch.device("cpu"))
        rows = {n: [metrics] for n, metrics in without_training(benchmark, dataset).items()}
        rows |= trained(chosen.results, benchmark, dataset)
    except UserError as error:
        sys.exit(str(error))
    for metric, title in SHOWN.items():
        table = []
        for method, runs in rows.items():
            values = [100 * statistics.mean(run[task][metric] for run in runs) for task in dataset.tasks]
            table.append([method, len(runs), statistics.mean(values), *values])
        print(f"\n{benchmark.title} ({benchmark.name}): {title}, %, {len(dataset.members('test'))} test images\n")
        print(tabulate(table, ["", "seeds", "mean", *dataset.tasks], floatfmt=".1f"))


if __name__ == "__main__":
    main()

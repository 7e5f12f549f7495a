"""The reference rows, for which nothing is trained: the network as it is initialised, and random embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from mtlbench.backbones import BackboneFactory
from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.devices import computing_in
from mtlbench.evaluation.scores import scores_of
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.networks import EMBEDDING_BATCH
from mtlbench.runs.lock import working_on
from mtlbench.runs.provenance import packages_of, receipt, setup_of
from mtlbench.runs.record import Json, Record, read_record, run_folder, variant, write_record
from mtlbench.runs.setup import differences, without_training
from mtlbench.specs import Method

UNTRAINED, CHANCE = Method("untrained", "untrained"), Method("chance", "chance")
REFERENCES = (UNTRAINED, CHANCE)  # rows that nothing is trained for


def references(
    seeds: Sequence[int],
    benchmark: Benchmark,
    dataset: Dataset,
    precision: str,
    results: Path,
    overwrite: bool = False,
    varied: Json | None = None,
) -> None:
    """Leave the records of the reference rows: the backbone as it is initialised, and random embeddings.

    Args:
        seeds: of the rows; benchmark, dataset, precision: what they are judged on.
        results: where records go.
        overwrite: replace those that are there.
        varied: in which settings this variant of the benchmark differs, where that changes them.
    """
    held_out = HeldOutTriplets.draw(dataset, benchmark, "test")
    model = benchmark.model
    for method in REFERENCES:
        for seed in seeds:
            setup = setup_of(method, benchmark, dataset, seed, precision)
            folder = run_folder(results, benchmark.name, method.name + variant(varied or {}), seed)
            with working_on(folder, wait=True):
                record = None if overwrite else read_record(folder)
                if record is not None and not differences(without_training(record.setup), without_training(setup)):
                    continue
                if method is UNTRAINED:
                    size, pretrained = benchmark.data.size, model.pretrained
                    net = BackboneFactory(model.backbone, size, model.embedding, seed, pretrained).backbone()
                    net = net.to(dataset.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
                    with torch.no_grad(), computing_in(precision, dataset.device):
                        parts = [net(dataset.batch(part)).float() for part in held_out.images.split(EMBEDDING_BATCH)]
                    one = torch.cat(parts)
                else:
                    generator = torch.Generator().manual_seed(seed)
                    one = torch.randn(len(held_out.images), model.embedding, generator=generator).to(dataset.device)
                metrics, hits, _ = scores_of(one.expand(len(dataset.tasks), *one.shape), held_out, benchmark, dataset)
                made = Record(method.name, seed, "reference", setup, metrics=metrics)
                made.receipt = receipt(dataset, precision, packages_of(method, benchmark)) | (
                    {"varied": varied} if varied else {}
                )
                write_record(folder, made, test={"hits": hits.to(torch.uint8)})

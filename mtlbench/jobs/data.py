"""The data sets of jobs; each process prepares a data set once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset, prepare
from mtlbench.data.making import Tell
from mtlbench.data.pack import Progress
from mtlbench.jobs.job import Job

_PREPARED: dict[str, Dataset] = {}


def prepared(
    benchmark: Benchmark,
    root: Path | None,
    tasks: Sequence[str] | None,
    device: torch.device,
    drawing: Progress | None = None,
    packing: Progress | None = None,
    tell: Tell | None = None,
) -> tuple[Dataset, list[str]]:
    """Prepare a data set; if this process has prepared it before, return it without remarks. See `prepare`."""
    key = _key(benchmark, root, tasks, device)
    if key in _PREPARED:
        return _PREPARED[key], []
    wanted = list(tasks) if tasks is not None else None
    dataset, notes = prepare(benchmark, root, wanted, device, drawing, packing, tell)
    _PREPARED[key] = dataset
    return dataset, notes


def _key(benchmark: Benchmark, root: Path | None, tasks: Sequence[str] | None, device: torch.device) -> str:
    anchors = [benchmark.train.anchors, benchmark.evaluation.anchors]
    return json.dumps([benchmark.data.model_dump(mode="json"), *anchors, str(root), tasks, str(device)], sort_keys=True)


def adopt(job: Job, dataset: Dataset) -> None:
    """Register a data set that another process has prepared for a job."""
    site = job.site
    _PREPARED[_key(job.protocol, site.data_dir, site.tasks, torch.device(site.device))] = dataset


def dataset_of(job: Job) -> Dataset:
    """Return a job's data set on its device.

    Raises:
        UserError: see `prepare`.
    """
    return prepared(job.protocol, job.site.data_dir, job.site.tasks, torch.device(job.site.device))[0]


def forget() -> None:
    """Drop all data sets held in memory."""
    _PREPARED.clear()

"""The data sets of jobs: each prepared once a process."""

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
    """Prepare a data set, or return it without remarks where this process has prepared it; see `prepare`."""
    about = [
        benchmark.data.model_dump(mode="json"),
        benchmark.train.anchors,
        benchmark.evaluation.anchors,
        str(root),
        tasks,
        str(device),
    ]
    key = json.dumps(about, sort_keys=True)
    if key in _PREPARED:
        return _PREPARED[key], []
    wanted = list(tasks) if tasks is not None else None
    dataset, notes = prepare(benchmark, root, wanted, device, drawing, packing, tell)
    _PREPARED[key] = dataset
    return dataset, notes


def dataset_of(job: Job) -> Dataset:
    """Return a job's data set on its device.

    Raises:
        UserError: see `prepare`.
    """
    return prepared(job.protocol, job.site.data_dir, job.site.tasks, torch.device(job.site.device))[0]


def forget() -> None:
    """Drop every data set that is held."""
    _PREPARED.clear()

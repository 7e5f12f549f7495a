"""Planning and doing runs of the short protocol on the data set in memory."""

from __future__ import annotations

from pathlib import Path

from support import make_dataset, protocol

from mtlbench.benchmark import Benchmark
from mtlbench.jobs.execute import execute
from mtlbench.jobs.job import Job, Watcher
from mtlbench.jobs.plan import plan
from mtlbench.plugins import load_plugins
from mtlbench.runs import Record
from mtlbench.specs import parse_methods

load_plugins()


def jobs_for(results: Path, methods: str = "shared", seeds: tuple[int, ...] = (0,), **more: object) -> list[Job]:
    benchmark = more.pop("benchmark", None) or protocol()
    assert isinstance(benchmark, Benchmark)
    return plan(parse_methods(methods), seeds, benchmark, make_dataset(), "fp32", results, **more)  # type: ignore[arg-type]


def do(job: Job, watcher: Watcher | None = None, **more: object) -> Record:
    benchmark = more.pop("benchmark", None) or protocol()
    return execute(job, benchmark, make_dataset(), "fp32", watcher or Watcher(), **more)  # type: ignore[arg-type]


def states(jobs: list[Job]) -> list[str]:
    return [job.state for job in jobs]

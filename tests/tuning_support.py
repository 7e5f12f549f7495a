"""Tunings of tiny networks on made-up images, for tests."""

from __future__ import annotations

from pathlib import Path

from support import make_dataset, protocol

from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.jobs.job import Site
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_methods
from mtlbench.tuning.space import space_of
from mtlbench.tuning.study import Studies, Trial
from mtlbench.tuning.trial import without_test
from mtlbench.tuning.tune import Told, Tuning, open_studies, work


def tuning_of(
    folder: Path,
    methods: str = "shared,modulation",
    trials: int = 3,
    seeds: tuple[int, ...] = (0,),
    dataset: Dataset | None = None,
    benchmark: Benchmark | None = None,
) -> Tuning:
    """Tune methods on 90 images of 24 px, six steps a trial."""
    load_plugins()
    chosen, benchmark = parse_methods(methods), benchmark or protocol()
    spaces = {method.name: space_of(method, benchmark) for method in chosen}
    data = without_test(dataset or make_dataset())
    return Tuning(chosen, spaces, benchmark, "fp32", seeds, trials, Site(), folder, data)


def tuned(tuning: Tuning, told: Told | None = None) -> dict[str, list[Trial]]:
    """Do all trials in this process; return them by method."""
    studies = open_studies(tuning, overwrite=False)
    work(tuning, studies, told or Told(), lambda: False)
    return {name: studies.trials(name) for name in tuning.names}


def trials_in(folder: Path, method: str) -> list[Trial]:
    """Read a method's trials as another process would."""
    return Studies(folder).trials(method)

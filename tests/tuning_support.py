"""Tunings of tiny networks on made-up images, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from support import make_dataset, protocol
from torch import Tensor

from mtlbench import Architecture, Range
from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.jobs.job import Site
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_methods
from mtlbench.tuning.space import space_of
from mtlbench.tuning.study import JOURNAL, Studies, Trial
from mtlbench.tuning.trial import without_test
from mtlbench.tuning.tune import Told, Tuning, open_studies, work

ROOT = Path(__file__).parents[1]


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


class GoodAt50(Architecture):
    """Embeds an image by its colours, hidden under noise the more, the further its rate is from 50."""

    search = {"rate": Range(0.1, 1000.0, log=True)}

    def __init__(self, backbones, tasks, *, rate: float = 1.0) -> None:
        super().__init__(backbones, tasks)
        self.noise = abs(torch.tensor(rate / 50).log10().item())
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        found = []
        for t, group in enumerate(images):
            half = group[:, :, :12] if t == 0 else group[:, :, 12:]
            random = torch.Generator().manual_seed(1)
            noise = torch.randn(len(half), 7, generator=random)
            signal = half.float().mean((1, 2, 3))[:, None]
            found.append(torch.cat([signal, torch.ones_like(signal), self.noise * noise[:, :6]], 1) * self.scale)
        return torch.stack(found)


SHORT = (
    "train.steps=40", "train.triplets=2", "train.joint_triplets=8", "evaluation.every=4", "evaluation.triplets=50",
    "model.embedding=8", "data.image_size=24", "train.precision=fp32", "data.rendered.images=120",
)  # fmt: skip


def command(results: Path, *more: str) -> list[str]:
    """Return the command of a tuning that takes seconds."""
    words = [sys.executable, "-m", "mtlbench", "tune", "--dataset", "shoes", "--quick", "--results", str(results)]
    words += ["--methods", "single,shared", "--trials", "3", *more]
    return [*words, *(word for setting in SHORT for word in ("--set", setting))]


def begin(words: list[str]) -> subprocess.Popen[str]:
    """Begin a command."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def wait_for_trials(folder: Path, number: int, seconds: float = 1200) -> None:
    """Wait until so many trials have been begun."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        journal = folder / JOURNAL
        if journal.exists() and journal.read_text().count('"op_code":4') >= number:
            return
        time.sleep(0.1)
    raise AssertionError(f"{number} trials were not begun within {seconds} s")

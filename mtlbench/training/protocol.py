"""Names and options in a benchmark, checked against what is registered before anything is read or trained."""

from __future__ import annotations

from mtlbench.augmentation import read_augmentations
from mtlbench.benchmark import Benchmark
from mtlbench.evaluation.selection import check_selection
from mtlbench.losses.contract import resolved
from mtlbench.optimisers import find_optimiser
from mtlbench.options import read_spec
from mtlbench.registry import SAMPLERS


def check_protocol(benchmark: Benchmark) -> None:
    """Refuse a benchmark that names a loss, sampler, optimiser, augmentation or measure that there isn't.

    Raises:
        UserError: with the nearest known name or option.
    """
    resolved(benchmark.loss)
    read_spec(SAMPLERS, benchmark.train.sampling)
    find_optimiser(benchmark.train.optimiser)
    read_augmentations(benchmark.train.augment)
    check_selection(benchmark)

"""What a checkpoint is chosen by, on the validation split."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from mtlbench.architecture import Architecture
from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.errors import UserError, did_you_mean
from mtlbench.evaluation.scores import metric_names, scores_of
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.networks import tensors_by_task


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


PER_TASK = "per-task"  # each task has a checkpoint of its own
_OVER_TASKS: dict[str, Callable[[Sequence[float]], float]] = {"mean": _mean, "worst": min, PER_TASK: _mean}


def check_selection(benchmark: Benchmark) -> None:
    """Refuse an `evaluation.select` that nothing can be chosen by.

    Raises:
        UserError: with what there is.
    """
    select = benchmark.evaluation.select
    metrics = metric_names(benchmark)
    known = [*_OVER_TASKS, *metrics]
    if select not in known and select.removeprefix("macro/") not in metrics:
        raise UserError(
            f"evaluation.select = '{select}': there is no such measure.{did_you_mean(select, known)} Available:"
            f" {', '.join(known)}."
        )


def own_tensors(architecture: Architecture, benchmark: Benchmark, method: str) -> list[list[str]] | None:
    """Return the names of each task's tensors where each task's checkpoint is chosen by itself; else None.

    Raises:
        UserError: the tasks share tensors, which can't be of several checkpoints.
    """
    if benchmark.evaluation.select != PER_TASK:
        return None
    owned = tensors_by_task(architecture)
    if owned is None:
        raise UserError(
            f"evaluation.select = '{PER_TASK}' is for methods whose tasks share no parameter, and those of {method} do:"
            f" run {method} with evaluation.select = 'mean'."
        )
    return owned


def criterion(
    hits: Sequence[float], embeddings: Tensor, triplets: HeldOutTriplets, benchmark: Benchmark, dataset: Dataset
) -> float:
    """Return the number that the chosen checkpoint has the highest of.

    Args:
        hits: triplet accuracy of each task on the validation split.
        embeddings: (T, N, D) of its images.
        triplets: of the validation split.
        benchmark: says which measure.
        dataset: whose labels retrieval metrics need.

    Raises:
        UserError: no task has that measure.
    """
    select = benchmark.evaluation.select
    if select in _OVER_TASKS:
        return _OVER_TASKS[select](hits)
    metrics = scores_of(embeddings, triplets, benchmark, dataset).metrics
    known = [by_name[select] for by_name in metrics.values() if not math.isnan(by_name.get(select, math.nan))]
    if not known:
        raise UserError(f"evaluation.select = '{select}': no task has this metric on its validation images.")
    return _mean(known)


def described(benchmark: Benchmark) -> str:
    """Say what a checkpoint is chosen by, for the receipt."""
    select = benchmark.evaluation.select
    if select == PER_TASK:
        return "each task's highest triplet accuracy on the validation split, task by task"
    measure = {"mean": "mean triplet accuracy", "worst": "triplet accuracy of the worst task"}.get(
        select, f"mean {select} over tasks"
    )
    return f"highest {measure} on the validation split"

"""What a checkpoint is chosen by, on the validation split: `evaluation.select`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.errors import UserError, did_you_mean
from mtlbench.evaluation.metrics import Metric, extra_metrics, metric
from mtlbench.evaluation.retrieval import retrieval
from mtlbench.evaluation.triplets import HeldOutTriplets

_OF_TRIPLETS: dict[str, tuple[Callable[[Sequence[float]], float], str]] = {
    "mean": (lambda accuracies: sum(accuracies) / len(accuracies), "mean triplet accuracy"),
    "worst": (min, "triplet accuracy of the worst task"),
}
"""How the tasks' triplet accuracies make one number, and what that is called."""


def selection(select: str) -> str:
    """Return in words what `evaluation.select` chooses by, for receipts.

    Raises:
        UserError: it is no metric, with the nearest that is one.
    """
    what = _OF_TRIPLETS[select][1] if select in _OF_TRIPLETS else f"mean {_metric(select)[0]}"
    return f"highest {what} on the validation split"


def criterion(
    benchmark: Benchmark, dataset: Dataset, embeddings: Tensor, held_out: HeldOutTriplets, hits: Tensor
) -> float:
    """Return the number, the higher the better, that says which checkpoint is the best.

    A checkpoint is chosen for all tasks together. To choose task by task would take a number a task, and an
    architecture that can restore tasks apart.

    Args:
        benchmark: its `evaluation.select` is `mean` or `worst` (of triplet accuracy, over tasks), or a metric, of which
            the mean is taken over the tasks that have one.
        dataset: of the embeddings.
        embeddings: (T, N, D) of the validation images.
        held_out: their triplets.
        hits: (T, n) bool, which of these are ordered rightly.

    Raises:
        UserError: no task has that metric.
    """
    select = benchmark.evaluation.select
    if select in _OF_TRIPLETS:
        return _OF_TRIPLETS[select][0](hits.float().mean(1).tolist())
    name, wanted = _metric(select)
    values = []
    for t, labels in enumerate(dataset.labels[:, held_out.images]):
        if wanted.ordered_only and not dataset.ordered[t]:
            continue
        found = retrieval(
            embeddings[t],
            labels,
            [[wanted]],
            normalise=benchmark.embedding.normalise,
            ordered_values=len(dataset.values[t]) if dataset.ordered[t] else None,
        )
        values.append(found.metrics[name])
    known = [value for value in values if not math.isnan(value)]
    if not known:
        raise UserError(f"evaluation.select = '{select}': no task has this metric on its validation images.")
    return sum(known) / len(known)


def _metric(select: str) -> tuple[str, Metric]:
    """Return the name of a metric's mean over queries or, with `macro/`, over label values, and the metric itself."""
    plain = select.removeprefix("macro/")
    try:
        found = metric(plain)
    except UserError as error:
        words = ", ".join(_OF_TRIPLETS)
        near = did_you_mean(select, _OF_TRIPLETS)
        raise UserError(f"evaluation.select is one of {words}, or a metric.{near} {error}") from error
    return ("macro/" if plain != select else "") + found.name, found


def check_evaluation(benchmark: Benchmark) -> None:
    """Refuse metrics that don't exist before anything is trained.

    Raises:
        UserError: one of `evaluation.metrics`, or `evaluation.select`, with the nearest that does.
    """
    extra_metrics(benchmark.evaluation.metrics, benchmark.evaluation.ks)
    selection(benchmark.evaluation.select)

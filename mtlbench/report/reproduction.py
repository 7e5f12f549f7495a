"""Runs beside their repetition: equal numbers, numbers as close as another seed's, or neither.

Training in other conditions, such as another number of threads, adds up numbers in another order. The last bits differ
at first and everything after some hundred steps, so that a repetition in other conditions is like another seed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mtlbench.report.evidence import read_triplets
from mtlbench.report.inference import LEVEL, PRIORS, moderated, student_t
from mtlbench.runs import Record, folder_of

Verdict = Literal["same", "agrees", "undecided", "differs", "failed"]
MEANINGS: dict[Verdict, str] = {
    "same": "all numbers are equal, to the last bit",
    "agrees": "the mean and each task are as close as those of two sets of as many seeds of one method, for all"
    " methods at once in 95 of 100 cases, by the spread of the record's seeds and of earlier runs' (allowed); what is"
    " below that can't be seen",
    "undecided": "the numbers differ, and the record's seeds are too few, or vary too much, to tell this from another"
    " seed; repeat more of its seeds, if it has them",
    "differs": "the numbers differ by more than seeds do, or under the same conditions",
    "failed": "it could not be repeated",
}
MOST = 0.1  # a wider tolerance would let a repetition pass that learned next to nothing
# What decides the last bits, in words; what else decides a result is the same, or nothing is repeated.
_CONDITIONS = {"mtlbench": "mtlbench", "torch": "PyTorch", "device": "device", "python": "Python"}


@dataclass(frozen=True)
class Repetition:
    """A method's runs and their repetition.

    Attributes:
        method: as tables name it; seeds: which were repeated.
        before, now: mean triplet accuracy over tasks and these seeds; NaN where a run failed.
        tolerance: how far the two may lie apart when both are seeds of one distribution, at 95 % for all methods and,
            with an equal share of the 5 %, their tasks; NaN where that is not known.
        worst: the metric that differs most, and by how much; empty where all are equal.
        conditions: in what the two differ that decides the last bits.
        verdict: what follows; reason: why it is `differs` or `failed`, where that is no matter of distance.
    """

    method: str
    seeds: tuple[int, ...]
    before: float
    now: float
    tolerance: float
    worst: str
    conditions: tuple[str, ...]
    verdict: Verdict
    reason: str = ""


def repetitions(
    published: Sequence[Record], pairs: Sequence[tuple[Record, Record | None]], results: Path
) -> list[Repetition]:
    """Compare runs with their repetition, method by method.

    Args:
        published: every finished run of the suite, whose seeds tell how much a seed changes.
        pairs: a run and its repetition, None where that left no record.
        results: where repetitions lie.
    """
    by_method: dict[str, list[tuple[Record, Record | None]]] = defaultdict(list)
    for pair in pairs:
        by_method[_row(pair[0])].append(pair)
    level = LEVEL / len(by_method)  # so that all methods agree in 95 of 100 cases
    return [
        _repetition(name, own, [record for record in published if _row(record) == name], results, level)
        for name, own in by_method.items()
    ]


def _row(record: Record) -> str:
    """Return what tells one row of a suite from another: the method's folder."""
    return record.folder.parent.name if record.folder else str(record.setup["method"]["name"])


def _repetition(
    name: str, pairs: Sequence[tuple[Record, Record | None]], siblings: Sequence[Record], results: Path, level: float
) -> Repetition:
    seeds = tuple(old.seed for old, _ in pairs)
    made = [(old, new) for old, new in pairs if new is not None and new.status == "done"]
    before = float(np.mean([_mean(old) for old, _ in pairs]))
    if len(made) < len(pairs):
        reasons = dict.fromkeys(new.reason if new is not None else "it left no record" for _, new in pairs
                                if new is None or new.status != "done")  # fmt: skip
        return Repetition(name, seeds, before, math.nan, math.nan, "", (), "failed", "; ".join(reasons))
    now = float(np.mean([_mean(new) for _, new in made]))
    conditions = tuple(dict.fromkeys(words for old, new in made for words in unlike_conditions(old, new)))
    worst = max((_worst(old, new) for old, new in made), key=lambda found: found[1])
    tasks = [str(task) for task in made[0][0].setup["tasks"]]
    level /= 2 if len(tasks) > 1 else 1  # the other half is the tasks'
    tolerance = _tolerance([_mean(record) for record in siblings], len(made), len(tasks), level)
    far = _far_tasks(tasks, made, siblings, level) if len(tasks) > 1 else []
    verdict: Verdict = "agrees" if tolerance <= MOST else "undecided"
    reason = ""
    if abs(now - before) > tolerance:
        verdict = "differs"
    elif far:
        verdict, reason = "differs", "; ".join(far)
    if not worst[1]:
        verdict, reason = "same", ""
    elif not conditions:
        verdict, reason = "differs", "under the same conditions all numbers must be the same"
    elif not all(_same_questions(old, new, results) for old, new in made):
        verdict, reason = "differs", "the two were tested on different triplets"
    told = f"{worst[0]} by {worst[1]:.2g}" if worst[1] else ""
    return Repetition(name, seeds, before, now, tolerance, told, conditions, verdict, reason)


def _far_tasks(
    tasks: Sequence[str], made: Sequence[tuple[Record, Record]], siblings: Sequence[Record], level: float
) -> list[str]:
    """Say which tasks' accuracies lie further apart than seeds explain, at a level for all tasks together."""
    found = []
    for task in tasks:
        spread = [r.metrics[task]["triplet"] for r in siblings if "triplet" in r.metrics.get(task, {})]
        pairs = [[r.metrics.get(task, {}).get("triplet", math.nan) for r in pair] for pair in made]
        before, now = (float(mean) for mean in np.mean(pairs, 0))
        allowed = _tolerance(spread, len(made), 1, level / len(tasks))
        if math.isnan(now) != math.isnan(before):
            found.append(f"{task} has an accuracy in one of the two alone")
        elif abs(now - before) > allowed:
            found.append(
                f"{task} has {100 * now:.1f} % here, {100 * before:.1f} in the record, ±{100 * allowed:.1f} allowed"
            )
    return found


def _mean(record: Record) -> float:
    return math.nan if record.accuracy is None else record.accuracy


def _worst(old: Record, new: Record) -> tuple[str, float]:
    """Return the metric that differs most between two runs, of those that both have, and by how much."""
    found = [
        (f"{name} of {task}", abs(value - new.metrics[task][name]))
        for task, metrics in old.metrics.items()
        for name, value in metrics.items()
        if name in new.metrics.get(task, {}) and not (math.isnan(value) and math.isnan(new.metrics[task][name]))
    ]
    return max(found, key=lambda one: one[1], default=("", 0.0))


def _tolerance(means: Sequence[float], repeated: int, tasks: int, level: float) -> float:
    """Return how far the means of two sets of so many seeds may lie apart, if they are of one distribution.

    The test images are the same, so that seeds alone decide. Their variance is that of the published seeds, moderated
    by what is known of seeds (see `inference`) from three on. Of a single seed it is not known: NaN.
    """
    if len(means) < 2:
        return math.nan
    variance, freedom = float(np.var(means, ddof=1)), len(means) - 1.0
    if len(means) > 2:
        variance, freedom = moderated(variance, freedom, PRIORS[min(tasks, max(PRIORS))])
    return student_t(level, freedom) * math.sqrt(2 * variance / repeated)


def unlike_conditions(old: Record, new: Record) -> list[str]:
    """List in what two runs of one setup differ that decides the last bits, as `1 thread there, 2 here`."""
    found = []
    code, present = old.setup.get("code", {}), new.setup.get("code", {})
    if code.get("training") != present.get("training"):
        found.append(f"version {code.get('training')} of the training there, {present.get('training')} here")
    edited = [key for key in sorted(code.keys() & present.keys() - {"training"}) if code[key] != present[key]]
    if edited:
        found.append(f"the source of its {' and '.join(edited)} has changed")
    threads = [record.setup.get("threads") for record in (old, new)]
    if threads[0] != threads[1]:
        there, here = ("unknown" if count is None else count for count in threads)
        found.append(f"threads: {there} there, {here} here")
    if old.setup["precision"] != new.setup["precision"]:
        found.append(f"{old.setup['precision']} there, {new.setup['precision']} here")
    for key, words in (("compiled", "compiled networks"), ("deterministic", "deterministic kernels")):
        there, here = (f"{'' if record.setup.get(key) else 'no '}{words}" for record in (old, new))
        if there != here:
            found.append(f"{there} there, {here} here")
    for key, words in _CONDITIONS.items():
        there, here = old.receipt.get(key), new.receipt.get(key)
        if there != here:
            found.append(f"{words} {there} there, {here} here")
    return found


def _same_questions(old: Record, new: Record, results: Path) -> bool:
    triplets = [read_triplets(folder_of(record, results)) for record in (old, new)]
    if triplets[0] is None or triplets[1] is None:
        return True
    return np.array_equal(triplets[0], triplets[1])

"""Which methods can't be told apart from the best one, from the answers that runs kept question by question.

It reads hits and curves beside `run.json`, without torch; what tables make of them is `summary`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mtlbench.runs import Record

LEVEL = 0.05  # of the two-sided test, over all comparisons of one column
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(100)
Hits = NDArray[np.uint8]  # (T, n): 1 where a run ordered a test triplet rightly


def read_hits(folder: Path, record: Record) -> Hits | None:
    """Return a finished run's (T, n) hits, or None where they are missing or don't give the record's own accuracy."""
    tasks = record.setup["tasks"]
    try:
        with safe_open(folder / "test.safetensors", framework="numpy") as file:
            hits: Hits = file.get_tensor("hits").astype(np.uint8, copy=False)
    except (OSError, SafetensorError):
        return None
    if hits.ndim != 2 or len(hits) != len(tasks) or not hits.size:
        return None
    found = np.count_nonzero(hits, axis=1) / hits.shape[1]
    wanted = [record.metrics.get(task, {}).get("triplet", math.nan) for task in tasks]
    return hits if np.allclose(found, wanted, rtol=0, atol=1e-5) else None


@dataclass(frozen=True)
class Difference:
    """A mean difference in accuracy over seeds, with its two sources of variance.

    Attributes:
        mean: over seeds, tasks and questions.
        from_seeds: variance of one seed's mean; 0 with one seed, which tells nothing of it.
        from_questions: variance of `mean` that comes from the choice of test questions.
        seeds, questions: how many there were.
    """

    mean: float
    from_seeds: float
    from_questions: float
    seeds: int
    questions: int

    @property
    def variance(self) -> float:
        """The variance of `mean`."""
        return self.from_seeds / self.seeds + self.from_questions

    def p(self, from_seeds: float, freedom: float) -> float:
        """Return the two-sided p-value of no difference, by Student's t with Satterthwaite's degrees of freedom.

        Args:
            from_seeds: variance of one seed's mean, as the table's methods together tell it.
            freedom: degrees of freedom that this variance was estimated with.
        """
        parts = [(from_seeds / self.seeds, freedom), (self.from_questions, self.questions - 1)]
        variance = sum(part for part, _ in parts)
        if variance == 0:
            return float(self.mean == 0)
        uncertain = sum(part**2 / max(n, 1) for part, n in parts)
        return student_p(abs(self.mean) / math.sqrt(variance), variance**2 / uncertain)


def difference(first: Hits, second: Hits) -> Difference:
    """Compare two methods' hits, each (S, T, n): the same seeds, tasks and questions in the same order.

    The variance is that of a bootstrap which draws seeds (the same for all tasks) and, task by task, questions (the
    same for all seeds), with replacement. It has a closed form (Owen, The pigeonhole bootstrap, Annals of Applied
    Statistics 2007): the variance of the seeds' means over S, that of the questions' means over n, and that of what
    remains over S n. The first two are sample variances here, S / (S - 1) and n / (n - 1) times the bootstrap's.
    """
    seeds, tasks, questions = first.shape
    unequal = first.view(np.int8) - second.view(np.int8)
    by_seed = unequal.sum(2, dtype=np.int32) / questions  # (S, T)
    by_question = unequal.sum(0, dtype=np.int8 if seeds < 128 else np.int32).astype(np.float32) / seeds  # (T, n)
    means = by_seed.mean(0)
    squares = np.einsum("tn,tn->t", by_question, by_question, dtype=np.float64)
    of_questions = (squares - questions * means**2) / max(questions - 1, 1) / questions
    number = np.array([np.count_nonzero(unequal[:, task]) for task in range(tasks)])
    rest = number - questions * (by_seed**2).sum(0) - seeds * squares + seeds * questions * means**2
    from_questions = float(np.clip(of_questions + rest / (seeds * questions) ** 2, 0, None).sum()) / tasks**2
    from_seeds = float(by_seed.mean(1).var(ddof=1)) if seeds > 1 else 0.0
    return Difference(float(means.mean()), from_seeds, from_questions, seeds, questions)


def student_p(t: float, freedom: float) -> float:
    """Return the probability of |T| ≥ t for Student's t with (real) degrees of freedom ≥ 1."""
    if freedom > 500:
        return math.erfc(t / math.sqrt(2))
    # with T = sqrt(freedom) tan(angle) the density is that of cos(angle)^(freedom - 1)
    begin = math.atan(t / math.sqrt(freedom))
    half = (math.pi / 2 - begin) / 2
    tail = half * float(_WEIGHTS @ np.cos(begin + half * (_NODES + 1)) ** (freedom - 1))
    whole = math.sqrt(math.pi) / 2 * math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2))
    return min(1.0, tail / whole)


def tied(hits: Mapping[str, Mapping[int, Hits]], best: str, tasks: Sequence[int]) -> set[str]:
    """Return the methods that can't be told apart from the best one in mean accuracy over tasks.

    Each is compared with the best on the seeds that both have. Where some method has several seeds, a pair that shares
    fewer than two can't be told apart: one seed says nothing of how seeds vary. How they vary is estimated from all
    pairs together, as in randomised blocks, but never as less than the pair's own seeds say: two or three of them alone
    tell too little, and the percentiles of a plain bootstrap over so few find differences where there are none. With
    Holm's correction the chance of any false distinction stays near 5 %; in simulations of methods that are all equal,
    with two to five seeds, it was at most 7 % among six and 11 % among twenty, where the best is best by luck alone.

    Args:
        hits: by method and seed, each (T, n) of the same questions.
        best: the method that the others are compared with.
        tasks: which rows of the hits.
    """
    needed = 2 if any(len(by_seed) > 1 for by_seed in hits.values()) else 1
    undecided: set[str] = set()
    pairs: dict[str, Difference] = {}
    for method, by_seed in hits.items():
        if method == best:
            continue
        shared = sorted(by_seed.keys() & hits[best].keys())
        if len(shared) < needed:
            undecided.add(method)
        else:
            first, second = (np.stack([side[seed][tasks] for seed in shared]) for side in (hits[best], by_seed))
            pairs[method] = difference(first, second)
    own = sum(pair.seeds - 1 for pair in pairs.values())
    pooled = sum((pair.seeds - 1) * pair.from_seeds for pair in pairs.values()) / own if own else 0.0
    # the pairs share the best method: were all methods to vary alike, k pairs of S seeds would tell as much as this
    freedom = 4 * own / (len(pairs) + 3) if pairs else 0.0
    tested = [(pair.p(max(pooled, pair.from_seeds), freedom), method) for method, pair in pairs.items()]
    for place, (p, method) in enumerate(sorted(tested)):
        if p > LEVEL / (len(tested) - place):
            return undecided | {method for _, method in sorted(tested)[place:]}
        if pairs[method].mean < 0:  # better than the best one on the seeds that they share
            undecided.add(method)
    return undecided


def read_validations(folder: Path) -> pd.DataFrame | None:
    """Return a run's validations: `seconds` of training steps until then, `accuracy`, and `accuracy/<task>` each.

    None where the run kept no curve, or one without seconds.
    """
    try:
        curve = pd.read_csv(
            folder / "curve.csv", usecols=lambda name: name == "seconds" or name.partition("/")[0] == "accuracy"
        )
    except (OSError, ValueError):
        return None
    if not {"seconds", "accuracy"} <= set(curve):
        return None
    timed = curve.dropna(subset=["accuracy", "seconds"])
    return None if timed.empty else timed


def accuracy_within(validations: pd.DataFrame, seconds: float, tasks: Sequence[str]) -> float | None:
    """Return the mean validation accuracy over some tasks of the checkpoint that would be chosen after some seconds.

    That is the one of highest mean accuracy over all tasks; None if nothing was measured by then.
    """
    there = validations[validations["seconds"] <= seconds]
    if there.empty:
        return None
    chosen = there.iloc[int(there["accuracy"].to_numpy().argmax())]
    return float(np.mean([chosen[f"accuracy/{task}"] for task in tasks]))

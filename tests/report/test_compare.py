"""The comparison with the best: against the bootstrap that it stands for, and how often it errs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mtlbench.report.compare import accuracy_within, difference, read_hits, read_validations, student_p, tied
from mtlbench.runs import Record, write_record

Hits = NDArray[np.uint8]


def answers(
    random: np.random.Generator,
    shape: tuple[int, int, int],
    lift: float = 0.0,
    by_seed: float = 0.0,
    by_question: float = 0.3,
) -> Hits:
    """(S, T, n) hits whose chances vary between seeds and between questions."""
    seeds, tasks, questions = shape
    chance = (
        0.7
        + lift
        + by_seed * random.normal(size=(seeds, 1, 1))
        + by_question * (random.random((1, tasks, questions)) - 0.5)
    )
    return (random.random(shape) < chance).astype(np.uint8)


def bootstrap(first: Hits, second: Hits, times: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Mean differences over resampled seeds (the same for all tasks) and questions (task by task, all seeds)."""
    apart = first.astype(float) - second
    seeds, tasks, questions = apart.shape
    found = []
    for _ in range(times):
        drawn = apart[random.integers(seeds, size=seeds)]
        found.append(np.mean([drawn[:, t, random.integers(questions, size=questions)] for t in range(tasks)]))
    return np.array(found)


def by_seed(hits: Hits) -> dict[int, Hits]:
    return dict(enumerate(hits))


@pytest.mark.parametrize(("seeds", "tasks", "spread"), [(40, 1, 0.0), (40, 1, 0.1), (25, 3, 0.05), (1, 2, 0.0)])
def test_the_variance_is_that_of_a_bootstrap_over_seeds_and_questions(seeds, tasks, spread):
    random = np.random.default_rng(3)
    first = answers(random, (seeds, tasks, 150), 0.05, spread)
    second = answers(random, (seeds, tasks, 150), 0.0, spread)
    drawn = bootstrap(first, second, 3000, random)
    found = difference(first, second)
    assert found.mean == pytest.approx(first.mean() - second.mean())
    assert found.mean == pytest.approx(drawn.mean(), abs=4 * drawn.std() / math.sqrt(3000))
    assert math.sqrt(found.variance) == pytest.approx(drawn.std(), rel=0.08)


def test_pairing_by_question_counts():
    """Two methods that err on the same questions differ for sure where unpaired ones would not."""
    random = np.random.default_rng(0)
    first = (random.random((1, 1, 400)) < 0.6).astype(np.uint8)
    worse = first.copy()
    worse[0, 0, np.flatnonzero(first[0, 0])[:12]] = 0
    shuffled = random.permuted(worse, axis=2)
    assert tied({"a": by_seed(first), "b": by_seed(worse)}, "a", [0]) == set()
    assert tied({"a": by_seed(first), "b": by_seed(shuffled)}, "a", [0]) == {"b"}


def test_seeds_that_vary_make_methods_hard_to_tell_apart():
    """Every seed's questions would tell the two apart; over seeds the difference changes its sign."""
    hits = {"a": np.ones((3, 1, 1000), np.uint8), "b": np.ones((3, 1, 1000), np.uint8)}
    hits["b"][0, :, :300] = 0
    hits["b"][1, :, :20] = 0
    hits["a"][2, :, :100] = 0
    assert hits["a"].mean() > hits["b"].mean()
    assert tied({m: by_seed(h) for m, h in hits.items()}, "a", [0]) == {"b"}
    assert tied({m: {0: h[0]} for m, h in hits.items()}, "a", [0]) == set()


def test_only_the_named_tasks_count():
    random = np.random.default_rng(1)
    one, two = answers(random, (3, 2, 500)), answers(random, (3, 2, 500))
    two[:, 1] = 0
    hits = {"one": by_seed(one), "two": by_seed(two)}
    assert tied(hits, "one", [0]) == {"two"}
    assert tied(hits, "one", [1]) == set()
    assert tied(hits, "one", [0, 1]) == set()


def test_equal_methods_are_rarely_told_apart_and_unequal_ones_are():
    random = np.random.default_rng(7)
    wrong = told = 0
    for _ in range(200):
        hits = {name: by_seed(answers(random, (3, 1, 300), 0.0, 0.02)) for name in "abcd"}
        best = max(hits, key=lambda name: np.mean([h.mean() for h in hits[name].values()]))
        wrong += len(tied(hits, best, [0])) < 3
        clearly = {"best": by_seed(answers(random, (3, 1, 300), 0.15, 0.02)), **hits}
        told += not tied(clearly, "best", [0])
    assert wrong <= 20  # 5 % of 200 is 10
    assert told >= 180


def test_a_pair_that_shares_too_few_seeds_cannot_be_told_apart():
    ones, zeros = np.ones((3, 1, 50), np.uint8), np.zeros((3, 1, 50), np.uint8)
    hits = {"best": by_seed(ones), "bad": by_seed(zeros), "bad once": {0: zeros[0]}, "elsewhere": {9: zeros[0]}}
    assert tied(hits, "best", [0]) == {"bad once", "elsewhere"}


def test_a_method_that_wins_on_the_seeds_both_have_is_not_told_apart():
    ones, zeros = np.ones((1, 50), np.uint8), np.zeros((1, 50), np.uint8)
    hits = {"best": {0: zeros, 1: zeros, 2: ones, 3: ones, 4: ones}, "other": {0: ones, 1: ones}}
    assert tied(hits, "best", [0]) == {"other"}


def test_the_same_answers_are_alike_and_alone_there_is_nothing_to_compare():
    hits = answers(np.random.default_rng(0), (2, 1, 30))
    assert tied({"one": by_seed(hits), "copy": by_seed(hits)}, "one", [0]) == {"copy"}
    assert tied({"one": by_seed(hits)}, "one", [0]) == set()


@pytest.mark.parametrize(
    ("t", "freedom", "p"),
    [(12.7062047, 1, 0.05), (4.3026527, 2, 0.05), (2.7764451, 4, 0.05), (63.6567412, 1, 0.01), (2.0095752, 49, 0.05),
     (1.9647198, 500, 0.05), (1.9599640, math.inf, 0.05), (0.0, 3.3, 1.0)],
)  # fmt: skip
def test_students_t_agrees_with_its_table(t, freedom, p):
    assert student_p(t, freedom) == pytest.approx(p, rel=1e-6)


def record(hits: torch.Tensor) -> Record:
    setup = {"tasks": ["a", "b"], "method": {"name": "one"}, "benchmark": {"name": "made-up"}}
    metrics = {task: {"triplet": row.float().mean().item()} for task, row in zip("ab", hits, strict=True)}
    return Record("one", 0, "method", setup, metrics=metrics)


def test_hits_come_back_only_if_they_are_those_of_the_record(tmp_path: Path):
    hits = (torch.rand(2, 40, generator=torch.Generator().manual_seed(0)) < 0.7).to(torch.uint8)
    made, folder = record(hits), tmp_path / "seed-0"
    assert read_hits(folder, made) is None
    write_record(folder, made, test={"hits": hits, "embeddings": torch.zeros(2, 3, 4, dtype=torch.float16)})
    found = read_hits(folder, made)
    assert found is not None
    assert np.array_equal(found, hits.numpy())
    assert read_hits(folder, record(1 - hits)) is None
    made.setup["tasks"] = ["a", "b", "c"]
    assert read_hits(folder, made) is None
    (folder / "test.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0 cut short")
    assert read_hits(folder, record(hits)) is None
    write_record(folder, made, test={"labels": hits})
    assert read_hits(folder, record(hits)) is None


def test_validations_are_read_from_the_curve(tmp_path: Path):
    made, folder = record(torch.ones(2, 4)), tmp_path / "seed-0"
    write_record(folder, made)
    assert read_validations(folder) is None
    points = [(1.0, 0.2, 0.4), (2.0, 0.9, 0.5), (3.0, 0.6, 0.6)]
    curve = [{"step": 1.0, "seconds": 0.5, "loss/a": 0.1}]
    curve += [{"seconds": s, "accuracy/a": a, "accuracy/b": b, "accuracy": (a + b) / 2} for s, a, b in points]
    write_record(folder, made, curve=curve)
    found = read_validations(folder)
    assert found is not None
    assert list(found["seconds"]) == [1, 2, 3]
    assert accuracy_within(found, 0.9, ["a", "b"]) is None
    assert accuracy_within(found, 1.9, ["a", "b"]) == pytest.approx(0.3)
    assert accuracy_within(found, 3.0, ["a", "b"]) == pytest.approx(0.7)
    assert accuracy_within(found, 3.0, ["b"]) == pytest.approx(0.5)

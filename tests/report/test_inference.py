"""Two methods compared: variances against brute force, Student's t against tables, and false positives simulated."""

from __future__ import annotations

import importlib.util
import math
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtlbench.report.clustering import SharedImages
from mtlbench.report.inference import Comparison, compare, student_p, student_t, threshold


def brute_force(triplets: np.ndarray, errors: np.ndarray) -> float:
    """Sum e_q e_r over all q, r that share an image, over the square of their number."""
    rows = [set(row) for row in triplets.reshape(-1, 3).tolist()]
    total = sum(errors[q] * errors[r] for q, r in product(range(len(rows)), repeat=2) if rows[q] & rows[r])
    return float(total) / len(rows) ** 2


@pytest.mark.parametrize("images", [4, 7, 30])
def test_the_variance_is_that_of_all_pairs_of_triplets_that_share_an_image(images):
    random = np.random.default_rng(images)
    triplets = np.array([random.choice(images, 3, replace=False) for _ in range(60)]).reshape(2, 30, 3)
    own = random.normal(size=images)  # effects of images, so that the sum is above that of independent triplets
    errors = own[triplets].sum(axis=2).ravel()
    errors -= errors.mean()
    wanted = max(brute_force(triplets, errors), float(errors @ errors) / 60**2)
    assert SharedImages(triplets).variance(errors) == pytest.approx(wanted, rel=1e-12)


def test_triplets_without_a_common_image_are_independent():
    triplets = np.arange(90).reshape(1, 30, 3)
    errors = np.random.default_rng(0).normal(size=30)
    assert SharedImages(triplets).variance(errors) == pytest.approx(float(errors @ errors) / 30**2)
    assert SharedImages(triplets).images == pytest.approx(90)


def test_a_label_of_few_images_counts_as_few():
    random = np.random.default_rng(0)
    few = np.stack([random.integers(0, 10, 500), 10 + random.integers(0, 10, 500), 20 + np.arange(500)], axis=1)
    assert 18 < SharedImages(few[None]).images < 22


def test_students_t_is_that_of_the_tables():
    for freedom, t, p in (
        (1, 12.706, 0.05),
        (2, 4.303, 0.05),
        (4, 4.604, 0.01),
        (10, 2.228, 0.05),
        (1000, 1.962, 0.05),
    ):
        assert student_p(t, freedom) == pytest.approx(p, rel=1e-3)
        assert student_t(p, freedom) == pytest.approx(t, rel=1e-3)


def runs(random: np.random.Generator, rate: float, seeds: int, shape: tuple[int, int] = (2, 400)) -> list[Any]:
    return [(random.random(shape) < rate).astype(np.uint8) for _ in range(seeds)]


def test_one_seed_is_not_compared():
    random = np.random.default_rng(0)
    shared = SharedImages(random.integers(0, 100, (2, 400, 3)))
    assert compare(runs(random, 0.9, 1), runs(random, 0.5, 3), shared) is None
    assert compare(runs(random, 0.9, 3), runs(random, 0.5, 1), shared) is None


def test_a_method_far_below_in_every_seed_is_told_apart_and_the_interval_holds_the_difference():
    random = np.random.default_rng(1)
    shared = SharedImages(random.integers(0, 300, (2, 400, 3)))
    found = compare(runs(random, 0.8, 3), runs(random, 0.6, 3), shared)
    assert found is not None
    assert found.p < threshold(6)
    low, high = found.interval()
    assert 0.1 < low < found.difference < high < 0.3
    assert found.difference == pytest.approx(0.2, abs=0.05)


def test_level_interval_and_p_value_say_the_same():
    one = Comparison(0.05, from_seeds=2e-4, seed_freedom=4, from_images=1e-4, images=60)
    assert one.differs(1.01 * one.p)
    assert not one.differs(0.99 * one.p)
    low, high = one.interval(one.p)
    assert min(abs(low), abs(high)) == pytest.approx(0, abs=1e-6)
    nothing = Comparison(0.0, 0.0, 4, 0.0, 60)
    assert nothing.p == 1
    assert not nothing.differs()


def test_what_is_said_of_a_pair_depends_on_the_number_of_methods_alone():
    assert threshold(2) == 0.05
    assert threshold(6) == pytest.approx(0.05 / 15)
    assert math.isclose(threshold(1), 0.05)


@pytest.mark.parametrize(
    ("methods", "share", "noise", "seeds"), [(2, 0.5, 0.0, 5), (2, 0.03, 0.1, 3), (6, 0.03, 0.3, 3)]
)
def test_equal_methods_are_seldom_told_apart(methods, share, noise, seeds):
    """100 simulated tables: 12 wrong ones are what a true rate of 6 % exceeds once in 100 times."""
    path = Path(__file__).parents[2] / "tools" / "false_positives.py"
    spec = importlib.util.spec_from_file_location("false_positives", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    wrong, made = module.wrong_tables(methods, share, 1, noise, seeds, 100)
    assert made == methods - 1
    assert wrong <= 0.12

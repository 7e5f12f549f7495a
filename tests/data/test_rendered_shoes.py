"""The rendered shoes: reproducible, independent in their labels, and laid out as UT-Zappos50K is."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlbench.data.rendered import shoes, writing
from mtlbench.data.rendered.shoes import CATEGORIES, CLOSURES, GENDERS, HEELS, ShoeAttributes, draw_shoe, render_shoes
from mtlbench.data.zappos import read_zappos
from mtlbench.errors import UserError

PUMP = ShoeAttributes("Shoes", "Slip-On", "Women", "2in - 2 3/4in")
TASKS = ("Category", "Closure", "Gender", "HeelHeight")


def pixels(attributes: ShoeAttributes, seed: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.asarray(draw_shoe(attributes, seed, width, height))


def rows(root: Path) -> list[dict[str, str]]:
    with (root / "ut-zap50k-data" / "meta-data.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def images(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.jpg")}


def cramers_v(first: list[str], second: list[str]) -> float:
    """Association of two labels: 0 independent, 1 each decides the other."""
    n, joint, a, b = len(first), Counter(zip(first, second, strict=True)), Counter(first), Counter(second)
    chi2 = sum((joint[i, j] - a[i] * b[j] / n) ** 2 / (a[i] * b[j] / n) for i in a for j in b)
    return float(np.sqrt(chi2 / n / (min(len(a), len(b)) - 1)))


@pytest.fixture(scope="module")
def independent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shoes") / "independent"
    render_shoes(root, 500, seed=3, width=24, height=18)
    return root


def test_the_same_seed_draws_the_same_pixels() -> None:
    assert np.array_equal(pixels(PUMP, 7), pixels(PUMP, 7))


def test_another_seed_draws_another_picture() -> None:
    assert np.mean(np.abs(pixels(PUMP, 7).astype(float) - pixels(PUMP, 8))) > 5


def test_the_default_picture_has_the_size_of_the_official_ones() -> None:
    picture = draw_shoe(PUMP, 0)
    assert (picture.size, picture.mode) == ((136, 102), "RGB")


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize(
    ("label", "values"), [("closure", CLOSURES), ("gender", GENDERS), ("heel", HEELS)], ids=lambda x: str(x)[:7]
)
def test_every_label_shows_on_every_category(category: str, label: str, values: tuple[str, ...]) -> None:
    # Far above the noise, which is the same for all values of a label under one seed.
    drawn = [pixels(replace(PUMP, category=category, **{label: value}), 11).astype(float) for value in values]
    for one, other in itertools.combinations(drawn, 2):
        assert np.sum(np.abs(one - other).max(axis=2) > 40) >= 12


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_closure_leaves_the_heel_the_sole_and_the_toe_alone(category: str, seed: int) -> None:
    shoe = replace(PUMP, category=category)
    _, (toe, heel) = shoes._canvas(shoe, seed, 128, 96, 1)
    along = (heel - toe) / np.sum((heel - toe) ** 2)
    bare = pixels(shoe, seed, 128, 96)
    for closure in set(CLOSURES) - {"Slip-On"}:
        changed = np.any(pixels(replace(shoe, closure=closure), seed, 128, 96) != bare, axis=2)
        y, x = np.nonzero(changed)
        position = (np.stack([x, y], axis=1) - toe) @ along  # 0 at the toe, 1 at the back of the heel
        assert position.min() > 0.12
        assert position.max() < 0.85
        assert 0.005 < changed.mean() < 0.12


def test_the_gender_changes_neither_the_pose_nor_what_surrounds_the_shoe() -> None:
    women, boys = pixels(PUMP, 5), pixels(replace(PUMP, gender="Boys"), 5)
    changed = np.any(women != boys, axis=2)
    assert not changed[:4].any()
    assert 0.02 < changed.mean() < 0.35


def test_the_table_and_the_files_have_the_official_layout(independent: Path) -> None:
    table = rows(independent)
    assert ",".join(table[0]) == "CID,Category,SubCategory,HeelHeight,Insole,Closure,Gender,Material,ToeStyle"
    assert len({row["CID"] for row in table}) == len(table) == 500
    for row in table[:50]:
        folder = independent / "ut-zap50k-images" / row["Category"] / row["SubCategory"]
        (path,) = folder.glob(f"*/{row['CID'].replace('-', '.')}.jpg")
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (24, 18))
    assert len(images(independent)) == 500


def test_the_reader_of_ut_zappos50k_reads_it(independent: Path) -> None:
    table = read_zappos(independent)
    assert len(table.paths) == 500
    assert {"category", "closure", "gender", "heel"} <= set(table.columns)


def test_every_value_of_every_label_occurs_about_equally_often(independent: Path) -> None:
    for task, values in zip(TASKS, (CATEGORIES, CLOSURES, GENDERS, HEELS), strict=True):
        counts = Counter(row[task] for row in rows(independent))
        assert set(counts) == set(values)
        assert max(counts.values()) < 1.6 * min(counts.values())


def test_without_conflict_the_labels_are_independent(independent: Path) -> None:
    table = rows(independent)
    for one, other in itertools.combinations(TASKS, 2):
        assert cramers_v([row[one] for row in table], [row[other] for row in table]) < 0.16


@pytest.mark.parametrize(("conflict", "low", "high"), [(0.5, 0.3, 0.75), (1.0, 1.0, 1.0)])
def test_conflict_ties_the_labels_to_the_category(tmp_path: Path, conflict: float, low: float, high: float) -> None:
    render_shoes(tmp_path / "tied", 200, width=16, height=16, conflict=conflict)
    table = rows(tmp_path / "tied")
    for task in TASKS[1:]:
        association = cramers_v([row["Category"] for row in table], [row[task] for row in table])
        assert low - 1e-9 <= association <= high + 1e-9


def test_a_shorter_set_is_the_start_of_a_longer_one(tmp_path: Path) -> None:
    render_shoes(tmp_path / "short", 6, seed=1, width=32, height=24)
    render_shoes(tmp_path / "long", 12, seed=1, width=32, height=24)
    assert images(tmp_path / "short").items() <= images(tmp_path / "long").items()
    assert rows(tmp_path / "short") == rows(tmp_path / "long")[:6]


def test_several_processes_draw_what_one_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render_shoes(tmp_path / "one", 24, width=32, height=24)
    monkeypatch.setattr(writing, "_WORTH_A_POOL", 1)
    monkeypatch.setattr(shoes, "_CHUNK", 8)
    done: list[int] = []
    render_shoes(tmp_path / "several", 24, width=32, height=24, progress=done.append)
    assert done == [8, 8, 8]
    assert images(tmp_path / "several") == images(tmp_path / "one")


def test_a_target_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        render_shoes(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_target_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    render_shoes(tmp_path / "empty", 2, width=16, height=16)
    assert len(rows(tmp_path / "empty")) == 2


def test_a_set_that_was_interrupted_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_shoes(tmp_path / "new" / "shoes", 3, width=16, height=16, progress=interrupt)
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize("wrong", [{"count": 0}, {"seed": -1}, {"conflict": 1.5}, {"width": 8}])
def test_an_argument_out_of_range_is_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="can't be rendered"):
        render_shoes(tmp_path / "shoes", **({"count": 1} | wrong))

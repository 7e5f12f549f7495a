"""The rendered shoes: reproducible, independent in their labels, and laid out as UT-Zappos50K is."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from support import triplet_losses
from torch import Tensor

from mtlbench.backbones import BackboneFactory
from mtlbench.datasets.zappos import read_zappos
from mtlbench.devices import uniforms
from mtlbench.errors import UserError
from mtlbench.rendered import shoes, writing
from mtlbench.rendered.shoe.attributes import CATEGORIES, CLOSURES, GENDERS, HEELS, ShoeAttributes
from mtlbench.rendered.shoe.picture import draw_shoe, posed_canvas
from mtlbench.rendered.shoes import render_shoes
from mtlbench.sampling.triplets import joint_triplets

PUMP = ShoeAttributes("Shoes", "Slip-On", "Women", "2in - 2 3/4in")
TASKS = ("Category", "Closure", "Gender", "HeelHeight")
VALUES = (CATEGORIES, CLOSURES, GENDERS, HEELS)


def pixels(
    attributes: ShoeAttributes, seed: int, width: int = 64, height: int = 48, conflict: float = 0.0
) -> np.ndarray:
    return np.asarray(draw_shoe(attributes, seed, width, height, conflict))


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


def share_explained(values: np.ndarray, labels: list[int]) -> float:
    """Share of the variance of (N, D) values that lies between the labels."""
    centred = values - values.mean(0)
    groups = [centred[np.array(labels) == label] for label in set(labels)]
    return float(sum(len(g) * np.sum(g.mean(0) ** 2) for g in groups) / np.sum(centred**2))


def agreement(pictures: Tensor, labels: Tensor, seed: int, steps: int) -> tuple[float, float]:
    """Mean cosine of two tasks' gradients on a network they share, before training and after steps on the mean loss."""
    generator = torch.Generator().manual_seed(seed)
    network = BackboneFactory("small", tuple(pictures.shape[2:]), 64, seed).backbone()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)

    def losses() -> Tensor:
        batch = torch.randperm(len(pictures), generator=generator)[:96]
        triplets, possible = joint_triplets(labels[:, batch], uniforms([generator] * len(labels), 4, 512), "balanced")
        return triplet_losses(network(pictures[batch]).expand(len(labels), -1, -1), triplets, possible)

    def cosine() -> float:
        found = []
        for _ in range(4):
            each = [torch.autograd.grad(loss, list(network.parameters()), retain_graph=True) for loss in losses()]
            gradients = F.normalize(torch.stack([torch.cat([g.flatten() for g in grads]) for grads in each]), dim=1)
            above = torch.triu_indices(len(labels), len(labels), 1)
            found.append((gradients @ gradients.t())[above[0], above[1]].mean().item())
        return float(np.mean(found))

    before = cosine()
    for _ in range(steps):
        optimiser.zero_grad()
        losses().mean().backward()
        optimiser.step()
    return before, cosine()


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
    _, (toe, heel) = posed_canvas(shoe, seed, 128, 96, 1)
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
    assert 0.02 < changed.mean() < 0.4


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
    for task, values in zip(TASKS, VALUES, strict=True):
        counts = Counter(row[task] for row in rows(independent))
        assert set(counts) == set(values)
        assert max(counts.values()) < 1.6 * min(counts.values())


def test_the_labels_are_independent(independent: Path) -> None:
    table = rows(independent)
    for one, other in itertools.combinations(TASKS, 2):
        assert cramers_v([row[one] for row in table], [row[other] for row in table]) < 0.16


def test_files_and_labels_are_the_same_at_every_conflict(tmp_path: Path) -> None:
    for conflict in (0.0, 1.0):
        render_shoes(tmp_path / str(conflict), 40, width=16, height=16, conflict=conflict)
    none, full = tmp_path / "0.0", tmp_path / "1.0"
    assert rows(none) == rows(full)
    assert images(none).keys() == images(full).keys()
    assert not images(none).items() & images(full).items()


def test_conflict_changes_an_image_only_where_a_label_decides_a_colour() -> None:
    # All four are left to chance in (1 - conflict)^4 of the images, and those at 0.6 are among those at 0.4.
    unchanged = []
    for conflict in (0.4, 0.6):
        pairs = ((pixels(PUMP, seed, 24, 18), pixels(PUMP, seed, 24, 18, conflict)) for seed in range(100))
        unchanged.append({seed for seed, (plain, other) in enumerate(pairs) if np.array_equal(plain, other)})
    assert 6 <= len(unchanged[0]) <= 22
    assert unchanged[1] < unchanged[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "where", "what"),
    [("category", "upper", "hue"), ("gender", "upper", "light"), ("closure", "wall", "hue"), ("heel", "wall", "light")],
)
def test_conflict_makes_each_label_decide_one_colour(label: str, where: str, what: str) -> None:
    boot = ShoeAttributes("Boots", "Slip-On", "Men", "Flat")
    values = VALUES[("category", "closure", "gender", "heel").index(label)]
    explained = []
    for conflict in (0.0, 0.5, 1.0):
        shoe = [replace(boot, **{label: values[k % len(values)]}) for k in range(200)]
        drawn = np.stack([pixels(s, k, 32, 24, conflict) for k, s in enumerate(shoe)]).astype(float)
        colour = drawn[:, 11:15, 14:18].mean((1, 2)) if where == "upper" else drawn[:, :3].mean((1, 2))
        light = colour.max(1, keepdims=True)
        found = light if what == "light" else colour - colour.mean(1, keepdims=True)
        explained.append(share_explained(found, [k % len(values) for k in range(200)]))
    assert explained[0] < 0.07
    assert explained[0] < explained[1] < explained[2]
    assert explained[2] > 0.2


@pytest.mark.slow
def test_gradients_of_two_tasks_agree_less_as_conflict_rises() -> None:
    items = [shoes._item(0, k) for k in range(300)]
    labels = torch.tensor(
        [
            [values.index(getattr(item.attributes, task)) for item in items]
            for task, values in zip(("category", "closure", "gender", "heel"), VALUES, strict=True)
        ]
    )
    untrained, trained = [], []
    for conflict in (0.0, 0.5, 1.0):
        drawn = np.stack([pixels(item.attributes, item.seed, 32, 24, conflict) for item in items])
        pictures = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 127.5 - 1
        found = [agreement(pictures, labels, seed, steps=40) for seed in (0, 1)]
        untrained.append(np.mean([before for before, _ in found]))
        trained.append(np.mean([after for _, after in found]))
    assert untrained[0] > untrained[1] > untrained[2]
    assert trained[0] > trained[1] > trained[2]
    assert untrained[0] - untrained[2] > 0.02
    assert trained[0] - trained[2] > 0.02


def test_a_shorter_set_is_the_start_of_a_longer_one(tmp_path: Path) -> None:
    render_shoes(tmp_path / "short", 6, seed=1, width=32, height=24)
    render_shoes(tmp_path / "long", 12, seed=1, width=32, height=24)
    assert images(tmp_path / "short").items() <= images(tmp_path / "long").items()
    assert rows(tmp_path / "short") == rows(tmp_path / "long")[:6]


def test_several_processes_draw_what_one_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render_shoes(tmp_path / "one", 24, width=32, height=24)
    monkeypatch.setattr(writing, "_WORTH_A_POOL", 1)
    monkeypatch.setattr(writing, "_CHUNK", 8)
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

"""Tiny data sets in the official layouts, and a cache and data folder of the tests' own."""

from __future__ import annotations

import csv
import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import registries_restored, time_little

CELEBA_ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair"
    " Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male"
    " Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks"
    " Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace"
    " Wearing_Necktie Young"
)
ZAPPOS_COLUMNS = ("CID", "Category", "SubCategory", "HeelHeight", "Insole", "Closure", "Gender", "Material", "ToeStyle")
ZAPPOS_KINDS = (("Shoes", "Oxfords"), ("Boots", "Mid-Calf"), ("Slippers", "Slipper Flats"))
ZAPPOS_BRANDS = ("Bostonian", "Rocket Dog", "Dolce & Gabbana", "Levi's® Kids", "Mark Nason %2E")
ZAPPOS_CLOSURES = ("Lace up", "Slip-On", "Zipper;Buckle")
ZAPPOS_GENDERS = ("Men", "Women", "Girls")
ZAPPOS_HEELS = ("Flat", "Under 1in", "2in - 2 3/4in")


def write_celeba(root: Path, images: int = 60, seed: int = 0, size: tuple[int, int] = (45, 56)) -> Path:
    """Write CelebA's layout: 6 tenths train, 2 val, 2 test, every attribute on half of each split's images.

    Three images make an identity. Attribute k is a bright or dark cell k of each picture, so it can be learned.
    """
    random = np.random.default_rng(seed)
    (root / "img_align_celeba").mkdir(parents=True)
    split = np.repeat([0, 1, 2], [images - 2 * (images // 5), images // 5, images // 5])
    labels = np.empty((images, 40), dtype=np.int64)
    for number in range(3):
        n = int((split == number).sum())
        labels[split == number] = random.permuted(np.tile(np.arange(n) % 2, (40, 1)), axis=1).T
    names = [f"{i + 1:06d}.jpg" for i in range(images)]
    for name, row in zip(names, labels, strict=True):
        cells = np.repeat(np.where(row, 200, 60).reshape(8, 5, 1), 3, axis=2) + random.integers(-40, 40, (8, 5, 3))
        picture = Image.fromarray(cells.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
        picture.save(root / "img_align_celeba" / name, quality=92)
    lines = [f"{name} {' '.join(f'{2 * v - 1:2d}' for v in row)}" for name, row in zip(names, labels, strict=True)]
    # the official header ends in a space
    text = "\n".join([str(images), CELEBA_ATTRIBUTES + " ", *lines]) + "\n"
    (root / "list_attr_celeba.txt").write_text(text)
    (root / "identity_CelebA.txt").write_text("".join(f"{n} {100 - i // 3}\n" for i, n in enumerate(names)))
    (root / "list_eval_partition.txt").write_text("".join(f"{n} {s}\n" for n, s in zip(names, split, strict=True)))
    return root


def write_zappos(root: Path, images: int = 60, seed: int = 0, size: tuple[int, int] = (68, 51)) -> Path:
    """Write UT-Zappos50K's layout, with a label in each cell of the four usual tasks.

    Category, closure, gender and heel each set one quarter of the picture to a colour, so they can be learned.
    """
    random = np.random.default_rng(seed)
    colours = np.array([[220, 60, 60], [60, 220, 60], [60, 60, 220]])
    rows = []
    for i in range(images):
        kind, closure, gender, heel = (int(v) for v in random.integers(0, 3, 4))
        category, subcategory = ZAPPOS_KINDS[kind]
        cid = f"{100627 + 7 * i}-{72 + i}"
        folder = root / "ut-zap50k-images" / category / subcategory / ZAPPOS_BRANDS[i % 5]
        folder.mkdir(parents=True, exist_ok=True)
        cells = colours[[kind, closure, gender, heel]].reshape(2, 2, 3) + random.integers(-30, 30, (2, 2, 3))
        picture = Image.fromarray(cells.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
        picture.save(folder / f"{cid.replace('-', '.')}.jpg", quality=92)
        labels = (ZAPPOS_HEELS[heel], "", ZAPPOS_CLOSURES[closure], ZAPPOS_GENDERS[gender], "Leather", "")
        rows.append((cid, category, subcategory, *labels))
    (root / "ut-zap50k-data").mkdir()
    with (root / "ut-zap50k-data" / "meta-data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([ZAPPOS_COLUMNS, *rows])
    return root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where there is no CUDA device."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


def pytest_collection_finish() -> None:
    """Leave what is there now out of garbage collection: each run of a method ends with one, of all the modules."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny networks are slower on many threads, and very slow where other work runs beside them."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_user_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests, and fixtures that outlive one, out of the user's own folders and plug-ins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTLBENCH_CACHE", str(tmp_path_factory.mktemp("session-cache")))
        patch.setenv("MTLBENCH_DATA", str(tmp_path_factory.mktemp("session-data")))
        patch.delenv("MTLBENCH_PLUGINS", raising=False)
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an empty cache and an empty data folder; return the cache."""
    folder = tmp_path_factory.mktemp("user")
    monkeypatch.setenv("MTLBENCH_CACHE", str(folder / "cache"))
    monkeypatch.setenv("MTLBENCH_DATA", str(folder / "data"))
    monkeypatch.setattr(sys, "path", list(sys.path))  # plug-ins' folders are put there
    monkeypatch.setattr("mtlbench.plugins._FOLDERS", [])
    return folder / "cache"


@pytest.fixture(autouse=True)
def registries(_no_user_folders: None) -> Iterator[None]:
    """Registries that are as before after every test, whatever it registers; bundled methods are loaded."""
    with registries_restored():
        yield


@pytest.fixture(autouse=True)
def cheap_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time little of what runs cost: no test is about speed, and test_cost.py counts repeats without this."""
    time_little(monkeypatch)


@pytest.fixture
def celeba_folder(tmp_path: Path) -> Path:
    """60 images in CelebA's layout (36 train, 12 val, 12 test), every attribute and identity trainable."""
    return write_celeba(tmp_path / "celeba")


@pytest.fixture
def zappos_folder(tmp_path: Path) -> Path:
    """60 images in UT-Zappos50K's layout, category, closure, gender, heel and subcategory trainable."""
    return write_zappos(tmp_path / "zappos")


@pytest.fixture(scope="session", name="write_celeba")
def _write_celeba() -> Callable[..., Path]:
    return write_celeba


@pytest.fixture(scope="session", name="write_zappos")
def _write_zappos() -> Callable[..., Path]:
    return write_zappos


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real samples beside the repository; the test is skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real samples at {folder}")
    return folder


REMEDIES = {  # words of a skip's reason, and what brings the test back
    "CUDA": "run tools/gpu/check.sh on a machine with a GPU",
    "chromium": "apt-get install chromium chromium-driver",
    "selenium": "pip install selenium",
    "timm": "pip install timm",
    "not installed": "pip install -e '.[test]'",
    "cvxpy": "pip install -e '.[test]'",
    "real samples": "put the samples there; they are not part of the repository",
}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in the last lines what was skipped and how to get it: a skipped test proves nothing."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] += 1
    if not reasons:
        return
    terminalreporter.section(f"{sum(reasons.values())} tests skipped: what is missing, and how to get it")
    for reason, count in reasons.most_common():
        remedy = next((cure for words, cure in REMEDIES.items() if words in reason), "")
        terminalreporter.line(f"{count:4} × {reason}" + (f" ({remedy})" if remedy and remedy not in reason else ""))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start a Ray cluster of two nodes on 127.0.0.1, of one core each; `other` can be removed."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    made: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.other = made.add_node(num_cpus=1)
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()

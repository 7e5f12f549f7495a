"""Everything that a run is made of, brought from a folder outside mtlbench, in one run and one table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import Ended, registries_restored, run_command

from mtlbench.runs import find_records

KINDS = {
    "reader": "readers",
    "sampler": "samplers",
    "loss": "losses",
    "metric": "metrics",
    "backbone": "backbones",
    "augmentation": "augmentations",
    "tracker": "trackers",
    "executor": "executors",
    "architecture": "architectures",
    "balancer": "balancers",
}
BENCHMARK = """
name = "mine"
title = "Images of my own"
[data]
reader = "my-reader"
options = { task = "kind" }
folder = "photos"
image_size = 24
[model]
backbone = "my-backbone"
embedding = 8
[loss]
name = "my-loss"
[train]
sampling = "my-sampler"
augment = ["my-augmentation"]
triplets = 4
steps = 4
optimiser = "adamw"
lr = 1e-3
[evaluation]
every = 2
triplets = 60
metrics = ["my-metric"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    random = np.random.default_rng(0)
    for kind, colour in (("boots", 60), ("sandals", 180)):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(30):
            pixels = random.integers(colour - 40, colour + 40, (24, 24, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / kind / f"{i}.png")
    (tmp_path / "mine.toml").write_text(BENCHMARK)
    (tmp_path / "plugins").mkdir()
    with registries_restored():
        yield tmp_path / "plugins"


def done(*words: object) -> Ended:
    ended = run_command(*words)
    assert ended.code == 0, ended.out + ended.err
    return ended


def test_a_folder_with_a_file_of_every_kind_trains_and_shows_in_a_table(folder: Path) -> None:
    for kind in KINDS:
        done("new", kind, f"my-{kind}", "--folder", folder)
    assert len(list(folder.glob("my_*.py"))) == len(KINDS)
    with registries_restored():
        for kind, word in KINDS.items():
            assert f"my-{kind}" in done("list", word, "--plugins", folder).out
        words = [
            "run",
            "--dataset",
            "mine.toml",
            "--methods",
            "shared,my-architecture+my-balancer",
            "--plugins",
            folder,
        ]
        shown = done(*words, "--on", "my-executor", "--track", "my-tracker").out
    for row in ("shared", "my-architecture+my-balancer"):
        assert f"\n{row} " in shown
    records = [r for r in find_records(Path("results")) if r.kind == "method"]
    assert {r.status for r in records} == {"done"}
    for record in records:
        used = record.setup["benchmark"]
        assert used["model"]["backbone"] == "my-backbone"
        assert used["loss"]["name"] == "my-loss"
        assert 0 <= record.metrics["kind"]["my-metric"] <= 1
    assert "my-metric" in shown.partition("Cost")[0]  # a column of its own
    table = done("report", "mine", "--metric", "my-metric", "--format", "md").out
    assert "my-metric" in table
    assert "shared" in table


@pytest.mark.slow
def test_a_plug_in_that_has_been_edited_makes_another_run(folder: Path) -> None:
    for kind in ("loss", "metric"):
        done("new", kind, f"my-{kind}", "--folder", folder)
    words = ["run", "--dataset", "shoes", "--quick", "--methods", "shared", "--plugins", folder]
    settings = [
        "data.rendered.images=200",
        "train.steps=2",
        "train.triplets=2",
        "evaluation.every=2",
        "loss.name=my-loss",
    ]
    settings += ["evaluation.triplets=50", 'evaluation.metrics=["my-metric"]']
    words += [word for setting in settings for word in ("--set", setting)]
    with registries_restored():
        done(*words)
        assert "done already" in done(*words).out
    file = folder / "my_loss.py"
    file.write_text(file.read_text() + "# edited\n")
    with registries_restored():
        ended = run_command(*words)
    assert ended.code == 2
    assert "code.loss my-loss" in ended.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "words", "code"),
    [
        ("backbone", ["--set", "model.backbone=my-backbone"], 2),
        ("metric", ["--set", 'evaluation.metrics=["my-metric"]'], 2),
        ("executor", ["--on", "my-executor"], 2),
    ],
)
def test_a_plug_in_that_raises_costs_no_traceback(folder: Path, kind: str, words: list[str], code: int) -> None:
    done("new", kind, f"my-{kind}", "--folder", folder)
    file = folder / f"my_{kind}.py"
    lines = file.read_text().splitlines()
    heads = ("def stages(", "def my_metric(", "def run(")
    start = next(n for n, line in enumerate(lines) if line.lstrip().startswith(heads))
    body = next(n for n in range(start, len(lines)) if lines[n].rstrip().endswith('"""') and n > start)
    indent = " " * (len(lines[body]) - len(lines[body].lstrip()))
    lines.insert(body + 1, f"{indent}raise ValueError('broken on purpose')")
    file.write_text("\n".join(lines) + "\n")
    command = ["run", "--dataset", "shoes", "--quick", "--methods", "shared", "--plugins", folder, *words]
    for setting in ("data.rendered.images=200", "train.steps=2", "evaluation.every=2", "evaluation.triplets=50"):
        command += ["--set", setting]
    ended = run_command(*command)
    assert ended.code == code, ended.out + ended.err
    assert "broken on purpose" in ended.out + ended.err
    assert "Traceback" not in ended.out + ended.err

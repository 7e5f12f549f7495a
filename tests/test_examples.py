"""Every example in examples/ runs, and shows what it says."""

from __future__ import annotations

import hashlib
import json
import runpy
import shutil
from pathlib import Path

import matplotlib
import pytest
import torch
from safetensors.torch import load_file
from support import run_command

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def _quickly(tmp_path, monkeypatch):
    monkeypatch.setenv("QUICKLY", "1")
    monkeypatch.chdir(tmp_path)


def _run(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_there_is_a_test_for_every_example():
    here = Path(__file__).read_text()
    names = [path.name for path in EXAMPLES.rglob("*.*") if path.suffix in (".py", ".ipynb", ".toml")]
    assert names
    assert [name for name in names if name not in here] == []


@pytest.mark.slow
def test_own_method_has_a_row_beside_shared(capsys):
    said = _run("own_method.py", capsys)
    assert "own-bias" in said.split("mean", 1)[1]
    # 64 numbers a task more than nothing: the shift alone is a task's own
    assert [line.split()[-1] for line in said.splitlines() if line.startswith("own-bias ")][-1] in ("64", "64.0")


@pytest.mark.slow
def test_own_loss_has_a_row_beside_the_triplet_loss(capsys):
    said = _run("own_loss.py", capsys)
    assert "own-contrastive" in said
    assert "loss.name=triplet" in said


@pytest.mark.slow
def test_a_task_is_added_to_a_modulated_network(capsys):
    said = _run("modulate_resnet.py", capsys)
    assert "each stores 3,072 bytes of its own" in said
    assert "gender is unchanged: True" in said


@pytest.mark.slow
def test_a_frozen_network_gets_tasks_by_their_scales_alone(capsys):
    said = _run("new_tasks.py", capsys)
    assert "frozen-network[rate=100]: " in said
    assert "one more task adds 1,280 bytes" in said  # 128 + 128 + 64 scales in float32
    (first,) = Path("results-first/shoes-quick").glob("modulation*/seed-0/weights.safetensors")
    (new,) = Path("results-modulation/shoes-quick").glob("frozen-network*/seed-0/weights.safetensors")
    there, found = load_file(first), load_file(new)
    network = [name for name in there if name.startswith("net.")]
    assert network
    assert all(torch.equal(found[name], there[name]) for name in network)
    assert any((found[name] != 1).any() for name in found if name.startswith("scales."))


@pytest.mark.slow
def test_tasks_are_added_to_a_trained_network(capsys):
    said = " ".join(_run("trained_network.py", capsys).split())
    assert "pretrained from weights.safetensors (sha256 " in said
    assert "first stages frozen: 2" in said
    assert "pretrained stages at 0.1 of the lr" in said
    assert "closure, heel; 64 numbers an embedding a task adds 1,280 bytes" in said  # 128 + 128 + 64 scales in float32
    (run,) = Path("results-more/shoes-quick").glob("modulation*/seed-0")
    (file,) = Path("results-first/shoes-quick").glob("single*/seed-0/weights.safetensors")
    there = load_file(file)
    found = load_file(run / "weights.safetensors")
    fixed = [name for name in there if name.startswith(("net.stages.0", "net.stages.1"))]
    assert all(torch.equal(found[name], there[name]) for name in fixed)
    assert any(not torch.equal(found[name], there[name]) for name in there if name.startswith("net.stages.3"))
    receipt = json.loads((run / "run.json").read_text())["receipt"]
    digest = hashlib.sha256(file.read_bytes())
    assert receipt["pretrained"] == {"file": "weights.safetensors", "sha256": digest.hexdigest()}
    assert str(Path.cwd()) not in (run / "run.json").read_text()


@pytest.mark.slow
def test_own_images_are_checked_and_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["make_photos.py", "photos"])
    runpy.run_path(str(EXAMPLES / "own_images" / "make_photos.py"), run_name="__main__")
    benchmark = Path(shutil.copy(EXAMPLES / "own_images" / "shapes.toml", tmp_path))
    checked = run_command("data", "check", benchmark)
    assert checked.code == 0, checked
    assert "Tasks that can be trained and tested: 2" in checked.out
    short = ["--set", "train.steps=4", "--set", "evaluation.every=2", "--set", "evaluation.triplets=100"]
    ended = run_command("run", "--methods", "shared", "--dataset", benchmark, "--results", "r", *short)
    assert ended.code == 0, ended
    assert "Coloured shapes" in ended.out


def test_the_notebook_comes_to_a_decision(monkeypatch, capsys):
    matplotlib.use("Agg")
    monkeypatch.chdir(EXAMPLES)
    book = json.loads((EXAMPLES / "choose_a_network.ipynb").read_text())
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in cells), "clear the outputs before you commit it"
    names: dict[str, object] = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    said = capsys.readouterr().out
    assert "decision: " in said
    assert names["decision"] in names["candidates"]
    differences, table = names["differences"], names["methods"]
    assert len(differences) == len(table) - 1  # all but the best
    # the budget keeps the networks that grow by a whole network with every task out
    assert "independent" not in names["fits"]
    assert {"modulation", "single"} <= set(names["fits"])

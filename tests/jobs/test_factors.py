"""`run --vary`: the product of settings, each variant in a folder of its own, each record with its difference."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mtlbench.cli import app
from mtlbench.errors import UserError
from mtlbench.jobs.factors import variants
from mtlbench.runs import find_records, folder_of, run_folder
from mtlbench.runs.record import variant


def varied(*vary: str) -> list[dict[str, object]]:
    return [v.varied for v in variants("shoes", True, ["train.lr=0.001"], vary)]


def test_variants_are_the_product_and_say_their_difference_alone():
    assert varied() == [{}]
    assert varied("train.lr=1e-3,3e-3", "loss.margin=0.1,0.5") == [
        {"loss.margin": 0.1},
        {"loss.margin": 0.5},
        {"train.lr": 0.003, "loss.margin": 0.1},
        {"train.lr": 0.003, "loss.margin": 0.5},
    ]
    assert varied("train.lr=1e-3,0.001") == [{}]
    assert varied("data.image_size=[24,32],16") == [{"data.image_size": [24, 32]}, {"data.image_size": 16}]


def test_reference_rows_are_apart_only_where_they_differ():
    words = ("train.lr=7", "loss.margin=0.7", "evaluation.seed=7")
    lr, margin, seed = (variants("shoes", True, [], [word])[0].reference_varied for word in words)
    assert (lr, margin, seed) == ({}, {}, {"evaluation.seed": 7})


@pytest.mark.parametrize(
    ("vary", "reason"),
    [
        (("train.lr",), "write it as key=value,value"),
        (("train.lr=",), "write it as key=value,value"),
        (("train.lr=1e-3,,1",), "write it as key=value,value"),
        (("train.lr=fast",), r"--vary train.lr=fast: train.lr: .*number"),
        (("train.step=1",), r"unknown key 'train.step'. Did you mean: steps"),
        (("train.lr=1", "train.lr=2"), "names train.lr twice"),
        (("name=a,b",), "can't change the benchmark's name"),
    ],
)
def test_what_cant_be_varied_is_one_sentence(vary, reason):
    with pytest.raises(UserError, match=reason):
        variants("shoes", True, [], vary)


def test_folders_names_are_safe_on_every_file_system():
    odd = run_folder(Path("r"), "b", "m" + variant({"loss.name": 'pml:A/B<>"|?*', "data.size": [1, 2]}), 0)
    assert odd.parent.name == "m@data.size=[1,-2],loss.name=pml-A-B------"
    one, two = (run_folder(Path("r"), "b", "m" * 300 + end, 0).parent.name for end in "ab")
    assert len(one) <= 200
    assert one != two


def test_variants_are_trained_recorded_and_shown(zappos_folder, tmp_path):
    words = ["run", "--dataset", "zappos", "--quick", "--data-dir", str(zappos_folder), "--results", str(tmp_path)]
    short = (
        "train.steps=2", "train.triplets=2", "train.joint_triplets=8", "evaluation.every=2", "evaluation.triplets=50",
        "model.embedding=8", "data.image_size=24", "train.precision=fp32", "train.lr=0.001",
    )  # fmt: skip
    words += [word for setting in short for word in ("--set", setting)]
    words += ["--methods", "single", "--vary", "train.lr=1e-3,3e-3", "--vary", "loss.margin=0.2,0.4"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "single, loss.margin=0.4, train.lr=0.003, seed 0: to do" in done.output
    folders = sorted(p.name for p in (tmp_path / "zappos-quick").iterdir() if p.name.startswith("single"))
    assert folders == [
        "single", "single@loss.margin=0.4", "single@loss.margin=0.4,train.lr=0.003", "single@train.lr=0.003",
    ]  # fmt: skip
    for r in find_records(tmp_path):
        assert (folder_of(r, tmp_path) / "run.json").exists()
    records = [r for r in find_records(tmp_path) if r.kind == "method"]
    assert [folder_of(r, tmp_path).parent.name for r in records] == folders
    assert [r.receipt.get("varied", {}).get("train.lr", 0.001) for r in records] == [
        r.setup["benchmark"]["train"]["lr"] for r in records
    ]
    assert "single · loss.margin=0.4 · train.lr=0.003" in " ".join(done.output.split())
    assert "--across loss.margin --across train.lr" in done.output
    again = CliRunner().invoke(app, words, catch_exceptions=False)
    assert again.output.count("done already") == 4

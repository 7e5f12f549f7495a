"""`mtlbench profile` as a user meets it."""

from __future__ import annotations

import json
import re

from support import run_command

SHORT = (
    "train.triplets=2",
    "train.joint_triplets=8",
    "evaluation.triplets=50",
    "model.embedding=8",
    "data.image_size=24",
)


def profile(folder, *words):
    settings = [word for setting in SHORT for word in ("--set", setting)]
    return run_command(
        "profile",
        *words,
        "--dataset",
        "celeba",
        "--quick",
        "--data-dir",
        folder,
        "--device",
        "cpu",
        "--steps",
        1,
        *settings,
    )


def test_a_table_for_each_method_and_no_record(celeba_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = profile(celeba_folder, "shared,gradnorm")
    assert ended.code == 0, ended
    assert "medians of 1 step\n" in ended.out
    for method in ("shared", "gradnorm"):
        _, _, table = ended.out.partition(f"\n{method}\n")
        for row in (
            "data",
            "network forward",
            "backward",
            "balancer",
            "optimiser",
            "logging",
            "a step",
            "network alone",
        ):
            assert re.search(rf"^{row} +[\d.]+ +[\d.]+ %$", table, re.MULTILINE), (row, table)
        shares = [float(share) for share in re.findall(r"([\d.]+) %", table.partition("\na step")[0])]
        assert abs(sum(shares) - 100) < 0.5
    assert len(re.findall(r"images/s; the network alone", ended.out)) == 2
    assert all(line == line.rstrip() for line in ended.out.splitlines())
    assert not (tmp_path / "results").exists()


def test_a_trace_is_written_for_one_method(celeba_folder, tmp_path):
    ended = profile(celeba_folder, "shared", "--trace", tmp_path / "t.json")
    assert ended.code == 0, ended
    assert f"Trace: {tmp_path / 't.json'}" in ended.out
    assert any(
        event.get("name") == "backward" for event in json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    )


def test_what_can_not_be_written_is_refused_before_any_step(celeba_folder, tmp_path):
    assert (
        "--trace holds the steps of one method, and 2 were named"
        in profile(celeba_folder, "shared,single", "--trace", tmp_path / "t.json").error
    )
    for where in (tmp_path, tmp_path / "none" / "t.json"):
        assert "can't be written" in profile(celeba_folder, "shared", "--trace", where).error


def test_an_unknown_method_is_named(celeba_folder):
    assert "Did you mean: modulation" in profile(celeba_folder, "modulaton").error

"""`mtlbench runs`: listing, comparing and removing runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from report_records import record, written
from typer.testing import CliRunner, Result

from mtlbench.cli import app
from mtlbench.errors import UserError
from mtlbench.runs import partial_folder, run_folder, write_record
from mtlbench.runs.lock import working_on


def runs(*words: object) -> Result:
    return CliRunner().invoke(app, ["runs", *map(str, words)], catch_exceptions=False)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for seed in (0, 1):
        written(tmp_path, "one", seed, 0.8)
    failed = record("bad", metrics={}, costs={}, status="failed", reason="x")
    write_record(run_folder(tmp_path, "made-up", "bad", 0), failed)
    partial_folder(run_folder(tmp_path, "made-up", "half", 0)).mkdir(parents=True)
    return tmp_path


def test_every_run_is_listed_in_a_line_with_its_state(results: Path) -> None:
    lines = runs("list", "--results", results).output.splitlines()
    assert lines[0] == f"4 runs in {results}"
    found = {words[0]: words[1:] for words in map(str.split, lines) if words and words[0].startswith("made-up/")}
    assert [found[f"made-up/{name}/seed-0"][0] for name in ("one", "bad", "half")] == ["done", "failed", "interrupted"]
    mean = float(found["made-up/one/seed-1"][1])
    assert 70 < mean < 90
    with pytest.raises(UserError, match="There are no runs in"):
        runs("list", "nothing", "--results", results)


def test_runs_are_removed_only_when_that_is_meant_and_nobody_works_on_them(results: Path) -> None:
    one = results / "made-up" / "one"
    with pytest.raises(UserError, match="--yes removes without asking"):
        runs("rm", one)
    with working_on(one / "seed-1"), pytest.raises(UserError, match="a process works on them"):
        runs("rm", one, "--yes")
    assert not (one / "seed-0").exists()
    assert (one / "seed-1" / "run.json").is_file()
    assert runs("rm", one / "seed-1", "--yes").exit_code == 0
    assert not one.exists()
    runs("rm", results / "made-up", "--yes")
    assert not (results / "made-up").exists()
    with pytest.raises(UserError, match="there is no run"):
        runs("rm", results, "--yes")


def test_what_is_no_run_is_never_removed(results: Path) -> None:
    (results / "made-up" / "one" / "notes.txt").write_text("mine")
    (results / "made-up" / "seed-9").mkdir()
    runs("rm", results, "--yes")
    assert (results / "made-up" / "one" / "notes.txt").read_text() == "mine"
    assert (results / "made-up" / "seed-9").is_dir()


def test_two_runs_differ_by_their_settings_and_numbers(results: Path) -> None:
    one, other = (results / "made-up" / "one" / f"seed-{seed}" for seed in (0, 1))
    text = runs("diff", one, other).output
    assert re.search(r"^seed +0 +1$", text, re.MULTILINE)
    assert re.search(r"^colour % +\S+ +\S+ +[+-]", text, re.MULTILINE)
    assert "commit" not in text  # the same in both
    path = other / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"costs": {"training_memory": 53_361_008}}))
    first = json.loads((one / "run.json").read_text())
    (one / "run.json").write_text(json.dumps(first | {"costs": {"training_memory": 47_058_192}}))
    assert re.search(
        r"^training_memory +47,058,192 +53,361,008 +\+6,302,816$", runs("diff", one, other).output, re.MULTILINE
    )
    assert runs("diff", one, one).output == "Nothing differs.\n"
    with pytest.raises(UserError, match="there is no record of a run"):
        runs("diff", one, results / "made-up" / "half" / "seed-0")

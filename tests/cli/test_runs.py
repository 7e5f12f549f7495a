"""`mtlbench runs`: listing, comparing and removing runs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import typer
from report_records import record, written
from typer.testing import CliRunner, Result

from mtlbench.cli import app
from mtlbench.cli.report import folders
from mtlbench.errors import UserError
from mtlbench.report.summary import records_in
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


def test_a_run_that_can_not_be_removed_is_told(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.rmtree", lambda folder, ignore_errors: None)  # as of a folder that is read-only
    with pytest.raises(UserError, match="seed-0 can't be removed: change its permissions"):
        runs("rm", results / "made-up" / "one" / "seed-0", "--yes")


@pytest.fixture
def published(results: Path) -> Path:
    """A results folder inside another, as in a fresh clone."""
    for seed in (0, 1, 2):
        written(results / "published", "theirs", seed, 0.8)
    return results / "published"


def test_ones_own_runs_are_listed_alone_before_those_of_results_folders_inside(results: Path, published: Path) -> None:
    text = runs("list", "--results", results).output
    assert text.splitlines()[0] == f"4 runs in {results}"
    assert "theirs" not in text
    assert text.splitlines()[-1] == f"3 runs in {published}: --all lists them too."
    assert runs("list", "--results", results, "--all").output.count("theirs") == 3
    assert runs("list", "--results", published).output.count("theirs") == 3
    shutil.rmtree(results / "made-up")
    said = runs("list", "--results", results)
    assert said.exit_code == 0
    assert said.output.splitlines()[0] == f"There are no runs in {results} itself."
    with pytest.raises(UserError, match=f"published has some: mtlbench runs list made-up --results {published}"):
        runs("list", "made-up", "--results", results)
    with pytest.raises(UserError, match=f"published has some: mtlbench report --results {published}"):
        records_in(results, None)


def test_reports_and_the_shells_completion_are_of_ones_own_runs(results: Path, published: Path) -> None:
    (published / "made-up").rename(published / "another")
    assert {record.method for record in records_in(results, None)} == {"one", "bad"}
    context = typer.Context(typer.main.get_command(app))
    context.params["results"] = str(results)
    assert folders(context, "") == ["made-up"]


def test_a_results_folder_inside_another_is_never_removed_with_it(results: Path, published: Path) -> None:
    kept = published / "made-up" / "theirs"
    said = runs("rm", results, "--yes").output
    assert f"Left as they are: 3 runs in {published}, a results folder of its own." in said
    assert not (results / "made-up").exists()
    with pytest.raises(UserError, match="Nothing was removed: name a results folder alone"):
        runs("rm", results, "--yes")
    written(results, "one", 0, 0.8)
    runs("rm", *sorted(results.iterdir()), "--yes")  # as the shell makes of results/*
    assert not (results / "made-up").exists()
    assert len(list(kept.iterdir())) == 3
    runs("rm", kept / "seed-0", kept / "seed-1", "--yes")
    runs("rm", published, "--yes")
    assert not kept.exists()


def test_an_interrupted_trial_belongs_to_its_benchmark(results: Path) -> None:
    trial = results / "made-up" / "tuning" / "one" / "trial-001"
    partial_folder(trial / "seed-0").mkdir(parents=True)
    assert "tuning/one/trial-001/seed-0  interrupted" in runs("list", "--results", results).output
    runs("rm", results / "made-up", "--yes")
    assert not partial_folder(trial / "seed-0").exists()


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

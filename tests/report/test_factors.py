"""Runs that differ in named settings alone share a table, each row named by its difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

import mtlbench
from mtlbench.benchmark import load_benchmark
from mtlbench.cli import app
from mtlbench.errors import UserError
from mtlbench.report import page
from mtlbench.report.agreement import agreement, definition_lines
from mtlbench.report.page import leaderboard, write_page
from mtlbench.report.suites import suites
from mtlbench.report.summary import Choice, Summary, summarise
from mtlbench.report.tables import as_frame
from mtlbench.report.verdict import verdict
from mtlbench.runs import Record, find_records, write_record

TASKS = ("category", "closure")
NARROW, WIDE = "loss.margin=0.1", "loss.margin=0.5"


def put(
    results: Path,
    method: str,
    share: float,
    *settings: str,
    seed: int = 0,
    kind: str = "method",
    **computed: str | bool,
) -> None:
    """Write a run on shoes-quick with some settings of its own; each task has this share of its questions right."""
    benchmark = load_benchmark("shoes", quick=True, settings=settings)
    setup = {
        "method": {"name": method}, "benchmark": benchmark.model_dump(mode="json"), "tasks": list(TASKS),
        "data": "abc", "precision": "fp32", "seed": seed, **computed,
    }  # fmt: skip
    hits = (np.random.default_rng([seed, 7]).random((2, 1000)) < share).astype(np.uint8)
    metrics = {task: {"triplet": float(row.mean())} for task, row in zip(TASKS, hits, strict=True)}
    receipt = {"device": "a processor", "data": {"name": "dots", "rendered": True}, "date": "2026-01-01"}
    receipt["groups"] = ["core", "base"] if method == "independent" else []
    folder = results / benchmark.name / "@".join([method, *settings]) / f"seed-{seed}"
    write_record(folder, Record(method, seed, kind, setup, metrics=metrics, receipt=receipt))
    places = np.random.default_rng(benchmark.evaluation.seed).integers(0, 900, (2, 1000, 3), dtype=np.int32)
    save_file({"hits": hits, "triplets": places}, folder / "test.safetensors")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two methods with two margins, three seeds each, and reference rows as a run with each margin leaves them."""
    for seed in (0, 1, 2):
        for settings, gain in (((NARROW,), 0.0), ((WIDE,), 0.1)):
            put(tmp_path, "independent", 0.6 + gain, *settings, seed=seed)
            put(tmp_path, "modulation", 0.7 + gain, *settings, seed=seed)
            put(tmp_path, "chance", 0.5, *settings, seed=seed, kind="reference")
    return tmp_path


def across(results: Path, *keys: str) -> list[Summary]:
    return summarise(find_records(results), Choice(across=keys), results)


@pytest.mark.parametrize(
    ("key", "values", "computed"),
    [
        ("train.precision", ("fp32", "bf16"), ({"precision": "fp32"}, {"precision": "bf16"})),
        ("train.compile", ("off", "on"), ({}, {"compiled": True})),
        ("train.deterministic", ("false", "true"), ({}, {"deterministic": True})),
    ],
)
def test_how_runs_were_computed_is_a_factor_where_it_is_named(tmp_path, key, values, computed):
    for value, setup in zip(values, computed, strict=True):
        put(tmp_path, "modulation", 0.7, f"{key}={value}", **setup)
    assert len(across(tmp_path)) == 2
    (together,) = across(tmp_path, key)
    assert {row.method for row in together.rows} == {f"modulation · {key}={value}" for value in values}


def test_without_factors_the_two_are_tables_of_their_own(results):
    assert len(across(results)) == 2


def test_rows_are_named_by_their_difference_and_references_join_once(results):
    (summary,) = across(results, "loss.margin")
    named = [row.method for row in summary.rows]
    assert (named[0], named[-1]) == ("modulation · loss.margin=0.5", "chance")
    assert set(named[1:-1]) == {
        "independent · loss.margin=0.5", "modulation · loss.margin=0.1", "independent · loss.margin=0.1",
    }  # fmt: skip
    assert len(named) == 5
    assert all(row.seeds == (0, 1, 2) for row in summary.rows)
    assert (
        "rows: named by loss.margin, the only difference between their runs besides method and seed." in summary.receipt
    )


def test_python_takes_one_factor_as_a_text(results):
    found, listed = (mtlbench.results(results, across=keys) for keys in ("loss.margin", ["loss.margin"]))
    assert len(found.suites) == 1  # letter by letter, it was "no run has the setting 'l'"
    assert found.methods == listed.methods
    assert "modulation · loss.margin=0.1" in found.methods


def test_the_test_goes_over_those_rows(results):
    (summary,) = across(results, "loss.margin")
    assert summary.comparison.best["mean"] == "modulation · loss.margin=0.5"
    standing = {row.method: row.standing["mean"] for row in summary.rows if row.kind == "method"}
    assert standing.pop("modulation · loss.margin=0.5") == "best"
    assert set(standing.values()) == {"worse"}
    assert summary.comparison.methods == 4
    assert summary.comparison.missing == ()


def test_what_sharing_gained_is_relative_to_independent_with_the_same_values(results):
    (summary,) = across(results, "loss.margin")
    rows = {row.method: row for row in summary.rows}
    for margin in ("0.1", "0.5"):
        own, base = (rows[f"{method} · loss.margin={margin}"] for method in ("modulation", "independent"))
        assert base.is_base
        above = base.accuracy["mean"].mean - 0.5
        expected = 100 * (own.accuracy["mean"].mean - 0.5 - above) / above
        assert own.accuracy["delta_m"].mean == pytest.approx(expected, rel=0.2)
    assert any("difference to independent of the same loss.margin" in line for line in summary.receipt)
    assert any("Δm is relative to independent of the same loss.margin." in line for line in summary.brief)
    assert "Against independent of the same loss.margin, a network for each task: Δm" in str(verdict(summary).answers)


def test_what_else_differs_still_separates_and_is_named_without_the_factor(results, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "draw_scene", lambda *given: [])
    put(results, "shared", 0.6, WIDE, "train.steps=77")
    first, second = across(results, "loss.margin")
    assert [change.key for change in second.separated] == ["benchmark.train.steps"]
    assert second.warnings[0].endswith(" One table of both: mtlbench report shoes-quick --across train.steps.")
    index = write_page([first, second], results, tmp_path / "page").read_text("utf-8")
    assert "mtlbench report shoes-quick --across train.steps</code>" in index
    assert [row.method for row in second.rows] == ["shared", "chance"]
    assert second.suite.factors == ()
    assert len(first.rows) == 5


def test_several_factors_are_named_in_the_order_given_and_those_that_do_not_differ_are_not(results):
    put(results, "modulation", 0.5, WIDE, "train.lr=0.01")
    (summary,) = across(results, "train.lr", "loss.margin", "train.steps")
    assert summary.suite.factors == ("train.lr", "loss.margin")
    assert "modulation · train.lr=0.01 · loss.margin=0.5" in {row.method for row in summary.rows}
    protocol = next(line for line in summary.receipt if line.startswith("protocol: "))
    assert "train.lr as named" in protocol


def test_reference_rows_of_different_exams_are_rows_of_their_own_and_nothing_is_compared(results):
    put(results, "modulation", 0.75, NARROW, "evaluation.seed=9")
    put(results, "chance", 0.51, NARROW, "evaluation.seed=9", kind="reference")
    (summary,) = across(results, "loss.margin", "evaluation.seed")
    assert {row.method for row in summary.rows if row.kind == "reference"} >= {
        "chance · evaluation.seed=0",
        "chance · evaluation.seed=9",
    }
    assert summary.comparison.obstacle == "questions"


def test_a_setting_that_no_run_has_is_refused_with_the_nearest(results):
    with pytest.raises(UserError, match=r"No run has the setting 'loss.margn'. Did you mean: loss.margin"):
        suites(find_records(results), ("loss.margn",))


def test_the_command_takes_factors_for_tables_and_csv(results):
    words = ["report", "--results", str(results), "--across", "loss.margin"]
    shown = CliRunner().invoke(app, [*words, "--format", "md"], catch_exceptions=False).output
    assert shown.count("###") == 1
    assert "| modulation · loss.margin=0.5 " in shown
    CliRunner().invoke(app, [*words, "--figures", str(results / "figures")], catch_exceptions=False)
    assert (results / "figures" / "shoes-quick" / "accuracy-tasks.svg").exists()
    frame = as_frame(across(results, "loss.margin"))
    assert set(frame["suite"]) == {1}
    assert frame.set_index("method")["mean/standing"]["modulation · loss.margin=0.1"] == "worse"


def test_a_page_has_those_rows_with_their_methods_groups(results, tmp_path):
    board = leaderboard(across(results, "loss.margin")[0])
    groups = {row["method"]: row["groups"] for row in board["rows"]}
    assert groups["independent · loss.margin=0.5"] == ["core", "base"]
    assert groups["modulation · loss.margin=0.5"] == []
    assert len(board["references"]) == 1


def test_gradient_agreement_of_runs_of_different_length_is_read_by_each_runs_own_steps(tmp_path):
    for steps in (40, 80):
        settings = (f"train.steps={steps}", "evaluation.agreement_every=20")
        put(tmp_path, "shared", 0.6, *settings)
        lines = [f"{step},all,category,closure,{1 if step < 20 else -1}" for step in range(0, steps, 20)]
        folder = tmp_path / "shoes-quick" / "@".join(["shared", *settings]) / "seed-0"
        (folder / "agreement.csv").write_text("\n".join(["step,layer,task_a,task_b,cosine", *lines]))
    (suite,) = suites(find_records(tmp_path), ("train.steps",))
    found = {row.method: row for row in agreement(suite, tmp_path)}
    assert {name: row.whole.ratio.mean for name, row in found.items() if row.whole} == {
        "shared · train.steps=40": 0.5,
        "shared · train.steps=80": 0.25,
    }
    assert any("at most 4 a run" in line for line in definition_lines(suite, list(found.values())))


def test_a_varied_loss_brings_its_own_options(tmp_path):
    losses = ("loss.name=triplet", "loss.name=pml:SupConLoss")
    for seed in (0, 1, 2):
        put(tmp_path, "shared", 0.6, seed=seed)
        put(tmp_path, "shared", 0.7, losses[1], "loss.margin=null", seed=seed)
    records = find_records(tmp_path)
    for record in records:  # as `resolved` leaves them: each loss with options that the other does not have
        loss = record.setup["benchmark"]["loss"]
        if loss["name"] == "triplet":
            loss |= {"margin": 0.2, "soft_margin": False, "mining": "all"}
        else:
            loss.clear()
            loss |= {"name": "pml:SupConLoss", "temperature": 0.1}
            record.setup["code"] = {"loss pml:SupConLoss": "abc"}
    (suite,) = suites(records, ("loss.name",))
    rows = {record.method for record in suite.records}
    assert rows == {"shared · loss.name=triplet", "shared · loss.name=pml:SupConLoss"}
    assert len(suites(records)) == 2


def test_one_loss_with_two_sets_of_options_is_kept_apart(tmp_path):
    put(tmp_path, "shared", 0.6, "loss.margin=0.1")
    put(tmp_path, "shared", 0.6, "loss.margin=0.2")
    assert len(suites(find_records(tmp_path), ("loss.name",))) == 2

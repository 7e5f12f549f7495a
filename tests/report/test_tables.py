"""Tables from records made up by hand: what stands where, what is averaged, and what may not share a table."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from mtlbench.cli import app
from mtlbench.errors import UserError
from mtlbench.report.columns import all_columns, glossary
from mtlbench.report.summary import Choice, summarise
from mtlbench.report.tables import as_frame, as_markup, rows, runs_frame, show, suites
from mtlbench.runs import Record, find_records, run_folder, write_record


def record(method: str, seed: int = 0, hits: tuple[float, float] = (0.9, 0.7), **changes: Any) -> Record:
    settings = {
        "name": "made-up", "title": "Made up", "data": {"image_size": [48, 64]},
        "model": {"backbone": "small", "embedding": 8},
        "train": {"sampling": "joint", "optimiser": "adamw", "lr": 0.001, "schedule": "cosine", "steps": 300},
        "evaluation": {"triplets": 2000},
    }  # fmt: skip
    setup = {"method": {"name": method}, "benchmark": settings, "tasks": ["colour", "heel_height"], "seed": seed}
    made = Record(method, seed, "method", setup | {"precision": "bf16", "data": "abc"})
    made.metrics = {
        task: {"triplet": hit, "macro/map@r": hit - 0.3, "macro/precision@1": hit - 0.1}
        for task, hit in zip(("colour", "heel_height"), hits, strict=True)
    }
    made.costs = {
        "parameters": 1_234_567, "file_bytes": 5_000_000, "bytes_shared": 4_000_000, "bytes_per_task": 2_048,
        "bytes_added": 2_048, "flops_one_task": 38_200_000, "flops_all_tasks": 70_000_000, "training_memory": 3e7,
        "train_rate": 1000.0, "train_rate_slowest": 900.0, "train_rate_fastest": 1100.0,
    }  # fmt: skip
    made.receipt = {
        "device": "a processor", "precision": "bf16", "images_seen": 50_400, "training_seconds": 12.3,
        "commit": "c0ffee",
        "data": {"name": "made up", "rendered": True, "train_images": 70, "fingerprint": "abc", "split": "at random"},
        "mtlbench": "0.1.0", "torch": "2.11", "python": "3.12", "date": "2026-01-02T03:04:05",
    }  # fmt: skip
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def shown(
    records: list[Record], width: int = 200, style: str = "table", results: Path | None = None, **choice: str
) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(records, style, console, Choice(**choice), results)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def unwrapped(text: str) -> str:
    return " ".join(text.split())


def cells(text: str, method: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [method])


def test_a_row_holds_mean_worst_and_tasks_in_per_cent():
    text = shown([record("one"), record("two", hits=(0.5, 0.4))])
    assert cells(text, "one")[1:] == ["80.0", "70.0", "90.0", "70.0", "50.0", "70.0"]
    assert text.index("\none ") < text.index("\ntwo ")


def test_seeds_are_averaged_with_their_sample_standard_deviation():
    text = shown([record("one", 0, (0.8, 0.6)), record("one", 1, (0.9, 0.7)), record("one", 2, (1.0, 0.8))])
    assert cells(text, "one")[1:6] == ["3", "80.0", "±10.0", "70.0", "±10.0"]
    assert "over 3 seeds" in unwrapped(text)
    assert "seeds 0, 1, 2" in unwrapped(text)


def test_costs_are_in_the_units_of_their_headings():
    (row,) = rows(suites([record("one")])[0])
    assert row.costs["bytes_added"].mean == 2048
    cost = shown([record("one")]).split("Cost")[1]
    assert cells(cost, "one")[1:] == [
        "1,234,567", "5.00", "4.00", "2.05", "2.05", "38.2", "70.0", "1,000", "±10%", "30.0", "12.3",
    ]  # fmt: skip


def test_what_was_not_measured_stays_empty():
    text = shown([record("one", costs={"parameters": 10, "training_memory": None})])
    assert cells(text.split("Cost")[1], "one") == ["one", "10", "12.3"]
    assert "train img/s" not in unwrapped(text)  # a column of nothing
    assert "no speeds in these records" in unwrapped(text)
    timed = shown([record("one"), record("two", costs={"parameters": 10})])
    assert "rates count images" in unwrapped(timed)


def test_a_failed_run_shows_its_reason_and_no_number():
    failed = record("broken", metrics={}, costs={}, status="failed", reason="out of memory")
    text = shown([record("one"), failed])
    assert cells(text, "broken") == ["broken"]
    assert "broken: FAILED: out of memory" in text


def test_a_seed_that_failed_is_named_and_not_averaged_away():
    failed = record("one", 1, metrics={}, costs={}, status="failed", reason="the loss of colour became nan at step 3")
    text = shown([record("one"), failed, record("two", 0), record("two", 1)])
    assert cells(text, "one")[1:3] == ["1", "80.0"]
    assert "one: seed 1 FAILED: the loss of colour became nan at step 3" in text


def test_a_collapsed_run_is_called_so():
    text = shown([record("one", collapsed=["colour", "heel_height"]), record("two", collapsed=["colour"])])
    assert "one: COLLAPSED (all tasks)" in text
    assert "not measured" in shown([record("one", reason="cost not measured: out of memory", costs={})])
    assert "two: COLLAPSED (colour)" in text


def test_reference_rows_come_last_whatever_their_score():
    text = shown(
        [record("chance", hits=(0.99, 0.99), kind="reference", costs={}), record("one"), record("two", hits=(0.1, 0.1))]
    )
    assert text.index("\none ") < text.index("\ntwo ") < text.index("\nchance ")
    assert "chance" not in text.split("Cost")[1].split("accuracy:")[0]


def test_rendered_data_are_never_to_be_taken_for_real():
    text = shown([record("one")])
    assert "Made up (rendered images, not real ones)" in text
    assert "(rendered, not real)" in text
    real = record("one")
    real.receipt["data"]["rendered"] = False
    assert "rendered" not in shown([real])


@pytest.mark.parametrize("where", ["device", "precision", "data", "steps"])
def test_runs_that_differ_in_more_than_method_and_seed_get_tables_of_their_own(where):
    other = record("two")
    if where == "device":
        other.receipt["device"] = "another processor"
    elif where == "steps":
        other.setup["benchmark"]["train"]["steps"] = 600
    else:
        other.setup[where] = "different"
    assert [len(s.records) for s in suites([record("one"), other])] == [1, 1]
    assert [len(s.records) for s in suites([record("one"), record("two"), record("one", 1)])] == [3]


def test_reference_rows_join_every_suite_with_the_same_questions():
    reference = record("chance", kind="reference", costs={})
    reference.receipt["device"] = "another processor"
    longer = record("one")
    longer.setup["benchmark"]["train"]["steps"] = 600
    found = suites([record("one"), longer, reference])
    assert [[r.method for r in suite.records] for suite in found] == [["one", "chance"]] * 2
    other = record("one")
    other.setup["benchmark"]["evaluation"]["triplets"] = 5
    assert [[r.method for r in suite.records] for suite in suites([other, reference])] == [["one"]]
    assert suites([reference]) == []


def test_a_narrow_terminal_gets_the_table_in_blocks_and_loses_nothing():
    wide, narrow = (shown([record("one")], width) for width in (200, 40))
    assert max(map(len, narrow.split("accuracy:")[0].splitlines())) <= 40
    for cell in cells(wide, "one") + cells(wide.split("Cost")[1], "one"):
        assert cell in narrow


def order(text: str) -> list[str]:
    """The methods of the first table, from top to bottom."""
    lines = text.split("Cost")[0].splitlines()[1:]
    return [line.split()[0] for line in lines if len(line.split()) > 3 and re.match(r"[a-z0-9-]+ +\S*\d", line)]


# --- Δm and tasks hurt ------------------------------------------------------------------------------------------------


def test_delta_m_is_the_mean_relative_difference_to_independent_seed_by_seed():
    records = [
        record("independent", 0, (0.8, 0.5)), record("independent", 1, (0.4, 0.5)),
        record("one", 0, (0.9, 0.45)), record("one", 1, (0.5, 0.5)),
    ]  # fmt: skip
    by_hand = (100 * ((0.1 / 0.8 - 0.05 / 0.5) / 2), 100 * ((0.1 / 0.4 + 0) / 2))
    (row,) = (row for row in rows(suites(records)[0]) if row.method == "one")
    assert row.accuracy["delta_m"].mean == pytest.approx(sum(by_hand) / 2)
    assert row.accuracy["hurt"].mean == 1  # heel_height: 47.5 % against 50 %
    assert cells(shown(records), "one")[6:9] == ["+6.9", "±8.0", "1"]


def test_seeds_that_independent_lacks_are_left_out_of_delta_m_and_named():
    records = [record("independent", 0, (0.8, 0.5)), record("one", 0, (0.8, 0.5)), record("one", 1, (0.9, 0.9))]
    (row,) = (row for row in rows(suites(records)[0]) if row.method == "one")
    assert (row.accuracy["delta_m"].mean, row.accuracy["hurt"].mean) == (0, 0)
    assert "Left out, for independent has no such seed: one 1." in unwrapped(shown(records))


@pytest.mark.parametrize("spoiled", ["missing", "failed", "other seed", "other suite"])
def test_delta_m_is_absent_with_the_reason_where_there_is_no_base(spoiled):
    base = record("independent", int(spoiled == "other seed"))
    if spoiled == "failed":
        base.status, base.metrics = "failed", {}
    if spoiled == "other suite":
        base.receipt["device"] = "another processor"
    text = shown([record("one"), *([] if spoiled == "missing" else [base])])
    assert "Δm" not in text.split("Cost")[0].splitlines()[1]
    why = "no seed is shared with independent" if spoiled == "other seed" else "no finished run of independent"
    assert f"Δm, tasks hurt: absent, {why}" in unwrapped(text)


def test_delta_m_uses_the_metric_that_is_shown():
    records = [record("independent", 0, (0.8, 0.5)), record("one", 0, (0.8, 0.55))]
    (row,) = (row for row in rows(suites(records)[0], "macro/map@r") if row.method == "one")
    assert row.accuracy["delta_m"].mean == pytest.approx(100 * 0.05 / 0.2 / 2)


def test_the_base_counts_even_when_its_row_is_not_asked_for():
    text = shown([record("independent", 0, (0.8, 0.5)), record("one", 0, (0.8, 0.55))], methods="one")
    assert cells(text, "one")[3] == "+5.0"
    assert order(text) == ["one"]


# --- what is shown, in which order ------------------------------------------------------------------------------------


def test_reference_rows_can_be_shown_alone():
    text = shown([record("one"), record("chance", kind="reference", costs={})], methods="chance")
    assert order(text) == ["chance"]
    assert "c0ffee" in text


def test_tables_can_be_cut_down_to_some_tasks_and_say_so():
    records = [record("one", hits=(0.9, 0.2)), record("two", hits=(0.8, 0.7))]
    text = shown(records, tasks="colour")
    assert order(text) == ["one", "two"]
    assert cells(text, "one")[1:4] == ["90.0", "90.0", "90.0"]
    assert "1 of 2 tasks" in text
    assert "chosen on all 2 tasks" in text
    assert order(shown(records)) == ["two", "one"]
    with pytest.raises(UserError, match=r"No run has the task 'color'. Did you mean: colour"):
        shown(records, tasks="color")


def test_methods_are_chosen_by_name_pattern_or_group():
    records = [record(name) for name in ("shared", "shared+uw", "modulation[after=3:4]", "mine")]

    def chosen(words: str) -> set[str]:
        return {row.method for row in summarise(records, Choice(methods=words))[0].tables[0].rows}

    assert chosen("shared*") == {"shared", "shared+uw"}
    assert chosen("modulation[after=3:4],mine") == {"modulation[after=3:4]", "mine"}
    assert chosen("core") == {"shared"}
    with pytest.raises(UserError, match=r"No run of the method 'sharde'. Did you mean: shared"):
        shown(records, methods="sharde")


def test_records_that_say_their_groups_are_believed_and_no_method_is_loaded(monkeypatch):
    monkeypatch.setattr("mtlbench.registry.load_plugins", lambda: pytest.fail("methods were loaded"))
    records = [record(name) for name in ("shared", "mine", "mine[size=2]", "other")]
    for one in records:
        one.receipt["groups"] = ["ours"] if one.method.startswith("mine") else ["theirs"]
    summary = summarise(records, Choice(methods="ours"))[0]
    assert {row.method for row in summary.tables[0].rows} == {"mine"}  # as when it is run
    with pytest.raises(UserError, match="No run of the method 'core'"):
        summarise(records, Choice(methods="core"))


@pytest.mark.parametrize(
    ("column", "first"),
    [("worst", "even"), ("parameters", "uneven"), ("heel height", "even"), ("colour", "uneven"),
     ("train img/s", "even"), ("train_rate", "even"), ("Train MB", "uneven"), ("method", "even")],
)  # fmt: skip
def test_rows_are_sorted_by_the_column_that_is_named_the_better_first(column, first):
    even, uneven = record("even", hits=(0.6, 0.5)), record("uneven", hits=(0.9, 0.4))
    uneven.costs |= {"parameters": 10, "training_memory": 10, "train_rate": 1.0}
    reference = record("chance", kind="reference", hits=(1.0, 1.0), costs={})
    found = order(shown([even, uneven, reference], sort=column))
    assert found[0] == first
    assert found[-1] == "chance"


def test_an_unknown_column_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"No column 'wrost'. Did you mean: worst"):
        shown([record("one")], sort="wrost")


# --- what may share a table -------------------------------------------------------------------------------------------


def test_runs_from_different_versions_of_a_method_are_not_averaged():
    records = [record("one", seed, (0.9, 0.7)) for seed in (0, 1, 2)] + [record("two", seed) for seed in (0, 1, 2)]
    for r, digest in zip(records, ["aaaaaaaaa", "aaaaaaaaa", "bbbbbbbbb", "c", "c", "c"], strict=True):
        r.setup["code"] = {"training": 1, "architecture": digest, "balancer": "d"}
    found = {row.method: row.seeds for row in rows(suites(records)[0])}
    assert found == {"one (source aaaaaaa)": (0, 1), "one (source bbbbbbb)": (2,), "two": (0, 1, 2)}
    assert "different versions of its source are kept apart" in shown(records)


def test_an_edited_base_is_no_base():
    records = [record("independent", 0), record("independent", 1), record("one", 0)]
    records[0].setup["code"], records[1].setup["code"] = {"architecture": "a"}, {"architecture": "b"}
    assert "absent, independent has runs from several versions of its source" in shown(records)


def test_two_different_runs_of_one_method_and_seed_are_refused_and_copies_count_once():
    assert [r.method for r in suites([record("one"), record("one")])[0].records] == ["one"]
    with pytest.raises(UserError, match="two different runs of one with seed 0"):
        suites([record("one"), record("one", hits=(0.1, 0.2))])


def test_commits_and_versions_that_differ_are_named_with_the_runs_that_have_them():
    other = record("two")
    other.receipt |= {"commit": "decaf", "protocols_tried": 4}
    text = unwrapped(shown([record("one"), other, record("three"), record("four"), record("five")]))
    assert "not all of these runs have the same tuned configurations, commit: see below" in text
    assert "commit decaf (two); c0ffee (the others)" in text
    assert "protocol chosen among 4 (two); 1 (the others), the same for all" not in text
    assert "configurations tuned: 4 (two); 1 (the others)" in text
    alike = shown([record("one"), record("two")])
    assert "not all of these runs" not in alike
    assert "commit c0ffee," in alike


def test_a_second_table_says_what_sets_it_apart():
    longer = record("two")
    longer.setup["benchmark"] = longer.setup["benchmark"] | {"train": {**longer.setup["benchmark"]["train"]}}
    longer.setup["benchmark"]["train"]["steps"] = 600
    text = shown([record("one"), longer])
    assert "a table of its own, for it differs from the one above: benchmark.train.steps: 300 above, 600 here." in text


# --- comparison with the best, and equal seconds ----------------------------------------------------------------------


def written(results: Path, method: str, seed: int, share: float, curve: Any = (), kept: bool = True) -> Record:
    """A record with its answers: the given share of 400 questions a task, drawn by seed, right."""
    generator = torch.Generator().manual_seed(1000 * seed + len(method))
    hits = (torch.rand(2, 400, generator=generator) < share).to(torch.uint8)
    made = record(method, seed, tuple(hits.float().mean(1).tolist()))
    folder = run_folder(results, "made-up", method, seed)
    write_record(folder, made, curve=curve, test={"hits": hits} if kept else None)
    return made


def test_methods_that_cannot_be_told_apart_from_the_best_are_marked(tmp_path):
    shares = {"best": 0.9, "second": 0.895, "last": 0.6}
    records = [written(tmp_path, m, seed, share) for m, share in shares.items() for seed in (0, 1, 2)]
    (summary,) = summarise(records, Choice(), tmp_path)
    marks = {row.method: row.tied for row in summary.tables[0].rows}
    leader, follower = summary.tables[0].rows[0].method, summary.tables[0].rows[1].method
    assert {leader, follower} == {"best", "second"}
    assert "mean" in marks[follower]
    assert "mean" not in marks[leader]
    assert marks["last"] == frozenset()
    text = shown(records, results=tmp_path)
    assert "≈" in next(line for line in text.splitlines() if line.startswith(follower))
    assert "≈: can't be told apart from the best of the column" in text
    assert "seeds is not covered" not in text


def test_with_one_seed_the_comparison_says_what_it_does_not_cover(tmp_path):
    records = [written(tmp_path, m, 0, share) for m, share in (("one", 0.9), ("other", 0.5))]
    text = unwrapped(shown(records, results=tmp_path))
    assert "how results vary between seeds is not covered, for there is one" in text


def test_methods_without_answers_are_not_marked_and_named(tmp_path):
    records = [written(tmp_path, "one", 0, 0.9), written(tmp_path, "two", 0, 0.9), written(tmp_path, "bare", 0, 0.9)]
    (run_folder(tmp_path, "made-up", "bare", 0) / "test.safetensors").unlink()
    (summary,) = summarise(records, Choice(), tmp_path)
    assert {row.method: row.tied for row in summary.tables[0].rows}["bare"] == frozenset()
    assert any("not of the same run: bare" in line for line in summary.receipt)


def test_answers_of_another_run_are_not_believed(tmp_path):
    records = [written(tmp_path, "one", 0, 0.9), written(tmp_path, "two", 0, 0.9)]
    records[1].metrics["colour"]["triplet"] = 0.123
    (summary,) = summarise(records, Choice(), tmp_path)
    assert any("not of the same run: two" in line for line in summary.receipt)


def test_other_metrics_are_not_compared_and_it_says_why(tmp_path):
    records = [written(tmp_path, "one", 0, 0.9), written(tmp_path, "two", 0, 0.9)]
    (summary,) = summarise(records, Choice(metric="macro/map@r"), tmp_path)
    assert not any(row.tied for row in summary.tables[0].rows)
    assert any("for triplet accuracy alone" in line for line in summary.receipt)


def curve(*points: tuple[float, float, float]) -> list[dict[str, float]]:
    """Rows of a curve: seconds and the two tasks' validation accuracies, a row without validation after each."""
    rows_: list[dict[str, float]] = []
    for step, (seconds, a, b) in enumerate(points):
        accuracies = {"accuracy/colour": a, "accuracy/heel_height": b, "accuracy": (a + b) / 2}
        rows_ += [
            {"step": 2.0 * step + 1, "seconds": seconds, **accuracies},
            {"step": 2.0 * step + 2, "seconds": seconds + 0.1},
        ]
    return rows_


def test_at_equal_seconds_what_validation_had_measured_by_then_ranks(tmp_path):
    slow = written(tmp_path, "slow", 0, 0.9, curve((5, 0.5, 0.5), (10, 0.6, 0.6), (20, 0.9, 0.9)))
    fast = written(tmp_path, "fast", 0, 0.6, curve((2, 0.6, 0.5), (4, 0.7, 0.7), (9.9, 0.5, 0.6)))
    late = written(tmp_path, "late", 0, 0.8, curve((11, 0.8, 0.8)))
    text = shown([slow, fast, late], results=tmp_path, seconds="10")
    assert order(text) == ["fast", "slow", "late"]
    assert cells(text, "fast")[1] == "70.0"
    assert cells(text, "slow")[1] == "60.0"
    assert "on the validation split" in unwrapped(text)
    assert "ranked at 10 s" in text
    (summary,) = summarise([slow, fast, late], Choice(seconds="10"), tmp_path)
    assert {r.method: r.accuracy["within"].mean for r in summary.tables[0].rows}["late"] is None
    shortest = shown([slow, fast], results=tmp_path, seconds="shortest")
    assert "within 9.9 s of training steps, the time that fast took" in unwrapped(shortest)


def test_at_equal_seconds_tasks_are_read_from_the_checkpoint_that_all_tasks_chose(tmp_path):
    one = written(tmp_path, "one", 0, 0.9, curve((1, 0.9, 0.1), (2, 0.6, 0.6)))
    (summary,) = summarise([one], Choice(seconds="5", tasks="colour"), tmp_path)
    assert summary.tables[0].rows[0].accuracy["within"].mean == pytest.approx(0.6)


@pytest.mark.parametrize("kept", [(), [{"step": 1.0, "seconds": math.nan, "accuracy": 0.5}]])
def test_without_curves_that_have_seconds_there_is_no_shortest_run(tmp_path, kept):
    (summary,) = summarise([written(tmp_path, "one", 0, 0.9, kept)], Choice(seconds="shortest"), tmp_path)
    assert "equal seconds: none, no run here kept its curve with seconds." in summary.receipt
    assert not any("no column" in line for line in summary.receipt)


@pytest.mark.parametrize("seconds", ["soon", "0", "-3", "nan", "inf"])
def test_seconds_that_are_none_are_refused(tmp_path, seconds):
    with pytest.raises(UserError, match="give a number of seconds, or 'shortest'"):
        shown([written(tmp_path, "one", 0, 0.9)], results=tmp_path, seconds=seconds)


# --- formats ----------------------------------------------------------------------------------------------------------


def test_markdown_and_latex_hold_the_same_numbers_best_in_bold_second_underlined():
    failed = record("bad", metrics={}, costs={}, status="failed", reason="x")
    records = [record("one"), record("two", hits=(0.5, 0.4)), record("three", hits=(0.4, 0.3)), failed]
    markdown, latex = (as_markup(summarise(records)[0], style) for style in ("md", "latex"))
    assert re.search(r"\| one +\| +\*\*80.0\*\* \|", markdown)
    assert "<ins>45.0</ins>" in markdown
    assert r"one & \textbf{80.0} & \textbf{70.0} & \textbf{90.0}" in latex
    assert r"two & \underline{45.0} &" in latex
    assert "three & 35.0 & 30.0" in latex
    assert "heel height" in latex
    for text in (markdown, latex):
        assert "bad: FAILED: x" in text
        assert "seeds 0" in text
        assert "1,234,567" in text


def test_latex_is_escaped_and_balanced():
    name = "a_b&c%d#e$f~g^h"
    records = [record(name, seed, (0.8 + seed / 100, 0.6)) for seed in (0, 1)] + [record("independent", 0)]
    latex = as_markup(summarise(records)[0], "latex")
    assert r"a\_b\&c\%d\#e\$f\textasciitilde{}g\textasciicircum{}h & 2" in latex
    assert r"{\scriptsize $\pm$0.4}" in latex  # the deviation of the mean, smaller than it
    assert r"$-$" in latex
    bare = re.sub(r"\\[&%#$_{}]", "", latex)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[±×Δ≈]", bare)
    for block in re.findall(r"\\begin{tabular}{(l r*|l)(r*)}\n(.*?)\\end{tabular}", bare, re.DOTALL):
        lines = [line for line in block[2].splitlines() if line.endswith(r"\\")]
        assert len(lines) > 1
        assert {line.count("&") for line in lines} == {len(block[1])}


def test_the_terminal_marks_best_and_second_and_ties_share_a_place():
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="standard")
    show([record("one"), record("two"), record("three", hits=(0.5, 0.4))], "table", console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("\x1b[1;32m80.0") == 2
    assert "\x1b[4m45.0" in text


def test_csv_has_a_row_per_method_with_the_spread_the_base_and_the_receipt(tmp_path):
    records = [written(tmp_path, m, s, 0.8) for m in ("independent", "one") for s in (0, 1)]
    frame = as_frame(summarise(records, Choice(), tmp_path))
    assert sorted(frame["method"]) == ["independent", "one"]
    one = frame.set_index("method").loc["one"]
    assert (one["n"], one["seeds"]) == (2, "0 1")
    by_task = [[r.metrics[t]["triplet"] for r in records if r.method == "one"] for t in ("colour", "heel_height")]
    assert one["task/colour"] == pytest.approx(sum(by_task[0]) / 2)
    assert one["mean"] == pytest.approx((sum(by_task[0]) + sum(by_task[1])) / 4)
    assert {"mean/sd", "mean/alike", "worst", "delta_m", "hurt", "cost/bytes_added", "cost/training_seconds"} <= set(
        frame
    )
    assert "fingerprint abc" in one["receipt/data"]
    assert "split at random" in one["receipt/data"]
    again = pd.read_csv(io.StringIO(shown(records, style="csv", results=tmp_path))).set_index("method")
    assert again.loc["one", "mean"] == one["mean"]


def test_rows_of_different_suites_are_told_apart_in_csv():
    other = record("one")
    other.receipt["device"] = "another processor"
    assert list(as_frame(summarise([record("one"), other]))["suite"]) == [1, 2]
    assert list(runs_frame(suites([record("one"), other]))["suite"]) == [1, 2]


def test_runs_holds_every_run_unrounded():
    records = [record("one", seed, (0.123456789, 0.5)) for seed in (0, 1)] + [record("chance", kind="reference")]
    frame = runs_frame(suites(records))
    assert list(frame["method"]) == ["one", "one", "chance"]
    assert frame["triplet/colour"][0] == 0.123456789
    assert frame["triplet/worst"][0] == 0.123456789
    assert frame["cost/bytes_added"][1] == 2048
    assert frame["receipt/data_fingerprint"][0] == "abc"
    again = pd.read_csv(io.StringIO(shown(records, style="runs")))
    assert again["triplet/colour"][0] == 0.123456789


def test_records_are_read_from_where_they_lie_whatever_their_folders_are_called(tmp_path):
    for method in ("one", "two"):
        hits = torch.rand(2, 400, generator=torch.Generator().manual_seed(len(method))) < 0.8
        made = record(method, hits=tuple(hits.float().mean(1).tolist()))
        folder = tmp_path / "made-up" / f"{method}@lr=0.003" / "seed-0"
        write_record(folder, made, test={"hits": hits.to(torch.uint8)})
    found = find_records(tmp_path, "made-up")
    assert [one.folder for one in found] == sorted((tmp_path / "made-up").glob("*/seed-0"))
    assert summarise(found, results=tmp_path)[0].comparison.best["mean"] in ("one", "two")


def test_every_column_says_what_it_means_and_the_command_prints_it():
    columns = {c.key: c for c in all_columns()}
    (summary,) = summarise([record("one", seed) for seed in (0, 1)] + [record("independent", seed) for seed in (0, 1)])
    used = [column for table in summary.tables for column in table.columns]
    assert {c.key for c in used if c.task is None} - {"method"} <= set(columns)
    assert all(c.meaning for c in used if c.task is None and c.key != "method")
    printed = unwrapped(CliRunner().invoke(app, ["report", "--columns"], catch_exceptions=False).output)
    for term, meaning in glossary(columns.values()):
        assert f"{term} {meaning}" in printed

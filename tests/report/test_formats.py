"""Tables as they are written: Markdown, LaTeX, the terminal and CSV."""

from __future__ import annotations

import importlib.util
import io
import re
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from report_records import record, shown, unwrapped, written
from rich.console import Console

from mtlbench import paper
from mtlbench.report import agreement
from mtlbench.report.frames import SCHEMA, runs_schema, schema
from mtlbench.report.page import leaderboard
from mtlbench.report.summary import Choice, summarise
from mtlbench.report.tables import as_frame, as_markup, runs_frame, show, suites


def test_markdown_and_latex_hold_the_same_numbers_best_in_bold_second_underlined():
    failed = record("bad", metrics={}, costs={}, status="failed", reason="x")
    records = [failed]
    for seed in (0, 1):
        records += [record("one", seed), record("two", seed, (0.5, 0.4)), record("three", seed, (0.4, 0.3))]
    markdown, latex = (as_markup(summarise(records)[0], style) for style in ("md", "latex"))
    assert re.search(r"\| one +\| +2 \| +\*\*80.0\*\* ±0.0 \|", markdown)
    assert "<ins>45.0</ins>" in markdown
    spread = r"\,{\scriptsize $\pm$0.0}"
    assert rf"one & 2 & \textbf{{80.0}}{spread} & 70.0{spread} & \textbf{{90.0}}" in latex
    assert rf"two & 2 & \underline{{45.0}}{spread} &" in latex
    assert f"three & 2 & 35.0{spread} & 30.0" in latex
    assert "heel height" in latex
    for text in (markdown, latex):
        assert "bad: FAILED: x" in text
        assert "seeds 0, 1" in text
        assert "1,234,567" in text


def test_with_one_seed_no_number_is_shown_as_the_best_or_the_second(tmp_path):
    records = [written(tmp_path, method, 0, share) for method, share in (("one", 0.9), ("two", 0.5), ("three", 0.4))]
    for results in (None, tmp_path):
        (summary,) = summarise(records, results=results)
        assert "<ins>" not in as_markup(summary, "md")
        assert "**" not in as_markup(summary, "md").split("\n- ")[0]
        assert not re.search(r"\\textbf|\\underline", as_markup(summary, "latex"))
        assert leaderboard(summary)["ranked"] is False


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


def many_tasks(method, number=40):
    made = record(method)
    tasks = [f"task {n}" for n in range(number)]
    made.setup["tasks"], made.metrics = tasks, dict.fromkeys(tasks, made.metrics["colour"])
    return made


@pytest.mark.parametrize("style", ["md", "latex"])
def test_a_table_of_many_tasks_is_several_each_with_the_methods_names(style):
    (summary,) = summarise([many_tasks("one"), many_tasks("two")])
    text = as_markup(summary, style)
    mark = "### " if style == "md" else r"\caption{"
    blocks = [block for block in text.split(mark)[1:] if block.startswith("Made up")]
    assert [f"part {n} of 3" in block.splitlines()[0] for n, block in enumerate(blocks, 1)] == [True] * 3
    cell = "|" if style == "md" else "&"
    lines = [[line for line in block.splitlines() if re.match(r"(\| )?one ", line)] for block in blocks]
    assert [len(found) for found in lines] == [1] * 3
    assert max(line.count(cell) for (line,) in lines) <= 22
    assert "task 39" in blocks[2]
    assert "part 1" not in as_markup(summarise([many_tasks("one", 10)])[0], style)


def test_the_small_print_of_latex_stands_once():
    latex = as_markup(summarise([record("one")])[0], "latex")
    first, cost = latex.split(r"\end{table}")[:2]
    assert "made by: " in first
    assert "parbox" not in cost
    assert latex.count("made by: ") == 1


def test_latex_writes_every_minus_of_a_cell_as_one(tmp_path):
    records = [written(tmp_path, m, s, share) for m, share in (("one", 0.9), ("two", 0.6)) for s in (0, 1, 2)]
    latex = as_markup(summarise(records, results=tmp_path)[0], "latex")
    (interval,) = re.findall(r"two .*? & (\S+ \{\[\}\S+, \S+\])", latex)
    assert re.fullmatch(r"\$-\$\d+\.\d \{\[\}\$-\$\d+\.\d, \$-\$\d+\.\d\]", interval)


def test_the_terminal_marks_best_and_second_and_ties_share_a_place():
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="standard")
    methods = (("one", (0.9, 0.7)), ("two", (0.9, 0.7)), ("three", (0.5, 0.4)))
    show([record(name, seed, hits) for name, hits in methods for seed in (0, 1)], "table", console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("\x1b[1;32m80.0") == 2
    assert "\x1b[4m45.0" in text


def test_no_line_of_a_table_ends_in_spaces(tmp_path):
    records = [written(tmp_path, m, s, share) for m, share in (("one", 0.9), ("two", 0.5)) for s in (0, 1)]
    records.append(record("chance", kind="reference", costs={}))
    for width in (60, 80, 200):
        lines = shown(records, width, results=tmp_path).splitlines()
        assert [line for line in lines if line != line.rstrip()] == []


def brief(records, width, results):
    console = Console(file=io.StringIO(), width=width)
    show(records, "table", console, results=results, notes=False)
    return console.file.getvalue()


def test_below_a_table_stand_what_none_goes_without_and_three_lines(tmp_path):
    records = [written(tmp_path, m, s, 0.8) for m in ("independent", "one") for s in (0, 1)]
    text = brief(records, 200, tmp_path)
    for heading in ("made by:", "protocol:", "data:", "marks:"):
        assert heading not in text
        assert heading in shown(records, results=tmp_path)
    assert "Against the best (*) of a column: ≈ tied, ? undecided, no mark worse." in text
    assert "±: sample standard deviation over 2 seeds." in text
    closing = [line.split("?")[0] for line in text.rstrip().splitlines()[-3:]]
    assert closing == ["Which method", "What does it cost", "How sure is that"]


def test_a_narrow_terminal_does_without_columns_that_repeat_others_unless_they_are_asked_for(tmp_path):
    records = [written(tmp_path, m, s, 0.8) for m in ("independent", "one") for s in (0, 1)]
    narrow = brief(records, 80, tmp_path)
    assert "parameters" in brief(records, 200, tmp_path)
    assert "parameters" not in narrow
    assert "per task" not in narrow
    assert not re.search(r"^method.* seeds", narrow, re.MULTILINE)
    assert "parameters" in shown(records, 80, results=tmp_path)
    console = Console(file=io.StringIO(), width=80)
    show(records, "table", console, Choice(sort="parameters"), tmp_path, notes=False)
    assert "parameters" in console.file.getvalue().split("Cost")[1]
    assert max(map(len, narrow.splitlines())) <= 80
    assert [line for line in narrow.splitlines() if line != line.rstrip()] == []


def test_a_collapsed_or_failed_method_says_so_in_its_row_once():
    fallen = record("fallen", collapsed=["colour"])
    failed = record("bad", metrics={}, costs={}, status="failed", reason="x")
    for width in (60, 200):
        table, cost = shown([record("one"), fallen, failed], width).split("Cost")
        rows = table.split("method")
        assert re.search(r"^fallen COLLAPSED +\d", rows[1], re.MULTILINE)
        assert re.search(r"^bad FAILED", rows[1], re.MULTILINE)
        assert not any("COLLAPSED" in block for block in rows[2:])
        assert "COLLAPSED" not in cost.split("fallen: COLLAPSED")[0]
    assert "fallen COLLAPSED" in as_markup(summarise([record("one"), fallen])[0], "md")


def test_speeds_that_varied_much_or_were_measured_on_a_busy_machine_are_warned_of(tmp_path):
    steady, shaky, busy = record("steady"), record("shaky"), record("busy")
    shaky.costs = shaky.costs | {"train_rate_slowest": 700.0, "train_rate_fastest": 1150.0}
    busy.receipt = busy.receipt | {"share_of_cores": 0.5}
    for text in (shown([steady, shaky, busy]), brief([steady, shaky, busy], 200, None)):
        assert (
            "Speeds that can't be compared: varied by more than ±20 %: shaky; measured on a busy machine: busy."
            in unwrapped(text)
        )
    assert "can't be compared" not in shown([steady])


def test_the_range_of_a_speed_holds_the_measurements_of_all_seeds(tmp_path):
    records = [record("two", seed) for seed in (0, 1)]
    for seed, (slow, middle, fast) in enumerate(((94, 100, 106), (145, 150, 180))):  # each seed is steady
        speeds = {"train_rate": middle, "train_rate_slowest": slow, "train_rate_fastest": fast}
        one = record("one", seed)
        one.costs = one.costs | speeds
        records.append(one)
    found = summarise(records, Choice(), tmp_path)
    frame = as_frame(found).set_index("method")
    assert list(frame.loc["one", [f"cost/train_rate{end}" for end in ("", "_slowest", "_fastest")]]) == [125, 94, 180]
    text = unwrapped(as_markup(found[0], "md"))
    assert "125 ±34%" in text  # half of 180 - 94, in per cent of 125
    assert "varied by more than ±20 %: one." in text


def test_the_small_print_says_how_many_images_speeds_were_measured_with():
    made = record("one")
    made.receipt = made.receipt | {"steps": 525, "embedding_batch": 256}
    assert "; steps of 96 images; embedding 256 at a time." in shown([made])


def test_csv_has_a_row_per_method_with_the_spread_the_base_and_the_receipt(tmp_path):
    records = [written(tmp_path, m, s, 0.8) for m in ("independent", "one") for s in (0, 1)]
    frame = as_frame(summarise(records, Choice(), tmp_path))
    assert sorted(frame["method"]) == ["independent", "one"]
    one = frame.set_index("method").loc["one"]
    assert (one["n"], one["seeds"]) == (2, "0 1")
    by_task = [[r.metrics[t]["triplet"] for r in records if r.method == "one"] for t in ("colour", "heel_height")]
    assert one["task/colour"] == pytest.approx(sum(by_task[0]) / 2)
    assert one["mean"] == pytest.approx((sum(by_task[0]) + sum(by_task[1])) / 4)
    assert {
        "mean/sd",
        "mean/standing",
        "mean/vs_best/low",
        "worst",
        "delta_m",
        "hurt",
        "cost/bytes_added",
        "cost/training_seconds",
    } <= set(frame)
    assert one["receipt/fingerprint"] == "abc"
    assert (one["receipt/quick"], one["receipt/rendered"], one["comparable"], one["steady"]) == (0, 1, 1, 1)
    again = pd.read_csv(io.StringIO(shown(records, style="csv", results=tmp_path))).set_index("method")
    assert again.loc["one", "mean"] == one["mean"]


def test_the_csv_has_the_same_columns_whatever_was_measured_and_they_are_those_of_its_documentation(tmp_path):
    many = [written(tmp_path, m, s, 0.8) for m in ("independent", "one") for s in (0, 1)]
    bare = record("alone", metrics={}, costs={}, status="failed", reason="x")
    documented = [field.name for field in schema()]
    fixed = [name for name in documented if "<" not in name]
    assert len(set(documented)) == len(documented)
    for records in (many, [bare]):
        text = shown(records, style="csv", results=tmp_path)
        names = pd.read_csv(io.StringIO(text)).columns.tolist()
        assert names[: len(fixed)] == fixed
        assert {re.sub(r"(?<=task/)[^/]+", "<task>", name) for name in names} <= set(documented)
        assert "".join(names).isascii()
    assert all(field.meaning for field in schema())
    assert not any(re.search(r"per cent|points|\bMB\b|kB", field.meaning) for field in schema())
    page = conf_of_docs().csv_page()
    assert f"schema {SCHEMA}," in page
    others = [*runs_schema(), *agreement.schema(), *paper.schema()]
    assert re.findall(r"^\| `(.+?)` \|", page, re.MULTILINE) == [*documented, *(field.name for field in others)]


def test_two_suites_of_which_other_things_were_measured_have_the_same_columns(tmp_path):
    compared = [written(tmp_path, m, s, 0.8) for m in ("independent", "one") for s in (0, 1)]
    unmeasured = record("alone", costs={}, receipt={})
    for numbers in unmeasured.metrics.values():
        for name in ("macro/map@r", "macro/precision@1"):
            del numbers[name]
    failed = record("failed", metrics={}, costs={}, status="failed", reason="x")
    other, wordy = record("other"), record("wordy")
    other.costs = other.costs | {
        "onnx_int8_bytes": 9,
        "a_cost_of_another_version": 9,
        "embed_rate_all_tasks": 10.0,
        "parameters_shared": 3,
    }
    wordy.receipt = wordy.receipt | {"threads": 3, "test_triplets": 2000, "share_of_cores": 0.2}
    suites_of = (compared, [unmeasured], [failed], [other], [wordy], [*compared, failed, wordy])
    headings = {shown(records, style="csv", results=tmp_path).splitlines()[0] for records in suites_of}
    assert len(headings) == 1


def test_no_cell_for_machines_holds_a_sentence(tmp_path):
    records = [written(tmp_path, m, s, 0.8) for m in ("independent", "one") for s in (0, 1)]
    records[-1].receipt = records[-1].receipt | {"commit": "another", "share_of_cores": 0.1}
    records += [record("fallen", collapsed=["colour", "heel_height"])]
    lost = {"metrics": {}, "costs": {}, "status": "failed", "reason": "No memory is left."}
    records += [record("bad", seed, **lost) for seed in (0, 1)]
    (summary,) = summarise(records, Choice(), tmp_path)
    assert summary.warnings
    assert summary.notes
    frame = as_frame([summary]).set_index("method")
    for column in frame.columns:
        for cell in frame[column].dropna():
            assert not re.search(r"[a-z]\.$|\. [A-Z]|: [a-z]", str(cell)), (column, cell)
    assert (frame.loc["bad", "failed"], frame.loc["bad", "status"]) == ("0 1", "failed")
    assert (frame.loc["fallen", "collapsed"], frame.loc["one", "steady"]) == ("colour;heel_height", 0)
    assert set(frame["comparable"]) == {0}


def test_a_row_per_run_has_a_schema_too(tmp_path):
    records = [record("one"), record("bad", metrics={}, costs={}, status="failed", reason="x")]
    frame = runs_frame(suites(records))
    assert set(frame["schema"]) == {SCHEMA}
    names = [field.name for field in runs_schema()]
    fixed = [name for name in names if "<" not in name]
    assert frame.columns.tolist()[: len(fixed)] == fixed
    patterns = [re.sub(r"<\w+>", ".+", name) for name in names]
    for name in frame.columns:
        assert any(re.fullmatch(pattern, name) for pattern in patterns), name


def test_the_csv_has_one_unit_for_shares_counts_the_best_among_the_tied_and_separates_no_thousands(tmp_path):
    hits = {"independent": 0.9, "one": 0.6}
    records = [written(tmp_path, m, s, share) for m, share in hits.items() for s in (0, 1, 2)]
    (summary,) = summarise(records, Choice(), tmp_path)
    (row,) = (row for row in summary.rows if row.method == "one")
    text = shown(records, style="csv", results=tmp_path)
    frame = pd.read_csv(io.StringIO(text)).set_index("method")
    assert frame.loc["one", "delta_m"] == pytest.approx((row.accuracy["delta_m"].mean or 0) / 100, rel=1e-15)
    assert frame.loc["one", "delta_m/sd"] == pytest.approx((row.accuracy["delta_m"].deviation or 0) / 100, rel=1e-15)
    assert frame["mean/tied"].to_dict() == {"independent": 1, "one": 0}
    assert frame.loc["one", "mean"] == row.accuracy["mean"].mean
    assert frame.loc["one", "cost/parameters"] == 1234567
    assert frame.loc["one", "schema"] == SCHEMA


def conf_of_docs() -> ModuleType:
    path = Path(__file__).parents[2] / "docs" / "conf.py"
    spec = importlib.util.spec_from_file_location("docs_conf", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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

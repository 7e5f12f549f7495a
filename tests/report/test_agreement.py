"""Tables of how gradients agree, from probes made up by hand: what is counted, what is averaged, what is said."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from mtlbench.errors import LeftOut, UserError
from mtlbench.probes import pairs
from mtlbench.report.agreement import Agreement, agreement, as_frame, as_markup, schema, show
from mtlbench.report.frames import SCHEMA
from mtlbench.report.suites import suites
from mtlbench.runs import Record, find_records, run_folder, write_record

TASKS = ("colour", "heel_height", "NA")  # a task may be called what pandas takes for a missing value
AB, AC, BC = pairs(TASKS)
Probes = Mapping[int, tuple[float | None, ...]]  # by step, a cosine for every pair of tasks


def record(method: str, seed: int = 0, every: int = 20, tasks: tuple[str, ...] = TASKS, **changes: Any) -> Record:
    settings = {
        "name": "made-up", "title": "Made up", "data": {"reader": "zappos", "image_size": [48, 64]},
        "model": {"backbone": "small", "embedding": 8},
        "train": {
            "sampling": "per-task", "optimiser": "adamw", "lr": 0.001, "schedule": "cosine", "steps": 90,
            "triplets": 8, "joint_triplets": 512,
        },
        "evaluation": {"every": 30, "triplets": 2000, "agreement_every": every},
    }  # fmt: skip
    setup = {"method": {"name": method}, "benchmark": settings, "tasks": list(tasks), "seed": seed}
    made = Record(method, seed, "method", setup | {"precision": "bf16", "data": "abc"})
    made.metrics = {task: {"triplet": 0.7} for task in tasks}
    made.costs = {"parameters_shared": 1_234_567}
    made.receipt = {
        "device": "a processor", "precision": "bf16", "images_seen": 50_400, "training_seconds": 12.3,
        "data": {"name": "made up", "rendered": True, "fingerprint": "abc"}, "date": "2026-01-02T03:04:05",
    }  # fmt: skip
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def leave(results: Path, made: Record, probes: Probes | None, layers: Mapping[str, Probes] | None = None) -> Path:
    """Write a record with its probes as a run does; without a agreement.csv for None."""
    every = None
    if probes is not None:
        every = [
            {"step": str(step), "layer": layer, "task_a": a, "task_b": b, "cosine": "" if c is None else f"{c:.6g}"}
            for layer, values in {"all": probes, **(layers or {})}.items()
            for step, cosines in values.items()
            for (a, b), c in zip(pairs(made.setup["tasks"]), cosines, strict=True)
        ]
    folder = run_folder(results, "made-up", made.method, made.seed)
    write_record(folder, made, probes=every)
    return folder


def constant(*cosines: float | None) -> Probes:
    return dict.fromkeys((0, 20, 40, 60, 80), cosines)


def summarised(results: Path) -> dict[str, Agreement]:
    (suite,) = suites(find_records(results))
    return {row.method: row for row in agreement(suite, results)}


def shown(results: Path, style: str = "table", width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(find_records(results), results, style, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def cells(text: str, method: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [method])


def test_the_ratio_is_the_share_of_probes_and_pairs_with_a_positive_cosine(tmp_path):
    probes = {
        0: (0.5, -0.5, 0.1),
        20: (0.5, -0.5, -0.1),
        40: (0.5, -0.5, 0.0),  # orthogonal gradients don't agree
        60: (0.5, -0.5, 0.1),
        80: (0.5, -0.5, -0.1),
    }
    leave(tmp_path, record("one"), probes)
    row = summarised(tmp_path)["one"]
    assert row.probes == 5
    assert row.whole.ratio.mean == pytest.approx(7 / 15)
    assert row.whole.cosine.mean == pytest.approx(0)
    assert {pair: row.pairs[pair].ratio.mean for pair in (AB, AC, BC)} == pytest.approx({AB: 1.0, AC: 0.0, BC: 0.4})
    assert row.pairs[AC].cosine.mean == -0.5
    assert row.note == ""


def test_the_last_third_begins_at_two_thirds_of_the_steps(tmp_path):
    probes = {0: (-0.9,) * 3, 20: (-0.9,) * 3, 40: (-0.9,) * 3, 60: (0.2,) * 3, 80: (0.4,) * 3}
    leave(tmp_path, record("one"), probes)
    row = summarised(tmp_path)["one"]
    assert row.late.ratio.mean == 1
    assert row.late.cosine.mean == pytest.approx(0.3)
    assert row.whole.ratio.mean == pytest.approx(0.4)
    assert "the last third from step 60" in shown(tmp_path).replace("\n", " ")


def test_a_probe_just_before_the_last_third_is_not_in_it(tmp_path):
    made = record("one", every=33)
    made.setup["benchmark"]["train"]["steps"] = 100
    leave(tmp_path, made, {0: (-0.9,) * 3, 33: (-0.9,) * 3, 66: (-0.9,) * 3, 99: (0.4,) * 3})
    assert summarised(tmp_path)["one"].late.cosine.mean == pytest.approx(0.4)


def test_a_cosine_that_is_missing_is_counted_on_neither_side_and_told(tmp_path):
    leave(tmp_path, record("one"), {**constant(0.5, 0.5, -0.5), 0: (None, None, -0.5)})
    leave(tmp_path, record("none"), constant(None, 0.5, 0.5))
    rows = summarised(tmp_path)
    assert rows["one"].whole.ratio.mean == pytest.approx(8 / 13)
    assert (rows["one"].whole.without, rows["one"].whole.of) == (2, 15)
    assert rows["one"].pairs[AB].ratio.mean == 1
    assert rows["none"].pairs[AB].ratio.mean is None
    text = shown(tmp_path)
    assert "one: 2 of 15 cosines are missing: there a gradient was 0." in text
    assert "none: 5 of 15 cosines are missing: there a gradient was 0." in text


def test_seeds_are_averaged_with_their_sample_standard_deviation(tmp_path):
    for seed, cosine in enumerate((0.1, 0.2, 0.3)):
        leave(tmp_path, record("one", seed), constant(cosine, cosine, -0.3))
    row = summarised(tmp_path)["one"]
    assert row.whole.cosine.mean == pytest.approx((2 * 0.2 - 0.3) / 3)
    assert row.whole.cosine.deviation == pytest.approx(0.2 / 3)
    assert row.whole.ratio.deviation == 0
    text = shown(tmp_path)
    assert cells(text, "one") == [
        "one", "3", "1,234,567", "66.7", "±0.0", "+0.033", "±0.067", "66.7", "±0.0", "+0.033", "±0.067",
    ]  # fmt: skip
    assert "sample standard deviation over seeds" in text.replace("\n", " ")


def test_methods_stand_in_the_order_of_their_ratio(tmp_path):
    leave(tmp_path, record("least"), constant(-0.1, -0.1, -0.1))
    leave(tmp_path, record("most"), constant(0.1, 0.1, 0.1))
    leave(tmp_path, record("between"), constant(0.9, 0.9, -0.1))
    leave(tmp_path, record("a-nothing-shared"), {})
    assert list(summarised(tmp_path)) == ["most", "between", "least", "a-nothing-shared"]


def test_what_is_not_in_the_table_is_said_with_the_reason(tmp_path):
    leave(tmp_path, record("one"), constant(0.1, 0.1, 0.1))
    leave(tmp_path, record("independent"), {})
    leave(tmp_path, record("lost"), None)
    leave(tmp_path, record("broken", status="failed", reason="out of memory", metrics={}), None)
    leave(tmp_path, record("flat", collapsed=["colour"]), constant(0.1, 0.1, 0.1))
    text = shown(tmp_path)
    assert "independent: shares no parameters between tasks." in text
    assert "lost: has no agreement.csv beside its run.json" in text
    assert "broken: FAILED: out of memory." in text
    assert "flat: COLLAPSED (colour)" in text
    rows = summarised(tmp_path)
    assert [row.method for row in rows.values() if row.probes] == ["flat", "one"]
    assert not any(line.startswith(("independent ", "lost ", "broken ")) for line in text.splitlines())


def test_every_form_says_what_the_figures_are(tmp_path):
    leave(tmp_path, record("one"), constant(0.1, 0.1, 0.1))
    for style in ("table", "md", "latex"):
        text = " ".join(shown(tmp_path, style).split())
        assert "update compliance ratio" in text
        assert "positive inner product" in text
        assert "the paper does not give the formula; this one is ours" in text
        assert "rendered images, not real ones" in text
        assert "before every 20th step" in text


def test_nothing_probed_is_answered_with_how_to(tmp_path):
    leave(tmp_path, record("one", every=0), None)
    leave(tmp_path / "other", record("independent"), {})
    (suite,) = suites(find_records(tmp_path))
    assert agreement(suite, tmp_path) == []
    for results in (tmp_path, tmp_path / "other"):
        with pytest.raises(UserError, match=r"--set evaluation\.agreement_every="):
            shown(results)


def test_records_from_when_it_had_another_name_are_read_as_today(tmp_path):
    new, old = tmp_path / "new", tmp_path / "old"
    leave(new, record("one"), constant(0.1, -0.1, 0.1))
    before = record("one")
    before.setup["benchmark"]["data"]["reader"] = "celeba"  # whole settings, as old records have
    settings = before.setup["benchmark"]["evaluation"]
    settings["conflict_every"] = settings.pop("agreement_every")
    folder = leave(old, before, constant(0.1, -0.1, 0.1))
    (folder / "agreement.csv").rename(folder / "conflict.csv")
    assert summarised(old) == summarised(new)
    assert summarised(new)["one"].probes == 5


def test_records_from_before_there_were_probes_are_passed_over(tmp_path):
    old = record("one", every=0)
    del old.setup["benchmark"]["evaluation"]["agreement_every"]
    leave(tmp_path, old, None)
    (suite,) = suites(find_records(tmp_path))
    assert agreement(suite, tmp_path) == []


def test_records_are_read_where_they_were_copied_to(tmp_path):
    leave(tmp_path / "here", record("modulation[after=3:4]+pcgrad"), constant(0.1, -0.2, 0.3))
    before = shown(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert shown(tmp_path / "there") == before


@pytest.mark.parametrize("damage", ["truncated", "doubled", "garbage", "words"])
def test_a_damaged_file_of_probes_is_named_and_left_out_rather_than_counted(tmp_path, damage):
    path = leave(tmp_path, record("one"), constant(0.1, 0.1, 0.1)) / "agreement.csv"
    lines = path.read_text().splitlines(keepends=True)
    broken = {
        "truncated": lines[:-2],
        "doubled": [*lines[:-1], lines[1]],
        "garbage": ["\0\1\2"],
        "words": [*lines[:-1], "80,all,heel_height,NA,plenty\n"],
    }
    path.write_text("".join(broken[damage]))
    leave(tmp_path, record("other"), constant(0.1, 0.1, 0.1))
    with pytest.warns(LeftOut, match=r"left out: .*one/seed-0/agreement\.csv .*run that method again"):
        said = shown(tmp_path)
    assert "one: has no agreement.csv beside its run.json that can be read" in said
    assert any(line.split()[:1] == ["other"] for line in said.splitlines())


def test_two_versions_of_a_methods_source_are_rows_of_their_own(tmp_path):
    for seed, (source, cosine) in enumerate((("aaaaaaaa", 0.1), ("bbbbbbbb", -0.1))):
        made = record("one", seed)
        made.setup["code"] = {"training": 1, "architecture": source}
        leave(tmp_path, made, constant(cosine, cosine, cosine))
    rows = summarised(tmp_path)
    assert {name: row.whole.ratio.mean for name, row in rows.items()} == {
        "one (source aaaaaaa)": 1.0,
        "one (source bbbbbbb)": 0.0,
    }


def test_layers_are_shown_where_they_were_probed(tmp_path):
    layers = {"trunk.0.0": constant(0.5, 0.5, 0.5), "trunk.1.0": constant(-0.5, -0.5, 0.5)}
    leave(tmp_path, record("one"), constant(0.1, 0.1, 0.1), layers)
    row = summarised(tmp_path)["one"]
    assert row.whole.ratio.mean == 1
    assert {name: m.ratio.mean for name, m in row.layers.items()} == pytest.approx({"trunk.0.0": 1, "trunk.1.0": 1 / 3})
    text = shown(tmp_path)
    assert "By layer" in text
    assert "33.3" in text.split("By layer")[1]
    leave(tmp_path / "plain", record("one"), constant(0.1, 0.1, 0.1))
    assert "By layer" not in shown(tmp_path / "plain")


def test_of_many_tasks_the_pairs_that_agree_least_are_shown_and_csv_has_all(tmp_path):
    tasks = tuple(f"t{n}" for n in range(9))
    cosines = [0.5] * 36
    cosines[17] = -0.5
    leave(tmp_path, record("one", tasks=tasks), constant(*cosines))
    text = shown(tmp_path, "md")
    assert "the 10 pairs of 36 that agree least" in text
    a, b = pairs(tasks)[17]
    by_pair = text.split("By pair")[1]
    assert by_pair.count(" · ") == 10
    assert by_pair.index(f"{a} · {b}") < by_pair.index("t0 · t1")
    frame = pd.read_csv(io.StringIO(shown(tmp_path, "csv")))
    assert frame["task_a"].notna().sum() == 2 * 36


def test_two_tasks_need_no_table_by_pair(tmp_path):
    leave(tmp_path, record("one", tasks=TASKS[:2]), constant(0.1))
    assert "By pair" not in shown(tmp_path)


def test_csv_holds_a_row_per_run_layer_pair_and_part_unrounded(tmp_path):
    leave(tmp_path, record("one", 1), constant(0.123456, -0.5, None), {"trunk": constant(0.5, 0.5, 0.5)})
    (suite,) = suites(find_records(tmp_path))
    frame = as_frame([suite], tmp_path)
    assert len(frame) == 2 * 2 * 4
    one = frame[(frame["part"] == "last third") & (frame["layer"] == "all")].set_index(["task_a", "task_b"])
    assert one.loc[("", ""), "mean_cosine"] == pytest.approx((0.123456 - 0.5) / 2)
    assert one.loc[("", ""), "update_compliance_ratio"] == 0.5
    assert one.loc[AB, "mean_cosine"] == pytest.approx(0.123456, rel=1e-9)
    assert (one.loc[AB, "update_compliance_ratio"], one.loc[AC, "update_compliance_ratio"]) == (1, 0)
    assert (one.loc[BC, "cosines"], one.loc[BC, "without_cosine"]) == (0, 2)
    assert pd.isna(one.loc[BC, "update_compliance_ratio"])
    written = pd.read_csv(io.StringIO(shown(tmp_path, "csv")), keep_default_na=False)
    assert list(written.columns) == list(frame.columns) == [field.name for field in schema()]
    assert set(written["schema"]) == {SCHEMA}
    assert set(written["seed"]) == {1}


def test_a_narrow_terminal_gets_the_table_in_pieces_nothing_cut(tmp_path):
    names = ("modulation[after=3:4]", "modulation[after=all]", "embedding-mask")
    for name in names:
        leave(tmp_path, record(name), constant(0.1, -0.1, 0.1))
    text = shown(tmp_path, width=48)
    assert all(len(line) <= 48 for line in text.splitlines())
    assert "…" not in text
    overall, by_pair = text.split("By pair")
    assert [overall.count(f"\n{name} ") for name in names] == [3, 3, 3]  # pieces
    for name in names:  # in the head of the second table
        assert by_pair.split("update compliance ratio (compliance)")[0].count(name) == 1


def test_markup_aligns_and_escapes(tmp_path):
    leave(tmp_path, record("one"), constant(0.1, -0.1, 0.1))
    (suite,) = suites(find_records(tmp_path))
    found = agreement(suite, tmp_path)
    markdown, latex = (as_markup(suite, found, style) for style in ("md", "latex"))
    assert "| one      |" in markdown
    assert "| heel height · NA" in markdown
    assert r"\toprule" in latex
    assert "heel_height" not in latex

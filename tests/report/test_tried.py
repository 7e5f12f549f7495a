"""What else was tried on a table's data: other methods, tasks, protocols and seeds, and runs whose record is gone."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from page_records import put
from report_records import record, shown, unwrapped
from support import run_command

from mtlbench.report.suites import suites
from mtlbench.report.tried import tried_line
from mtlbench.runs import Record, find_records, read_record, run_folder, write_record
from mtlbench.runs.tried import TRIED, Tried, note_tried, read_tried


def leave(
    results: Path, method: str, seed: int = 0, *, name: str = "made-up", noted: bool = True, **settings: Any
) -> None:
    """Leave a run's record, and the note that it began."""
    made = record(method, seed)
    made.setup = copy.deepcopy(made.setup)
    made.setup["benchmark"]["name"] = name
    made.setup["tasks"] = settings.pop("tasks", made.setup["tasks"])
    made.metrics = {task: {"triplet": 0.8} for task in made.setup["tasks"]}
    for key, value in settings.items():
        made.setup["benchmark"]["train"][key] = value
    write_record(run_folder(results, name, method, seed), made)
    if noted:
        note_tried(results, Tried("made up", made.setup))


def said(results: Path, methods: tuple[str, ...] | None = None) -> str | None:
    """What is said below the table of the benchmark `made-up`."""
    (suite,) = suites(find_records(results, "made-up"))
    line = tried_line(suite, [r for r in suite.records if methods is None or r.method in methods], results)
    return None if line is None else str(line)


def test_a_folder_with_nothing_else_says_so_only_where_runs_are_noted(tmp_path):
    leave(tmp_path, "one", noted=False)
    assert said(tmp_path) is None
    leave(tmp_path, "one")
    assert said(tmp_path) == "tried: nothing else on made up in this results folder."


def test_methods_and_seeds_that_a_table_leaves_out_are_named(tmp_path):
    for method in ("one", "two", "three"):
        leave(tmp_path, method, noted=False)
    text = said(tmp_path, ("one",))
    assert text.endswith("also has 2 runs that the table leaves out; methods not shown: three and two.")
    assert said(tmp_path) is None


def test_tasks_of_the_benchmark_that_were_left_out_are_named_by_its_own_settings(tmp_path):
    """Three attributes were left out of the published faces, and nothing below their table said so."""
    made = record("one")
    made.setup["benchmark"]["data"] |= {"reader": "celeba", "tasks": ["colour", "heel_height", "toe"]}
    write_record(run_folder(tmp_path, "made-up", "one", 0), made)
    assert said(tmp_path) == "tried: of the benchmark's own tasks, not in this table: toe."


def test_subsets_of_tasks_and_other_protocols_count_wherever_they_lie(tmp_path):
    leave(tmp_path, "one")
    leave(tmp_path, "one", name="fewer", tasks=["colour"])
    leave(tmp_path, "one", name="more", tasks=["colour", "heel_height", "toe"])
    leave(tmp_path, "one", name="longer", steps=900)
    leave(tmp_path, "one", name="slower", lr=0.1)
    text = said(tmp_path)
    assert "4 runs that the table leaves out" in text
    assert "2 other sets of tasks, of 1 and 3;" in text
    assert "2 other protocols, which differ in train.steps and train.lr" in text
    many = [f"task_{number}" for number in range(7)]
    leave(tmp_path, "one", name="many", tasks=["colour", "heel_height", *many])
    leave(tmp_path, "one", name="unlike", tasks=many)
    assert "4 other sets of tasks, of 1, 3, 7 and 9;" in said(tmp_path)
    assert "left no record" not in text


def test_what_was_removed_is_still_known_to_have_been_tried(tmp_path):
    leave(tmp_path, "one")
    leave(tmp_path, "two")
    leave(tmp_path, "one", name="fewer", tasks=["colour"])
    leave(tmp_path, "one", seed=1)
    shutil.rmtree(tmp_path / "fewer")
    shutil.rmtree(tmp_path / "made-up" / "two")
    shutil.rmtree(tmp_path / "made-up" / "one" / "seed-1")
    text = said(tmp_path)
    assert "methods not shown: two" in text
    assert "other seeds, recipes or sources of one: 1" in text
    assert "1 other set of tasks, of 1;" in text
    assert text.endswith("3 of all these left no record: removed, replaced or not finished.")


def test_runs_on_other_data_are_no_matter(tmp_path):
    leave(tmp_path, "one")
    note_tried(tmp_path, Tried("something else", record("two").setup))
    other = record("two")
    other.receipt["data"] = other.receipt["data"] | {"name": "something else"}
    write_record(run_folder(tmp_path, "else", "two", 0), other)
    assert said(tmp_path) == "tried: nothing else on made up in this results folder."


def test_a_run_that_was_noted_twice_counts_once_and_damaged_lines_are_left_out(tmp_path):
    leave(tmp_path, "one")
    for _ in range(2):
        note_tried(tmp_path, Tried("made up", record("two").setup))
    with (tmp_path / TRIED).open("a") as file:
        file.write('{"dataset": "made up", "setup": {}}\n[]\n{"dataset": "ma')
    assert len(read_tried(tmp_path)) == 3
    assert "1 run that the table leaves out; methods not shown: two" in said(tmp_path)


def test_the_table_says_it_and_no_longer_that_no_other_protocol_was_tried(tmp_path):
    leave(tmp_path, "one")
    leave(tmp_path, "one", name="fewer", tasks=["colour"])
    records: list[Record] = find_records(tmp_path, "made-up")
    text = unwrapped(shown(records, results=tmp_path))
    assert "tried: on made up, this results folder also has 1 run" in text
    assert "no other protocol tried" not in text


def test_a_damaged_record_elsewhere_costs_no_table(tmp_path):
    leave(tmp_path, "one")
    broken = tmp_path / "else" / "two" / "seed-0"
    broken.mkdir(parents=True)
    (broken / "run.json").write_text("{")
    assert said(tmp_path) == "tried: nothing else on made up in this results folder."


@pytest.mark.parametrize(("numbers", "text"), [([[12], [24]], "24 (two); 12 (one)"), ([[24], [24]], "")])
def test_over_how_many_images_batch_norm_averages_is_said_where_methods_differ(numbers, text):
    """Where every task has images of its own, an independent net's batch norm sees its own task's alone."""
    records = [record("one"), record("two")]
    for made, number in zip(records, numbers, strict=True):
        made.receipt["normalised"] = number
    found = unwrapped(shown(records))
    assert (f"images that batch norm averages over at a time: {text}" in found) == bool(text)
    assert ("images that batch norm" in found) == bool(text)


@pytest.mark.parametrize(
    ("key", "value"),
    [("method", "shared"), ("tasks", 3), ("benchmark", {"name": "x"}), ("benchmark", []), ("seed", "0"), ("seed", [])],
)
def test_a_noted_run_of_wrong_types_costs_no_table(tmp_path, key, value):
    put(tmp_path, "shared")
    put(tmp_path, "single", 1)
    setup = read_record(run_folder(tmp_path, "made-up-quick", "single", 1)).setup
    note_tried(tmp_path, Tried("dots", setup))
    note_tried(tmp_path, Tried("dots", setup | {key: value}))
    assert [tried.setup for tried in read_tried(tmp_path)] == [setup]
    assert run_command("report", "--results", tmp_path).code == 0


def test_a_record_that_does_not_say_its_seed_twice_is_shown(tmp_path):
    put(tmp_path, "shared")
    file = run_folder(tmp_path, "made-up-quick", "shared", 0) / "run.json"
    content = json.loads(file.read_text())
    del content["setup"]["seed"]
    file.write_text(json.dumps(content))
    ended = run_command("report", "--results", tmp_path)
    assert ended.code == 0, ended
    assert "shared" in ended.out

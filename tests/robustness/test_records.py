"""Records that others sent or damaged: named, left out, and all else goes on; no name of theirs leads away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from page_records import put
from report_records import record as made_up
from support import run_command

from mtlbench.errors import LeftOut, UserError
from mtlbench.names import file_name, printable, slug
from mtlbench.report.evidence import read_curve
from mtlbench.runs import find_records, read_record, run_folder, write_record
from mtlbench.runs.partial import begun_with, read_partial
from mtlbench.runs.record import SCHEMA, partial_folder

Content = dict[str, Any]
BENCHMARK = "made-up-quick"


def _set(*path: str, to: Any) -> Callable[[Content], Any]:
    def change(content: Content) -> None:
        *above, last = path
        section = content
        for key in above:
            section = section[key]
        section[last] = to

    return change


def _without(*path: str) -> Callable[[Content], Any]:
    def change(content: Content) -> None:
        *above, last = path
        section = content
        for key in above:
            section = section[key]
        del section[last]

    return change


def deep(levels: int) -> Any:
    made: Any = 1
    for _ in range(levels):
        made = [made]
    return made


WRONG: dict[str, Callable[[Content], Any]] = {
    "a seed as text": _set("seed", to="0"),
    "a seed below 0": _set("seed", to=-1),
    "a huge seed": _set("seed", to=10**30),
    "a list for the setup": _set("setup", to=[]),
    "no setup": _without("setup"),
    "no method": _without("setup", "method"),
    "a number for the method's name": _set("setup", "method", "name", to=3),
    "no benchmark": _without("setup", "benchmark"),
    "no data": _without("setup", "benchmark", "data"),
    "no training": _without("setup", "benchmark", "train"),
    "steps as text": _set("setup", "benchmark", "train", "steps", to="40"),
    "steps as a list": _set("setup", "benchmark", "train", "steps", to=[40]),
    "an image size of text": _set("setup", "benchmark", "data", "image_size", to="48"),
    "no triplets": _without("setup", "benchmark", "evaluation", "triplets"),
    "tasks as text": _set("setup", "tasks", to="colour"),
    "no tasks": _set("setup", "tasks", to=[]),
    "another status": _set("status", to="perhaps"),
    "metrics as a list": _set("metrics", to=[1]),
    "a metric as text": _set("metrics", "colour", "triplet", to="0.9"),
    "a metric of 12": _set("metrics", "colour", "triplet", to=12.0),
    "a metric that is no number": _set("metrics", "colour", "triplet", to=float("nan")),
    "a metric of a missing task": _without("metrics", "colour"),
    "an endless metric": _set("metrics", "colour", "macro/map@r", to=float("inf")),
    "costs of text": _set("costs", "file_bytes", to="many"),
    "endless costs": _set("costs", "file_bytes", to=float("inf")),
    "huge costs": _set("costs", "file_bytes", to=10**400),
    "costs whose square is none": _set("costs", "file_bytes", to=1e308),
    "seconds whose square is none": _set("receipt", "training_seconds", to=1e308),
    "a metric whose square is none": _set("metrics", "colour", "macro/map@r", to=-1e200),
    "a receipt of text": _set("receipt", to="mine"),
    "groups as a number": _set("receipt", "groups", to=4),
    "a date that is none": _set("receipt", "date", to=2026),
    "seconds as text": _set("receipt", "training_seconds", to="long"),
    "data as a list": _set("receipt", "data", to=["dots"]),
    "images as text": _set("receipt", "data", "train_images", to="70"),
    "collapsed as a number": _set("collapsed", to=1),
    "learned that lacks its tensors": _set("learned", to=[{"name": "scales"}]),
    "an unknown key": _set("surprise", to=1),
    "no schema": _without("schema"),
    "deep lists": _set("receipt", "selection", to=deep(60)),
    "a name that leads away": _set("setup", "benchmark", "name", to="../escaped"),
}  # fmt: skip
WRITTEN = {
    "nothing": "",
    "no JSON": "{",
    "a list": "[1, 2]",
    "deep brackets": "[" * 100_000,
    "no UTF-8": b"\xff\xfe{}",
    "digits": '{"schema": ' + "9" * 5000 + "}",
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two runs, of which the first gets damaged, and their reports."""
    for method in ("shared", "single"):
        put(tmp_path / "r", method, tasks=("colour", "heel"))
    return tmp_path / "r"


@pytest.mark.parametrize("damage", WRONG)
def test_a_record_with_wrong_types_is_named_and_left_out(results: Path, damage: str) -> None:
    path = run_folder(results, BENCHMARK, "shared", 0) / "run.json"
    content = json.loads(path.read_text())
    WRONG[damage](content)
    path.write_text(json.dumps(content))
    with pytest.warns(LeftOut, match=r"left out: .*shared/seed-0/run\.json is not a run record \(.+\)"):
        (kept,) = find_records(results)
    assert kept.method == "single"
    with pytest.raises(UserError, match=r"run\.json is not a run record"):
        read_record(path.parent)


@pytest.mark.parametrize("damage", WRITTEN)
def test_a_file_that_is_no_record_is_named_and_left_out(results: Path, damage: str) -> None:
    path = run_folder(results, BENCHMARK, "shared", 0) / "run.json"
    text = WRITTEN[damage]
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.warns(LeftOut, match=r"left out: .*shared/seed-0/run\.json is not a run record"):
        assert [record.method for record in find_records(results)] == ["single"]


def test_a_report_says_what_it_leaves_out_and_goes_on(results: Path) -> None:
    path = run_folder(results, BENCHMARK, "shared", 0) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": "0"}))
    ended = run_command("report", "--results", results)
    assert ended.code == 0, ended
    assert "single" in ended.out
    assert ended.err.startswith(f"warning: left out: {path} is not a run record (seed: ")
    assert ended.err.count("\n") == 1


def test_records_of_a_later_version_with_further_settings_are_read(results: Path) -> None:
    path = run_folder(results, BENCHMARK, "shared", 0) / "run.json"
    content = json.loads(path.read_text())
    content["setup"]["benchmark"]["train"] |= {"warmup": 3, "schedule": "of tomorrow"}
    content["receipt"]["weather"] = "fine"
    path.write_text(json.dumps(content))
    assert len(find_records(results)) == 2


def test_what_others_named_cant_lead_figures_away(results: Path, tmp_path: Path) -> None:
    """The name in the record decides the folder; of a record that never was a benchmark's there is none."""
    shutil.copytree(results / BENCHMARK, results / "other")
    for path in (results / "other").rglob("run.json"):
        content = json.loads(path.read_text())
        content["setup"]["benchmark"]["name"] = "../escaped"
        path.write_text(json.dumps(content))
    ended = run_command("report", "--results", results, "--figures", tmp_path / "figs" / "in")
    assert ended.code == 0, ended
    assert ended.err.count("left out: ") == 2
    assert not list(tmp_path.rglob("*escaped*"))
    assert sorted(p.name for p in (tmp_path / "figs" / "in").iterdir()) == [BENCHMARK]


@pytest.mark.parametrize(
    "name", ["../x", "..", ".", "", "/etc/passwd", "a\0b", "NUL", "con.png", "x" * 400, "高さ" * 200, "\ud800", ".git"]
)
def test_any_name_is_one_part_of_a_path(tmp_path: Path, name: str) -> None:
    for made in (file_name(name), slug(name), file_name(name, r"\w.+=,@\[\]-"), file_name(name, r"\w.-")):
        (tmp_path / made).mkdir(exist_ok=True)  # nothing refuses it
        assert (tmp_path / made).resolve().parent == tmp_path.resolve()
        assert not made.startswith(".")
        assert made.lower().partition(".")[0] not in ("nul", "con")
    folder = run_folder(tmp_path, name, name, 0)
    assert folder.resolve().parents[2] == tmp_path.resolve()


def test_long_names_that_begin_alike_stay_apart() -> None:
    assert slug("x" * 300 + "a") != slug("x" * 300 + "b")


def test_control_characters_of_a_record_reach_no_terminal(results: Path) -> None:
    made = made_up("one", status="failed", reason="\x1b[2Jgone\x07 \u202etxt", metrics={})
    write_record(results / "made-up" / "one" / "seed-0", made)
    read = read_record(results / "made-up" / "one" / "seed-0")
    assert read is not None
    assert read.reason == "�[2Jgone� �txt"
    assert printable("tab\tand\nline") == "tab\tand\nline"


@pytest.mark.parametrize(
    "text",
    ["step,accuracy,seconds\n20,much,1\n", "step\n1,2,3\n", "\0\1", "step,accuracy\n1,1e300\n", "step,accuracy\n,1\n"],
)
def test_text_in_a_curve_is_named_and_left_out(results: Path, text: str) -> None:
    folder = run_folder(results, BENCHMARK, "shared", 0)
    (folder / "curve.csv").write_text(text)
    with pytest.warns(LeftOut, match=r"left out: .*shared/seed-0/curve\.csv is no table of numbers"):
        assert read_curve(folder, needed=("step", "accuracy")) is None


def test_a_page_is_made_without_a_curve_of_text(results: Path, tmp_path: Path) -> None:
    (run_folder(results, BENCHMARK, "shared", 0) / "curve.csv").write_text("step,accuracy,seconds\n20,much,1\n")
    for words in (["--html", tmp_path / "page"], ["--at-seconds", "15"]):
        ended = run_command("report", BENCHMARK, "--results", results, *words)
        assert ended.code == 0, ended
        assert ended.err.count("curve.csv is no table of numbers") == 1, ended
    assert "shared" in (tmp_path / "page" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("facts", [[], {"schema": SCHEMA}, "deep", {"threads": "two"}, {"threads": 10**9}])
def test_a_damaged_save_of_a_run_under_way_is_none(tmp_path: Path, facts: Any) -> None:
    folder = tmp_path / "seed-0"
    partial_folder(folder).mkdir()
    text = "[" * 100_000 if facts == "deep" else json.dumps(facts)
    (partial_folder(folder) / "state.json").write_text(text)
    assert read_partial(folder, {}, "cpu") is None
    assert begun_with(folder) == 0


@pytest.mark.parametrize("wrong", [{"step": "3"}, {"step": -3}, {"curve": 4}, {"accuracy": {"a": "b"}}])
def test_a_save_with_wrong_types_is_none(tmp_path: Path, wrong: Content) -> None:
    folder, setup = tmp_path / "seed-0", made_up("one").setup
    partial_folder(folder).mkdir()
    (partial_folder(folder) / "state-3.safetensors").touch()
    facts = {"schema": SCHEMA, "setup": setup, "device": "cpu", "tensors": "state-3.safetensors", "state": {"step": 3}}
    (partial_folder(folder) / "state.json").write_text(json.dumps(facts))
    assert read_partial(folder, setup, "cpu") is not None
    for bad in (facts | {"state": {"step": 3} | wrong}, facts | {"tensors": "../seed-1/weights.safetensors"}):
        (partial_folder(folder) / "state.json").write_text(json.dumps(bad))
        assert read_partial(folder, setup, "cpu") is None


@pytest.mark.parametrize("key", ["title", "train.sampling", "train.optimiser", "train.lr", "train.schedule"])
def test_another_versions_record_that_lacks_what_tables_say_is_left_out_by_name(tmp_path: Path, key: str) -> None:
    """A default of this version's would be a guess there; without one the report ended in a traceback."""
    put(tmp_path, "shared")
    put(tmp_path, "single")
    file = run_folder(tmp_path, BENCHMARK, "single", 0) / "run.json"
    content = json.loads(file.read_text())
    _set("setup", "benchmark", "train", "of_tomorrow", to=1)(content)
    file.write_text(json.dumps(content))
    assert read_record(file.parent) is not None, "a setting of another version is no fault"
    _without("setup", "benchmark", *key.split("."))(content)
    file.write_text(json.dumps(content))
    ended = run_command("report", "--results", tmp_path)
    assert ended.code == 0
    assert f"setup.benchmark.{key}: Field required" in " ".join((ended.out + ended.err).split())
    assert "shared" in ended.out


@pytest.mark.parametrize("value", ["of-tomorrow", None])
def test_another_versions_choice_of_a_setting_is_shown_as_it_stands(tmp_path: Path, value: str | None) -> None:
    put(tmp_path, "shared")
    file = run_folder(tmp_path, BENCHMARK, "shared", 0) / "run.json"
    content = json.loads(file.read_text())
    _set("setup", "benchmark", "data", "multi_valued", to=value)(content)
    file.write_text(json.dumps(content))
    ended = run_command("report", "--results", tmp_path, "--notes")
    assert ended.code == 0, ended
    assert f"cells with several values by the rule {value}" in " ".join(ended.out.split())


def test_a_record_with_nothing_for_its_data_is_left_out_by_name(tmp_path: Path) -> None:
    put(tmp_path, "shared")
    put(tmp_path, "single")
    file = run_folder(tmp_path, BENCHMARK, "single", 0) / "run.json"
    content = json.loads(file.read_text())
    _set("receipt", "data", to=None)(content)
    file.write_text(json.dumps(content))
    ended = run_command("report", "--results", tmp_path)
    assert ended.code == 0, ended
    assert "receipt.data" in ended.out + ended.err

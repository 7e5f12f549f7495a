"""The paper's tables: which cells are filled, from what, and that nothing fills them that should not."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mtlbench import paper
from mtlbench.benchmark import load_benchmark
from mtlbench.cli import app
from mtlbench.errors import UserError
from mtlbench.paper import PaperTable, Reported, fill, load_table, paper_tables, run_name, run_settings
from mtlbench.paper import schema as paper_schema
from mtlbench.plugins import load_plugins
from mtlbench.rendered.face.attributes import ATTRIBUTES
from mtlbench.report.frames import SCHEMA
from mtlbench.runs import Record, find_records, run_folder, write_record
from mtlbench.specs import parse_method

TABLE = PaperTable(
    title="Made up", kind="error", benchmark="zappos", tasks=["category", "closure"],
    methods=["single", "csn[masks=fixed]", "modulation"],
    reported={"source": "Somebody, table 1", "values": {"single": 23.72, "csn[masks=fixed]": 10.79}},
)  # fmt: skip


@pytest.fixture(autouse=True)
def _methods() -> None:
    assert load_plugins() == []


def leave(
    results: Path, method: str, seed: int, hits: tuple[float, float], quick: bool = False, **changes: Any
) -> Path:
    """Write a record of one run; return its folder."""
    name = run_name("made-up", TABLE, quick)
    settings = [f"name={name}", "evaluation.agreement_every=200", *changes.pop("settings", [])]
    benchmark = load_benchmark("zappos", quick=quick, settings=settings)
    setup = {
        "method": {"name": method}, "tasks": ["category", "closure"], "benchmark": benchmark.model_dump(mode="json"),
        "data": "abc", "precision": "bf16", "seed": seed,
    }  # fmt: skip
    record = Record(method, seed, "method", setup)
    record.metrics = {task: {"triplet": hit} for task, hit in zip(("category", "closure"), hits, strict=True)}
    record.receipt = {
        "data": {
            "name": "UT-Zappos50K", "rendered": False, "images": 10, "train_images": 7, "val_images": 1,
            "test_images": 2, "split": "at random", "fingerprint": "abc",
        },
        "steps": 400, "device": "a processor", "precision": "bf16", "mtlbench": "0.1.0", "commit": "c0ffee",
        "date": "2026-01-02T03:04:05",
    }  # fmt: skip
    for key, value in changes.items():
        setattr(record, key, value)
    folder = run_folder(results, name, method, seed)
    write_record(folder, record)
    return folder


def cells(results: Path, table: PaperTable = TABLE, quick: bool = False) -> dict[str, tuple[str, ...]]:
    return {name: tuple(rest) for name, *rest in fill("made-up", table, results, quick).grid.body}


def test_every_table_can_be_read_and_its_methods_and_tasks_exist():
    assert set(paper_tables()) == {"agreement", "celeba-7", "celeba-20", "celeba-40", "storage", "zappos"}
    for name in paper_tables():
        table = load_table(name)
        assert [parse_method(method).architecture for method in table.methods]
        known = ATTRIBUTES if table.benchmark == "celeba" else load_benchmark("zappos").data.tasks
        assert set(table.tasks) <= set(known)
        assert len(set(table.tasks)) == len(table.tasks)
        for quick in (False, True):
            benchmark = load_benchmark(table.benchmark, quick=quick, settings=run_settings(name, table, quick))
            assert benchmark.name == run_name(name, table, quick)
    assert [len(load_table(f"celeba-{n}").tasks) for n in (7, 20, 40)] == [7, 20, 40]
    assert load_table("celeba-20").tasks[:7] == load_table("celeba-7").tasks
    assert load_table("celeba-40").tasks == list(ATTRIBUTES)


def test_without_records_only_what_was_reported_is_there(tmp_path):
    assert cells(tmp_path) == {
        "single": ("", "23.72", "", ""),
        "csn[masks=fixed]": ("", "10.79", "", ""),
        "modulation": ("", "", "", ""),
    }
    notes = fill("made-up", TABLE, tmp_path, quick=False).notes
    assert any("mtlbench paper made-up --run --data-dir DIR trains" in note for note in notes)
    assert any("Somebody, table 1" in note for note in notes)


def test_a_cell_is_the_mean_over_tasks_and_seeds_with_its_difference(tmp_path):
    for seed, hits in enumerate([(0.80, 0.70), (0.84, 0.70)]):
        leave(tmp_path, "single", seed, hits)
    leave(tmp_path, "csn[masks=fixed]", 0, (0.9, 0.9))
    assert cells(tmp_path)["single"] == ("24.00 ±1.41", "23.72", "+0.28", "2")
    assert cells(tmp_path)["csn[masks=fixed]"] == ("10.00", "10.79", "-0.79", "1")
    assert any("7 / 1 / 2 train" in note for note in fill("made-up", TABLE, tmp_path, quick=False).notes)


def test_rendered_images_never_fill_a_cell_of_a_real_data_set(tmp_path):
    folder = leave(tmp_path, "single", 0, (0.9, 0.9))
    receipt = {"data": {"name": "rendered shoes", "rendered": True, "fingerprint": "abc"}}
    leave(tmp_path, "single", 0, (0.9, 0.9), receipt=receipt)
    assert folder.exists()
    assert cells(tmp_path)["single"] == ("", "23.72", "", "")
    notes = fill("made-up", TABLE, tmp_path, quick=False).notes
    assert any("Left out: 1 run on rendered images. Rendered images say nothing about" in note for note in notes)


def test_failed_and_collapsed_runs_are_named(tmp_path):
    leave(tmp_path, "single", 0, (0.9, 0.9), status="failed", reason="no memory", metrics={})
    leave(tmp_path, "modulation", 0, (0.5, 0.5), collapsed=["closure"])
    filled = fill("made-up", TABLE, tmp_path, quick=False)
    assert cells(tmp_path)["single"][0] == ""
    assert any("single: FAILED: no memory" in note for note in filled.notes)
    assert any("modulation: COLLAPSED (closure)" in note for note in filled.notes)


def test_runs_on_different_data_are_not_put_into_one_table(tmp_path):
    leave(tmp_path, "single", 0, (0.9, 0.9))
    folder = leave(tmp_path, "modulation", 0, (0.9, 0.9))
    text = (folder / "run.json").read_text()
    (folder / "run.json").write_text(text.replace('"data": "abc"', '"data": "other"'))
    with pytest.raises(UserError, match=r"can't share a table .data: other above, abc here"):
        fill("made-up", TABLE, tmp_path, quick=False)


@pytest.mark.parametrize("quick", [False, True])
def test_what_was_measured_on_other_tasks_fills_no_cell_and_every_reason_is_said(tmp_path, quick):
    leave(tmp_path, "single", 0, (0.8, 0.7), quick=quick)
    wider = TABLE.model_copy(update={"tasks": ["category", "closure", "heel"]})
    assert cells(tmp_path, wider, quick=quick)["single"] == ("", "23.72", "", "")
    notes = fill("made-up", wider, tmp_path, quick=quick).notes
    assert any("category, closure instead of category, closure, heel; so no cell is filled" in note for note in notes)
    assert any("quick protocol" in note and "no difference is given" in note for note in notes) is quick


def test_figures_reported_under_other_settings_get_no_difference_and_it_is_said_which(tmp_path):
    theirs = TABLE.model_copy(
        update={"reported": Reported(**TABLE.reported.model_dump() | {"under": {"model.pretrained": True}})}
    )
    leave(tmp_path, "single", 0, (0.8, 0.7))
    assert cells(tmp_path, theirs)["single"] == ("25.00", "23.72", "", "1")
    notes = fill("made-up", theirs, tmp_path, quick=False).notes
    assert any("under other settings: model.pretrained = True there, False here." in note for note in notes)
    leave(tmp_path / "same", "single", 0, (0.8, 0.7), settings=["model.pretrained=true"])
    assert cells(tmp_path / "same", theirs)["single"] == ("25.00", "23.72", "+1.28", "1")
    same = fill("made-up", theirs, tmp_path / "same", quick=False).notes
    assert not any("no difference" in note for note in same)
    assert any("resnet18-csn backbone, pretrained, 64-d" in note for note in same)
    leave(tmp_path / "shorter", "single", 0, (0.8, 0.7), settings=["train.steps=4"])
    assert cells(tmp_path / "shorter")["single"][2] == ""


def test_figures_measured_on_the_reported_split_are_not_said_to_be_on_another(tmp_path):
    under = Reported(**TABLE.reported.model_dump() | {"under": {"data.split": "csn"}})
    theirs = TABLE.model_copy(update={"reported": under})
    leave(tmp_path / "ours", "single", 0, (0.8, 0.7))
    leave(tmp_path / "theirs", "single", 0, (0.8, 0.7), settings=["data.split=csn"])
    said = {f: " ".join(fill("made-up", theirs, tmp_path / f, quick=False).notes) for f in ("ours", "theirs")}
    assert "data.split = csn there, default here" in said["ours"]
    assert "on its own split and triplets" in said["ours"]
    assert "on its own split and triplets" not in said["theirs"]
    assert [cells(tmp_path / f, theirs)["single"][2] for f in ("ours", "theirs")] == ["", "+1.28"]
    assert "table 1." in said["theirs"]


def test_conditional_similarity_networks_start_from_imagenet_on_a_split_of_their_own():
    assert load_table("zappos").reported.under == {"model.pretrained": True, "data.split": "csn"}


def test_the_quick_protocol_gets_no_difference_to_what_was_reported(tmp_path):
    leave(tmp_path, "single", 0, (0.8, 0.7), quick=True)
    assert cells(tmp_path, quick=True)["single"] == ("25.00", "23.72", "", "1")
    assert any("no difference is given" in note for note in fill("made-up", TABLE, tmp_path, quick=True).notes)


def test_agreement_is_the_share_of_probes_with_a_positive_inner_product_over_pairs(tmp_path):
    table = TABLE.model_copy(update={"kind": "agreement", "reported": None})
    folder = leave(tmp_path, "single", 0, (0.9, 0.9), settings=["train.steps=400"])
    rows = [(0, "all", "0.5"), (200, "all", "-0.5"), (0, "stage", "0.9"), (200, "stage", "0.2")]
    with (folder / "agreement.csv").open("w", newline="") as file:
        lines = [(step, layer, "category", "closure", cosine) for step, layer, cosine in rows]
        csv.writer(file).writerows([("step", "layer", "task_a", "task_b", "cosine"), *lines])
    assert cells(tmp_path, table)["single"] == ("50.00", "", "", "1")
    assert any("this one is ours" in note for note in fill("made-up", table, tmp_path, quick=False).notes)


def test_storage_is_counted_for_every_number_of_tasks():
    filled = fill("storage", load_table("storage"), Path("nowhere"), quick=False)
    rows = {row[0]: row[1:] for row in filled.grid.body}
    independent, modulation, single = (float(rows[m][0] or 0) for m in ("independent", "modulation", "single"))
    assert single * 1e6 >= 4 * 2_953_664  # the paper's network; its batch norms' statistics come on top
    assert float(rows["independent"][-3] or 0) == pytest.approx(40 * independent, rel=1e-3)
    # 512 scales of four bytes a task
    assert rows["modulation"][-2] == "2.05"
    assert modulation == pytest.approx(single, abs=0.01)
    assert rows["embedding-mask"][-2] == "1.02"
    assert rows["single"][-2] == "0.00"


def _made_up(monkeypatch: pytest.MonkeyPatch, *methods: str) -> None:
    """Make every table one of these methods, trained for four steps."""
    short = TABLE.model_copy(update={"methods": list(methods), "reported": None, "kind": "accuracy"})
    monkeypatch.setattr(paper, "load_table", lambda name: short)
    tiny = ["train.steps=4", "evaluation.every=2", "evaluation.triplets=50", "model.embedding=8", "data.image_size=24"]
    monkeypatch.setattr(paper, "run_settings", lambda *a: [*run_settings(*a), *tiny, "train.precision=fp32"])


@pytest.mark.slow
def test_slurm_trains_what_is_missing(zappos_folder, tmp_path, monkeypatch):
    _made_up(monkeypatch, "single")
    words = ["paper", "made-up", "--quick", "--results", str(tmp_path / "r"), "--run", "--data-dir", str(zappos_folder)]
    done = CliRunner().invoke(app, [*words, "--on", "slurm[cluster=local]"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "[1/1] single, seed 0: triplet accuracy" in done.output
    (record,) = (record for record in find_records(tmp_path / "r") if record.kind == "method")
    assert record.status == "done"
    assert record.costs


def test_the_command_trains_what_is_missing_and_shows_the_table(zappos_folder, tmp_path, monkeypatch):
    _made_up(monkeypatch, "single", "modulation[after=5]")
    words = ["paper", "made-up", "--quick", "--results", str(tmp_path / "r")]
    run = ["--run", "--data-dir", str(zappos_folder)]
    done = CliRunner().invoke(app, [*words, *run], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(app, [*words, *run], catch_exceptions=False)
    assert again.output.count("done already") == 2
    shown = CliRunner().invoke(app, [*words, "--format", "csv"], catch_exceptions=False)
    rows = {row["method"]: row for row in csv.DictReader(shown.output.splitlines())}
    assert 0 < float(rows["modulation[after=5]"]["measured"]) <= 1
    assert [rows["single"][name] for name in ("reported", "difference", "n", "seeds")] == ["", "", "1", "0"]
    assert [rows["single"][name] for name in ("schema", "table", "quick")] == [str(SCHEMA), "made-up", "1"]
    assert set(rows["single"]) <= {field.name for field in paper_schema()}
    written = CliRunner().invoke(app, [*words, "--format", "md"], catch_exceptions=False).output
    assert f"| single                |      {100 * float(rows['single']['measured']):.2f} |" in written
    with pytest.raises(UserError, match="come as --format table"):
        CliRunner().invoke(app, [*words, "--format", "runs"], catch_exceptions=False)


def test_other_settings_are_for_training_alone():
    with pytest.raises(UserError, match="--set changes what is trained"):
        CliRunner().invoke(app, ["paper", "zappos", "--set", "model.pretrained=true"], catch_exceptions=False)


def test_an_unknown_table_and_a_run_of_what_is_counted_are_refused():
    with pytest.raises(UserError, match=r"no table 'celeba7'.*celeba-7"):
        load_table("celeba7")
    with pytest.raises(UserError, match="counted, not trained"):
        CliRunner().invoke(app, ["paper", "storage", "--run"], catch_exceptions=False)
    with pytest.raises(ValueError, match="not in methods"):
        PaperTable(**{**TABLE.model_dump(), "methods": ["single"]})

"""Sizes of exported files in records and tables, and what is said of a file that orders fewer triplets rightly."""

from __future__ import annotations

import errno
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from report_records import record, shown, unwrapped
from safetensors.torch import load_file, save_file
from support import change_weights, leave_runs, run_command

from mtlbench.evaluation.triplets import triplet_hits
from mtlbench.export import stored
from mtlbench.export.check import Check, _accuracies
from mtlbench.jobs import execute
from mtlbench.networks import build, deployed_state
from mtlbench.report.clustering import SharedImages
from mtlbench.report.columns import cost_columns
from mtlbench.report.frames import as_frame
from mtlbench.report.rows import rows
from mtlbench.report.suites import suites
from mtlbench.report.summary import Choice, summarise
from mtlbench.runs import read_record, update_record
from mtlbench.runs.lock import working_on
from mtlbench.runs.setup import method_of
from mtlbench.runs.sizes import SIZES, STORED, keep_sizes
from mtlbench.search import load_run

SHORT = ("data.image_size=[24, 32]", "model.embedding=8", "evaluation.triplets=40", "data.tasks=['category','closure']")


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory, write_zappos: Callable[..., Path]) -> tuple[Path, Path]:
    """A results folder with a run of modulation, and the folder of its images."""
    root = tmp_path_factory.mktemp("sizes")
    folder = write_zappos(root / "zappos", images=150)
    (run,), _ = leave_runs(root / "results", "zappos", folder, SHORT, "modulation")
    kept = read_record(run)
    assert kept is not None
    kept.costs = {"parameters": 5.0, "file_bytes": 7e6}
    update_record(run, kept)
    return root / "results", folder


@pytest.fixture
def run(left: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run's folder, in a results folder of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(left[0], tmp_path / "results")
    return next((tmp_path / "results").glob("*/*/seed-0"))


@pytest.fixture
def export(left: tuple[Path, Path], run: Path) -> Callable[..., str]:
    """Export the run, to be read from."""

    def exported(output: str, *words: str) -> str:
        ended = run_command("export", run, "--data-dir", left[1], "--output", output, *words)
        assert ended.code == 0, ended
        return f"{' '.join((ended.out + ended.err).split())} "

    return exported


HALF = ("--format", "safetensors", "--precision", "fp16")


def test_the_size_of_an_exported_file_joins_record_and_table(run: Path, export: Callable[..., str]) -> None:
    def table() -> str:
        return run_command("report", "zappos-quick", "--results", "results", "--notes").out

    assert "fp16" not in table().split("Cost")[1].split("parameters")[0]
    assert "fp16 weights" not in " ".join(table().split())
    said = export("net.safetensors", *HALF)
    found = read_record(run)
    assert found is not None
    assert found.costs.keys() - {"parameters", "file_bytes"} == {
        "safetensors_fp16_bytes", "safetensors_fp16_bytes_added",
    }  # fmt: skip
    assert found.costs["file_bytes"] == 7e6
    assert found.costs["safetensors_fp16_bytes"] == Path("net.safetensors").stat().st_size
    added = found.costs["safetensors_fp16_bytes_added"]
    assert added == pytest.approx(_added_by_hand(run), abs=8)  # the header is filled up to 8 bytes
    assert f"one more task adds {added:,} bytes to such a file." in said
    assert f"; one more task adds {added:,}." in Path("net.safetensors.md").read_text()
    shown = run_command("report", "zappos-quick", "--results", "results", "--notes").out
    assert "fp16 weights" in " ".join(shown.split())
    csv = pd.read_csv(io.StringIO(run_command("report", "zappos-quick", "--results", "results", "--format", "csv").out))
    assert csv["cost/safetensors_fp16_bytes"][0] == Path("net.safetensors").stat().st_size
    assert csv["cost/onnx_int8_bytes"].isna().all()


def _added_by_hand(run: Path) -> int:
    """The difference of two files of half-precision tensors: of the network for two tasks and for three."""
    loaded = load_run(run, torch.device("cpu"))
    sizes = []
    for tasks in (("category", "closure"), ("category", "closure", "third")):
        network, _ = build(method_of(loaded.record), loaded.benchmark, tasks, 0)
        save_file({name: t.detach().half().contiguous() for name, t in deployed_state(network).items()}, "by-hand")
        sizes.append(Path("by-hand").stat().st_size)
    numbers = sum(p.numel() for p in network.parameters())
    fewer = sum(p.numel() for p in load_run(run, torch.device("cpu")).architecture.parameters())
    assert sizes[1] - sizes[0] >= 2 * (numbers - fewer) > 0
    return sizes[1] - sizes[0]


def test_a_file_of_one_task_or_in_fp32_leaves_the_record_as_it_was(run: Path, export: Callable[..., str]) -> None:
    export("all.safetensors", *HALF)
    before = (run / "run.json").read_bytes()
    assert "one more task adds" not in export("one.safetensors", *HALF, "--task", "closure")
    export("whole.safetensors", "--format", "safetensors")
    assert (run / "run.json").read_bytes() == before
    assert Path("one.safetensors").stat().st_size < Path("all.safetensors").stat().st_size


def test_files_of_other_kinds_stand_beside_and_the_same_kind_takes_its_old_sizes_place(run: Path) -> None:
    assert keep_sizes(run, {"onnx_int8_bytes": 9, "onnx_int8_bytes_added": 4}) == ""
    assert keep_sizes(run, {"torch_fp16_bytes": 8, "torch_fp16_bytes_added": 3}) == ""
    assert keep_sizes(run, {"onnx_int8_bytes": 7}) == ""  # what one more task adds is not known of this one
    found = read_record(run)
    assert found is not None
    assert {name: cost for name, cost in found.costs.items() if name in SIZES} == {
        "onnx_int8_bytes": 7, "torch_fp16_bytes": 8, "torch_fp16_bytes_added": 3,
    }  # fmt: skip
    assert found.metrics


def test_a_record_that_cant_be_written_to_stays_as_it_was(
    run: Path, export: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, beside = (run / "run.json").read_bytes(), sorted(run.parent.iterdir())

    def fails(folder: Path, kept: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr("mtlbench.runs.sizes.update_record", fails)
        assert keep_sizes(run, {"onnx_int8_bytes": 9}) == f"{run} can't be written to (Read-only file system)."
    with working_on(run):
        assert "works on" in keep_sizes(run, {"onnx_int8_bytes": 9})
    monkeypatch.setattr("mtlbench.runs.sizes._writable", lambda folder: False)
    (run.parent / ".seed-0.lock").unlink(missing_ok=True)
    assert f"tables will not show the size, which the run's record did not get: {run} can't be written to." in export(
        "net.safetensors", *HALF
    )
    assert (run / "run.json").read_bytes() == before
    assert sorted(run.parent.iterdir()) == beside  # not even a lock


def test_what_one_task_adds_is_left_out_where_the_made_up_file_is_not_as_large(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_run(run, torch.device("cpu"))
    monkeypatch.setattr(stored, "_size_of", lambda made, *words: 1000 * len(made.tasks))
    sizes = stored.stored_sizes(loaded, "onnx", None, "int8", {}, 2010)
    assert sizes == {"onnx_int8_bytes": 2010, "onnx_int8_bytes_added": 1000}
    assert stored.stored_sizes(loaded, "onnx", None, "int8", {}, 2900) == {"onnx_int8_bytes": 2900}
    assert stored.stored_sizes(loaded, "onnx", 0, "int8", {}, 2010) == {}
    assert stored.stored_sizes(loaded, "onnx", None, "fp32", {}, 2010) == {}


def test_one_exported_seed_is_enough_and_without_any_there_is_no_column(tmp_path: Path) -> None:
    plain = [record("one", seed) for seed in (0, 1)]
    assert "int8" not in unwrapped(shown(plain))
    exported = [replace(plain[0], costs=plain[0].costs | {"onnx_int8_bytes": 600_000, "onnx_int8_bytes_added": 1_300})]
    text = unwrapped(shown([*exported, plain[1], record("other")]))
    assert "int8 file MB" in text
    assert "0.60" in text
    [suite] = suites([*exported, plain[1]])
    [row] = rows(suite)
    assert (row.costs["onnx_int8_bytes"].mean, row.costs["onnx_int8_bytes_added"].mean) == (600_000, 1_300)
    frame = as_frame(summarise([*exported, plain[1]], Choice(), None))
    assert frame["cost/onnx_int8_bytes_added"][0] == 1_300
    assert frame["cost/torch_fp16_bytes"].isna().all()
    half_measured = [replace(plain[0], costs=plain[0].costs | {"training_memory": 1.0}), replace(plain[1], costs={})]
    assert rows(suites(half_measured)[0])[0].costs["training_memory"].mean == 1.0  # of the seed that has it


def test_columns_say_how_each_size_was_measured() -> None:
    meanings = {column.key: column.meaning for column in cost_columns()}
    for kind in STORED:
        assert kind.words in meanings[kind.size]
        assert "the difference of two files" in meanings[kind.added]


def test_costs_that_are_measured_later_keep_the_sizes(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_record(run)
    assert found is not None
    found.receipt["costs_due"] = True
    update_record(run, found)
    assert keep_sizes(run, {"onnx_int8_bytes": 9}) == ""
    monkeypatch.setattr(execute, "_measure", lambda record, *words: setattr(record, "costs", {"parameters": 6.0}))
    job = SimpleNamespace(folder=run)
    execute.add_costs(job, None, None, "fp32", None)  # type: ignore[arg-type]
    again = read_record(run)
    assert again is not None
    assert again.costs == {"parameters": 6.0, "onnx_int8_bytes": 9}


@pytest.mark.slow
def test_an_int8_file_and_what_one_more_task_adds_to_it(run: Path, export: Callable[..., str]) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    _stir(run)
    export("net.onnx", "--precision", "int8")
    found = read_record(run)
    assert found is not None
    assert found.costs["onnx_int8_bytes"] == Path("net.onnx").stat().st_size
    numbers = sum(
        p.numel()
        for p in build(method_of(found), load_run(run, torch.device("cpu")).benchmark, ("a", "b", "c"), 0)[
            0
        ].parameters()
    )
    fewer = sum(p.numel() for p in load_run(run, torch.device("cpu")).architecture.parameters())
    # a task's scales stay in float32; the rest are nodes and names
    assert 4 * (numbers - fewer) <= found.costs["onnx_int8_bytes_added"] <= 4 * (numbers - fewer) + 1000


def _stir(run: Path) -> None:
    """Give a run weights of which no two are alike, as training does; its answers are then another network's."""
    weights = load_file(run / "weights.safetensors")
    generator = torch.Generator().manual_seed(5)
    change_weights(run, {n: t + 0.01 * torch.rand(t.shape, generator=generator) for n, t in weights.items()})


def test_a_fall_is_warned_of_where_other_test_images_dont_explain_it(run: Path, export: Callable[..., str]) -> None:
    said = export("same.safetensors", *HALF)
    assert "warning" not in said
    assert "Under no task does the file order fewer triplets rightly" in Path("same.safetensors.md").read_text()
    test = load_file(run / "test.safetensors")
    test["hits"] = torch.ones_like(test["hits"])
    save_file(test, run / "test.safetensors")
    content = json.loads((run / "run.json").read_text())
    for metrics in content["metrics"].values():
        metrics["triplet"] = 1.0
    (run / "run.json").write_text(json.dumps(content))
    said = export("less.safetensors", *HALF)
    assert "warning: fp16 lowers the triplet accuracy under closure by " in said
    assert "more than other test images explain: export with --precision fp32." in said
    card = Path("less.safetensors.md").read_text()
    assert "**This file orders fewer triplets rightly than the run, by more than chance explains: `category` by" in card


def test_images_of_one_product_count_as_one_in_the_error_of_the_difference(run: Path) -> None:
    test = load_file(run / "test.safetensors")
    number = test["labels"].shape[1]
    embeddings = torch.randn(len(test["hits"]), number, 8, generator=torch.Generator().manual_seed(0))
    groups = torch.arange(number) // 4
    save_file(test | {"groups": groups}, run / "test.safetensors")
    _, after, errors = _accuracies(load_run(run, torch.device("cpu")), embeddings, None)
    for t, (task, error) in enumerate(errors.items()):
        shared = SharedImages(test["triplets"][t][None].numpy(), groups.numpy())
        hits = triplet_hits(embeddings[t], test["triplets"][t].long(), True).double()
        assert hits.mean().item() == after[task]
        difference = (test["hits"][t].double() - hits).numpy()
        assert error == pytest.approx(shared.spread(difference[None]) ** 0.5)


def test_the_limit_is_the_standard_error_of_the_difference() -> None:
    def made(error: float) -> Check:
        return Check(9, False, 1.0, 0.1, None, {"a": 0.8}, {"a": 0.7}, {"a": error}, 5, None, None, 1)

    assert made(0.05).fallen == ("a",)
    assert made(0.052).fallen == ()  # 1.96 x 0.052 = 0.102
    assert made(0.05).fall_in_words("a") == "10.0 ±9.8 points"
    risen = replace(made(0.05), before={"a": 0.7}, after={"a": 0.8})
    assert risen.fallen == ()


def test_the_error_is_by_hand_where_triplets_share_no_image() -> None:
    """40 triplets of 120 images: 10 lost, 2 won; the root of the mean square about the mean, over 39."""
    difference = np.array([1.0] * 10 + [-1.0] * 2 + [0.0] * 28)
    shared = SharedImages(np.arange(120).reshape(1, 40, 3))
    variance = ((difference - 0.2) ** 2).sum() / 40**2 * 40 / 39
    assert shared.spread(difference[None]) == pytest.approx(variance)

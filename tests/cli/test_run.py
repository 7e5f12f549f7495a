"""`mtlbench run` and `report` as a user meets them, on tiny data in the official layouts."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from report_records import order, unwrapped, written
from rich.console import Console
from typer.testing import CliRunner, Result

import mtlbench
from mtlbench.backbones import BackboneFactory
from mtlbench.cli import app
from mtlbench.cli.run import _show_tables, read_seeds
from mtlbench.errors import UserError
from mtlbench.runs import run_folder
from mtlbench.specs import parse_method

SHORT = (
    "train.steps=4", "train.triplets=2", "train.joint_triplets=8", "evaluation.every=2", "evaluation.triplets=50",
    "model.embedding=8", "data.image_size=24", "train.precision=fp32",
)  # fmt: skip


def words(dataset: str, folder: Path | None, results: Path, *more: str) -> list[str]:
    found = ["run", "--dataset", dataset, "--quick", "--results", str(results), *more]
    for setting in SHORT:
        found += ["--set", setting]
    return [*found, "--data-dir", str(folder)] if folder else found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


@pytest.mark.slow
def test_compiled_runs_say_so_and_stand_beside_others_where_asked(zappos_folder, tmp_path):
    asked = ("--methods", "shared", "--plain", "--vary", "train.compile=off,on", "--notes")
    both = run(*words("zappos", zappos_folder, tmp_path / "r", *asked))
    assert both.exit_code == 0, both.output
    assert "shared · train.compile=on" in both.output
    assert both.output.count("triplet accuracy in %") == 1
    assert "networks compiled: " in " ".join(both.output.split())
    (refused,) = [run(*words("zappos", zappos_folder, tmp_path / "r", "--compile", "maybe"))]
    assert refused.exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["celeba", "zappos"])
def test_core_methods_are_trained_compared_skipped_and_reported(dataset, celeba_folder, zappos_folder, tmp_path):
    folder = {"celeba": celeba_folder, "zappos": zappos_folder}[dataset]
    first = run(*words(dataset, folder, tmp_path / "r"), "--plain")
    assert first.exit_code == 0, first.output
    core = ("independent", "shared", "cross-stitch", "gradnorm", "modulation")
    table, cost = first.output.split("Cost")
    for method in core:
        assert f"\n{method} " in table
        assert f"\n{method} " in cost
        assert f"{method}, seed 0: to do" in first.output
    assert "\nchance " in table
    assert "\nuntrained " in table
    assert "fingerprint" not in cost  # that is small print

    again = run(*words(dataset, folder, tmp_path / "r"), "--plain")
    assert again.output.count("done already") == 5
    assert "step" not in again.output.split("steps, on")[1].split("Cost")[0]
    assert again.output.split("triplet accuracy in %")[1] == first.output.split("triplet accuracy in %")[1]

    report = run("report", f"{dataset}-quick", "--results", str(tmp_path / "r"))
    assert (tmp_path / "r" / f"{dataset}-quick" / "verdict.json").is_file()
    assert report.output.strip() in again.output

    deeper = run("report", f"{dataset}-quick", "--results", str(tmp_path / "r"), "--metric", "macro/hit@1")
    assert "macro/hit@1 in %" in deeper.output
    with pytest.raises(UserError, match="Did you mean: map@r"):
        run("report", f"{dataset}-quick", "--results", str(tmp_path / "r"), "--metric", "map-r")

    refused = CliRunner().invoke(app, [*words(dataset, folder, tmp_path / "r"), "--plain", "--set", "train.lr=0.5"])
    assert isinstance(refused.exception, UserError)
    assert "train.lr" in str(refused.exception)


def test_the_tables_of_some_methods_count_the_others_in_their_comparison(tmp_path):
    for method, share in (("one", 0.9), ("two", 0.85), ("three", 0.5)):
        for seed in (0, 1, 2):
            written(tmp_path, method, seed, share)
    console = Console(file=io.StringIO(), width=200)
    jobs = [SimpleNamespace(folder=run_folder(tmp_path, "made-up", m, 0)) for m in ("one", "two")]
    variant = SimpleNamespace(benchmark=SimpleNamespace(name="made-up"), varied={})
    _show_tables(console, [SimpleNamespace(variant=variant, jobs=jobs)], tmp_path, notes=True)
    text = console.file.getvalue()
    assert order(text) == ["one", "two"]
    assert "all pairs of the suite's 3 methods" in unwrapped(text)
    assert "Which method? " in text
    assert f"Next, a page of all this: mtlbench report made-up --results {tmp_path} --html page" in unwrapped(text)
    (said,) = json.loads((tmp_path / "made-up" / "verdict.json").read_text())
    assert (said["benchmark"], said["best"]) == ("made-up", "one")


def test_rendered_shoes_are_drawn_when_they_are_not_there(tmp_path):
    drawn = run(*words("shoes", None, tmp_path / "r", "--set", "data.rendered.images=80", "--methods", "single"))
    assert drawn.exit_code == 0, drawn.output
    assert "drawing images: 80" in drawn.output
    assert "rendered images, not real ones" in drawn.output


def test_tasks_without_labels_are_left_out_and_said(zappos_folder, tmp_path):
    table = zappos_folder / "ut-zap50k-data" / "meta-data.csv"
    lines = [line.split(",") for line in table.read_text().splitlines()]
    blank = [lines[0], *([*line[:3], "", "", "", "", "", ""] for line in lines[1:])]
    table.write_text("\n".join(",".join(line) for line in blank) + "\n")
    plan = run(*words("zappos", zappos_folder, tmp_path / "r", "--methods", "single", "--dry-run"))
    assert "note: closure has no labels; gender has no labels; heel has no labels" in plan.output
    assert "using category, subcategory instead" in plan.output
    assert "2 tasks (category, subcategory)" in plan.output
    with pytest.raises(UserError, match=r"the task 'closure' has no labels. Tasks with labels there: category"):
        run(*words("zappos", zappos_folder, tmp_path / "r", "--tasks", "category,closure"))
    assert not (tmp_path / "r").exists()


def test_a_failing_plugin_leaves_its_reason_the_others_run_and_the_exit_code_is_1(zappos_folder, tmp_path):
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "from mtlbench import Architecture, register_architecture\n"
        "@register_architecture('falls-over')\n"
        "class FallsOver(Architecture):\n"
        "    '''It does.'''\n"
        "    def __init__(self, backbones, tasks):\n"
        "        super().__init__(backbones, tasks)\n"
        "        self.net = backbones.backbone()\n"
        "    def forward(self, images):\n"
        "        raise RuntimeError('over it goes')\n"
    )
    broken = tmp_path / "folder" / "broken.py"
    broken.parent.mkdir()
    broken.write_text("import mtlbench\nimport no_such_package\n")
    names = ["--methods", "falls-over,single", "--plugins", str(plugin), "--plugins"]
    with pytest.raises(UserError, match=r"broken\.py left out: ModuleNotFoundError"):  # it was named itself
        run(*words("zappos", zappos_folder, tmp_path / "r", *names, str(broken)))
    assert not (tmp_path / "r").exists()
    names.append(str(broken.parent))
    done = run(*words("zappos", zappos_folder, tmp_path / "r", *names))
    assert done.exit_code == 1
    assert f"plug-in {broken} left out: ModuleNotFoundError" in done.output
    assert f"({broken}:2)" in done.output
    reason = "RuntimeError: over it goes (architecture 'falls-over', plugin.py:9)"
    assert f"falls-over: FAILED: {reason}" in " ".join(done.output.split())
    assert "\nsingle " in done.output


def test_an_option_that_a_method_refuses_is_found_before_anything_runs(zappos_folder, tmp_path):
    for methods, reason in (
        ("single,modulation[after=9]", "after=9 must name layers"),
        ("single,independent+gradnorm", "has none"),
        ("single,modulatoin", "Did you mean: modulation"),
    ):
        with pytest.raises(UserError, match=reason):
            run(*words("zappos", zappos_folder, tmp_path / "r", "--methods", methods))
    assert not (tmp_path / "r").exists()


def test_a_terminal_gets_a_live_view_that_ends_with_a_line_per_run(zappos_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    shown = run(*words("zappos", zappos_folder, tmp_path / "r", "--methods", "single,shared"))
    assert shown.exit_code == 0, shown.output
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.output)
    for number, method in enumerate(("single", "shared"), 1):
        assert f"[{number}/2] {method}, seed 0: triplet accuracy" in plain
    assert "\x1b[?25l" in shown.output  # the cursor is hidden while the view is live
    assert "\x1b[?25h" in shown.output


@pytest.mark.slow
def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(zappos_folder, tmp_path):
    command = [sys.executable, "-m", "mtlbench", *words("zappos", zappos_folder, tmp_path / "r", "--methods", "shared")]
    command += ["--set", "train.steps=2000", "--set", "evaluation.every=40"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert process.stdout is not None
    seen = ""
    while "step 40/2,000" not in seen:
        line = process.stdout.readline()
        assert line, seen
        seen += line
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The same command continues from here." in rest
    assert not (tmp_path / "r" / "zappos-quick" / "shared" / "seed-0").exists()
    plan = run(*words("zappos", zappos_folder, tmp_path / "r", "--methods", "shared", "--dry-run"),
               "--set", "train.steps=2000", "--set", "evaluation.every=40")  # fmt: skip
    assert "shared, seed 0: continues from step" in plan.output


def test_the_readmes_own_method_runs(zappos_folder, tmp_path):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    code = readme.split("```python\n")[1].split("```")[0]
    (tmp_path / "my_method.py").write_text(code)
    names = ["--methods", "shared,own-bias", "--plugins", str(tmp_path / "my_method.py")]
    done = run(*words("zappos", zappos_folder, tmp_path / "r", *names))
    assert done.exit_code == 0, done.output
    assert "\nown-bias " in done.output
    network, _ = parse_method("own-bias").build(BackboneFactory("small", 24, 8, seed=3), ("a", "b", "c"))
    passes: list[tuple[int, ...]] = []
    network.net.register_forward_hook(lambda module, given, made: passes.append(tuple(given[0].shape)))
    images = torch.rand(3, 2, 3, 24, 24)
    together = network(images)
    assert passes == [(6, 3, 24, 24)]  # all tasks' images in one pass, as `shared` does it
    network.eval()
    with torch.no_grad():
        network.shifts[1].fill_(2.0)
        apart = torch.stack([network.net(group) + shift for group, shift in zip(images, network.shifts, strict=True)])
        assert torch.allclose(network(images), apart, atol=1e-5)
        assert torch.allclose(network.embed(images[0])[1], network.net(images[0]) + 2.0, atol=1e-5)
    assert together.shape == (3, 2, 8)


def test_the_docs_own_benchmark_runs_on_ones_own_images(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "own-images.md").read_text()
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "my-benchmark.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    lines = ["path,colour,size"]
    for i in range(60):
        colour, size = i % 2, i // 2 % 3
        side = 10 + 10 * size
        picture = Image.new("RGB", (64, 48), "white")
        picture.paste(((200, 30, 30), (30, 30, 200))[colour], (5, 5, 5 + side, 5 + side))
        picture.save(photos / f"{i}.jpg")
        lines.append(f"{i}.jpg,{('red', 'blue')[colour]},{('small', 'medium', 'large')[size]}")
    (photos / "labels.csv").write_text("\n".join(lines) + "\n")
    toml, results = str(photos / "my-benchmark.toml"), str(tmp_path / "r")
    short = [word for setting in SHORT for word in ("--set", setting)]
    done = run("run", "--methods", "shared", "--dataset", toml, "--results", results, *short)
    assert done.exit_code == 0, done.output
    assert "My photos (my-benchmark): 2 tasks (colour, size), 42 / 6 / 12 images" in done.output
    assert "real images" in done.output
    (photos / "3.jpg").write_bytes(b"broken")
    again = ["run", "--methods", "shared", "--dataset", toml, "--results", str(tmp_path / "again"), *short]
    with pytest.raises(UserError, match=r"3\.jpg.*--skip-unreadable"):
        run(*again)
    left = run(*again, "--skip-unreadable")
    assert left.exit_code == 0, left.output
    assert "1 unreadable image left out" in " ".join(left.output.split())


def test_a_task_whose_name_holds_a_comma_is_chosen_in_quotes(tmp_path):
    rows = ['path,male,"big, lips",big']
    for i in range(60):
        Image.new("RGB", (16, 16), (4 * i, 99, 9)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{i % 2},{i // 2 % 2},{i // 4 % 2}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "b.toml").write_text('[data]\nreader = "csv"\nfolder = "."\n')
    short = [word for setting in SHORT for word in ("--set", setting)]
    chosen = ["--dataset", str(tmp_path / "b.toml"), "--results", str(tmp_path / "r"), *short]
    done = run("run", "--methods", "shared", "--tasks", '"Big, lips",male', *chosen)
    assert '2 tasks ("big, lips", male), 42 / 6 / 12 images' in " ".join(done.output.split())
    table = run("report", "b", "--results", str(tmp_path / "r"), "--tasks", '"big, lips"', "--format", "csv")
    assert "big, lips" in table.output.splitlines()[0]
    assert "male" not in table.output.splitlines()[0]
    checked = run("data", "check", str(tmp_path / "b.toml"), "--task", 'male,"big, lips"')
    assert "big, lips" in checked.output
    settings = {key: int(value) if value.isdigit() else value for key, value in (word.split("=") for word in SHORT)}
    place = tmp_path / "b.toml"
    found = mtlbench.run("shared", place, tasks=["big, lips"], results=tmp_path / "s", show=False, settings=settings)
    assert found.tasks == ("big, lips",)


@pytest.mark.parametrize(
    ("text", "seeds"), [("0", [0]), ("0-4", [0, 1, 2, 3, 4]), ("7, 0-2,1", [7, 0, 1, 2]), (" 3 - 3 ", [3])]
)
def test_seeds_are_numbers_and_ranges(text, seeds):
    assert read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", ",", "a", "-1", "3-1", "0-", "1.5", "0-5000000000", "4294967296", "0--2"])
def test_other_seeds_are_refused_with_an_example(text):
    with pytest.raises(UserError, match="such as 0,1,2 or 0-4"):
        read_seeds(text)

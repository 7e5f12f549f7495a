"""`mtlbench new KIND NAME`: a scaffold of every kind, in good style under any name, loaded and listed as it stands."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image
from support import run_command
from typer.testing import CliRunner, Result

from mtlbench.cli import app
from mtlbench.cli.new import scaffolds
from mtlbench.errors import UserError
from mtlbench.plugins import load_plugins
from mtlbench.registry import KINDS

REGISTRIES = {registry.kind: registry for registry in KINDS.values()}
WORDS = {registry.kind: word for word, registry in KINDS.items()}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


def contract_is_missing(file: Path) -> str:
    """Return what a scaffold imports from mtlbench that isn't there, if anything."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mtlbench"):
            parts = (node.module or "").split(".")
            for n in range(1, len(parts) + 1):
                if find_spec(".".join(parts[:n])) is None:
                    return ".".join(parts)
            module = import_module(".".join(parts))
            absent = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            if absent:
                return f"{node.module}.{absent[0]}"
    return ""


def test_every_kind_but_names_of_methods_and_optimisers_has_a_scaffold() -> None:
    assert set(scaffolds()) == set(REGISTRIES) - {"method", "optimiser"}


def test_the_scaffolds_own_name_is_as_good_as_any(tmp_path: Path) -> None:
    assert run("new", "balancer", "my-method", "--folder", ".").exit_code == 0
    assert "class MyMethod(Balancer)" in Path("my_method.py").read_text()


@pytest.mark.parametrize("name", ["a", "true", "type", "batch", "a-name-of-thirty-characters-xx", "x.2"])
def test_what_new_writes_of_any_kind_is_in_good_style_under_any_name(tmp_path: Path, name: str) -> None:
    for kind in scaffolds():
        folder = tmp_path / kind
        folder.mkdir()
        assert run("new", kind, name, "--folder", kind).exit_code == 0
        (file,) = folder.iterdir()
        text = file.read_text()
        assert not [word for word in ("my-method", "My-method", "MyMethod", "my_method") if word in text]
        compile(text, str(file), "exec")
    rules = ["--select", "E,F,W,UP,B,SIM,C4,RET,D1,RUF", "--ignore", "D105,D107"]
    for words in (["check", *rules], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "-q", "--isolated", "--no-cache", "--line-length", "120"]
        done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", scaffolds())
def test_what_new_writes_of_any_kind_is_loaded_and_listed(tmp_path: Path, kind: str) -> None:
    done = run("new", kind, "my-thing")
    file = tmp_path / "my_thing.py"
    missing = contract_is_missing(file)
    if missing:
        pytest.skip(f"the contract isn't there yet: {missing}")
    if kind not in ("architecture", "balancer"):
        assert f"  mtlbench list {WORDS[kind]} --plugins my_thing.py\n" in done.output
    assert load_plugins([file]) == []
    assert "my-thing" in REGISTRIES[kind]
    (line,) = [
        line
        for line in run("list", WORDS[kind], "--plugins", "my_thing.py").output.splitlines()
        if line.startswith("my-thing ")
    ]
    assert f"{tmp_path.name}/my_thing.py:" in line


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("loss",), "mtlbench new loss: give its name too, as in mtlbench new loss my-loss."),
        (("los", "my-loss"), "There is no template of a 'los'. Did you mean: loss"),
        (("methods", "my-thing"), "There is no template of a 'methods'."),
        (("loss", "My-Loss"), "'My-Loss' can't name a loss: use lower-case letters"),
        (("reader", "csv"), "'csv' would make a file csv.py that hides"),
        (("reader", "zappos"), "'zappos' is taken, by the reader of "),
    ],
)
def test_words_that_can_t_be_meant_are_refused(tmp_path: Path, words: tuple[str, ...], reason: str) -> None:
    with pytest.raises(UserError) as caught:
        run("new", *words)
    assert reason in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_taken_within_its_own_kind_alone() -> None:
    assert run("new", "loss", "shared").exit_code == 0  # an architecture's


def test_the_reader_that_new_writes_reads_a_folder(tmp_path: Path) -> None:
    from mtlbench.benchmark import load_benchmark
    from mtlbench.datasets.contract import build_reader

    run("new", "reader", "my-reader")
    assert load_plugins([tmp_path / "my_reader.py"]) == []
    for label in ("boots", "sandals"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for n in range(10):
            Image.new("RGB", (8, 8)).save(tmp_path / "photos" / label / f"{n}.png")
    data = load_benchmark("shoes").data
    data = data.model_copy(update={"reader": "my-reader", "options": {"task": "kind"}})
    table = build_reader(data).read(tmp_path / "photos", data)
    assert len(table) == 20
    assert table.columns["kind"].codes.tolist() == [0] * 10 + [1] * 10
    with pytest.raises(UserError, match="holds no images in folders"):
        build_reader(data).read(tmp_path, data)


@pytest.mark.parametrize("name", ["all", "none", "core", "architectures"])
@pytest.mark.parametrize("kind", ["loss", "sampler", "metric", "balancer", "architecture"])
def test_no_kind_has_a_thing_called_as_a_group_or_none(kind: str, name: str, tmp_path: Path) -> None:
    ended = run_command("new", kind, name, "--folder", tmp_path)
    assert ended.error == f"'{name}' is taken: it stands for a group, or for nothing; choose another."
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["triplet", "worst"])
def test_no_metric_is_called_as_what_tables_show_anyway(name: str, tmp_path: Path) -> None:
    ended = run_command("new", "metric", name, "--folder", tmp_path)
    assert ended.error.startswith(f"'{name}' is taken: it stands for t")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["loss", "sampler", "backbone", "metric", "tracker"])
def test_a_plug_in_called_none_or_all_is_left_out(kind: str, tmp_path: Path) -> None:
    assert run("new", kind, "my-thing").exit_code == 0
    file = tmp_path / "my_thing.py"
    text = file.read_text()
    for name, why in (("all", "is the name of a group"), ("none", "stands for nothing")):
        file.write_text(text.replace('("my-thing"', f'("{name}"'))
        (broken,) = load_plugins([file])
        assert f"'{name}' {why}; call the {kind} something else" in broken.reason

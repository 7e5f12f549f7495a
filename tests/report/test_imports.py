"""What computes nothing is done without PyTorch, whose import takes longer than a table."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mtlbench.paper import load_table, paper_tables
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method

PUBLISHED = Path(__file__).parents[2] / "results" / "published"
SCRIPT = """
import sys
from mtlbench.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
assert "torch" not in sys.modules
"""


def without_torch(*words: object) -> None:
    """Run `mtlbench` in a fresh interpreter, which says in the end whether torch was imported."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def report(*words: object) -> None:
    """Run `mtlbench report` without torch."""
    without_torch("report", *words)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("--format", "md"), ("--format", "csv"), ("--format", "runs"), ("--agreement",), ("--at-seconds", "5")]
)
def test_tables_need_no_torch(words):
    report("shoes-quick", "--results", PUBLISHED, *words)


@pytest.mark.slow
def test_figures_need_no_torch(tmp_path):
    report("shoes-quick", "--results", PUBLISHED, "--figures", tmp_path)
    assert list(tmp_path.rglob("accuracy-tasks.png"))


@pytest.mark.slow
def test_a_page_without_galleries_and_the_choice_of_a_group_need_no_torch(tmp_path):
    """Of records that say their groups, as those of today do."""
    shutil.copytree(PUBLISHED / "shoes-quick", tmp_path / "results" / "shoes-quick")
    for path in (tmp_path / "results").rglob("run.json"):
        said = '"groups": ["core"],' if '"kind": "method"' in path.read_text() else ""
        path.write_text(path.read_text().replace('"receipt": {', '"receipt": {' + said))
    report("--results", tmp_path / "results", "--html", tmp_path / "page", "--methods", "core")
    assert (tmp_path / "page" / "index.html").exists()


def test_results_in_python_need_no_torch():
    code = (
        "import sys, mtlbench\n"
        f"found = mtlbench.results({str(PUBLISHED)!r}, 'shoes-quick')\n"
        "assert found._repr_html_() and len(found.table()) and found.compare('shared', 'single').p\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "words",
    [
        ("--version",),
        *((command, "--help") for command in ("run", "tune", "check", "search", "export", "reproduce", "new", "data")),
        ("paper",),
        ("paper", "zappos"),
        ("paper", "celeba-7", "--quick"),
        ("paper", "agreement", "--format", "csv"),
    ],
)
def test_what_computes_nothing_needs_no_torch(words, tmp_path):
    without_torch(*words, *(("--results", tmp_path) if words[0] == "paper" and len(words) > 1 else ()))


def test_checking_images_needs_no_torch(tmp_path):
    for label in ("boot", "sandal"):
        (tmp_path / "own" / label).mkdir(parents=True)
        for number in range(40):
            Image.new("RGB", (40, 40), (6 * number, 80, len(label))).save(tmp_path / "own" / label / f"{number}.png")
    (tmp_path / "own.toml").write_text(
        'name = "own"\ntitle = "Own"\n[data]\nreader = "folders"\nlevels = ["label"]\nfolder = "own"\nimage_size = 32\n'
    )
    without_torch("data", "check", tmp_path / "own.toml")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("list", "metrics"), ("list", "benchmarks"), ("list", "settings"), ("report", "--columns")]
)
def test_what_lists_things_needs_no_torch_again(words, tmp_path, monkeypatch):
    """The first time it reads the things themselves; what it found is kept until one of them changes."""
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path))
    subprocess.run([sys.executable, "-m", "mtlbench", *words], capture_output=True, check=True)
    without_torch(*words)


def test_the_papers_tables_name_methods_as_records_do():
    """So that they are filled without the methods' code."""
    load_plugins()
    for name in paper_tables():
        methods = load_table(name).methods
        assert [parse_method(method).name for method in methods] == list(methods)

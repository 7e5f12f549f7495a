"""Reports are made without PyTorch, whose import takes longer than a table."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def report(*words: object) -> None:
    """Run `mtlbench report` in a fresh interpreter, which says in the end whether torch was imported."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "report", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words", [("--format", "md"), ("--format", "csv"), ("--format", "runs"), ("--agreement",), ("--at-seconds", "5")]
)
def test_tables_need_no_torch(words):
    report("shoes-quick", "--results", PUBLISHED, *words)


def test_figures_need_no_torch(tmp_path):
    report("shoes-quick", "--results", PUBLISHED, "--figures", tmp_path)
    assert list(tmp_path.rglob("accuracy-tasks.png"))


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

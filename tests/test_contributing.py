"""CONTRIBUTING.md: its blocks run, in order, in an empty folder, and do what the text says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
SHORT = [
    f"--set {setting}"
    for setting in ("data.rendered.images=300", "train.steps=6", "evaluation.every=3", "evaluation.triplets=200")
]


def shell(block: str, site: Path) -> str:
    """What is run of a block: each command as it stands, but for what the last sentence of the text says."""
    commands = []
    for line in block.splitlines():
        if line.startswith("mtlbench run"):
            line = " ".join([line, *SHORT])
        line = re.sub(r"^mtlbench ", f"{shlex.quote(sys.executable)} -m mtlbench ", line)
        offline = f"-m pip install -q --no-deps --no-build-isolation --no-index --target {shlex.quote(str(site))}"
        commands.append(re.sub(r"^pip install", f"{shlex.quote(sys.executable)} {offline}", line))
    return "set -e\n" + "\n".join(commands)


def test_the_text_says_how_its_blocks_are_run() -> None:
    assert [kind for kind, _ in BLOCKS] == ["bash", "bash", "bash", "toml", "bash"]
    assert TEXT.rstrip().endswith("in an empty folder: `run` with six steps, and `pip` without an index.")


@pytest.mark.slow
def test_a_method_comes_from_nothing_to_a_row_as_a_file_a_folder_and_a_package(tmp_path: Path) -> None:
    folder, site = tmp_path / "empty", tmp_path / "site"
    folder.mkdir()
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{site}", "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    environment.pop("MTLBENCH_PLUGINS", None)
    outputs = []
    for kind, block in BLOCKS:
        if kind == "toml":  # the package, as the text describes it
            name = block.split("\n", 1)[0].removeprefix("# ")
            package = folder / Path(name).parent / "my_package"
            package.mkdir(parents=True)
            (folder / name).write_text(block)
            (package / "__init__.py").touch()
            (folder / "my-methods" / "my_method.py").rename(package / "my_method.py")
            continue
        done = subprocess.run(
            ["bash", "-c", shell(block, site)], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stderr
        outputs.append(done.stdout)
    first, table, from_folder, from_package = outputs
    assert first.count("my-method keeps the contract.") == 1
    assert re.search(r"^my-method +\d", first, re.MULTILINE)  # its row
    assert re.search(r"^my-method +\d", table, re.MULTILINE)
    assert "✗" not in "".join(outputs)
    for output in (from_folder, from_package):
        assert "my-method keeps the contract." in output
    assert (site / "my_package" / "my_method.py").is_file()
    code = "from mtlbench.plugins import *; load_plugins(); print(ARCHITECTURES.get('my-method').origin)"
    command = [sys.executable, "-c", code]
    where = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert where.stdout.startswith(str(site / "my_package" / "my_method.py"))

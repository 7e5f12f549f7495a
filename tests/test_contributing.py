"""CONTRIBUTING.md: its blocks run, in order, in an empty folder, and do what the text says."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support import registries_restored, run_command

from mtlbench.plugins import load_plugins
from mtlbench.registry import ARCHITECTURES

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
SHORT = [
    word
    for setting in ("data.rendered.images=300", "train.steps=6", "evaluation.every=3", "evaluation.triplets=200")
    for word in ("--set", setting)
]


def run_block(block: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run each command of a block as it stands, but for what the last sentence of the text says; return its output.

    `mtlbench` runs in this process, with the block's plug-ins alone; all else as a shell does it, in the same folder.
    """
    said = []
    with registries_restored(), monkeypatch.context() as environment:
        for line in block.splitlines():
            words = shlex.split(os.path.expandvars(line.replace("$PWD", str(Path.cwd()))))
            if words[0] == "mtlbench":
                ended = run_command(*words[1:], *(SHORT if words[1] in ("run", "tune") else []))
                code, out, err = ended.code, ended.out, ended.err
            elif words[0] == "export":
                environment.setenv(*words[1].split("=", 1))
                continue
            else:
                offline = ["-q", "--no-deps", "--no-build-isolation", "--no-index", "--target"]
                if words[:2] == ["pip", "install"]:
                    words = [sys.executable, "-m", *words[:2], *offline, str(site), *words[2:]]
                done = subprocess.run(words, capture_output=True, text=True, check=False)
                code, out, err = done.returncode, done.stdout, done.stderr
            assert code == 0, out + err
            assert "warning" not in err
            said.append(out)
    return "".join(said)


def test_every_tool_is_listed() -> None:
    tools = {file.relative_to(ROOT / "tools").as_posix() for file in (ROOT / "tools").rglob("*.py")}
    helpers = {"gpu/machine.py", "gpu/made_up.py"}  # of check.sh
    assert [tool for tool in sorted(tools - helpers) if Path(tool).name not in TEXT] == []


def test_the_text_says_how_its_blocks_are_run() -> None:
    assert [kind for kind, _ in BLOCKS] == ["bash", "bash", "bash", "bash", "toml", "bash"]
    assert TEXT.rstrip().endswith("in an empty folder: `run` and `tune` with six steps, and `pip` without an index.")


@pytest.mark.slow
def test_a_method_comes_from_nothing_to_a_row_as_a_file_a_folder_and_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, site = tmp_path / "empty", tmp_path / "site"
    folder.mkdir()
    site.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("COLUMNS", "100")
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
        outputs.append(run_block(block, site, monkeypatch))
        for module in ("my_package", "my_package.my_method"):  # a new process would import it anew
            sys.modules.pop(module, None)
        importlib.invalidate_caches()
    first, table, tuned, from_folder, from_package = outputs
    assert first.count("my-method keeps the contract.") == 1
    assert re.search(r"^my-method +\d", first, re.MULTILINE)  # its row
    assert re.search(r"^my-method +\d", table, re.MULTILINE)
    fair = {place.parent.name for place in (folder / "results/shoes-quick").glob("*/seed-2")}
    assert fair == {"shared@tuned", "my-method@tuned", "chance", "untrained"}
    assert "not tuned" not in tuned
    assert "✗" not in "".join(outputs)
    for output in (from_folder, from_package):
        assert "my-method keeps the contract." in output
    assert (site / "my_package" / "my_method.py").is_file()
    try:
        assert load_plugins() == []
        assert ARCHITECTURES.get("my-method").origin.startswith(str(site / "my_package" / "my_method.py"))
    finally:
        for module in ("my_package", "my_package.my_method"):
            sys.modules.pop(module, None)

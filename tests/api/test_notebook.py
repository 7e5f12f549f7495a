"""What is defined in a notebook's cells or at a prompt, where no file holds its source."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import make_dataset, protocol

import mtlbench
from mtlbench.errors import UserError
from mtlbench.jobs.execute import execute
from mtlbench.jobs.job import Watcher
from mtlbench.jobs.plan import plan
from mtlbench.registry import ARCHITECTURES
from mtlbench.runs.interactive import code_of
from mtlbench.runs.provenance import plugin_sources, sources_of
from mtlbench.specs import parse_method, parse_methods
from mtlbench.training.state import Interrupted

CELL = """
import mtlbench as mb, torch

FACTOR = 1.0

def scaled(found):
    return found * FACTOR

@mb.register_architecture("typed")
class Typed(mb.Architecture):
    '''From a cell.'''

    kinds = {"one", "two", "three"}

    def __init__(self, backbones, tasks, *, width: int = 3):
        super().__init__(backbones, tasks)
        self.net = backbones.backbone()

    def forward(self, images):
        return torch.stack([scaled(self.net(group)) for group in images])

mb.register_method("typed-mean", architecture="typed", balancer="mean")

@mb.register_metric("typed-metric")
def metric(ranked):
    '''From a cell.'''
    return ranked.hits[:, 0].double()
"""


class Notebook:
    """Runs cells in one namespace, as a kernel does."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "a_notebook"}

    def run(self, cell: str) -> str:
        """Run a cell; return the digest of the method in it."""
        exec(compile(cell, "<ipython-input-1-0123456789ab>", "exec"), self.names)
        return sources_of(parse_method("typed"))["architecture"]


def test_a_cell_that_runs_again_replaces_what_it_registered() -> None:
    notebook = Notebook()
    notebook.run(CELL)
    notebook.run(CELL.replace("width: int = 3", "width: int = 4"))
    assert parse_method("typed-mean[width=5]").architecture_options["width"] == 5
    assert ARCHITECTURES.get("typed").target is notebook.names["Typed"]
    with pytest.raises(UserError, match="the name 'shared' of this architecture is registered already"):
        notebook.run(CELL.replace('"typed"', '"shared"', 1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self.net(group)", "2 * self.net(group)"),
        ("found * FACTOR", "found + FACTOR"),  # in a function that it uses
        ("FACTOR = 1.0", "FACTOR = 2.0"),
        ("width: int = 3", "width: int = 4"),
        ('"three"}', '"four"}'),
        ("'''From a cell.'''\n\n    kinds", "'''From a cell.'''\n\n    steps = 3\n\n    kinds"),
    ],
)
def test_an_edited_cell_makes_another_method(old: str, new: str) -> None:
    assert CELL.count(old) == 1
    notebook = Notebook()
    before = notebook.run(CELL)
    assert notebook.run(CELL) == before
    assert notebook.run(f"\n\n{CELL}\nother = 1") == before  # further down, or beside others
    assert notebook.run(CELL.replace(old, new)) != before


def test_runs_of_an_edited_cell_are_not_taken_for_those_of_the_first(tmp_path: Path) -> None:
    notebook, benchmark, data = Notebook(), protocol("evaluation.metrics=['typed-metric']"), make_dataset()
    notebook.run(CELL)
    (job,) = plan(parse_methods("typed"), (0,), benchmark, data, "fp32", tmp_path)
    before = plugin_sources(benchmark)
    assert list(before) == ["metric typed-metric"]
    notebook.run(CELL.replace("hits[:, 0]", "hits[:, 1]").replace("found * FACTOR", "found"))
    (again,) = plan(parse_methods("typed"), (0,), benchmark, data, "fp32", tmp_path)
    assert plugin_sources(benchmark) != before
    assert again.setup["code"].keys() == job.setup["code"].keys()
    assert all(again.setup["code"][part] != job.setup["code"][part] for part in ("architecture", "metric typed-metric"))


def test_an_interrupted_run_of_an_edited_cell_is_kept_until_it_is_given_up(tmp_path: Path) -> None:
    notebook, benchmark, data = Notebook(), protocol(), make_dataset()
    notebook.run(CELL)
    (job,) = plan(parse_methods("typed"), (0,), benchmark, data, "fp32", tmp_path)
    with pytest.raises(Interrupted):
        execute(job, benchmark, data, "fp32", Watcher(), lambda: True)
    notebook.run(CELL.replace("found * FACTOR", "found"))
    with pytest.raises(UserError, match=r"begun with another version of its source \(code.architecture: .*--overwrite"):
        plan(parse_methods("typed"), (0,), benchmark, data, "fp32", tmp_path)
    notebook.run(CELL)  # undone
    (again,) = plan(parse_methods("typed"), (0,), benchmark, data, "fp32", tmp_path)
    assert again.state == "interrupted"


def test_other_processes_are_not_asked_for_what_only_a_notebook_has(tmp_path: Path) -> None:
    Notebook().run(CELL)
    with pytest.raises(UserError) as error:
        mtlbench.run("typed,shared", "shoes", quick=True, results=tmp_path, jobs=2, show=False)
    assert str(error.value) == (
        "Other processes don't have the architecture 'typed', defined in a notebook or at a prompt: run without jobs"
        " and on, or put the definition into a file and name it in plugins."
    )


def test_the_digest_is_the_same_in_another_session() -> None:
    code = (
        "import sys; from mtlbench.runs.interactive import code_of; names = {'__name__': 'a'}; exec(sys.argv[1], names)"
    )
    function = "KINDS = {'a', 'b', 'c', 'd'}\ndef f(x, *, y=(1, {2: 'z'})):\n    return x in {'p', 'q', 'r'} and KINDS"
    found = {
        subprocess.run(
            [sys.executable, "-c", f"{code}; exec(sys.argv[1], names); print(code_of(names['f']))", function],
            env=os.environ | {"PYTHONHASHSEED": str(seed)}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in (1, 2, 3)
    }  # fmt: skip
    names: dict[str, Any] = {"__name__": "a"}
    exec(function, names)
    assert found == {f"{code_of(names['f'])}\n"}

"""What is defined in a notebook's cells or at a prompt, where no file holds its source."""

from __future__ import annotations

import os
import subprocess
import sys
import types
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


SETTINGS = """
import argparse, dataclasses, enum, pathlib, re, threading, types
import numpy as np, torch
import local_net
from local_net import Neck

@dataclasses.dataclass
class Conf:
    k: float = 1.0
    table: torch.Tensor = None

class Kind(enum.Enum):
    ONE = 1

class Plain:
    def __init__(self):
        self.k = 1.0

    def scaled(self, found):
        return found * self.k

table, array, half = torch.ones(4), np.ones(4), torch.ones(4, dtype=torch.bfloat16)
conf, space, name = Conf(table=torch.ones(2)), types.SimpleNamespace(k=1.0), argparse.Namespace(k=1.0)
plain, layer, pattern, folder = Plain(), torch.nn.Linear(2, 2), re.compile("a"), pathlib.Path("a")
scaled, kind = plain.scaled, Kind.ONE

def settings(found):
    import local_late
    values = table, array, half, conf, space, name, plain, layer, pattern, folder, scaled, kind, torch.relu
    return values, local_net.twice(found), local_late.thrice(found), Neck, len(found)
"""


@pytest.mark.parametrize(
    "change",
    [
        "table = torch.tensor([5.0, 1, 1, 1])", "table[0] = 5", "table = torch.ones(2, 2)", "array[0] = 5",
        "half[0] = 5", "conf.k = 9.0", "conf.table[1] = 2", "space.k = 9.0", "name.k = 9.0", "plain.k = 9.0",
        "layer.weight.data.zero_()", "pattern = re.compile('b')", "folder = pathlib.Path('b')",
        "Plain.scaled = lambda self, found: found\nscaled = plain.scaled", "local_net.FACTOR = 3",
        "local_net.twice = lambda found: found", "local_net.Neck.forward = lambda self, found: found",
        "local_late.thrice = lambda found: found", "local_net.conf.k = 5",
    ],
)  # fmt: skip
def test_what_a_cells_method_reads_makes_another_method_once_changed(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Otherwise the earlier run is shown as the new one's result."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "local_net.py").write_text(
        "import types\nimport local_late, torch\nFACTOR, UNUSED, conf = 2, 0, types.SimpleNamespace(k=1)\n"
        "def twice(found):\n    return FACTOR * found * conf.k\n"
        "class Neck(torch.nn.Module):\n    def forward(self, found):\n        return twice(found)\n"
    )
    (tmp_path / "local_late.py").write_text("import local_net\ndef thrice(found):\n    return 3 * found\n")
    notebook = types.ModuleType("a_notebook")
    monkeypatch.setitem(sys.modules, "a_notebook", notebook)
    names = vars(notebook)
    try:
        exec(SETTINGS, names)
        before = code_of(names["settings"])
        exec("import local_late; local_net.UNUSED = 1; other = torch.ones(3)", names)
        assert code_of(names["settings"]) == before
        exec(change, names)
        assert code_of(names["settings"]) != before
    finally:
        for module in ("local_net", "local_late"):
            sys.modules.pop(module, None)
    assert not recwarn.list


def test_what_cant_be_watched_is_named_and_the_rest_is_watched() -> None:
    names: dict[str, Any] = {"__name__": "a_notebook"}
    exec(
        "import threading\nlock, factor = threading.Lock(), 2\ndef f(x):\n    with lock:\n        return x * factor",
        names,
    )
    with pytest.warns(UserWarning, match="uses 'lock', a value that can't be watched: after a change of it, run with"):
        before = code_of(names["f"])
    names["factor"] = 3
    with pytest.warns(UserWarning, match="'lock'"):
        assert code_of(names["f"]) != before


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
    function = (
        "import re, types, numpy, torch\nKINDS = {'a', 'b', 'c', 'd'}\nconf = types.SimpleNamespace(kinds=set(KINDS))\n"
        "conf.values = torch.ones(2), numpy.ones(2), torch.nn.ReLU(), torch.float16, torch.Size([1]), re.compile('a')\n"
        "def f(x, *, y=(1, {2: 'z'})):\n    return x in {'p', 'q', 'r'} and KINDS and conf"
    )
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

"""What `import mtlbench` offers: a short list that is documented, typed, explained by examples that run, and lazy."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from unittest.mock import create_autospec

import matplotlib
import pytest
from matplotlib import pyplot

import mtlbench
from mtlbench import Embedder, Results
from mtlbench.api.plots import Plots
from mtlbench.registry import ALIASES, ARCHITECTURES, BACKBONES, BALANCERS

ALL = (ARCHITECTURES, BACKBONES, BALANCERS, ALIASES)
METHODS = [
    "Results.split",
    "Results.table",
    "Results.runs",
    "Results.curves",
    "Results.compare",
    "Plots.pareto",
    "Plots.heatmap",
    "Plots.curves",
    "Embedder.embed",
    "Embedder.search",
]

PACKAGE = Path(mtlbench.__file__).parent
ROOT = PACKAGE.parent
NAMES = (
    "Architecture",
    "Backbone",
    "BackboneFactory",
    "BackboneKind",
    "Balancer",
    "Batch",
    "Column",
    "Conditioned",
    "Embedder",
    "Executor",
    "Kin",
    "Learned",
    "Loss",
    "LossContext",
    "Modulated",
    "Range",
    "Ranked",
    "Reader",
    "Results",
    "Roles",
    "Sampler",
    "Source",
    "Table",
    "TrackedRun",
    "Tracker",
    "UserError",
    "column_of",
    "load",
    "modulate",
    "register_architecture",
    "register_augmentation",
    "register_backbone",
    "register_balancer",
    "register_executor",
    "register_loss",
    "register_method",
    "register_metric",
    "register_reader",
    "register_sampler",
    "register_tracker",
    "results",
    "run",
)


def test_the_list_of_names_is_the_documented_one():
    assert sorted(mtlbench.__all__) == sorted(["__version__", *NAMES])
    listed = (ROOT / "docs" / "python.md").read_text().split("`mtlbench` exports, and keeps stable")[1].split("\n\n")[0]
    assert tuple(re.findall(r"`(\w+)`", listed)) == NAMES


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(mtlbench.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    homes = {alias.asname: line.module for line in block.body for alias in line.names}
    assert homes == {name: getattr(mtlbench, name).__module__ for name in NAMES}
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_an_example_that_runs(name):
    thing = getattr(mtlbench, name)
    example = doctest.DocTestParser().get_doctest(thing.__doc__ or "", {"__name__": "example"}, name, None, 0)
    assert example.examples, f"the docstring of mtlbench.{name} has no example"
    assert "from mtlbench import" in example.docstring, "an example says where its names come from"
    runs_as_it_says(example)


def runs_as_it_says(example: doctest.DocTest) -> None:
    said: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert results.attempted == len(example.examples)
    assert results.failed == 0, "".join(said)


def public_methods(cls: type) -> list[str]:
    return [name for name, thing in vars(cls).items() if inspect.isfunction(thing) and not name.startswith("_")]


def test_the_methods_that_need_an_example_are_known():
    assert [f"{cls.__name__}.{name}" for cls in (Results, Plots, Embedder) for name in public_methods(cls)] == METHODS


@pytest.mark.parametrize("name", METHODS)
def test_every_method_that_people_call_has_an_example_that_runs(name, monkeypatch):
    monkeypatch.chdir(ROOT)  # results/published
    home, method = name.split(".")
    cls = {"Results": Results, "Plots": Plots, "Embedder": Embedder}[home]
    thing = getattr(cls, method)
    example = doctest.DocTestParser().get_doctest(thing.__doc__ or "", {home: cls}, name, None, 0)
    assert example.examples, f"the docstring of {name} has no example"
    assert f".{method}(" in example.docstring.split("Example:")[1], "an example calls what it explains"
    runs_as_it_says(example)


def test_the_page_on_python_runs_on_published_results(monkeypatch):
    """Training and a network's weights are pretended; what is called, with which words, and the numbers are real."""
    matplotlib.use("Agg")
    monkeypatch.chdir(ROOT)
    train, net = inspect.signature(mtlbench.run), create_autospec(Embedder, instance=True)
    asked = []

    def run(*words: object, **named: object) -> Results:
        asked.append(train.bind(*words, **named))
        return mtlbench.results("results/tuned", "shoes-quick")

    monkeypatch.setattr(mtlbench, "run", run)
    monkeypatch.setattr(mtlbench, "load", lambda folder: net)
    code = (ROOT / "docs" / "python.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    exec(compile(code, "docs/python.md", "exec"), names)
    assert len(asked) == 1
    assert names["pair"].interval()[0] < names["pair"].difference
    assert [call[0] for call in net.method_calls] == ["embed", "search", "search"]
    pyplot.close("all")


def test_names_load_on_first_use():
    code = """
import sys, mtlbench
assert "torch" not in sys.modules, "import mtlbench imports torch"
mtlbench.UserError
assert "torch" not in sys.modules, "an error needs no torch"
mtlbench.Table
assert "torch" not in sys.modules, "a table needs no torch"
assert callable(mtlbench.modulate)
import mtlbench.modulated, mtlbench.conditioned
assert callable(mtlbench.modulate)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'mtlbench' has no attribute 'Modulate'"):
        mtlbench.Modulate  # noqa: B018


def test_bundled_methods_import_public_names_alone():
    files = sorted((ROOT / "methods").rglob("*.py"))
    assert len(files) > 40
    public = {"mtlbench": set(NAMES), "mtlbench.torchjd": set(import_module("mtlbench.torchjd").__all__)}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert not [a.name for a in node.names if a.name.split(".")[0] == "mtlbench"], file
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mtlbench":
                assert node.module in public, f"{file} imports from {node.module}"
                assert {alias.name for alias in node.names} <= public[node.module], file

"""The engine knows contracts and names no method: what it must know of one, the method declares. Imports go one way."""

from __future__ import annotations

import ast
import re
from collections.abc import Container, Iterator
from pathlib import Path

import mtlbench
from mtlbench.plugins import load_plugins
from mtlbench.registry import ALIASES, ARCHITECTURES, BALANCERS

ENGINE = Path(mtlbench.__file__).parent
# Names that are words of other things too: only where one of these is all that a text says may it be the method.
WORDS = {"config", "film", "independent", "mean", "shared", "single", "static"}
# A method's name where it means something else, and examples in the help of commands, by file.
ALLOWED = {
    "benchmark.py": {"mean", "csn"},  # evaluation.select; data.split
    "sections.py": {"csn", "modulation"},  # data.split; the normalisation of the modulation paper
    "datasets/csn_lists.py": {"csn"},  # data.split
    "datasets/zappos.py": {"csn"},
    "evaluation/selection.py": {"mean"},  # evaluation.select
    "jobs/execute.py": {"single"},  # balancer_weights: all on a single task
    "names.py": {"mean"},  # MEASURES
    "paper.py": {"mean"},  # a column
    "report/evidence.py": {"mean"},  # evaluation.select
    "specs.py": {"mean"},  # PLAIN: what a spec that names no balancer stands for
    "torchjd.py": {"mean", "shared"},  # the scale of a result; where balancers take gradients
    "cli/report.py": {"mean"},  # a column
    "cli/check.py": {"pcgrad"},  # examples
    "cli/options.py": {"modulation", "pcgrad"},
    "cli/profile.py": {"modulation"},
    "report/outcome.py": {"single"},  # balancer_weights
    "report/receipt.py": {"csn"},  # data.split
    **{
        f"report/{file}.py": {"mean"}
        for file in ("columns", "comparison", "frames", "page", "pairs", "ranks", "rows", "summary", "verdict")
    },
    "report/figures/accuracy.py": {"mean"},
}


def texts(tree: ast.AST) -> Iterator[str]:
    """Every text of a file but docstrings."""
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.value


def named(text: str, names: set[str]) -> set[str]:
    """The methods that a text names: as all that it is, as the part of a spec, or by a name that is no English word."""
    parts = {part.partition("[")[0] for part in re.split(r"[+,]", text)}
    words = set(re.findall(r"[a-z0-9_-]+", text))
    return (parts & names) | (words & (names - WORDS))


def test_the_engine_names_no_method() -> None:
    assert load_plugins() == []
    names = {*ARCHITECTURES, *ALIASES, *BALANCERS}
    assert {"independent", "modulation", "gradnorm", "mean", "pcgrad"} <= names
    found: dict[str, set[str]] = {}
    for path in ENGINE.rglob("*.py"):
        file = path.relative_to(ENGINE).as_posix()
        if not file.startswith("scaffold/"):
            for text in texts(ast.parse(path.read_text())):
                found.setdefault(file, set()).update(named(text, names))
    assert {file: said for file, said in found.items() if said} == ALLOWED


def test_a_name_is_found_alone_in_a_spec_and_where_it_can_be_nothing_else() -> None:
    names = {"independent", "modulation"}
    assert named("independent", names) == {"independent"}
    assert named("independent[x=1]+pcgrad", names) == {"independent"}
    assert named("compare with modulation", names) == {"modulation"}
    assert named("217 independent images", names) == set()


def imported(tree: ast.AST, package: str, modules: Container[str]) -> Iterator[str]:
    """Modules that a file imports anywhere, in functions too, but not for types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(filter(None, [above, node.module]))
            yield from (one if (one := f"{base}.{alias.name}") in modules else base for alias in node.names)
        yield from imported(node, package, modules)


def in_circles(needs: dict[str, set[str]]) -> set[str]:
    """Modules that need each other: what is left where those that need none of the rest are taken away, both ways."""
    left = dict(needs)
    while True:
        needed = set().union(*left.values())
        inner = {name: found & left.keys() for name, found in left.items() if found & left.keys() and name in needed}
        if inner.keys() == left.keys():
            return set(inner)
        left = inner


def test_no_file_imports_itself_by_way_of_others() -> None:
    files = {}
    for path in ENGINE.rglob("*.py"):
        parts = path.relative_to(ENGINE.parent).with_suffix("").parts
        files[".".join(parts).removesuffix(".__init__")] = path
    needs = {}
    for name, path in files.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        needs[name] = {one for one in imported(ast.parse(path.read_text()), package, files) if one in files} - {name}
    assert len(needs) > 100
    assert in_circles(needs) == set()
    assert in_circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {"b", "c"}

"""Methods that wait for a package: `run` and `list` say how many, which, and what brings them."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from mtlbench.cli import app
from mtlbench.errors import UserError
from mtlbench.plugins import load_plugins
from mtlbench.registry import ALIASES, LeftOut
from mtlbench.specs import left_out_line, left_out_methods, parse_method

WAITING = {
    "first": LeftOut("first", ("balancers",), ("one", "two"), "solvers"),
    "second": LeftOut("second", ("balancers", "mine"), ("three",), "solvers"),
    "third": LeftOut("third", ("mine",), ("four",)),
}


@pytest.fixture(autouse=True)
def _waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    load_plugins()
    monkeypatch.setattr(ALIASES, "left_out", WAITING)


def test_a_value_of_methods_lacks_what_its_groups_would_hold() -> None:
    assert [one.name for one in left_out_methods()] == ["first", "second", "third"]
    assert [one.name for one in left_out_methods("shared,mine")] == ["second", "third"]
    assert left_out_methods("core,shared") == []


def test_one_line_says_how_many_which_and_what_brings_them() -> None:
    assert left_out_line(left_out_methods()) == (
        "3 left out (first, second, third): pip install 'mtlbench[solvers]' four"
    )


def test_a_method_that_waits_is_not_unknown() -> None:
    with pytest.raises(UserError) as caught:
        parse_method("first")
    assert str(caught.value) == "first needs one and two: pip install one two, or pip install 'mtlbench[solvers]'."
    with pytest.raises(UserError, match=r"^third needs four: pip install four\.$"):
        parse_method("third")


@pytest.mark.parametrize(("methods", "said"), [("balancers,shared", True), ("core", False)])
def test_run_says_so_in_one_line_before_anything_else(methods: str, said: bool) -> None:
    done = CliRunner().invoke(app, ["run", "--dataset", "shoes", "--methods", methods, "--on", "nowhere"])
    assert str(done.exception).startswith("Unknown executor 'nowhere'")  # what comes next
    assert ("note: 2 left out (first, second): pip install 'mtlbench[solvers]'\n" in done.output) == said


def test_list_methods_says_so_below(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    output = CliRunner().invoke(app, ["list", "methods"], catch_exceptions=False).output
    assert "\n3 left out (first, second, third): pip install 'mtlbench[solvers]' four.\n" in output
    assert "left out" not in CliRunner().invoke(app, ["list", "balancers"], catch_exceptions=False).output

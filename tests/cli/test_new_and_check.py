"""`mtlbench new` and `mtlbench check` as a user meets them: files, refusals, exit codes, reasons."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from mtlbench import checks
from mtlbench.bundled import bundled
from mtlbench.checks import items
from mtlbench.cli import app
from mtlbench.data.check import read_source
from mtlbench.errors import UserError
from mtlbench.plugins import load_plugins
from mtlbench.registry import ARCHITECTURES, BALANCERS
from mtlbench.runs.checked import checked_parts, unsure_of
from mtlbench.specs import parse_method

FAULTY = Path(__file__).parents[1] / "methods" / "faulty"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


def test_new_writes_one_file_and_says_what_to_do_next(tmp_path: Path) -> None:
    done = run("new", "my-method")
    assert done.exit_code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["my_method.py"]
    assert "  mtlbench check my-method --plugins my_method.py\n" in done.output
    assert "  mtlbench run --dataset shoes --quick --methods shared,my-method --plugins my_method.py\n" in done.output
    assert "checkout" not in done.output


def test_new_benchmark_writes_the_file_that_data_check_suggests(tmp_path: Path) -> None:
    for i in range(20):
        image = tmp_path / "pets" / ("cat" if i % 2 else "dog") / f"{i}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (i * 9, 0, 0)).save(image)
    with pytest.raises(UserError) as suggested:
        read_source(Path("pets"))
    done = run("new", "--benchmark", "pets")
    assert done.exit_code == 0
    assert "  mtlbench data check pets.toml\n" in done.output
    text = (tmp_path / "pets.toml").read_text(encoding="utf-8")
    assert str(suggested.value).split("\n\n", 1)[1] == text
    table = read_source(Path("pets.toml")).table
    assert (len(table), table.columns["label"].values) == (20, ("cat", "dog"))
    with pytest.raises(UserError, match="exists already"):
        run("new", "--benchmark", "pets")
    assert (tmp_path / "pets.toml").read_text(encoding="utf-8") == text


def test_new_benchmark_refuses_what_it_can_not_describe(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no data set known here"):
        run("new", "--benchmark", "empty")
    with pytest.raises(UserError, match="there is no such folder"):
        run("new", "--benchmark", "nowhere")
    with pytest.raises(UserError, match="give no name beside it"):
        run("new", "mine", "--benchmark", "empty")
    with pytest.raises(UserError, match="Give a name"):
        run("new")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_in_a_checkout_new_says_where_bundled_methods_live(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr("mtlbench.bundled.bundled", lambda folder: tmp_path / folder)
    monkeypatch.setattr("mtlbench.plugins.load_plugins", lambda: [])
    assert f"bundled methods live in {tmp_path / 'methods'}" in run("new", "one-more").output
    inside = run("new", "one-more", "--folder", "methods").output
    assert "--plugins" not in inside
    assert "bundled methods live" not in inside
    assert (tmp_path / "methods" / "one_more.py").is_file()


@pytest.mark.parametrize("kind", ["architecture", "balancer"])
@pytest.mark.parametrize("name", ["a", "true", "type", "a-name-of-thirty-characters-xx", "x.2"])
def test_what_new_writes_is_loaded_under_any_name(tmp_path: Path, kind: str, name: str) -> None:
    run("new", kind, name)
    (file,) = tmp_path.iterdir()
    assert load_plugins([file]) == []
    assert name in (ARCHITECTURES if kind == "architecture" else BALANCERS)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("shared", "'shared' is taken, by the architecture of "),
        ("pcgrad", "'pcgrad' is taken, by the balancer of "),
        ("core", "'core' is taken: it stands for a group"),
        ("My-Method", "can't name a method: use lower-case letters"),
        ("3d", "beginning with a letter"),
        ("a/b", "can't name a method"),
        ("", "can't name a method"),
        ("x" * 31, "at most 30 characters"),
        ("torch", "would make a file torch.py that hides"),
        ("import", "would make a file import.py that hides"),
    ],
)
def test_new_refuses_names_that_are_taken_or_malformed(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        run("new", name)
    assert reason in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_new_overwrites_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(tmp_path)  # as `python -m mtlbench` does
    (tmp_path / "my_method.py").write_text("precious")
    with pytest.raises(UserError, match="exists already and is left as it is"):
        run("new", "my-method")
    assert (tmp_path / "my_method.py").read_text() == "precious"
    with pytest.raises(UserError, match="there is no such folder"):
        run("new", "my-method", "--folder", "nowhere")


@pytest.mark.slow
@pytest.mark.parametrize("words", [("my-method",), ("balancer", "my-method")])
def test_what_new_writes_passes_check(words: tuple[str, ...]) -> None:
    run("new", *words)
    done = run("check", "my-method", "--plugins", "my_method.py")
    assert done.exit_code == 0, done.output
    assert "✗" not in done.output
    assert {line for line in done.output.splitlines() if "–" in line} <= {"  – a rate acts: it has no option rate"}
    assert done.output.endswith("\nmy-method keeps the contract.\n")


def test_a_fault_is_shown_with_its_reason_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "parts_of", lambda method: [checks.Part("balancer", method)])  # the rest takes long
    done = run("check", "shared+sums-to-one", "--plugins", str(FAULTY / "balancers.py"))
    assert done.exit_code == 1
    lines = done.output.splitlines()
    at = lines.index("  ✗ weights of 1 mean the plain mean")
    assert lines[at + 1].startswith("      expected: the plain mean's gradient")
    assert lines[at + 2] == "      found: one 0.333 times as long"
    assert lines[at + 3].startswith("      to mend it: bring the weights to a sum of T")
    assert lines[-1] == "shared+sums-to-one does not keep the contract; fix the first ✗ first."


def test_several_methods_take_a_line_each_and_what_they_share_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []

    def cheap(item: items.Item, subject: object, first: bool) -> items.Result:
        checked.append(item.name)
        return items.Result(item.name, "passed")

    monkeypatch.setattr(items, "_checked", cheap)
    done = run("check", "uw,dwa")
    assert done.exit_code == 0
    assert checked.count("shapes") == 1
    assert checked.count("losses of 0 leave all finite") == 2
    assert [line.split(":")[0] for line in done.output.splitlines()] == [
        "✓ uw, architecture",
        "✓ uw, balancer",
        "✓ dwa, balancer",
        "All 2 methods keep the contract.",
    ]


def test_runs_say_what_check_found_of_a_method_as_its_source_is_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status = "passed"
    monkeypatch.setattr(items, "_checked", lambda item, subject, first: items.Result(item.name, status))
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "my_method.py"

    def said() -> list[str]:
        """What a plan of its runs says of the contract, and what their records will hold."""
        load_plugins([file])
        method = parse_method("my-method[shift=false]")
        return [unsure_of(method), checked_parts(method).get("architecture", "")]

    run("new", "my-method")
    unchecked = [
        "note: my-method[shift=false] was not checked against the contract:"
        " `mtlbench check 'my-method[shift=false]' --plugins my_method.py` takes less than a minute",
        "unchecked",
    ]
    assert said() == unchecked
    run("check", "my-method", "--plugins", "my_method.py")
    assert said() == ["", "kept"]  # the source was checked, if with another option
    status = "failed"
    run("check", "my-method[shift=false]", "--plugins", "my_method.py")
    broken = "warning: my-method[shift=false] breaks the contract, as `mtlbench check` found; its numbers may be wrong"
    assert said() == [broken, "broken"]
    file.write_text(file.read_text() + "\n# edited\n")
    assert said() == unchecked
    assert checked_parts(parse_method("modulation")) == {}  # it comes with mtlbench, whose tests check it


def test_of_several_methods_a_refused_one_is_counted_and_the_others_are_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "parts_of", lambda method: [checks.Part("balancer", method)])
    done = run("check", "shared+static,dwa")
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert lines[0].startswith("✗ shared+static, balancer: refused. static wants 3 weights")
    assert lines[1].startswith(f"✓ dwa, balancer: {len(checks.BALANCER_ITEMS)} items")
    assert lines[-1] == "1 of 2 methods do not keep the contract: shared+static."


def test_a_broken_file_ends_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import torch\n\nx = 1 / 0\n")
    with pytest.raises(UserError, match=r"ZeroDivisionError: division by zero \(.*broken\.py:3\)\.$"):
        run("check", "mine", "--plugins", "broken.py")
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.py").rename(tmp_path / "folder" / "broken.py")
    with pytest.raises(UserError, match=r"Unknown method 'mine'.*Not everything could be loaded: .*division by zero"):
        run("check", "mine", "--plugins", "folder")


def test_check_says_what_is_wrong_with_its_words() -> None:
    with pytest.raises(UserError, match=r"Unknown method 'sharde'\. Did you mean: shared"):
        run("check", "sharde")
    with pytest.raises(UserError, match=r"'my_method.py' is a file: give the method's name"):
        run("check", "my_method.py")
    with pytest.raises(UserError, match=r"after=9 must name layers"):
        run("check", "film[after=9]")


def test_the_scaffold_is_not_loaded_as_a_method() -> None:
    assert "my-method" not in ARCHITECTURES
    assert bundled("methods").is_dir()
    assert not any("scaffold" in name for name in sys.modules)

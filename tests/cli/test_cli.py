"""The command line as a user meets it: exit codes, one-line errors, listings."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from report_records import written
from support import Ended
from typer.testing import CliRunner

from mtlbench import __version__
from mtlbench.cli import app, main

PUBLISHED = Path(__file__).parents[2] / "results" / "published"

PLUGIN = '''from mtlbench import Architecture, register_architecture


@register_architecture("mine")
class Mine(Architecture):
    """A method of my own."""

    def forward(self, images):
        return images
'''


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide output, no debugging."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("MTLBENCH_DEBUG", "")


@pytest.fixture
def mtlbench(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Run the command line's entry point in this process."""

    def call(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["mtlbench", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code
        return Ended(code if isinstance(code, int) else 0, *capfd.readouterr())

    return call


def process(*arguments: str, code: str = "from mtlbench.cli import main; main()") -> Ended:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


# --- the frame --------------------------------------------------------------------------------------------------------


def test_version(mtlbench: Any) -> None:
    ended = mtlbench("--version")
    assert (ended.code, ended.out, ended.err) == (0, f"mtlbench {__version__}\n", "")


@pytest.mark.parametrize("arguments", [(), ("run",), ("report",), ("list",), ("data",), ("data", "check")])
def test_help_answers_for_every_command(mtlbench: Any, arguments: tuple[str, ...]) -> None:
    ended = mtlbench(*arguments, "--help")
    assert ended.code == 0
    assert f"Usage: {' '.join(('mtlbench', *arguments))}" in ended.out
    assert mtlbench(*arguments, "-h").out == ended.out


def test_help_loads_nothing_heavy() -> None:
    ended = process(
        "--help",
        code="import sys, mtlbench.cli\ntry: mtlbench.cli.main()\nfinally:\n"
        " heavy = {'torch', 'torchvision', 'pandas', 'numpy', 'pydantic', 'PIL'}\n"
        " print(sorted(heavy & set(sys.modules)), file=sys.stderr)",
    )
    assert (ended.code, ended.err) == (0, "[]\n")
    assert all(command in ended.out for command in ("run", "report", "list", "data"))


def test_no_command_shows_the_help(mtlbench: Any) -> None:
    assert "Usage: mtlbench" in str(mtlbench())


@pytest.mark.parametrize(
    "arguments", [("train",), ("run",), ("run", "--datset", "shoes"), ("list", "foo"), ("report", "--format", "pdf")]
)
def test_a_command_that_does_not_exist_exits_with_2_and_no_traceback(mtlbench: Any, arguments: tuple[str, ...]) -> None:
    ended = mtlbench(*arguments)
    assert ended.code == 2
    assert "Error" in ended.err
    assert "Traceback" not in ended.err


def test_an_error_of_the_user_is_one_line_on_stderr_and_exit_code_2_in_a_process_of_its_own(tmp_path: Path) -> None:
    ended = process("report", "--results", str(tmp_path))
    assert ended.error == f"No run records of any benchmark in {tmp_path}. Make some with mtlbench run."
    assert ended.out == ""


def test_debug_shows_where_an_error_was_raised(tmp_path: Path) -> None:
    ended = process("--debug", "report", "--results", str(tmp_path))
    assert ended.code != 0
    assert ended.err.startswith("Traceback")
    assert "report.py" in ended.err
    assert f"UserError: No run records of any benchmark in {tmp_path}" in ended.err


def test_an_error_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("mtlbench.plugins.load_plugins", broken)
    monkeypatch.setattr(sys, "argv", ["mtlbench", "list", "methods"])
    with pytest.raises(ZeroDivisionError):
        main()


def test_ctrl_c_anywhere_says_how_to_go_on(mtlbench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mtlbench.plugins.load_plugins", interrupted)
    ended = mtlbench("list", "methods")
    assert ended.code == 130
    assert ended.err == "\nStopped. What is finished is kept; the same command continues from there.\n"


# --- run: what is found before anything is trained --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--dataset", "celba"), "Unknown data set or benchmark 'celba'. Did you mean: celeba?"),
        (
            ("--dataset", "shoes", "--methods", "modulaton"),
            "method 'modulaton'. Did you mean: modulation, modo?",
        ),
        (("--dataset", "shoes", "--methods", "gradnorm[alpa=1]"), "Did you mean: alpha?"),
        (("--dataset", "shoes", "--set", "train.stps=5"), "--set: unknown key 'train.stps'. Did you mean: steps?"),
        (("--dataset", "shoes", "--set", "train.steps=0"), "--set: train.steps: input should be greater than 0"),
        (("--dataset", "shoes", "--seeds", "a"), "--seeds a: give whole numbers"),
        (("--dataset", "shoes", "--plugins", "nowhere.py"), "--plugins nowhere.py: there is no such file or folder"),
        (("--dataset", "zappos", "--quick"), "There is no zappos data at"),
    ],
)
def test_a_mistake_in_a_run_is_one_line(mtlbench: Any, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in mtlbench("run", "--results", tmp_path / "results", *arguments).error
    assert not (tmp_path / "results").exists()


# --- list -------------------------------------------------------------------------------------------------------------


def rows(ended: Ended) -> dict[str, str]:
    """The lines of a listing below its heading, by their first word."""
    assert ended.code == 0, ended
    lines = ended.out.rstrip().split("\n\n")[0].splitlines()[1:]
    return {line.split()[0]: line for line in lines}


def test_methods_are_listed_with_groups_summary_and_origin(mtlbench: Any) -> None:
    ended = mtlbench("list", "methods")
    listed = rows(ended)
    assert {"cross-stitch", "gradnorm", "independent", "modulation", "shared", "single", "mtan", "uw"} <= set(listed)
    assert listed["shared"].split()[1:3] == ["core", "architectures"]
    assert "One whole network per task, nothing shared." in listed["independent"]
    assert "Misra et al. 2016" in listed["cross-stitch"]
    assert "606,432 + 320 T " in listed["modulation"]
    assert "606,432 T + 3 T² " in listed["cross-stitch"]
    assert "573,600 + 32,832 T " in listed["uw"]
    assert "architecture+balancer[option=value]" in ended.out


def test_balancers_are_listed(mtlbench: Any) -> None:
    listed = rows(mtlbench("list", "balancers"))
    assert {"gradnorm", "mean", "static", "pcgrad", "uw"} <= set(listed)
    assert "Chen et al. 2018" in listed["gradnorm"]
    assert "methods/mean.py:" in listed["mean"]


def test_citations_are_printed_once_each(mtlbench: Any) -> None:
    ended = mtlbench("list", "methods", "--bibtex")
    keys = re.findall(r"^@\w+\{([^,]+),", ended.out, re.MULTILINE)
    assert len(keys) == len(set(keys)) > 20
    assert "Cross-stitch Networks for Multi-task Learning" in ended.out


def test_backbones_are_listed(mtlbench: Any) -> None:
    listed = rows(mtlbench("list", "backbones"))
    entries = {"paper", "small", "resnet18", "resnet18-csn", "resnet34", "resnet50"}
    assert entries | {"torchvision:<name>", "timm:<name>"} == set(listed)
    assert "ResNet-18 without layer4" in listed["resnet18-csn"]
    assert "zhao2018modulation" in mtlbench("list", "backbones", "--bibtex").out


def test_settings_are_listed_with_default_valid_values_and_meaning(mtlbench: Any) -> None:
    listed = rows(mtlbench("list", "settings"))
    assert "(must be set)" in listed["data.reader"]
    assert " 1000 " in listed["train.steps"]
    assert " 0.9 " in listed["train.momentum"]
    assert "constant, one-cycle, cosine, linear, step, exponential" in listed["train.schedule"]
    assert "How the learning rate changes over the run." in listed["train.schedule"]
    assert {"title", "data.csv.path", "embedding.distance", "evaluation.ks"} <= set(listed)


def test_benchmarks_are_listed_with_tasks_backbone_and_steps(mtlbench: Any) -> None:
    listed = rows(mtlbench("list", "benchmarks"))
    assert list(listed) == ["celeba", "faces", "shoes", "zappos"]
    assert listed["celeba"].split()[-2:] == ["paper[start=truncated]", "361,700"]
    assert "category, closure, gender, heel" in listed["zappos"]


def test_a_plug_in_is_listed_and_a_broken_one_is_a_warning_on_stderr(mtlbench: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    (tmp_path / "broken.py").write_text("\nimport there_is_no_such_module\n")
    ended = mtlbench("list", "methods", "--plugins", tmp_path)
    listed = rows(ended)
    assert "A method of my own." in listed["mine"]
    assert f"{tmp_path.name}/mine.py:4" in listed["mine"]
    assert "shared" in listed
    assert ended.err == (
        f"warning: plug-in {tmp_path / 'broken.py'} left out: ModuleNotFoundError: No module named"
        f" 'there_is_no_such_module' ({tmp_path / 'broken.py'}:2)\n"
    )


def test_a_plug_in_that_is_not_there_is_an_error(mtlbench: Any, tmp_path: Path) -> None:
    assert mtlbench("list", "methods", "--plugins", tmp_path / "no.py").error == (
        f"--plugins {tmp_path / 'no.py'}: there is no such file or folder."
    )


@pytest.mark.slow
def test_a_listing_whose_reader_leaves_early_is_no_traceback() -> None:
    pipe = subprocess.Popen(
        [sys.executable, "-c", "from mtlbench.cli import main; main()", "list", "benchmarks"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert pipe.stdout is not None
    assert pipe.stderr is not None
    pipe.stdout.close()
    assert b"Traceback" not in pipe.stderr.read()
    pipe.stderr.close()
    assert pipe.wait() == 1


# --- report -----------------------------------------------------------------------------------------------------------


def record(results: Path, benchmark: str) -> None:
    folder = results / benchmark / "shared" / "seed-0"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")


def test_a_report_without_records_says_how_to_make_some(mtlbench: Any, tmp_path: Path) -> None:
    said = mtlbench("report", "--results", tmp_path / "nowhere").error
    assert said == f"No run records of any benchmark in {tmp_path / 'nowhere'}. Make some with mtlbench run."
    assert mtlbench("report", "celeba", "--results", tmp_path).error.startswith("No run records of celeba in")


def test_a_report_of_a_benchmark_without_records_names_those_that_have_some(mtlbench: Any, tmp_path: Path) -> None:
    record(tmp_path, "celeba-quick")
    record(tmp_path, "shoes")
    said = mtlbench("report", "celeba", "--results", tmp_path).error
    assert said == (f"No run records of celeba in {tmp_path}. Did you mean: celeba-quick? There: celeba-quick, shoes.")


def test_a_report_of_a_path_is_told_how_to_give_the_folder(mtlbench: Any, tmp_path: Path) -> None:
    record(tmp_path, "celeba")
    said = mtlbench("report", tmp_path / "celeba").error
    assert f"mtlbench report celeba --results {tmp_path}" in said


def test_a_record_that_can_not_be_read_is_named(mtlbench: Any, tmp_path: Path) -> None:
    record(tmp_path, "celeba")
    ended = mtlbench("report", "celeba", "--results", tmp_path)
    assert ended.code == 2
    named = tmp_path / "celeba" / "shared" / "seed-0" / "run.json"
    assert ended.err.startswith(f"warning: left out: {named} is not a run record (")


def test_the_command_that_a_report_suggests_asks_for_the_same_table(mtlbench: Any, tmp_path: Path) -> None:
    for method, share in (("independent", 0.9), ("shared", 0.7)):
        for seed in (0, 1):
            written(tmp_path, method, seed, share)
    given = (
        f"--results {tmp_path} --recipes plain --metric macro/map@r --sort worst --tasks colour,heel_height"
        " --methods 'shared,indep*' --against shared --at-seconds 50 --across train.lr"
    )
    ended = mtlbench("report", "made-up", *shlex.split(given))
    assert ended.code == 0, ended
    suggested = [line.partition(": ")[2] for line in ended.out.splitlines() if ": mtlbench report" in line]
    assert suggested == [f"mtlbench report made-up {given} --notes", f"mtlbench report made-up {given} --html page"]
    plain = mtlbench("report", "made-up", "--results", tmp_path).out
    assert f"Next, a page of all this: mtlbench report made-up --results {tmp_path} --html page" in plain


@pytest.mark.parametrize("command", ["run", "tune"])
def test_help_shows_the_brackets_of_a_method(command: str, mtlbench: Any) -> None:
    assert "film[after=3]+pcgrad" in mtlbench(command, "--help").out


def test_the_front_page_makes_mtlbench_a_command_before_it_uses_it_and_tells_of_the_small_torch() -> None:
    for page in ("README.md", "docs/start.md"):
        text = (Path(__file__).parents[2] / page).read_text()
        first = re.search(r"^mtlbench (run|report) ", text, re.MULTILINE)
        assert first is not None
        before = text[: first.start()]
        assert ". .venv/bin/activate" in before, page
        assert "--index-url https://download.pytorch.org/whl/cpu   # only without a GPU" in before, page


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def test_no_help_is_cut_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    every = list(commands(typer.main.get_command(app)))
    assert ("runs", "diff") in every
    for words in every:
        text = CliRunner().invoke(app, [*words, "--help"]).output
        assert not re.search(r"[^ ,(]…", text), words  # rich cuts a word that its column can't hold
        assert max(map(len, text.splitlines())) <= 80
        assert not re.search(r"<[^<>]*\|[^<>]*$", text, re.MULTILINE), words  # choices that go on in another line


@pytest.mark.parametrize(
    ("words", "last", "offered"),
    [
        ("mtlbench run --dataset sh", 3, "shoes"),
        ("mtlbench list tr", 2, "trackers"),
        (f"mtlbench report --results {PUBLISHED} zap", 4, "zappos-8k-quick"),
        ("mtlbench runs ", 2, "diff"),
    ],
)
def test_the_shell_completes_commands_benchmarks_and_kinds(words: str, last: int, offered: str) -> None:
    asked = {"_MTLBENCH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(last)}
    ended = subprocess.run(
        [sys.executable, "-m", "mtlbench"], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert offered in ended.stdout.split(), ended.stderr

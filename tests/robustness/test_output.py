"""What is written: no text of a user's is markup, and no encoding of the terminal ends a command."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from figure_records import curve, put, record
from report_records import record as made_up
from report_records import shown
from rich.console import Console
from support import run_command

from mtlbench import results as read_results
from mtlbench.cli.progress import bar, say, status
from mtlbench.report.grids import in_csv, in_latex, in_markdown
from mtlbench.report.summary import summarise
from mtlbench.report.tables import as_frame, as_markup

HOSTILE = ("size [/cm]", "[red]height[/red] [cm]", "$\\foo$", "a_b^c", "=cmd|'/c calc'!A1", "<b>&amp;", "`x` ~~y~~ $z$")


@pytest.mark.parametrize("words", HOSTILE)
def test_progress_on_a_terminal_shows_texts_as_they_are(words: str) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200, color_system=None)
    say(console, words)
    with status(console, words):
        pass
    with bar(console, words) as progress:
        progress(1, 2)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count(words) >= 3, text
    console = Console(file=io.StringIO(), width=200)
    with bar(console, words) as progress:
        progress(1, 2)
    assert words in console.file.getvalue()  # type: ignore[attr-defined]


def test_data_check_shows_a_task_with_brackets(tmp_path: Path) -> None:
    from PIL import Image

    rows = ["path,size [/cm]"]
    for n in range(40):
        Image.new("RGB", (8, 8), (6 * n, 9 * (n % 2), 3)).save(tmp_path / f"{n}.png")
        rows.append(f"{n}.png,[{'big' if n % 2 else '/small'}]")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "mine.toml").write_text('[data]\nreader = "csv"\n')
    ended = run_command("data", "check", tmp_path / "mine.toml", "--tasks", "size [/cm]")
    assert ended.code == 0, ended
    for words in ("size [/cm]", "[/small]", "[big]"):
        assert words in ended.out


def test_tables_of_every_format_hold_names_as_they_are() -> None:
    tasks = ["size [/cm]", "$\\foo$"]
    made = made_up("one", metrics={t: {"triplet": 0.5} for t in tasks})
    made.setup["tasks"] = tasks
    made.setup["benchmark"]["title"] = "[bold]Mine"
    table = shown([made])
    assert "[/cm]" in table
    assert "[bold]Mine" in table
    (summary,) = summarise([made])
    assert "size \\[/cm\\]" in as_markup(summary, "md")
    latex = as_markup(summary, "latex")
    assert "{[}/cm]" in latex
    assert r"\$\textbackslash{}foo\$" in latex
    assert not [line for line in latex.splitlines() if line.lstrip().startswith("[")]
    assert r"\\ [" not in latex  # LaTeX would read a length
    assert "task/size [/cm]" in as_frame([summary])


@pytest.mark.parametrize(
    ("text", "markdown", "latex"),
    [
        ("`a` ~~b~~ $c$", r"\`a\` \~~b\~~ \$c\$", r"`a` \textasciitilde{}\textasciitilde{}b"),
        ("a\nb\n\nc", "a b c", "a b c"),
        ("&lt;b&gt; & c", "&amp;lt;b&amp;gt; & c", r"\&lt;b\&gt; \& c"),
        ("*x* [y]", r"\*x\* \[y\]", "{*}x{*} {[}y]"),
    ],
)
def test_signs_of_markup_are_written_out(text: str, markdown: str, latex: str) -> None:
    assert in_markdown(text) == markdown
    assert in_latex(text).startswith(latex)


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-cmd", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_csv_is_a_formula(text: str) -> None:
    assert in_csv(text) == f"'{text}"
    if text[0] == "\r":  # a record has none: see `printable`
        return
    failed = made_up("one", status="failed", reason=text, metrics={})
    rows = list(csv.DictReader(io.StringIO(shown([failed], style="runs"))))
    assert rows[0]["reason"] == f"'{text}"


def test_numbers_of_csv_stay_numbers() -> None:
    assert [in_csv(value) for value in ("-0.5", "+1,234.0", "1e-3", -2.5, None, "plain")] == [
        "-0.5", "+1,234.0", "1e-3", -2.5, None, "plain",
    ]  # fmt: skip


def test_figures_on_a_users_own_axes_take_no_name_for_a_formula(tmp_path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    tasks = (r"$\foo$ [cm]", "a_b^c $x$", "100 %")
    for method in ("shared", "single"):
        put(tmp_path, record(method, tasks=tasks), curve=curve(0.5))
    plot = read_results(tmp_path).plot
    figure, axes = pyplot.subplots()
    plot.heatmap(axes)
    figure.savefig(tmp_path / "a.png")
    assert [label.get_text() for label in axes.get_xticklabels()][1:] == [t.replace("_", " ") for t in tasks]
    assert not any(label.get_parse_math() for label in axes.get_xticklabels())
    pyplot.close(figure)


EVERYWHERE = "../../es [/cm] $\\foo$ <b>&amp;"


def _hostile(folder: Path) -> Path:
    """Results of which every text that a record may choose is hostile: names, title, groups, settings, origin."""
    from page_records import put as write

    tasks = (f"{EVERYWHERE} 1", f"{EVERYWHERE} 2")
    for method in ("shared", f"{EVERYWHERE}+x"):
        for seed in (0, 1):
            write(folder, method, seed, tasks=tasks, title=EVERYWHERE)
    write(folder, "failed", tasks=tasks, title=EVERYWHERE, status="failed", reason=EVERYWHERE)
    for file in folder.rglob("run.json"):
        content = json.loads(file.read_text())
        content["receipt"] |= dict.fromkeys(("device", "precision", "mtlbench", "torch", "commit"), EVERYWHERE)
        content["receipt"]["groups"] = ["core", EVERYWHERE]
        content["receipt"]["data"] |= {"name": EVERYWHERE, "split": EVERYWHERE}
        benchmark = content["setup"]["benchmark"]
        benchmark["train"] |= dict.fromkeys(("sampling", "optimiser", "schedule"), EVERYWHERE)
        benchmark["model"]["backbone"] = EVERYWHERE
        for values in content["metrics"].values():
            values[f"macro/{EVERYWHERE}"] = 0.5
        file.write_text(json.dumps(content))
    return folder


@pytest.mark.slow
def test_no_text_of_a_record_leads_a_file_away_or_is_lost_in_any_form(tmp_path: Path) -> None:
    results, out = _hostile(tmp_path / "in" / "results"), tmp_path / "in" / "out"
    before = set(tmp_path.rglob("*"))
    words = ("report", "--results", results)
    forms = {form: run_command(*words, "--format", form) for form in ("csv", "md", "latex", "runs")}
    ended = run_command(*words, "--notes", "--html", out / "page", "--figures", out / "figures")
    for one in (*forms.values(), ended):
        assert one.code == 0, one
        assert "left out" not in one.err, one
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert any(path.suffix == ".html" for path in made)
    assert any(path.is_relative_to(out / "figures") for path in made)
    for path in made:
        assert path.is_relative_to(out), path
        assert all(re.fullmatch(r"[a-zA-Z0-9+_.-]+", part) for part in path.relative_to(out).parts), path
    tasks = [f"{EVERYWHERE} 1", f"{EVERYWHERE} 2"]
    for form in ("csv", "runs"):
        rows = list(csv.DictReader(io.StringIO(forms[form].out)))
        assert {row["method"] for row in rows} >= {"shared", f"{EVERYWHERE}+x"}
        assert any(task in column for task in tasks for column in rows[0])
    assert r"\$\textbackslash{}foo\$" in forms["latex"].out
    assert EVERYWHERE not in forms["latex"].out
    assert "<b>" not in forms["md"].out
    assert EVERYWHERE in " ".join(ended.out.split())
    (verdict,) = out.rglob("verdict.json")
    assert json.dumps(EVERYWHERE)[1:-1] in json.dumps(json.loads(verdict.read_text(encoding="utf-8")))


PUBLISHED = Path(__file__).parents[2] / "results" / "published"


CP1252 = {"PYTHONIOENCODING": "cp1252"}  # what a file gets on Windows
C = {"LC_ALL": "C"}
BARE_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # where Python doesn't help itself
SURROUNDINGS = pytest.mark.parametrize("surroundings", [CP1252, C, BARE_C], ids=["cp1252", "C", "bare C"])


def said_in(surroundings: dict[str, str], out: Path, *words: str | Path) -> str:
    """Run a command whose output goes to a file, as it is; it has to end well."""
    usual = {key: value for key, value in os.environ.items() if key not in BARE_C and key != "PYTHONIOENCODING"}
    with out.open("wb") as file:
        ended = subprocess.run(
            [sys.executable, "-m", "mtlbench", *map(str, words)], stdout=file, stderr=subprocess.PIPE,
            env=usual | surroundings, timeout=600,
        )  # fmt: skip
    said = out.read_bytes().decode("utf-8", "replace") + ended.stderr.decode("utf-8", "replace")
    assert "Traceback" not in said, said
    assert "Error" not in said, said
    assert ended.returncode == 0, said
    return said


def odd_images(folder: Path, first: str) -> Path:
    """Write a benchmark of whose texts many encodings hold none, with 48 images; return its file."""
    from PIL import Image

    folder.mkdir()
    rows = ["path,größe,色"]
    for i in range(48):
        name = first if i == 0 else f"{i}.png"
        Image.new("RGB", (16, 16), (5 * i, 200 * (i % 2), 90)).save(folder / name)
        rows.append(f"{name},{('groß', 'klein')[i % 2]},{('赤', '青')[i // 2 % 2]}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    settings = """name = "mine"
title = "Größe und 色"
[data]
reader = "csv"
image_size = 16
[model]
backbone = "small"
embedding = 8
[train]
steps = 4
triplets = 2
[evaluation]
every = 2
triplets = 50
"""
    (folder / "mine.toml").write_text(settings, encoding="utf-8")
    return folder / "mine.toml"


@pytest.mark.slow
@SURROUNDINGS
def test_what_reads_and_trains_ends_well_in_every_encoding(surroundings: dict[str, str], tmp_path: Path) -> None:
    mine = odd_images(tmp_path / "mine", "0.png" if surroundings is BARE_C else "日本 ü.png")
    out, results = tmp_path / "out.txt", tmp_path / "results"
    assert "Tasks that can be trained and tested: 2" in said_in(surroundings, out, "data", "check", mine)
    methods = ("--methods", "shared,modulation", "--results", results)
    assert "shared" in said_in(surroundings, out, "run", "--dataset", mine, *methods)
    assert "shared" in said_in(surroundings, out, "report", "--results", results, "--notes")
    said_in(surroundings, out, "report", "--results", results, "--html", tmp_path / "page")
    assert "größe" in (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    said_in(surroundings, out, "report", "--results", results, "--format", "csv")
    said_in(surroundings, out, "runs", "list", "--results", results)
    assert "keeps the contract" in said_in(surroundings, out, "check", "shared")


@pytest.mark.slow
@SURROUNDINGS
def test_list_ends_well_in_every_encoding(surroundings: dict[str, str], tmp_path: Path) -> None:
    assert "triplet" in said_in(surroundings, tmp_path / "out.txt", "list", "losses")


@SURROUNDINGS
def test_report_ends_well_in_every_encoding(surroundings: dict[str, str], tmp_path: Path) -> None:
    for seed in (0, 1):
        put(tmp_path / "results", record("shared", seed, (0.9, 0.7), tasks=("größe", "色")))
    said = said_in(surroundings, tmp_path / "out.txt", "report", "--results", tmp_path / "results", "--notes")
    assert "shared" in said
    assert "?" not in said.splitlines()[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["report", "shoes-quick", "--results", str(PUBLISHED)],
        ["report", "shoes-quick", "--results", str(PUBLISHED), "--format", "md"],
        ["report", "--columns"],
        ["list", "methods"],
        ["list", "settings"],
    ],
)
@SURROUNDINGS
def test_longer_tables_end_well_in_every_encoding(
    surroundings: dict[str, str], words: list[str], tmp_path: Path
) -> None:
    assert len(said_in(surroundings, tmp_path / "out.txt", *words)) > 200


def test_a_mark_never_turns_into_another_one() -> None:
    """Under cp1252 "≈", tied, must not come out as "?", undecided."""
    code = "from mtlbench.cli.output import fit_streams; fit_streams(); print('a ≈ b ? ± Δm ✓ ✗ 高 \\udc80')"
    surroundings = os.environ | {"PYTHONIOENCODING": "ascii"}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, env=surroundings, timeout=60, check=True)
    assert ended.stdout.decode().strip() == "a ~ b ? +- dm + x _ _"

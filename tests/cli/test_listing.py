"""`mtlbench list`: every kind, and listings that are kept in the cache."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import registries_restored
from typer.testing import CliRunner, Result

from mtlbench.benchmark import load_benchmark
from mtlbench.cli import app
from mtlbench.cli.kept import listing
from mtlbench.cli.listing import CHOICES, _empty, _methods
from mtlbench.errors import UserError
from mtlbench.registry import KINDS, Registry

PLUGIN = '''from mtlbench import Architecture, register_architecture


@register_architecture("mine", cite="@misc{mine2026,\\n  author = {Own, My},\\n  year = {2026},\\n}")
class Mine(Architecture):
    """A method of my own."""

    def __init__(self, backbones, tasks, *, depth: int = 3, after: tuple[int, ...] | None = None, open: bool = False):
        super().__init__(backbones, tasks)
        self.net = backbones.backbone()

    def forward(self, images):
        return self.net(images.flatten(0, 1)).unflatten(0, images.shape[:2])
'''


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["list", *words], catch_exceptions=False)


def filled(monkeypatch: pytest.MonkeyPatch, kind: str, home: str = "") -> Registry[Any]:
    registry: Registry[Any] = Registry(KINDS[kind].kind, home)
    monkeypatch.setitem(KINDS, kind, registry)
    return registry


class Thing:
    def __init__(
        self, context: object, *, margin: float = 0.2, rows: tuple[int, ...] = (3,), soft: bool = True
    ) -> None:
        pass


# --- kinds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("methods", "balancers")])
def test_any_kind_is_listed_with_options_summary_origin_and_families(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    registry = filled(monkeypatch, kind)
    registry.add("second", Thing, summary="A thing.", origin="/far/away/things.py:3")
    registry.add("first", lambda images, generator, *, share: images, summary="A function.", origin="x.py:1")
    registry.add("plain", object(), summary="Not even callable.")
    registry.add_family("pml", lambda name: Thing, summary="Anything of a library.", origin="/far/adapter.py:9")
    heading, *lines = run(kind).output.rstrip().splitlines()
    assert heading.split() == [registry.kind, "options", "what", "it", "is", "from"]
    assert [line.split()[0] for line in lines] == ["first", "plain", "second", "pml:<name>"]
    assert "  margin=0.2, rows=3:, soft=true  A thing. " in lines[2]
    assert lines[2].rstrip().endswith("  away/things.py:3")
    assert lines[0].split()[1:4] == ["share", "A", "function."]
    assert "Anything of a library." in lines[3]


def test_architectures_and_balancers_are_listed_with_their_options() -> None:
    (line,) = [line for line in run("architectures").output.splitlines() if line.startswith("cross-stitch ")]
    assert "same=0.9, rate=none" in line
    (line,) = [line for line in run("balancers").output.splitlines() if line.startswith("cagrad ")]
    assert "c=0.5, at=shared" in line


def test_a_kind_whose_home_is_not_there_has_none_and_one_that_breaks_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    filled(monkeypatch, "losses", "mtlbench.no_such_home")
    assert run("losses").output.split() == ["loss", "options", "what", "it", "is", "from"]
    (tmp_path / "mtl_home_a.py").write_text("import there_is_no_such_module\n")
    filled(monkeypatch, "losses", "mtl_home_a")
    (tmp_path / "new.txt").touch()
    with pytest.raises(UserError, match=r"mtl_home_a can't be imported: No module named 'there_is_no_such_module'"):
        listing("losses", "faces", [])


@pytest.mark.parametrize("kind", ["methods", "balancers", "losses", "benchmarks", "settings"])
@pytest.mark.parametrize("width", [60, 80, 160])
def test_a_listing_fits_its_terminal_with_whole_words(monkeypatch: pytest.MonkeyPatch, kind: str, width: int) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", run(kind).output)
    made = listing(kind, "shoes", [])
    assert "…" not in text.replace("…", "", "".join(map("".join, made.lines)).count("…"))
    for line in text.splitlines():
        assert line == line.rstrip()
        assert len(line) <= width
    words = set(text.split())
    for word in {word for line in made.lines for cell in line for word in cell.split()}:
        assert word in words or len(word) > width - 20, word


def test_methods_are_listed_with_the_share_of_parameters_that_their_balancer_acts_on() -> None:
    warnings: list[str] = []
    heads, lines = _methods("shoes", warnings)
    rows = {line[0]: dict(zip(heads, line, strict=True)) for line in lines}
    assert warnings == []
    assert rows["shared"]["balanced"] == ""  # no balancer is named with it
    assert rows["gradnorm"]["balanced"] == rows["famo"]["balanced"] == "100 %"  # they weigh losses
    net = _empty("shared", load_benchmark("shoes"))
    counts = [sum(p.numel() for p in some) for some in (net.shared_parameters(), net.parameters())]
    assert {rows[name]["balanced"] for name in ("pcgrad", "mgda")} == {f"{100 * counts[0] / counts[1]:.3g} %"}
    assert counts[0] < counts[1]


def test_a_word_that_is_no_kind_is_answered_with_all_there_are() -> None:
    done = run("foo")
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert all(kind in said for kind in CHOICES)


def test_citations_of_a_kind_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    assert "@misc{mine2026,\n" in run("architectures", "--bibtex", "--plugins", str(tmp_path)).output
    assert "mine2026" not in run("balancers", "--bibtex", "--plugins", str(tmp_path)).output
    assert run("losses", "--bibtex").output == "% without a source: triplet\n"


def test_citations_name_what_they_are_of_and_what_has_none_and_a_key_stands_once(tmp_path: Path) -> None:
    for name, year in (("first", "2026"), ("second", "2026"), ("third", "1999")):
        text = (
            PLUGIN.replace("mine", name)
            .replace(f"{name}2026", "mine2026")
            .replace("year = {2026}", f"year = {{{year}}}")
        )
        (tmp_path / f"{name}.py").write_text(text)
    done = run("methods", "--bibtex", "--plugins", str(tmp_path))
    assert done.output.count("@misc{mine2026,\n") == 1
    assert "\n% first, second, third\n@misc{mine2026,\n" in done.output
    assert "\n% without a source: " in done.output
    assert "mean" in done.output.splitlines()[-1]
    assert "mine2026 stands for two sources, of first (" in done.output
    assert "and of third (" in done.output


def test_an_architecture_that_cant_be_built_is_listed_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN.replace("self.net = backbones.backbone()", "self.net = nothing"))
    done = run("methods", "--plugins", str(tmp_path))
    assert done.exit_code == 0
    why = "NameError: name 'nothing' is not defined (architecture 'mine', mine.py:10)"
    assert f"warning: mine can't be built: {why}\n" in done.output
    assert "\nmine " in done.output


def test_settings_have_no_sources() -> None:
    with pytest.raises(UserError, match="list settings has no sources"):
        run("settings", "--bibtex")


# --- kept in the cache ------------------------------------------------------------------------------------------------


def in_a_process(*words: str) -> tuple[str, list[str]]:
    """Run `mtlbench list` in a process of its own; return what it printed, and which heavy modules it imported."""
    code = (
        "import sys, mtlbench.cli\ntry: mtlbench.cli.main()\nfinally:\n"
        " heavy = {'torch', 'torchvision', 'pandas', 'numpy', 'mtlbench.benchmark'}\n"
        " print(*sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "list", *words], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    return done.stdout, done.stderr.splitlines()[-1].split()


def here(*words: str) -> str:
    """Run `mtlbench list` in this process, as a new one would: with no plug-in of an earlier one."""
    with registries_restored():
        return run(*words).output


@pytest.mark.slow
def test_the_second_listing_is_the_same_and_imports_no_torch(cache: Path) -> None:
    first, heavy = in_a_process("methods")
    assert "torch" in heavy
    assert [file.name.split("-")[0] for file in (cache / "listings").iterdir()] == ["methods"]
    assert in_a_process("methods") == (first, [])


def test_benchmarks_are_kept_as_methods_are() -> None:
    first, heavy = in_a_process("benchmarks")
    assert heavy
    assert in_a_process("benchmarks") == (first, [])


def edited(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_an_edited_plug_in_changes_the_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # in one second, an edit of equal length passes for none
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    assert "depth=3, after=none, open=false" in here("architectures", "--plugins", str(file))
    edited(file, "depth: int = 3", "depth: int = 4")
    for _ in range(2):
        assert "depth=4" in here("architectures", "--plugins", str(file))
    assert "mine" not in here("architectures")


def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the kinds that were listed again since."""
    from mtlbench.cli import kept

    kinds: list[str] = []
    make = kept.make_listing
    monkeypatch.setattr(kept, "make_listing", lambda kind, *rest: kinds.append(kind) or make(kind, *rest))  # type: ignore[func-returns-value]
    return kinds


def test_what_a_listing_is_made_of_decides_whether_it_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kinds = made(monkeypatch)
    (tmp_path / "mine.py").write_text(PLUGIN)
    for _ in range(2):
        listing("balancers", "shoes", [tmp_path])
    assert len(kinds) == 1
    (tmp_path / "_helper.py").write_text("x = 1\n")  # which mine.py may import
    listing("balancers", "shoes", [tmp_path])
    assert len(kinds) == 2
    listing("balancers", "faces", [tmp_path])
    assert len(kinds) == 3
    monkeypatch.setenv("MTLBENCH_PLUGINS", str(tmp_path / "_helper.py"))
    listing("balancers", "faces", [tmp_path])
    assert len(kinds) == 4
    monkeypatch.syspath_prepend(tmp_path / "site")
    (tmp_path / "site" / "ecos-3.0.dist-info").mkdir(parents=True)  # a package is installed
    listing("balancers", "faces", [tmp_path])
    assert len(kinds) == 5


def test_a_broken_cache_is_no_obstacle(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    kinds = made(monkeypatch)
    expected = listing("balancers", "shoes", [])
    (file,) = (cache / "listings").iterdir()
    for text in ("", "{", "[]", '{"key": 3}', file.read_text().replace("headings", "heading"), "\udcff"):
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
        assert listing("balancers", "shoes", []) == expected
    assert len(kinds) == 7
    monkeypatch.setenv("MTLBENCH_CACHE", str(file))  # a file, where a folder can't be made
    assert listing("balancers", "shoes", []) == expected


def test_a_broken_plug_in_is_tried_again_each_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kinds = made(monkeypatch)
    (tmp_path / "broken.py").write_text("1 / 0\n")
    for _ in range(2):
        (warning,) = listing("balancers", "shoes", [tmp_path]).warnings
        assert "ZeroDivisionError" in warning
    assert len(kinds) == 2


def test_with_plug_ins_of_installed_packages_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "mtlplug-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mtlplug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mtlbench.plugins]\nmine = mtlplug_listed\n")
    (tmp_path / "mtlplug_listed.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    kinds = made(monkeypatch)
    for _ in range(2):
        assert "mine" in [line[0] for line in listing("architectures", "shoes", []).lines]
    assert len(kinds) == 2

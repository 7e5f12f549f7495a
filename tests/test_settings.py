"""The list of settings: every key is there, says what it is, and reads as the file does."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support import tool

from mtlbench.benchmark import benchmark_files, load_benchmark
from mtlbench.settings import Setting, section_meanings, settings

ROOT = Path(__file__).parent.parent


@pytest.fixture
def found() -> dict[str, Setting]:
    return {setting.key: setting for setting in settings()}


def test_every_setting_says_what_it_is(found: dict[str, Setting]) -> None:
    assert len(found) > 50
    for setting in found.values():
        assert setting.meaning.endswith("."), f"{setting.key} has no description in benchmark.py"
        assert setting.valid != "any value", setting.key
    assert all(meaning.endswith(".") for meaning in section_meanings().values())


def test_every_key_that_a_bundled_file_sets_is_listed(found: dict[str, Setting]) -> None:
    def keys(table: dict[str, object], prefix: str = "") -> set[str]:
        inner = [keys(v, f"{prefix}{k}.") if isinstance(v, dict) else {prefix + k} for k, v in table.items()]
        return set().union(*inner)

    free = ("loss.", "data.options.", "train.optimiser_options.", "data.ordered.", "search.", "recipes.")
    for file in benchmark_files().values():
        table = tomllib.loads(file.read_text())
        for part in (table.pop("quick"), table):
            assert {key for key in keys(part) if not key.startswith(free)} <= set(found), file


def test_defaults_are_what_they_are_said_to_be(found: dict[str, Setting]) -> None:
    plain = load_benchmark("shoes")
    for setting in found.values():
        parent = setting.key.rpartition(".")[0]
        if setting.default in ("", "null") or parent in ("data.csv", "data.rendered"):
            continue
        value = tomllib.loads(f"value = {setting.default}")["value"]
        written = setting.default if not isinstance(value, str) else value
        load_benchmark("shoes", settings=[f"{setting.key}={written}"])  # a default is a valid value
    assert found["train.momentum"].default == "0.9"
    assert found["embedding.normalise"].default == "true"
    assert found["loss.name"].default == '"triplet"'
    assert found["train.steps"].default == "1000"
    assert found["data.reader"].default == ""
    assert plain.train.steps


@pytest.mark.parametrize(
    ("key", "valid"),
    [
        ("train.lr", "a number above 0"),
        ("train.momentum", "a number of at least 0 and below 1"),
        ("train.steps", "a whole number above 0"),
        ("train.milestones", "a list; each: a number of at least 0 and at most 1"),
        ("train.flip", "true, false"),
        ("train.anchors", "positive, balanced"),
        ("data.image_size", " or a list of 2; each: ".join(["a whole number above 0 and at most 10,000"] * 2)),
        ("data.ordered", "a table of keys; each: a list; each: text"),
        ("data.options", "a table"),
        ("data.rendered.conflict", "a number of at least 0 and at most 1"),
        ("title", "text"),
    ],
)
def test_valid_values_are_in_words(found: dict[str, Setting], key: str, valid: str) -> None:
    assert found[key].valid == valid


def test_they_are_listed_without_torch() -> None:
    code = "import sys, mtlbench.settings as s; s.settings(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_page_of_settings_is_what_its_tool_makes() -> None:
    said = "docs/settings.md is old: run python tools/settings_page.py"
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == tool("settings_page").page(), said


def test_the_page_names_every_setting(found: dict[str, Setting]) -> None:
    page = tool("settings_page").page()
    assert all(f"| `{key}` |" in page for key in found)
    assert all(f"## [{name}]" in page for name in section_meanings() if name)

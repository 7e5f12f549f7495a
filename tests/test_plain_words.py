"""Texts that users read are written subject first: turns of phrase that were hard to read don't come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
HARD = re.compile(
    r"\b(?:images?|files?|records?|folders?|sets?|packs?|values?|it|they|that|which) lies? (?:in|under|at|beside)\b"
    r"|\blies? in several\b|None of those|test questions?|says the rest|all of it to be|comes only to those"
    r"|fell to a point|left to others|taken for unlabelled|takes? (?:values|cells) [^.]* for unlabelled"
    r"|The file of shared|proves it against|host refuses often|modulation paper itself are not at hand"
    r"|variance as of|that says on what"
)


def texts() -> Iterator[tuple[Path, str]]:
    for path in (*ROOT.glob("mtlbench/**/*.py"), *ROOT.glob("methods/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield path, node.value
    pages = (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("mtlbench/**/*.html"))
    for path in pages:
        if path.name != "CHANGELOG.md":
            yield path, path.read_text(encoding="utf-8")


def test_no_hard_turn_of_phrase_is_left() -> None:
    found = [(path.name, hit[0]) for path, text in texts() if (hit := HARD.search(" ".join(text.split())))]
    assert found == []


def test_hard_turns_of_phrase_are_found() -> None:
    for words in ("images that lie in no folder", "2 values of identity lie in several splits", "the test questions"):
        assert HARD.search(words)

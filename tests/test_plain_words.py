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
    r"|variance as of|that says on what|as published records do"
    r"|tak(?:es?|en) for granted|are another matter|as (?:it|they) came out|wants? more seeds|by a hair"
    r"|they play no part|(?:saved|drawn|made|packed|copy it) anew"
    r"|goes on (?:from (?:here|there|step)|as it would)|gone on\b"
    r"|give (?:the|this) (?:same )?command again|put them right|surely (?:worse|faster|below)"
    r"|runs as it stands|must be there\.|never to be taken for|to be seen on them|in which alone"
    r"|no (?:share:|state dict that|regular expression:|UTF-8 text|JSON object)|(?:can't|could not) be had whole"
    r"|has nothing to slow down|would act on nothing|label an image, and"
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
    for words in (
        "images that lie in no folder", "2 values of identity lie in several splits", "the test questions",
        "What is taken for granted here", "The same command goes on from here", "give the command again",
        "this file runs as it stands", "line 3 is no JSON object", "surely worse than the base",
    ):  # fmt: skip
        assert HARD.search(words), words

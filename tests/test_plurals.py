"""What is said to users counts as English does: "1 image", "2 images", "an architecture"."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtlbench.errors import a, counted

ENGINE = Path(__file__).parents[1] / "mtlbench"
NOUNS = (
    "images", "tasks", "methods", "runs", "steps", "trials", "seeds", "values", "cells", "pairs", "triplets", "queries",
    "columns", "rows", "lines", "records", "files", "groups", "labels", "items", "members", "stages", "channels",
    "numbers", "folders", "batches", "splits", "networks", "tensors", "cosines", "thumbnails", "others", "words",
    "fields", "options",
)  # fmt: skip
_KINDS = "other|more|different|training|validation|test|labelled|unlabelled|unreadable|rendered|random"
_COUNTED = re.compile(rf"^ (?:(?:{_KINDS}) )?({'|'.join(NOUNS)})\b")
_ARTICLE = re.compile(r"(?:^|[\s(])([Aa]n?) $")
# what is never one, or no number at all, by the file and the expression
MANY = {
    ("checks/balancer.py", "sum((p.requires_grad for p in net.parameters()))"),  # of the network's parts
    ("cli/data.py", "name"),  # "no test images"
    ("cli/data.py", "seen.contradictions"),  # an image and its copy
    ("cli/export.py", "'random' if found.random else 'test'"),
    ("cli/planned.py", "data.facts['test_images']"),  # the last of three numbers
    ("cli/trials.py", "self.total"),  # "1 of 1 trials": of all of them
    ("data/dataset.py", "split"),
    ("data/table.py", "split"),
    ("data/table.py", "', '.join(values)"),
    ("datasets/celeba.py", "min(most or len(names), len(names))"),
    ("datasets/celeba.py", "width - 1"),
    ("datasets/contract.py", "number"),
    ("datasets/hub.py", "kind"),
    ("report/agreement.py", "images * number"),  # three a triplet
    ("report/agreement.py", "images"),
    ("report/page.py", "done"),
    ("cli/tune.py", "data.facts['val_images']"),
    ("data/download/unpack.py", "len(infos)"),  # more than the most
    ("datasets/csn_lists.py", "len(rows)"),
    ("report/agreement.py", "len(wanted)"),  # a table of them
    ("report/comparison.py", "self.methods"),  # compared with each other
    ("report/pairs.py", "compared.methods"),
    ("report/figures/accuracy.py", "len(shown)"),
    ("report/figures/learned.py", "v.shape[1]"),
    ("report/figures/storage.py", "most"),
    ("report/gallery.py", "askable"),  # each with another of its label
    ("report/page.py", "every"),  # more than are shown
    ("report/page.py", "len(images)"),
    ("report/receipt.py", "len(suite.tasks)"),  # more than are shown
    ("report/receipt.py", "data['test_queries']"),
    ("report/verdict.py", "triplet_count(suite, [r for r in suite.records if r.method in shown])"),
    ("checks/balancer.py", "len(NAMES)"),
    ("tuning/outcome.py", "len(gains)"),  # one method is a sentence of its own
}
CONSONANTS = {  # what always begins with one
    ("settings.py", "'whole ' if annotation is int else ''"),
    ("report/verdict.py", "measure"),
    ("cli/new.py", "chosen"),  # in quotes
}


def texts() -> Iterator[tuple[str, ast.JoinedStr, bool]]:
    """Yield every f-string of the engine with its file, and whether it is one of two that a condition chooses from."""
    for file in sorted(ENGINE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                at: ast.AST = node
                while at in above and not isinstance(at, ast.stmt | ast.IfExp):
                    at = above[at]
                yield file.relative_to(ENGINE).as_posix(), node, isinstance(at, ast.IfExp)


def around(node: ast.JoinedStr) -> Iterator[tuple[str, ast.FormattedValue, str]]:
    """Yield each value of an f-string with the text before and after it."""
    plain = [part.value if isinstance(part, ast.Constant) else "" for part in node.values]
    for i, part in enumerate(node.values):
        if isinstance(part, ast.FormattedValue):
            before = plain[i - 1] if i else ""
            yield str(before), part, str(plain[i + 1]) if i + 1 < len(plain) else ""


def faults(where: str, node: ast.JoinedStr, chosen: bool) -> list[str]:
    """Return what of an f-string may read "1 images" or "a architecture"."""
    found = []
    for before, part, after in around(node):
        value = ast.unparse(part.value)
        noun = _COUNTED.match(after)
        total = before.endswith(" of ")  # "1 of 1 runs": of all of them
        decimals = part.format_spec is not None and re.search(r"\.\d", ast.unparse(part.format_spec))
        fixed = value.strip("_").isupper() or chosen or total or decimals or (where, value) in MANY
        if noun and not fixed and not before.endswith(("×", " / ")):
            found.append(f"{where}:{part.lineno}: {{{value}}} {noun[1]}: say it with errors.counted")
        if _ARTICLE.search(before) and (where, value) not in CONSONANTS:
            found.append(f"{where}:{part.lineno}: '{before[-12:]}{{{value}}}': say it with errors.a")
    return found


def test_every_number_goes_with_its_noun_and_every_name_with_its_article() -> None:
    assert [fault for one in texts() for fault in faults(*one)] == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('f"{n} images"', True),
        ('f"{n:,} test images are left out"', True),
        ('f"has {len(x)} columns"', True),
        ('f"{n:,} images" if n > 1 else "1 image"', False),
        ("f\"{counted(n, 'image')}\"", False),
        ('f"{n} of {len(x)} images"', False),
        ('f"{_LEAST} images"', False),
        ('f"{n:.1f} points of images"', False),
        ('f"is a {kind}"', True),
        ('f"an {kind}"', True),
        ('f"{a(kind)}"', False),
    ],
)
def test_the_walk_finds_what_it_should(text: str, wrong: bool) -> None:
    tree = ast.parse(text, mode="eval").body
    node = tree if isinstance(tree, ast.JoinedStr) else tree.body if isinstance(tree, ast.IfExp) else None
    assert isinstance(node, ast.JoinedStr)
    assert bool(faults("any.py", node, isinstance(tree, ast.IfExp))) is wrong


def test_the_helpers() -> None:
    assert [counted(n, "image") for n in (0, 1, 2, 1234)] == ["0 images", "1 image", "2 images", "1,234 images"]
    assert [a(word) for word in ("loss", "architecture", "Executor", "hub", "user")] == [
        "a loss", "an architecture", "an Executor", "a hub", "a user",
    ]  # fmt: skip

"""The front page: short, its links lead somewhere, its commands are ones, its terminal is as wide as it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from mtlbench.cli import app

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("mtlbench ")]
COMMANDS += re.findall(r"`(mtlbench list [^`]+)`", TEXT)


def test_it_is_a_front_page():
    assert TEXT.count("\n") <= 130


def test_every_file_that_it_names_is_there():
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(links) > 15
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_are_understood(line):
    group = typer.main.get_command(app)
    words = shlex.split(line, comments=True)[1:]
    with group.make_context("mtlbench", words, resilient_parsing=True) as context:
        name, command, rest = group.resolve_command(context, words)
        assert command is not None
        command.make_context(name, rest, parent=context).close()


def test_the_comparison_is_what_a_terminal_of_160_columns_shows():
    table = next(block for block in BLOCKS if block.startswith("Rendered shoes"))
    lines = table.splitlines()
    assert max(map(len, lines)) <= 160
    for name in ("independent", "shared", "cross-stitch", "gradnorm", "modulation"):
        rows = [line for line in lines if line.startswith(f"{name} · tuned ") and len(re.findall(r"\d", line)) > 15]
        assert len(rows) >= 2, name  # accuracy and cost, each on one line
    # method · tuned mean worst Δm and the tasks
    accuracy = [re.sub(r" COLLAPSED| \(default won\)", "", line).split() for line in lines[3:8]]
    for row in accuracy:
        mean, tasks = float(row[3]), [float(cell) for cell in row[6:10]]
        assert mean == pytest.approx(sum(tasks) / 4, abs=0.1)
        assert float(row[4]) == min(tasks)

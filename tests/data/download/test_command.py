"""`mtlbench data get`: the terms, the question, the bar."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from support_download import LABELS, WHOLE, Fault, Host, contents
from typer.testing import CliRunner

from mtlbench.cli import get as cli
from mtlbench.data.download.get import download
from mtlbench.data.download.source import Source
from mtlbench.datasets.zappos import Zappos
from mtlbench.errors import UserError


@pytest.fixture
def command(host: Host, source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run `get zappos --data-dir FOLDER ...`, with the data set's source on the local host."""
    monkeypatch.setattr(Zappos, "source", staticmethod(lambda: source))
    app = typer.Typer()
    app.command()(cli.get)

    def call(*options: str, terminal: bool = False, answer: str = "") -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(cli, "_asks", lambda: terminal)
            return CliRunner().invoke(app, ["zappos", "--data-dir", str(folder), *options], input=answer)

    return call


def test_the_terms_are_stated_and_agreed_to_with_an_option(command: Callable[..., Any], folder: Path) -> None:
    ended = command("--accept-licence")
    assert ended.exit_code == 0, ended.output
    lines = ended.output.splitlines()
    assert lines[0] == "Photos: for looking at only."
    assert lines[1] == f"To download to {folder}: labels.txt, photos.zip, about 50.5 kB."
    assert "downloading labels.txt: 30.0 kB" in lines
    assert lines[-1] == f"Photos is in {folder}. To look it over: mtlbench data check {folder}"
    assert contents(folder) == WHOLE


def test_without_a_terminal_the_option_is_named(command: Callable[..., Any], host: Host, folder: Path) -> None:
    ended = command()
    assert isinstance(ended.exception, UserError)
    assert "--accept-licence" in str(ended.exception)
    assert "for looking at only" in ended.output
    assert host.asked == []
    assert not folder.exists()


def test_with_stdin_closed_nobody_is_there_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stdin in (None, closed):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert cli._asks() is False


def test_on_a_terminal_yes_downloads_and_no_does_not(command: Callable[..., Any], host: Host, folder: Path) -> None:
    ended = command(terminal=True, answer="n\n")
    assert ended.exit_code == 2
    assert ended.output.endswith("Nothing was downloaded.\n")
    assert host.asked == []
    assert not folder.exists()
    assert command(terminal=True, answer="y\n").exit_code == 0
    assert contents(folder) == WHOLE


def test_a_data_set_that_is_not_published_is_an_error_that_names_those_that_are() -> None:
    app = typer.Typer()
    app.command()(cli.get)
    ended = CliRunner().invoke(app, ["zapos"])
    assert isinstance(ended.exception, UserError)
    said = "There is no data set 'zapos' to download. Did you mean: zappos? Available: celeba, zappos."
    assert str(ended.exception) == said
    assert "Available: celeba, zappos." in str(CliRunner().invoke(app, ["csv"]).exception)


def test_nothing_is_asked_where_nothing_is_to_be_downloaded(
    command: Callable[..., Any], host: Host, folder: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / "labels.txt").write_bytes(LABELS)
    (folder / "photos.zip").write_bytes(host.files["photos.zip"])
    ended = command()
    assert ended.exit_code == 0, ended.output
    assert "for looking at only" not in ended.output
    assert "unpacking photos.zip: 20.0 kB" in ended.output
    assert contents(folder).keys() == {*WHOLE, "photos.zip"}


def test_the_bar_of_a_terminal_can_be_drawn(host: Host, source: Source, folder: Path) -> None:
    from rich.console import Console

    drawn = io.StringIO()
    host.faults["labels.txt"] = [Fault(chunked=True)]
    with cli._bytes_bar(Console(file=drawn, force_terminal=True, width=120)) as progress:
        download(source, folder, progress)
    assert contents(folder) == WHOLE
    assert "unpacking photos.zip" in drawn.getvalue()


def test_help_needs_no_torch() -> None:
    code = "import sys, mtlbench.cli.get, mtlbench.data.download.get; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=False).returncode == 0

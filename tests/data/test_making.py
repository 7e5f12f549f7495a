"""What is made on disk is made once: of several processes one works, the others wait and are told for whom."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support_pack import table_of, write_grey

from mtlbench.benchmark import Data, load_benchmark
from mtlbench.data.making import making
from mtlbench.data.pack import open_pack
from mtlbench.data.reading import read_table, rendered_folder
from mtlbench.data.table import Table
from mtlbench.errors import UserError
from mtlbench.rendered.shoes import render_shoes

WAIT = 60.0  # seconds, far more than needed: a failure, not a hang


def shoes(images: int = 12) -> Data:
    return load_benchmark("shoes", settings=[f'data.rendered={{what="shoes", images={images}}}']).data


def both(work: Callable[[Callable[[int, int], None], Callable[[str], None]], Any]) -> tuple[list[Any], list[str]]:
    """Let a thread work until a second one says that it waits; return what each made, and what the second was told."""
    working, told = threading.Event(), threading.Event()
    words: list[str] = []

    def pause(done: int, total: int) -> None:
        working.set()
        assert told.wait(WAIT)

    def hear(sentence: str) -> None:
        words.append(sentence)
        told.set()

    def refuse(*anything: Any) -> None:
        raise AssertionError("the second one has nothing to do, and the first one nobody to wait for")

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(work, pause, refuse)
        assert working.wait(WAIT)
        second = threads.submit(work, refuse, hear)
        return [first.result(WAIT), second.result(WAIT)], words


def test_a_rendered_set_is_drawn_by_one_and_waited_for_by_the_other() -> None:
    data = shoes()
    (one, other), words = both(lambda progress, tell: read_table(data, None, progress, tell))
    assert one.paths == other.paths
    assert data.rendered is not None
    assert words == [f"Waiting for process {os.getpid()}, which makes {rendered_folder(data.rendered)}."]


def test_a_pack_is_made_by_one_and_waited_for_by_the_other(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(6):
        write_grey(tmp_path / "images" / f"{i}.png", 10 * i)
    table = table_of(tmp_path / "images", [f"{i}.png" for i in range(6)])
    packs, words = both(lambda progress, tell: open_pack(table, (4, 4), "squash", progress, tell=tell))
    assert packs[0].fingerprint == packs[1].fingerprint
    assert len(words) == 1
    assert words[0].startswith(f"Waiting for process {os.getpid()}, which makes ")


@pytest.mark.slow
def test_processes_that_start_together_on_an_undrawn_set_all_get_it(tmp_path: Path) -> None:
    code = """
import sys
from mtlbench.benchmark import load_benchmark
from mtlbench.data.reading import read_table
settings = ['data.rendered={what="shoes", images=60}']
print(len(read_table(load_benchmark("shoes", settings=settings).data, None)))
"""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "MTLBENCH_DATA": str(tmp_path)}
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(4)
    ]
    for process in started:
        out, error = process.communicate(timeout=WAIT * 5)
        assert (process.returncode, out) == (0, "60\n"), error
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == ["rendered-shoes-60-seed0"]


@pytest.mark.slow
def test_commands_that_draw_one_set_into_one_folder_all_end_well_and_another_set_is_refused(tmp_path: Path) -> None:
    def render(*more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mtlbench", "data", "render", "shoes", str(tmp_path / "set"), "--images", "9"]
        return subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    with making(tmp_path / "set"):  # all of them wait, whichever is then the first
        started = [render() for _ in range(2)]
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("Waiting for process ")
    for process in started:
        out, error = process.communicate(timeout=WAIT * 5)
        assert process.returncode == 0, error
        assert "Train on them: mtlbench run --dataset shoes" in out
    assert len(list((tmp_path / "set").rglob("*.jpg"))) == 9
    for key, *words in (("seed 0 instead of 1", "--seed", "1"), ("width 96 instead of 48", "--size", "48x36")):
        with making(tmp_path / "set"):
            other = render(*words)
            assert other.stdout is not None
            assert other.stdout.readline().startswith("Waiting for process ")
        _, error = other.communicate(timeout=WAIT * 5)
        assert (other.returncode, key in " ".join(error.split())) == (2, True), error
    later = render()
    assert "is not empty" in later.communicate(timeout=WAIT * 5)[1]


def test_what_a_killed_process_left_half_drawn_is_cleared_away_and_nothing_else(tmp_path: Path) -> None:
    data = shoes()
    assert data.rendered is not None
    root = rendered_folder(data.rendered)
    left, others = root.with_name(f".{root.name}.abc_12de.partial"), root.with_name(f".{root.name}.5.abc_12de.partial")
    for folder in (left, others):
        (folder / "inside").mkdir(parents=True)
    assert len(read_table(data, None)) == 12
    assert not left.exists()
    assert others.exists(), "it may belong to another set that is being drawn"


def test_a_set_that_cannot_be_written_is_an_error_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MTLBENCH_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(UserError, match=r"can't be written: Not a directory\. Set MTLBENCH_DATA to a folder that can"):
        read_table(shoes(), None)


def test_a_folder_that_fills_while_its_images_are_drawn_is_an_error_and_kept(tmp_path: Path) -> None:
    root = tmp_path / "shoes"

    def meddle(done: int) -> None:
        root.mkdir()
        (root / "mine.txt").write_text("")

    with pytest.raises(UserError, match="was written to while its images were drawn: name another folder"):
        render_shoes(root, 3, width=16, height=16, progress=meddle)
    assert [path.name for path in tmp_path.rglob("*")] == ["shoes", "mine.txt"]


@pytest.mark.parametrize(
    ("note", "who"),
    [
        ({"pid": 7, "host": "elsewhere"}, "process 7 on elsewhere"),
        ({"pid": "x", "host": "elsewhere"}, "another process"),
        ({}, "another process"),
        ("{", "another process"),
    ],
)
def test_the_one_who_is_waited_for_is_named_as_far_as_is_known(tmp_path: Path, note: Any, who: str) -> None:
    thing, told = tmp_path / "thing", list[str]()

    def wait() -> None:
        with making(thing, lambda words: (told.append(words), heard.set())[0]):
            pass

    heard = threading.Event()
    with ThreadPoolExecutor(1) as threads, making(thing):
        (tmp_path / ".thing.maker.lock").write_text(note if isinstance(note, str) else json.dumps(note))
        waiting = threads.submit(wait)
        assert heard.wait(WAIT)
        assert not waiting.done()
    waiting.result(WAIT)
    assert told == [f"Waiting for {who}, which makes {thing}."]


def test_a_failure_leaves_the_lock_to_the_next(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), making(tmp_path / "thing"):
        raise RuntimeError
    with making(tmp_path / "thing", lambda words: pytest.fail(words)):
        assert (tmp_path / ".thing.maker.lock").exists()
    assert not (tmp_path / ".thing.maker.lock").exists()


def test_a_set_that_is_there_is_read_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    data = shoes()
    before = read_table(data, None)
    monkeypatch.setattr("mtlbench.data.reading.making", lambda *anything: pytest.fail("nothing is to be made"))
    after: Table = read_table(data, None)
    assert after.paths == before.paths

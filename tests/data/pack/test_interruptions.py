"""Packing that is interrupted, killed, out of room, shared by processes, or done by them."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_pack import (
    GREYS,
    Killed,
    break_image,
    decodes,
    everything,
    greys,
    noise,
    only_pack,
    smooth,
    table_of,
    write_grey,
)

from mtlbench.data import decoding
from mtlbench.data import pack as pack_module
from mtlbench.data.pack import open_pack
from mtlbench.data.table import Table
from mtlbench.errors import UserError


def test_an_interrupted_pack_is_continued(many: Table, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_pack(many, (4, 4), "squash", interrupt)
    seen, counts = decodes(monkeypatch), []
    pack = open_pack(many, (4, 4), "squash", lambda *done: counts.append(done))
    assert len(seen) == 16
    assert counts[-1] == (40, 40)
    assert greys(pack) == GREYS
    assert only_pack(cache)


def test_a_file_that_changed_since_the_interruption_is_decoded_again(many: Table) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_pack(many, (4, 4), "squash", interrupt)
    for i in range(40):
        write_grey(many.root / f"{i:02}.bmp", 250 - GREYS[i])
    assert greys(open_pack(many, (4, 4), "squash")) == [250 - grey for grey in GREYS]


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("broken", [False, True])
def test_wherever_the_process_dies_the_next_one_finishes_the_same_pack(
    many: Table, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bool, broken: bool
) -> None:
    if broken:
        break_image(many.root / "17.bmp")
    whole = open_pack(many, (4, 4), "squash", skip_unreadable=True)
    write, deaths = decoding.write_rows, 0
    for fatal in range(20):
        shutil.rmtree(cache)
        writes = 0

        def dying(file: Any, offset: int, data: Any, fatal: int = fatal) -> None:
            nonlocal writes
            writes += 1
            if writes > fatal:
                if torn:
                    write(file, offset, data[: len(data) // 2])
                raise Killed
            write(file, offset, data)

        with monkeypatch.context() as patch:
            patch.setattr(decoding, "write_rows", dying)
            try:
                open_pack(many, (4, 4), "squash", skip_unreadable=True)
            except Killed:
                deaths += 1
        pack = open_pack(many, (4, 4), "squash", skip_unreadable=True)
        assert np.array_equal(pack.images, whole.images)
        assert pack.fingerprint == whole.fingerprint
        assert only_pack(cache)
    assert deaths == (13 if broken else 10)  # two writes a chunk, and one for each that moves up


@pytest.mark.parametrize("step", ["rename", "unlink", "rmtree"])
def test_a_death_while_the_pack_is_put_in_place_loses_nothing(
    many: Table, cache: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    open_pack(many, (4, 4), "squash")
    write_grey(many.root / "03.bmp", 200)
    if step == "unlink":
        break_image(many.root / "17.bmp")
    place, name = (shutil, "rmtree") if step == "rmtree" else (Path, step)
    original = getattr(place, name)
    calls = 0

    def dying(path: Path, *rest: Any, **more: Any) -> Any:
        nonlocal calls
        calls += ".old" not in path.suffix or step == "rmtree"
        if calls == 2 or step == "unlink":
            raise Killed
        return original(path, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, dying)
        with pytest.raises(Killed):
            open_pack(many, (4, 4), "squash", skip_unreadable=True)
    found = greys(open_pack(many, (4, 4), "squash", skip_unreadable=True))
    wanted = [*GREYS[:3], 200, *GREYS[4:]]
    assert found == (wanted if step != "unlink" else [*wanted[:17], *wanted[18:]])


def test_a_journal_cut_anywhere_or_with_rubbish_is_believed_as_far_as_it_holds(
    many: Table, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_pack(many, (4, 4), "squash")
    folder = only_pack(cache)
    partial = folder.with_name(f"{folder.name}.partial")
    folder.rename(partial)
    (partial / "pack.json").unlink()
    shutil.move(partial, cache / "kept")
    journal = (cache / "kept" / "journal").read_bytes()
    assert journal.count(b"\n") == 6  # an empty line at the start
    ends = [i + 1 for i, letter in enumerate(journal) if letter == 10][1:]
    seen = decodes(monkeypatch)
    for text in (b"", journal[:3], journal[: ends[0]], journal[: ends[2] - 3], journal[: ends[3]] + b"\xffx 1\n99 1\n"):
        shutil.rmtree(cache / folder.name, ignore_errors=True)
        shutil.copytree(cache / "kept", partial)
        (partial / "journal").write_bytes(text)
        seen.clear()
        assert greys(open_pack(many, (4, 4), "squash")) == GREYS
        assert len(seen) == 40 - 8 * sum(text.startswith(journal[:end]) for end in ends)


@pytest.mark.parametrize("file", ["images", "files"])
def test_a_chunk_that_was_lost_after_its_journal_line_is_decoded_again(many: Table, cache: Path, file: str) -> None:
    # as when the power fails: the disk may keep the line and lose the pixels
    open_pack(many, (4, 4), "squash")
    folder = only_pack(cache)
    partial = folder.with_name(f"{folder.name}.partial")
    folder.rename(partial)
    content = (partial / file).read_bytes()
    (partial / file).write_bytes(content[:100] + bytes(len(content) // 2))
    assert greys(open_pack(many, (4, 4), "squash")) == GREYS


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells processes by /proc")
@pytest.mark.parametrize("by", ["threads", "processes"])
def test_after_a_kill_the_finished_chunks_are_used_and_no_process_is_left(
    many: Table,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    child: Callable[[str], subprocess.Popen[str]],
    by: str,
) -> None:
    killed = child(f"die {by}")
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert not [p for p in cache.iterdir() if p.is_dir() and p.suffix != ".partial"]
    decoders = (tmp_path / "decoders").read_text().split() if by == "processes" else []
    assert (len(decoders) > 1) == (by == "processes")
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in decoders):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    seen = decodes(monkeypatch)
    pack = open_pack(many, (4, 4), "squash")
    assert len(seen) == 16
    assert greys(pack) == GREYS
    assert only_pack(cache)


def test_of_two_processes_one_packs_and_the_other_waits_for_it(
    many: Table,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    child: Callable[[str], subprocess.Popen[str]],
) -> None:
    first = child("wait processes")
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "ready").exists():
            assert first.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        seen, counts, found = decodes(monkeypatch), [], []
        second = threading.Thread(
            target=lambda: found.append(open_pack(many, (4, 4), "squash", lambda *done: counts.append(done)))
        )
        second.start()
        second.join(0.5)
        assert second.is_alive()
        assert found == []
    finally:
        (tmp_path / "go").touch()
    printed, _ = first.communicate(timeout=120)
    second.join(60)
    assert (seen, counts) == ([], [])
    assert greys(found[0]) == GREYS
    assert found[0].fingerprint == printed.strip()
    assert only_pack(cache)


def test_a_cache_that_cant_be_written_is_an_error_with_the_remedy(
    images: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"can't be written: Not a directory\. Set MTLBENCH_CACHE"):
        open_pack(images, (8, 8), "squash")


def test_a_cache_without_permission_is_an_error_with_the_remedy(
    images: Table, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *rest: Any, **more: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=r"can't be written: Permission denied\. Set MTLBENCH_CACHE"):
        open_pack(images, (8, 8), "squash")


def test_a_pack_that_is_there_opens_where_nothing_can_be_written(many: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    open_pack(many, (4, 4), "squash")

    def refuse(*arguments: Any, **more: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(pack_module, "making", refuse)
    assert greys(open_pack(many, (4, 4), "squash")) == GREYS


def test_a_full_disk_is_told_before_anything_is_decoded(
    images: Table, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(images.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=4 * 8 * 8 * 3 - 1))
    seen = decodes(monkeypatch)
    with pytest.raises(UserError, match=r"The disk is full: .*doesn't fit\. Make room, or set MTLBENCH_CACHE"):
        open_pack(images, (8, 8), "squash")
    assert seen == []
    assert everything(cache) == []


@pytest.mark.parametrize("full_after", range(0, 10, 3))
def test_a_disk_that_fills_meanwhile_is_an_error_and_leaves_nothing(
    many: Table, cache: Path, monkeypatch: pytest.MonkeyPatch, full_after: int
) -> None:
    write, writes = decoding.write_rows, 0

    def filling(file: Any, offset: int, data: Any) -> None:
        nonlocal writes
        writes += 1
        if writes > full_after:
            write(file, offset, data[:1])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, offset, data)

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "write_rows", filling)
        with pytest.raises(UserError, match=r"The disk is full: .*Make room, or set MTLBENCH_CACHE"):
            open_pack(many, (4, 4), "squash")
    assert everything(cache) == []
    assert greys(open_pack(many, (4, 4), "squash")) == GREYS


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
@pytest.mark.parametrize("many_from", [0, 1000])
@pytest.mark.parametrize("file", ["images", "files"])
def test_a_really_full_disk_is_an_error_and_leaves_nothing(
    many: Table, cache: Path, monkeypatch: pytest.MonkeyPatch, many_from: int, file: str
) -> None:
    monkeypatch.setattr(pack_module, "_MANY", many_from)
    open_pack(many, (4, 4), "squash")
    folder = only_pack(cache)
    shutil.rmtree(folder)
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir()
    (partial / file).symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"The disk is full: .*Make room, or set MTLBENCH_CACHE"):
        open_pack(many, (4, 4), "squash")
    assert everything(cache) == []


def test_processes_make_the_same_pack_as_threads(
    many: Table, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ä ñ.png", "new\nline.png", "\udcff.png"):  # the last is what Python makes of a byte that is no UTF-8
        smooth(31, 23).save(many.root / name)
    (many.root / "cut.jpg").write_bytes(b"\xff\xd8")
    table = table_of(many.root, sorted(p.name for p in many.root.iterdir()))
    packs = {}
    for many_from in (0, 1000):
        monkeypatch.setattr(pack_module, "_MANY", many_from)
        monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / f"cache {many_from}"))
        started = [] if many_from else decodes(monkeypatch)
        counts: list[tuple[int, int]] = []
        packs[many_from] = open_pack(table, (8, 9), "crop", lambda *done, to=counts: to.append(done), True)
        assert counts[-1] == (44, 44)
        assert started == []  # nothing is decoded here
        monkeypatch.undo()
    assert np.array_equal(packs[0].images, packs[1000].images)
    assert packs[0].fingerprint == packs[1000].fingerprint
    assert packs[0].unreadable == packs[1000].unreadable == (("cut.jpg", "image file is truncated"),)
    assert packs[0].kept.tolist() == packs[1000].kept.tolist()


def test_a_process_that_fails_is_told_and_not_waited_for(
    many: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing.py").write_text("import sys; sys.stdin.readline(); sys.exit(7)")
    monkeypatch.setattr(pack_module, "_MANY", 0)
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "__file__", str(tmp_path / "failing.py"))
        with pytest.raises(RuntimeError, match="a process that decodes images ended with status 7"):
            open_pack(many, (4, 4), "squash")
    assert greys(open_pack(many, (4, 4), "squash")) == GREYS


@pytest.mark.parametrize(("images", "size", "processes"), [(2048, 4, True), (2047, 4, False), (2048, 700, False)])
def test_many_small_images_are_decoded_by_processes_and_others_by_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int, size: int, processes: bool
) -> None:
    noise(size, size).save(tmp_path / "0.bmp")
    started: list[object] = []

    def refuse(*arguments: Any, **more: Any) -> None:
        started.append(arguments)
        raise Killed

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(decoding, "read_image", lambda path, size, fit, file: np.zeros((*size, 3), np.uint8))
    with pytest.raises((Killed, UserError)):  # the latter as the records of the files lack their dates
        open_pack(table_of(tmp_path, ["0.bmp"] * images), (4, 4), "squash")
    assert bool(started) == processes

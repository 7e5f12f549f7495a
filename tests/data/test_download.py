"""Downloads against a host that drops, lies and refuses, and archives that mean harm; nothing leaves this machine."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import shutil
import stat
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mtlbench.cli import get as cli
from mtlbench.data.download import fetch as module
from mtlbench.data.download.get import download, missing
from mtlbench.data.download.source import File, Source
from mtlbench.datasets.celeba import CelebA, read_celeba
from mtlbench.datasets.contract import readers
from mtlbench.datasets.zappos import Zappos, read_zappos
from mtlbench.errors import UserError

PAGE = b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head></html>"


@dataclass
class Fault:
    """How one answer of the host departs from a good one."""

    status: int = 0
    page: bytes = b""
    kind: str = "application/octet-stream"
    drop_after: int | None = None  # bytes of the body before the connection is cut
    ignore_range: bool = False
    ignore_if_range: bool = False
    announce: int | None = None  # a Content-Length of its own
    chunked: bool = False
    location: str = ""
    silent: float = 0.0  # seconds without an answer
    headers: dict[str, str] = field(default_factory=dict)


class Host(ThreadingHTTPServer):
    """A web server whose next answers to a path can be spoilt; the last fault of a list stays."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.asked: list[tuple[str, str | None, str | None]] = []  # path, Range, If-Range

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that the other side closes are nothing to report."""

    def ranges(self, name: str) -> list[str | None]:
        return [span for path, span, _ in self.asked if path == f"/{name}"]


class Answer(BaseHTTPRequestHandler):
    server: Host

    def log_message(self, *words: Any) -> None:
        pass

    def do_GET(self) -> None:
        host, name = self.server, self.path.lstrip("/")
        host.asked.append((self.path, self.headers["Range"], self.headers["If-Range"]))
        faults = host.faults.get(name, [])
        fault = (faults.pop(0) if len(faults) > 1 else faults[0]) if faults else Fault()
        time.sleep(fault.silent)
        if fault.location:
            self.send_response(302)
            self.send_header("Location", fault.location)
            self.end_headers()
            return
        body, status, kind = host.files.get(name, b""), 200, fault.kind
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {"ETag": etag, "Last-Modified": "Tue, 01 Jan 2019 00:00:00 GMT", **fault.headers}
        if fault.page or fault.status or name not in host.files:
            status, body = fault.status or (200 if fault.page else 404), fault.page or PAGE
        else:
            span = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
            same = fault.ignore_if_range or self.headers["If-Range"] in (None, headers["ETag"])
            if span and same and not fault.ignore_range:
                headers["Content-Range"] = f"bytes {span[1]}-{len(body) - 1}/{len(body)}"
                status, body = 206, body[int(span[1]) :]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for key, value in headers.items():
            if value:
                self.send_header(key, value)
        if fault.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        elif fault.announce != -1:
            self.send_header("Content-Length", str(len(body) if fault.announce is None else fault.announce))
        self.end_headers()
        self.wfile.write(body[: fault.drop_after])
        self.close_connection = True


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Host()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def zipped(members: dict[str, bytes], packed: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", packed) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return content.getvalue()


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


IMAGES = {f"photos/a/{n}.jpg": noise(5000, n) for n in range(4)}
LABELS = b"label " * 5000


@pytest.fixture
def source(host: Host) -> Source:
    """A data set of one checksummed text file and one archive without a checksum, on the host."""
    host.files = {"labels.txt": LABELS, "photos.zip": zipped(IMAGES)}
    return Source(
        title="Photos",
        licence="Photos: for looking at only.",
        page="https://example.org/photos.html",
        files=(
            File("labels.txt", f"{host.address}labels.txt", len(LABELS), hashlib.md5(LABELS).hexdigest()),
            File(
                "photos.zip",
                f"{host.address}photos.zip",
                len(host.files["photos.zip"]),
                unpacks_to="photos",
                unpacked=40_000,
                members=20,
            ),
        ),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "photos-set"


class Naps:
    """Waits between tries: counted, not slept."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
def bring(source: Source, folder: Path, naps: Naps) -> Callable[..., list[str]]:
    """Download the data set; return what the user is told."""

    def call(source: Source = source, **options: Any) -> list[str]:
        told: list[str] = []
        download(source, folder, tell=told.append, **{"sleep": naps, "timeout": 5.0, **options})
        return told

    return call


def refusal(bring: Callable[..., list[str]], **options: Any) -> str:
    with pytest.raises(UserError) as stopped:
        bring(**options)
    words = str(stopped.value)
    assert "\n" not in words
    return words


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


WHOLE = {"labels.txt": LABELS, **IMAGES}

# --- a good host ------------------------------------------------------------------------------------------------------


def test_a_data_set_is_downloaded_and_unpacked_and_nothing_else_is_left(
    bring: Callable[..., list[str]], folder: Path
) -> None:
    told = bring()
    assert contents(folder) == WHOLE
    assert sorted(p.name for p in folder.iterdir()) == ["labels.txt", "photos"]
    assert told == [
        "labels.txt is downloaded.",
        "photos.zip is downloaded and unpacked; the archive is deleted.",
    ]


def test_a_second_run_asks_the_host_for_nothing(
    bring: Callable[..., list[str]], host: Host, source: Source, folder: Path
) -> None:
    assert [file.name for file in missing(source, folder)] == ["labels.txt", "photos.zip"]
    bring()
    asked = len(host.asked)
    assert missing(source, folder) == []
    assert bring() == ["labels.txt is already there.", "photos is already there."]
    assert len(host.asked) == asked


def test_progress_runs_from_nothing_to_the_whole_of_each_thing(bring: Callable[..., list[str]], host: Host) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    bring(progress=lambda done, total, what: seen.setdefault(what, []).append((done, total)))
    assert list(seen) == ["downloading labels.txt", "downloading photos.zip", "unpacking photos.zip"]
    for what, steps in seen.items():
        done = [d for d, _ in steps]
        assert done == sorted(done), what
        assert len({total for _, total in steps}) == 1, what
        assert steps[-1][0] == steps[-1][1], what
    assert seen["downloading photos.zip"][0] == (0, len(host.files["photos.zip"]))


def test_a_length_that_is_not_announced_is_no_hindrance(
    bring: Callable[..., list[str]], host: Host, folder: Path
) -> None:
    host.faults = {"labels.txt": [Fault(chunked=True)], "photos.zip": [Fault(announce=-1)]}
    bring()
    assert contents(folder) == WHOLE


def test_a_redirect_to_another_web_address_is_followed(
    bring: Callable[..., list[str]], host: Host, folder: Path
) -> None:
    host.files["elsewhere"] = LABELS
    host.faults["labels.txt"] = [Fault(location=f"{host.address}elsewhere")]
    bring()
    assert contents(folder) == WHOLE


# --- interruptions ----------------------------------------------------------------------------------------------------


def test_a_dropped_connection_is_gone_on_with_where_it_broke(
    bring: Callable[..., list[str]], host: Host, folder: Path, naps: Naps
) -> None:
    host.faults["photos.zip"] = [Fault(drop_after=7000), Fault()]
    told = bring()
    assert re.fullmatch(r"photos.zip: the connection ended after 7.0 kB of 20.\d kB; trying again in 1 s.", told[1])
    assert contents(folder) == WHOLE
    etag = f'"{hashlib.sha256(host.files["photos.zip"]).hexdigest()[:16]}"'
    assert host.asked[1:] == [("/photos.zip", None, None), ("/photos.zip", "bytes=7000-", etag)]
    assert naps.seconds == [1.0]


def test_any_number_of_drops_is_borne_as_long_as_each_try_brings_something(
    bring: Callable[..., list[str]], host: Host, folder: Path
) -> None:
    host.faults["photos.zip"] = [Fault(drop_after=1500)]
    bring()
    assert contents(folder) == WHOLE
    assert len(host.ranges("photos.zip")) == -(-len(host.files["photos.zip"]) // 1500)


def test_ctrl_c_keeps_what_came_and_the_next_run_goes_on_from_there(
    bring: Callable[..., list[str]], host: Host, folder: Path
) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if done and what == "downloading photos.zip":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(progress=stop)
    kept = (folder / "photos.zip.part").stat().st_size
    assert 0 < kept < len(host.files["photos.zip"])
    host.asked.clear()
    bring()
    assert host.ranges("photos.zip") == [f"bytes={kept}-"]
    assert host.ranges("labels.txt") == []
    assert contents(folder) == WHOLE


def test_a_host_without_ranges_sends_the_whole_file_again(
    bring: Callable[..., list[str]], host: Host, folder: Path
) -> None:
    host.faults["photos.zip"] = [Fault(drop_after=7000), Fault(ignore_range=True)]
    bring()
    assert host.ranges("photos.zip") == [None, "bytes=7000-"]
    assert contents(folder) == WHOLE


@pytest.mark.parametrize("heeded", [True, False], ids=["If-Range heeded", "If-Range ignored"])
def test_a_file_that_changed_since_the_interruption_is_fetched_from_its_beginning(
    bring: Callable[..., list[str]], host: Host, folder: Path, heeded: bool
) -> None:
    host.faults["photos.zip"] = [Fault(drop_after=7000)]
    new = {f"photos/a/{n}.jpg": noise(5000, 10 + n) for n in range(4)}

    def change(seconds: float) -> None:
        host.files["photos.zip"] = zipped(new)
        host.faults["photos.zip"] = [Fault(ignore_if_range=not heeded)]

    bring(sleep=change)
    assert contents(folder) == {"labels.txt": LABELS, **new}
    assert host.ranges("photos.zip") == [None, "bytes=7000-"] + ([] if heeded else [None])


def test_a_beginning_that_nothing_is_known_of_is_not_gone_on_with(
    bring: Callable[..., list[str]], host: Host, folder: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / "photos.zip.part").write_bytes(b"PK something else")
    (folder / "labels.txt.part").write_bytes(b"label")
    (folder / "labels.txt.part.json").write_text("{torn")
    bring()
    assert host.ranges("photos.zip") == host.ranges("labels.txt") == [None]
    assert contents(folder) == WHOLE


def test_a_weak_tag_is_compared_but_not_sent(bring: Callable[..., list[str]], host: Host, folder: Path) -> None:
    weak = {"ETag": 'W/"1"', "Last-Modified": ""}
    host.faults["photos.zip"] = [Fault(drop_after=7000, headers=weak), Fault(headers=weak)]
    bring()
    assert host.asked[-1] == ("/photos.zip", "bytes=7000-", None)
    assert contents(folder) == WHOLE


def test_a_range_that_the_host_can_not_serve_starts_the_download_again(
    bring: Callable[..., list[str]], host: Host, folder: Path
) -> None:
    host.faults["photos.zip"] = [Fault(drop_after=7000), Fault(status=416), Fault()]
    bring()
    assert host.ranges("photos.zip") == [None, "bytes=7000-", None]
    assert contents(folder) == WHOLE


def test_a_host_that_falls_silent_is_asked_again(bring: Callable[..., list[str]], host: Host, folder: Path) -> None:
    host.faults["labels.txt"] = [Fault(silent=0.6), Fault()]
    bring(timeout=0.2)
    assert len(host.ranges("labels.txt")) == 2
    assert contents(folder) == WHOLE


def test_a_short_file_is_given_up_after_tries_that_bring_nothing_new(
    bring: Callable[..., list[str]], host: Host, folder: Path, naps: Naps
) -> None:
    whole = len(host.files["photos.zip"])
    host.files["photos.zip"] = host.files["photos.zip"][:9000]  # the host's own copy is cut short ...
    host.faults["photos.zip"] = [Fault(announce=whole, ignore_range=True)]  # ... of the length that it announces
    words = refusal(bring)
    assert "photos.zip (the connection ended after 9.0 kB of 20." in words
    assert f"fetch photos.zip by hand from https://example.org/photos.html, put it unaltered into {folder}" in words
    assert "run this command again" in words
    assert naps.seconds == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert contents(folder).keys() == {"labels.txt", "photos.zip.part", "photos.zip.part.json"}


def test_a_host_that_is_not_there_is_named_with_all_that_is_missing(
    bring: Callable[..., list[str]], source: Source, host: Host, naps: Naps
) -> None:
    host.shutdown()
    host.server_close()
    words = refusal(bring)
    assert words.startswith("127.0.0.1 does not deliver labels.txt (")
    assert "fetch labels.txt, photos.zip by hand from https://example.org/photos.html, put them" in words
    assert naps.seconds == [2.0, 4.0, 8.0, 16.0]


# --- a host that refuses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/zip"])
def test_a_page_instead_of_the_file_is_recognised_and_named(
    bring: Callable[..., list[str]], host: Host, folder: Path, kind: str
) -> None:
    host.faults["photos.zip"] = [Fault(page=PAGE, kind=kind)]
    words = refusal(bring)
    assert "photos.zip: the host answers with a web page titled 'Google Drive - Quota exceeded'" in words
    assert f"fetch photos.zip by hand from https://example.org/photos.html, put it unaltered into {folder}" in words
    assert "run this command again to check and unpack" in words
    assert contents(folder) == {"labels.txt": LABELS}
    assert len(host.ranges("photos.zip")) == 1


def test_a_page_in_the_midst_of_a_download_does_not_cost_what_came(
    bring: Callable[..., list[str]], host: Host, folder: Path
) -> None:
    host.faults["photos.zip"] = [Fault(drop_after=7000), Fault(page=PAGE, kind="text/html")]
    refusal(bring)
    assert (folder / "photos.zip.part").stat().st_size == 7000
    host.faults.clear()
    bring()
    assert host.ranges("photos.zip")[-1] == "bytes=7000-"
    assert contents(folder) == WHOLE


@pytest.mark.parametrize("status", [401, 403, 404, 429])
def test_a_refusal_does_not_keep_the_other_files_from_coming(
    bring: Callable[..., list[str]], host: Host, folder: Path, status: int
) -> None:
    host.faults["labels.txt"] = [Fault(status=status)]
    words = refusal(bring)
    assert f"labels.txt: HTTP status {status}" in words
    assert "fetch labels.txt by hand" in words
    assert contents(folder) == IMAGES
    assert len(host.ranges("labels.txt")) == 1


def test_a_host_in_trouble_is_asked_again_and_then_given_up(
    bring: Callable[..., list[str]], host: Host, folder: Path
) -> None:
    host.faults["labels.txt"] = [Fault(status=503), Fault(status=500), Fault()]
    host.faults["photos.zip"] = [Fault(status=503)]
    words = refusal(bring)
    assert "does not deliver photos.zip (HTTP status 503 Service Unavailable)" in words
    assert "fetch photos.zip by hand" in words
    assert len(host.ranges("photos.zip")) == 5
    assert contents(folder) == {"labels.txt": LABELS}


def test_what_fails_the_official_checksum_is_deleted_and_fetched_anew(
    bring: Callable[..., list[str]], host: Host, folder: Path
) -> None:
    host.files["labels.txt"] = b"Label" + LABELS[5:]
    words = refusal(bring)
    md5 = hashlib.md5(host.files["labels.txt"]).hexdigest()
    assert f"labels.txt: what came is not the official file (its MD5 is {md5}, the official one " in words
    assert "and is deleted" in words
    assert contents(folder) == IMAGES
    host.files["labels.txt"] = LABELS
    bring()
    assert host.ranges("labels.txt") == [None, None]
    assert contents(folder) == WHOLE


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/labels.txt", "data:,label"])
def test_a_redirect_off_the_web_is_refused(
    bring: Callable[..., list[str]], host: Host, folder: Path, location: str
) -> None:
    host.faults["labels.txt"] = [Fault(location=location)]
    assert "labels.txt: the host sends on to an address that is not followed" in refusal(bring)
    assert contents(folder) == IMAGES


def test_a_redirect_round_in_circles_is_refused(bring: Callable[..., list[str]], host: Host) -> None:
    host.faults["labels.txt"] = [Fault(location=f"{host.address}labels.txt")]
    assert "labels.txt: the host sends on to an address that is not followed" in refusal(bring)


def test_an_encrypted_address_is_not_left_for_a_plain_one() -> None:
    request = module.urllib.request.Request("https://example.org/a.zip")
    redirects = module._Redirects()
    assert redirects.redirect_request(request, None, 302, "", {}, "http://example.org/a.zip") is None
    followed = redirects.redirect_request(request, None, 302, "", {}, "https://example.com/a.zip")
    assert followed.full_url == "https://example.com/a.zip"


def test_a_file_address_is_never_opened(bring: Callable[..., list[str]], source: Source, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(LABELS)
    local = replace(source.files[0], url=(tmp_path / "secret").as_uri())
    assert "labels.txt" in refusal(bring, source=replace(source, files=(local,)))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(announce=10**9), "the host announces 1.0 GB where about 30.0 kB belong"),
        (Fault(chunked=True), "the host sends more than the 300.0 kB that belong there"),
    ],
    ids=["announced", "not announced"],
)
def test_a_download_far_above_its_known_size_is_refused(
    bring: Callable[..., list[str]], host: Host, folder: Path, fault: Fault, words: str
) -> None:
    host.files["labels.txt"] = LABELS * 40
    host.faults["labels.txt"] = [fault]
    assert f"labels.txt: {words}" in refusal(bring)
    assert contents(folder) == IMAGES


def test_what_is_no_archive_is_not_downloaded_as_one(bring: Callable[..., list[str]], host: Host, folder: Path) -> None:
    host.files["photos.zip"] = noise(20_000)
    assert "photos.zip: what the host sends is not a zip archive" in refusal(bring)
    assert contents(folder) == {"labels.txt": LABELS}


def test_a_host_can_put_no_control_characters_into_an_error(bring: Callable[..., list[str]], host: Host) -> None:
    host.faults["labels.txt"] = [Fault(page=b"<html><title>a\x1b[2J\nb" + b"c" * 500 + b"</title>")]
    words = refusal(bring)
    assert "titled 'a[2J bccc" in words
    assert "\x1b" not in words
    assert len(words) < 600


# --- room on the disk -------------------------------------------------------------------------------------------------

Usage = namedtuple("Usage", "total used free")


def test_a_disk_without_room_is_told_before_the_host_is_asked(
    bring: Callable[..., list[str]], host: Host, source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = sum(file.size + file.unpacked for file in source.files)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, needed - 1))
    words = refusal(bring)
    assert words.startswith("Photos needs about 90.")
    assert "make room, or name another folder with --data-dir" in words
    assert host.asked == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, needed))
    bring()
    assert contents(folder) == WHOLE


def test_a_file_larger_than_was_known_is_not_begun_without_room(
    bring: Callable[..., list[str]], host: Host, source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = {name: body * 3 for name, body in IMAGES.items()}
    host.files["photos.zip"] = zipped(larger, zipfile.ZIP_STORED)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 95_000))
    assert refusal(bring).startswith("photos.zip needs about 1")
    assert contents(folder) == {"labels.txt": LABELS}


def test_an_archive_that_unpacks_to_more_than_there_is_room_for_stays_packed(
    bring: Callable[..., list[str]], host: Host, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.files["photos.zip"] = zipped({f"photos/{n}.jpg": bytes([n]) * 20_000 for n in range(9)} | IMAGES)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 150_000))
    assert refusal(bring).startswith("unpacking photos.zip needs about 2")
    assert contents(folder).keys() == {"labels.txt", "photos.zip.part", "photos.zip.part.json"}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 10**9))
    host.asked.clear()
    bring()
    assert host.asked == []
    assert len(contents(folder)) == 14


# --- what the user put there ------------------------------------------------------------------------------------------


def test_an_archive_fetched_by_hand_is_unpacked_and_kept(
    bring: Callable[..., list[str]], host: Host, source: Source, folder: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / "photos.zip").write_bytes(host.files["photos.zip"])
    (folder / "labels.txt").write_bytes(LABELS)
    assert missing(source, folder) == []
    assert bring() == [
        "labels.txt is already there.",
        "photos.zip is unpacked; the archive is yours and is kept.",
    ]
    assert contents(folder) == {**WHOLE, "photos.zip": host.files["photos.zip"]}
    assert host.asked == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (PAGE, "is a web page saved under the file's name"),
        (zipped(IMAGES)[:9000], "is not a whole zip archive"),
        (b"", "is not a whole zip archive"),
    ],
    ids=["page", "cut short", "empty"],
)
def test_an_archive_fetched_by_hand_that_is_none_is_named_and_left_alone(
    bring: Callable[..., list[str]], host: Host, folder: Path, body: bytes, words: str
) -> None:
    folder.mkdir(parents=True)
    (folder / "photos.zip").write_bytes(body)
    told = refusal(bring)
    assert told.startswith(f"{folder / 'photos.zip'} {words}")
    assert "fetch it again from https://example.org/photos.html" in told
    assert contents(folder) == {"photos.zip": body}
    assert host.asked == []


def test_an_archive_fetched_by_hand_must_have_the_official_checksum(
    bring: Callable[..., list[str]], host: Host, source: Source, folder: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / "photos.zip").write_bytes(host.files["photos.zip"])
    checked = replace(source.files[1], md5="0" * 32)
    assert "is not the official file (its MD5 is" in refusal(bring, source=replace(source, files=(checked,)))
    assert contents(folder) == {"photos.zip": host.files["photos.zip"]}


@pytest.mark.parametrize("body", [LABELS[:-1], LABELS.replace(b" ", b"\r\n")], ids=["a sample", "Windows line ends"])
def test_labels_that_are_not_the_official_file_are_kept_with_a_remark_and_keep_nothing_from_being_unpacked(
    bring: Callable[..., list[str]], host: Host, source: Source, folder: Path, body: bytes
) -> None:
    folder.mkdir(parents=True)
    (folder / "labels.txt").write_bytes(body)
    (folder / "photos.zip").write_bytes(host.files["photos.zip"])
    assert missing(source, folder) == []
    found, official = hashlib.md5(body).hexdigest(), source.files[0].md5
    assert bring() == [
        f"labels.txt is not the official file (its MD5 is {found}, the official one {official}): kept as it is. Move it"
        " away to have the official one downloaded.",
        "photos.zip is unpacked; the archive is yours and is kept.",
    ]
    assert contents(folder) == {**IMAGES, "labels.txt": body, "photos.zip": host.files["photos.zip"]}
    assert host.asked == []


def test_labels_as_csv_are_there_already(
    bring: Callable[..., list[str]], host: Host, source: Source, folder: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / "labels.csv").write_bytes(b"image_id,label\n")
    assert [file.name for file in missing(source, folder)] == ["photos.zip"]
    assert bring()[0] == "labels.csv is already there."
    assert contents(folder) == {**IMAGES, "labels.csv": b"image_id,label\n"}
    assert host.ranges("labels.txt") == []


def test_a_folder_in_the_place_of_labels_is_refused(bring: Callable[..., list[str]], host: Host, folder: Path) -> None:
    (folder / "labels.txt").mkdir(parents=True)
    assert refusal(bring) == f"{folder / 'labels.txt'} is no file: move it away and run this command again."
    assert host.asked == []


def test_a_folder_that_was_unpacked_into_another_of_its_name_is_whole(
    bring: Callable[..., list[str]], source: Source, host: Host, folder: Path
) -> None:
    (folder / "photos" / "photos").mkdir(parents=True)
    (folder / "photos" / "photos" / "table.csv").write_text("a")
    proven = replace(source, files=(replace(source.files[1], proof="table.csv"),))
    assert bring(source=proven) == ["photos is already there."]
    assert host.asked == []


@pytest.mark.parametrize(
    ("body", "words"),
    [(PAGE, "is a web page saved under the file's name"), (b"", "is empty")],
    ids=["page", "empty"],
)
def test_a_file_of_the_user_that_holds_no_labels_is_named_and_never_overwritten(
    bring: Callable[..., list[str]], host: Host, folder: Path, body: bytes, words: str
) -> None:
    folder.mkdir(parents=True)
    (folder / "labels.txt").write_bytes(body)
    told = refusal(bring)
    assert told.startswith(f"{folder / 'labels.txt'} {words}")
    assert "move it away" in told
    assert contents(folder) == {"labels.txt": body}
    assert host.asked == []


def test_a_folder_in_the_way_is_told_before_the_download(
    bring: Callable[..., list[str]], source: Source, host: Host, folder: Path
) -> None:
    (folder / "photos").mkdir(parents=True)
    (folder / "photos" / "mine.txt").write_text("mine")
    proven = replace(source, files=(replace(source.files[1], proof="a/0.jpg"),))
    words = refusal(bring, source=proven)
    assert "photos is not what photos.zip unpacks to (a/0.jpg is missing): move it away" in words
    assert host.asked == []
    (folder / "photos" / "mine.txt").unlink()  # an empty folder is in nobody's way
    bring(source=proven)
    assert contents(folder) == IMAGES


def test_a_data_directory_that_is_a_file_is_refused(source: Source, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is not a folder: name another one with --data-dir"):
        download(replace(source, files=source.files[:1]), tmp_path / "file")


# --- archives ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "members",
    [
        {name.removeprefix("photos/"): body for name, body in IMAGES.items()},
        {f"photos/{name}": body for name, body in IMAGES.items()},
        {f"set/{name}": body for name, body in IMAGES.items()},
        {"./photos//a/": b"", "__MACOSX/photos/a/9.jpg": b"x", "photos/a/._1.jpg": b"x", **IMAGES},
    ],
    ids=["no folder", "doubled folder", "folder above", "what a Mac adds"],
)
def test_archives_of_any_usual_shape_unpack_to_the_one_folder(
    bring: Callable[..., list[str]], host: Host, folder: Path, members: dict[str, bytes]
) -> None:
    host.files["photos.zip"] = zipped(members)
    bring()
    assert contents(folder) == WHOLE


def linked(target: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        link = zipfile.ZipInfo("photos/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, target)
        archive.writestr("photos/link/new.txt", b"x")
    return content.getvalue()


def twice() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("photos/a.jpg", b"one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("photos/a.jpg", b"two")
    return content.getvalue()


def patched(body: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite a field of the (only) central directory entry, `offset` bytes into it."""
    at = body.index(b"PK\x01\x02") + offset
    return body[:at] + value + body[at + len(value) :]


ONE = zipped({"photos/a.jpg": noise(20_000)}, zipfile.ZIP_STORED)
HOSTILE: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "above": (zipped({"../escaped.txt": b"x"}), "a name that is not safe ('../escaped.txt')"),
    "above, deeper": (zipped({"photos/a/../../../escaped.txt": b"x"}), "a name that is not safe"),
    "absolute": (zipped({"/tmp/escaped.txt": b"x"}), "a name that is not safe"),
    "drive": (zipped({"C:/escaped.txt": b"x"}), "a name that is not safe"),
    "drive within": (zipped({"photos/C:escaped.txt": b"x"}), "a name that is not safe"),
    "backslashes": (zipped({"photos\\..\\..\\escaped.txt": b"x"}), "a name that is not safe"),
    "control character": (zipped({"photos/a\x1b[2J.jpg": b"x"}), "a name that is not safe ('photos/a[2J.jpg')"),
    "null byte": (zipped({"photos/aXb.jpg": b"x"}).replace(b"aXb", b"a\0b"), "a name that is not safe"),
    "link": (linked("/tmp"), "holds a link or a special file ('photos/link')"),
    "twice": (twice, "holds 'photos/a.jpg' twice"),
    "twice once unfolded": (zipped({"photos/a.jpg": b"1", "photos/photos/a.jpg": b"2"}), "twice"),
    "file and folder": (zipped({"photos/a": b"1", "photos/a/b.jpg": b"2"}), "holds 'a' as a file and as a folder"),
    "too many": (zipped({f"photos/{n}.jpg": b"" for n in range(21)}), "holds 21 members, more than 20"),
    "too large": (zipped({"photos/a.jpg": bytes(300_000) + noise(20_000), "b": noise(90_000)}), "would unpack to 410"),
    "bomb": (zipped({"photos/a.jpg": bytes(390_000)}), "would unpack to 390.0 kB, which can't be right"),
    "empty": (zipped({"photos/": b""}), "holds no files"),
    "encrypted": (patched(ONE, 8, b"\x01\x00"), "encrypted or packed in an unusual way"),
    "unusual packing": (zipped(IMAGES, zipfile.ZIP_LZMA), "encrypted or packed in an unusual way"),
    "larger than declared": (patched(ONE, 24, struct.pack("<L", 100)), "is damaged at 'photos/a.jpg'"),
    "smaller than declared": (patched(ONE, 24, struct.pack("<L", 30_000)), "is damaged at 'photos/a.jpg'"),
    "wrong checksum": (patched(ONE, 16, b"\0\0\0\0"), "is damaged at 'photos/a.jpg' (Bad CRC-32"),
    "cut short": (ONE[:-100], "is not a whole zip archive"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_writes_nothing_and_is_deleted(
    bring: Callable[..., list[str]], host: Host, folder: Path, tmp_path: Path, name: str
) -> None:
    body, words = HOSTILE[name]
    host.files["photos.zip"] = body if isinstance(body, bytes) else body()
    told = refusal(bring)
    assert "photos.zip: what came " in told
    assert words in told
    assert "and is deleted" in told
    assert contents(tmp_path) == {"data/photos-set/labels.txt": LABELS}
    assert [p.name for p in folder.iterdir()] == ["labels.txt"]
    assert not list(tmp_path.parent.rglob("escaped.txt"))


def test_an_archive_without_the_file_that_matters_is_refused(
    bring: Callable[..., list[str]], source: Source, folder: Path
) -> None:
    proven = replace(source, files=(replace(source.files[1], proof="meta-data.csv"),))
    assert "what came holds no meta-data.csv, and is deleted" in refusal(bring, source=proven)
    assert contents(folder) == {}


def test_a_damaged_byte_anywhere_is_found_or_harmless(
    bring: Callable[..., list[str]], source: Source, folder: Path
) -> None:
    good = zipped({f"photos/{n}.jpg": noise(60, n) for n in range(3)})
    draw = random.Random(1)
    found = 0
    archives = replace(source, files=source.files[1:])
    folder.mkdir(parents=True)
    for _ in range(300):
        bad = bytearray(good)
        bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        (folder / "photos.zip").write_bytes(bad)
        try:
            bring(source=archives)
        except UserError:
            found += 1
        else:  # a date or an attribute was hit, or a name that is still a name
            assert sorted(p.read_bytes() for p in folder.rglob("*.*") if p.parent != folder) <= sorted(
                noise(60, n) for n in range(3)
            )
            shutil.rmtree(folder / "photos")
        assert [p.name for p in folder.iterdir()] == ["photos.zip"]
    assert found > 150


def test_an_interrupted_unpacking_leaves_no_half_folder_and_needs_no_second_download(
    bring: Callable[..., list[str]], host: Host, folder: Path
) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if what.startswith("unpacking"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(progress=stop)
    assert contents(folder).keys() == {"labels.txt", "photos.zip.part", "photos.zip.part.json"}
    host.asked.clear()
    bring()
    assert host.asked == []
    assert contents(folder) == WHOLE


def test_what_a_killed_process_left_half_unpacked_is_cleared_away(
    bring: Callable[..., list[str]], folder: Path
) -> None:
    half = folder / ".photos.unpacking"
    half.mkdir(parents=True)
    (half / "a").write_bytes(b"half")
    bring()
    assert contents(folder) == WHOLE


# --- the real data sets -----------------------------------------------------------------------------------------------


def test_the_catalogue_names_the_official_files() -> None:
    from torchvision.datasets import CelebA as Official

    celeba, zappos = CelebA.source(), Zappos.source()
    official = {name: (number, md5) for number, md5, name in Official.file_list}
    assert {f.name for f in celeba.files} == official.keys() - {
        "list_bbox_celeba.txt",
        "list_landmarks_align_celeba.txt",
    }
    for file in celeba.files:
        number, md5 = official[file.name]
        assert file.md5 == md5
        assert file.url.startswith("https://drive.usercontent.google.com/download?")
        assert f"id={number}&" in file.url
    assert [f.url for f in zappos.files] == [
        "https://vision.cs.utexas.edu/projects/finegrained/utzap50k/ut-zap50k-data.zip",
        "https://vision.cs.utexas.edu/projects/finegrained/utzap50k/ut-zap50k-images.zip",
    ]
    for source in (celeba, zappos):
        assert "non-commercial" in source.licence
        assert source.page in source.licence
        assert all(file.members and file.unpacked for file in source.files if file.unpacks_to)
    assert {name for name, reader in readers().items() if reader.source} == {"celeba", "zappos"}


def served(host: Host, root: Path, source: Source) -> Source:
    """Publish the data set that lies at `root` on the host, under the names and checksums of its source."""
    files = []
    for file in source.files:
        if file.unpacks_to:
            paths = sorted(p for p in (root / file.unpacks_to).rglob("*") if p.is_file())
            body = zipped({p.relative_to(root).as_posix(): p.read_bytes() for p in paths})
        else:
            body = (root / file.name).read_bytes()
        host.files[file.name] = body
        md5 = hashlib.md5(body).hexdigest() if file.md5 else ""
        files.append(replace(file, url=host.address + file.name, md5=md5))
    return replace(source, files=tuple(files))


def small(source: Source) -> Source:
    return replace(source, files=tuple(replace(f, size=100_000, unpacked=min(f.unpacked, 10**6)) for f in source.files))


def test_what_is_downloaded_can_be_read(host: Host, celeba_folder: Path, zappos_folder: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    download(small(served(host, celeba_folder, CelebA.source())), there / "celeba")
    download(small(served(host, zappos_folder, Zappos.source())), there / "zappos")
    assert contents(there / "celeba") == contents(celeba_folder)
    assert contents(there / "zappos") == contents(zappos_folder)
    assert read_celeba(there / "celeba").paths == read_celeba(celeba_folder).paths
    assert read_zappos(there / "zappos").paths == read_zappos(zappos_folder).paths


def as_csv(root: Path) -> None:
    for name, head in (
        ("list_attr_celeba", ""),
        ("identity_CelebA", "image_id,identity"),
        ("list_eval_partition", "a,b"),
    ):
        lines = (root / f"{name}.txt").read_text().splitlines()
        rows = lines if head else ["image_id " + lines[1], *lines[2:]]
        text = "\n".join([*([head] if head else []), *(",".join(row.split()) for row in rows)])
        (root / f"{name}.csv").write_text(text + "\n")
        (root / f"{name}.txt").unlink()


def with_windows_line_ends(root: Path) -> None:
    for path in root.glob("*.txt"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


@pytest.mark.parametrize("change", [as_csv, with_windows_line_ends, lambda root: None], ids=["csv", "CRLF", "official"])
def test_what_celebas_reader_says_would_be_unpacked_is(
    host: Host, celeba_folder: Path, change: Callable[[Path], None]
) -> None:
    source, paths = small(served(host, celeba_folder, CelebA.source())), read_celeba(celeba_folder).paths
    shutil.rmtree(celeba_folder / "img_align_celeba")
    (celeba_folder / "img_align_celeba.zip").write_bytes(host.files["img_align_celeba.zip"])
    change(celeba_folder)
    with pytest.raises(UserError, match=f"`mtlbench data get celeba --data-dir {celeba_folder}`, which unpacks"):
        read_celeba(celeba_folder)
    download(source, celeba_folder)
    assert host.asked == []
    assert read_celeba(celeba_folder).paths == paths


@pytest.mark.parametrize("doubled", [False, True], ids=["table", "table in a doubled folder"])
def test_what_zappos_reader_says_would_be_unpacked_is(host: Host, zappos_folder: Path, doubled: bool) -> None:
    source, paths = small(served(host, zappos_folder, Zappos.source())), read_zappos(zappos_folder).paths
    shutil.rmtree(zappos_folder / "ut-zap50k-images")
    (zappos_folder / "ut-zap50k-images.zip").write_bytes(host.files["ut-zap50k-images.zip"])
    if doubled:
        (zappos_folder / "ut-zap50k-data").rename(zappos_folder / "inner")
        (zappos_folder / "ut-zap50k-data").mkdir()
        (zappos_folder / "inner").rename(zappos_folder / "ut-zap50k-data" / "ut-zap50k-data")
    with pytest.raises(UserError, match=f"`mtlbench data get zappos --data-dir {zappos_folder}`, which unpacks"):
        read_zappos(zappos_folder)
    download(source, zappos_folder)
    assert host.asked == []
    assert read_zappos(zappos_folder).paths == paths


# --- the command ------------------------------------------------------------------------------------------------------


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

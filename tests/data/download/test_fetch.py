"""Downloads against a host that drops, lies and refuses; nothing leaves this machine."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support_download import IMAGES, LABELS, PAGE, WHOLE, Fault, Host, Naps, contents, noise, refusal, zipped

from mtlbench.data.download import fetch as module
from mtlbench.data.download.get import missing
from mtlbench.data.download.source import Source


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
    assert "labels.txt: the host redirects to an address that is not followed" in refusal(bring)
    assert contents(folder) == IMAGES


def test_a_redirect_round_in_circles_is_refused(bring: Callable[..., list[str]], host: Host) -> None:
    host.faults["labels.txt"] = [Fault(location=f"{host.address}labels.txt")]
    assert "labels.txt: the host redirects to an address that is not followed" in refusal(bring)


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
        (Fault(announce=10**9), "the host announces 1.0 GB instead of about 30.0 kB"),
        (Fault(chunked=True), "the host sends more than the expected 300.0 kB"),
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

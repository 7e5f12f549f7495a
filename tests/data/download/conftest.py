"""A data set on a host of this machine, and a folder to bring it to; nothing leaves this machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support_download import IMAGES, LABELS, Host, Naps, zipped

from mtlbench.data.download.get import download
from mtlbench.data.download.source import File, Source


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Host()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


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

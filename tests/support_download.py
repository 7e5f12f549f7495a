"""A host on this machine that drops, lies and refuses where it is told to, and what it publishes."""

from __future__ import annotations

import hashlib
import io
import random
import re
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

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


class Naps:
    """Waits between tries: counted, not slept."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def refusal(bring: Callable[..., list[str]], **options: Any) -> str:
    with pytest.raises(UserError) as stopped:
        bring(**options)
    words = str(stopped.value)
    assert "\n" not in words
    return words


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


WHOLE = {"labels.txt": LABELS, **IMAGES}

"""A Hugging Face Hub of the tests' own on 127.0.0.1, which serves folders as data sets, and rows to put into them."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

COMMIT = "0" * 39 + "1"


def picture(number: int, ending: str = "PNG") -> bytes:
    """A small image of one colour, another for each number below 60."""
    file = io.BytesIO()
    Image.new("RGB", (20, 16), (4 * number, 100, 255 - 4 * number)).save(file, ending)
    return file.getvalue()


def pictures(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"bytes": picture(i), "path": None} for i in range(start, start + count)]


def rows(features: dict[str, Any] | None = None, **columns: list[Any]) -> datasets.Dataset:
    """A split of as many images as the columns have cells."""
    count = len(next(iter(columns.values())))
    made = datasets.Dataset.from_dict({"image": pictures(count), **columns})
    return made.cast(datasets.Features(made.features | {"image": datasets.Image()} | (features or {})))


def parquet(folder: Path, **splits: datasets.Dataset) -> Path:
    """Write splits as the Hub stores them."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for name, part in splits.items():
        part.to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
    return folder


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder as the data set `me/shapes`; `me/secret` is gated, and there is no other.

    Yields:
        the address, for HF_ENDPOINT, and the paths of the files that were fetched from it.
    """
    fetched: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def say(self, code: int, content: bytes = b"{}", **headers: str) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def answer(self) -> None:
            path, _, query = self.path.partition("?")
            if "/me/secret" in path:
                self.say(403, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
            elif "/me/shapes" not in path:
                self.say(404, X_Error_Code="RepoNotFound")
            elif "/tree/" in path:
                inside = path.split("/tree/")[1].partition("/")[2]
                found = sorted((folder / inside).glob("**/*" if "recursive=true" in query.lower() else "*"))
                entries = [entry(file) for file in found]
                self.say(200 if entries else 404, json.dumps(entries).encode(), Content_Type="application/json")
            elif path.startswith("/api/"):
                facts = {"id": "me/shapes", "sha": COMMIT, "private": False, "gated": False, "tags": []}
                files = [{"rfilename": f.relative_to(folder).as_posix()} for f in folder.rglob("*") if f.is_file()]
                self.say(200, json.dumps(facts | {"siblings": files}).encode(), Content_Type="application/json")
            else:
                name = path.split("/resolve/")[1].partition("/")[2]
                file = folder / name
                if not file.is_file():
                    self.say(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
                    return
                if self.command == "GET":
                    fetched.append(name)
                content = file.read_bytes()
                self.say(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=COMMIT)

    def entry(file: Path) -> dict[str, Any]:
        path = file.relative_to(folder).as_posix()
        if file.is_dir():
            return {"type": "directory", "oid": "0" * 40, "size": 0, "path": path}
        digest = hashlib.sha1(file.read_bytes()).hexdigest()
        return {"type": "file", "oid": digest, "size": file.stat().st_size, "path": path}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

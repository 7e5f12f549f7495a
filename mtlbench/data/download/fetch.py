"""Fetches one file over the network: continues a partial download, and refuses anything but the file."""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mtlbench import __version__
from mtlbench.data.download.shared import (
    CHUNK,
    SLACK,
    DroppedError,
    Progress,
    RefusedError,
    check_room,
    clean,
    in_words,
)
from mtlbench.data.download.source import File
from mtlbench.data.webpage import is_web_page

Tell = Callable[[str], None]

_TRIES = 5  # connections in a row that bring no new data


def part_of(file: File, folder: Path) -> Path:
    """Return the path of a file's partial download."""
    return folder / f"{file.name}.part"


def note_of(part: Path) -> Path:
    """Return the path of the note that says which version of which file a .part file belongs to."""
    return part.with_name(f"{part.name}.json")


def forget(part: Path) -> None:
    """Delete a partial download and its note."""
    part.unlink(missing_ok=True)
    note_of(part).unlink(missing_ok=True)


def bytes_of(path: Path) -> int:
    """Return a file's size in bytes, or 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects between web addresses, but never from an encrypted one to a plain one."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        scheme = urlsplit(newurl).scheme.lower()
        if scheme == "https" or (scheme == "http" and req.type == "http"):
            return super().redirect_request(req, fp, code, msg, headers, newurl)
        return None


def _opener() -> urllib.request.OpenerDirector:
    # build_opener would add handlers for file: and ftp: addresses
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPCookieProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
        _Redirects,
    ):
        opener.add_handler(handler())
    return opener


def fetch(
    file: File, part: Path, progress: Progress, tell: Tell, sleep: Callable[[float], None], timeout: float
) -> None:
    """Download a file to `part`, continuing from what it holds.

    Give up after several tries that bring nothing new.
    """
    furthest, fruitless = bytes_of(part), 0
    while True:
        try:
            _attempt(file, part, progress, timeout)
            return
        except DroppedError as reason:
            fruitless = 0 if bytes_of(part) > furthest else fruitless + 1
            furthest = max(furthest, bytes_of(part))
            if fruitless == _TRIES:
                raise
            tell(f"{file.name}: {reason}; trying again in {2**fruitless} s.")
            sleep(2.0**fruitless)


def _attempt(file: File, part: Path, progress: Progress, timeout: float) -> None:
    """Request the missing part of a file once, and write what arrives.

    Raises:
        DroppedError: the connection broke, or no answer came; RefusedError: the host refused, or sent something else.
    """
    known = _read_note(part, file)
    start = bytes_of(part) if known else 0
    if known and start == known["total"]:
        return
    # no HEAD request: Google Drive answers it with an empty page
    headers = {"User-Agent": f"mtlbench/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        strong = known["etag"] if known["etag"] and not known["etag"].startswith("W/") else known["modified"]
        if strong:
            headers["If-Range"] = strong
    try:
        response = _opener().open(urllib.request.Request(file.url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        raise _refusal(error, part) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DroppedError(clean(getattr(error, "reason", None) or error)) from None

    with response:
        total: int | None
        version = {"url": file.url, "etag": response.headers["ETag"], "modified": response.headers["Last-Modified"]}
        if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise RefusedError(_page_words(_begin(response)))
        if response.status == 206:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers["Content-Range"] or "")
            if not span or int(span[1]) != start or {**version, "total": int(span[2])} != known:
                forget(part)
                raise DroppedError("the file has changed since its download began")
            total, first = int(span[2]), b""
        elif response.status == 200:
            length = response.headers["Content-Length"] or ""
            start, total, first = 0, int(length) if length.isdecimal() else None, _begin(response)
            if is_web_page(first):
                raise RefusedError(_page_words(first))
            if file.unpacks_to and not first.startswith(b"PK"):
                raise RefusedError("what the host sends is not a zip archive")
        else:
            raise RefusedError(f"HTTP status {response.status}")
        most = file.size * SLACK if total is None else total
        if most > file.size * SLACK:
            raise RefusedError(f"the host announces {in_words(most)} instead of about {in_words(file.size)}")
        check_room(part.parent, most - start + file.unpacked if total else 0, file.name)
        if not start:
            forget(part)
            note_of(part).write_text(json.dumps({**version, "total": total}))
        what, done = f"downloading {file.name}", start
        with part.open("ab") as sink:
            progress(done, total or 0, what)
            for piece in _pieces(response, first):
                sink.write(piece)
                done += len(piece)
                if done > most:
                    break
                progress(done, total or 0, what)
    if done > most:
        forget(part)
        raise RefusedError(f"the host sends more than the expected {in_words(most)}")
    if total is None:
        note_of(part).write_text(json.dumps({**version, "total": done}))
    elif done < total:
        raise DroppedError(f"the connection ended after {in_words(done)} of {in_words(total)}")


def _read_note(part: Path, file: File) -> dict[str, Any]:
    """Return what is noted about the file that `part` belongs to.

    The result is {} if nothing is noted, or if the note is about another address.
    """
    try:
        note = json.loads(note_of(part).read_text())
        known = {key: note[key] for key in ("url", "etag", "modified", "total")}
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return known if known["url"] == file.url and part.is_file() else {}


def _refusal(error: urllib.error.HTTPError, part: Path) -> Exception:
    """Return the exception for an HTTP status that signals an error."""
    with error:
        if error.code == 416:
            forget(part)
            return DroppedError("the host can't continue where the download stopped")
        if 300 <= error.code < 400:
            return RefusedError("the host redirects to an address that is not followed")
        words = f"HTTP status {error.code} {clean(error.reason)}".rstrip()
        return DroppedError(words) if error.code >= 500 or error.code == 408 else RefusedError(words)


def _begin(response: http.client.HTTPResponse) -> bytes:
    """Return the first bytes of a response."""
    try:
        return response.read(4096)
    except (OSError, http.client.HTTPException) as error:
        raise DroppedError(clean(error)) from None


def _pieces(response: http.client.HTTPResponse, first: bytes) -> Iterator[bytes]:
    """Yield a response in pieces as they arrive, so that a broken connection loses nothing that came before."""
    if first:
        yield first
    try:
        while piece := response.read1(CHUNK):
            yield piece
    except (OSError, http.client.HTTPException) as error:
        raise DroppedError(clean(error)) from None


def _page_words(start: bytes) -> str:
    title = re.search(rb"<title[^>]*>(.*?)</title", start, re.IGNORECASE | re.DOTALL)
    words = clean(title[1].decode("utf-8", "replace")) if title else ""
    return "the host answers with a web page" + (f" titled '{words}'" if words else "") + " instead of the file"

"""Brings CelebA and UT-Zappos50K from their official places: catalogue, resuming download, checks, safe unpacking.

Asking for the licence and showing progress are left to the command line; reading labels is left to the readers.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import stat
import struct
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from mtlbench import __version__
from mtlbench.data.webpage import holds_web_page, is_web_page
from mtlbench.errors import UserError

Progress = Callable[[int, int, str], None]  # bytes done, of how many (0: not known), what is being done
Tell = Callable[[str], None]

_TRIES = 5  # connections in a row that bring nothing new
_CHUNK = 1 << 18
_SLACK = 10  # how many times its known size a download, or what it unpacks to, may have
_RATIO = 100  # how many times its own size an archive may unpack to; images hardly compress, tables about ten times
_BLOCK = 4096  # what a small file takes on most file systems
_PAGE = "is a web page saved under the file's name"


@dataclass(frozen=True)
class File:
    """One file that a data set is published as.

    Attributes:
        name: as the host calls it, and as it is looked for in the data set's folder.
        url: where it is downloaded from.
        size: bytes, about.
        md5: official checksum, or "" where none was published.
        unpacks_to: the folder that an archive becomes; "" for what is no archive.
        proof: a file in that folder without which it is not whole; "" where any content will do.
        unpacked: bytes that the folder takes on disk, about.
        members: how many files and folders the archive may hold.
    """

    name: str
    url: str
    size: int
    md5: str = ""
    unpacks_to: str = ""
    proof: str = ""
    unpacked: int = 0
    members: int = 0


@dataclass(frozen=True)
class Source:
    """Where a data set is published: its title, terms in short, official page and files."""

    title: str
    licence: str
    page: str
    files: tuple[File, ...]


def _celeba() -> Source:
    # torchvision keeps the official ids and checksums; it imports torch
    from torchvision.datasets import CelebA

    official = {name: (number, md5) for number, md5, name in CelebA.file_list}

    def file(name: str, size: int, **archive: Any) -> File:
        number, md5 = official[name]
        # confirm=t: without it Google answers with a page about viruses in place of a large file
        url = f"https://drive.usercontent.google.com/download?id={number}&export=download&confirm=t"
        return File(name, url, size, md5, **archive)

    return Source(
        title="CelebA",
        licence=(
            "CelebA: Ziwei Liu, Ping Luo, Xiaogang Wang, Xiaoou Tang (Multimedia Laboratory, The Chinese University of"
            " Hong Kong), Deep Learning Face Attributes in the Wild, ICCV 2015; cite this paper.\n"
            "For non-commercial research purposes only. The images come from the internet and are not property of the"
            " laboratory. No part of the set or of data derived from it may be sold or used commercially, and no part"
            " of the set may be copied further, published or distributed, except for internal use at a single site of"
            " one organisation. Access can be ended at any time. The whole agreement is on the set's page:\n"
            "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
        ),
        page="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        files=(
            file("list_attr_celeba.txt", 26_721_026),
            file("identity_CelebA.txt", 3_424_458),
            file("list_eval_partition.txt", 2_836_386),
            file(
                "img_align_celeba.zip",
                1_443_490_838,
                unpacks_to="img_align_celeba",
                unpacked=1_900_000_000,
                members=300_000,
            ),
        ),
    )


def _zappos() -> Source:
    page = "https://vision.cs.utexas.edu/projects/finegrained/utzap50k/"
    return Source(
        title="UT-Zappos50K",
        licence=(
            "UT-Zappos50K: Aron Yu, Kristen Grauman (The University of Texas at Austin), Fine-Grained Visual"
            " Comparisons with Local Learning, CVPR 2014; cite this paper.\n"
            "For academic, non-commercial use only. The images are catalogue images collected from Zappos.com. The"
            f" set's page:\n{page}"
        ),
        page=page,
        files=(
            File(
                "ut-zap50k-data.zip",
                f"{page}ut-zap50k-data.zip",
                5_000_000,
                unpacks_to="ut-zap50k-data",
                proof="meta-data.csv",
                unpacked=50_000_000,
                members=1_000,
            ),
            File(
                "ut-zap50k-images.zip",
                f"{page}ut-zap50k-images.zip",
                300_000_000,
                unpacks_to="ut-zap50k-images",
                unpacked=450_000_000,
                members=100_000,
            ),
        ),
    )


CATALOGUE: dict[str, Callable[[], Source]] = {"celeba": _celeba, "zappos": _zappos}


class _RefusedError(Exception):
    """This file can't be had, or what came is not it; another try would end the same way."""


class _DroppedError(Exception):
    """The connection failed; another try may go on from there."""


# --- what is there, what is not ---------------------------------------------------------------------------------------


def missing(source: Source, folder: Path) -> list[File]:
    """Return the files that have to be downloaded: neither there, nor unpacked, nor fetched by hand as an archive.

    A file of labels that is there counts, whether or not it is the official one, and so does one as .csv.

    Raises:
        UserError: something else is there under the name of a file or of an unpacked folder.
    """
    return [file for file in _unfinished(source, folder) if not (folder / file.name).is_file()]


def _unfinished(source: Source, folder: Path) -> list[File]:
    """Return the files that have to be downloaded or unpacked."""
    unfinished = []
    for file in source.files:
        target = _target(file, folder)
        fault = ""
        if not target.exists() or (file.unpacks_to and target.is_dir() and not any(target.iterdir())):
            unfinished.append(file)
        elif file.unpacks_to:
            # some archives hold their folder twice, one in the other, and so do folders that were unpacked by hand
            inside = (target, target / file.unpacks_to)
            if not target.is_dir() or not any((place / file.proof).exists() for place in inside):
                lacks = f" ({file.proof} is missing)" if file.proof else ""
                fault = f"is not what {file.name} unpacks to{lacks}"
        elif not target.is_file():
            fault = "is no file"
        elif not _size(target):
            fault = "is empty"
        elif holds_web_page(target):
            fault = _PAGE
        if fault:
            raise UserError(f"{target} {fault}: move it away and run this command again.")
    return unfinished


def _target(file: File, folder: Path) -> Path:
    """Return what a file is once it is there: the folder it unpacks to, or itself; labels may be there as .csv too."""
    target = folder / (file.unpacks_to or file.name)
    table = target.with_suffix(".csv")
    return table if target.suffix == ".txt" and not target.exists() and table.is_file() else target


def _verify(path: Path, file: File) -> None:
    """Raise _RefusedError unless the file on disk has the official checksum, as far as there is one."""
    if holds_web_page(path):
        raise _RefusedError(_PAGE)
    if fault := _unofficial(path, file):
        raise _RefusedError(fault)


def _unofficial(path: Path, file: File) -> str:
    """Return in words that a file on disk has not the official checksum; nothing if it has, or if there is none."""
    if not file.md5:
        return ""
    with path.open("rb") as content:
        found = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return "" if found == file.md5 else f"is not the official file (its MD5 is {found}, the official one {file.md5})"


def _check_room(folder: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what} needs about {in_words(needed)} and {folder} has {in_words(free)} free: make room, or name another"
            " folder with --data-dir."
        )


def in_words(size: int) -> str:
    """Return a number of bytes in words: 1.4 GB."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


# --- the whole of it --------------------------------------------------------------------------------------------------


def download(
    source: Source,
    folder: Path,
    progress: Progress = lambda done, total, what: None,
    tell: Tell = lambda words: None,
    *,
    sleep: Callable[[float], None] = time.sleep,
    timeout: float = 30.0,
) -> None:
    """Make `folder` hold the data set: download what is missing, check it, unpack the archives.

    What is there already is left alone; of label files that are not the official ones the user is told. A download
    that was interrupted lies in `<name>.part` and is gone on with; its archive is deleted once unpacked. An archive
    that was put there by hand is checked, unpacked and kept.

    Args:
        source: an entry of `CATALOGUE`.
        folder: the data set's own folder; made where absent.
        progress: called with bytes done, bytes in all (0 where not known) and what is being done.
        tell: called with a sentence for the user, about once a file and before each new try.
        sleep: waits between tries; timeout: seconds without an answer after which a connection is given up.

    Raises:
        UserError: the host refuses, can't be reached or sends something else (it says what to fetch by hand and where
            to put it), the disk has no room, or an archive that is there is not the official one.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name another one with --data-dir.")
    unfinished = _unfinished(source, folder)
    absent = [file.name for file in unfinished if not (folder / file.name).is_file()]
    for file in source.files:
        if file not in unfinished:
            target = _target(file, folder)
            fault = _unofficial(target, file) if target.name == file.name else ""
            kept = f"{target.name} {fault}: kept as it is. Move it away to have the official one downloaded."
            tell(kept if fault else f"{target.name} is already there.")
    folder.mkdir(parents=True, exist_ok=True)
    needed = sum(file.unpacked + (file.size if file.name in absent else 0) for file in unfinished)
    there = sum(_size(_part(file, folder)) for file in unfinished)
    _check_room(folder, needed - there, source.title)

    refused: dict[str, str] = {}
    for file in sorted(unfinished, key=lambda file: file.name in absent):  # a bad archive of the user's own shows first
        own = folder / file.name
        if file.name not in absent:
            try:
                _verify(own, file)
                _unpack(own, file, folder, progress)
            except _RefusedError as wrong:
                raise UserError(
                    f"{own} {wrong}: fetch it again from {source.page}, put it there and run this command again."
                ) from None
            tell(f"{file.name} is unpacked; the archive is yours and is kept.")
            continue
        part = _part(file, folder)
        try:
            _fetch(file, part, progress, tell, sleep, timeout)
            try:
                _verify(part, file)
                if file.unpacks_to:
                    _unpack(part, file, folder, progress)
            except _RefusedError as wrong:
                _forget(part)
                raise _RefusedError(f"what came {wrong}, and is deleted") from None
        except _RefusedError as reason:
            refused[file.name] = str(reason)
        except _DroppedError as reason:
            # the other files would be waited for in vain
            waiting = [other.name for other in missing(source, folder)]
            raise UserError(
                f"{urlsplit(file.url).hostname} does not deliver {file.name} ({reason}). What came is kept: this"
                f" command goes on from there when run again. Or {_by_hand(waiting, source, folder)}"
            ) from None
        else:
            if file.unpacks_to:
                part.unlink()
                tell(f"{file.name} is downloaded and unpacked; the archive is deleted.")
            else:
                part.replace(own)
                tell(f"{file.name} is downloaded.")
            _note(part).unlink(missing_ok=True)
    if refused:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise UserError(
            f"{source.title} can't be had whole from its host ({reasons})."
            f" With a browser, {_by_hand(list(refused), source, folder)}"
        )


def _by_hand(names: list[str], source: Source, folder: Path) -> str:
    return (
        f"fetch {', '.join(names)} by hand from {source.page}, put {'it' if len(names) == 1 else 'them'} unaltered into"
        f" {folder.absolute()}, and run this command again to check and unpack."
    )


# --- one file over the network ----------------------------------------------------------------------------------------


def _part(file: File, folder: Path) -> Path:
    return folder / f"{file.name}.part"


def _note(part: Path) -> Path:
    """Return where it is noted which version of which file a .part file is the beginning of."""
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects from web address to web address, never from an encrypted one to a plain one."""

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


def _fetch(
    file: File, part: Path, progress: Progress, tell: Tell, sleep: Callable[[float], None], timeout: float
) -> None:
    """Make `part` the whole file, going on from what it holds; give up after some tries that bring nothing new."""
    furthest, fruitless = _size(part), 0
    while True:
        try:
            _attempt(file, part, progress, timeout)
            return
        except _DroppedError as reason:
            fruitless = 0 if _size(part) > furthest else fruitless + 1
            furthest = max(furthest, _size(part))
            if fruitless == _TRIES:
                raise
            tell(f"{file.name}: {reason}; trying again in {2**fruitless} s.")
            sleep(2.0**fruitless)


def _attempt(file: File, part: Path, progress: Progress, timeout: float) -> None:
    """Ask once for what is missing of a file, and write what comes.

    Raises:
        _DroppedError: the answer broke off, or did not come; _RefusedError: it was no, or something else than the file.
    """
    known = _read_note(part, file)
    start = _size(part) if known else 0
    if known and start == known["total"]:
        return
    # HEAD is not asked: Google Drive answers it with an empty page
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
        raise _DroppedError(_clean(getattr(error, "reason", None) or error)) from None

    with response:
        total: int | None
        version = {"url": file.url, "etag": response.headers["ETag"], "modified": response.headers["Last-Modified"]}
        if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise _RefusedError(_page_words(_begin(response)))
        if response.status == 206:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers["Content-Range"] or "")
            if not span or int(span[1]) != start or {**version, "total": int(span[2])} != known:
                _forget(part)
                raise _DroppedError("the file has changed since its download began")
            total, first = int(span[2]), b""
        elif response.status == 200:
            length = response.headers["Content-Length"] or ""
            start, total, first = 0, int(length) if length.isdecimal() else None, _begin(response)
            if is_web_page(first):
                raise _RefusedError(_page_words(first))
            if file.unpacks_to and not first.startswith(b"PK"):
                raise _RefusedError("what the host sends is not a zip archive")
        else:
            raise _RefusedError(f"HTTP status {response.status}")
        most = file.size * _SLACK if total is None else total
        if most > file.size * _SLACK:
            raise _RefusedError(f"the host announces {in_words(most)} where about {in_words(file.size)} belong")
        _check_room(part.parent, most - start + file.unpacked if total else 0, file.name)
        if not start:
            _forget(part)
            _note(part).write_text(json.dumps({**version, "total": total}))
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
        _forget(part)
        raise _RefusedError(f"the host sends more than the {in_words(most)} that belong there")
    if total is None:
        _note(part).write_text(json.dumps({**version, "total": done}))
    elif done < total:
        raise _DroppedError(f"the connection ended after {in_words(done)} of {in_words(total)}")


def _read_note(part: Path, file: File) -> dict[str, Any]:
    """Return what is known of the file that `part` is the beginning of; {} where nothing is, or of another address."""
    try:
        note = json.loads(_note(part).read_text())
        known = {key: note[key] for key in ("url", "etag", "modified", "total")}
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return known if known["url"] == file.url and part.is_file() else {}


def _refusal(error: urllib.error.HTTPError, part: Path) -> Exception:
    """Return what an HTTP status that is no success means."""
    with error:
        if error.code == 416:
            _forget(part)
            return _DroppedError("the host can't go on from where the download stopped")
        if 300 <= error.code < 400:
            return _RefusedError("the host sends on to an address that is not followed")
        words = f"HTTP status {error.code} {_clean(error.reason)}".rstrip()
        return _DroppedError(words) if error.code >= 500 or error.code == 408 else _RefusedError(words)


def _begin(response: http.client.HTTPResponse) -> bytes:
    """Return the first bytes of an answer."""
    try:
        return response.read(4096)
    except (OSError, http.client.HTTPException) as error:
        raise _DroppedError(_clean(error)) from None


def _pieces(response: http.client.HTTPResponse, first: bytes) -> Iterator[bytes]:
    """Yield an answer piece by piece, as it comes: what came before the connection broke is not lost."""
    if first:
        yield first
    try:
        while piece := response.read1(_CHUNK):
            yield piece
    except (OSError, http.client.HTTPException) as error:
        raise _DroppedError(_clean(error)) from None


def _page_words(start: bytes) -> str:
    title = re.search(rb"<title[^>]*>(.*?)</title", start, re.IGNORECASE | re.DOTALL)
    words = _clean(title[1].decode("utf-8", "replace")) if title else ""
    return "the host answers with a web page" + (f" titled '{words}'" if words else "") + " instead of the file"


def _clean(words: object) -> str:
    """Return somebody else's words on one line, without control characters, and not too long."""
    text = " ".join(str(words).split())
    return "".join(c for c in text if c.isprintable())[:100] or type(words).__name__


# --- archives ---------------------------------------------------------------------------------------------------------


def _unpack(archive: Path, file: File, folder: Path, progress: Progress) -> None:
    """Unpack a zip archive to `folder / file.unpacks_to`, which appears whole or not at all.

    Every member is checked before anything is written: none may lie outside the folder, be a link or come twice, and
    their number and sizes are bounded. Checksums are checked as members are written.

    Raises:
        _RefusedError: the archive is damaged, or not one that would be published; UserError: the disk has no room.
    """
    target = folder / file.unpacks_to
    half = folder / f".{file.unpacks_to}.unpacking"
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, struct.error, NotImplementedError, ValueError, OverflowError, OSError) as error:
        raise _RefusedError(f"is not a whole zip archive ({_clean(error)})") from None
    with opened:
        members = _members(opened, file, archive.stat().st_size)
        total = sum(member.file_size for member in members.values())
        _check_room(folder, sum(-(-m.file_size // _BLOCK) * _BLOCK for m in members.values()), f"unpacking {file.name}")
        if half.is_dir():  # left by a process that was killed
            shutil.rmtree(half)
        try:
            done, made = 0, {half}
            half.mkdir()
            for path, member in members.items():
                place = half / path
                if place.parent not in made:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    made.add(place.parent)
                done += _write_member(opened, member, place)
                progress(done, total, f"unpacking {file.name}")
            if file.proof and not (half / file.proof).is_file():
                raise _RefusedError(f"holds no {file.proof}")
            if target.is_dir():  # an empty one
                target.rmdir()
            half.rename(target)
        finally:
            if half.is_dir():
                shutil.rmtree(half)


def _members(opened: zipfile.ZipFile, file: File, size: int) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Return the members to write by their path below the target folder; refuse the archive if one is not as it should.

    What stands above a folder named as the target is dropped, so that it makes no difference whether an archive holds
    its folder once, twice or not at all.
    """
    infos = opened.infolist()
    if len(infos) > file.members:
        raise _RefusedError(f"holds {len(infos):,} members, more than {file.members:,}")
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in infos:
        name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
        parts = [part for part in name.split("/") if part not in ("", ".")]
        outside = name.startswith("/") or ".." in parts or any(re.match(r"[A-Za-z]:", part) for part in parts)
        if outside or "\\" in name or re.search(r"[\x00-\x1f\x7f]", name):
            raise _RefusedError(f"holds a member of a name that is not safe ('{_clean(name)}')")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _RefusedError(f"holds a link or a special file ('{_clean(name)}')")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _RefusedError(f"holds a member that is encrypted or packed in an unusual way ('{_clean(name)}')")
        if not parts or name.endswith("/") or parts[0] == "__MACOSX" or parts[-1].startswith("._"):
            continue
        above = [number for number, part in enumerate(parts[:-1]) if part == file.unpacks_to]
        path = PurePosixPath(*parts[above[-1] + 1 if above else 0 :])
        if path in members:
            raise _RefusedError(f"holds '{_clean(name)}' twice")
        members[path] = info
    for parent in {parent for path in members for parent in path.parents}:
        if parent in members:
            raise _RefusedError(f"holds '{_clean(parent)}' as a file and as a folder")
    if not members:
        raise _RefusedError("holds no files")
    total = sum(member.file_size for member in members.values())
    if total > file.unpacked * _SLACK or total > size * _RATIO:
        raise _RefusedError(f"would unpack to {in_words(total)}, which can't be right")
    return members


def _write_member(opened: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path) -> int:
    """Write one member to a new file and return its size; it must have the size and the checksum that it declares."""
    written = 0
    with place.open("xb") as sink:
        for piece in _member_pieces(opened, member):
            written += len(piece)
            if written > member.file_size:
                break
            sink.write(piece)
    if written != member.file_size:
        raise _RefusedError(f"is damaged at '{_clean(member.filename)}' (not the size that it declares)")
    return written


def _member_pieces(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield a member piece by piece; an error of the archive, OSError included, is told from one of the disk."""
    try:
        with opened.open(member) as content:
            while piece := content.read(_CHUNK):
                yield piece
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, ValueError, OSError) as error:
        raise _RefusedError(f"is damaged at '{_clean(member.filename)}' ({_clean(error)})") from None

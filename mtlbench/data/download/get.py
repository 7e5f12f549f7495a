"""Brings a data set to a folder: finds what is missing, fetches it, checks it, unpacks the archives."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from mtlbench.data.download.fetch import Tell, bytes_of, fetch, forget, note_of, part_of
from mtlbench.data.download.shared import DroppedError, Progress, RefusedError, check_room
from mtlbench.data.download.source import File, Source
from mtlbench.data.download.unpack import unpack
from mtlbench.data.webpage import holds_web_page
from mtlbench.errors import UserError

_PAGE = "is a web page saved under the file's name"


def missing(source: Source, folder: Path) -> list[File]:
    """Return the files to download: those that are not there, not unpacked, and not there as an archive.

    An existing file of labels counts even if it is not the official one; so does its .csv version.

    Raises:
        UserError: the name of a file or of an unpacked folder is taken by something else.
    """
    return [file for file in _unfinished(source, folder) if not (folder / file.name).is_file()]


def _unfinished(source: Source, folder: Path) -> list[File]:
    """Return the files to download or to unpack."""
    unfinished = []
    for file in source.files:
        target = _target(file, folder)
        fault = ""
        if not target.exists() or (file.unpacks_to and target.is_dir() and not any(target.iterdir())):
            unfinished.append(file)
        elif file.unpacks_to:
            # some archives, and some folders unpacked by hand, contain the folder twice, one inside the other
            inside = (target, target / file.unpacks_to)
            if not target.is_dir() or not any((place / file.proof).exists() for place in inside):
                lacks = f" ({file.proof} is missing)" if file.proof else ""
                fault = f"is not what {file.name} unpacks to{lacks}"
        elif not target.is_file():
            fault = "is no file"
        elif not bytes_of(target):
            fault = "is empty"
        elif holds_web_page(target):
            fault = _PAGE
        if fault:
            raise UserError(f"{target} {fault}: move it away and run this command again.")
    return unfinished


def _target(file: File, folder: Path) -> Path:
    """Return the final path of a file: the folder it unpacks to, or the file itself, for labels also as .csv."""
    target = folder / (file.unpacks_to or file.name)
    table = target.with_suffix(".csv")
    return table if target.suffix == ".txt" and not target.exists() and table.is_file() else target


def _verify(path: Path, file: File) -> None:
    """Raise RefusedError if the file on disk does not have the official checksum; without one, any checksum will do."""
    if holds_web_page(path):
        raise RefusedError(_PAGE)
    if fault := _unofficial(path, file):
        raise RefusedError(fault)


def _unofficial(path: Path, file: File) -> str:
    """Return a message if a file on disk does not have the official checksum, or "" if it has or there is none."""
    if not file.md5:
        return ""
    with path.open("rb") as content:
        found = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return "" if found == file.md5 else f"is not the official file (its MD5 is {found}, the official one {file.md5})"


def download(
    source: Source,
    folder: Path,
    progress: Progress = lambda done, total, what: None,
    tell: Tell = lambda words: None,
    *,
    sleep: Callable[[float], None] = time.sleep,
    timeout: float = 30.0,
) -> None:
    """Download what is missing of a data set to `folder`, check it, and unpack the archives.

    Existing files are not touched; `tell` reports label files that are not the official ones. An interrupted download
    is kept in `<name>.part` and continued later; its archive is deleted after unpacking. An archive that the user put
    there is checked, unpacked and kept.

    Args:
        source: a reader's.
        folder: the data set's own folder; made if absent.
        progress: called with bytes done, bytes in all (0 if not known) and the current activity.
        tell: called with a sentence for the user, about once per file and before each new try.
        sleep: waits between tries; timeout: seconds without an answer after which a connection is given up.

    Raises:
        UserError: the host refuses, can't be reached or sends something else (the message says what to fetch by hand
            and where to put it), the disk has no room, or an existing archive is not the official one.
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
    there = sum(bytes_of(part_of(file, folder)) for file in unfinished)
    check_room(folder, needed - there, source.title)

    refused: dict[str, str] = {}
    for file in sorted(unfinished, key=lambda file: file.name in absent):  # check the user's own archives first
        own = folder / file.name
        if file.name not in absent:
            try:
                _verify(own, file)
                unpack(own, file, folder, progress)
            except RefusedError as wrong:
                raise UserError(
                    f"{own} {wrong}: fetch it again from {source.page}, put it there and run this command again."
                ) from None
            tell(f"{file.name} is unpacked; the archive is yours and is kept.")
            continue
        part = part_of(file, folder)
        try:
            fetch(file, part, progress, tell, sleep, timeout)
            try:
                _verify(part, file)
                if file.unpacks_to:
                    unpack(part, file, folder, progress)
            except RefusedError as wrong:
                forget(part)
                raise RefusedError(f"what came {wrong}, and is deleted") from None
        except RefusedError as reason:
            refused[file.name] = str(reason)
        except DroppedError as reason:
            # don't try the other files
            waiting = [other.name for other in missing(source, folder)]
            raise UserError(
                f"{urlsplit(file.url).hostname} does not deliver {file.name} ({reason}). The part that came is kept:"
                f" this command continues from there when run again. Or {_by_hand(waiting, source, folder)}"
            ) from None
        else:
            if file.unpacks_to:
                part.unlink()
                tell(f"{file.name} is downloaded and unpacked; the archive is deleted.")
            else:
                part.replace(own)
                tell(f"{file.name} is downloaded.")
            note_of(part).unlink(missing_ok=True)
    if refused:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise UserError(
            f"{source.title} can't be downloaded whole from its host ({reasons})."
            f" With a browser, {_by_hand(list(refused), source, folder)}"
        )


def _by_hand(names: list[str], source: Source, folder: Path) -> str:
    return (
        f"fetch {', '.join(names)} by hand from {source.page}, put {'it' if len(names) == 1 else 'them'} unaltered into"
        f" {folder.absolute()}, and run this command again to check and unpack."
    )

"""Unpacks a zip archive, completely or not at all.

It refuses archives that write outside their folder or differ from their description.
"""

from __future__ import annotations

import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mtlbench.data.download.shared import CHUNK, SLACK, Progress, RefusedError, check_room, clean, in_words
from mtlbench.data.download.source import File

_RATIO = 100  # how many times its own size an archive may unpack to; images hardly compress, tables about ten times
_BLOCK = 4096  # disk space of a small file on most file systems


def unpack(archive: Path, file: File, folder: Path, progress: Progress) -> None:
    """Unpack a zip archive to `folder / file.unpacks_to`, completely or not at all.

    Every member is checked before anything is written: it must be inside the folder, must not be a link, and must not
    come twice; the number and sizes of members are limited. Checksums are checked as members are written.

    Raises:
        RefusedError: the archive is damaged, or is not one that would be published; UserError: the disk has no room.
    """
    target = folder / file.unpacks_to
    half = folder / f".{file.unpacks_to}.unpacking"
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, struct.error, NotImplementedError, ValueError, OverflowError, OSError) as error:
        raise RefusedError(f"is not a whole zip archive ({clean(error)})") from None
    with opened:
        members = _members(opened, file, archive.stat().st_size)
        total = sum(member.file_size for member in members.values())
        check_room(folder, sum(-(-m.file_size // _BLOCK) * _BLOCK for m in members.values()), f"unpacking {file.name}")
        if half.is_dir():  # a killed process left it
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
                raise RefusedError(f"holds no {file.proof}")
            if target.is_dir():  # an empty folder
                target.rmdir()
            half.rename(target)
        finally:
            if half.is_dir():
                shutil.rmtree(half)


def _members(opened: zipfile.ZipFile, file: File, size: int) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Return the members to write, by their path below the target folder; refuse an archive with a suspicious member.

    Path components above a folder named like the target are dropped. An archive may thus hold its folder once, twice or
    not at all.
    """
    infos = opened.infolist()
    if len(infos) > file.members:
        raise RefusedError(f"holds {len(infos):,} members, more than {file.members:,}")
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in infos:
        name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
        parts = [part for part in name.split("/") if part not in ("", ".")]
        outside = name.startswith("/") or ".." in parts or any(re.match(r"[A-Za-z]:", part) for part in parts)
        if outside or "\\" in name or re.search(r"[\x00-\x1f\x7f]", name):
            raise RefusedError(f"holds a member of a name that is not safe ('{clean(name)}')")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise RefusedError(f"holds a link or a special file ('{clean(name)}')")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RefusedError(f"holds a member that is encrypted or packed in an unusual way ('{clean(name)}')")
        if not parts or name.endswith("/") or parts[0] == "__MACOSX" or parts[-1].startswith("._"):
            continue
        above = [number for number, part in enumerate(parts[:-1]) if part == file.unpacks_to]
        path = PurePosixPath(*parts[above[-1] + 1 if above else 0 :])
        if path in members:
            raise RefusedError(f"holds '{clean(name)}' twice")
        members[path] = info
    for parent in {parent for path in members for parent in path.parents}:
        if parent in members:
            raise RefusedError(f"holds '{clean(parent)}' as a file and as a folder")
    if not members:
        raise RefusedError("holds no files")
    total = sum(member.file_size for member in members.values())
    if total > file.unpacked * SLACK or total > size * _RATIO:
        raise RefusedError(f"would unpack to {in_words(total)}, which can't be right")
    return members


def _write_member(opened: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path) -> int:
    """Write one member to a new file and return its size; size and checksum must be those that it declares."""
    written = 0
    with place.open("xb") as sink:
        for piece in _member_pieces(opened, member):
            written += len(piece)
            if written > member.file_size:
                break
            sink.write(piece)
    if written != member.file_size:
        raise RefusedError(f"is damaged at '{clean(member.filename)}' (not the size that it declares)")
    return written


def _member_pieces(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield a member in pieces; errors of the archive, OSError included, become different from errors of the disk."""
    try:
        with opened.open(member) as content:
            while piece := content.read(CHUNK):
                yield piece
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, ValueError, OSError) as error:
        raise RefusedError(f"is damaged at '{clean(member.filename)}' ({clean(error)})") from None

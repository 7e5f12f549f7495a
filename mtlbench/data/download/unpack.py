"""Unpacks a zip archive, whole or not at all, and refuses one that reaches out of its folder or is not as declared."""

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
_BLOCK = 4096  # what a small file takes on most file systems


def unpack(archive: Path, file: File, folder: Path, progress: Progress) -> None:
    """Unpack a zip archive to `folder / file.unpacks_to`, which appears whole or not at all.

    Every member is checked before anything is written: none may lie outside the folder, be a link or come twice, and
    their number and sizes are bounded. Checksums are checked as members are written.

    Raises:
        RefusedError: the archive is damaged, or not one that would be published; UserError: the disk has no room.
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
                raise RefusedError(f"holds no {file.proof}")
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
    """Write one member to a new file and return its size; it must have the size and the checksum that it declares."""
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
    """Yield a member piece by piece; an error of the archive, OSError included, is told from one of the disk."""
    try:
        with opened.open(member) as content:
            while piece := content.read(CHUNK):
                yield piece
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, ValueError, OSError) as error:
        raise RefusedError(f"is damaged at '{clean(member.filename)}' ({clean(error)})") from None

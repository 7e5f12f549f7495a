"""Archives of usual shapes, archives that mean harm, and unpacking that is interrupted."""

from __future__ import annotations

import io
import random
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support_download import IMAGES, LABELS, WHOLE, Host, contents, noise, refusal, zipped

from mtlbench.data.download.source import Source
from mtlbench.errors import UserError


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

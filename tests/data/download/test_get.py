"""A folder is made whole: what the user put there is checked and kept, and what comes is what the readers read."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support_download import IMAGES, LABELS, PAGE, WHOLE, Host, contents, refusal, zipped

from mtlbench.data.download.get import download, missing
from mtlbench.data.download.source import Source
from mtlbench.datasets.celeba import CelebA, read_celeba
from mtlbench.datasets.contract import readers
from mtlbench.datasets.zappos import Zappos, read_zappos
from mtlbench.errors import UserError


def test_an_archive_fetched_by_hand_is_unpacked_and_kept(
    bring: Callable[..., list[str]], host: Host, source: Source, folder: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / "photos.zip").write_bytes(host.files["photos.zip"])
    (folder / "labels.txt").write_bytes(LABELS)
    assert missing(source, folder) == []
    assert bring() == [
        "labels.txt is already there.",
        "photos.zip is unpacked; the archive is yours and is kept.",
    ]
    assert contents(folder) == {**WHOLE, "photos.zip": host.files["photos.zip"]}
    assert host.asked == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (PAGE, "is a web page saved under the file's name"),
        (zipped(IMAGES)[:9000], "is not a whole zip archive"),
        (b"", "is not a whole zip archive"),
    ],
    ids=["page", "cut short", "empty"],
)
def test_an_archive_fetched_by_hand_that_is_none_is_named_and_left_alone(
    bring: Callable[..., list[str]], host: Host, folder: Path, body: bytes, words: str
) -> None:
    folder.mkdir(parents=True)
    (folder / "photos.zip").write_bytes(body)
    told = refusal(bring)
    assert told.startswith(f"{folder / 'photos.zip'} {words}")
    assert "fetch it again from https://example.org/photos.html" in told
    assert contents(folder) == {"photos.zip": body}
    assert host.asked == []


def test_an_archive_fetched_by_hand_must_have_the_official_checksum(
    bring: Callable[..., list[str]], host: Host, source: Source, folder: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / "photos.zip").write_bytes(host.files["photos.zip"])
    checked = replace(source.files[1], md5="0" * 32)
    assert "is not the official file (its MD5 is" in refusal(bring, source=replace(source, files=(checked,)))
    assert contents(folder) == {"photos.zip": host.files["photos.zip"]}


@pytest.mark.parametrize("body", [LABELS[:-1], LABELS.replace(b" ", b"\r\n")], ids=["a sample", "Windows line ends"])
def test_labels_that_are_not_the_official_file_are_kept_with_a_remark_and_keep_nothing_from_being_unpacked(
    bring: Callable[..., list[str]], host: Host, source: Source, folder: Path, body: bytes
) -> None:
    folder.mkdir(parents=True)
    (folder / "labels.txt").write_bytes(body)
    (folder / "photos.zip").write_bytes(host.files["photos.zip"])
    assert missing(source, folder) == []
    found, official = hashlib.md5(body).hexdigest(), source.files[0].md5
    assert bring() == [
        f"labels.txt is not the official file (its MD5 is {found}, the official one {official}): kept as it is. Move it"
        " away to have the official one downloaded.",
        "photos.zip is unpacked; the archive is yours and is kept.",
    ]
    assert contents(folder) == {**IMAGES, "labels.txt": body, "photos.zip": host.files["photos.zip"]}
    assert host.asked == []


def test_labels_as_csv_are_there_already(
    bring: Callable[..., list[str]], host: Host, source: Source, folder: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / "labels.csv").write_bytes(b"image_id,label\n")
    assert [file.name for file in missing(source, folder)] == ["photos.zip"]
    assert bring()[0] == "labels.csv is already there."
    assert contents(folder) == {**IMAGES, "labels.csv": b"image_id,label\n"}
    assert host.ranges("labels.txt") == []


def test_a_folder_in_the_place_of_labels_is_refused(bring: Callable[..., list[str]], host: Host, folder: Path) -> None:
    (folder / "labels.txt").mkdir(parents=True)
    assert refusal(bring) == f"{folder / 'labels.txt'} is no file: move it away and run this command again."
    assert host.asked == []


def test_a_folder_that_was_unpacked_into_another_of_its_name_is_whole(
    bring: Callable[..., list[str]], source: Source, host: Host, folder: Path
) -> None:
    (folder / "photos" / "photos").mkdir(parents=True)
    (folder / "photos" / "photos" / "table.csv").write_text("a")
    proven = replace(source, files=(replace(source.files[1], proof="table.csv"),))
    assert bring(source=proven) == ["photos is already there."]
    assert host.asked == []


@pytest.mark.parametrize(
    ("body", "words"),
    [(PAGE, "is a web page saved under the file's name"), (b"", "is empty")],
    ids=["page", "empty"],
)
def test_a_file_of_the_user_that_holds_no_labels_is_named_and_never_overwritten(
    bring: Callable[..., list[str]], host: Host, folder: Path, body: bytes, words: str
) -> None:
    folder.mkdir(parents=True)
    (folder / "labels.txt").write_bytes(body)
    told = refusal(bring)
    assert told.startswith(f"{folder / 'labels.txt'} {words}")
    assert "move it away" in told
    assert contents(folder) == {"labels.txt": body}
    assert host.asked == []


def test_a_folder_in_the_way_is_told_before_the_download(
    bring: Callable[..., list[str]], source: Source, host: Host, folder: Path
) -> None:
    (folder / "photos").mkdir(parents=True)
    (folder / "photos" / "mine.txt").write_text("mine")
    proven = replace(source, files=(replace(source.files[1], proof="a/0.jpg"),))
    words = refusal(bring, source=proven)
    assert "photos is not what photos.zip unpacks to (a/0.jpg is missing): move it away" in words
    assert host.asked == []
    (folder / "photos" / "mine.txt").unlink()  # an empty folder is in nobody's way
    bring(source=proven)
    assert contents(folder) == IMAGES


def test_a_data_directory_that_is_a_file_is_refused(source: Source, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is not a folder: name another one with --data-dir"):
        download(replace(source, files=source.files[:1]), tmp_path / "file")


def test_the_catalogue_names_the_official_files() -> None:
    from torchvision.datasets import CelebA as Official

    celeba, zappos = CelebA.source(), Zappos.source()
    official = {name: (number, md5) for number, md5, name in Official.file_list}
    assert {f.name for f in celeba.files} == official.keys() - {
        "list_bbox_celeba.txt",
        "list_landmarks_align_celeba.txt",
    }
    for file in celeba.files:
        number, md5 = official[file.name]
        assert file.md5 == md5
        assert file.url.startswith("https://drive.usercontent.google.com/download?")
        assert f"id={number}&" in file.url
    assert [f.url for f in zappos.files] == [
        "https://vision.cs.utexas.edu/projects/finegrained/utzap50k/ut-zap50k-data.zip",
        "https://vision.cs.utexas.edu/projects/finegrained/utzap50k/ut-zap50k-images.zip",
    ]
    for source in (celeba, zappos):
        assert "non-commercial" in source.licence
        assert source.page in source.licence
        assert all(file.members and file.unpacked for file in source.files if file.unpacks_to)
    assert {name for name, reader in readers().items() if reader.source} == {"celeba", "zappos"}


def served(host: Host, root: Path, source: Source) -> Source:
    """Publish the data set that lies at `root` on the host, under the names and checksums of its source."""
    files = []
    for file in source.files:
        if file.unpacks_to:
            paths = sorted(p for p in (root / file.unpacks_to).rglob("*") if p.is_file())
            body = zipped({p.relative_to(root).as_posix(): p.read_bytes() for p in paths})
        else:
            body = (root / file.name).read_bytes()
        host.files[file.name] = body
        md5 = hashlib.md5(body).hexdigest() if file.md5 else ""
        files.append(replace(file, url=host.address + file.name, md5=md5))
    return replace(source, files=tuple(files))


def small(source: Source) -> Source:
    return replace(source, files=tuple(replace(f, size=100_000, unpacked=min(f.unpacked, 10**6)) for f in source.files))


def test_what_is_downloaded_can_be_read(host: Host, celeba_folder: Path, zappos_folder: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    download(small(served(host, celeba_folder, CelebA.source())), there / "celeba")
    download(small(served(host, zappos_folder, Zappos.source())), there / "zappos")
    assert contents(there / "celeba") == contents(celeba_folder)
    assert contents(there / "zappos") == contents(zappos_folder)
    assert read_celeba(there / "celeba").paths == read_celeba(celeba_folder).paths
    assert read_zappos(there / "zappos").paths == read_zappos(zappos_folder).paths


def as_csv(root: Path) -> None:
    for name, head in (
        ("list_attr_celeba", ""),
        ("identity_CelebA", "image_id,identity"),
        ("list_eval_partition", "a,b"),
    ):
        lines = (root / f"{name}.txt").read_text().splitlines()
        rows = lines if head else ["image_id " + lines[1], *lines[2:]]
        text = "\n".join([*([head] if head else []), *(",".join(row.split()) for row in rows)])
        (root / f"{name}.csv").write_text(text + "\n")
        (root / f"{name}.txt").unlink()


def with_windows_line_ends(root: Path) -> None:
    for path in root.glob("*.txt"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


@pytest.mark.parametrize("change", [as_csv, with_windows_line_ends, lambda root: None], ids=["csv", "CRLF", "official"])
def test_what_celebas_reader_says_would_be_unpacked_is(
    host: Host, celeba_folder: Path, change: Callable[[Path], None]
) -> None:
    source, paths = small(served(host, celeba_folder, CelebA.source())), read_celeba(celeba_folder).paths
    shutil.rmtree(celeba_folder / "img_align_celeba")
    (celeba_folder / "img_align_celeba.zip").write_bytes(host.files["img_align_celeba.zip"])
    change(celeba_folder)
    with pytest.raises(UserError, match=f"`mtlbench data get celeba --data-dir {celeba_folder}`, which unpacks"):
        read_celeba(celeba_folder)
    download(source, celeba_folder)
    assert host.asked == []
    assert read_celeba(celeba_folder).paths == paths


@pytest.mark.parametrize("doubled", [False, True], ids=["table", "table in a doubled folder"])
def test_what_zappos_reader_says_would_be_unpacked_is(host: Host, zappos_folder: Path, doubled: bool) -> None:
    source, paths = small(served(host, zappos_folder, Zappos.source())), read_zappos(zappos_folder).paths
    shutil.rmtree(zappos_folder / "ut-zap50k-images")
    (zappos_folder / "ut-zap50k-images.zip").write_bytes(host.files["ut-zap50k-images.zip"])
    if doubled:
        (zappos_folder / "ut-zap50k-data").rename(zappos_folder / "inner")
        (zappos_folder / "ut-zap50k-data").mkdir()
        (zappos_folder / "inner").rename(zappos_folder / "ut-zap50k-data" / "ut-zap50k-data")
    with pytest.raises(UserError, match=f"`mtlbench data get zappos --data-dir {zappos_folder}`, which unpacks"):
        read_zappos(zappos_folder)
    download(source, zappos_folder)
    assert host.asked == []
    assert read_zappos(zappos_folder).paths == paths

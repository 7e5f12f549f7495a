"""The pack: in the table's order, made once, made again where files change, and what becomes of unreadable images."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support_pack import GREYS, break_image, decodes, everything, greys, noise, only_pack, table_of, write_grey

from mtlbench.data import decoding
from mtlbench.data.pack import Pack, cache_folder, decode, open_pack
from mtlbench.data.table import Table
from mtlbench.errors import UserError


def test_images_lie_in_the_order_of_the_table(images: Table) -> None:
    forward = open_pack(images, (8, 8), "squash")
    backward = open_pack(table_of(images.root, [*images.paths][::-1]), (8, 8), "squash")
    assert np.array_equal(forward.images[::-1], backward.images)
    assert forward.fingerprint != backward.fingerprint
    assert forward.kept.tolist() == [0, 1, 2, 3]
    assert forward.unreadable == ()
    assert forward.changed == 0


def test_images_of_many_chunks_all_land_in_their_rows_and_are_counted(tmp_path: Path) -> None:
    for i in range(7):
        write_grey(tmp_path / f"{i}.png", i * 30)
    counts: list[tuple[int, int]] = []
    names = [f"{i % 7}.png" for i in range(1100)]
    packed = open_pack(table_of(tmp_path, names), (4, 4), "squash", lambda *done: counts.append(done))
    assert greys(packed) == [i % 7 * 30 for i in range(1100)]
    assert counts[-1] == (1100, 1100)
    assert sorted(set(counts)) == counts
    assert all(total == 1100 for _, total in counts)


def test_a_second_opening_decodes_nothing_and_says_no_progress(images: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_pack(images, (8, 8), "squash")
    seen = decodes(monkeypatch)

    def refuse(done: int, total: int) -> None:
        raise AssertionError("progress of nothing")

    second = open_pack(images, (8, 8), "squash", refuse)
    assert seen == []
    assert np.array_equal(first.images, second.images)
    assert np.array_equal(first.kept, second.kept)
    assert first.fingerprint == second.fingerprint


def test_writing_to_the_opened_pixels_leaves_the_pack_as_it_is(images: Table) -> None:
    first = open_pack(images, (8, 8), "squash")
    before = first.images.copy()
    torch.from_numpy(first.images).zero_()
    assert np.array_equal(open_pack(images, (8, 8), "squash").images, before)


@pytest.mark.parametrize(("size", "fit"), [((8, 9), "squash"), ((9, 8), "squash"), ((8, 8), "crop")])
def test_another_size_or_fit_is_another_pack(images: Table, size: tuple[int, int], fit: str) -> None:
    first = open_pack(images, (8, 8), "squash")
    other = open_pack(images, size, fit)
    assert other.images.shape[1:3] == size
    assert other.fingerprint != first.fingerprint
    assert len([p for p in cache_folder().iterdir() if p.is_dir()]) == 2


def test_the_fingerprint_is_the_contents_alone(images: Table, tmp_path: Path) -> None:
    first = open_pack(images, (8, 8), "squash")
    shutil.copytree(images.root, tmp_path / "copy")
    for i, path in enumerate(images.paths):
        os.utime(tmp_path / "copy" / path, (1_000_000 + i, 1_000_000 + i))
    copied = open_pack(table_of(tmp_path / "copy", [*images.paths], name="An/Other"), (8, 8), "squash")
    assert copied.fingerprint == first.fingerprint
    assert np.array_equal(copied.images, first.images)


def test_a_changed_pixel_changes_the_fingerprint(tmp_path: Path) -> None:
    packs: list[Pack] = []
    for folder, grey in (("a", 100), ("b", 101)):
        (tmp_path / folder).mkdir()
        picture = Image.new("RGB", (64, 64), (50, 50, 50))
        picture.putpixel((3, 3), (grey, grey, grey))
        picture.save(tmp_path / folder / "0.png")
        packs.append(open_pack(table_of(tmp_path / folder, ["0.png"]), (8, 8), "squash"))
    assert packs[0].fingerprint != packs[1].fingerprint


def test_packs_lie_where_the_environment_says(
    images: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "here" / "and deeper"))
    open_pack(images, (8, 8), "squash")
    assert everything(only_pack(tmp_path / "here" / "and deeper")) == ["files", "images", "journal", "pack.json"]
    assert not cache.exists()


def test_without_a_setting_packs_lie_in_the_platforms_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTLBENCH_CACHE", "")
    assert cache_folder().is_absolute()
    assert "mtlbench" in cache_folder().parts


def test_a_changed_file_is_packed_again_and_counted(many: Table, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_pack(many, (4, 4), "squash")
    seen = decodes(monkeypatch)
    write_grey(many.root / "17.bmp", 200)
    second = open_pack(many, (4, 4), "squash")
    assert greys(second) == [*GREYS[:17], 200, *GREYS[18:]]
    assert second.changed == 1
    assert second.fingerprint != first.fingerprint
    assert sorted(seen) == [f"{i}.bmp" for i in range(16, 24)]  # its chunk alone
    assert open_pack(many, (4, 4), "squash").changed == 0
    assert only_pack(cache)


def test_who_has_the_old_pack_open_keeps_its_pixels(many: Table) -> None:
    first = open_pack(many, (4, 4), "squash")
    write_grey(many.root / "00.bmp", 200)
    open_pack(many, (4, 4), "squash")
    assert greys(first) == GREYS


def test_a_file_with_a_new_date_alone_has_not_changed(many: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_pack(many, (4, 4), "squash")
    os.utime(many.root / "17.bmp", (1_000_000, 1_000_000))
    second = open_pack(many, (4, 4), "squash")
    assert (second.changed, second.fingerprint) == (0, first.fingerprint)
    seen = decodes(monkeypatch)
    open_pack(many, (4, 4), "squash")
    assert seen == []


def test_a_file_of_the_same_length_but_another_time_is_packed_again(tmp_path: Path) -> None:
    for grey in (10, 200):
        write_grey(tmp_path / "0.bmp", grey)
        os.utime(tmp_path / "0.bmp", (grey, grey))
        assert greys(open_pack(table_of(tmp_path, ["0.bmp"]), (4, 4), "squash")) == [grey]


def test_files_that_change_places_are_packed_again(many: Table) -> None:
    """Renaming keeps lengths and times: images from one archive often have the same of both."""
    for path in many.paths:
        os.utime(many.root / path, (1_000_000, 1_000_000))
    open_pack(many, (4, 4), "squash")
    (many.root / "03.bmp").rename(many.root / "aside")
    (many.root / "17.bmp").rename(many.root / "03.bmp")
    (many.root / "aside").rename(many.root / "17.bmp")
    second = open_pack(many, (4, 4), "squash")
    assert (second.changed, greys(second)[3], greys(second)[17]) == (2, GREYS[17], GREYS[3])


def test_an_exchanged_file_of_the_same_length_and_time_is_packed_again(tmp_path: Path) -> None:
    for grey in (10, 200):
        write_grey(tmp_path / "0.bmp", grey)
        os.utime(tmp_path / "0.bmp", (1_000_000, 1_000_000))
        assert greys(open_pack(table_of(tmp_path, ["0.bmp"]), (4, 4), "squash")) == [grey]


def test_a_pack_of_an_older_layout_is_made_again(many: Table, cache: Path) -> None:
    open_pack(many, (4, 4), "squash")
    files = only_pack(cache) / "files"
    held = np.fromfile(files, decoding.FILE)
    old = np.zeros(len(held), [("size", "<i8"), ("mtime", "<i8"), ("digest", "u1", 32)])
    for name in old.dtype.names:
        old[name] = held[name]
    old.tofile(files)
    assert greys(open_pack(many, (4, 4), "squash")) == GREYS


def test_a_file_that_goes_missing_after_packing_is_named(many: Table) -> None:
    open_pack(many, (4, 4), "squash")
    (many.root / "17.bmp").unlink()
    with pytest.raises(UserError, match=r"1 of 40 images can't be read: .*17\.bmp \(No such file or directory\)\."):
        open_pack(many, (4, 4), "squash")


def test_images_that_change_while_they_are_packed_are_an_error(many: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    read = decoding.read_image

    def meddling(path: Path, *rest: Any) -> Any:
        pixels = read(path, *rest)
        write_grey(path, 250)
        os.utime(path, (1_000_000, 1_000_000))
        return pixels

    monkeypatch.setattr(decoding, "read_image", meddling)
    with pytest.raises(UserError, match=r"many changed while they were packed\. Try again"):
        open_pack(many, (4, 4), "squash")
    monkeypatch.undo()
    assert set(greys(open_pack(many, (4, 4), "squash"))) == {250}


@pytest.mark.parametrize("damage", ["cut", "gone", "facts", "files"])
def test_a_damaged_pack_is_made_again(many: Table, cache: Path, damage: str) -> None:
    open_pack(many, (4, 4), "squash")
    folder = only_pack(cache)
    if damage == "cut":
        (folder / "images").write_bytes((folder / "images").read_bytes()[:200])
    elif damage == "gone":
        (folder / "images").unlink()
    elif damage == "facts":
        (folder / "pack.json").write_text("{")
    else:
        (folder / "files").write_bytes(b"")
    assert greys(open_pack(many, (4, 4), "squash")) == GREYS


def test_missing_and_broken_images_are_told_together(many: Table) -> None:
    (many.root / "09.bmp").unlink()
    break_image(many.root / "07.bmp")
    with pytest.raises(
        UserError, match=r"^2 of 40 .*07\.bmp \(not an image.*09\.bmp \(No such file.*--skip-unreadable"
    ):
        open_pack(many, (4, 4), "squash")


def test_many_missing_images_are_told_before_anything_is_decoded(
    many: Table, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = decodes(monkeypatch)
    for i in range(30):
        (many.root / f"{i:02}.bmp").unlink()
    with pytest.raises(
        UserError, match=r"^30 of 40 images.*and 25 more\. Replace them or take them out of the data set;"
    ):
        open_pack(many, (4, 4), "squash")
    assert seen == []
    assert everything(cache) == []


@pytest.mark.parametrize("broken", ["cut", "page", "empty", "folder", "tail"])
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_broken_image_is_named_with_the_reason(tmp_path: Path, broken: str, kind: str) -> None:
    path = tmp_path / f"image.{kind}"
    noise(60, 40).save(path, quality=90)
    data = path.read_bytes()
    path.unlink()
    if broken == "folder":
        path.mkdir()
    else:
        half = len(data) // 2
        parts = {"cut": data[:half], "page": b"<html>Sorry</html>", "empty": b"", "tail": data[:half] + bytes(half)}
        path.write_bytes(parts[broken])
    with pytest.raises(UserError, match=rf"image\.{kind} \([^()]+\)\. Replace it or take it out") as error:
        open_pack(table_of(tmp_path, [path.name]), (8, 8), "squash")
    assert "0x" not in str(error.value)  # no object's address
    with pytest.raises(UserError, match=rf"image\.{kind} can't be decoded: .*Replace the file"):
        decode(path, (8, 8), "squash")


def test_all_broken_images_are_told_at_once_the_first_few_by_name(many: Table) -> None:
    twice = table_of(many.root, [*many.paths] * 2)
    for i in (2, 11, 20, 38):
        break_image(many.root / f"{i:02}.bmp")
    with pytest.raises(UserError) as error:
        open_pack(twice, (4, 4), "squash")
    message = str(error.value)
    assert message.startswith("8 of 80 images can't be read: ")
    assert message.count("(not an image of a known format)") == 5
    assert all(f"{i:02}.bmp (not" in message for i in (2, 11, 20, 38))
    assert "and 3 more. Replace them, take them out of the data set, or leave them out with" in message


def test_what_was_decoded_before_the_error_is_used_when_the_broken_ones_are_left_out(
    many: Table, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_image(many.root / "17.bmp")
    with pytest.raises(UserError, match=r"17\.bmp"):
        open_pack(many, (4, 4), "squash")
    seen = decodes(monkeypatch)
    pack = open_pack(many, (4, 4), "squash", skip_unreadable=True)
    assert sorted(seen) == [f"{i}.bmp" for i in range(16, 24)]
    assert greys(pack) == [*GREYS[:17], *GREYS[18:]]
    assert only_pack(cache)


@pytest.mark.parametrize("gone", [[0], [39], [3, 4, 21], [7, 8]])
@pytest.mark.parametrize("way", ["broken", "missing"])
def test_images_left_out_are_listed_and_the_others_keep_their_order(many: Table, gone: list[int], way: str) -> None:
    for i in gone:
        path = many.root / f"{i:02}.bmp"
        break_image(path) if way == "broken" else path.unlink()
    kept = [i for i in range(40) if i not in gone]
    for _ in ("made", "found"):
        pack = open_pack(many, (4, 4), "squash", skip_unreadable=True)
        assert greys(pack) == [GREYS[i] for i in kept]
        assert pack.kept.tolist() == kept
        assert pack.kept.dtype == np.int64
        reason = "not an image of a known format" if way == "broken" else "No such file or directory"
        assert pack.unreadable == tuple((f"{i:02}.bmp", reason) for i in gone)


def test_the_fingerprint_says_which_images_were_left_out(many: Table, tmp_path: Path) -> None:
    fingerprints = {open_pack(many, (4, 4), "squash").fingerprint}
    for i in (3, 4):
        shutil.copytree(many.root, tmp_path / f"without {i}")
        break_image(tmp_path / f"without {i}" / f"{i:02}.bmp")
        table = table_of(tmp_path / f"without {i}", [*many.paths])
        fingerprints.add(open_pack(table, (4, 4), "squash", skip_unreadable=True).fingerprint)
    assert len(fingerprints) == 3


def test_a_pack_that_left_images_out_is_refused_where_that_is_not_asked_for(many: Table) -> None:
    break_image(many.root / "17.bmp")
    open_pack(many, (4, 4), "squash", skip_unreadable=True)
    with pytest.raises(UserError, match=r"1 of 40 images can't be read: .*17\.bmp \(not an image"):
        open_pack(many, (4, 4), "squash")


def test_an_image_that_was_left_out_joins_when_it_is_replaced(many: Table, cache: Path) -> None:
    break_image(many.root / "17.bmp")
    open_pack(many, (4, 4), "squash", skip_unreadable=True)
    write_grey(many.root / "17.bmp", GREYS[17])
    pack = open_pack(many, (4, 4), "squash")
    assert greys(pack) == GREYS
    assert (pack.unreadable, pack.changed) == ((), 1)
    assert only_pack(cache)


@pytest.mark.parametrize("way", ["broken", "missing"])
def test_more_than_a_tenth_is_too_many_to_leave_out(many: Table, way: str) -> None:
    for i in range(5):
        path = many.root / f"{i:02}.bmp"
        break_image(path) if way == "broken" else path.unlink()
    with pytest.raises(
        UserError, match=r"^5 of 40 images.*04\.bmp \([^;]*\)\. Replace .*; more than a tenth is too many"
    ):
        open_pack(many, (4, 4), "squash", skip_unreadable=True)
    write_grey(many.root / "00.bmp", 1)
    assert len(open_pack(many, (4, 4), "squash", skip_unreadable=True).images) == 36

"""The pack: pixels as Pillow makes them, found again while nothing has changed, made whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchvision.transforms import v2

from mtlbench.data import decoding
from mtlbench.data import pack as pack_module
from mtlbench.data.pack import Pack, cache_folder, decode, open_pack
from mtlbench.data.table import Table
from mtlbench.datasets.celeba import read_celeba
from mtlbench.datasets.zappos import read_zappos
from mtlbench.errors import UserError

RANDOM = np.random.default_rng(0)
SIZES = [(40, 30), (30, 40), (33, 33), (41, 97)]  # width, height
ORIENTATION = 0x0112


def table_of(root: Path, names: list[str], name: str = "Set") -> Table:
    return Table(name, root, tuple(names), {}, np.zeros(len(names), dtype=np.int64), "none")


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, channels), dtype=np.uint8))


def smooth(width: int, height: int) -> Image.Image:
    """A picture with edges and shades, as photographs have, whose four corners differ."""
    return noise(7, 5).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def images(tmp_path: Path) -> Table:
    """Four noisy JPEGs of different shapes."""
    (tmp_path / "set").mkdir()
    for i, size in enumerate(SIZES):
        noise(*size).save(tmp_path / "set" / f"{i}.jpg", quality=90)
    return table_of(tmp_path / "set", [f"{i}.jpg" for i in range(4)])


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """40 small images, each of its own grey, packed in chunks of 8."""
    monkeypatch.setattr(pack_module, "_CHUNK_IMAGES", 8)
    (tmp_path / "many").mkdir()
    for i in range(40):
        write_grey(tmp_path / "many" / f"{i:02}.bmp", 6 * i + 1)
    return table_of(tmp_path / "many", [f"{i:02}.bmp" for i in range(40)])


def write_grey(path: Path, grey: int) -> None:
    Image.new("L", (4, 4), grey).save(path)


def greys(pack: Pack) -> list[int]:
    """The value of each image of one grey; every pixel must have it."""
    assert (pack.images == pack.images[:, :1, :1, :1]).all()
    return [int(value) for value in pack.images[:, 0, 0, 0]]


GREYS = [6 * i + 1 for i in range(40)]


def by_pillow(path: Path, size: tuple[int, int]) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR))


def assert_near(pixels: np.ndarray, wanted: np.ndarray, most: int = 1) -> None:
    """Two ways to round make a grey level or two; a pixel that is taken from elsewhere makes many."""
    assert pixels.shape == wanted.shape
    assert np.abs(pixels.astype(int) - wanted).max() <= most


def decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record which files are decoded from now on."""
    seen: list[str] = []
    read = decoding.read_image

    def recording(path: Path, *rest: Any) -> Any:
        seen.append(path.name)
        return read(path, *rest)

    monkeypatch.setattr(decoding, "read_image", recording)
    return seen


def everything(folder: Path) -> list[str]:
    """Every file and folder but the lock, which stays."""
    found = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix != ".lock")
    return sorted(found) if folder.exists() else []


def only_pack(cache: Path) -> Path:
    """The one folder in the cache: nothing half made or outdated beside it."""
    (folder,) = (p for p in cache.iterdir() if p.is_dir())
    assert not {".partial", ".old"} & {folder.suffix}
    return folder


def break_image(path: Path) -> None:
    path.write_bytes(b"<html>Sorry</html>")


class Killed(BaseException):
    """Stands for a process that ends at that very place."""


# --- pixels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 24), (50, 50), (12, 11)])
def test_squashed_pixels_are_pillows_antialiased_ones(images: Table, size: tuple[int, int]) -> None:
    packed = open_pack(images, size, "squash").images
    assert packed.shape == (4, *size, 3)
    assert packed.dtype == np.uint8
    for i, path in enumerate(images.paths):
        assert np.array_equal(packed[i], by_pillow(images.root / path, size))


def test_an_image_that_has_the_size_already_keeps_its_pixels(images: Table) -> None:
    with Image.open(images.root / "0.jpg") as image:
        assert np.array_equal(decode(images.root / "0.jpg", (30, 40), "squash")[0], np.asarray(image))
        assert np.array_equal(decode(images.root / "0.jpg", (30, 40), "crop")[0], np.asarray(image))


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (61, 33), (35, 174), (20, 20), (178, 218), (9, 300)])
@pytest.mark.parametrize("size", [12, 33, 112])
def test_a_crop_is_torchvisions_resize_and_center_crop(
    tmp_path: Path, kind: str, shape: tuple[int, int], size: int
) -> None:
    smooth(*shape).save(tmp_path / f"image.{kind}", quality=95)
    with Image.open(tmp_path / f"image.{kind}") as image:
        image = v2.CenterCrop(size)(v2.Resize(size)(image))
    assert_near(
        decode(tmp_path / f"image.{kind}", (size, size), "crop")[0], np.asarray(image), most=3 if kind == "jpg" else 1
    )


def test_a_crop_shows_the_middle_and_a_squash_all_of_it(tmp_path: Path) -> None:
    pixels = np.zeros((20, 60, 3), dtype=np.uint8)
    pixels[:, :20], pixels[:, 20:40], pixels[:, 40:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "flag.png")
    crop, _ = decode(tmp_path / "flag.png", (20, 20), "crop")
    assert np.array_equal(crop, pixels[:, 20:40])
    squash, _ = decode(tmp_path / "flag.png", (20, 30), "squash")
    assert squash[10, [2, 15, 27]].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 300), height=st.integers(1, 300), h=st.integers(1, 60), w=st.integers(1, 60),
    kind=st.sampled_from(["PNG", "JPEG"]),
)  # fmt: skip
def test_an_image_of_any_shape_can_be_cropped_to_any(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, h: int, w: int, kind: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any shape"
    Image.new("L", (width, height), 77).save(path, kind)
    pixels, _ = decode(path, (h, w), "crop")
    assert pixels.shape == (h, w, 3)
    assert (pixels == 77).all()


@pytest.mark.parametrize("fit", ["squash", "crop"])
@pytest.mark.parametrize("shape", [(801, 603), (1003, 757), (640, 1999)])
def test_a_large_jpeg_reduced_while_decoding_stays_within_half_a_grey_level_on_average(
    tmp_path: Path, shape: tuple[int, int], fit: str
) -> None:
    smooth(*shape).save(tmp_path / "large.jpg", quality=90)
    with Image.open(tmp_path / "large.jpg") as image:
        image.save(tmp_path / "large.png")
    reduced, whole = (decode(tmp_path / f"large.{kind}", (60, 50), fit)[0].astype(int) for kind in ("jpg", "png"))
    assert 0 < np.abs(reduced - whole).mean() < 0.5
    assert np.abs(reduced - whole).max() <= 3


def test_a_jpeg_is_never_reduced_below_twice_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def recording(image: Image.Image, *rest: Any, **more: Any) -> Image.Image:
        decoded.append(image.size)
        return resize(image, *rest, **more)

    monkeypatch.setattr(Image.Image, "resize", recording)
    for width, height in ((399, 3300), (400, 3300), (799, 3300), (803, 3300), (1600, 3300), (3200, 3300), (500, 500)):
        Image.new("L", (width, height)).save(tmp_path / "image.jpg")
        decode(tmp_path / "image.jpg", (100, 100), "squash")
    # the last is small enough to be decoded whole
    assert decoded == [(399, 3300), (200, 1650), (400, 1650), (201, 825), (200, 413), (400, 413), (500, 500)]


def test_grey_images_get_three_equal_channels(tmp_path: Path) -> None:
    noise(20, 10).convert("L").save(tmp_path / "grey.jpg")
    pixels, _ = decode(tmp_path / "grey.jpg", (8, 15), "squash")
    assert np.array_equal(pixels, by_pillow(tmp_path / "grey.jpg", (8, 15)))
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    assert np.array_equal(pixels[..., 0], pixels[..., 1])


@pytest.mark.parametrize("kind", ["RGBA", "P", "LA", "1"])
def test_another_format_under_a_jpegs_name_is_decoded_to_its_colours(tmp_path: Path, kind: str) -> None:
    picture = Image.new("RGB", (8, 8), (255, 255, 255))
    picture.paste((0, 0, 0), (0, 0, 4, 8))
    picture.convert(kind).save(tmp_path / "picture.jpg", format="PNG")
    pixels, _ = decode(tmp_path / "picture.jpg", (8, 8), "squash")
    assert np.array_equal(pixels, np.asarray(picture))


@pytest.mark.parametrize("size", [8, 800])  # the larger one is reduced while it is decoded
def test_a_cmyk_jpeg_becomes_rgb(tmp_path: Path, size: int) -> None:
    Image.new("RGB", (size, size), (200, 30, 30)).convert("CMYK").save(tmp_path / "print.jpg")
    pixels, _ = decode(tmp_path / "print.jpg", (8, 8), "squash")
    assert np.abs(pixels.astype(int) - (200, 30, 30)).max() < 12


def test_what_is_transparent_becomes_white_and_half_of_it_half_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (12, 4), (200, 0, 100, 0))
    clear.paste((200, 0, 100, 255), (0, 0, 4, 4))
    clear.paste((200, 0, 100, 128), (4, 0, 8, 4))
    clear.save(tmp_path / "clear.png")
    pixels, _ = decode(tmp_path / "clear.png", (4, 12), "squash")
    assert pixels[2, [1, 10]].tolist() == [[200, 0, 100], [255, 255, 255]]
    assert np.abs(pixels[2, 6].astype(int) - (227, 127, 177)).max() <= 1


def test_a_transparent_colour_of_a_palette_becomes_white(tmp_path: Path) -> None:
    picture = Image.new("P", (8, 4), 0)
    picture.putpalette([10, 20, 30, 200, 100, 0])
    picture.paste(1, (4, 0, 8, 4))
    picture.save(tmp_path / "palette.gif", transparency=0)
    pixels, _ = decode(tmp_path / "palette.gif", (4, 8), "squash")
    assert pixels[1, [1, 6]].tolist() == [[255, 255, 255], [200, 100, 0]]


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_sixteen_bits_of_grey_become_eight_and_are_not_clipped(tmp_path: Path, kind: str) -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16).repeat(3, 0)
    Image.fromarray(values).save(tmp_path / f"deep.{kind}")
    pixels, _ = decode(tmp_path / f"deep.{kind}", (3, 5), "squash")
    assert pixels[1, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_real_valued_pixels_are_refused_with_the_reason(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "real.tif")
    with pytest.raises(UserError, match=r"real\.tif can't be decoded: its pixels are real numbers"):
        decode(tmp_path / "real.tif", (4, 4), "squash")


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("L", (4, 4), grey) for grey in (10, 90, 200)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert (decode(tmp_path / "film.gif", (4, 4), "squash")[0] == 10).all()


@pytest.mark.parametrize("fit", ["squash", "crop"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["small.jpg", "large.jpg", "image.png", "image.webp", "image.tif"])
def test_images_are_turned_as_their_camera_says(tmp_path: Path, kind: str, orientation: int, fit: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    smooth(*((960, 640) if "large" in kind else (60, 40))).save(tmp_path / kind, exif=exif, quality=95)
    with Image.open(tmp_path / kind) as image:
        ImageOps.exif_transpose(image).convert("RGB").save(tmp_path / "turned.bmp")
    turned = decode(tmp_path / "turned.bmp", (20, 16), fit)[0]
    assert_near(decode(tmp_path / kind, (20, 16), fit)[0], turned, most=5 if "large" in kind else 1)


# --- the pack ---------------------------------------------------------------------------------------------------------


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


# --- files that change ------------------------------------------------------------------------------------------------


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
    with pytest.raises(UserError, match=r"many change while they are packed\. Try again"):
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


# --- unreadable images ------------------------------------------------------------------------------------------------


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


# --- interrupted, killed, full, shared --------------------------------------------------------------------------------


def test_an_interrupted_pack_is_continued(many: Table, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_pack(many, (4, 4), "squash", interrupt)
    seen, counts = decodes(monkeypatch), []
    pack = open_pack(many, (4, 4), "squash", lambda *done: counts.append(done))
    assert len(seen) == 16
    assert counts[-1] == (40, 40)
    assert greys(pack) == GREYS
    assert only_pack(cache)


def test_a_file_that_changed_since_the_interruption_is_decoded_again(many: Table) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_pack(many, (4, 4), "squash", interrupt)
    for i in range(40):
        write_grey(many.root / f"{i:02}.bmp", 250 - GREYS[i])
    assert greys(open_pack(many, (4, 4), "squash")) == [250 - grey for grey in GREYS]


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("broken", [False, True])
def test_wherever_the_process_dies_the_next_one_finishes_the_same_pack(
    many: Table, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bool, broken: bool
) -> None:
    if broken:
        break_image(many.root / "17.bmp")
    whole = open_pack(many, (4, 4), "squash", skip_unreadable=True)
    write, deaths = decoding.write_rows, 0
    for fatal in range(20):
        shutil.rmtree(cache)
        writes = 0

        def dying(file: Any, offset: int, data: Any, fatal: int = fatal) -> None:
            nonlocal writes
            writes += 1
            if writes > fatal:
                if torn:
                    write(file, offset, data[: len(data) // 2])
                raise Killed
            write(file, offset, data)

        with monkeypatch.context() as patch:
            patch.setattr(decoding, "write_rows", dying)
            try:
                open_pack(many, (4, 4), "squash", skip_unreadable=True)
            except Killed:
                deaths += 1
        pack = open_pack(many, (4, 4), "squash", skip_unreadable=True)
        assert np.array_equal(pack.images, whole.images)
        assert pack.fingerprint == whole.fingerprint
        assert only_pack(cache)
    assert deaths == (13 if broken else 10)  # two writes a chunk, and one for each that moves up


@pytest.mark.parametrize("step", ["rename", "unlink", "rmtree"])
def test_a_death_while_the_pack_is_put_in_place_loses_nothing(
    many: Table, cache: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    open_pack(many, (4, 4), "squash")
    write_grey(many.root / "03.bmp", 200)
    if step == "unlink":
        break_image(many.root / "17.bmp")
    place, name = (shutil, "rmtree") if step == "rmtree" else (Path, step)
    original = getattr(place, name)
    calls = 0

    def dying(path: Path, *rest: Any, **more: Any) -> Any:
        nonlocal calls
        calls += ".old" not in path.suffix or step == "rmtree"
        if calls == 2 or step == "unlink":
            raise Killed
        return original(path, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, dying)
        with pytest.raises(Killed):
            open_pack(many, (4, 4), "squash", skip_unreadable=True)
    found = greys(open_pack(many, (4, 4), "squash", skip_unreadable=True))
    wanted = [*GREYS[:3], 200, *GREYS[4:]]
    assert found == (wanted if step != "unlink" else [*wanted[:17], *wanted[18:]])


def test_a_journal_cut_anywhere_or_with_rubbish_is_believed_as_far_as_it_holds(
    many: Table, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_pack(many, (4, 4), "squash")
    folder = only_pack(cache)
    partial = folder.with_name(f"{folder.name}.partial")
    folder.rename(partial)
    (partial / "pack.json").unlink()
    shutil.move(partial, cache / "kept")
    journal = (cache / "kept" / "journal").read_bytes()
    assert journal.count(b"\n") == 6  # an empty line at the start
    ends = [i + 1 for i, letter in enumerate(journal) if letter == 10][1:]
    seen = decodes(monkeypatch)
    for text in (b"", journal[:3], journal[: ends[0]], journal[: ends[2] - 3], journal[: ends[3]] + b"\xffx 1\n99 1\n"):
        shutil.rmtree(cache / folder.name, ignore_errors=True)
        shutil.copytree(cache / "kept", partial)
        (partial / "journal").write_bytes(text)
        seen.clear()
        assert greys(open_pack(many, (4, 4), "squash")) == GREYS
        assert len(seen) == 40 - 8 * sum(text.startswith(journal[:end]) for end in ends)


@pytest.mark.parametrize("file", ["images", "files"])
def test_a_chunk_that_was_lost_after_its_journal_line_is_decoded_again(many: Table, cache: Path, file: str) -> None:
    # as when the power fails: the disk may keep the line and lose the pixels
    open_pack(many, (4, 4), "squash")
    folder = only_pack(cache)
    partial = folder.with_name(f"{folder.name}.partial")
    folder.rename(partial)
    content = (partial / file).read_bytes()
    (partial / file).write_bytes(content[:100] + bytes(len(content) // 2))
    assert greys(open_pack(many, (4, 4), "squash")) == GREYS


CHILD = """
import os, signal, subprocess, sys, time
from pathlib import Path
import numpy as np
from mtlbench.data import pack
from mtlbench.data.table import Table
pack._CHUNK_IMAGES = 8
root, how, told = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
names = sorted(p.name for p in root.iterdir())
if "processes" in how:
    pack._MANY = 0
    start = subprocess.Popen
    def noting(*command, **more):
        process = start(*command, **more)
        with (told / "decoders").open("a") as file:
            print(process.pid, file=file)
        return process
    subprocess.Popen = noting

def progress(done, total):
    if "die" in how and done == 24:
        os.kill(os.getpid(), signal.SIGKILL)
    (told / "ready").touch()
    while "wait" in how and not (told / "go").exists():
        time.sleep(0.01)

table = Table("Set", root, tuple(names), {}, np.zeros(len(names), dtype=np.int64), "none")
print(pack.open_pack(table, (4, 4), "squash", progress).fingerprint)
"""


@pytest.fixture
def child(many: Table, tmp_path: Path) -> Callable[[str], subprocess.Popen[str]]:
    """Start a process that packs the forty images and dies by its own hand, or waits to be told to go on."""

    def start(how: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CHILD, str(many.root), how, str(tmp_path)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    return start


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells processes by /proc")
@pytest.mark.parametrize("by", ["threads", "processes"])
def test_after_a_kill_the_finished_chunks_are_used_and_no_process_is_left(
    many: Table,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    child: Callable[[str], subprocess.Popen[str]],
    by: str,
) -> None:
    killed = child(f"die {by}")
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert not [p for p in cache.iterdir() if p.is_dir() and p.suffix != ".partial"]
    decoders = (tmp_path / "decoders").read_text().split() if by == "processes" else []
    assert (len(decoders) > 1) == (by == "processes")
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in decoders):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    seen = decodes(monkeypatch)
    pack = open_pack(many, (4, 4), "squash")
    assert len(seen) == 16
    assert greys(pack) == GREYS
    assert only_pack(cache)


def test_of_two_processes_one_packs_and_the_other_waits_for_it(
    many: Table,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    child: Callable[[str], subprocess.Popen[str]],
) -> None:
    first = child("wait processes")
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "ready").exists():
            assert first.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        seen, counts, found = decodes(monkeypatch), [], []
        second = threading.Thread(
            target=lambda: found.append(open_pack(many, (4, 4), "squash", lambda *done: counts.append(done)))
        )
        second.start()
        second.join(0.5)
        assert second.is_alive()
        assert found == []
    finally:
        (tmp_path / "go").touch()
    printed, _ = first.communicate(timeout=120)
    second.join(60)
    assert (seen, counts) == ([], [])
    assert greys(found[0]) == GREYS
    assert found[0].fingerprint == printed.strip()
    assert only_pack(cache)


def test_a_cache_that_cant_be_written_is_an_error_with_the_remedy(
    images: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"can't be written: Not a directory\. Set MTLBENCH_CACHE"):
        open_pack(images, (8, 8), "squash")


def test_a_cache_without_permission_is_an_error_with_the_remedy(
    images: Table, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *rest: Any, **more: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=r"can't be written: Permission denied\. Set MTLBENCH_CACHE"):
        open_pack(images, (8, 8), "squash")


def test_a_pack_that_is_there_opens_where_nothing_can_be_written(many: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    open_pack(many, (4, 4), "squash")

    def refuse(*arguments: Any, **more: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(pack_module, "FileLock", refuse)
    assert greys(open_pack(many, (4, 4), "squash")) == GREYS


def test_a_full_disk_is_told_before_anything_is_decoded(
    images: Table, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(images.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=4 * 8 * 8 * 3 - 1))
    seen = decodes(monkeypatch)
    with pytest.raises(UserError, match=r"The disk is full: .*doesn't fit\. Make room, or set MTLBENCH_CACHE"):
        open_pack(images, (8, 8), "squash")
    assert seen == []
    assert everything(cache) == []


@pytest.mark.parametrize("full_after", range(0, 10, 3))
def test_a_disk_that_fills_meanwhile_is_an_error_and_leaves_nothing(
    many: Table, cache: Path, monkeypatch: pytest.MonkeyPatch, full_after: int
) -> None:
    write, writes = decoding.write_rows, 0

    def filling(file: Any, offset: int, data: Any) -> None:
        nonlocal writes
        writes += 1
        if writes > full_after:
            write(file, offset, data[:1])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, offset, data)

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "write_rows", filling)
        with pytest.raises(UserError, match=r"The disk is full: .*Make room, or set MTLBENCH_CACHE"):
            open_pack(many, (4, 4), "squash")
    assert everything(cache) == []
    assert greys(open_pack(many, (4, 4), "squash")) == GREYS


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
@pytest.mark.parametrize("many_from", [0, 1000])
@pytest.mark.parametrize("file", ["images", "files"])
def test_a_really_full_disk_is_an_error_and_leaves_nothing(
    many: Table, cache: Path, monkeypatch: pytest.MonkeyPatch, many_from: int, file: str
) -> None:
    monkeypatch.setattr(pack_module, "_MANY", many_from)
    open_pack(many, (4, 4), "squash")
    folder = only_pack(cache)
    shutil.rmtree(folder)
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir()
    (partial / file).symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"The disk is full: .*Make room, or set MTLBENCH_CACHE"):
        open_pack(many, (4, 4), "squash")
    assert everything(cache) == []


def test_large_images_take_turns_and_one_that_is_too_large_goes_alone() -> None:
    room = decoding._Room(10)
    inside, most, lock = 0, 0, threading.Lock()

    def enter(need: int) -> None:
        nonlocal inside, most
        with room(need):
            with lock:
                inside += min(need, 10)
                most = max(most, inside)
            time.sleep(0.01)
            with lock:
                inside -= min(need, 10)

    threads = [threading.Thread(target=enter, args=(need,)) for need in (4, 4, 4, 25, 1, 5, 6, 10, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert 8 <= most <= 10


# --- by processes -----------------------------------------------------------------------------------------------------


def test_processes_make_the_same_pack_as_threads(
    many: Table, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ä ñ.png", "new\nline.png", "\udcff.png"):  # the last is what Python makes of a byte that is no UTF-8
        smooth(31, 23).save(many.root / name)
    (many.root / "cut.jpg").write_bytes(b"\xff\xd8")
    table = table_of(many.root, sorted(p.name for p in many.root.iterdir()))
    packs = {}
    for many_from in (0, 1000):
        monkeypatch.setattr(pack_module, "_MANY", many_from)
        monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / f"cache {many_from}"))
        started = [] if many_from else decodes(monkeypatch)
        counts: list[tuple[int, int]] = []
        packs[many_from] = open_pack(table, (8, 9), "crop", lambda *done, to=counts: to.append(done), True)
        assert counts[-1] == (44, 44)
        assert started == []  # nothing is decoded here
        monkeypatch.undo()
    assert np.array_equal(packs[0].images, packs[1000].images)
    assert packs[0].fingerprint == packs[1000].fingerprint
    assert packs[0].unreadable == packs[1000].unreadable == (("cut.jpg", "image file is truncated"),)
    assert packs[0].kept.tolist() == packs[1000].kept.tolist()


def test_a_process_that_fails_is_told_and_not_waited_for(
    many: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing.py").write_text("import sys; sys.stdin.readline(); sys.exit(7)")
    monkeypatch.setattr(pack_module, "_MANY", 0)
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "__file__", str(tmp_path / "failing.py"))
        with pytest.raises(RuntimeError, match="a process that decodes images ended with status 7"):
            open_pack(many, (4, 4), "squash")
    assert greys(open_pack(many, (4, 4), "squash")) == GREYS


@pytest.mark.parametrize(("images", "size", "processes"), [(2048, 4, True), (2047, 4, False), (2048, 700, False)])
def test_many_small_images_are_decoded_by_processes_and_others_by_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int, size: int, processes: bool
) -> None:
    noise(size, size).save(tmp_path / "0.bmp")
    started: list[object] = []

    def refuse(*arguments: Any, **more: Any) -> None:
        started.append(arguments)
        raise Killed

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(decoding, "read_image", lambda path, size, fit, file: np.zeros((*size, 3), np.uint8))
    with pytest.raises((Killed, UserError)):  # the latter as the records of the files lack their dates
        open_pack(table_of(tmp_path, ["0.bmp"] * images), (4, 4), "squash")
    assert bool(started) == processes


# --- real samples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [48, 150])
def test_the_real_faces_and_shoes_are_packed_as_pillow_resizes_them(real_data: Path, size: int) -> None:
    for table in (read_celeba(real_data / "celeba-10k"), read_zappos(real_data / "zappos-8k")):
        table = table.limited(40)
        packed = open_pack(table, (size, size), "squash").images
        for i, path in enumerate(table.paths):
            assert np.array_equal(packed[i], by_pillow(table.root / path, (size, size)))

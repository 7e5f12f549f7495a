"""The pixels of a pack: Pillow's antialiased ones, of every kind of image, turned and cropped as asked."""

from __future__ import annotations

import io
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from support_pack import ORIENTATION, assert_near, by_pillow, noise, smooth
from torchvision.transforms import v2

from mtlbench.data import decoding
from mtlbench.data.decoding import FILE, fitted, read_image
from mtlbench.data.pack import decode, open_pack
from mtlbench.data.table import Table
from mtlbench.datasets.celeba import read_celeba
from mtlbench.datasets.zappos import read_zappos
from mtlbench.errors import UserError


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


@pytest.mark.parametrize("value", [-5, 70_000])
def test_whole_numbers_that_no_16_bits_hold_are_refused_with_the_reason(tmp_path: Path, value: int) -> None:
    Image.fromarray(np.full((4, 4), value, np.int32)).save(tmp_path / "odd.tif")
    with pytest.raises(UserError, match=r"odd\.tif can't be decoded: its pixels are below 0 or above 65,535"):
        decode(tmp_path / "odd.tif", (4, 4), "squash")


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


def test_large_images_take_turns_and_one_that_is_too_large_goes_alone() -> None:
    room = decoding._MemoryLimit(10)
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
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    assert 8 <= most <= 10


@pytest.mark.parametrize("size", [48, 150])
def test_the_real_faces_and_shoes_are_packed_as_pillow_resizes_them(real_data: Path, size: int) -> None:
    for table in (read_celeba(real_data / "celeba-10k"), read_zappos(real_data / "zappos-8k")):
        table = table.limited(40)
        packed = open_pack(table, (size, size), "squash").images
        for i, path in enumerate(table.paths):
            assert np.array_equal(packed[i], by_pillow(table.root / path, (size, size)))


def test_a_transparent_grey_of_sixteen_bits_is_white_and_the_rest_is_not(tmp_path: Path) -> None:
    values = np.full((4, 6), 0x4000, np.uint16)
    values[:2] = 0x8000
    values[0, 0] = 7
    Image.fromarray(values).save(tmp_path / "grey.png", transparency=7)
    found = read_image(tmp_path / "grey.png", (4, 6), "squash", np.zeros(1, FILE)[0])
    assert found[0, 0].tolist() == [255] * 3
    assert found[1, 3].tolist() == [0x80] * 3
    assert found[3, 3].tolist() == [0x40] * 3


def test_a_tiff_of_thirty_two_bits_that_holds_eight_is_not_black(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6), 200, np.int32)).save(tmp_path / "deep.tif")
    found = read_image(tmp_path / "deep.tif", (4, 6), "squash", np.zeros(1, FILE)[0])
    assert found.tolist() == np.full((4, 6, 3), 200).tolist()


@pytest.mark.parametrize("thumbnail", [False, True])
@pytest.mark.parametrize("large", [False, True])
def test_a_jpeg_whose_tail_is_zeros_is_broken(
    tmp_path: Path, thumbnail: bool, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtlbench.data.decoding.LARGE_FILE", 1000 if large else 1 << 20)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8))
    small = io.BytesIO()
    noise.resize((40, 30)).save(small, "JPEG")
    # an APP1 segment that holds a whole JPEG, end marker and all, as EXIF's thumbnails do
    more = b"\xff\xe1" + (len(small.getvalue()) + 2).to_bytes(2, "big") + small.getvalue() if thumbnail else b""
    noise.save(tmp_path / "whole.jpg", quality=95)
    data = (tmp_path / "whole.jpg").read_bytes()
    data = data[:2] + more + data[2:]
    (tmp_path / "whole.jpg").write_bytes(data)
    (tmp_path / "trailing.jpg").write_bytes(data + b"\0" * 100_000)  # whole, with padding behind it
    (tmp_path / "stopped.jpg").write_bytes(data[: len(data) // 2] + b"\0" * (len(data) // 2))
    for name in ("whole", "trailing"):
        assert read_image(tmp_path / f"{name}.jpg", (30, 40), "squash", np.zeros(1, FILE)[0]).std() > 1
    with pytest.raises(OSError, match="truncated"):
        read_image(tmp_path / "stopped.jpg", (30, 40), "squash", np.zeros(1, FILE)[0])


def test_pixels_are_fitted_as_a_lossless_file_of_them(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (37, 51, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for fit in ("squash", "crop"):
        of_file = read_image(tmp_path / "a.png", (16, 24), fit, np.zeros(1, FILE)[0])
        assert np.array_equal(fitted(pixels, (16, 24), fit), of_file)


def test_a_pipe_and_an_eps_file_are_no_images(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "drawing.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    )
    for name, said in (("pipe.jpg", "not a regular file"), ("drawing.jpg", "not an image of a known format")):
        for read in (lambda file: read_image(file, (8, 8), "squash", np.zeros(1, FILE)[0]), decoding.size_of):
            with pytest.raises(decoding.BROKEN) as caught:
                read(tmp_path / name)
            assert decoding.reason_of(caught.value) == said


@pytest.mark.parametrize("kind", ["cut-out", "palette", "sixteen bits", "turned"])
def test_the_reading_that_docs_and_model_cards_give_is_mtlbenchs_own(tmp_path: Path, kind: str) -> None:
    """An exported network sees other pixels where a script drops transparency or clips 16 bits."""
    page = (Path(__file__).parents[3] / "docs/export.md").read_text("utf-8")
    (code,) = re.findall(r"^def as_mtlbench_reads.*?(?=^\S)", page.partition("```python")[2], re.M | re.S)
    names: dict[str, Any] = {"np": np, "Image": Image, "ImageOps": ImageOps}
    exec(code, names)
    chance = np.random.default_rng(0)
    colours = Image.fromarray(chance.integers(0, 256, (12, 20, 4), dtype=np.uint8), "RGBA")
    if kind == "sixteen bits":
        Image.fromarray(chance.integers(0, 2**16, (12, 20), dtype=np.uint16)).save(file := tmp_path / "a.png")
    elif kind == "palette":
        colours.convert("RGB").convert("P").save(file := tmp_path / "a.gif", transparency=3)
    elif kind == "turned":
        turned = Image.Exif()
        turned[0x0112] = 6
        colours.convert("RGB").save(file := tmp_path / "a.png", exif=turned)
    else:
        colours.save(file := tmp_path / "a.png")
    size = (20, 12) if kind == "turned" else (12, 20)
    theirs = np.asarray(names["as_mtlbench_reads"](str(file)))
    assert (
        np.abs(theirs.astype(int) - decode(file, size, "squash")[0]).max() <= 1
    )  # opacity is rounded once more or less

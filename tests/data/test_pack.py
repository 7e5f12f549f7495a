"""The pack: pixels as Pillow makes them, found again while nothing has changed, made whole or not at all."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtlbench.data import pack as pack_module
from mtlbench.data.celeba import read_celeba
from mtlbench.data.pack import Pack, cache_folder, decode, open_pack
from mtlbench.data.table import Table
from mtlbench.errors import UserError

RANDOM = np.random.default_rng(0)
SIZES = [(40, 30), (30, 40), (33, 33), (41, 97)]  # width, height


def table_of(root: Path, names: list[str], name: str = "Set") -> Table:
    return Table(name, root, tuple(names), {}, np.zeros(len(names), dtype=np.int64), "none")


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, channels), dtype=np.uint8))


@pytest.fixture
def images(tmp_path: Path) -> Table:
    """Four noisy JPEGs of different shapes."""
    (tmp_path / "set").mkdir()
    for i, size in enumerate(SIZES):
        noise(*size).save(tmp_path / "set" / f"{i}.jpg", quality=90)
    return table_of(tmp_path / "set", [f"{i}.jpg" for i in range(4)])


def by_pillow(path: Path, size: tuple[int, int], box: tuple[float, float, float, float] | None = None) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR, box=box))


def decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record which files are decoded from now on."""
    seen: list[str] = []

    def recording(path: Path, *rest: Any) -> Any:
        seen.append(path.name)
        return decode(path, *rest)

    monkeypatch.setattr(pack_module, "decode", recording)
    return seen


def everything(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*")) if folder.exists() else []


@pytest.mark.parametrize("size", [(16, 24), (50, 50), (12, 9)])
def test_squashed_pixels_are_pillows_own_antialiased_ones(images: Table, size: tuple[int, int]) -> None:
    packed = open_pack(images, size, "squash").images
    assert packed.shape == (4, *size, 3)
    assert packed.dtype == np.uint8
    for i, path in enumerate(images.paths):
        assert np.array_equal(packed[i], by_pillow(images.root / path, size))


def test_an_image_that_has_the_size_already_keeps_its_pixels(images: Table) -> None:
    with Image.open(images.root / "0.jpg") as image:
        assert np.array_equal(decode(images.root / "0.jpg", (30, 40), "squash")[0], np.asarray(image))
        assert np.array_equal(decode(images.root / "0.jpg", (30, 40), "crop")[0], np.asarray(image))


@pytest.mark.parametrize(
    ("image", "size", "box"),
    [
        ("0.jpg", (15, 15), (5, 0, 35, 30)),  # 40 wide and 30 high: five columns go on either side
        ("1.jpg", (15, 15), (0, 5, 30, 35)),
        ("0.jpg", (15, 10), (10, 0, 30, 30)),
        ("0.jpg", (10, 20), (0, 5, 40, 25)),
        ("0.jpg", (60, 60), (5, 0, 35, 30)),  # enlarged
    ],
)
def test_a_crop_keeps_the_shape_and_the_centre(
    images: Table, image: str, size: tuple[int, int], box: tuple[float, float, float, float]
) -> None:
    assert np.array_equal(decode(images.root / image, size, "crop")[0], by_pillow(images.root / image, size, box))


def test_a_crop_shows_the_middle_and_a_squash_all_of_it(tmp_path: Path) -> None:
    pixels = np.zeros((20, 60, 3), dtype=np.uint8)
    pixels[:, :20], pixels[:, 20:40], pixels[:, 40:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "flag.png")
    crop, _ = decode(tmp_path / "flag.png", (20, 20), "crop")
    assert np.array_equal(crop, pixels[:, 20:40])
    squash, _ = decode(tmp_path / "flag.png", (20, 30), "squash")
    assert squash[10, [2, 15, 27]].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def test_an_image_of_any_shape_can_be_cropped(tmp_path: Path) -> None:
    # the quotient that gives the box rounds up for about one shape in twenty, 217x194 to 112x112 among them
    for width, height in [(217, 194), *((w, h) for w in range(90, 220, 13) for h in range(90, 220, 13))]:
        Image.new("L", (width, height)).save(tmp_path / "any.png")
        for size in ((112, 112), (48, 64), (7, 9)):
            assert decode(tmp_path / "any.png", size, "crop")[0].shape == (*size, 3)


def test_grey_images_get_three_equal_channels(tmp_path: Path) -> None:
    noise(20, 10).convert("L").save(tmp_path / "grey.jpg")
    pixels, _ = decode(tmp_path / "grey.jpg", (10, 20), "squash")
    assert np.array_equal(pixels, by_pillow(tmp_path / "grey.jpg", (10, 20)))
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


@pytest.mark.parametrize("kind", ["RGBA", "P", "LA", "1"])
def test_another_format_under_a_jpegs_name_is_decoded_to_its_colours(tmp_path: Path, kind: str) -> None:
    picture = Image.new("RGB", (8, 8), (255, 255, 255))
    picture.paste((0, 0, 0), (0, 0, 4, 8))
    picture.convert(kind).save(tmp_path / "picture.jpg", format="PNG")
    pixels, _ = decode(tmp_path / "picture.jpg", (8, 8), "squash")
    assert np.array_equal(pixels, np.asarray(picture))


def test_a_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (200, 30, 30)).convert("CMYK").save(tmp_path / "print.jpg")
    pixels, _ = decode(tmp_path / "print.jpg", (8, 8), "squash")
    assert np.abs(pixels.astype(int) - (200, 30, 30)).max() < 12


def test_an_orientation_tag_turns_nothing(tmp_path: Path) -> None:
    picture = noise(20, 10)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees"
    picture.save(tmp_path / "plain.jpg")
    picture.save(tmp_path / "tagged.jpg", exif=exif)
    with Image.open(tmp_path / "tagged.jpg") as tagged:
        assert tagged.getexif()[0x0112] == 6
    plain, tagged_pixels = (decode(tmp_path / n, (10, 20), "squash")[0] for n in ("plain.jpg", "tagged.jpg"))
    assert np.array_equal(plain, tagged_pixels)


def test_images_lie_in_the_order_of_the_table(images: Table) -> None:
    forward = open_pack(images, (8, 8), "squash")
    backward = open_pack(table_of(images.root, [*images.paths][::-1]), (8, 8), "squash")
    assert np.array_equal(forward.images[::-1], backward.images)
    assert forward.fingerprint != backward.fingerprint


def test_more_images_than_one_chunk_all_land_in_their_rows(tmp_path: Path) -> None:
    for i in range(7):
        Image.new("RGB", (4, 4), (i * 30, 0, 0)).save(tmp_path / f"{i}.png")
    counts: list[tuple[int, int]] = []
    names = [f"{i % 7}.png" for i in range(1100)]
    packed = open_pack(table_of(tmp_path, names), (4, 4), "squash", lambda *done: counts.append(done)).images
    assert packed[:, 0, 0, 0].tolist() == [i % 7 * 30 for i in range(1100)]
    assert counts == [(512, 1100), (1024, 1100), (1100, 1100)]


def test_a_second_opening_decodes_nothing_and_says_no_progress(images: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_pack(images, (8, 8), "squash")
    seen = decodes(monkeypatch)

    def refuse(done: int, total: int) -> None:
        raise AssertionError("progress of nothing")

    second = open_pack(images, (8, 8), "squash", refuse)
    assert seen == []
    assert np.array_equal(first.images, second.images)
    assert first.fingerprint == second.fingerprint


def test_writing_to_the_opened_pixels_leaves_the_pack_as_it_is(images: Table) -> None:
    first = open_pack(images, (8, 8), "squash")
    before = first.images.copy()
    first.images[:] = 0
    assert np.array_equal(open_pack(images, (8, 8), "squash").images, before)


@pytest.mark.parametrize(("size", "fit"), [((8, 9), "squash"), ((9, 8), "squash"), ((8, 8), "crop")])
def test_another_size_or_fit_is_another_pack(images: Table, size: tuple[int, int], fit: str) -> None:
    first = open_pack(images, (8, 8), "squash")
    other = open_pack(images, size, fit)
    assert other.images.shape[1:3] == size
    assert other.fingerprint != first.fingerprint
    assert len(list(cache_folder().iterdir())) == 2


def test_the_fingerprint_is_the_contents_alone(images: Table, tmp_path: Path) -> None:
    first = open_pack(images, (8, 8), "squash")
    shutil.copytree(images.root, tmp_path / "copy")
    for i, path in enumerate(images.paths):
        os.utime(tmp_path / "copy" / path, (1_000_000 + i, 1_000_000 + i))
    copied = open_pack(table_of(tmp_path / "copy", [*images.paths], name="Other"), (8, 8), "squash")
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


def test_a_changed_file_is_packed_again(images: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_pack(images, (8, 8), "squash")
    seen = decodes(monkeypatch)
    noise(40, 30).save(images.root / "0.jpg", quality=90)
    second = open_pack(images, (8, 8), "squash")
    assert sorted(seen) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert second.fingerprint != first.fingerprint
    assert np.array_equal(second.images[0], by_pillow(images.root / "0.jpg", (8, 8)))


def test_a_file_of_the_same_length_but_another_time_is_packed_again(tmp_path: Path) -> None:
    for grey in (10, 200):
        Image.new("RGB", (4, 4), (grey, grey, grey)).save(tmp_path / "0.bmp")
        os.utime(tmp_path / "0.bmp", (grey, grey))
        assert open_pack(table_of(tmp_path, ["0.bmp"]), (4, 4), "squash").images[0, 0, 0, 0] == grey


def test_packs_lie_where_the_environment_says(
    images: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "here" / "and deeper"))
    open_pack(images, (8, 8), "squash")
    (folder,) = (tmp_path / "here" / "and deeper").iterdir()
    assert everything(folder) == ["images.npy", "pack.json"]
    assert not cache.exists()


def test_without_a_setting_packs_lie_in_the_platforms_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTLBENCH_CACHE", "")
    assert cache_folder().is_absolute()
    assert "mtlbench" in cache_folder().parts


def test_a_missing_image_is_named(images: Table, cache: Path) -> None:
    (images.root / "2.jpg").unlink()
    with pytest.raises(UserError, match=r"set/2\.jpg can't be read: No such file"):
        open_pack(images, (8, 8), "squash")
    assert everything(cache) == []


@pytest.mark.parametrize("broken", ["cut", "page", "empty", "folder"])
def test_a_broken_image_is_named_and_leaves_no_pack(images: Table, cache: Path, broken: str) -> None:
    path = images.root / "2.jpg"
    data = path.read_bytes()
    path.unlink()
    if broken == "folder":
        path.mkdir()
    else:
        path.write_bytes({"cut": data[: len(data) // 2], "page": b"<html>Sorry</html>", "empty": b""}[broken])
    with pytest.raises(UserError, match=r"set/2\.jpg can't be decoded: .*Replace the file"):
        open_pack(images, (8, 8), "squash")
    assert everything(cache) == []


def test_an_interrupted_pack_leaves_nothing_and_can_be_made_afterwards(images: Table, cache: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_pack(images, (8, 8), "squash", interrupt)
    assert everything(cache) == []
    assert len(open_pack(images, (8, 8), "squash").images) == 4


def test_what_a_killed_process_left_is_never_taken_for_a_pack(images: Table, cache: Path) -> None:
    whole = open_pack(images, (8, 8), "squash")
    (folder,) = cache.iterdir()
    folder.rename(folder.with_name(f"{folder.name}.partial-{os.getpid()}"))
    (cache / f"{folder.name}.partial-{os.getpid()}" / "pack.json").unlink()
    again = open_pack(images, (8, 8), "squash")
    assert np.array_equal(again.images, whole.images)
    assert everything(cache) == [folder.name, f"{folder.name}/images.npy", f"{folder.name}/pack.json"]


def test_a_cache_that_cant_be_written_is_an_error_with_the_remedy(
    images: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"can't be written: .*Set MTLBENCH_CACHE"):
        open_pack(images, (8, 8), "squash")


def test_a_full_disk_is_told_before_anything_is_decoded(
    images: Table, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(images.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=4 * 8 * 8 * 3 - 1))
    seen = decodes(monkeypatch)
    with pytest.raises(UserError, match=r"are free\. Make room, or set MTLBENCH_CACHE"):
        open_pack(images, (8, 8), "squash")
    assert seen == []
    assert everything(cache) == []


@pytest.mark.parametrize("damage", ["cut", "gone", "facts"])
def test_a_damaged_pack_is_an_error_that_names_the_folder_to_remove(images: Table, cache: Path, damage: str) -> None:
    open_pack(images, (8, 8), "squash")
    (folder,) = cache.iterdir()
    if damage == "cut":
        (folder / "images.npy").write_bytes((folder / "images.npy").read_bytes()[:200])
    elif damage == "gone":
        (folder / "images.npy").unlink()
    else:
        (folder / "pack.json").write_text("{")
    with pytest.raises(UserError, match=rf"{folder.name} is damaged: .*Remove that folder"):
        open_pack(images, (8, 8), "squash")


def test_of_two_that_make_one_pack_together_both_get_it(images: Table, cache: Path) -> None:
    # the first waits, its pixels done, until another process (told apart by its number) has put the pack in place
    ready, go = threading.Event(), threading.Event()
    found: list[Pack] = []

    def wait(done: int, total: int) -> None:
        ready.set()
        assert go.wait(20)

    slow = threading.Thread(target=lambda: found.append(open_pack(images, (8, 8), "squash", wait)))
    slow.start()
    assert ready.wait(20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        fast = open_pack(images, (8, 8), "squash")
    go.set()
    slow.join()
    assert np.array_equal(found[0].images, fast.images)
    assert found[0].fingerprint == fast.fingerprint
    assert len(list(cache.iterdir())) == 1


def test_the_real_faces_are_packed_as_pillow_resizes_them(real_data: Path) -> None:
    table = read_celeba(real_data / "celeba-10k").limited(40)
    packed = open_pack(table, (48, 48), "squash").images
    for i, path in enumerate(table.paths):
        assert np.array_equal(packed[i], by_pillow(table.root / path, (48, 48)))

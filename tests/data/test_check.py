"""Recognising a data set on disk, and what opening its images finds."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlbench.benchmark import Benchmark, benchmark_files, load_benchmark
from mtlbench.data.check import few_test_images, open_images, read_source
from mtlbench.data.depth import dim_images, remark_on_dim
from mtlbench.data.pack import _Process, open_pack
from mtlbench.data.table import Table, column_of
from mtlbench.errors import UserError
from mtlbench.rendered.marks import as_rendered
from mtlbench.rendered.shoes import render_shoes


def write_images(root: Path, count: int = 8, size: tuple[int, int] = (20, 16)) -> list[str]:
    """Write different images, a JPEG and a PNG by turns, and return their names."""
    root.mkdir(parents=True, exist_ok=True)
    names = [f"{i}.{'png' if i % 2 else 'jpg'}" for i in range(count)]
    for i, name in enumerate(names):
        pixels = np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)
    return names


def table_of(root: Path, names: list[str], split: list[int] | None = None, **labels: list[str]) -> Table:
    columns = {task: column_of(cells) for task, cells in labels.items()}
    return Table("mine", root, tuple(names), columns, np.array(split or [0] * len(names)), "by hand")


# --- recognising ------------------------------------------------------------------------------------------------------


def test_the_two_known_layouts_are_recognised(celeba_folder, zappos_folder):
    celeba, zappos = read_source(celeba_folder), read_source(zappos_folder)
    assert (celeba.table.name, len(celeba.table)) == ("CelebA", 60)
    assert (zappos.table.name, len(zappos.table)) == ("UT-Zappos50K", 60)
    assert (zappos.tasks, zappos.skips_unreadable) == ([], False)


def test_a_drawn_set_is_called_rendered_with_its_conflict_whatever_its_labels_say(tmp_path, celeba_folder):
    render_shoes(tmp_path / "drawn", 12, width=16, height=16, conflict=0.5)
    table = read_source(tmp_path / "drawn").table
    assert (table.name, table.rendered) == ("rendered shoes, conflict 0.5", True)
    assert not read_source(celeba_folder).table.rendered
    (celeba_folder / "rendered.json").write_text('{"what": "faces", "conflict": 0.25}')
    table = read_source(celeba_folder).table
    assert (table.name, table.rendered) == ("rendered faces, conflict 0.25", True)


def test_half_a_data_set_is_told_what_it_lacks(celeba_folder):
    (celeba_folder / "list_attr_celeba.txt").unlink()
    with pytest.raises(UserError, match=r"list_attr_celeba\.txt"):
        read_source(celeba_folder)


def benchmark_for(folder: Path, *data: str) -> Path:
    """Write a benchmark with a section of data of its own, the rest as in the bundled one."""
    text = benchmark_files()["zappos"].read_text()
    rest = text[text.index("[model]") : text.index("[quick]")]
    file = folder / "own.toml"
    file.write_text("\n".join(['name = "own"\ntitle = "My own"', *data, rest]))
    return file


def test_a_benchmark_leads_to_its_data_and_brings_its_tasks(zappos_folder, tmp_path):
    file = benchmark_for(
        tmp_path,
        '[data]\nreader = "zappos"\nfolder = "zappos"\ntasks = ["closure", "heel"]\nimage_size = 32',
        "skip_unreadable = true",
    )
    found = read_source(file)
    assert found.table.root == zappos_folder
    assert (found.tasks, found.skips_unreadable) == (["closure", "heel"], True)


def test_a_folder_that_is_not_there_and_an_empty_one_are_errors(tmp_path):
    with pytest.raises(UserError, match=r"no: there is no such folder\.$"):
        read_source(tmp_path / "no")
    with pytest.raises(UserError, match="holds no data set known here: CelebA has img_align_celeba/"):
        read_source(tmp_path)
    with pytest.raises(UserError, match=r"There is no file .*no\.toml"):
        read_source(tmp_path / "no.toml")


def advised(error: pytest.ExceptionInfo[UserError], folder: Path) -> Benchmark:
    """Write the benchmark that an error gives to a file, and read it back."""
    file = folder / "advised.toml"
    file.write_text(str(error.value).partition("\n\n")[2], encoding="utf-8")
    return load_benchmark(str(file))


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_table_of_own_images_gets_a_whole_benchmark_that_reads_it(tmp_path, delimiter):
    folder = tmp_path / 'My "best" images'
    names = write_images(folder / "pictures", 40)
    lines = [["id", "Bild", "kind"], *([str(i), f"pictures/{n}", "ab"[i % 2]] for i, n in enumerate(names))]
    (folder / "notes.csv").write_text("when,what\n2024,nothing\n")
    (folder / "empty.csv").write_text("")
    (folder / "übersicht.csv").write_text("\n".join(map(delimiter.join, lines)), encoding="utf-8-sig")
    with pytest.raises(UserError, match=r"holds a table of images, übersicht\.csv: .* my-best-images\.toml") as error:
        read_source(folder)
    benchmark = advised(error, tmp_path)
    assert (benchmark.name, benchmark.title) == ("my-best-images", folder.name)
    assert (benchmark.data.reader, benchmark.data.folder) == ("csv", str(folder))
    assert (benchmark.model.backbone, benchmark.model.embedding) == ("small", 64)
    train, evaluation = benchmark.train, benchmark.evaluation
    assert (train.sampling, train.triplets, train.steps, train.lr) == ("joint", 16, 400, 3e-3)
    assert (train.optimiser, train.schedule) == ("adamw", "one-cycle")
    assert (evaluation.every, evaluation.triplets) == (80, 2000)
    found = read_source(tmp_path / "advised.toml").table
    assert len(found) == 40
    assert "kind" in found.columns


def test_the_advised_benchmark_names_a_split_column_of_another_spelling(tmp_path):
    names = write_images(tmp_path / "mine", 30)
    rows = [f"{name},{'ab'[i % 2]},{('train', 'val', 'test')[i % 3]}" for i, name in enumerate(names)]
    (tmp_path / "mine" / "labels.csv").write_text("\n".join(["path,kind,SPLIT", *rows]))
    with pytest.raises(UserError, match="holds a table of images") as error:
        read_source(tmp_path / "mine")
    advised(error, tmp_path)
    table = read_source(tmp_path / "advised.toml").table
    assert table.split_rule == "as in labels.csv, column SPLIT"
    assert list(table.columns) == ["kind"]


@pytest.mark.parametrize(("folder", "name"), [("celeba", "my-celeba"), ("写真", "photos"), ("--A_1", "a_1")])
def test_the_advised_benchmark_has_a_name_that_is_allowed_and_no_other_benchmarks(tmp_path, folder, name):
    write_images(tmp_path / folder / "red", 2)
    with pytest.raises(UserError, match=f"Write these lines to {name}.toml") as error:
        read_source(tmp_path / folder)
    benchmark = advised(error, tmp_path)
    assert (benchmark.name, benchmark.title) == (name, folder)


@pytest.mark.parametrize(
    ("folders", "tasks"),
    [
        (["red", "blue"], ["label"]),
        (["red/big", "red/small", "blue/big"], ["label1", "label2"]),
        (["train/red", "train/blue", "val/red", "test/red"], ["label"]),
    ],
)
def test_images_in_folders_get_the_benchmark_that_reads_them(tmp_path, folders, tasks):
    for name in folders:
        write_images(tmp_path / "mine" / name, 10)
    write_images(tmp_path / "mine", 2)
    run = tmp_path / "mine" / "results" / "mine" / "single" / "seed-0"
    write_images(run / "deeper")
    (run / "run.json").write_text("{}")
    with pytest.raises(UserError, match="holds images in folders: ") as error:
        read_source(tmp_path / "mine")
    assert advised(error, tmp_path).data.levels == tasks
    table = read_source(tmp_path / "advised.toml").table
    assert (list(table.columns), len(table)) == (tasks, 10 * len(folders))


def test_images_without_any_label_are_no_data_set(tmp_path):
    write_images(tmp_path / "train")
    with pytest.raises(UserError, match="holds no data set known here"):
        read_source(tmp_path)


# --- opening ----------------------------------------------------------------------------------------------------------


def test_sound_images_give_their_sizes_and_nothing_else(tmp_path):
    names = write_images(tmp_path)
    Image.new("L", (7, 30)).save(tmp_path / "narrow.png")
    seen = open_images(table_of(tmp_path, [*names, "narrow.png"]))
    assert dict(seen.sizes) == {(20, 16): 8, (7, 30): 1}
    assert seen.small == [8]
    assert (seen.missing, seen.broken, seen.unreadable, seen.copies) == ([], {}, set(), 0)


def test_values_of_few_test_images_are_warned_of_with_the_pairs_that_triplets_rest_on(tmp_path):
    closure = ["lace"] * 30 + ["hook"] * 2 + ["zip"] * 5 + ["velcro"]
    names, many = [f"{n}.png" for n in range(38)], ["no", "yes"] * 19
    train = table_of(tmp_path, names, [0] * 38, closure=closure, many=many)
    assert few_test_images(train, ["closure", "many"]) == []
    assert few_test_images(table_of(tmp_path, names, [2] * 38, closure=["a"] * 38), ["closure"]) == []
    (found, other) = few_test_images(
        table_of(tmp_path, names, [2] * 38, closure=closure, many=many), ["closure", "many"]
    )
    assert (other.task, found.task) == ("closure", "many")
    assert other.values == (("hook", 2), ("zip", 5))
    assert other.share == pytest.approx(2 / 3)
    assert "closure: 2 values have fewer than 24 test images and 67% of the test triplets" in str(other)
    assert "as few as 1 pair of images: hook" in str(other)


def test_where_anchors_come_from_label_1_alone_the_warning_is_of_that_value(tmp_path):
    names = [f"{n}.png" for n in range(40)]
    table = table_of(tmp_path, names, [2] * 40, hat=["no"] * 35 + ["yes"] * 5, bald=["no"] * 5 + ["yes"] * 35)
    assert [few.task for few in few_test_images(table, ["hat", "bald"])] == ["hat", "bald"]
    (found,) = few_test_images(table, ["hat", "bald"], "positive")
    assert (found.task, found.values, found.share) == ("hat", (("yes", 5),), 1.0)
    assert "hat: the value yes, which anchors all test triplets, has fewer than 24" in str(found)
    assert "they rest on 10 pairs of images." in str(found)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"no image at all", "not an image of a known format"),
        (b"\n<!DOCTYPE html><html>quota exceeded", "a web page, not an image"),
        (b"<html><body><svg></svg></body></html>", "a web page, not an image"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an svg drawing, not an image of pixels"),
        (None, "truncated"),
    ],
)
def test_a_broken_image_is_told_from_a_missing_one_and_says_why(tmp_path, content, reason):
    names = write_images(tmp_path)
    whole = (tmp_path / names[2]).read_bytes()
    (tmp_path / names[2]).write_bytes(whole[: len(whole) // 2] if content is None else content)
    (tmp_path / names[5]).unlink()
    seen = open_images(table_of(tmp_path, names))
    assert seen.missing == [5]
    assert list(seen.broken) == [2]
    assert reason in seen.broken[2].lower()
    assert seen.unreadable == {2, 5}
    assert sum(seen.sizes.values()) == 6


def encoded(image: Image.Image, kind: str, **how: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8))
KINDS = {
    "sound JPEG": encoded(NOISE, "JPEG"),
    "JPEG without its last two bytes": encoded(NOISE, "JPEG")[:-2],
    "PNG cut in half": encoded(NOISE, "PNG")[:1000],
    "TIFF of real numbers": encoded(Image.new("F", (20, 20), 0.5), "TIFF"),
    "TIFF of 32 bits": encoded(Image.new("I", (20, 20), 1 << 20), "TIFF"),
    "PNG of 16 bits": encoded(Image.new("I;16", (20, 20), 40_000), "PNG"),
    "transparent GIF": encoded(NOISE.convert("P"), "GIF", transparency=3),
    "text": b"no image",
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_packing_can_not_read_is_broken_and_nothing_else_is(tmp_path, kind):
    names = write_images(tmp_path, 11)
    (tmp_path / names[4]).write_bytes(KINDS[kind])
    table = table_of(tmp_path, names, kind=["a"] * 11)
    packed = open_pack(table, (16, 16), "crop", skip_unreadable=True)
    seen = open_images(table)
    assert [(names[i], reason) for i, reason in seen.broken.items()] == list(packed.unreadable)
    assert bool(seen.broken) == (kind not in ("sound JPEG", "PNG of 16 bits", "transparent GIF"))


def test_a_size_is_that_of_the_image_as_it_is_turned(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    (tmp_path / "a.jpg").write_bytes(encoded(NOISE, "JPEG", exif=turned))
    assert dict(open_images(table_of(tmp_path, ["a.jpg"])).sizes) == {(40, 30): 1}


def test_a_folder_in_the_place_of_an_image_is_broken(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    assert "directory" in open_images(table_of(tmp_path, ["a.jpg"])).broken[0].lower()


def copies(root: Path, split: list[int], **labels: list[str]) -> Table:
    """Six images, of which the second and the fifth have the same bytes."""
    names = write_images(root, 6)
    (root / names[4]).write_bytes((root / names[1]).read_bytes())
    return table_of(root, names, split, **labels)


def test_copies_in_one_split_with_one_label_are_counted_and_no_more(tmp_path):
    seen = open_images(copies(tmp_path, [0, 1, 2, 0, 1, 2], kind=list("abcabc"), heel=["", "x", "", "", "", ""]))
    assert seen.copies == 2
    assert (seen.leaks, seen.leak, seen.contradictions, seen.contradiction) == (0, None, 0, None)


def test_copies_in_two_splits_are_a_leak(tmp_path):
    seen = open_images(copies(tmp_path, [0, 0, 2, 0, 2, 2], kind=list("abcabc")))
    assert (seen.leaks, seen.leak) == (2, (1, 4))
    assert seen.contradictions == 0


def test_copies_with_different_labels_contradict_each_other(tmp_path):
    seen = open_images(copies(tmp_path, [0] * 6, kind=list("abcabc"), closure=list("zzzzyz"), heel=list("uvwxyz")))
    assert (seen.contradictions, seen.contradiction) == (2, (1, 4, "closure"))
    assert seen.leaks == 0


def test_images_of_one_colour_are_told(tmp_path: Path) -> None:
    """Whatever the reason: 16 bits that hold 8, a palette that is all transparent, a camera's cap."""
    names = write_images(tmp_path, 4)
    Image.fromarray(np.tile(np.arange(8, dtype=np.uint16), (8, 1))).save(tmp_path / "deep.tif")
    Image.new("RGBA", (8, 8), (1, 2, 3, 0)).save(tmp_path / "clear.png")
    seen = open_images(table_of(tmp_path, ["deep.tif", *names, "clear.png"]))
    assert (seen.flat[0], seen.flat[5]) == ((0, 0, 0), (255, 255, 255))
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert open_images(table_of(tmp_path, ["noise.png"])).flat == {}


@pytest.mark.parametrize("kind", ["png", "tif"])
@pytest.mark.parametrize(
    ("most", "colours", "read"),
    [
        (255, False, 0),
        (4095, False, 15),
        (4096, False, None),
        (60_000, False, None),
        (255, True, 0),
        (9000, True, None),
    ],
)
def test_images_of_16_bits_that_hold_8_or_12_are_told_with_the_remedy(
    tmp_path: Path, kind: str, most: int, colours: bool, read: int | None
) -> None:
    if colours and kind == "tif":
        pytest.skip("Pillow reads no TIFF of 16 bits a colour")
    names = write_images(tmp_path, 3)
    values = np.linspace(0, most, 64).astype(np.uint16).reshape(8, 8)
    file = tmp_path / f"deep.{kind}"
    file.write_bytes(png_of_16_bits(values)) if colours else Image.fromarray(values).save(file)
    table = table_of(tmp_path, [*names, file.name])
    expected = {} if read is None else {3: read}
    assert open_images(table).dim == expected
    assert dim_images(table) == (expected, 4)
    said = remark_on_dim(table, expected, 4)
    assert len(said) == len(expected)
    if said:
        assert f"deep.{kind}, whose brightest pixel is read as {read} of 255: save such images with 8 bits" in said[0]


def png_of_16_bits(values: np.ndarray) -> bytes:
    """A PNG of 16 bits a colour, which Pillow reads and doesn't write: red, green and blue alike."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").repeat(3).tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_a_32_bit_tiff_that_holds_8_is_not_dim_and_one_that_holds_12_is(tmp_path: Path) -> None:
    for most in (200, 4000):
        Image.fromarray(np.linspace(0, most, 64).astype(np.int32).reshape(8, 8)).save(tmp_path / f"{most}.tif")
    assert open_images(table_of(tmp_path, ["200.tif", "4000.tif"])).dim == {1: 15}


def test_progress_ends_with_all_images(tmp_path):
    calls: list[tuple[int, int]] = []
    names = write_images(tmp_path, 4)
    open_images(table_of(tmp_path, names * 200), lambda done, of: calls.append((done, of)))
    assert calls == [(512, 800), (800, 800)]


def test_real_samples_are_whole(real_data):
    for name, count in (("celeba-10k", 10_000), ("zappos-8k", 8_155)):
        table = read_source(real_data / name).table
        assert len(table) == count
        seen = open_images(table.subset(np.arange(0, count, 25)))
        assert not seen.unreadable


@pytest.mark.parametrize(
    ("path", "rendered"),
    [
        ("photos/000001.jpg", False),
        ("img_align_celeba/000001.jpg", True),
        ("img_align_celeba/sorted/smiling/000001.png", True),
        ("ut-zap50k-images/Shoes/Oxfords/Rendered A/900001.7.jpg", True),
        ("img_align_celeba/holiday/1.jpg", False),
        ("ut-zap50k-images/Shoes/Oxfords/Keen/7.jpg", False),
    ],
)
def test_a_rendered_sets_facts_say_nothing_of_other_images_below_them(
    tmp_path: Path, path: str, rendered: bool
) -> None:
    (tmp_path / "rendered.json").write_text('{"what": "faces", "drawing": 1}')
    for root in (tmp_path, (tmp_path / path).parent):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        inside = (tmp_path / path).relative_to(root).as_posix()
        table = Table("mine", root, (inside,), {}, np.zeros(1, dtype=np.int64), "none")
        assert as_rendered(table).rendered == rendered


def test_a_huge_image_is_named_by_its_limit_in_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = write_images(tmp_path, 3)
    Image.new("L", (100, 100)).save(tmp_path / names[1])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert open_images(table_of(tmp_path, names)).broken == {
        1: "it has more than 2,000 pixels: make it smaller, or raise MTLBENCH_MAX_PIXELS"
    }


@pytest.mark.parametrize(
    ("most", "words"),
    [
        ("10000", ""),
        ("9998", "it has more than 9,998 pixels: make it smaller, or raise MTLBENCH_MAX_PIXELS"),
        ("0", "it has more than 2 pixels: make it smaller, or raise MTLBENCH_MAX_PIXELS"),
        ("1e6", ""),
    ],
)
def test_the_limit_of_pixels_is_the_users_in_decoder_processes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: str, words: str
) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setenv("MTLBENCH_MAX_PIXELS", most)
    with _Process() as process:
        for name in ("images", "files"):
            (tmp_path / name).touch()
        reasons, _ = process.ask(0, [str(tmp_path), 0, [str(tmp_path / "a.png")], (8, 8), "squash"])
    assert reasons == ({"0": words} if words else {})


def test_an_image_above_the_limit_is_packed_once_that_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "cache"))
    table = table_of(tmp_path / "mine", write_images(tmp_path / "mine", 20))
    Image.new("L", (100, 100)).save(tmp_path / "mine/1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert [path for path, _ in open_pack(table, (8, 8), "squash", skip_unreadable=True).unreadable] == ["1.png"]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10000)
    monkeypatch.setenv("MTLBENCH_MAX_PIXELS", "20000")
    assert open_pack(table, (8, 8), "squash", skip_unreadable=True).unreadable == ()


def test_a_large_image_is_read_without_a_warning(tmp_path: Path) -> None:
    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    script = (
        "import sys; from pathlib import Path; from PIL import Image; from mtlbench.data.decoding import size_of;"
        " Image.MAX_IMAGE_PIXELS = 1000; print(size_of(Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.png")], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("(40, 40)\n", "")

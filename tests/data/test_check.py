"""Recognising a data set on disk, and what opening its images finds."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlbench.benchmark import Data, benchmark_files
from mtlbench.data.check import open_images, read_source
from mtlbench.data.table import Table, column_of
from mtlbench.errors import UserError


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


def section_in(error: pytest.ExceptionInfo[UserError]) -> str:
    return str(error.value).partition("\n\n")[2]


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
    with pytest.raises(UserError, match=r"Unknown data set or benchmark '.*no\.toml'"):
        read_source(tmp_path / "no.toml")


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_table_of_own_images_gets_the_section_that_reads_it(tmp_path, delimiter):
    folder = tmp_path / 'my "best" images'
    names = write_images(folder / "pictures", 40)
    lines = [["id", "Bild", "kind"], *([str(i), f"pictures/{n}", "ab"[i % 2]] for i, n in enumerate(names))]
    (folder / "notes.csv").write_text("when,what\n2024,nothing\n")
    (folder / "empty.csv").write_text("")
    (folder / "übersicht.csv").write_text("\n".join(map(delimiter.join, lines)), encoding="utf-8-sig")
    with pytest.raises(UserError, match=r"holds a table of images, übersicht\.csv: .*zappos\.toml") as error:
        read_source(folder)
    section = section_in(error)
    data = Data.model_validate(tomllib.loads(section)["data"])
    assert (data.reader, data.folder) == ("csv", str(folder))
    found = read_source(benchmark_for(tmp_path, section)).table
    assert len(found) == 40
    assert "kind" in found.columns


@pytest.mark.parametrize(
    ("folders", "tasks"),
    [
        (["red", "blue"], ["label"]),
        (["red/big", "red/small", "blue/big"], ["label1", "label2"]),
        (["train/red", "train/blue", "val/red", "test/red"], ["label"]),
    ],
)
def test_images_in_folders_get_the_section_that_reads_them(tmp_path, folders, tasks):
    for name in folders:
        write_images(tmp_path / "mine" / name, 10)
    with pytest.raises(UserError, match="holds images in folders: ") as error:
        read_source(tmp_path / "mine")
    section = section_in(error)
    assert tomllib.loads(section)["data"]["levels"] == tasks
    assert list(read_source(benchmark_for(tmp_path, section)).table.columns) == tasks


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


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"no image at all", "not an image, or of a kind unknown here"),
        (b"\n<!DOCTYPE html><html>quota exceeded", "a web page, not an image"),
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

"""`mtlbench data check`, `show` and `render` as a user meets them: what they say, and exit codes."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from support import run_command

from mtlbench.benchmark import benchmark_files, load_benchmark
from mtlbench.cli import main
from mtlbench.data.check import read_source
from mtlbench.data.pack import open_pack
from mtlbench.data.reading import read_table
from mtlbench.errors import UserError
from mtlbench.rendered.faces import render_faces
from mtlbench.rendered.shoes import render_shoes

Call = Callable[..., SimpleNamespace]


@pytest.fixture
def mtlbench(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Run the command line's entry point in this process; give its exit code, output, and error without the prefix."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("MTLBENCH_DEBUG", "")

    def call(*arguments: str | Path | int) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["mtlbench", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return SimpleNamespace(
            code=stopped.value.code or 0, out=out, err=err, error=err.removeprefix("error: ").strip()
        )

    return call


def line(out: str, start: str) -> list[str]:
    """The words of the one line that starts so."""
    (found,) = [text for text in out.splitlines() if text.startswith(start)]
    return found.split()


def counts_of(out: str, heading: str) -> dict[str, list[str]]:
    """The rows of the table of a task's values, by value: train, val, test, all."""
    lines = out[re.search(rf"^{re.escape(heading)} +train", out, re.MULTILINE).start() :].splitlines()[1:]  # type: ignore[union-attr]
    rows = [re.split(r"  +", text.strip()) for text in lines[: lines.index("")]]
    return {row[0]: row[1:] for row in rows}


def own_benchmark(folder: Path, data: str) -> Path:
    text = benchmark_files()["zappos"].read_text()
    rest = text[text.index("[model]") : text.index("[quick]")]
    file = folder / "own.toml"
    file.write_text(f'name = "own"\ntitle = "My own"\n[data]\nimage_size = 32\n{data}\n{rest}')
    return file


@pytest.mark.parametrize("command", ["check", "show", "render"])
def test_help_answers_without_loading_anything_heavy(command: str) -> None:
    code = (
        f"import sys; sys.argv = ['mtlbench', 'data', '{command}', '--help']\nimport mtlbench.cli\n"
        "try: mtlbench.cli.main()\nfinally: print(sorted({'torch', 'pandas', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert f"Usage: mtlbench data {command}" in done.stdout
    assert done.stdout.endswith("[]\n")


# --- check ------------------------------------------------------------------------------------------------------------


def test_a_whole_data_set_is_named_and_counted(mtlbench, zappos_folder):
    ended = mtlbench("data", "check", zappos_folder)
    assert (ended.code, ended.err) == (0, "")
    first = ended.out.splitlines()[0]
    assert first.startswith(f"{zappos_folder}: UT-Zappos50K, 60 images (42 / 6 / 12 train / val / test, by image")
    assert line(ended.out, "labelled")[1:] == ["train", "val", "test", "values", "most", "common"]
    assert ["category", "42", "6", "12", "3"] in [text.split()[:5] for text in ended.out.splitlines()]
    (without,) = [text for text in ended.out.splitlines() if text.startswith("Without labels: ")]
    assert set(without[16:-1].split(", ")) == {"toe", "insole"}
    assert not any(text.startswith("toe") for text in ended.out.splitlines())
    assert "Sizes in pixels: 68x51 (60 images)." in ended.out
    assert re.search(r"Tasks that can be trained and tested: \d\.\n$", ended.out)


def test_values_are_counted_in_each_split_the_most_common_first(mtlbench, zappos_folder):
    rows = counts_of(mtlbench("data", "check", zappos_folder).out, "category")
    assert set(rows) == {"Shoes", "Boots", "Slippers"}
    counts = [[int(n) for n in row] for row in rows.values()]
    assert [sum(column) for column in zip(*counts, strict=True)] == [42, 6, 12, 60]
    assert all(sum(row[:3]) == row[3] for row in counts)
    totals = [row[3] for row in counts]
    assert totals == sorted(totals, reverse=True)


def test_ordered_values_keep_their_order_and_the_unlabelled_come_last(mtlbench, zappos_folder):
    table = zappos_folder / "ut-zap50k-data" / "meta-data.csv"
    first, second, *rest = table.read_text().splitlines()
    cells = second.split(",")
    cells[3] = ""
    table.write_text("\n".join([first, ",".join(cells), *rest]))
    rows = counts_of(mtlbench("data", "check", zappos_folder, "--tasks", "heel").out, "heel (in order)")
    assert list(rows) == ["Flat", "Under 1in", "2in - 2 3/4in", "not labelled"]
    assert rows["not labelled"][3] == "1"


def test_attributes_are_counted_by_yes_in_one_table(mtlbench, celeba_folder):
    ended = mtlbench("data", "check", celeba_folder)
    assert ended.code == 0
    assert "CelebA, 60 images (36 / 12 / 12 train / val / test" in ended.out
    assert " ".join(line(ended.out, "Smiling")) == "Smiling 18 of 36 6 of 12 6 of 12 50.0 %"
    assert ended.out.count("50.0 %") == 40
    assert "Numbers of values that are not shown: identity 20. See them with --tasks identity." in ended.out


def test_a_named_task_is_looked_at_alone_and_value_by_value(mtlbench, celeba_folder):
    out = mtlbench("data", "check", celeba_folder, "--task", "IDENTITY,smiling", "--task", "young").out
    assert line(out, "Smiling")
    assert line(out, "Young")
    assert "Bald" not in out
    assert counts_of(out, "identity")["100"] == ["3", "0", "0", "3"]
    assert mtlbench("data", "check", celeba_folder, "--tasks", "smilling").error.startswith(
        "CelebA has no task 'smilling'. Did you mean: Smiling?"
    )


def test_values_beyond_forty_wait_for_all(mtlbench, tmp_path, write_celeba):
    folder = write_celeba(tmp_path / "big", images=150)
    cut = mtlbench("data", "check", folder, "--tasks", "identity").out
    assert line(cut, "… 10 more")[-1] == "30"
    whole = mtlbench("data", "check", folder, "--tasks", "identity", "--all").out
    assert "more: --all" not in whole
    assert whole.count("\n") > cut.count("\n") + 8


def test_all_shows_the_tasks_without_labels_too(mtlbench, zappos_folder):
    toe = line(mtlbench("data", "check", "--all", zappos_folder).out, "toe")
    assert toe[1:5] == ["0", "0", "0", "0"]
    assert toe[-3:] == ["has", "no", "labels"]


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_broken_image_is_named_whole_on_one_line(mtlbench, zappos_folder, damage, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    image = sorted(zappos_folder.rglob("*.jpg"))[7]
    content = image.read_bytes()
    image.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"no image at all"}[damage])
    ended = mtlbench("data", "check", zappos_folder)
    assert ended.code == 2
    (broken,) = [text for text in ended.out.splitlines() if text.startswith("broken: ")]
    name, reason = broken.removeprefix("broken: ").split(".jpg: ", 1)
    assert zappos_folder / f"{name}.jpg" == image
    assert reason
    assert "Images that can't be used: 1 (0 missing, 1 broken)" in ended.out
    assert "--skip-unreadable" in ended.out


def test_missing_images_are_told_from_broken_ones_and_ten_are_named(mtlbench, celeba_folder):
    images = sorted((celeba_folder / "img_align_celeba").iterdir())
    for image in images[3:15]:
        image.unlink()
    images[20].write_bytes(b"x")
    ended = mtlbench("data", "check", celeba_folder)
    assert ended.code == 2
    lines = ended.out.splitlines()
    assert [text for text in lines if text.startswith("missing: img")] == [
        f"missing: img_align_celeba/{i:06d}.jpg" for i in range(4, 14)
    ]
    assert "missing: … and 2 more" in lines
    assert len([text for text in lines if text.startswith("broken: ")]) == 1
    assert "Images that can't be used: 13 of 60 (12 missing, 1 broken)" in ended.out


@pytest.mark.parametrize(("lost", "few"), [(6, True), (7, False)])
def test_leaving_out_is_advised_only_where_a_run_would_do_it(mtlbench, celeba_folder, lost, few):
    images = sorted((celeba_folder / "img_align_celeba").iterdir())
    for image in images[:lost]:
        image.unlink()
    ended = mtlbench("data", "check", celeba_folder)
    assert ended.code == 2
    assert ("--skip-unreadable" in ended.out) == few
    assert ("more than 10% are too many to leave out" in ended.out) != few
    table = read_source(celeba_folder).table
    if few:
        assert len(open_pack(table, (8, 8), "squash", skip_unreadable=True).kept) == 60 - lost
    else:
        with pytest.raises(UserError, match="too many to leave out"):
            open_pack(table, (8, 8), "squash", skip_unreadable=True)


def test_too_many_unreadable_images_are_not_left_out_by_a_benchmark_either(mtlbench, zappos_folder, tmp_path):
    for image in sorted(zappos_folder.rglob("*.jpg"))[:7]:
        image.write_bytes(b"x")
    file = own_benchmark(tmp_path, 'reader = "zappos"\nfolder = "zappos"\ntasks = ["closure"]\nskip_unreadable = true')
    ended = mtlbench("data", "check", file)
    assert ended.code == 2
    assert "7 of 60 (0 missing, 7 broken)" in ended.out


def test_a_group_alone_is_no_task_to_train(mtlbench, tmp_path):
    for i in range(30):
        Image.new("RGB", (9, 9), (8 * i, 0, 0)).save(tmp_path / f"{i}.png")
    rows = [f"{i}.png,p{i % 3},{('train', 'val', 'test')[i // 3 % 3]}" for i in range(30)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,person,split", *rows]))
    file = own_benchmark(tmp_path, 'reader = "csv"\ncsv = { group = "person" }')
    ended = mtlbench("data", "check", file)
    assert ended.code == 2
    assert ended.out.endswith("No task here can be trained and tested.\n")
    assert mtlbench("data", "check", file, "--tasks", "person").code == 0


def test_a_missing_shoe_is_named(mtlbench, zappos_folder):
    image = sorted(zappos_folder.rglob("*.jpg"))[0]
    image.unlink()
    ended = mtlbench("data", "check", zappos_folder)
    assert ended.code == 2
    said = ended.out + ended.err
    assert image.stem in said or image.stem.replace(".", "-") in said


def test_a_copy_in_another_split_is_a_warning_and_no_failure(mtlbench, celeba_folder):
    images = celeba_folder / "img_align_celeba"
    (images / "000060.jpg").write_bytes((images / "000001.jpg").read_bytes())
    ended = mtlbench("data", "check", celeba_folder, "--tasks", "Smiling")
    assert ended.code == 0
    such = "img_align_celeba/000001.jpg (train) and img_align_celeba/000060.jpg (test)"
    assert f"warning: 2 images have the same content as one of another split, such as {such}" in ended.out
    assert "Images with the same content as another: 2." in ended.out
    assert "warning: 2 images have the same content and different labels" in ended.out
    assert re.search(r"000001.jpg and img_align_celeba/000060.jpg: \w+ is '(no|yes)' and '(no|yes)'", ended.out)


def test_a_data_set_without_a_usable_task_exits_with_2(mtlbench, tmp_path, write_zappos):
    folder = write_zappos(tmp_path / "tiny", images=3)
    ended = mtlbench("data", "check", folder)
    assert ended.code == 2
    assert "has no two train images of one value" in ended.out
    assert "No task here can be trained and tested. Each split needs two labelled images of one value" in ended.out


def test_a_named_task_that_can_not_be_trained_exits_with_2(mtlbench, zappos_folder):
    ended = mtlbench("data", "check", zappos_folder, "--tasks", "toe")
    assert ended.code == 2
    assert ended.out.endswith("No task named can be trained and tested.\n")


def test_a_benchmark_is_checked_by_its_file_and_may_leave_out_images(mtlbench, zappos_folder, tmp_path):
    file = own_benchmark(tmp_path, 'reader = "zappos"\nfolder = "zappos"\ntasks = ["closure", "toe"]')
    ended = mtlbench("data", "check", file)
    assert ended.code == 0
    assert "note: toe has no labels" in ended.out
    sorted(zappos_folder.rglob("*.jpg"))[0].write_bytes(b"x")
    assert mtlbench("data", "check", file).code == 2
    file = own_benchmark(tmp_path, 'reader = "zappos"\nfolder = "zappos"\ntasks = ["closure"]\nskip_unreadable = true')
    ended = mtlbench("data", "check", file)
    assert ended.code == 0
    assert "Images that are left out: 1 (0 missing, 1 broken)." in ended.out


def test_a_benchmark_none_of_whose_tasks_has_labels_exits_with_2(mtlbench, zappos_folder, tmp_path):
    file = own_benchmark(tmp_path, 'reader = "zappos"\nfolder = "zappos"\ntasks = ["toe"]')
    ended = mtlbench("data", "check", file)
    assert ended.code == 2
    assert "no task can be trained" in ended.out


def test_an_unknown_folder_is_an_error_that_says_what_is_known(mtlbench, tmp_path):
    said = mtlbench("data", "check", tmp_path).error
    assert said.startswith(f"{tmp_path} holds no data set known here: CelebA has")
    assert "UT-Zappos50K has ut-zap50k-images/" in said
    assert mtlbench("data", "check", tmp_path / "no").error == f"{tmp_path / 'no'}: there is no such folder."


def test_a_folder_of_own_images_is_told_what_to_write(mtlbench, tmp_path):
    (tmp_path / "red").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "red" / "a.png")
    ended = mtlbench("data", "check", tmp_path)
    assert ended.code == 2
    assert '[data]\nreader = "folders"\nlevels = ["label"]' in ended.err


# --- show -------------------------------------------------------------------------------------------------------------


def test_a_picture_is_written_where_one_stands_and_named_after_data_and_task(mtlbench, zappos_folder, monkeypatch):
    monkeypatch.chdir(zappos_folder.parent)
    ended = mtlbench("data", "show", zappos_folder, "--task", "Closure")
    assert (ended.code, ended.out) == (0, "ut-zappos50k-closure.png\n")
    with Image.open("ut-zappos50k-closure.png") as picture:
        assert picture.format == "PNG"
        assert picture.height > 3 * 96


def test_a_picture_goes_where_out_says_and_broken_images_do_not_stop_it(mtlbench, celeba_folder, tmp_path):
    for image in (celeba_folder / "img_align_celeba").iterdir():
        image.write_bytes(b"x")
    out = tmp_path / "new" / "faces.png"
    words = ("--output", out, "--examples", 3, "--split", "test", "--seed", 1)
    ended = mtlbench("data", "show", celeba_folder, "--task", "smiling", *words)
    assert (ended.code, ended.out) == (0, f"{out}\n")
    with Image.open(out) as picture:
        assert picture.size[0] < 700


def test_a_mistake_in_show_is_one_line(mtlbench, celeba_folder, tmp_path):
    def said(*words: str | Path) -> str:
        ended = mtlbench("data", "show", *words)
        assert ended.code == 2
        assert ended.err.count("\n") == 1
        return ended.error

    assert "Did you mean: Smiling?" in said(celeba_folder, "--task", "smilin")
    assert "ends in .png" in said(celeba_folder, "--task", "smiling", "--output", "faces.jpg")
    assert said(tmp_path / "no", "--task", "smiling") == f"{tmp_path / 'no'}: there is no such folder."


# --- render -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "task"), [("shoes", "closure"), ("faces", "Smiling")])
def test_a_rendered_set_is_drawn_and_passes_the_check(mtlbench, tmp_path, what, task):
    folder = tmp_path / "drawn"
    ended = mtlbench("data", "render", what, folder, "--images", 40, "--size", "40x30", "--seed", 3, "--conflict", 0.5)
    assert ended.code == 0
    assert f"mtlbench data show {folder} --task {task}" in ended.out
    checked = mtlbench("data", "check", folder)
    assert checked.code == 0
    assert "rendered" in checked.out.splitlines()[0]
    assert "Sizes in pixels: 40x30 (40 images)." in checked.out
    shown = mtlbench("data", "show", folder, "--task", task, "--out", tmp_path / "a.png")
    assert shown.code == 0, shown.err


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (("--images", 30), ["images=30"]),
        (("--images", 30, "--seed", 7, "--conflict", 0.125), ["images=30", "seed=7", "conflict=0.125"]),
    ],
)
@pytest.mark.parametrize("what", ["shoes", "faces"])
def test_the_command_that_trains_on_a_rendered_set_reads_it(mtlbench, tmp_path, what, options, settings):
    folder = tmp_path / "my drawings"
    ended = mtlbench("data", "render", what, folder, "--size", "20x16", *options)
    (command,) = [text for text in ended.out.splitlines() if text.startswith("Train on them: ")]
    words = shlex.split(command.removeprefix("Train on them: "))
    assert words[:6] == ["mtlbench", "run", "--dataset", what, "--data-dir", str(folder)]
    assert words[6::2] == ["--set"] * len(settings)
    assert words[7::2] == [f"data.rendered.{setting}" for setting in settings]
    assert len(read_table(load_benchmark(what, settings=words[7::2]).data, folder)) == 30


def test_a_set_as_the_benchmark_draws_it_needs_no_setting(mtlbench, tmp_path, monkeypatch):
    usual = load_benchmark("shoes").data.rendered
    monkeypatch.setattr("mtlbench.rendered.shoes.render_shoes", lambda *words, **more: None)
    ended = mtlbench("data", "render", "shoes", tmp_path / "new", "--images", usual.images, "--seed", usual.seed)
    assert ended.out.endswith(f"mtlbench run --dataset shoes --data-dir {tmp_path / 'new'}\n")


def test_the_help_of_render_tells_the_sizes_that_are_drawn(mtlbench):
    said = " ".join(mtlbench("data", "render", "--help").out.split())
    for draw, name in ((render_shoes, "shoes"), (render_faces, "faces")):
        sides = inspect.signature(draw).parameters
        assert f"{name} {sides['width'].default}x{sides['height'].default}" in said


def test_a_mistake_in_render_is_one_line(mtlbench, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("")
    assert "is not empty" in mtlbench("data", "render", "shoes", tmp_path / "full").error
    assert mtlbench("data", "render", "shoes", tmp_path / "new", "--size", "96").error == (
        "--size 96: give width x height in pixels, such as 96x72."
    )
    assert mtlbench("data", "render", "hats", tmp_path / "new").code == 2
    ended = mtlbench("data", "render", "shoes", tmp_path / "full" / "a.txt" / "in" / "new")
    assert ended.error.endswith("new can't be written: Not a directory. Name another folder.")
    assert not (tmp_path / "new").exists()


def test_odd_words_are_remarked_on_where_they_keep_a_task_from_training(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(20):
        Image.new("RGB", (9, 9), (12 * i, 0, 0)).save(tmp_path / f"photos/{i}.png")
    rows = [f"{i}.png,{'ab'[i % 2]},{('NaN', f'x{i}')[i == 0]}" for i in range(20)]
    (tmp_path / "photos/labels.csv").write_text("\n".join(["path,kind,colour", *rows]))
    (tmp_path / "own.toml").write_text(f'[data]\nreader = "csv"\nfolder = "{tmp_path / "photos"}"\nimage_size = 8\n')
    ended = run_command("data", "check", tmp_path / "own.toml")
    assert "colour: 'NaN' is a label value like any other" in " ".join(ended.out.split()), ended

"""The data set on the device: where data is found, tasks, and what the receipt is a print of."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
import torch
from PIL import Image
from report_records import record, shown, unwrapped

from mtlbench.benchmark import Benchmark, Data, load_benchmark
from mtlbench.data.dataset import prepare
from mtlbench.data.reading import default_folder, read_table
from mtlbench.datasets.zappos import read_zappos
from mtlbench.errors import UserError
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.plugins import load_plugins
from mtlbench.runs.provenance import setup_of
from mtlbench.runs.references import UNTRAINED
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

CPU = torch.device("cpu")


def shoes(images: int = 60, *more: str) -> Benchmark:
    settings = [f'data.rendered={{what="shoes", images={images}}}', "data.image_size=[12, 16]", *more]
    return load_benchmark("shoes", quick=True, settings=settings)


def zappos(*more: str) -> Benchmark:
    return load_benchmark("zappos", quick=True, settings=["data.image_size=[12, 16]", *more])


def celeba(*more: str, quick: bool = True) -> Benchmark:
    return load_benchmark("celeba", quick=quick, settings=["data.image_size=[10, 8]", *more])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 rendered shoes."""
    root = tmp_path_factory.mktemp("drawn")
    read_table(shoes().data, root)
    return root


def test_a_data_set_holds_the_labels_and_pixels_of_its_files(celeba_folder: Path) -> None:
    data, notes = prepare(celeba(), celeba_folder, ["Young", "Bald"], CPU)
    rows = [line.split() for line in (celeba_folder / "list_attr_celeba.txt").read_text().splitlines()]
    for task, labels in zip(("Young", "Bald"), data.labels.tolist(), strict=True):
        assert labels == [int(row[rows[1].index(task) + 1] == "1") for row in rows[2:]]
    for i in (0, 59):
        with Image.open(celeba_folder / "img_align_celeba" / rows[2 + i][0]) as image:
            expected = np.asarray(image.resize((8, 10), Image.Resampling.BILINEAR))
        assert np.array_equal(data.images[i].numpy(), expected)
    assert data.tasks == ("Young", "Bald")
    assert data.values == (("no", "yes"),) * 2
    assert (data.ordered, data.pixels, notes) == ((False, False), "unit", [])
    assert data.device == CPU


def test_the_receipt_says_what_the_data_is(celeba_folder: Path) -> None:
    facts = prepare(celeba(), celeba_folder, None, CPU)[0].facts
    assert facts.pop("fingerprint")
    assert facts == {
        "name": "CelebA",
        "rendered": False,
        "images": 60,
        "train_images": 36,
        "val_images": 12,
        "test_images": 12,
        "split": "as in list_eval_partition.txt, not CelebA's own 162,770 / 19,867 / 19,962; no test image has another"
        " image of the same person in train",
    }


def test_images_that_are_in_two_splits_are_told_and_counted(celeba_folder: Path, tmp_path: Path) -> None:
    """A network would be tested on what it was trained on."""
    folder = shutil.copytree(celeba_folder, tmp_path / "copied")
    images = folder / "img_align_celeba"
    for old, new in ((1, 50), (2, 3), (1, 60)):  # 1 to 36 train, 37 to 48 val
        shutil.copy(images / f"{old:06d}.jpg", images / f"{new:06d}.jpg")
    data, notes = prepare(celeba(), folder, None, CPU)
    assert data.facts["in_two_splits"] == 3
    assert notes == [
        "3 images have the same content as one of another split, such as img_align_celeba/000001.jpg (train) and"
        " img_align_celeba/000050.jpg (test): a training image must not be a test image."
    ]
    made = record("one")
    made.receipt = made.receipt | {"data": made.receipt["data"] | data.facts}
    assert "3 images the same as one of another split" in unwrapped(shown([made]))


def test_heels_are_ordered_and_other_tasks_are_not(zappos_folder: Path) -> None:
    data, notes = prepare(zappos(), zappos_folder, None, CPU)
    assert data.tasks == ("category", "closure", "gender", "heel")
    assert data.ordered == (False, False, False, True)
    assert notes == ["21 cells of closure hold several values: each combination is a value of its own."]


def test_tasks_without_labels_give_way_to_the_spare_one_and_the_user_is_told(zappos_folder: Path) -> None:
    table = zappos_folder / "ut-zap50k-data" / "meta-data.csv"
    rows = [line.split(",") for line in table.read_text().splitlines()]
    table.write_text("\n".join([",".join(rows[0]), *(",".join([*row[:3], *[""] * 6]) for row in rows[1:])]) + "\n")
    data, notes = prepare(zappos(), zappos_folder, None, CPU)
    assert data.tasks == ("category", "subcategory")
    assert "closure has no labels" in notes[0]
    with pytest.raises(UserError, match="'closure' has no labels"):
        prepare(zappos(), zappos_folder, ["category", "closure"], CPU)


def test_a_limit_of_the_benchmark_holds(celeba_folder: Path) -> None:
    data, _ = prepare(celeba("data.limit=30"), celeba_folder, ["Young", "Bald"], CPU)
    assert len(data.images) == data.labels.shape[1] == len(data.split) == data.facts["images"] == 30
    assert [data.facts[f"{s}_images"] for s in ("train", "val", "test")] == [18, 6, 6]


def fingerprint(benchmark: Benchmark, root: Path, tasks: list[str] | None = None) -> str:
    return str(prepare(benchmark, root, tasks, CPU)[0].facts["fingerprint"])


def test_the_fingerprint_is_the_same_again_and_in_another_folder(zappos_folder: Path, tmp_path: Path) -> None:
    first = fingerprint(zappos(), zappos_folder)
    assert fingerprint(zappos(), zappos_folder) == first
    shutil.copytree(zappos_folder, tmp_path / "copy")
    assert fingerprint(zappos(), tmp_path / "copy") == first


@pytest.mark.parametrize(
    "more", ["data.split_seed=1", "data.image_size=[12, 15]", "data.fit=crop", "data.limit=50"], ids=str
)
def test_the_fingerprint_changes_with_the_split_the_size_the_fit_and_the_limit(zappos_folder: Path, more: str) -> None:
    assert fingerprint(zappos(more), zappos_folder) != fingerprint(zappos(), zappos_folder)


def test_the_fingerprint_changes_with_the_tasks_and_their_order(zappos_folder: Path) -> None:
    choices = [["category", "heel"], ["heel", "category"], ["category"], ["category", "closure"]]
    assert len({fingerprint(zappos(), zappos_folder, tasks) for tasks in choices}) == 4


def test_the_fingerprint_changes_with_one_label_of_a_chosen_task_only(zappos_folder: Path) -> None:
    table = zappos_folder / "ut-zap50k-data" / "meta-data.csv"
    chosen, other = (fingerprint(zappos(), zappos_folder, [t]) for t in ("heel", "gender"))
    lines = table.read_text().splitlines()
    row = next(i for i, line in enumerate(lines) if "Under 1in" in line)
    lines[row] = lines[row].replace("Under 1in", "Flat")
    table.write_text("\n".join(lines) + "\n")
    assert fingerprint(zappos(), zappos_folder, ["heel"]) != chosen
    assert fingerprint(zappos(), zappos_folder, ["gender"]) == other


def test_the_fingerprint_changes_with_who_belongs_together_and_not_with_their_names(tmp_path: Path) -> None:
    """Else results before and after the persons were known would share a table, and intervals take either's groups."""
    for n in range(12):
        Image.new("RGB", (32, 32), (20 * n, 0, 0)).save(tmp_path / f"{n}.png")
    benchmark = Benchmark.model_validate(
        tomllib.loads('name = "mine"\ntitle = "Mine"\ndata = {reader = "csv", csv = {group = "person"}}')
    )

    def with_persons(*persons: str) -> str:
        rows = [f"{n}.png,{('left', 'right')[n % 2]},{('train', 'val', 'test')[n // 4]},{persons[n % len(persons)]}"
                for n in range(12)]  # fmt: skip
        (tmp_path / "labels.csv").write_text("\n".join(["path,side,split,person", *rows]) + "\n")
        return fingerprint(benchmark, tmp_path)

    alone, pairs = with_persons(""), with_persons("ann", "bob")
    assert len({alone, pairs, with_persons("ann", "bob", "cy")}) == 3
    assert with_persons("zoe", "bob") == pairs


def test_the_fingerprint_changes_with_the_name_of_a_value(zappos_folder: Path) -> None:
    table = zappos_folder / "ut-zap50k-data" / "meta-data.csv"
    before = fingerprint(zappos(), zappos_folder, ["gender"])
    table.write_text(table.read_text().replace("Women", "Woman"))
    assert fingerprint(zappos(), zappos_folder, ["gender"]) != before


def test_the_fingerprint_changes_with_the_name_of_a_task(celeba_folder: Path) -> None:
    file = celeba_folder / "list_attr_celeba.txt"
    before = fingerprint(celeba(), celeba_folder, ["Young"])
    file.write_text(file.read_text().replace("Young", "Fresh"))
    assert fingerprint(celeba(), celeba_folder, ["Fresh"]) != before


def test_the_fingerprint_changes_with_one_image(zappos_folder: Path) -> None:
    before = fingerprint(zappos(), zappos_folder)
    path = next(zappos_folder.rglob("*.jpg"))
    Image.new("RGB", (68, 51), (1, 2, 3)).save(path)
    assert fingerprint(zappos(), zappos_folder) != before


def test_a_rendered_set_is_drawn_once_where_it_is_absent(drawn: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in drawn.rglob("*.jpg")}
    assert len(before) == 60
    data, _ = prepare(shoes(), drawn, None, CPU)
    assert {path: path.stat().st_mtime_ns for path in drawn.rglob("*.jpg")} == before
    assert (data.facts["name"], data.facts["rendered"], data.facts["images"]) == ("rendered shoes", True, 60)
    assert data.tasks == ("category", "closure", "gender", "heel")
    assert data.images.shape == (60, 12, 16, 3)


def test_a_rendered_set_goes_to_the_default_folder_and_into_an_empty_one(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    table = read_table(shoes(3).data, None, lambda *d: done.append(d))
    assert table.root == default_folder("rendered-shoes-3-seed0")
    assert done[-1] == (3, 3)
    (tmp_path / "empty").mkdir()
    assert len(read_table(shoes(3).data, tmp_path / "empty")) == 3


def test_sets_drawn_by_other_settings_lie_in_other_folders() -> None:
    with_seed = load_benchmark("shoes", settings=['data.rendered={what="shoes", images=3, seed=5}'])
    roots = {read_table(b.data, None).root for b in (shoes(3), shoes(2), with_seed)}
    assert len(roots) == 3


def test_rendered_shoes_are_called_rendered_under_the_real_benchmark_too(drawn: Path) -> None:
    facts = prepare(zappos(), drawn, None, CPU)[0].facts
    assert (facts["name"], facts["rendered"]) == ("rendered shoes", True)


def test_real_images_never_pass_for_rendered_ones(zappos_folder: Path) -> None:
    with pytest.raises(UserError, match=r"zappos holds real images.*--data-dir"):
        read_table(shoes().data, zappos_folder)


def test_rendered_images_are_called_so_whoever_reads_them(drawn: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "moved"
    shutil.copytree(drawn, elsewhere)
    for brand in (elsewhere / "ut-zap50k-images").glob("*/*/*"):
        brand.rename(brand.with_name(f"Another {brand.name}"))
    assert prepare(zappos(), elsewhere, None, CPU)[0].facts["name"] == "rendered shoes"
    lines = ["path,kind", *(f"{p.relative_to(elsewhere)},{p.parts[-4]}" for p in elsewhere.rglob("*.jpg"))]
    (elsewhere / "labels.csv").write_text("\n".join(lines) + "\n")
    own = load_benchmark(str(write_own(tmp_path / "own", [])))
    facts = prepare(own, elsewhere, None, CPU)[0].facts
    assert facts["rendered"]
    assert "rendered" in str(facts["name"])


def test_a_set_drawn_by_another_version_is_refused(drawn: Path, tmp_path: Path) -> None:
    old = shutil.copytree(drawn, tmp_path / "old")
    facts = json.loads((old / "rendered.json").read_text())
    (old / "rendered.json").write_text(json.dumps(facts | {"drawing": 0}))
    with pytest.raises(UserError, match=r"another version of mtlbench.*Remove that folder"):
        read_table(shoes().data, old)


def test_a_rendered_set_of_another_size_is_refused(drawn: Path) -> None:
    with pytest.raises(UserError, match=r"drawn with images 60 and this benchmark has 61.*images=60"):
        read_table(shoes(61).data, drawn)


def test_a_rendered_set_of_another_seed_or_conflict_is_refused_and_its_conflict_is_part_of_its_name(
    tmp_path: Path,
) -> None:
    def drawing(seed: int, conflict: float) -> Data:
        what = f'data.rendered={{what="shoes", images=3, seed={seed}, conflict={conflict}}}'
        return load_benchmark("shoes", settings=[what]).data

    (tmp_path / "torn").mkdir()
    torn = read_table(drawing(1, 0.5), tmp_path / "torn")
    assert torn.name == "rendered shoes, conflict 0.5"
    with pytest.raises(UserError, match=r"drawn with seed 1 and this benchmark has 2"):
        read_table(drawing(2, 0.5), tmp_path / "torn")
    with pytest.raises(UserError, match=r"drawn with conflict 0.5 and this benchmark has 0.*conflict=0.5"):
        read_table(drawing(1, 0.0), tmp_path / "torn")
    with pytest.raises(UserError, match=r"drawn with what shoes and this benchmark has faces"):
        read_table(
            load_benchmark("faces", settings=['data.reader="zappos"', "data.rendered.images=3"]).data, tmp_path / "torn"
        )


def test_data_is_looked_for_where_the_environment_says(celeba_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTLBENCH_DATA", str(celeba_folder.parent))
    assert read_table(celeba().data, None).root == celeba_folder
    monkeypatch.delenv("MTLBENCH_DATA")
    assert default_folder("celeba") == Path(platformdirs.user_data_dir("mtlbench")) / "celeba"


@pytest.mark.parametrize("name", ["celeba", "zappos"])
def test_data_that_is_not_there_is_an_error_with_the_ways_on(name: str, tmp_path: Path) -> None:
    data = load_benchmark(name).data
    drawn = {"celeba": "faces", "zappos": "shoes"}[name]
    ways = rf"no {name} data at .*{name}: .*data get {name},.*--data-dir.*--dataset {drawn}"
    for there in (False, True):  # an aborted download leaves an empty folder
        if there:
            default_folder(name).mkdir(parents=True)
        with pytest.raises(UserError, match=ways):
            read_table(data, None)
    with pytest.raises(UserError, match=r"--data-dir .*nowhere: there is no such folder"):
        read_table(data, tmp_path / "nowhere")


def test_anchors_of_label_1_alone_are_refused_for_a_task_of_many_values(celeba_folder: Path) -> None:
    # code 1 of such a task is one identity, and a run on it would be a measurement of nothing
    full = celeba(quick=False)
    assert full.train.anchors == "positive"
    with pytest.raises(UserError, match=r"'identity' has 20 values, .*train\.anchors=balanced"):
        prepare(full, celeba_folder, ["Smiling", "identity"], CPU)
    with pytest.raises(UserError, match=r"'identity' has 20 values, .*evaluation\.anchors=balanced"):
        prepare(celeba("train.anchors=balanced", quick=False), celeba_folder, ["Smiling", "identity"], CPU)
    balanced = celeba("train.anchors=balanced", "evaluation.anchors=balanced", quick=False)
    assert prepare(balanced, celeba_folder, ["Smiling", "identity"], CPU)[0].tasks == ("Smiling", "identity")


def test_a_split_with_one_image_of_label_1_is_named_when_anchors_come_from_it(celeba_folder: Path) -> None:
    file = celeba_folder / "list_attr_celeba.txt"
    lines = file.read_text().splitlines()
    column = lines[1].split().index("Bald") + 1
    for i in range(2 + 36, 2 + 48):  # the validation images: the first alone is bald
        fields = lines[i].split()
        lines[i] = " ".join([*fields[:column], "1" if i == 38 else "-1", *fields[column + 1 :]])
    file.write_text("\n".join(lines) + "\n")
    prepare(celeba(), celeba_folder, ["Bald"], CPU)
    with pytest.raises(UserError, match=r"'Bald' has fewer than two val images with the label 'yes'.*balanced"):
        prepare(celeba(quick=False), celeba_folder, ["Bald"], CPU)


def write_own(folder: Path, lines: list[str], **files: Any) -> Path:
    """Write a benchmark of one's own with a CSV and 48 images of two colours, three shades; return its TOML."""
    folder.mkdir()
    cells = ["path,colour,shade"]
    for i in range(48):
        colour, shade = i % 2, i // 2 % 3
        pixels = np.full((20, 30, 3), 60 + 60 * shade, dtype=np.uint8)
        pixels[:, :, colour] = 20
        pixels[0, 0, 2] = i  # no two are the same
        Image.fromarray(pixels).save(folder / f"{i}.png")
        cells.append(f"{i}.png,{('red', 'green')[colour]},{('dark', 'mid', 'light')[shade]}")
    (folder / "labels.csv").write_text("\n".join(cells) + "\n")
    shoes = (Path(__file__).parents[2] / "benchmarks" / "shoes.toml").read_text().split("[model]")[1]
    head = ['name = "own"', 'title = "My own"', "[data]", 'reader = "csv"', "image_size = [16, 24]", *lines]
    (folder / "own.toml").write_text("\n".join([*head, "[model]", shoes.split("# Two CPU cores")[0]]))
    return folder / "own.toml"


def test_a_users_own_images_lie_beside_their_benchmark(tmp_path: Path) -> None:
    own = load_benchmark(str(write_own(tmp_path / "own", ['ordered = { shade = ["dark", "mid", "light"] }'])))
    data, notes = prepare(own, None, None, CPU)
    assert (data.tasks, notes) == (("colour", "shade"), [])
    assert data.values == (("green", "red"), ("dark", "mid", "light"))
    assert data.ordered == (False, True)
    assert data.images.shape == (48, 16, 24, 3)
    assert torch.equal(data.images[:, 8, 12].argmin(1) == 0, data.labels[0] == 1)  # no red in what is called red
    assert data.facts["split"] == "by image at random, 70/10/20, seed 0"


def test_data_folder_is_relative_to_the_benchmark_and_not_part_of_its_records(tmp_path: Path) -> None:
    toml = write_own(tmp_path / "own", [])
    (tmp_path / "elsewhere").mkdir()
    moved = toml.rename(tmp_path / "elsewhere" / "own.toml")
    with pytest.raises(UserError, match=r"elsewhere.*labels\.csv"):
        prepare(load_benchmark(str(moved)), None, None, CPU)
    moved.write_text(moved.read_text().replace("[data]", '[data]\nfolder = "../own"'))
    data, _ = prepare(load_benchmark(str(moved)), None, None, CPU)
    assert len(data.split) == 48
    assert str(tmp_path) not in str(setup_of(UNTRAINED, load_benchmark(str(moved)), data, 0, "fp32"))


def test_an_image_that_cannot_be_read_stops_a_run_or_is_left_out_and_counted(tmp_path: Path) -> None:
    toml = write_own(tmp_path / "own", [])
    (tmp_path / "own" / "7.png").write_bytes(b"no image")
    (tmp_path / "own" / "9.png").unlink()
    (tmp_path / "own" / "11.png").unlink()
    (tmp_path / "own" / "11.png").mkdir()
    with pytest.raises(UserError, match=r"7\.png.*--skip-unreadable"):
        prepare(load_benchmark(str(toml)), None, None, CPU)
    skipping = load_benchmark(str(toml), settings=["data.skip_unreadable=true"])
    data, notes = prepare(skipping, None, None, CPU)
    assert len(data.split) == len(data.images) == data.labels.shape[1] == 45
    assert data.facts["unreadable"] == 3
    assert "Left out 3 images" in notes[0]
    assert "7.png" in notes[0]
    whole = [i for i in range(48) if i not in (7, 9, 11)]
    assert data.labels[1].tolist() == [
        ("dark", "light", "mid").index(("dark", "mid", "light")[i // 2 % 3]) for i in whole
    ]


def test_a_run_remarks_on_images_of_16_bits_that_hold_8(tmp_path: Path) -> None:
    benchmark = load_benchmark(str(write_own(tmp_path / "own", [])))
    values = np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "own" / "9.png")
    data, notes = prepare(benchmark, None, None, CPU)
    assert notes == [
        "1 image has 16 bits a channel and uses 12 or fewer, such as 9.png, whose brightest pixel is read as 0 of 255:"
        " save such images with 8 bits, or spread their values over 0 to 65,535, else they are black or nearly so."
    ]
    assert data.images[9].max() == 0


def test_a_file_that_changed_since_it_was_packed_is_told_and_packed_anew(tmp_path: Path) -> None:
    benchmark = load_benchmark(str(write_own(tmp_path / "own", [])))
    before, _ = prepare(benchmark, None, None, CPU)
    Image.new("RGB", (30, 20), (1, 2, 3)).save(tmp_path / "own" / "5.png")
    after, notes = prepare(benchmark, None, None, CPU)
    assert "1 file" in notes[0]
    assert after.images[5, 8, 12].tolist() == [1, 2, 3]
    assert after.facts["fingerprint"] != before.facts["fingerprint"]


def test_rare_values_are_unlabelled_where_the_benchmark_says_so(tmp_path: Path) -> None:
    toml = write_own(tmp_path / "own", ["min_images = 17"])
    with pytest.raises(UserError, match="'shade' has no labels"):
        prepare(load_benchmark(str(toml)), None, ["colour", "shade"], CPU)


def test_csns_own_lists_are_the_questions_and_the_training_triplets(zappos_folder: Path) -> None:
    paths = sorted(p.relative_to(zappos_folder / "ut-zap50k-images").as_posix() for p in zappos_folder.rglob("*.jpg"))
    random = np.random.default_rng(0)
    random.shuffle(paths)
    (zappos_folder / "filenames.json").write_text("\n".join(paths) + "\n")
    (zappos_folder / "tripletlists").mkdir()
    lists = {}
    for task in ("class", "closure", "gender", "heel"):
        for split, pool in (("train", range(40)), ("val", range(40, 50)), ("test", range(50, 60))):
            rows = np.stack([random.permutation(list(pool))[:3] for _ in range(30)])
            lists[task, split] = rows
            text = "\n".join(" ".join(map(str, row)) for row in rows)
            (zappos_folder / "tripletlists" / f"{task}_tripletlist_{split}.txt").write_text(text + "\n")
    with pytest.raises(UserError, match="triplets of its own"):
        zappos("data.split=csn")
    protocol = zappos("data.split=csn", "data.limit=0", "train.sampling=per-task", "evaluation.triplets=20")
    data, _ = prepare(protocol, zappos_folder, ["closure", "category"], CPU)
    shown = {tuple(image.flatten().tolist()): i for i, image in enumerate(data.images)}
    assert len(shown) == len(data.split)
    table = read_zappos(zappos_folder, 0, "csn")
    where = {path.removeprefix("ut-zap50k-images/"): i for i, path in enumerate(table.paths)}
    expected = [[where[paths[i]] for i in (a, close, far)] for a, far, close in lists["closure", "train"].tolist()]
    assert data.triplets["train"][0].tolist() == expected
    held_out = HeldOutTriplets.draw(data, protocol, "test")
    asked = held_out.images[held_out.triplets[1]]
    assert asked.shape == (20, 3)
    known = [[where[paths[i]] for i in (a, close, far)] for a, far, close in lists["class", "test"].tolist()]
    assert all(row in known for row in asked.tolist())
    assert len({tuple(row) for row in asked.tolist()}) == 20
    assert load_plugins() == []
    trainer = Trainer(parse_method("single"), protocol, data, 0, "fp32")
    seeded = [torch.Generator().manual_seed(task) for task in range(2)]
    drawn = trainer.sampler.triplets.draw(200, seeded)[0].t().tolist()
    assert all(row in expected for row in drawn)
    assert len({tuple(row) for row in drawn}) > 25
    trainer.step()


def test_the_real_samples_are_prepared_as_the_quick_benchmarks_say(real_data: Path) -> None:
    faces, notes = prepare(celeba("data.limit=200"), real_data / "celeba-10k", None, CPU)
    assert (len(faces.tasks), notes) == (7, [])
    assert [faces.facts[f"{s}_images"] for s in ("train", "val", "test")] == pytest.approx([140, 20, 40], abs=3)
    assert 40 < faces.images.float().mean() < 200
    samples, notes = prepare(zappos("data.limit=200"), real_data / "zappos-8k", None, CPU)
    assert samples.tasks == ("category", "subcategory")
    assert "heel has no labels" in notes[0]

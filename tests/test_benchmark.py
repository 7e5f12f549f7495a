"""Benchmark files: what the bundled ones say, and what is said of one with a mistake in it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mtlbench.benchmark import Benchmark, benchmark_files, load_benchmark
from mtlbench.datasets.celeba import read_celeba
from mtlbench.datasets.zappos import read_zappos
from mtlbench.errors import UserError

BUNDLED = ["celeba", "faces", "shoes", "zappos"]
SMALL = """
name = "mine"
title = "Größe"

[data]
reader = "zappos"
tasks = ["category"]
image_size = 32

[model]
backbone = "small"
embedding = 16

[train]
sampling = "joint"
triplets = 4
steps = 10
optimiser = "sgd"
lr = 0.1

[evaluation]
every = 5
triplets = 100
"""


def mine(folder: Path, text: str = SMALL, old: str = "", new: str = "") -> str:
    """Write a benchmark of one's own, with one piece of its text replaced."""
    assert old in text
    path = folder / "mine.toml"
    path.write_text(text.replace(old, new, 1) if old else text, encoding="utf-8")
    return str(path)


def complaint(name: str, *settings: str, quick: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        load_benchmark(name, quick=quick, settings=settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the bundled ones -------------------------------------------------------------------------------------------------


def test_these_benchmarks_are_bundled() -> None:
    assert list(benchmark_files()) == BUNDLED


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_benchmark_loads_full_and_quick_and_the_quick_one_is_smaller(name: str) -> None:
    full, quick = load_benchmark(name), load_benchmark(name, quick=True)
    assert (full.name, quick.name) == (name, f"{name}-quick")
    assert quick.title == full.title
    assert quick.data.tasks == full.data.tasks
    assert quick.data.size[0] * quick.data.size[1] < full.data.size[0] * full.data.size[1]
    assert quick.train.steps < full.train.steps
    assert quick.evaluation.every < quick.train.steps


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("quick", [False, True])
def test_a_benchmark_lives_through_its_own_record(name: str, quick: bool) -> None:
    benchmark = load_benchmark(name, quick=quick)
    assert Benchmark.model_validate_json(benchmark.model_dump_json()) == benchmark


def test_celeba_in_full_is_the_modulation_papers_protocol() -> None:
    b = load_benchmark("celeba")
    assert b.data.tasks == [
        "Smiling",
        "Oval_Face",
        "5_o_Clock_Shadow",
        "Bald",
        "Arched_Eyebrows",
        "Big_Lips",
        "Big_Nose",
    ]
    assert (b.data.reader, b.data.size, b.data.pixels, b.data.limit) == ("celeba", (150, 150), "bgr", 0)
    assert (b.model.backbone, b.model.embedding, b.model.pretrained) == ("paper[start=truncated]", 256, False)
    assert (b.loss.options["margin"], b.embedding.distance, b.embedding.normalise) == (0.2, "squared", True)
    t = b.train
    assert (t.optimiser, t.lr, t.weight_decay) == ("adagrad", 0.01, 0)
    assert t.optimiser_options == {"initial_accumulator_value": 0.1}  # TensorFlow's Adagrad
    assert (t.schedule, t.milestones, t.decay) == ("step", [0.39, 0.79], 0.1)  # from the 40th and the 80th epoch on
    epoch = t.steps // 100  # 8 positives of Smiling a step
    assert t.steps == 361_700
    assert 0.480 < epoch * t.triplets / 60_002 < 0.484  # the share of the images that smile
    assert (t.sampling, t.anchors, t.triplets) == ("per-task", "positive", 8)
    assert 3 * t.triplets * len(b.data.tasks) == 168
    assert not t.flip
    assert t.shift == 0


def test_zappos_in_full_is_the_protocol_of_conditional_similarity_networks() -> None:
    b = load_benchmark("zappos")
    assert b.data.tasks == ["category", "closure", "gender", "heel"]
    assert b.data.fallback_tasks == ["subcategory"]
    assert (b.data.reader, b.data.size, b.data.rendered) == ("zappos", (112, 112), None)
    assert (b.model.backbone, b.model.embedding) == ("resnet18-csn", 64)
    assert (b.loss.options["margin"], b.embedding.distance, b.embedding.normalise) == (0.2, "plain", False)
    t = b.train
    assert (t.optimiser, t.lr, t.schedule) == ("adam", 5e-5, "exponential")
    assert t.decay == pytest.approx(0.985**200, rel=0.03)  # 0.985 an epoch, 200 epochs
    assert len(b.data.tasks) * t.triplets == 256
    assert t.steps == 200 * 200_000 // 256 == 156_250  # 200,000 triplets an epoch, over all tasks
    assert t.flip
    assert b.evaluation.triplets == 40_000


def test_shoes_and_faces_are_drawn_and_no_other_benchmark_is() -> None:
    assert {n: load_benchmark(n).data.rendered is not None for n in BUNDLED} == {
        "celeba": False,
        "faces": True,
        "shoes": True,
        "zappos": False,
    }
    quick, full = (load_benchmark("shoes", quick=q).data.rendered for q in (True, False))
    assert quick is not None
    assert full is not None
    assert quick.images < full.images


@pytest.mark.parametrize("name", BUNDLED)
def test_the_tasks_of_a_benchmark_are_in_its_data_set(name: str, celeba_folder: Path, zappos_folder: Path) -> None:
    data = load_benchmark(name).data
    table = read_celeba(celeba_folder) if data.reader == "celeba" else read_zappos(zappos_folder)
    assert {*data.tasks, *data.fallback_tasks} <= set(table.columns)


def test_quick_trains_all_methods_by_one_recipe_of_joint_triplets() -> None:
    for name in BUNDLED:
        quick = load_benchmark(name, quick=True)
        assert (quick.model.backbone, quick.train.optimiser, quick.train.schedule) == ("small", "adamw", "one-cycle")
        assert quick.train.sampling == "joint"
        assert quick.embedding.distance == "squared"
        assert quick.embedding.normalise


# --- a file of one's own ----------------------------------------------------------------------------------------------


def test_a_path_that_ends_in_toml_is_a_benchmark_of_ones_own(tmp_path: Path) -> None:
    b = load_benchmark(mine(tmp_path))
    assert (b.name, b.title, b.data.size, b.train.steps) == ("mine", "Größe", (32, 32), 10)


def test_what_a_file_leaves_out_has_defaults(tmp_path: Path) -> None:
    b = load_benchmark(mine(tmp_path))
    assert (b.loss.name, b.embedding.distance, b.embedding.normalise) == ("triplet", "squared", True)
    assert (b.train.schedule, b.train.precision, b.train.weight_decay) == ("one-cycle", "auto", 0)
    assert b.evaluation.ks == [1, 5, 10, 20]


def test_two_sizes_are_height_and_width(tmp_path: Path) -> None:
    assert load_benchmark(mine(tmp_path, SMALL, "image_size = 32", "image_size = [24, 32]")).data.size == (24, 32)


def test_the_quick_table_overrides_single_keys_only(tmp_path: Path) -> None:
    path = mine(tmp_path, SMALL + "\n[quick]\ntrain.steps = 3\n[quick.data]\nlimit = 50\n")
    full, quick = load_benchmark(path), load_benchmark(path, quick=True)
    assert (full.train.steps, full.data.limit) == (10, 0)
    changes = {"name": "mine-quick", "protocol": "quick", "train": {"steps": 3}, "data": {"limit": 50}}
    expected = full.model_dump()
    for key, value in changes.items():
        expected[key] = expected[key] | value if isinstance(value, dict) else value
    assert quick.model_dump() == expected


def test_quick_without_a_quick_table_is_refused_and_the_full_one_loads(tmp_path: Path) -> None:
    path = mine(tmp_path)
    assert complaint(path, quick=True) == f"{path} has no [quick] table; run it without --quick."
    assert load_benchmark(path).name == "mine"


@pytest.mark.parametrize("name", ["celba", "Celeba", "shoe"])
def test_an_unknown_benchmark_is_answered_with_the_nearest_and_all_there_are(name: str) -> None:
    said = complaint(name)
    assert f"'{name}'" in said
    assert f"Did you mean: {'shoes' if name == 'shoe' else 'celeba'}" in said
    assert "Available: celeba, faces, shoes, zappos, or the path of a .toml file." in said


def test_a_toml_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert f"There is no file {tmp_path / 'no.toml'}. Give a bundled benchmark by its name" in complaint(
        str(tmp_path / "no.toml")
    )
    assert f"'{tmp_path}'" in complaint(str(tmp_path))


@pytest.mark.parametrize("text", [b"name = ", b"[data\n", b"a = 1\na = 2\n", b"title = '\xff\xfe'"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(text)
    assert complaint(str(path)).startswith(f"{path} is not valid TOML: ")


# --- mistakes in keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "key", "nearest"),
    [
        ("steps = 10", "stepps = 10", "train.stepps", "steps"),
        ("[evaluation]", "[evaluations]", "evaluations", "evaluation"),
        ("title =", "titel = 'x'\ntitle =", "titel", "title"),
        ("[model]", "[data.rendered]\nwhat = 'shoes'\nimages = 3\nsead = 1\n[model]", "data.rendered.sead", "seed"),
        ("lr = 0.1", "lr = 0.1\n[embedding]\nnormalize = true", "embedding.normalize", "normalise"),
        ("lr = 0.1", "lr = 0.1\nweight-decay = 0.1", "train.weight-decay", "weight_decay"),
    ],
)
def test_an_unknown_key_is_told_with_its_file_and_the_nearest_valid_one(
    tmp_path: Path, old: str, new: str, key: str, nearest: str
) -> None:
    path = mine(tmp_path, SMALL, old, new)
    assert f"{path}: unknown key '{key}'. Did you mean: {nearest}" in complaint(path)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize(
    ("line", "key", "nearest"),
    [
        ("train.stps = 3", "train.stps", "steps"),
        ("modle.backbone = 'small'", "modle", "model"),
        ("data.rendered = { what = 'shoes', images = 2, imags = 3 }", "data.rendered.imags", "images"),
    ],
)
def test_an_unknown_key_in_the_quick_table_is_told_before_its_first_use(
    tmp_path: Path, line: str, key: str, nearest: str, quick: bool
) -> None:
    path = mine(tmp_path, f"{SMALL}\n[quick]\n{line}\n")
    assert f"{path} [quick]: unknown key '{key}'. Did you mean: {nearest}" in complaint(path, quick=quick)


@pytest.mark.parametrize(
    ("setting", "key", "nearest"),
    [
        ("train.stps=5", "train.stps", "steps"),
        ("trian.steps=5", "trian", "train"),
        ("data.rendered.imges=5", "data.rendered.imges", "images"),
        ("evaluation.triplet=5", "evaluation.triplet", "triplets"),
    ],
)
def test_an_unknown_key_in_set_is_told_with_the_nearest_valid_one(setting: str, key: str, nearest: str) -> None:
    assert f"--set: unknown key '{key}'. Did you mean: {nearest}" in complaint("shoes", setting)


def test_an_unknown_key_like_no_other_is_told_with_the_valid_ones() -> None:
    assert complaint("shoes", "embedding.zzz=1") == "--set: unknown key 'embedding.zzz'. Valid: distance, normalise."


def test_a_missing_key_and_a_missing_section_are_named(tmp_path: Path) -> None:
    path = mine(tmp_path, SMALL, 'reader = "zappos"')
    assert complaint(path) == f"{path}: the key 'data.reader' is missing."
    path = mine(tmp_path, SMALL, '[data]\nreader = "zappos"\ntasks = ["category"]\nimage_size = 32')
    assert complaint(path) == f"{path}: the key 'data' is missing."


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    text = SMALL.replace("steps = 10", "steps = 0").replace('reader = "zappos"', "")
    path = mine(tmp_path, text, "lr = 0.1", "rl = 0.1")
    said = complaint(path)
    assert f"{path}: train.steps: input should be greater than 0 (not 0)." in said
    assert f"{path}: the key 'data.reader' is missing." in said
    assert f"{path}: unknown key 'train.rl'." in said


def test_the_quick_table_must_be_a_table(tmp_path: Path) -> None:
    path = mine(tmp_path, "quick = 5\n" + SMALL)
    assert complaint(path) == f"{path}: 'quick' must be a table of overrides, [quick]."


# --- mistakes in values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.steps=many", "train.steps: input should be a valid integer"),
        ("train.steps=0", "train.steps: input should be greater than 0 (not 0)"),
        ("train.steps=2.5", "train.steps: input should be a valid integer"),
        ("train.lr=0", "train.lr: input should be greater than 0"),
        ("train.lr=inf", "train.lr: input should be a finite number (not inf)"),
        ("train.lr=nan", "train.lr: input should be a finite number (not nan)"),
        ("train.weight_decay=-1", "train.weight_decay: input should be greater than or equal to 0"),
        ("train.flip=maybe", "train.flip: input should be a valid boolean"),
        ("train.optimiser=5", "train.optimiser: input should be a valid string (not 5)"),
        ("train.schedule=cosin", "train.schedule: input should be 'constant', 'one-cycle', 'cosine', 'linear', "),
        ("loss.distance=plain", "loss.distance has moved: set embedding.distance"),
        ("train.milestones=[0.5,2]", "train.milestones.1: input should be less than or equal to 1 (not 2)"),
        ("train.milestones=0.5", 'train.milestones: input should be a valid list, written as ["a", "b"] (not 0.5)'),
        ("train.schedule=step", "train.schedule = 'step' needs train.milestones"),
        ("data.tasks=category,heel", "data.tasks: input should be a valid list"),
        ("data.image_size=-3", "data.image_size: input should be greater than 0 (not -3)"),
        ("data.image_size=big", "data.image_size: input should be a valid integer"),
        ("data.image_size=[1,2,3]", "at most 2 items"),
        ("data.rendered.images=0", "data.rendered.images: input should be greater than 0"),
        ("evaluation.ks=[1,0]", "evaluation.ks.1: input should be greater than 0"),
        ("name=Bad name", "name: string should match pattern"),
        ("train=5", "train: must be a table (not 5)"),
        ("model.backbone=5", "model.backbone: input should be a valid string (not 5)"),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_its_key(setting: str, said: str) -> None:
    message = complaint("shoes", setting)
    assert message.startswith(f"--set: {said}" if "=[1,2,3]" not in setting else "--set: data.image_size: ")
    assert said in message
    assert "constrained" not in message  # pydantic's words for the types it tried


def test_a_value_that_does_not_fit_is_told_with_its_file(tmp_path: Path) -> None:
    path = mine(tmp_path, SMALL, 'optimiser = "sgd"', "optimiser = 3")
    assert complaint(path).startswith(f"{path}: train.optimiser: input should be a valid string")
    path = mine(tmp_path, SMALL + "\n[quick]\ntrain.steps = 'few'\n")
    assert complaint(path).startswith(f"{path} [quick]: train.steps: input should be a valid integer")


# --- --set ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("train.steps=500", 500),
        ("train.steps = 500 ", 500),
        ("train.lr=3e-4", 3e-4),
        ("train.lr=1", 1.0),
        ("train.flip=false", False),
        ("train.optimiser=sgd", "sgd"),
        ('train.optimiser="sgd"', "sgd"),
        ("data.tasks=['heel','closure']", ["heel", "closure"]),
        ("evaluation.ks=[1, 3]", [1, 3]),
        ("data.image_size=40", 40),
        ("data.image_size=[30, 40]", (30, 40)),
        ("data.rendered.images=7", 7),
        ("model.backbone=torchvision:mobilenet_v3_small", "torchvision:mobilenet_v3_small"),
        ("title=Shoes = shoes", "Shoes = shoes"),
    ],
)
def test_set_changes_one_value_and_nothing_else(setting: str, value: object) -> None:
    *sections, last = setting.partition("=")[0].strip().split(".")

    def inside(content: Any) -> Any:
        for section in sections:
            content = content[section]
        return content

    before, after = (load_benchmark("shoes", settings=s).model_dump() for s in ((), (setting,)))
    assert inside(before)[last] != value
    assert inside(after)[last] == value
    assert type(inside(after)[last]) is type(value)
    inside(after)[last] = inside(before)[last]
    assert after == before


def test_no_title_counts_tasks_which_the_user_chooses() -> None:
    for name in benchmark_files():
        title = load_benchmark(name).title.lower()
        assert not re.search(r"\b(one|two|three|four|five|six|seven|\d+) (tasks?|attributes?)", title), title


def test_a_file_needs_no_more_than_its_reader(tmp_path: Path) -> None:
    file = tmp_path / "My photos.toml"
    file.write_text('[data]\nreader = "csv"\n')
    b = load_benchmark(str(file))
    assert (b.name, b.title, b.protocol) == ("my-photos", "my-photos", "full")
    assert (b.data.size, b.model.backbone, b.train.optimiser, b.train.lr) == ((64, 64), "small", "adamw", 3e-3)


def test_another_optimiser_needs_a_learning_rate_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[data]\nreader = "csv"\n[train]\noptimiser = "sgd"\n')
    assert "train.optimiser = 'sgd' needs train.lr: the default is adamw's." in complaint(str(file))


def test_the_quick_protocol_is_told_by_a_key_and_not_by_the_name() -> None:
    for settings in ([], ["name=other"]):
        assert load_benchmark("shoes", quick=True, settings=settings).protocol == "quick"
        assert load_benchmark("shoes", settings=["name=not-quick"]).protocol == "full"


def test_set_comes_after_quick_and_the_last_one_counts() -> None:
    b = load_benchmark("celeba", quick=True, settings=["train.steps=7", "train.steps=8"])
    assert (b.name, b.train.steps, b.train.lr) == ("celeba-quick", 8, 3e-3)


def test_settings_that_only_fit_together_may_come_in_any_order() -> None:
    for settings in (
        ["train.schedule=step", "train.milestones=[0.5]"],
        ["train.milestones=[0.5]", "train.schedule=step"],
    ):
        assert load_benchmark("shoes", settings=settings).train.milestones == [0.5]


@pytest.mark.parametrize("setting", ["train.steps", "=5", "", "  =5"])
def test_a_setting_without_key_or_value_is_told_how_to_write_it(setting: str) -> None:
    assert complaint("shoes", setting) == f"--set {setting}: write it as key=value, such as --set train.steps=500."


def test_a_benchmark_cannot_be_changed_once_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_benchmark("shoes").train.steps = 5


def test_the_bundled_files_say_nothing_that_is_overruled_by_silence() -> None:
    """Every key of a quick table differs from the full protocol: one that doesn't is a leftover."""

    def leaves(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in table.items():
            found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        return found

    for name, path in benchmark_files().items():
        quick = leaves(tomllib.loads(path.read_text(encoding="utf-8"))["quick"])
        full = leaves(load_benchmark(name).model_dump(mode="json"))
        same = {key for key, value in quick.items() if full.get(key) == value and not key.endswith("rendered.what")}
        assert not same, f"{path} [quick]"


def test_the_anchors_of_training_are_those_of_evaluation_in_a_file_that_states_no_others(tmp_path: Path) -> None:
    """So it was before `evaluation.anchors`; `--set` sets each apart."""
    b = load_benchmark(mine(tmp_path, SMALL, "lr = 0.1", 'lr = 0.1\nanchors = "positive"'))
    assert b.train.anchors == b.evaluation.anchors == "positive"
    b = load_benchmark("shoes", settings=["train.anchors=positive"])
    assert (b.train.anchors, b.evaluation.anchors) == ("positive", "balanced")


def test_another_loss_or_optimiser_leaves_the_options_of_the_one_before(tmp_path: Path) -> None:
    named = load_benchmark("shoes", settings=["loss.temperature=0.2", "loss.name=pml:SupConLoss"])
    assert named.loss.model_dump() == {"name": "pml:SupConLoss", "temperature": 0.2}
    assert load_benchmark("shoes", settings=["loss.margin=0.3"]).loss.options == {"margin": 0.3}
    first = ["train.optimiser=rmsprop", "train.optimiser_options={alpha=0.9}"]
    assert load_benchmark("shoes", settings=first).train.optimiser_options == {"alpha": 0.9}
    path = mine(tmp_path, SMALL, 'optimiser = "sgd"', 'optimiser = "rmsprop"\noptimiser_options = { alpha = 0.9 }')
    assert load_benchmark(path, settings=["train.optimiser=adam"]).train.optimiser_options == {}
    assert load_benchmark(path).train.optimiser_options == {"alpha": 0.9}


def test_keys_of_mtlbench_0_1_are_read_as_todays() -> None:
    old = [
        "data.spare_tasks=['toe']",
        "train.tried=3",
        "evaluation.conflict_every=5",
        "evaluation.conflict_layers=true",
    ]
    new = load_benchmark("shoes", settings=old)
    assert (new.data.fallback_tasks, new.train.protocols_tried) == (["toe"], 3)
    assert (new.evaluation.agreement_every, new.evaluation.agreement_layers) == (5, True)
    assert not {"spare_tasks", "tried"} & {*new.data.model_dump(), *new.train.model_dump()}

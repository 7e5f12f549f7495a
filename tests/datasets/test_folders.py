"""A user's own images in folders of labels: what they become, and what is refused with which remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_own_images import TEN, facts, names, options

from mtlbench.data.table import split_at_random
from mtlbench.datasets.folders import Folders, read_folders
from mtlbench.errors import UserError


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def test_each_level_of_folders_is_a_task(tmp_path: Path) -> None:
    paths = [f"{kind}/{colour}/{i}.jpg" for kind in ("boot", "shoe") for colour in ("blue", "red") for i in range(5)]
    root = touch(tmp_path / "mine", *reversed(paths))
    table = read_folders(root, options("folders", levels=["category", "colour"], split_seed=1))
    assert (table.name, table.root, table.paths) == ("mine", root, tuple(paths))
    assert list(table.columns) == ["category", "colour"]
    assert names(table.columns["category"]) == [path.split("/")[0] for path in paths]
    assert names(table.columns["colour"]) == [path.split("/")[1] for path in paths]
    assert table.split.tolist() == split_at_random(paths, 1).tolist()
    assert table.split_rule == "by image at random, 70/10/20, seed 1"
    assert table.remarks == ()


def test_images_are_told_by_their_endings_in_either_case_and_other_files_are_counted(tmp_path: Path) -> None:
    images = [f"cat/{i}{ending}" for i, ending in enumerate((".jpg", ".JPG", ".jpeg", ".Png", ".webp", ".bmp") * 2)]
    touch(tmp_path, *images, "cat/notes.txt", "readme.md", "dog/deep/deeper/clip.mp4")
    table = read_folders(tmp_path, options("folders", levels=["kind"]))
    assert sorted(table.paths) == sorted(images)
    assert table.remarks == (
        "Left out 3 files whose names end in none of .jpg, .jpeg, .png, .webp, .bmp, such as cat/notes.txt.",
    )


def test_hidden_files_and_what_systems_leave_behind_play_no_part(tmp_path: Path) -> None:
    images = [f"cat/{i}.jpg" for i in range(10)]
    touch(tmp_path, *images, "cat/._0.jpg", ".cache/a/b/0.jpg", "__MACOSX/cat/0.jpg", "cat/Thumbs.db", ".DS_Store")
    table = read_folders(tmp_path, options("folders", levels=["kind"]))
    assert sorted(table.paths) == sorted(images)
    assert table.remarks == ()


@pytest.mark.parametrize(
    "sides", [("train", "val", "test"), ("Training", "validation", "TEST"), ("train", "valid", "testing")]
)
def test_top_folders_that_are_called_by_splits_are_the_split(tmp_path: Path, sides: tuple[str, ...]) -> None:
    paths = [f"{side}/{kind}/{i}.jpg" for side in sides for kind in ("cat", "dog") for i in range(2)]
    touch(tmp_path, *paths)
    table = read_folders(tmp_path, options("folders", levels=["kind"]))
    assert list(table.columns) == ["kind"]
    assert table.columns["kind"].values == ("cat", "dog")
    assert table.split.tolist() == [sides.index(path.split("/")[0]) for path in table.paths]
    assert table.split_rule == "as in folders"


def test_top_folders_without_one_of_the_splits_are_refused_with_the_remedy(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{side}/{kind}/0.jpg" for side in ("val", "test") for kind in ("cat", "dog")))
    with pytest.raises(UserError, match="no image is in the split train: move some images there"):
        read_folders(tmp_path, options("folders", levels=["kind"]))


@pytest.mark.parametrize(("held_out", "said"), [("test", ""), ("val", ", val taken as test")])
def test_train_beside_one_other_split_gives_validation_and_says_so(tmp_path: Path, held_out: str, said: str) -> None:
    touch(tmp_path, *(f"train/{kind}/{i}.jpg" for kind in ("cat", "dog") for i in range(8)))
    touch(tmp_path, *(f"{held_out}/{kind}/0.jpg" for kind in ("cat", "dog")))
    table = read_folders(tmp_path, options("folders", levels=["kind"]))
    assert {path for path, side in zip(table.paths, table.split, strict=True) if side == 2} == {
        f"{held_out}/cat/0.jpg",
        f"{held_out}/dog/0.jpg",
    }
    assert [(table.split == side).sum() for side in range(3)] == [14, 2, 2]
    assert table.split_rule == f"as in folders{said}, validation an eighth of train at random, seed 0"


def test_query_and_gallery_are_both_test(tmp_path: Path) -> None:
    sides = {"bounding_box_train": 0, "bounding_box_test": 2, "query": 2, "gallery": 2}
    touch(tmp_path, *(f"{side}/{who}/{i}.jpg" for side in sides for who in ("ann", "bob") for i in range(4)))
    table = read_folders(tmp_path, options("folders", levels=["person"]))
    assert table.columns["person"].values == ("ann", "bob")
    for path, side in zip(table.paths, table.split, strict=True):
        assert side == sides[path.split("/")[0]] or (side == 1 and path.startswith("bounding_box_train/"))


def test_what_a_run_and_a_look_at_the_data_leave_in_the_folder_plays_no_part(tmp_path: Path) -> None:
    paths = [f"{side}/{kind}/{i}.jpg" for side in ("train", "val", "test") for kind in ("cat", "dog") for i in range(2)]
    touch(tmp_path, *paths)
    before = read_folders(tmp_path, options("folders", levels=["kind"]))
    touch(tmp_path, "results/pets/single/seed-0/run.json", "results/pets/single.png", "pets-kind.png", "docs/notes.md")
    after = read_folders(tmp_path, options("folders", levels=["kind"]))
    assert facts(after) == facts(before)
    assert after.split_rule == "as in folders"
    assert after.remarks == (
        "results/ holds runs of mtlbench: left out.",
        "1 image in no folder was left out, such as pets-kind.png.",
        "Left out 1 file whose name ends in none of .jpg, .jpeg, .png, .webp, .bmp, such as docs/notes.md.",
    )


def test_images_that_all_lie_in_no_folder_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, *TEN)
    with pytest.raises(UserError, match="holds no images: put them into <kind>/"):
        read_folders(tmp_path, options("folders", levels=["kind"]))


def test_a_label_that_is_called_like_a_split_beside_others_is_a_label(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{kind}/{i}.jpg" for kind in ("test", "trial") for i in range(5)))
    assert read_folders(tmp_path, options("folders", levels=["kind"])).columns["kind"].values == ("test", "trial")


@pytest.mark.parametrize("stray", ["boot/stray.png", "boot/red/left/stray.jpg"])
def test_an_image_deeper_or_less_deep_than_the_levels_is_named(tmp_path: Path, stray: str) -> None:
    touch(tmp_path, *(f"boot/red/{i}.jpg" for i in range(10)), stray)
    depth = stray.count("/")
    with pytest.raises(UserError, match=f"{stray} is in {depth} folders?, and 2 belong there, <category>/<colour>/"):
        read_folders(tmp_path, options("folders", levels=["category", "colour"]))


def test_the_levels_below_splits_are_counted_from_there(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{side}/{i}.jpg" for side in ("train", "val", "test") for i in range(3)))
    with pytest.raises(UserError, match=r"test/0\.jpg is in 1 folder, and 2 belong there, <split>/<kind>/"):
        read_folders(tmp_path, options("folders", levels=["kind"]))


def test_a_folder_named_after_several_labels_follows_the_benchmarks_rule(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{kind}/{i}.jpg" for kind in ("red;blue", "red") for i in range(5)))
    table = read_folders(tmp_path, options("folders", levels=["colour"], multi_valued="first"))
    assert table.columns["colour"].values == ("red",)
    assert table.remarks == ("5 cells of colour hold several values: the first counts.",)


def test_folders_without_images_and_missing_folders_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "cat/notes.txt")
    with pytest.raises(UserError, match="holds no images: put them into <kind>/"):
        read_folders(tmp_path, options("folders", levels=["kind"]))
    with pytest.raises(UserError, match="there is no such folder"):
        read_folders(tmp_path / "absent", options("folders", levels=["kind"]))


@pytest.mark.parametrize("levels", [["kind", "kind"], ["kind", "Kind"]])
def test_two_levels_of_one_name_are_refused(tmp_path: Path, levels: list[str]) -> None:
    with pytest.raises(UserError, match=r"data\.levels: .* have the same name"):
        read_folders(tmp_path, options("folders", levels=levels))


def test_a_name_is_found_where_the_folder_is_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = touch(tmp_path / "mine", *(f"cat/{i}.jpg" for i in range(10)))
    monkeypatch.chdir(root)
    assert read_folders(Path(), options("folders", levels=["kind"])).name == "mine"


def test_a_link_to_a_folder_above_is_refused_and_one_to_itself_is_no_image(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{kind}/{i}.jpg" for kind in ("cat", "dog") for i in range(10)))
    (tmp_path / "cat/self").symlink_to("self")
    assert len(read_folders(tmp_path, options("folders", levels=["kind"]))) == 20
    (tmp_path / "cat/up").symlink_to("..")
    with pytest.raises(UserError, match="cat/up is a link to a folder that contains it: remove the link"):
        read_folders(tmp_path, options("folders", levels=["kind"]))


def test_a_folder_beside_those_of_the_splits_is_refused_and_no_task(tmp_path: Path) -> None:
    paths = [f"{side}/{kind}/{i}.jpg" for side in ("train", "val", "test") for kind in "ab" for i in range(2)]
    touch(tmp_path, *paths, "extra/a/0.jpg", "more/b/0.jpg", "more/0.txt")
    for levels in (["kind"], ["side", "kind"]):
        with pytest.raises(UserError) as refused:
            read_folders(tmp_path, options("folders", levels=levels))
        assert str(refused.value) == (
            f"{tmp_path}: the images of test, train, val are in splits, and those of extra and 1 more in none: move the"
            " latter away, or rename the former if they are labels."
        )
    proposal = Folders.propose(tmp_path)
    assert proposal is not None
    assert 'levels = ["label"]' in proposal.section[1]
    one = touch(tmp_path / "vehicles", *(f"{kind}/{i}.jpg" for kind in ("train", "bus") for i in range(10)))
    assert read_folders(one, options("folders", levels=["kind"])).columns["kind"].values == ("bus", "train")

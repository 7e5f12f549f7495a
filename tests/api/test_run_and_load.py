"""Training and embedding from Python are those of the command line."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support import run_command, time_little

import mtlbench
from mtlbench import Embedder, Results, UserError
from mtlbench.options import toml
from mtlbench.runs import read_record

SHORT = {
    "train.steps": 4, "train.joint_triplets": 8, "evaluation.every": 2, "evaluation.triplets": 50,
    "model.embedding": 8, "data.image_size": 24, "train.precision": "fp32", "data.rendered.images": 150,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        time_little(patch)
        found = mtlbench.run(
            ["single", "modulation"], "shoes", quick=True, plain=True, settings=SHORT, results=folder, show=False
        )  # fmt: skip
    return folder, found


@pytest.fixture
def net(trained: tuple[Path, Results]) -> Embedder:
    return mtlbench.load(trained[0] / "shoes-quick/modulation/seed-0", device="cpu")


@pytest.mark.slow
def test_it_trains_as_the_command_line_does(trained, tmp_path: Path) -> None:
    folder, found = trained
    settings = [word for key, value in SHORT.items() for word in ("--set", f"{key}={value}")]
    done = run_command(
        "run",
        "--dataset",
        "shoes",
        "--quick",
        "--plain",
        "--methods",
        "single,modulation",
        "--results",
        tmp_path,
        *settings,
    )
    assert done.code == 0, done
    assert set(found.methods) == {"modulation", "single"}
    for method in ("single", "modulation"):
        mine, theirs = (read_record(f / "shoes-quick" / method / "seed-0") for f in (folder, tmp_path))
        assert mine is not None
        assert theirs is not None
        assert mine.metrics == theirs.metrics
        assert mine.setup == theirs.setup


def test_what_is_done_is_skipped_and_only_what_was_asked_for_is_returned(trained) -> None:
    folder, both = trained
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("run.json")}
    one = mtlbench.run("single", "shoes", quick=True, plain=True, settings=SHORT, results=folder, show=False)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("run.json")} == before
    assert one.methods == ("single",)
    assert set(one.table().index) == {"single", "untrained", "chance"}
    assert set(both.table().index) == {"single", "modulation", "untrained", "chance"}


def test_varied_settings_share_a_table_with_rows_of_their_own(tmp_path: Path) -> None:
    found = mtlbench.run(
        "single", "shoes", quick=True, plain=True, settings=SHORT | {"train.steps": 2},
        vary={"loss.margin": [0.1, 0.3]}, results=tmp_path, show=False,
    )  # fmt: skip
    assert set(found.methods) == {"single · loss.margin=0.1", "single · loss.margin=0.3"}
    assert len(found.suites) == 1


def test_mistakes_are_the_command_lines_sentences(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Unknown method 'sharde'\. Did you mean: shared"):
        mtlbench.run("sharde", "shoes", quick=True, plain=True, results=tmp_path, show=False)
    with pytest.raises(UserError, match=r"unknown key 'train\.step'"):
        mtlbench.run(
            "shared", "shoes", quick=True, plain=True, settings={"train.step": 5}, results=tmp_path, show=False
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tasks": "heel, toes"}, "has no task 'toes'"),  # letter by letter, it was "no task 'h'"
        ({"plugins": "not_there.py"}, "not_there.py: there is no such file"),
        ({"track": "tensorbord"}, "Unknown tracker 'tensorbord'"),
        ({"vary": {"loss.name": "tripplet"}}, "Unknown loss 'tripplet'"),
        ({"vary": {"loss.margin": -2.5}}, "margin = -2.5"),
    ],
)
def test_one_text_stands_for_what_it_says_and_not_for_its_letters(tmp_path: Path, given: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        mtlbench.run("shared", quick=True, plain=True, settings=SHORT, results=tmp_path, show=False, **given)


def test_it_leaves_threads_and_limits_as_they_were(trained) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA), torch.get_num_threads()
    mtlbench.run("single", "shoes", quick=True, plain=True, settings=SHORT, results=trained[0], show=False)
    assert (resource.getrlimit(resource.RLIMIT_DATA), torch.get_num_threads()) == before


@pytest.mark.parametrize(
    "value", [True, 5, 0.003, "adamw", "pml:SupConLoss", "a 'b' \"c\"", [48, 64], ["a b", "c"], {"size": ["s", "m"]}]
)
def test_values_are_written_as_toml_reads_them(value: object) -> None:
    assert tomllib.loads(f"x = {toml(value)}")["x"] == value


def test_embeddings_are_those_that_the_run_left(trained, net: Embedder, tmp_path: Path) -> None:
    """Of the test images, from their files: the stored ones are in float16."""
    from mtlbench.report.originals import read_originals

    folder = trained[0] / "shoes-quick/modulation/seed-0"
    record = read_record(folder)
    assert record is not None
    files = list(read_originals(record, None, True).files)
    stored = load_file(folder / "test.safetensors")["embeddings"].float()
    for t, task in enumerate(net.tasks):
        wanted = torch.nn.functional.normalize(stored[t], dim=1).numpy()
        np.testing.assert_allclose(net.embed(files, task), wanted, atol=2e-3)


def test_paths_arrays_and_tensors_of_one_image_embed_alike(net: Embedder, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 91, 57, 3), dtype=np.uint8)
    files = [tmp_path / f"{n}.png" for n in range(2)]
    for file, image in zip(files, pixels, strict=True):
        Image.fromarray(image).save(file)
    from_files = net.embed(files, "heel")
    assert from_files.shape == (2, net.size)
    assert from_files.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(from_files, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(net.embed(pixels, "heel"), from_files)
    np.testing.assert_array_equal(net.embed(torch.from_numpy(pixels).movedim(-1, 1), "heel"), from_files)
    assert net.embed(pixels[:0], "heel").shape == (0, net.size)


def test_search_finds_the_image_itself_first(trained, net: Embedder) -> None:
    from mtlbench.report.originals import read_originals

    record = read_record(trained[0] / "shoes-quick/modulation/seed-0")
    assert record is not None
    files = list(read_originals(record, None, True).files)
    with pytest.raises(UserError, match=r"^k = 0: ask for 1 neighbour or more\.$"):
        net.search(files[3:5], "closure", k=0)
    among_tests = net.search(files[3:5], "closure", k=3)
    assert [found.places[0] for found in among_tests] == [3, 4]
    assert list(among_tests[0].distances) == sorted(among_tests[0].distances)
    among_own = net.search([files[7]], "closure", files[5:9], k=2)
    assert among_own[0].places[0] == 2
    assert among_own[0].distances[0] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), r"uint8 pixels .* these are float32 \(2, 8, 8, 3\)"),
        (np.zeros((8, 8, 3), np.uint8), r"these are uint8 \(8, 8, 3\)"),
        (torch.zeros(2, 8, 8, 3, dtype=torch.uint8), r"these are torch\.uint8 \(2, 8, 8, 3\)"),
        (["nowhere.jpg"], r"nowhere\.jpg can't be read"),
        ("photo.jpg", r"Give a list of paths, such as \['photo\.jpg'\]"),
    ],
)
def test_other_images_are_refused(net: Embedder, images: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        net.embed(images, "heel")  # type: ignore[arg-type]


def test_a_broken_plug_in_of_the_environment_is_named_and_a_given_one_refused(
    trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("raise ValueError('boom')")
    run = trained[0] / "shoes-quick/modulation/seed-0"
    for given in ([tmp_path / "broken.py"], tmp_path / "broken.py", str(tmp_path / "broken.py")):
        with pytest.raises(UserError, match="boom"):
            mtlbench.load(run, plugins=given)
    monkeypatch.setenv("MTLBENCH_PLUGINS", str(tmp_path / "broken.py"))
    with pytest.warns(UserWarning, match="boom"):
        net = mtlbench.load(run, device="cpu")
    assert net.embed(np.zeros((1, 8, 8, 3), np.uint8), "heel").shape == (1, 8)


def test_an_unknown_task_or_run_is_said(net: Embedder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no task 'hell'\. Did you mean: heel"):
        net.embed(np.zeros((1, 8, 8, 3), np.uint8), "hell")
    with pytest.raises(UserError, match="is not a run"):
        mtlbench.load(tmp_path)
    tuned = tmp_path / "shoes-quick" / "modulation@tuned" / "seed-0"
    tuned.mkdir(parents=True)
    (tuned / "run.json").touch()
    for left in (tmp_path / "shoes-quick/modulation", tmp_path / "shoes-quick/modulation/seed-0"):
        with pytest.raises(UserError, match=rf"is not a run: .* Did you mean: {tuned}\?"):  # the benchmark has a recipe
            mtlbench.load(left)
    assert repr(net).endswith("modulation/seed-0'): category, closure, gender, heel; 8 numbers an embedding")

"""`mtlbench search` as a user meets it: what it finds, prints and draws, and what it says when it can't."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from mtlbench.cli import app
from mtlbench.data.dataset import Dataset
from mtlbench.errors import UserError
from mtlbench.evaluation.retrieval import nearest
from mtlbench.search import embed_files, load_run, read_stored
from mtlbench.search import search as searched
from tests.support import leave_runs

SHORT = (
    "data.image_size=[24, 32]", "data.fit=crop", "model.embedding=8", "evaluation.triplets=40",
    "data.tasks=['category','closure']",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, write_zappos: Callable[..., Path]) -> tuple[Path, Path, Dataset]:
    """A run's folder, that of its images, and its data set; 30 of 150 images are for testing."""
    root = tmp_path_factory.mktemp("search")
    folder = write_zappos(root / "zappos", images=150)
    (run,), dataset = leave_runs(root / "results", "zappos", folder, SHORT, "modulation")
    return run, folder, dataset


@pytest.fixture
def copied(made: tuple[Path, Path, Dataset], tmp_path: Path) -> Path:
    """A copy of the run, to be spoilt."""
    return Path(shutil.copytree(made[0], tmp_path / "results/zappos-quick/modulation/seed-0"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where search.png goes


def search(*words: object) -> Result:
    return CliRunner().invoke(app, ["search", *map(str, words)], catch_exceptions=False)


def error(*words: object) -> str:
    with pytest.raises(UserError) as caught:
        search(*words)
    return str(caught.value)


def test_under_a_task_its_own_embeddings_of_queries_and_gallery_are_compared() -> None:
    run = SimpleNamespace(
        tasks=("colour", "shape"), benchmark=SimpleNamespace(embedding=SimpleNamespace(normalise=False))
    )
    gallery = torch.tensor([[[0.0], [2.0], [9.0]], [[9.0], [0.0], [4.0]]])
    asked = torch.tensor([[[0.5]], [[5.0]]])
    (found,) = searched(run, asked, gallery, ["shape", "colour"], 2)
    assert [(one.task, one.places, one.distances) for one in found] == [
        ("shape", (2, 0), (1.0, 4.0)), ("colour", (0, 1), (0.5, 1.5)),
    ]  # fmt: skip
    (found,) = searched(run, asked, gallery.flip(0), ["shape"], 1, gallery_tasks=("shape", "colour"), names="xyz")
    assert (found[0].places, found[0].names) == ((2,), ("z",))


def rows(ended: Result) -> list[list[str]]:
    """The table's lines: rank, file, label if there is one, distance."""
    cells = [re.split(r"\s{2,}", line.strip()) for line in ended.output.splitlines()]
    return [
        row[-4:] if row[0] in ("category", "closure") else row for row in cells if re.fullmatch(r"\d\.\d{4}", row[-1])
    ]


def query_image(dataset: Dataset, number: int) -> Path:
    return dataset.root / dataset.paths[dataset.members("test")[number]]


@pytest.mark.parametrize("task", ["category", "closure"])
def test_a_test_image_finds_itself_and_then_what_its_stored_embedding_finds(made, task):
    run, folder, dataset = made
    stored = load_file(run / "test.safetensors")["embeddings"].float()[dataset.tasks.index(task)]
    for number in (0, 7, 29):
        ended = search(run, "--query", query_image(dataset, number), "--tasks", task, "--data-dir", folder, "-k", 6)
        assert ended.exit_code == 0
        found = rows(ended)
        assert [row[0] for row in found] == list("123456")
        assert found[0][1] == dataset.paths[dataset.members("test")[number]]
        assert float(found[0][-1]) < 0.002  # stored as float16
        order, far = nearest(stored, torch.tensor([number]), torch.arange(30), 5, normalise=True)
        assert [float(row[-1]) for row in found[1:]] == pytest.approx(far[0].tolist(), abs=0.002)
        expected = [dataset.paths[dataset.members("test")[i]] for i in order[0]]
        # neighbours that are nearer by less than the rounding may change places
        assert set(expected[:3]) <= {row[1] for row in found}
        t = dataset.tasks.index(task)
        for row in found:
            code = dataset.labels[t, dataset.paths.index(row[1])]
            assert row[2] == dataset.values[t][code]
    assert Image.open("search.png").width > 500


def test_photos_are_embedded_as_the_benchmark_prepares_its_images(made):
    run, _, dataset = made
    loaded = load_run(run, torch.device("cpu"))
    stored, _ = read_stored(loaded)
    files = [query_image(dataset, i) for i in range(30)]
    embeddings, read, unreadable = embed_files(loaded, files)
    assert (read, unreadable) == (files, [])
    assert embeddings.shape == stored.shape == (2, 30, 8)
    torch.testing.assert_close(embeddings, stored, rtol=2e-3, atol=2e-3 * float(stored.abs().max()))


def test_a_folder_of_ones_own_is_searched_and_broken_files_are_counted(made, tmp_path):
    run, _, dataset = made
    own = tmp_path / "own" / "inside"
    own.mkdir(parents=True)
    for i in range(4):
        shutil.copy(query_image(dataset, i), own / f"{i}.jpg")
    Image.open(query_image(dataset, 4)).save(own / "4.webp", lossless=True)
    (own / "broken.png").write_bytes(b"broken")
    (own / "notes.txt").write_text("no image")
    ended = search(run, "--query", own / "4.webp", "--gallery", own.parent, "-k", 9, "--output", tmp_path / "s.png")
    assert ended.exit_code == 0
    assert "1 image left out that can't be read:" in ended.output
    assert "broken.png (not an image of a known format)" in ended.output
    found = rows(ended)
    assert len(found) == 2 * 5  # both tasks
    assert found[0][-2:] == found[5][-2:] == ["inside/4.webp", "0.0000"]
    assert {row[-2] for row in found[:5]} == {"inside/4.webp", *(f"inside/{i}.jpg" for i in range(4))}
    assert Image.open(tmp_path / "s.png").format == "PNG"


def test_several_photos_have_a_table_each(made):
    run, folder, dataset = made
    photos = [query_image(dataset, i) for i in (1, 2)]
    ended = search(run, "--query", photos[0], "--query", photos[1], "--data-dir", folder, "-k", 2)
    for photo in photos:
        assert f"nearest to {photo}, according to {run}:" in ended.output
    assert [row[0] for row in rows(ended)] == ["1", "2"] * 4


def test_without_the_test_images_what_is_known_is_printed(made):
    run, _, dataset = made
    ended = search(run, "--query", query_image(dataset, 3), "--tasks", "closure", "-k", 2)
    assert ended.exit_code == 0
    assert "no picture, and label values by number, of zappos-quick: its images are not at" in ended.output
    first = rows(ended)[0]
    assert first[1] == "test image 4"
    code = int(dataset.labels[dataset.tasks.index("closure"), dataset.members("test")[3]])
    assert first[2] == f"value {code + 1}"
    assert not Path("search.png").exists()


def test_a_task_is_found_however_it_is_written(made):
    run, folder, dataset = made
    ended = search(run, "--query", query_image(dataset, 0), "--tasks", "Closure", "--data-dir", folder, "-k", 1)
    assert len(rows(ended)) == 1


def test_a_task_near_chance_is_warned_of_and_another_is_not(made, copied):
    _, folder, dataset = made
    file = copied / "run.json"
    content = json.loads(file.read_text())
    content["metrics"]["category"]["triplet"], content["metrics"]["closure"]["triplet"] = 0.9, 0.525
    file.write_text(json.dumps(content))
    ended = search(copied, "--query", query_image(dataset, 3), "--data-dir", folder)
    assert (
        "warning: closure is near chance in this run, 52.5 % of its test triplets where 50 % is chance" in ended.output
    )
    assert "category is near chance" not in ended.output
    ended = search(copied, "--query", query_image(dataset, 3), "--data-dir", folder, "--tasks", "category")
    assert "near chance" not in ended.output


def test_an_edited_method_is_warned_of_and_weights_of_another_are_refused(made, copied):
    _, folder, dataset = made
    record = json.loads((copied / "run.json").read_text())
    record["setup"]["code"]["architecture"] = "an older one"
    (copied / "run.json").write_text(json.dumps(record))
    words = (copied, "--query", query_image(dataset, 0), "--data-dir", folder, "-k", 1)
    ended = search(*words)
    assert ended.exit_code == 0
    assert "warning: the source of modulation has changed since" in ended.output
    weights = load_file(copied / "weights.safetensors")
    del weights[next(iter(weights))]
    save_file(weights, copied / "weights.safetensors")
    refused = error(*words)
    assert "don't fit the method" in refused
    assert "its source has changed" in refused


def test_what_is_missing_or_wrong_is_one_sentence_with_its_remedy(made, copied, tmp_path):
    run, _, dataset = made
    photo = query_image(dataset, 0)
    assert "is not a run: name a run's folder" in error(tmp_path / "no", "--query", photo)
    assert f"Did you mean: {copied}?" in error(copied.parent, "--query", photo)
    assert "has no task 'closur'. Did you mean: closure? Tasks: category, closure." in error(
        run, "--query", photo, "--tasks", "closur"
    )
    assert "--query no.jpg: there is no such file" in error(run, "--query", "no.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"broken")
    assert "broken.jpg can't be read: not an image of a known format. Give a photo" in error(
        run, "--query", tmp_path / "broken.jpg"
    )
    assert "there is no such folder" in error(run, "--query", photo, "--gallery", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "holds no images" in error(run, "--query", photo, "--gallery", tmp_path / "empty")
    assert "end its name in .png" in error(run, "--query", photo, "--output", tmp_path / "sheet")
    assert "there is no folder" in error(run, "--query", photo, "--output", tmp_path / "none/sheet.png")
    (copied / "test.safetensors").unlink()
    assert "the test images can't be searched" in error(copied, "--query", photo)
    (copied / "weights.safetensors").unlink()
    assert "weights.safetensors: copy the weights along" in error(copied, "--query", photo)
    record = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps(record | {"status": "failed", "reason": "out of memory"}))
    assert "has failed (out of memory): run it again" in error(copied, "--query", photo)
    (copied / "run.json").write_text(json.dumps(record | {"kind": "reference"}))
    assert "is a reference row" in error(copied, "--query", photo)
    (copied / "run.json").unlink()
    copied.rename(copied.with_name("seed-0.partial"))
    (copied.with_name("seed-0.partial") / "state.json").write_text("{}")
    assert "is not finished: the same mtlbench run command continues it" in error(copied, "--query", photo)


def test_a_method_that_is_not_there_is_asked_for_with_plugins(made, copied):
    record = json.loads((copied / "run.json").read_text())
    record["setup"]["method"]["architecture"] = "my-own"
    (copied / "run.json").write_text(json.dumps(record))
    words = error(copied, "--query", query_image(made[2], 0))
    assert "Unknown architecture 'my-own'" in words
    assert "name its file with --plugins" in words

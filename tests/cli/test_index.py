"""`mtlbench index`, and `mtlbench search` in what it saved, with a run and with exported files."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support import change_weights, leave_runs, run_command

import mtlbench
from mtlbench import UserError
from mtlbench import search as engine
from mtlbench.data.dataset import Dataset
from mtlbench.export.served import open_exported
from mtlbench.index import is_index, read_index
from mtlbench.search import embed_files, load_run

SHORT = (
    "data.image_size=[24, 32]", "data.fit=crop", "model.embedding=8", "evaluation.triplets=40",
    "data.tasks=['category','closure']",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, write_zappos: Callable[..., Path]) -> tuple[Path, Dataset]:
    """A run's folder and its data set; 30 of 150 images are for testing."""
    root = tmp_path_factory.mktemp("index")
    folder = write_zappos(root / "zappos", images=150)
    (run,), dataset = leave_runs(root / "results", "zappos", folder, SHORT, "modulation")
    return run, dataset


@pytest.fixture(scope="module")
def exported(made: tuple[Path, Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the run's exports: two formats, and one task alone."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    folder = tmp_path_factory.mktemp("exported")
    for words in (["--output", folder / "all.onnx"], ["--format", "safetensors", "--output", folder / "w.safetensors"],
                  ["--format", "torch", "--task", "closure", "--output", folder / "one.pt2"]):  # fmt: skip
        ended = run_command("export", made[0], *words)
        assert ended.code == 0, ended
    return folder


@pytest.fixture
def photos(made: tuple[Path, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of five images, one of them in a folder of its own, one broken, and a text."""
    monkeypatch.chdir(tmp_path)
    dataset, folder = made[1], tmp_path / "photos"
    (folder / "inside").mkdir(parents=True)
    for i in range(4):
        shutil.copy(dataset.root / dataset.paths[i], folder / f"{i}.jpg")
    shutil.copy(dataset.root / dataset.paths[4], folder / "inside" / "4.jpg")
    (folder / "broken.png").write_bytes(b"broken")
    (folder / "notes.txt").write_text("no image")
    return folder


def ranks(out: str) -> list[tuple[str, str]]:
    """The table's files and distances."""
    cells = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]
    return [(row[-2], row[-1]) for row in cells if re.fullmatch(r"\d\.\d{4}", row[-1])]


def test_an_index_finds_what_its_folder_does(made, photos):
    run, query = made[0], photos / "2.jpg"
    ended = run_command("index", photos, "--model", run)
    assert ended.code == 0, ended
    assert "1 image left out that can't be read:" in ended.out
    assert "index: index.safetensors (5 images under category, closure;" in ended.out
    saved = read_index(Path("index.safetensors"))
    wanted = embed_files(load_run(run, torch.device("cpu")), [photos / name for name in saved.names])[0]
    assert torch.equal(saved.embeddings, wanted)
    by_index = run_command("search", run, "--query", query, "--index", "index.safetensors", "-k", 5)
    by_folder = run_command("search", run, "--query", query, "--gallery", photos, "-k", 5)
    assert by_index.code == by_folder.code == 0, by_index
    found = ranks(by_index.out)
    assert found == ranks(by_folder.out)
    assert len(found) == 10
    assert found[0] == ("2.jpg", "0.0000")
    assert "inside/4.jpg" in dict(found)
    assert Image.open("search.png").width > 500


@pytest.mark.parametrize(("name", "tasks"), [("all.onnx", 2), ("w.safetensors", 2), ("one.pt2", 1)])
def test_an_exported_file_indexes_and_searches_as_its_run(made, exported, photos, name, tasks):
    file, query = exported / name, photos / "inside" / "4.jpg"
    assert run_command("index", photos, "--model", file, "--output", "e.safetensors").code == 0
    ended = run_command("search", file, "--query", query, "--index", "e.safetensors", "-k", 3)
    assert ended.code == 0, ended
    words = ["--tasks", "closure"] if tasks == 1 else []
    wanted = run_command("search", made[0], "--query", query, "--gallery", photos, "-k", 3, *words)
    found = ranks(ended.out)
    assert len(found) == 3 * tasks
    assert [row[0] for row in found] == [row[0] for row in ranks(wanted.out)]
    assert [float(row[1]) for row in found] == pytest.approx([float(row[1]) for row in ranks(wanted.out)], abs=2e-4)
    assert "is no run" not in ended.out


def test_an_index_of_one_task_is_searched_under_that(made, photos):
    assert run_command("index", photos, "--model", made[0], "--task", "Closure").code == 0
    assert read_index(Path("index.safetensors")).tasks == ("closure",)
    ended = run_command("search", made[0], "--query", photos / "0.jpg", "--index", "index.safetensors", "-k", 2)
    assert len(ranks(ended.out)) == 2
    words = ("search", made[0], "--query", photos / "0.jpg", "--index", "index.safetensors", "--tasks", "category")
    assert "has no embeddings under category, but under closure: name one" in run_command(*words).error


def test_a_network_that_gives_nan_neither_indexes_nor_searches(made, photos, tmp_path):
    spoilt = tmp_path / "spoilt"
    shutil.copytree(made[0], spoilt)
    weights = load_file(spoilt / "weights.safetensors")
    change_weights(spoilt, {name: torch.full_like(tensor, float("nan")) for name, tensor in weights.items()})
    said = f"The network of {spoilt} gives NaN or infinity for "
    assert said in run_command("index", photos, "--model", spoilt).error
    assert not Path("index.safetensors").exists()
    assert f"{said}1 of 1 image, as with" in run_command("search", spoilt, "--query", photos / "0.jpg").error
    with pytest.raises(UserError, match="gives NaN or infinity for 2 of 2 images"):
        mtlbench.load(spoilt).embed(np.zeros((2, 9, 9, 3), np.uint8), "closure")


def test_an_index_is_known_by_its_beginning_alone(made, photos, monkeypatch):
    run_command("index", photos, "--model", made[0], "--output", "known.safetensors")
    monkeypatch.setattr("mtlbench.index.load_file", lambda file: pytest.fail("the embeddings were read"))
    assert is_index(Path("known.safetensors"))
    assert not is_index(made[0] / "weights.safetensors")


def test_another_network_is_refused_by_its_content(made, exported, photos):
    assert run_command("index", photos, "--model", made[0]).code == 0
    words = ["--query", photos / "0.jpg", "--index", "index.safetensors"]
    said = run_command("search", exported / "all.onnx", *words).error
    assert "was made with another network (modulation, sha256 " in said
    assert f"mtlbench index photos --model {exported / 'all.onnx'} --output index.safetensors --overwrite" in said


def test_a_changed_folder_is_noticed_and_a_touched_or_moved_one_is_none(made, photos, tmp_path):
    assert run_command("index", photos, "--model", made[0]).code == 0
    words = ["search", made[0], "--query", tmp_path / "q.jpg", "--index", "index.safetensors", "-k", 1]
    shutil.copy(photos / "0.jpg", tmp_path / "q.jpg")
    os.utime(photos / "1.jpg", (0, 0))  # its content is the same
    assert run_command(*words).code == 0
    shutil.copy(photos / "0.jpg", photos / "new.jpg")
    (photos / "2.jpg").unlink()
    Image.new("RGB", (40, 30), "red").save(photos / "3.jpg")
    said = run_command(*words).error
    assert "The images in photos are no longer those of index.safetensors" in said
    assert "(new: new.jpg, gone: 2.jpg and changed: 3.jpg)" in said
    assert run_command("index", photos, "--model", made[0], "--overwrite").code == 0
    assert run_command(*words).code == 0
    photos.rename(tmp_path / "elsewhere")
    ended = run_command(*words)
    assert ended.code == 0, ended
    assert "note: no picture: the images are not at photos." in ended.out


def test_what_is_missing_or_wrong_is_one_sentence_with_its_remedy(made, exported, photos, tmp_path):
    run, query = made[0], photos / "0.jpg"
    assert "there is no such folder" in run_command("index", "none", "--model", run).error
    (tmp_path / "empty").mkdir()
    assert "holds no images" in run_command("index", "empty", "--model", run).error
    (tmp_path / "empty" / "a.png").write_bytes(b"no")
    assert "none of its images can be read" in run_command("index", "empty", "--model", run).error
    assert "Did you mean: closure" in run_command("index", photos, "--model", run, "--tasks", "closur").error
    assert "end its name in .safetensors" in run_command("index", photos, "--model", run, "--output", "i.npz").error
    mine = tmp_path / "mine.safetensors"
    mine.write_text("mine")
    again = ("index", photos, "--model", run, "--output", mine)
    assert "add --overwrite" in run_command(*again).error
    assert "is no index and is left as it is" in run_command(*again, "--overwrite").error
    assert mine.read_text() == "mine"
    find = ("search", run, "--query", query)
    assert "is no index that mtlbench index wrote" in run_command(*find, "--index", mine).error
    assert "There is no index none.safetensors" in run_command(*find, "--index", "none.safetensors").error
    assert "exclude each other" in run_command(*find, "--index", mine, "--gallery", photos).error
    file = exported / "all.onnx"
    assert "carries no test images" in run_command("search", file, "--query", query).error
    assert "has no task 'closur'" in run_command("search", file, "--query", query, "--tasks", "closur").error
    assert "There is no file no.onnx" in run_command("search", "no.onnx", "--query", query, "--gallery", photos).error
    for name in ("bad.onnx", "bad.pt2", "bad.safetensors"):
        (tmp_path / name).write_bytes(b"bad")
        said = run_command("search", name, "--query", query, "--gallery", photos).error
        assert "is no file that mtlbench export wrote" in said or "export it again" in said


def test_faiss_finds_what_an_exact_search_of_a_large_gallery_does(made, monkeypatch):
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    run = load_run(made[0], torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    gallery, queries = (torch.randn(2, n, 8, generator=generator) for n in (3000, 4))
    gallery[:, 7] = gallery[:, 5]  # equally far: the order is that of the rows
    queries[:, 0] = gallery[:, 5]
    exact = engine.search(run, queries, gallery, run.tasks, 10)
    asked, knn = [], faiss.knn
    monkeypatch.setattr(faiss, "knn", lambda *given: asked.append(given[2]) or knn(*given))
    monkeypatch.setattr(engine, "LARGE", 1000)
    found = engine.search(run, queries, gallery, run.tasks, 10)
    assert asked == [104, 104]  # more than are wanted, from which the nearest are taken exactly
    for one, other in zip(exact, found, strict=True):
        for by_torch, by_faiss in zip(one, other, strict=True):
            assert by_torch.places == by_faiss.places
            assert by_torch.distances == pytest.approx(by_faiss.distances, abs=1e-6)
    assert found[0][0].places[:2] == (5, 7)
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    assert engine.search(run, queries, gallery, run.tasks, 10) == exact


@pytest.mark.parametrize(("name", "tasks"), [("all.onnx", 2), ("w.safetensors", 2), ("one.pt2", 1)])
def test_python_opens_an_exported_file_as_a_run(made, exported, photos, name, tasks):
    net, run = mtlbench.load(exported / name), mtlbench.load(made[0], device="cpu")
    assert net.tasks == (("category", "closure") if tasks == 2 else ("closure",))
    assert (net.size, net.edited) == (8, False)
    files = [photos / f"{i}.jpg" for i in range(4)]
    np.testing.assert_allclose(net.embed(files, "Closure"), run.embed(files, "closure"), atol=2e-4)
    pixels = np.stack([np.asarray(Image.open(file).resize((64, 48))) for file in files])
    np.testing.assert_allclose(net.embed(pixels, "closure"), run.embed(pixels, "closure"), atol=2e-4)
    [by_folder] = net.search([photos / "2.jpg"], "closure", photos, k=3)
    assert by_folder.names[0] == "2.jpg"
    assert run_command("index", photos, "--model", exported / name, "--output", "e.safetensors").code == 0
    assert net.search([photos / "2.jpg"], "closure", index="e.safetensors", k=3) == [by_folder]
    words = ("--query", photos / "2.jpg", "--index", "e.safetensors", "-k", 3, "--tasks", "closure")
    by_command = run_command("search", exported / name, *words)
    assert ranks(by_command.out) == [
        (found, f"{far:.4f}") for found, far in zip(by_folder.names, by_folder.distances, strict=True)
    ]


def test_python_says_what_the_command_line_does(made, exported, photos):
    net, query = mtlbench.load(exported / "all.onnx"), [photos / "0.jpg"]
    assert repr(net).endswith("all.onnx'): category, closure; 8 numbers an embedding")
    with pytest.raises(UserError, match=r"all\.onnx carries no test images: name what to search"):
        net.search(query, "closure")
    assert run_command("index", photos, "--model", made[0]).code == 0
    with pytest.raises(UserError, match="was made with another network"):
        net.search(query, "closure", index="index.safetensors")
    with pytest.raises(UserError, match="not both"):
        net.search(query, "closure", photos, index="index.safetensors")
    with pytest.raises(UserError, match=r"no task 'closur'\. Did you mean: closure"):
        net.embed(query, "closur")
    with pytest.raises(UserError, match=r"broken\.png can't be read"):
        net.search(query, "closure", [photos / "1.jpg", photos / "broken.png"])
    with pytest.raises(UserError, match=r"There is no file no\.onnx"):
        mtlbench.load("no.onnx")
    with pytest.raises(UserError, match=r"Give a list of paths"):
        net.embed("photo.jpg", "closure")
    [found] = mtlbench.load(made[0], device="cpu").search(query, "closure", [photos / "1.jpg", photos / "0.jpg"], k=1)
    assert (found.places, found.names) == ((1,), (str(photos / "0.jpg"),))


def test_an_exported_file_embeds_as_the_run(made, exported):
    run = load_run(made[0], torch.device("cpu"))
    files = [made[1].root / path for path in made[1].paths[:5]]
    wanted = embed_files(run, files)[0]
    for name in ("all.onnx", "w.safetensors"):
        torch.testing.assert_close(embed_files(open_exported(exported / name), files)[0], wanted, atol=1e-4, rtol=1e-4)
    one = open_exported(exported / "one.pt2")
    assert one.tasks == ("closure",)
    torch.testing.assert_close(embed_files(one, files)[0], wanted[1:], atol=1e-4, rtol=1e-4)

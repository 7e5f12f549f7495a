"""`mtlbench export`: the file alone embeds raw images as the run does, and its card says what it is."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import change_weights, leave_run, leave_runs, run_command

from mtlbench.benchmark import load_benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.data.pixels import PIXELS, normalise
from mtlbench.evaluation.triplets import triplet_hits
from mtlbench.export.formats import ENDINGS, opened
from mtlbench.export.network import trace
from mtlbench.report.evidence import read_triplets
from mtlbench.runs import read_record
from mtlbench.runs.references import references
from mtlbench.search import embed_pixels, load_run, read_stored

SHORT = (
    "data.image_size=[24, 32]", "model.embedding=8", "evaluation.triplets=40", "data.tasks=['category','closure']",
    "data.pixels=bgr",
)  # fmt: skip
Made = tuple[Path, Path, Dataset]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, write_zappos: Callable[..., Path]) -> Made:
    """A run's folder, that of its images, and its data set; 30 of 150 images are for testing."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    root = tmp_path_factory.mktemp("export")
    folder = write_zappos(root / "zappos", images=150)
    (run,), dataset = leave_runs(root / "results", "zappos", folder, SHORT, "modulation")
    return run, folder, dataset


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (number, 24, 32, 3), dtype=np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("task", [None, "closure"])
def test_an_onnx_file_alone_embeds_raw_pixels_in_any_number(made, task):
    import onnxruntime

    run, folder, _ = made
    words = ["--task", task] if task else ["--all-tasks"]
    ended = run_command("export", run, "--format", "onnx", *words, "--data-dir", folder, "--output", "net.onnx")
    assert ended.code == 0, ended
    session = onnxruntime.InferenceSession("net.onnx")
    loaded = load_run(run, torch.device("cpu"))
    for number in (1, 2, 9):
        (found,) = session.run(None, {"images": pixels(number)})
        wanted = embed_pixels(loaded, pixels(number))
        wanted = wanted if task is None else wanted[loaded.tasks.index(task)]
        assert found.shape == tuple(wanted.shape)
        assert found == pytest.approx(wanted.numpy(), abs=1e-4)
    assert "ms for one image" in ended.out
    about = json.loads(session.get_modelmeta().custom_metadata_map["mtlbench"])
    assert about["embeds"] == ([task] if task else ["category", "closure"])


@pytest.mark.parametrize("task", [None, "closure"])
def test_a_torch_program_alone_embeds_raw_pixels_in_any_number(made, task):
    run, folder, _ = made
    words = ["--task", task] if task else []
    ended = run_command("export", run, "--format", "torch", *words, "--data-dir", folder, "--output", "net.pt2")
    assert ended.code == 0, ended
    module = torch.export.load("net.pt2").module()
    loaded = load_run(run, torch.device("cpu"))
    for number in (1, 2, 9):
        wanted = embed_pixels(loaded, pixels(number))
        wanted = wanted if task is None else wanted[loaded.tasks.index(task)]
        torch.testing.assert_close(module(torch.from_numpy(pixels(number))), wanted, atol=1e-4, rtol=0)


def test_the_check_compares_with_the_stored_embeddings_and_counts_the_runs_triplets(made):
    run, folder, dataset = made
    ended = run_command("export", run, "--format", "torch", "--data-dir", folder, "--output", "net.pt2")
    loaded = load_run(run, torch.device("cpu"))
    images = dataset.images[dataset.members("test")]
    stored = read_stored(loaded)[0]
    far = float((torch.export.load("net.pt2").module()(images) - stored).abs().max())
    assert f"stored in float16: {far:.3g}." in ended.out
    for task in dataset.tasks:
        accuracy = loaded.record.metrics[task]["triplet"]
        assert f"triplet accuracy, {task}: {accuracy:.4f} of the run, {accuracy:.4f} of the file." in ended.out


def test_without_the_test_images_it_says_that_random_ones_were_compared(made, tmp_path):
    run, _, _ = made
    ended = run_command("export", run, "--format", "torch", "--data-dir", tmp_path / "none", "--output", "net.pt2")
    assert ended.code == 0, ended
    assert "checked on random images" in ended.out
    card = Path("net.pt2.md").read_text()
    assert "16 random images" in card
    assert "not measured" in card


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "torch", "safetensors"])
def test_neither_card_nor_file_holds_a_path_of_the_machine(made, format):
    run, folder, _ = made
    file = Path(f"net{ENDINGS[format]}")
    assert run_command("export", run, "--format", format, "--data-dir", folder, "--output", file).code == 0
    card = Path(f"{file}.md").read_text()
    house = Path(__file__).parents[2]
    for place in (str(house), str(folder), str(run), str(Path.cwd())):
        assert place not in card
        assert place.encode() not in file.read_bytes()
    assert "modulation" in card
    assert "Licence of the data" in card
    assert "train.lr" in card


def test_the_card_has_the_retrieval_score_of_the_tables_and_that_of_random_embeddings(made, tmp_path):
    run, _, dataset = made
    moved = tmp_path / "zappos-quick"
    shutil.copytree(run.parents[1], moved)
    run = moved / "modulation" / "seed-0"
    record = read_record(run)
    without = export_card(run, tmp_path / "first.safetensors")
    assert "random embeddings" not in without
    for seed, setting in enumerate(([], [], ["evaluation.triplets=50"])):  # the last is another benchmark's
        references([seed], load_benchmark("zappos", quick=True, settings=[*SHORT, *setting]), dataset, "fp32", tmp_path)
    (moved / "chance" / "seed-7").mkdir()
    (moved / "chance" / "seed-7" / "run.json").write_text("broken")
    card = export_card(run, tmp_path / "second.safetensors")
    for task in dataset.tasks:
        metrics = record.metrics[task]
        assert f"{metrics['macro/map@r']:.4f}" != f"{metrics['map@r']:.4f}"  # so that the test can tell
        chance = [read_record(moved / "chance" / f"seed-{s}").metrics[task]["macro/map@r"] for s in (0, 1)]
        ours = f"| `{task}` | {metrics['triplet']:.4f} | not measured | {metrics['macro/map@r']:.4f} |"
        assert f"{ours}\n" in without
        assert f"{ours} {sum(chance) / 2:.4f} |\n" in card


def export_card(run: Path, file: Path) -> str:
    """Export a run's weights without its images, and return the model card."""
    ended = run_command("export", run, "--format", "safetensors", "--data-dir", file.parent / "none", "--output", file)
    assert ended.code == 0, ended.err
    return Path(f"{file}.md").read_text()


def test_the_card_of_a_tuned_run_states_what_it_was_trained_with(made, tmp_path):
    run, folder, _ = made
    recipe = {"train": {"lr": 0.0123}, "loss": {"margin": 0.45}}
    tuned = tmp_path / "modulation@tuned" / "seed-0"
    shutil.copytree(run, tuned)
    content = json.loads((tuned / "run.json").read_text())
    content["setup"]["method"]["recipe"] = recipe
    content["receipt"]["recipe"] = {"trials": 8, "command": "mtlbench tune --dataset zappos"}
    (tuned / "run.json").write_text(json.dumps(content))
    done = run_command("export", tuned, "--format", "safetensors", "--data-dir", folder)
    assert done.code == 0, done.err
    (file,) = tmp_path.glob("*.safetensors")
    assert file.name == "zappos-quick-modulation@tuned-seed-0.safetensors"
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE((run / "run.json").stat().st_mode)  # as the umask has it
    card = Path(f"{file}.md").read_text()
    assert card.startswith("# modulation, tuned, zappos-quick, seed 0\n")
    assert "| train.lr | `0.0123` |" in card
    assert "| loss.margin | `0.45` |" in card
    assert "It was found in 8 trials by `mtlbench tune --dataset zappos`." in card


def test_safetensors_hold_the_runs_weights_and_its_configuration(made):
    run, folder, _ = made
    ended = run_command("export", run, "--format", "safetensors", "--data-dir", folder, "--output", "net.safetensors")
    assert ended.code == 0, ended
    found, wanted = load_file("net.safetensors"), load_file(run / "weights.safetensors")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    with safe_open("net.safetensors", "pt") as file:
        about = json.loads(file.metadata()["mtlbench"])
    assert about["setup"]["method"]["name"] == "modulation"
    assert about["setup"]["benchmark"]["model"]["embedding"] == 8


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "torch", "safetensors"])
def test_half_precision_halves_the_weights_and_keeps_the_embeddings_near(made, format):
    run, folder, _ = made
    sizes = {}
    for precision in ("fp32", "fp16"):
        file = Path(f"{precision}{ENDINGS[format]}")
        words = ["--format", format, "--precision", precision, "--data-dir", folder, "--output", file]
        ended = run_command("export", run, *words)
        assert ended.code == 0, ended
        sizes[precision] = file.stat().st_size
    assert sizes["fp16"] < 0.6 * sizes["fp32"]


@pytest.mark.slow
@pytest.mark.parametrize("task", [None, "closure"])
def test_int8_quarters_the_weights_and_says_what_becomes_of_the_accuracy(made, task, monkeypatch):
    import onnx
    import onnxruntime

    monkeypatch.setattr("mtlbench.export.exporting.stored_sizes", lambda *given: {})  # two exports more: in test_sizes
    run, folder, dataset = made
    words = ["--data-dir", folder, *(["--task", task] if task else [])]
    sizes = {}
    for precision in ("fp32", "int8"):
        ended = run_command("export", run, "--precision", precision, "--output", f"{precision}.onnx", *words)
        assert ended.code == 0, ended
        sizes[precision] = Path(f"{precision}.onnx").stat().st_size
    assert ended.err == ""
    assert sizes["int8"] < 0.35 * sizes["fp32"]
    graph = onnx.load("int8.onnx").graph
    eight_bits = sum(len(t.raw_data) for t in graph.initializer if t.data_type == onnx.TensorProto.INT8)
    convolutions = sum(m.weight.numel() for m in load_run(run, torch.device("cpu")).architecture.modules()
                       if isinstance(m, torch.nn.Conv2d | torch.nn.Linear))  # fmt: skip
    assert eight_bits >= convolutions
    session = onnxruntime.InferenceSession("int8.onnx")
    images = dataset.images[dataset.members("test")]
    (found,) = session.run(None, {"images": images.numpy()})
    stored = read_stored(load_run(run, torch.device("cpu")))[0]
    wanted = stored if task is None else stored[dataset.tasks.index(task)]
    far = torch.from_numpy(found) - wanted
    assert 0 < float(far.norm()) < 0.2 * float(wanted.norm())
    assert json.loads(session.get_modelmeta().custom_metadata_map["mtlbench"])["precision"] == "int8"
    card = Path("int8.onnx.md").read_text()
    assert "onnx, int8," in card
    assert "**int8.** Weights and inputs" in card
    assert "ms for one image" in card
    for name in dataset.tasks if task is None else [task]:
        said = next(line for line in ended.out.splitlines() if line.startswith(f"triplet accuracy, {name}: "))
        after = float(said.split()[-4])
        t = dataset.tasks.index(name)
        asked = torch.from_numpy(read_triplets(run)[t].astype(np.int64))
        points = torch.from_numpy(found if task else found[t])
        assert after == pytest.approx(float(triplet_hits(points, asked, True).float().mean()), abs=5e-5)


def test_int8_needs_onnx_and_images(made):
    run, folder, _ = made
    words = ["export", run, "--precision", "int8"]
    assert "take --format onnx" in run_command(*words, "--format", "torch", "--data-dir", folder).error
    said = run_command(*words)
    assert said.code == 2
    assert "calibrated with images of the training split" in said.err
    assert "--data-dir" in said.err
    assert list(Path.cwd().iterdir()) == []


def test_a_file_that_embeds_otherwise_is_refused_and_not_kept(made, monkeypatch):
    run, folder, _ = made

    def spoilt(*words):
        embed = opened(*words)
        return lambda images: embed(images) * 1.01

    monkeypatch.setattr("mtlbench.export.exporting.opened", spoilt)
    words = ["--format", "torch", "--data-dir", folder, "--output", "net.pt2"]
    assert "does not embed as" in run_command("export", run, *words).error
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "words", [["--format", "torch"], ["--format", "safetensors"], ["--format", "onnx", "--precision", "int8"]]
)
def test_a_network_that_gives_nan_is_named_and_not_the_format(made, tmp_path, wrong, words):
    run, folder, _ = made
    spoilt = tmp_path / "zappos-quick" / "modulation" / "seed-0"
    shutil.copytree(run, spoilt)
    weights = load_file(spoilt / "weights.safetensors")
    change_weights(spoilt, {name: torch.full_like(tensor, wrong) for name, tensor in weights.items()})
    said = run_command("export", spoilt, "--data-dir", folder, *words).error
    assert f"The network of {spoilt} gives NaN or infinity for 16 of 16 images, as with damaged weights: copy" in said
    assert [path.name for path in tmp_path.iterdir()] == ["zappos-quick"]


def test_weights_that_the_run_did_not_write_are_refused(made, tmp_path):
    run, folder, dataset = made
    moved = tmp_path / "elsewhere"
    shutil.copytree(run, moved)
    assert load_run(moved, torch.device("cpu")).tasks == dataset.tasks
    weights = load_file(moved / "weights.safetensors")
    first = next(iter(weights))
    save_file(weights | {first: -weights[first]}, moved / "weights.safetensors")
    said = run_command("export", moved, "--format", "safetensors", "--data-dir", folder).error
    assert "weights.safetensors is not the file that the run wrote: its SHA-256 is another than in run.json" in said
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]
    change_weights(moved, weights)  # of before the digest was kept
    assert load_run(moved, torch.device("cpu")).tasks == dataset.tasks


def test_what_is_wrong_is_one_sentence_with_its_remedy(made, monkeypatch):
    run, folder, _ = made
    there = Path("there.pt2")
    there.write_text("mine")
    base = ["export", run, "--data-dir", folder]
    assert "--output" in run_command(*base, "--format", "torch", "--output", there).error
    assert there.read_text() == "mine"
    assert ".onnx" in run_command(*base, "--output", "net.pt2").error
    assert "Did you mean: closure" in run_command(*base, "--task", "closur").error
    assert "exclude each other" in run_command(*base, "--task", "closure", "--all-tasks").error
    monkeypatch.setattr("mtlbench.export.formats.importlib.util.find_spec", lambda name: None)
    assert "pip install 'mtlbench[export]'" in run_command(*base).error


@pytest.mark.slow
@pytest.mark.parametrize("name", ["channel-mixing", "dselect-k", "film", "mtan", "shared", "task-se"])
def test_methods_are_traced_for_any_number_of_images(made, tmp_path, name):
    """These count their images, look into their weights, or were refused by tracing as they stand."""
    benchmark = load_benchmark("zappos", quick=True, settings=SHORT)
    loaded = load_run(leave_run(tmp_path, name, benchmark, made[2]), torch.device("cpu"))
    for task in (None, 1):
        module = trace(loaded, task, half=False).module()
        for number in (1, 5):
            wanted = embed_pixels(loaded, pixels(number))
            found = module(torch.from_numpy(pixels(number)))
            torch.testing.assert_close(found, wanted if task is None else wanted[task], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", PIXELS)
def test_tracing_leaves_the_preprocessing_of_runs_as_it_was(made, tmp_path, kind):
    """Factors that were cached while a network was traced would be stand-ins without values."""
    benchmark = load_benchmark("zappos", quick=True, settings=[*SHORT, f"data.pixels={kind}"])
    loaded = load_run(leave_run(tmp_path, "shared", benchmark, made[2]), torch.device("cpu"))
    trace(loaded, None, half=False)
    seen = normalise(torch.full((1, 1, 1, 3), 255, dtype=torch.uint8), kind)
    scale = PIXELS[kind]
    wanted = [(255 - m) / d for m, d in zip(scale.mean, scale.deviation, strict=True)]
    assert seen.flatten().tolist() == pytest.approx(wanted[::-1] if scale.bgr else wanted, rel=1e-5)

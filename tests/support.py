"""A data set in memory and a short protocol, for tests that train; the command line in this process."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mtlbench import cost
from mtlbench.benchmark import Benchmark, load_benchmark
from mtlbench.cli import main
from mtlbench.data.dataset import Dataset, prepare
from mtlbench.evaluation.scores import scores_of
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.losses.contract import LossContext
from mtlbench.losses.triplet import Triplet
from mtlbench.networks import build, embed_images
from mtlbench.plugins import load_plugins
from mtlbench.registry import KINDS
from mtlbench.runs import Record, half, run_folder, write_record
from mtlbench.runs.provenance import receipt, setup_of
from mtlbench.sampling.contract import Batch
from mtlbench.specs import parse_method

TASKS = ("colour", "shape")


class Ended:
    """How `mtlbench ARGUMENTS` ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def error(self) -> str:
        """The one line of an error that the user can cause; anything else is a failure."""
        assert self.code == 2, self
        assert self.err.startswith("error: "), self
        assert self.err.count("\n") == 1, self
        assert self.err.endswith("\n"), self
        return self.err.removeprefix("error: ").rstrip("\n")

    def __repr__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"


def run_command(*arguments: str | Path) -> Ended:
    """Run the command line's entry point in this process: a fresh interpreter takes seconds to import torch.

    What it registers stays: see `registries_restored`.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["mtlbench", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            code: object = 0
        except SystemExit as stopped:
            code = stopped.code
    return Ended(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def registries_restored() -> Iterator[None]:
    """Leave the registries as they were with bundled methods, and plug-ins unknown to Python.

    Every test runs in it; a test uses it where commands should not see each other's plug-ins.
    """
    if "mtlbench.methods.shared" not in sys.modules:
        load_plugins()
    before, modules = [registry.snapshot() for registry in KINDS.values()], set(sys.modules)
    try:
        yield
    finally:
        for snapshot in before:
            snapshot.restore()
        for name in [n for n in sys.modules if n.startswith("mtlbench_plugins.") and n not in modules]:
            del sys.modules[name]


def time_little(patch: pytest.MonkeyPatch) -> None:
    """Take every time once, on few images: in every test, and in fixtures that outlive one."""
    patch.setattr("mtlbench.cost._REPEATS", 1)
    patch.setattr("mtlbench.cost.seconds_each.__defaults__", (0.0,))
    patch.setattr("mtlbench.jobs.measure.EMBEDDING_BATCH", 8)


def tool(name: str) -> ModuleType:
    """Load tools/NAME.py, which is no part of the package; it may import its neighbours, as a script may."""
    folder = Path(__file__).parents[1] / "tools"
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        spec.loader.exec_module(module)
    return module


def make_dataset(tasks: tuple[str, ...] = TASKS, seed: int = 0) -> Dataset:
    """90 noisy images of 24 px, whose halves show the labels of two tasks: 54 train, 18 val, 18 test."""
    random = torch.Generator().manual_seed(seed)
    labels = {"colour": torch.randint(0, 2, (90,), generator=random), "shape": torch.arange(90) // 2 % 3}
    images = torch.randint(0, 60, (90, 24, 24, 3), generator=random)
    images[:, :, :12] += labels["colour"][:, None, None, None] * 120
    images[:, :, 12:] += labels["shape"][:, None, None, None] * 60
    return Dataset(
        images=images.to(torch.uint8),
        labels=torch.stack([labels[t] for t in tasks]),
        split=torch.tensor([0, 0, 0, 1, 2]).repeat(18),
        tasks=tasks,
        values=tuple(tuple("abc"[: int(labels[t].max()) + 1]) for t in tasks),
        ordered=tuple(False for _ in tasks),
        pixels="unit",
        facts={"fingerprint": "made up", "name": "made up", "rendered": True},
    )


def protocol(*settings: str) -> Benchmark:
    """The quick shoes protocol, cut to a handful of steps on tiny images."""
    short = (
        "data.image_size=24", "model.embedding=8", "train.steps=6", "train.triplets=4", "train.joint_triplets=16",
        "evaluation.every=3", "evaluation.triplets=64", "train.precision='fp32'", "train.shift=1",
    )  # fmt: skip
    return load_benchmark("shoes", quick=True, settings=[*short, *settings])


def triplet_losses(
    points: torch.Tensor,
    triplets: torch.Tensor,
    possible: torch.Tensor,
    *,
    margin: float = 0.2,
    distance: str = "squared",
    normalise: bool = True,
) -> torch.Tensor:
    """The triplet loss of each task on (T, B, D) embeddings."""
    tasks = tuple(map(str, range(len(points))))
    context = LossContext(tasks, (2,) * len(tasks), points.shape[2], distance, normalise)
    batch = Batch(points, torch.zeros(points.shape[:2], dtype=torch.int64), triplets, possible)
    losses: torch.Tensor = Triplet(context, margin=margin)(points, batch)
    return losses


def leave_runs(
    results: Path, name: str, folder: Path | None, settings: Sequence[str], *methods: str
) -> tuple[list[Path], Dataset]:
    """Leave runs under a bundled benchmark's quick protocol on a folder's images, see `leave_run`."""
    benchmark = load_benchmark(name, quick=True, settings=settings)
    dataset, _ = prepare(benchmark, folder, None, torch.device("cpu"))
    return [leave_run(results, method, benchmark, dataset) for method in methods], dataset


def leave_run(results: Path, spec: str, benchmark: Benchmark, dataset: Dataset, seed: int = 0) -> Path:
    """Leave the record of a network as it is initialised, tested as a run is, but neither trained nor timed."""
    load_plugins()
    method = parse_method(spec)
    architecture, _ = build(method, benchmark, dataset.tasks, seed)
    with torch.no_grad():  # so that no task's embeddings are another's
        for i, parameter in enumerate(architecture.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1000 * seed + i))
            parameter.add_(0.1 * parameter.std(unbiased=False) * noise)
    held_out = HeldOutTriplets.draw(dataset, benchmark, "test")
    embeddings = embed_images(architecture, dataset, held_out.images, "fp32")
    metrics, hits, queries = scores_of(embeddings, held_out, benchmark, dataset)
    setup = setup_of(method, benchmark, dataset, seed, "fp32")
    record = Record(method.name, seed, "method", setup, metrics=metrics)
    record.receipt = receipt(dataset, "fp32") | {"training_seconds": 1.0}
    folder = run_folder(results, benchmark.name, method.name, seed)
    labels = dataset.labels[:, held_out.images]
    test = {
        "embeddings": half(embeddings),
        "labels": labels,
        "hits": hits.to(torch.uint8),
        "triplets": held_out.triplets.to(torch.int32),
        **{f"queries/{name}": scores for name, scores in queries.items()},
    }
    write_record(folder, record, weights=cost.weights_of(architecture), test=test)
    return folder


def change_weights(run: Path, weights: Mapping[str, Tensor]) -> None:
    """Give a run other weights, and make its record one of before, which doesn't know them by their SHA-256."""
    save_file(dict(weights), run / "weights.safetensors")
    content = json.loads((run / "run.json").read_text())
    content["receipt"].pop("weights", None)
    (run / "run.json").write_text(json.dumps(content))

"""`mtlbench reproduce`: the same numbers under the same conditions, within a stated tolerance under others."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student
from support import registries_restored, run_command, time_little

from mtlbench.backbones.weights import stated
from mtlbench.errors import UserError
from mtlbench.jobs.reproduction import finished_runs, grouped
from mtlbench.report.inference import LEVEL, PRIORS
from mtlbench.report.reproduction import _tolerance, repetitions
from mtlbench.runs import Record, read_record

SHORT = [
    "--dataset", "shoes", "--quick", "--set", "data.rendered.images=300", "--set", "train.steps=4", "--set",
    "evaluation.every=2", "--set", "evaluation.triplets=200", "--set", "train.precision=fp32",
]  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """A benchmark's folder of two methods with two seeds, one of them with a recipe."""
    folder = tmp_path_factory.mktemp("published")
    recipes = folder / "recipes.toml"
    recipes.write_text("[quick.recipes.single]\ntrain = { lr = 0.002 }\n")
    with pytest.MonkeyPatch.context() as patch, registries_restored():
        time_little(patch)
        for method, with_recipes in (("shared", ["--plain"]), ("single", ["--recipes", recipes])):
            ended = run_command(
                "run", *SHORT, "--methods", method, "--seeds", "0,1", *with_recipes, "--results", folder
            )  # fmt: skip
            assert ended.code == 0, ended
    return folder / "shoes-quick"


def _edited(published: Path, place: Path, change) -> Path:
    """Copy the records, change each method's run.json, and return the copy's folder."""
    copy = place / "copy" / published.name
    shutil.copytree(published, copy)
    for file in copy.glob("*/*/run.json"):
        content = json.loads(file.read_text())
        if content["kind"] == "method":
            change(content)
            file.write_text(json.dumps(content))
    return copy


def test_the_weights_that_runs_began_from_are_named_and_must_be_the_same_file(tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"weights")
    folder = Path(__file__).parents[2] / "results/claims/celeba-new-head-quick"
    records = finished_runs(folder)[:1]
    with pytest.raises(UserError, match=r"is not the file of weights that the runs began from: sha256:\w+ there"):
        grouped(records, file)
    records[0].setup["benchmark"]["model"]["pretrained"] = stated(str(file))
    (group,) = grouped(records, file)
    assert group.benchmark.model.pretrained == str(file)
    ended = run_command("reproduce", folder, "--set", "train.steps=3", "--results", tmp_path)
    assert "records hold all settings but the path in --set model.pretrained=FILE" in ended.err
    ended = run_command("reproduce", folder, "--set", f"model.pretrained={file}", "--results", tmp_path)
    assert "is not the file of weights" in ended.err


@pytest.mark.slow
def test_the_same_conditions_give_the_same_numbers(published, tmp_path):
    ended = run_command("reproduce", published, "--seeds", "1", "--results", tmp_path / "again")
    assert ended.code == 0, ended
    assert ended.out.count("  same ") == 2
    assert "single@tuned" in ended.out
    for method in ("shared", "single@tuned"):
        old, new = (read_record(place / method / "seed-1") for place in (published, tmp_path / "again/shoes-quick"))
        assert old is not None
        assert new is not None
        assert new.metrics == old.metrics
        assert new.setup == old.setup
    assert not (tmp_path / "again/shoes-quick/shared/seed-0").exists()


@pytest.mark.slow
def test_other_numbers_under_the_same_conditions_are_told(published, tmp_path):
    def change(content):
        content["metrics"]["heel"]["map@r"] += 1e-9

    folder = _edited(published, tmp_path, change)
    ended = run_command("reproduce", folder / "shared" / "seed-0", "--results", tmp_path / "again")
    assert ended.code == 1, ended
    assert "under the same conditions all numbers must be the same (map@r of heel by 1e-09)" in ended.out


@pytest.mark.slow
@pytest.mark.parametrize(("off", "code", "words"), [(0.01, 0, "undecided"), (0.6, 1, "differs")])
def test_other_conditions_allow_what_another_seed_changes(published, tmp_path, off, code, words):
    def change(content):
        content["receipt"]["torch"] = "2.0.0"
        for metrics in content["metrics"].values():
            metrics["triplet"] = max(metrics["triplet"] - off, 0.0)

    folder = _edited(published, tmp_path, change)
    ended = run_command("reproduce", folder, "--methods", "shared", "--results", tmp_path / "again")
    assert ended.code == code, ended
    assert words in ended.out
    assert "PyTorch 2.0.0 there" in ended.out


@pytest.mark.slow
def test_a_precision_that_is_unsound_here_is_left(published, tmp_path, monkeypatch):
    def change(content):
        content["setup"]["precision"] = "bf16"

    monkeypatch.setattr("mtlbench.jobs.reproduction.unsound_convolutions", lambda *about: ["conv1"])
    folder = _edited(published, tmp_path, change)
    ended = run_command("reproduce", folder / "shared", "--results", tmp_path / "again")
    assert "runs are made in float32" in ended.out
    assert "bf16 there, fp32 here" in ended.out
    record = read_record(tmp_path / "again/shoes-quick/shared/seed-0")
    assert record is not None
    assert record.setup["precision"] == "fp32"


@pytest.mark.slow
def test_refusals_name_the_remedy(published, tmp_path):
    def change(content):
        content["setup"]["data"] = "of other images"

    again = tmp_path / "again"
    assert "--data-dir" in run_command("reproduce", _edited(published, tmp_path, change), "--results", again).error
    assert "shoes-quick" in run_command("reproduce", published.parent, "--results", again).error
    assert "There: 0, 1" in run_command("reproduce", published, "--seeds", "5", "--results", again).error
    assert "another folder" in run_command("reproduce", published, "--results", published.parent).error
    assert "no folder" in run_command("reproduce", tmp_path / "absent").error
    assert not again.exists()


def _record(method: str, seed: int, accuracy: float, threads: int = 1, status: str = "done") -> Record:
    setup = {
        "method": {"name": method}, "tasks": ["a"], "seed": seed, "precision": "fp32", "threads": threads,
        "benchmark": {"name": "made-up"},
    }  # fmt: skip
    return Record(
        method, seed, "method", setup, status=status, reason="no memory", metrics={"a": {"triplet": accuracy}}
    )


def test_tolerance_is_that_of_two_means_of_one_distribution():
    assert math.isnan(_tolerance([0.6], 1, 1, LEVEL))
    # five that scatter as expected: their variance and the prior's are one
    spread = np.array([-1, -1, 0, 1, 1]) * PRIORS[3].deviation
    expected = student.ppf(0.975, 4 + PRIORS[3].freedom) * PRIORS[3].deviation * math.sqrt(2 / 5)
    assert _tolerance(list(0.6 + spread), 5, 7, LEVEL) == pytest.approx(expected, rel=1e-4)
    # of two, their own variance alone, as tables take it
    expected = student.ppf(0.975, 1) * 0.01 / math.sqrt(2) * math.sqrt(2 / 2)
    assert _tolerance([0.6, 0.61], 2, 7, LEVEL) == pytest.approx(expected, rel=1e-4)


def test_all_methods_of_a_command_agree_at_once_in_95_of_100_cases(tmp_path):
    def of(methods: int) -> float:
        old = [_record(f"m{n}", seed, 0.6 + 0.01 * seed) for n in range(methods) for seed in range(3)]
        new = [_record(f"m{n}", seed, 0.6, threads=2) for n in range(methods) for seed in range(3)]
        return repetitions(old, list(zip(old, new, strict=True)), tmp_path)[0].tolerance

    means = [0.6, 0.61, 0.62]
    assert of(1) == pytest.approx(_tolerance(means, 3, 1, LEVEL))
    assert of(10) == pytest.approx(_tolerance(means, 3, 1, LEVEL / 10))


def test_one_seed_repeated_is_judged_by_the_spread_of_all_of_the_records(tmp_path):
    old = [_record("m", seed, 0.6 + 0.01 * seed) for seed in range(3)]
    (found,) = repetitions(old, [(old[1], _record("m", 1, 0.62, threads=2))], tmp_path)
    assert (found.before, found.now) == (0.61, 0.62)
    assert found.tolerance == pytest.approx(_tolerance([0.6, 0.61, 0.62], 1, 1, LEVEL))


def _of_tasks(means: dict[str, float], seeds: int, threads: int = 1, spread: float = 0.005) -> list[Record]:
    made = []
    for seed in range(seeds):
        record = _record("shared", seed, 0.0, threads)
        record.setup["tasks"] = list(means)
        record.metrics.clear()
        off = spread * (2 * seed / (seeds - 1) - 1)
        record.metrics |= {task: {"triplet": mean + off} for task, mean in means.items()}
        made.append(record)
    return made


def test_one_task_far_off_is_no_agreement_though_the_mean_is_near(tmp_path):
    old = _of_tasks(dict.fromkeys("abcd", 0.8), 3)
    near = _of_tasks(dict.fromkeys("abcd", 0.79), 3, threads=2)
    assert repetitions(old, list(zip(old, near, strict=True)), tmp_path)[0].verdict == "agrees"
    far = _of_tasks(dict.fromkeys("bcd", 0.81) | {"a": 0.6}, 3, threads=2)
    (found,) = repetitions(old, list(zip(old, far, strict=True)), tmp_path)
    assert abs(found.now - found.before) < found.tolerance
    assert found.verdict == "differs"
    assert found.reason.startswith("a has 60.0 % here, 80.0 in the record, ±")
    for record in near:
        del record.metrics["b"]["triplet"]
    (found,) = repetitions(old, list(zip(old, near, strict=True)), tmp_path)
    assert (found.verdict, found.reason) == ("differs", "b has an accuracy in one of the two alone")


def test_seeds_that_would_let_everything_pass_decide_nothing(tmp_path):
    old, new = _of_tasks({"a": 0.8}, 2, spread=0.01), _of_tasks({"a": 0.7}, 2, threads=2, spread=0.01)
    (found,) = repetitions(old, list(zip(old, new, strict=True)), tmp_path)
    assert found.tolerance > 0.1
    assert found.verdict == "undecided"


def test_equal_repetitions_agree_in_95_of_100_cases_with_their_tasks(tmp_path):
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        old, new = _of_tasks(dict.fromkeys("abcd", 0.8), 5), _of_tasks(dict.fromkeys("abcd", 0.8), 5, threads=2)
        for record in (*old, *new):
            for metrics in record.metrics.values():
                metrics["triplet"] = 0.8 + 0.03 * rng.standard_normal()
        (found,) = repetitions(old, list(zip(old, new, strict=True)), tmp_path)
        wrong += found.verdict == "differs"
    assert 0.01 < wrong / 400 < 0.07


def test_a_failed_repetition_is_no_agreement(tmp_path):
    old = [_record("shared", seed, 0.6) for seed in (0, 1)]
    pairs = [(old[0], _record("shared", 0, 0.6)), (old[1], _record("shared", 1, 0.6, status="failed"))]
    (found,) = repetitions(old, pairs, tmp_path)
    assert (found.verdict, found.reason) == ("failed", "no memory")
    (found,) = repetitions(old, [(old[0], None)], tmp_path)
    assert found.verdict == "failed"


def test_an_accuracy_by_chance_equal_is_not_called_the_same(tmp_path):
    old, new = _record("shared", 0, 0.6), _record("shared", 0, 0.6, threads=2)
    new.metrics["a"]["map@r"], old.metrics["a"]["map@r"] = 0.3, 0.31
    (found,) = repetitions([old, _record("shared", 1, 0.605)], [(old, new)], tmp_path)
    assert found.verdict == "agrees"
    (alone,) = repetitions([old], [(old, new)], tmp_path)
    assert alone.verdict == "undecided"
    assert found.conditions == ("threads: 1 there, 2 here",)

"""The published results: numbers alone, and tables that are what their records give."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from support import tool

from mtlbench import results
from mtlbench.benchmark import load_benchmark
from mtlbench.data.table import Kin
from mtlbench.errors import UserError
from mtlbench.plugins import load_plugins
from mtlbench.report.evidence import TRIPLETS, read_triplets
from mtlbench.report.inference import LEVEL
from mtlbench.report.pairs import in_points
from mtlbench.runs import find_records, read_record, run_folder, write_record
from mtlbench.specs import groups_of
from mtlbench.tuning.outcome import FOLDER, Outcome, read_trials, write_trials
from mtlbench.tuning.study import Trial

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "results" / "published"
TUNED = ROOT / "results" / "tuned"
CLAIMS = ROOT / "results" / "claims"
NAMES = sorted(path.name for path in PUBLISHED.iterdir() if path.is_dir())
README = (ROOT / "README.md").read_text()
ALL = sorted(path for folder in (PUBLISHED, TUNED, CLAIMS) for path in folder.iterdir() if path.is_dir())


def name_of(path: Path) -> str:
    return f"{path.parent.name}-{path.name}"


CORE = {"independent", "shared", "cross-stitch", "gradnorm", "modulation"}


@pytest.fixture(scope="module")
def publish() -> ModuleType:
    return tool("publish")


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=[pytest.mark.slow] if path.parent == CLAIMS else []) for path in ALL], ids=name_of
)
def test_tables_are_what_the_records_beside_them_give(path, publish):
    folder, name = path.parent, path.name
    again = f"python tools/publish.py results/{folder.name}"
    assert (folder / f"{name}.md").read_text() == publish.tables_of(folder, name), f"write them anew: {again}"


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_all_methods_have_the_same_seeds_and_a_known_commit_and_the_core_is_there(path):
    records = find_records(path.parent, path.name)
    seeds: dict[str, set[int]] = {}
    for record in records:
        seeds.setdefault(record.method, set()).add(record.seed)
        assert record.status == "done"
        assert len(record.receipt["commit"]) == 12
        assert not record.receipt["commit"].endswith("+")
    assert set(seeds) >= (CORE if path.parent != CLAIMS else set())
    assert len({frozenset(s) for s in seeds.values()}) == 1


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_records_say_the_groups_that_their_methods_are_in_today(path):
    assert load_plugins() == []
    for record in find_records(path.parent, path.name):
        if record.kind == "method" and not record.method.startswith("frozen-network"):  # of examples/new_tasks.py
            assert record.receipt["groups"] == groups_of(record.method)


@pytest.mark.parametrize("benchmark", ["shoes", "celeba"])
def test_bundled_recipes_are_those_of_the_published_trials(benchmark):
    recipes = load_benchmark(benchmark, quick=True).recipes
    outcomes = {one.method: one for one in read_trials(TUNED / f"{benchmark}-quick" / FOLDER)}
    assert set(recipes) == set(outcomes) >= CORE
    for method, one in outcomes.items():
        found = recipes[method].found
        assert one.recipe == recipes[method].content()
        assert found["trials"] == len(one.trials) >= 8
        assert found["split"] == "val"


@pytest.mark.parametrize(("benchmark", "where"), [("shoes", "rendered shoes"), ("celeba", "real faces")])
def test_the_readme_says_what_tuning_changed(benchmark, where):
    found = results(TUNED, f"{benchmark}-quick")
    text = (TUNED.parent / "README.md").read_text().split(f"## What tuning changed, on {where}\n")[1].split("\n## ")[0]
    table = text.split(f"<!-- tools/tables.py tuned/{benchmark}-quick -->")[1].split("<!-- end -->")[0]
    runs = found.runs().groupby("method")["triplet/mean"]
    means = {row: f"{100 * values.mean():.1f} ±{100 * values.std():.1f}" for row, values in runs}
    for method in load_benchmark(benchmark, quick=True).recipes:
        lines = [line for line in table.splitlines() if line.startswith(f"| {method} |")]
        assert len(lines) == (method in means)
        for line in lines:
            _, default, tuned, difference = (cell.strip() for cell in line.strip("|").split("|"))
            assert default == means[method]
            if not difference:
                assert tuned == "the default won"
                assert means.get(f"{method} · tuned", means[method]) == means[method]
                continue
            compared = found.compare(f"{method} · tuned", method)
            low, high = compared.interval()
            assert tuned.split(",")[0] == means[f"{method} · tuned"]
            assert difference == f"{100 * compared.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def test_the_readme_says_where_tuning_puts_modulation_on_real_faces():
    found = results(TUNED, "celeba-quick")
    text = (
        (TUNED.parent / "README.md").read_text().split("## What tuning changed, on real faces\n")[1].split("\n## ")[0]
    )
    means = found.runs().groupby("method")["triplet/mean"].mean()
    assert means.idxmax() == "cross-stitch · tuned"
    for method in ("modulation", "modulation · tuned"):
        assert f"{100 * means[method]:.1f} %" in text
    others = ("shared · tuned", "gradnorm · tuned", "cross-stitch · tuned", "independent", "csn · tuned", "single")
    for method, other in [("modulation", "shared"), *(("modulation · tuned", other) for other in others)]:
        compared = found.compare(method, other)
        low, high = compared.interval()
        assert f"{100 * compared.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" in " ".join(text.split())
    modulation = found.compare("modulation · tuned", "shared · tuned")
    assert f"`shared` do not differ significantly ({in_points(modulation, LEVEL)})" in " ".join(README.split())
    assert not modulation.differs(LEVEL)


def test_the_readme_says_how_little_gradnorms_recipe_weighs():
    text = (TUNED.parent / "README.md").read_text()
    for folder in (TUNED / "celeba-quick", CLAIMS / "celeba-1200-quick"):
        weights = pd.concat(
            pd.read_csv(file).filter(like="weight/") for file in folder.glob("gradnorm@tuned/seed-*/curve.csv")
        )
        low, high = weights.min(axis=None), weights.max(axis=None)
        assert f"between {low:.3f} and {high:.3f}" in " ".join(text.split())


def test_the_readme_says_what_the_rare_labels_triplets_are_worth():
    said = " ".join((CLAIMS.parent / "README.md").read_text().split())
    for folder, name, words in (
        (TUNED, "celeba-quick", "4,000 test triplets of the real faces' Bald are worth {} independent images"),
        (PUBLISHED, "faces-4-quick", "2,000 of the rendered faces' Bald are worth {}."),
    ):
        worth = re.search(r"Bald, are worth (\d+) independent", (folder / f"{name}.md").read_text())[1]
        assert words.format(worth) in said
    (folder,) = TUNED.glob("celeba-quick/shared@tuned/seed-0")
    labels = load_file(folder / "test.safetensors")["labels"][read_record(folder).setup["tasks"].index("Bald")]
    assert f"since {(labels == 1).sum()} of the {len(labels):,} test images are bald" in said


@pytest.mark.slow
def test_the_pages_have_their_tables_as_the_records_give_them():
    tables = tool("tables")
    named = []
    for page in tables.PAGES:
        text = page.read_text()
        named += [block[1] for block in tables.BLOCK.finditer(text)]
        assert tables.with_tables(text) == text, "python tools/tables.py --write"
    assert sorted(named) == sorted(tables.TABLES)


def test_the_readme_says_how_modulation_stands_to_networks_that_store_as_much():
    compared = next(
        claim
        for claim in tool("tables").at_equal_storage()
        if "`independent`" in claim.what and "width 1 " in claim.measured
    )
    points, low, high = (f"{100 * value:.1f}" for value in (compared.pair.difference, *compared.pair.interval()))
    for page in (CLAIMS.parent.parent / "README.md", CLAIMS.parent / "README.md"):
        text = " ".join(page.read_text().split())
        assert f"{points} points [{low}, {high}] above separate networks" in text


def test_the_readme_says_how_a_recipe_of_seven_tasks_does_with_two():
    text = " ".join((CLAIMS.parent / "README.md").read_text().split())
    for name in ("celeba-2-quick", "celeba-2-own-quick"):
        runs = results(CLAIMS, name).runs()
        values = 100 * runs[runs["method"] == "modulation · tuned"]["triplet/mean"]
        assert f"{values.mean():.1f} ±{values.std():.1f} %" in text


def test_claims_are_decided_at_once_by_holms_procedure():
    decided = tool("tables").decided_at_once
    assert decided([0.04, 0.001, 0.012, 0.03]) == 0.012  # 0.05 / 4, / 3, and 0.03 > 0.05 / 2
    assert decided([0.02, 0.03]) == 0.03
    assert decided([0.03, 0.04]) == -1


def test_a_claim_is_judged_by_its_interval():
    verdict = tool("tables").verdict
    assert verdict(0.1, 5) == "holds"
    assert verdict(-5, -0.1) == "does not hold"
    assert verdict(-0.9, 0.9) == "level"
    assert verdict(-1.1, 0.9) == "undecided"


def test_rendered_results_have_three_seeds_and_are_called_rendered():
    for name in ("shoes-quick", "faces-4-quick"):
        records = find_records(PUBLISHED, name)
        assert {record.seed for record in records} >= {0, 1, 2}
        assert all(record.receipt["data"]["rendered"] for record in records)
        assert "rendered images, not real ones" in (PUBLISHED / f"{name}.md").read_text()


def test_no_network_no_embedding_no_path_and_nothing_large_is_published():
    for file in (*PUBLISHED.rglob("*"), *TUNED.rglob("*"), *CLAIMS.rglob("*")):
        if file.is_file():
            size = file.stat().st_size
            if file.name == "test.safetensors":
                hits, triplets = load_file(file), read_triplets(file.parent)
                assert "hits" in hits
                assert {name.split("/")[0] for name in hits} <= {"hits", "labels", "queries"}
                assert triplets.shape == (*hits["hits"].shape, 3)
                assert triplets.dtype == "int16"
                assert not file.with_name(TRIPLETS).exists()  # all runs of these benchmarks answered the same
            if file.name == TRIPLETS:
                assert set(load_file(file)) <= {"triplets", "groups"}
            most = {"tried.jsonl": 1_000_000}.get(file.name, 100_000)
            if file.suffix == ".safetensors":
                tasks = len(next(iter(load_file(file).values())))
                most = max(200_000, 25_000 * tasks)
            assert size < most, file
            assert (
                file.name
                in (
                    "run.json",
                    "curve.csv",
                    "conflict.csv",
                    "agreement.csv",
                    "test.safetensors",
                    TRIPLETS,
                    "trials.json",
                    "tried.jsonl",
                )
                or file.suffix == ".md"
            )
            if file.suffix != ".safetensors":
                text = file.read_text()
                assert "/home/" not in text
                assert "/work/" not in text
                assert "/root/" not in text


@pytest.mark.slow
def test_storage_is_what_is_counted_today():
    from mtlbench.paper import fill, load_table
    from mtlbench.report.grids import as_markup, notes

    assert load_plugins() == []
    filled = fill("storage", load_table("storage"), PUBLISHED, quick=False)
    assert (PUBLISHED / "storage.md").read_text().strip() == as_markup(
        [filled.grid], notes(("small", filled.notes)), "md"
    ).strip()


def test_groups_are_published_by_the_order_in_which_they_appear():
    assert Kin(np.array([7, 3, 7, -1, 9, -1, 3]), "").in_order().tolist() == [0, 1, 0, -1, 3, -1, 1]


def test_what_is_published_of_a_run_is_its_numbers_without_times(publish, tmp_path, monkeypatch):
    import torch

    source = find_records(PUBLISHED, NAMES[0])
    record = next(r for r in source if r.method == "shared")
    record.setup["benchmark"]["evaluation"] |= {"conflict_every": 0}
    record.costs |= {"train_rate": 3.0, "embed_rate_one_task": 4.0}
    record.receipt["training_seconds"] = 5.0
    curve = [{"step": 1.0, "seconds": 0.5}, {"step": 2.0, "seconds": 1.0, "accuracy": 0.75}]
    places = torch.arange(18, dtype=torch.int32).reshape(2, 3, 3)
    test = {"hits": torch.ones(2, 3, dtype=torch.uint8), "triplets": places, "embeddings": torch.ones(2, 3, 4)}
    write_record(run_folder(tmp_path / "from", NAMES[0], "shared", 0), record, curve, {"w": torch.ones(2)}, test)
    words = ["publish.py", str(tmp_path / "from"), NAMES[0], "--to", str(tmp_path / "to"), "--without-times"]
    monkeypatch.setattr(sys, "argv", words)
    publish.main()
    place = run_folder(tmp_path / "to", NAMES[0], "shared", 0)
    assert {file.name for file in place.iterdir()} == {
        "run.json",
        "curve.csv",
        "test.safetensors",
    }
    content = json.loads((place / "run.json").read_text())
    assert content["metrics"] == record.metrics
    assert not {"train_rate", "embed_rate_one_task"} & set(content["costs"])
    assert content["costs"]["parameters"] == record.costs["parameters"]
    assert "training_seconds" not in content["receipt"]
    with (place / "curve.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"step": "2", "seconds": "", "accuracy": "0.75"}]
    assert {name: t.tolist() for name, t in load_file(place / "test.safetensors").items()} == {"hits": [[1, 1, 1]] * 2}
    assert load_file(place.parents[1] / TRIPLETS)["triplets"].tolist() == places.tolist()
    assert read_triplets(place).tolist() == places.tolist()
    assert "no speeds in these records" in (tmp_path / "to" / f"{NAMES[0]}.md").read_text()
    for folder, method in (("to", "shared"), ("from", "single")):
        write_trials(tmp_path / folder / NAMES[0] / FOLDER, [Outcome(method, (Trial(method, 0, "done"),))], {})
    shutil.move(tmp_path / "from" / NAMES[0] / "shared", tmp_path / "from" / NAMES[0] / "single")
    other = shutil.copytree(tmp_path / "to" / NAMES[0], tmp_path / "to" / "other")
    monkeypatch.setattr(sys, "argv", [*words, "--add"])
    publish.main()
    assert {path.name for path in (tmp_path / "to" / NAMES[0]).iterdir()} == {"shared", "single", FOLDER, TRIPLETS}
    assert [one.method for one in read_trials(tmp_path / "to" / NAMES[0] / FOLDER)] == ["shared", "single"]
    assert other.with_suffix(".md").read_text() == publish.tables_of(tmp_path / "to", "other")
    monkeypatch.setattr(sys, "argv", words)
    publish.main()
    assert {path.name for path in (tmp_path / "to" / NAMES[0]).iterdir()} == {"single", FOLDER, TRIPLETS}
    assert [one.method for one in read_trials(tmp_path / "to" / NAMES[0] / FOLDER)] == ["single"]


def test_a_published_run_that_answered_other_triplets_keeps_its_own(publish, tmp_path):
    import numpy as np

    asked = {"a": [0, 1, 2], "b": [0, 1, 2], "c": [2, 1, 0]}
    for method, triplet in asked.items():
        folder = run_folder(tmp_path, "own", method, 0)
        folder.mkdir(parents=True)
        save_file({"triplets": np.array([[triplet]], dtype="int16")}, folder / TRIPLETS)
    publish.share_triplets(tmp_path / "own")
    late = run_folder(tmp_path, "own", "a", 1)
    late.mkdir()
    save_file({"triplets": np.array([[[2, 1, 0]]], dtype="int16")}, late / TRIPLETS)
    publish.share_triplets(tmp_path / "own")
    kept = {str(path.parent.relative_to(tmp_path / "own")) for path in (tmp_path / "own").rglob(TRIPLETS)}
    assert kept == {".", "c/seed-0", "a/seed-1"}
    for method, triplet in asked.items():
        assert read_triplets(run_folder(tmp_path, "own", method, 0)).tolist() == [[triplet]]
    assert read_triplets(late).tolist() == [[[2, 1, 0]]]


def test_a_run_without_its_triplets_is_not_published(publish, tmp_path):
    run = run_folder(PUBLISHED, "shoes-quick", "shared", 0)
    alone = shutil.copytree(run, run_folder(tmp_path, "shoes-quick", "shared", 0))
    with pytest.raises(UserError, match=r"lacks its test triplets; run it again\."):
        publish.publish(alone, alone, times=True)
    assert {file.name for file in alone.iterdir()} == {file.name for file in run.iterdir()}  # nothing is lost


def test_subcategories_of_few_images_decide_as_much_as_the_readme_says():
    kept = read_triplets(run_folder(PUBLISHED, "zappos-8k-quick", "shared", 0))[1]
    values: list[tuple[set[int], int]] = []  # of the same value: anchors and positives that triplets connect
    for anchor, positive, _ in kept.tolist():
        joined = [value for value in values if value[0] & {anchor, positive}]
        values = [value for value in values if value not in joined]
        values.append(({anchor, positive}.union(*(i for i, _ in joined)), 1 + sum(n for _, n in joined)))
    # where a value has many images, some triplets stand alone; of few images, nearly all are connected
    few = sorted((len(images), number) for images, number in values if len(images) <= 23 and number > 100)
    assert [size for size, _ in few] == [2, 4, 4, 6, 9, 11, 16, 17, 23]
    share = sum(number for _, number in few) / len(kept)
    said = " ".join((PUBLISHED.parent / "README.md").read_text().split())
    assert f"nine subcategories with 2 to 23 test images each, {sum(size for size, _ in few)} of 1,631" in said
    assert f"anchor {100 * share:.0f} % of the subcategory's triplets" in said
    assert f"one has two images, whose single pair is in {few[0][1]}." in said


def test_the_readme_says_what_the_tables_and_their_marks_say():
    text = (PUBLISHED.parent / "README.md").read_text()
    said = " ".join(text.split())
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    methods = next(cells for cells in lines if {"cross-stitch", "single"} <= set(cells))[1:]
    for name, title in (("shoes-quick", "rendered shoes"), ("faces-4-quick", "rendered faces")):
        table = (PUBLISHED / f"{name}.md").read_text()
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        heads = next(cells for cells in rows if cells[0] == "method")
        found = {cells[0].split()[0]: dict(zip(heads, cells, strict=True)) for cells in rows
                 if len(cells) == len(heads) and cells[1] == "3"}  # fmt: skip
        means = {method: re.sub(r"</?ins>|[*?≈]", "", row["mean"]).strip() for method, row in found.items()}
        assert next(cells for cells in lines if cells[0] == title)[1:] == [means[method] for method in methods], name
        runs = results(PUBLISHED, name).runs().groupby("method")["triplet/mean"].mean()
        level = {method: 100 * runs[method] for method in methods}
        assert f"{level['modulation'] - level['single']:.1f} points on shoes" in said or name != "shoes-quick"
        assert f"{level['modulation'] - level['single']:.1f} on faces" in said or name != "faces-4-quick"
        # one is the best, `single` is worse, all others are undecided
        best = max(level, key=lambda method: level[method])
        of_runs = set(found) - {"chance", "untrained", best}
        assert {method for method in of_runs if not found[method]["mean"].endswith("?")} == {"single"}
        tasks = heads[heads.index("tasks hurt") + 1 : next(n for n, head in enumerate(heads) if head.startswith("mAP"))]
        apart = {(method, task) for method in of_runs | {best} for task in tasks
                 if not found[method][task].endswith("?") and not found[method][task].startswith("**")}  # fmt: skip
        assert apart == ({("single", "heel")} if name == "shoes-quick" else set())

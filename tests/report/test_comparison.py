"""The comparison with the best method, and the one at equal seconds, from answers and curves made up by hand."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from report_records import asked, cells, order, record, shown, unwrapped, written
from safetensors.numpy import load_file, save_file

from mtlbench.errors import UserError
from mtlbench.report.clustering import SharedQueries
from mtlbench.report.comparison import compare_rows
from mtlbench.report.suites import suites
from mtlbench.report.summary import Choice, summarise
from mtlbench.report.tables import as_frame, as_markup
from mtlbench.report.verdict import verdict
from mtlbench.runs import Record, run_folder, write_record


def columns(results: Path, records: list[Record], **choice: str) -> dict[str, dict[str, str]]:
    """How each row stands, by column."""
    (summary,) = summarise(records, Choice(**choice), results)
    return {row.method: dict(row.standing) for row in summary.rows}


def test_methods_that_cannot_be_told_apart_from_the_best_are_marked(tmp_path):
    shares = {"best": 0.9, "second": 0.895, "last": 0.6}
    records = [written(tmp_path, m, seed, share) for m, share in shares.items() for seed in (0, 1, 2)]
    (summary,) = summarise(records, Choice(), tmp_path)
    standing = columns(tmp_path, records)
    leader, follower = summary.rows[0].method, summary.rows[1].method
    assert {leader, follower} == {"best", "second"}
    assert standing[leader]["mean"] == "best"
    assert standing[follower]["mean"] == "undecided"
    assert standing["last"] == dict.fromkeys(("mean", "task/colour", "task/heel_height"), "worse")
    text = shown(records, results=tmp_path)
    assert cells(text, leader)[4] == "*"
    assert cells(text, follower)[4] == "?"
    assert "marks: the best of the mean and of each task is bold or has a *; ≈: tied with it" in unwrapped(text)


def answered(results: Path, method: str, hits: list[torch.Tensor], places: torch.Tensor | None = None) -> list[Record]:
    """Records of a method with the given hits, (2, n) a seed."""
    made = []
    for seed, own in enumerate(hits):
        made.append(record(method, seed, tuple(own.float().mean(1).tolist())))
        asked_ = torch.randint(3000, (*own.shape, 3), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
        test = {"hits": own, "triplets": asked_ if places is None else places}
        write_record(run_folder(results, "made-up", method, seed), made[-1], test=test)
    return made


def test_tied_are_those_that_differ_by_less_than_a_point_for_sure(tmp_path):
    """One misses two triplets that the best hits and hits one that it misses: equal to all intents, says the mark."""
    hits = (torch.rand(2, 2000, generator=torch.Generator().manual_seed(0)) < 0.8).to(torch.uint8)
    nearly = hits.clone()
    nearly[:, torch.nonzero(hits.prod(0))[:2, 0]] = 0
    nearly[:, torch.nonzero(~hits.amax(0).bool())[0, 0]] = 1
    records = answered(tmp_path, "best", [hits] * 3) + answered(tmp_path, "same", [nearly] * 3)
    assert columns(tmp_path, records)["same"]["mean"] == "tied"
    (summary,) = summarise(records, Choice(), tmp_path)
    assert "≈" in next(line for line in as_markup(summary, "md").splitlines() if line.startswith("| same"))
    assert r"$^{\approx}$" in as_markup(summary, "latex")


def test_a_method_that_varies_much_is_undecided_and_not_called_equal(tmp_path):
    def runs(*shares: float) -> list[torch.Tensor]:
        return [(torch.rand(2, 400, generator=torch.Generator().manual_seed(n)) < share).to(torch.uint8)
                for n, share in enumerate(shares)]  # fmt: skip

    records = answered(tmp_path, "best", runs(0.94, 0.945, 0.95)) + answered(tmp_path, "wild", runs(0.6, 0.72, 0.85))
    assert columns(tmp_path, records)["wild"]["mean"] == "undecided"
    (summary,) = summarise(records, Choice(), tmp_path)
    pair = summary.rows[1].versus["mean"]
    low, high = pair.interval(summary.rows[1].level)
    assert low < pair.difference < -0.1 < 0 < high
    text = shown(records, results=tmp_path)
    assert cells(text, "wild")[5] == f"{100 * pair.difference:+.1f}"
    assert f"{100 * pair.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" in unwrapped(text)
    frame = as_frame([summary]).set_index("method")
    assert frame.loc["wild", ["mean/standing", "mean/vs_best/low"]].tolist() == ["undecided", low]


def test_a_task_that_is_below_the_base_but_not_told_apart_from_it_is_not_hurt(tmp_path):
    def runs(colour: float, heel: float) -> list[torch.Tensor]:
        drawn = [torch.rand(2, 2000, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
        return [(one < torch.tensor([[colour], [heel]])).to(torch.uint8) for one in drawn]

    records = answered(tmp_path, "independent", runs(0.9, 0.8)) + answered(tmp_path, "one", runs(0.6, 0.795))
    assert all(
        one.metrics["heel_height"]["triplet"] < base.metrics["heel_height"]["triplet"]
        for base, one in zip(records[:3], records[3:], strict=True)
    )
    (summary,) = summarise(records, Choice(), tmp_path)
    (row,) = (row for row in summary.rows if row.method == "one")
    assert row.accuracy["hurt"].mean == 1


def test_tasks_hurt_are_a_sum_whose_level_is_divided_among_the_tasks(tmp_path):
    """A task that would be marked in its column, p between 2.5 and 5 %, is not counted as hurt."""

    def runs(right: int, number: int = 400) -> list[torch.Tensor]:
        hits = (torch.arange(number) < right).to(torch.uint8).repeat(2, 1)
        return [torch.stack([hits[0].roll(seed), torch.ones(number, dtype=torch.uint8)]) for seed in range(3)]

    places = torch.arange(2 * 400 * 3).reshape(2, 400, 3)
    for lower in range(299, 250, -1):
        records = answered(tmp_path, "independent", runs(300), places) + answered(tmp_path, "one", runs(lower), places)
        (suite,) = suites(records)
        pair = compare_rows(suite, "one", "independent", "colour", tmp_path)
        if pair.p < 0.05:
            break
    assert 0.025 < pair.p < 0.05
    (row,) = (row for row in summarise(records, Choice(), tmp_path)[0].rows if row.method == "one")
    assert (row.standing["task/colour"], row.accuracy["hurt"].mean) == ("worse", 0)


def test_a_pairs_verdict_depends_neither_on_other_rows_nor_on_what_is_shown(tmp_path):
    records = [written(tmp_path, m, s, x) for m, x in (("best", 0.9), ("lower", 0.86), ("bad", 0.5)) for s in range(3)]
    whole = columns(tmp_path, records)
    assert columns(tmp_path, records, methods="best,lower")["lower"] == whole["lower"]
    (summary,) = summarise(records, Choice(methods="best,lower"), tmp_path)
    assert summary.comparison.methods == 3
    noisy = [r for r in records if r.method != "bad"]
    noisy += [written(tmp_path, "bad", s, share) for s, share in enumerate((0.1, 0.5, 0.8))]
    assert columns(tmp_path, noisy)["lower"] == whole["lower"]


def test_of_some_tasks_alone_the_answers_are_those_of_these_tasks(tmp_path):
    def runs(colour: float, heel: float) -> list[torch.Tensor]:
        drawn = [torch.rand(2, 400, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
        return [(one < torch.tensor([[colour], [heel]])).to(torch.uint8) for one in drawn]

    records = answered(tmp_path, "one", runs(0.9, 0.6)) + answered(tmp_path, "two", runs(0.6, 0.9))
    for task, best, other in (("colour", "one", "two"), ("heel_height", "two", "one")):
        (summary,) = summarise(records, Choice(tasks=task), tmp_path)
        found = {row.method: row for row in summary.rows}
        assert [found[name].standing["mean"] for name in (best, other)] == ["best", "worse"]
        apart = found[other].accuracy["mean"].mean - found[best].accuracy["mean"].mean
        assert found[other].versus["mean"].difference == pytest.approx(apart, abs=1e-6)


def test_one_seed_is_not_compared(tmp_path):
    records = [written(tmp_path, m, 0, share) for m, share in (("one", 0.9), ("other", 0.5))]
    text = unwrapped(shown(records, results=tmp_path))
    assert "comparison with the best: not compared, since with one seed the variation" in text
    assert "Which method? undecided: one seed." in text
    assert not re.search(r"[≈?*] ", text.split("Cost")[0])
    assert columns(tmp_path, records) == {"one": {}, "other": {}}


def test_a_method_of_one_seed_among_others_of_several_is_undecided_and_named(tmp_path):
    records = [written(tmp_path, m, s, x) for m, x in (("best", 0.9), ("bad", 0.5)) for s in range(3)]
    records.append(written(tmp_path, "once", 0, 0.1))
    standing = columns(tmp_path, records)
    assert (standing["bad"]["mean"], standing["once"]["mean"]) == ("worse", "undecided")
    assert "One seed, so undecided: once." in unwrapped(shown(records, results=tmp_path))


def test_others_are_compared_with_the_best_of_enough_seeds_not_with_a_lucky_one(tmp_path):
    records = [written(tmp_path, m, s, x) for m, x in (("best", 0.9), ("bad", 0.5)) for s in range(3)]
    before = columns(tmp_path, records)
    records += [written(tmp_path, "once", 0, 0.99), *(written(tmp_path, "twice", s, 0.97) for s in (0, 1))]
    standing = columns(tmp_path, records)
    assert {m: standing[m]["mean"] for m in before} == {m: stands["mean"] for m, stands in before.items()}
    assert (standing["once"]["mean"], standing["twice"]["mean"]) == ("undecided", "undecided")
    said = "A higher mean, but of too few seeds to compare others with it: once and twice."
    text = unwrapped(shown(records, results=tmp_path))
    assert said in text
    assert "once and twice, of too few seeds, higher" in text
    (summary,) = summarise(records, Choice(), tmp_path)
    assert summary.comparison.best["mean"] == "best"
    assert said in verdict(summary).answers[0].more
    pairs = [records[0], records[1], records[-2], records[-1]]  # where no method has three, two are enough
    assert summarise(pairs, Choice(), tmp_path)[0].comparison.best["mean"] == "twice"


def test_runs_without_triplets_are_not_compared_and_it_says_why(tmp_path):
    records = [written(tmp_path, m, s, 0.9) for m in ("one", "two") for s in (0, 1)]
    for file in tmp_path.rglob("test.safetensors"):
        save_file({"hits": load_file(file)["hits"]}, file)
    (summary,) = summarise(records, Choice(), tmp_path)
    assert summary.comparison.obstacle == "triplets"
    assert any("not compared, since these runs kept no triplets" in line for line in summary.receipt)


def test_runs_that_answered_other_triplets_are_not_compared(tmp_path):
    hits = torch.ones(2, 400, dtype=torch.uint8)
    records = answered(tmp_path, "one", [hits, hits], asked())
    records += answered(tmp_path, "two", [hits, hits], asked().flip(0))
    (summary,) = summarise(records, Choice(), tmp_path)
    assert summary.comparison.obstacle == "questions"
    assert not any(row.standing for row in summary.rows)


def test_the_receipt_says_how_many_images_stand_behind_the_weakest_column(tmp_path):
    places = asked(300)
    places[1] %= 20  # the second task has 20 images
    hits = (torch.rand(2, 400, generator=torch.Generator().manual_seed(0)) < 0.8).to(torch.uint8)
    records = answered(tmp_path, "one", [hits, hits], places) + answered(tmp_path, "two", [hits, hits], places)
    (summary,) = summarise(records, Choice(), tmp_path)
    assert summary.comparison.weakest == "task/heel_height"
    assert summary.comparison.images == pytest.approx(20, abs=1)
    worth = f"{summary.comparison.images:,.0f}"
    assert (
        f"test images: the triplets of the weakest column, heel height, are worth {worth} independent test images;"
        " those of one person or product count as one where that is known." in (summary.receipt)
    )


def test_methods_without_answers_are_not_marked_and_named(tmp_path):
    records = [written(tmp_path, m, s, 0.9) for m in ("one", "two", "bare") for s in (0, 1)]
    (run_folder(tmp_path, "made-up", "bare", 0) / "test.safetensors").unlink()
    (summary,) = summarise(records, Choice(), tmp_path)
    assert columns(tmp_path, records)["bare"] == {}
    assert any("from another run: bare" in line for line in summary.receipt)


def test_answers_of_another_run_are_not_believed(tmp_path):
    records = [written(tmp_path, m, s, 0.9) for m in ("one", "two") for s in (0, 1)]
    records[2].metrics["colour"]["triplet"] = 0.123
    (summary,) = summarise(records, Choice(), tmp_path)
    assert any("from another run: two" in line for line in summary.receipt)


def queried(results: Path, method: str, seed: int, level: float, images: int = 300) -> Record:
    """A record with scores of single queries of map@r and recall@10; every fourth image has label 1, the last none."""
    random = torch.Generator().manual_seed(1000 * seed + len(method))
    labels = (torch.arange(images) % 4 == 0).long().repeat(2, 1)
    labels[:, -1] = -1
    scores = {
        name: (level + 0.1 * torch.randn(2, images, generator=random)).where(labels >= 0, torch.nan)
        for name in ("map@r", "recall@10")
    }
    made = written(results, method, seed, level)
    made.setup["benchmark"]["evaluation"]["metrics"] = ["recall@10"]
    for name, own in scores.items():
        for task, row, values in zip(made.metrics, own, labels, strict=True):
            made.metrics[task][name] = row.nanmean().item()
            made.metrics[task][f"macro/{name}"] = torch.stack([row[values == v].mean() for v in (0, 1)]).mean().item()
    folder = run_folder(results, "made-up", method, seed)
    test = load_file(folder / "test.safetensors") | {"labels": labels.numpy()}
    test |= {f"queries/{name}": own.float().numpy() for name, own in scores.items()}
    write_record(folder, made, test={name: torch.from_numpy(values) for name, values in test.items()})
    return made


def test_columns_of_retrieval_metrics_are_marked_where_runs_kept_the_scores_of_queries(tmp_path):
    records = [queried(tmp_path, m, s, x) for m, x in (("best", 0.8), ("near", 0.79), ("far", 0.4)) for s in range(3)]
    standing = columns(tmp_path, records)
    for key in ("macro map@r", "macro recall@10"):
        assert (standing["best"][key], standing["near"][key], standing["far"][key]) == ("best", "undecided", "worse")
    assert "macro precision@1" not in standing["best"]  # these records have no scores of it
    (summary,) = summarise(records, Choice(), tmp_path)
    assert any("of each task, of map@r and of recall@10 is bold" in line for line in summary.receipt)
    assert any(line.startswith("without marks: precision@1") for line in summary.receipt)
    frame = as_frame([summary]).set_index("method")
    assert frame.loc["far", "macro/map@r/standing"] == "worse"
    assert frame.loc["far", "macro/map@r/vs_best/high"] < 0


def test_a_macro_metric_is_compared_in_the_mean_and_on_each_task_like_triplets(tmp_path):
    records = [queried(tmp_path, m, s, x) for m, x in (("best", 0.8), ("far", 0.4)) for s in range(3)]
    (summary,) = summarise(records, Choice(metric="macro/recall@10"), tmp_path)
    standing = {row.method: row.standing for row in summary.rows}
    assert standing["best"]["mean"] == "best"
    assert standing["far"] | {} == dict.fromkeys(
        ("mean", "task/colour", "task/heel_height", "macro map@r", "macro recall@10"), "worse"
    )
    assert any("the queries of the weakest column" in line for line in summary.receipt)


def test_where_some_test_images_alone_are_searched_the_error_is_that_of_their_labels(tmp_path):
    gallery = (torch.arange(300) >= 60).numpy()
    records = [queried(tmp_path, m, s, x) for m, x in (("best", 0.8), ("far", 0.4)) for s in range(2)]
    files = [run_folder(tmp_path, "made-up", one.method, one.seed) / "test.safetensors" for one in records]
    for one, file in zip(records, files, strict=True):
        one.receipt["data"]["test_gallery"] = 240
        save_file(load_file(file) | {"gallery": gallery.astype("uint8")}, file)
    (suite,) = suites(records)
    pair = compare_rows(suite, "best", "far", "", tmp_path, "macro/map@r")
    kept = [load_file(file) for file in files]
    labels, scores = kept[0]["labels"], [one["queries/map@r"].astype(float) for one in kept]
    shared = SharedQueries(labels, np.where(gallery, labels, -1))
    assert pair.from_images == pytest.approx(shared.spread((scores[0] + scores[1] - scores[2] - scores[3]) / 2))
    save_file({name: values for name, values in kept[0].items() if name != "gallery"}, files[0])
    with pytest.raises(UserError, match="did not keep which test images are in the gallery"):
        compare_rows(suite, "best", "far", "", tmp_path, "macro/map@r")


def test_scores_of_queries_of_another_run_are_not_believed(tmp_path):
    records = [queried(tmp_path, m, s, x) for m, x in (("best", 0.8), ("far", 0.4)) for s in range(3)]
    records[0].metrics["colour"]["macro/map@r"] += 0.01
    standing = columns(tmp_path, records)
    assert not any("macro map@r" in own for own in standing.values())
    assert standing["far"]["macro recall@10"] == "worse"


def test_runs_tested_on_other_labels_are_not_compared_by_their_queries(tmp_path):
    records = [queried(tmp_path, m, s, x) for m, x in (("best", 0.8), ("far", 0.4)) for s in range(3)]
    file = run_folder(tmp_path, "made-up", "far", 0) / "test.safetensors"
    test = load_file(file)
    for name in ("labels", "queries/map@r"):
        test[name] = test[name][:, ::-1].copy()
    save_file(test, file)
    assert not any("macro map@r" in own for own in columns(tmp_path, records).values())


def test_a_pair_in_a_retrieval_column_is_judged_without_regard_to_other_rows(tmp_path):
    records = [queried(tmp_path, m, s, x) for m, x in (("best", 0.8), ("near", 0.7), ("far", 0.4)) for s in range(3)]
    whole = columns(tmp_path, records)["near"]
    assert columns(tmp_path, records, methods="best,near")["near"] == whole


def test_means_over_all_queries_are_not_compared_and_it_says_why(tmp_path):
    records = [queried(tmp_path, m, s, 0.9) for m in ("one", "two") for s in (0, 1)]
    (summary,) = summarise(records, Choice(metric="map@r"), tmp_path)
    assert not any("mean" in row.standing for row in summary.rows)
    assert any("macro/map@r" in line for line in summary.receipt)


def test_the_receipt_says_that_rare_values_anchor_fewer_test_triplets(tmp_path):
    record_ = record("one")
    assert "the fewer" not in shown([record_])
    record_.setup["benchmark"]["evaluation"]["min_images"] = 24
    assert "fewer in proportion from label values with fewer than 24 images" in unwrapped(shown([record_]))


def curve(*points: tuple[float, float, float]) -> list[dict[str, float]]:
    """Rows of a curve: seconds and the two tasks' validation accuracies, a row without validation after each."""
    rows_: list[dict[str, float]] = []
    for step, (seconds, a, b) in enumerate(points):
        accuracies = {"accuracy/colour": a, "accuracy/heel_height": b, "accuracy": (a + b) / 2}
        rows_ += [
            {"step": 2.0 * step + 1, "seconds": seconds, **accuracies},
            {"step": 2.0 * step + 2, "seconds": seconds + 0.1},
        ]
    return rows_


def test_at_equal_seconds_what_validation_had_measured_by_then_ranks(tmp_path):
    slow = written(tmp_path, "slow", 0, 0.9, curve((5, 0.5, 0.5), (10, 0.6, 0.6), (20, 0.9, 0.9)))
    fast = written(tmp_path, "fast", 0, 0.6, curve((2, 0.6, 0.5), (4, 0.7, 0.7), (9.9, 0.5, 0.6)))
    late = written(tmp_path, "late", 0, 0.8, curve((11, 0.8, 0.8)))
    text = shown([slow, fast, late], results=tmp_path, seconds="10")
    assert order(text) == ["fast", "slow", "late"]
    assert cells(text, "fast")[1] == "70.0"
    assert cells(text, "slow")[1] == "60.0"
    assert "on the validation split" in unwrapped(text)
    assert "ranked at 10 s" in text
    (summary,) = summarise([slow, fast, late], Choice(seconds="10"), tmp_path)
    assert {r.method: r.accuracy["within"].mean for r in summary.tables[0].rows}["late"] is None
    shortest = shown([slow, fast], results=tmp_path, seconds="shortest")
    assert "within 9.9 s of training steps, the time that fast took" in unwrapped(shortest)


def test_at_equal_seconds_an_unfinished_schedule_is_warned_of(tmp_path):
    made = [written(tmp_path, name, 0, 0.9, curve((5, 0.5, 0.5), (9, 0.6, 0.6))) for name in ("one", "two")]
    warning = "equal seconds, unfair: slower methods are judged in the middle of their learning-rate schedule"
    (summary,) = summarise(made, Choice(seconds="6"), tmp_path)
    assert any(line.startswith(warning) for line in summary.brief)
    for one in made:
        one.setup["benchmark"]["train"]["schedule"] = "constant"
    (summary,) = summarise(made, Choice(seconds="6"), tmp_path)
    assert not any("unfair" in line for line in [*summary.brief, *summary.receipt])


def test_at_equal_seconds_tasks_are_read_from_the_checkpoint_that_all_tasks_chose(tmp_path):
    one = written(tmp_path, "one", 0, 0.9, curve((1, 0.9, 0.1), (2, 0.6, 0.6)))
    (summary,) = summarise([one], Choice(seconds="5", tasks="colour"), tmp_path)
    assert summary.tables[0].rows[0].accuracy["within"].mean == pytest.approx(0.6)


@pytest.mark.parametrize("kept", [(), [{"step": 1.0, "seconds": math.nan, "accuracy": 0.5}]])
def test_without_curves_that_have_seconds_there_is_no_shortest_run(tmp_path, kept):
    (summary,) = summarise([written(tmp_path, "one", 0, 0.9, kept)], Choice(seconds="shortest"), tmp_path)
    assert "equal seconds: none, because no run here kept its curve with seconds." in summary.receipt
    assert not any("no column" in line for line in summary.receipt)


@pytest.mark.parametrize("seconds", ["soon", "0", "-3", "nan", "inf"])
def test_seconds_that_are_none_are_refused(tmp_path, seconds):
    with pytest.raises(UserError, match="give a number of seconds, or 'shortest'"):
        shown([written(tmp_path, "one", 0, 0.9)], results=tmp_path, seconds=seconds)

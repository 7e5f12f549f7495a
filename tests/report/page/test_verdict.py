"""What a page says in words of a suite, from records made up by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_records import Parsed, found, put

from mtlbench.report.page import write_page
from mtlbench.report.summary import Summary
from mtlbench.report.tables import as_frame
from mtlbench.report.verdict import verdict
from mtlbench.runs.record import BROKEN


def said(summary: Summary) -> str:
    words = verdict(summary)
    return " ".join([words.headline, *(" ".join([a.short, a.lead, *a.more]) for a in words.answers)])


def test_the_verdict_names_the_best_those_alike_and_the_smallest(results: Path) -> None:
    (summary,) = found(results)
    words = verdict(summary)
    assert (words.best, words.tied, words.smallest) == ("shared", ("shared", "modulation"), ("modulation",))
    which, cost, sure = words.answers
    assert which.short == "shared and modulation are tied"
    assert which.lead == (
        "The highest mean accuracy is 79.9 ±0.1 %, of shared. Significantly better than 1 of the other 2."
        " Smallest of them: modulation, 2.50 MB."
    )
    assert words.headline == f"{which.short}. {which.lead}"
    assert [line.split("?")[0] for line in words.closing] == ["Which method", "What does it cost", "How sure is that"]
    assert cost.short == "4.00 MB"
    assert "modulation, 2.50 MB, one more task 1.28 kB; its mean is 79.9 ±0.1 %" in cost.more[0]
    assert sure.short == "3 seeds"
    assert sure.lead.startswith("2,000 test triplets on each of 2 tasks")
    assert "Against the highest mean: 1 tied, 1 worse, 0 undecided" in " ".join(sure.more)


def test_the_verdict_names_rendered_images_and_the_quick_protocol_and_else_not(results: Path, tmp_path: Path) -> None:
    (summary,) = found(results)
    assert "rendered images, which say nothing about real ones" in said(summary)
    assert "Quick protocol" in said(summary)
    put(tmp_path / "real", "shared", benchmark="zappos", rendered=False)
    (summary,) = found(tmp_path / "real")
    assert "real images" in said(summary)
    assert "endered" not in said(summary)
    assert "Quick" not in said(summary)


def test_a_best_method_that_is_better_than_all_is_said_to_be(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path, "shared", seed, (0.95, 0.9))
        put(tmp_path, "other", seed, (0.5, 0.5))
    (summary,) = found(tmp_path)
    assert "Significantly better than the other one." in said(summary)
    assert "Undecided" not in said(summary)


def test_without_answers_kept_nothing_is_said_of_a_test(results: Path) -> None:
    for path in results.rglob("test.safetensors"):
        path.unlink()
    (summary,) = found(results)
    assert "whether by chance was not tested" in said(summary)
    assert "Significantly better" not in said(summary)
    assert "not compared, since these runs' test.safetensors is missing" in said(summary)


@pytest.mark.parametrize("gone", ["modulation", "independent"])
def test_a_method_whose_answers_are_missing_is_named_and_not_said_to_be_worse(results: Path, gone: str) -> None:
    for path in (results / "made-up-quick" / gone).rglob("test.safetensors"):
        path.unlink()
    (summary,) = found(results)
    assert summary.comparison.missing == (gone,)
    which, _, sure = verdict(summary).answers
    if gone == "modulation":
        assert "Significantly better than 1 of the other 2." in which.lead
        assert "0 tied, 1 worse, 0 undecided" in " ".join(sure.more)
    else:
        assert "Significantly better" not in which.lead
        assert "1 tied, 0 worse, 0 undecided" in " ".join(sure.more)
    assert f"Not tested: {gone}." in which.more


def test_where_the_best_methods_answers_alone_are_kept_no_test_is_spoken_of(results: Path) -> None:
    for gone in ("modulation", "independent"):
        for path in (results / "made-up-quick" / gone).rglob("test.safetensors"):
            path.unlink()
    (summary,) = found(results)
    assert summary.comparison.best == {}
    assert "whether by chance was not tested" in said(summary)
    assert "Significantly better" not in said(summary)
    assert "from another run: modulation, independent" in said(summary)


def test_csv_says_nothing_of_a_test_of_methods_that_were_not_tested(results: Path) -> None:
    put(results, "broken", status="failed", reason="out of memory")
    for path in (results / "made-up-quick" / "independent").rglob("test.safetensors"):
        path.unlink()
    standing = as_frame(found(results)).set_index("method")["mean/standing"]
    assert standing[["modulation", "shared"]].tolist() == ["tied", "best"]
    assert standing[["independent", "broken"]].isna().all()


def test_another_metric_is_not_called_accuracy_nor_tested(results: Path) -> None:
    (summary,) = found(results, metric="macro/map@r")
    assert "The highest mean macro/map@r is 25.0" in said(summary)
    assert "The test images on each of 2 tasks, the same for every method" in said(summary)
    assert "question" not in said(summary)
    assert "not tested" in said(summary)
    assert "accuracy, " not in said(summary).replace("triplet accuracy", "")


def test_one_seed_is_said_to_tell_nothing_of_seeds(tmp_path: Path) -> None:
    put(tmp_path, "shared")
    put(tmp_path, "other", hits=(0.5, 0.5))
    (summary,) = found(tmp_path)
    assert "With one seed, the variation between seeds is unknown." in said(summary)
    assert "undecided: one seed. The highest mean accuracy is 80.0 %, of shared" in verdict(summary).headline
    assert verdict(summary).tied == ()


def test_methods_of_too_few_seeds_are_not_passed_off_as_equal(results: Path) -> None:
    put(results, "late", 0, (0.1, 0.1))
    (summary,) = found(results)
    assert "late" in verdict(summary).undecided
    for path in (results / "made-up-quick" / "modulation").rglob("test.safetensors"):
        path.unlink()
    (without,) = found(results)
    assert verdict(without).headline.startswith("undecided: shared leads.")
    assert "One seed, so undecided, however far below: late. Run the same seeds for all." in said(summary)


def test_a_method_of_too_few_seeds_is_not_offered_as_the_small_one(results: Path) -> None:
    put(results, "late", 0, (0.1, 0.1), megabytes=0.1)
    (summary,) = found(results)
    assert verdict(summary).smallest == ("modulation",)
    assert "Smallest of the tied: modulation" in said(summary)


def test_a_small_method_is_offered_only_if_its_interval_shows_it_to_be_near(tmp_path: Path) -> None:
    for seed in range(5):
        put(tmp_path, "shared", seed, (0.9, 0.7))
        put(tmp_path, "near", seed, (0.88, 0.68), megabytes=2)  # 2 points below, with a short interval
        put(tmp_path, "far", seed, (0.84 + 0.02 * seed, 0.66), megabytes=1)  # undecided: it may be far below
    (summary,) = found(tmp_path)
    assert "far" in verdict(summary).undecided
    (near,) = [line for line in verdict(summary).answers[1].more if "surely" in line]
    assert near.startswith("Smallest that is surely within 3 points of the best: near, 2.00 MB; -2.0 [")
    (summary,) = found(tmp_path, methods="shared,far")
    assert "No smaller method is surely within 3 points of it." in said(summary)


def test_a_smaller_method_is_one_that_is_smaller_than_all_that_are_tied(tmp_path: Path) -> None:
    for seed in range(5):
        put(tmp_path, "shared", seed, (0.9, 0.7), megabytes=4)
        put(tmp_path, "alike", seed, (0.9, 0.7), megabytes=2)
        put(tmp_path, "near", seed, (0.88, 0.68), megabytes=3)  # smaller than the best, and not than the tied one
    (summary,) = found(tmp_path)
    assert set(verdict(summary).tied) == {"shared", "alike"}
    assert verdict(summary).smallest == ("alike",)
    assert not any("surely within" in line for line in verdict(summary).answers[1].more)


def test_unequal_seeds_are_warned_of_and_equal_ones_are_not(results: Path) -> None:
    put(results, "broken", 9, status="failed", reason="out of memory")
    (summary,) = found(results)
    assert summary.warnings == []
    put(results, "late", 0)
    (summary,) = found(results)
    assert summary.warnings == ["methods have different seeds: each mean is over the seeds that its method has."]
    assert "These runs differ in more than the method" in said(summary)
    (summary,) = found(results, methods="shared,modulation")
    assert summary.warnings == []


def test_speeds_that_were_not_measured_are_not_spoken_of(results: Path) -> None:
    (summary,) = found(results)
    assert "images/s" not in said(summary)
    rates = {f"embed_rate_all_tasks{end}": 1000.0 * n for end, n in (("", 2), ("_slowest", 1.9), ("_fastest", 2.1))}
    fast = {k: 2 * v for k, v in rates.items()}
    for seed in range(3):
        put(results, "shared", seed, (0.9, 0.7), costs={"file_bytes": 4e6, "parameters": 1, **rates})
        put(results, "modulation", seed, (0.896, 0.703), costs={"file_bytes": 2e6, "parameters": 1, **fast})
    (summary,) = found(results)
    assert "Embeds 2,000 ±5% images/s under all tasks" in said(summary)
    assert "modulation is fastest: 4,000 ±5% images/s" in said(summary)
    assert "within the range" not in said(summary)


def test_of_tied_methods_neither_equal_sizes_nor_overlapping_speeds_make_one_the_cheapest(results: Path) -> None:
    def priced(middle: float, half: float, size: float) -> dict[str, float]:
        ends = {"": middle, "_slowest": middle - half, "_fastest": middle + half}
        return {
            "parameters": 1,
            "file_bytes": size,
            **{f"embed_rate_all_tasks{end}": value for end, value in ends.items()},
        }

    def put_both(one: dict[str, float], other: dict[str, float]) -> Summary:
        for seed in range(3):
            put(results, "shared", seed, (0.9, 0.7), costs=one)
            put(results, "modulation", seed, (0.896, 0.703), costs=other)
        (summary,) = found(results)
        return summary

    alike = put_both(priced(7000, 1300, 2.831e6), priced(8500, 1600, 2.829e6))  # both 2.83 MB as they are written
    words = verdict(alike)
    assert (set(words.smallest), set(words.fastest)) == ({"shared", "modulation"},) * 2
    assert words.closing[0].endswith("are tied at 80.0 ±0.0 %; none of them is cheaper.")
    assert words.headline.endswith("None of them is smaller. None of them is clearly faster.")
    assert "No tied method is smaller." in said(alike)
    assert "under all tasks; no tied method is clearly faster." in said(alike)

    mixed = put_both(priced(7500, 100, 4e6), priced(9000, 1700, 2e6))  # the smaller is not clearly faster
    words = verdict(mixed)
    assert (words.smallest, set(words.fastest)) == (("modulation",), {"shared", "modulation"})
    assert words.closing[0].endswith("; the cheapest is modulation.")

    unsteady = put_both(priced(2000, 100, 2e6), priced(9000, 2500, 4e6))
    words = verdict(unsteady)
    assert (words.smallest, words.fastest) == (("shared",), ())  # speeds that can't be compared make none the fastest
    assert words.closing[0].endswith("; the smallest is shared.")
    assert "Fastest" not in words.headline

    apart = put_both(priced(7000, 100, 2e6), priced(9000, 100, 4e6))
    words = verdict(apart)
    assert (words.smallest, words.fastest) == (("shared",), ("modulation",))
    assert words.closing[0].endswith("; the smallest is shared, the fastest is modulation.")
    assert "shared 2.00 MB" in words.closing[1]
    assert "modulation 4.00 MB" in words.closing[1]


def test_failed_and_collapsed_methods_are_named_and_a_collapsed_one_is_not_the_small_alternative(results: Path) -> None:
    put(results, "broken", status="failed", reason="out of memory")
    for seed in range(3):
        put(results, "fallen", seed, (0.89 - 0.01 * seed, 0.7), megabytes=0.1, collapsed=["colour"])
    (summary,) = found(results)
    assert "Failed: broken." in said(summary)
    assert "Collapsed: fallen." in said(summary)
    assert verdict(summary).smallest == ("modulation",)


def test_a_best_method_that_collapsed_is_none_to_take(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path, "shared", seed, (0.95, 0.9), megabytes=0.1, collapsed=["colour"])
        put(tmp_path, "other", seed, (0.5, 0.5))
    words = verdict(found(tmp_path)[0])
    assert (words.best, words.smallest, words.fastest) == ("shared", (), ())
    assert "some of its embeddings COLLAPSED" in words.closing[0]


def test_a_best_method_that_breaks_the_contract_is_none_to_take_and_named(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path, "cheating", seed, (0.95, 0.9), megabytes=0.1, checked={"architecture": BROKEN})
        put(tmp_path, "other", seed, (0.5, 0.5))
    (summary,) = found(tmp_path)
    words = verdict(summary)
    assert (words.best, words.smallest, words.fastest) == ("cheating", (), ())
    assert "breaks the contract: cheating" in words.closing[2]
    assert "Breaks the contract, so its numbers may be wrong: cheating." in said(summary)


@pytest.mark.usefixtures("_undrawn")
def test_where_nothing_finished_that_is_the_verdict(tmp_path: Path) -> None:
    put(tmp_path / "results", "broken", status="failed", reason="out of memory")
    summaries = found(tmp_path / "results")
    assert verdict(summaries[0]).best == ""
    text = Parsed(write_page(summaries, tmp_path / "results", tmp_path / "page")).text
    assert "No method has finished" in text
    assert "out of memory" in text

"""Any two methods: against a named one, the matrix of differences on the page, and the places that methods can hold."""

from __future__ import annotations

import re

import pytest
from report_records import cells, shown, unwrapped, written

from mtlbench.errors import UserError
from mtlbench.report.inference import Comparison, threshold
from mtlbench.report.page import write_page
from mtlbench.report.pairs import Pairs, in_points, pairs_of
from mtlbench.report.summary import Choice, summarise
from mtlbench.report.tables import as_frame

SHARES = (("top", 0.9), ("near", 0.895), ("middle", 0.75), ("low", 0.5))


def made(results):
    return [written(results, method, seed, share) for method, share in SHARES for seed in range(3)]


def test_every_method_is_compared_with_the_named_one(tmp_path):
    records = made(tmp_path)
    (summary,) = summarise(records, Choice(against="middle"), tmp_path)
    rows = {row.method: row for row in summary.rows}
    assert rows["middle"].against is None
    assert rows["top"].against is not None
    assert rows["top"].against.difference == pytest.approx(
        rows["top"].accuracy["mean"].mean - rows["middle"].accuracy["mean"].mean
    )
    text = shown(records, results=tmp_path, against="middle")
    assert "vs middle" in text
    assert in_points(rows["low"].against, rows["low"].level) in text
    assert cells(text, "middle")[1] == "3"
    assert "vs middle: difference of means to middle" in unwrapped(text)
    frame = as_frame([summary]).set_index("method")
    assert frame.loc["low", "mean/against/high"] < 0 < frame.loc["top", "mean/against/low"]


def test_a_difference_to_a_named_method_is_that_of_the_pair_whatever_else_is_shown(tmp_path):
    records = made(tmp_path)
    (whole,) = summarise(records, Choice(against="low"), tmp_path)
    (part,) = summarise(records, Choice(against="low", methods="low,top"), tmp_path)
    found = [{row.method: row.against for row in summary.rows}["top"] for summary in (whole, part)]
    assert found[0] == found[1]


def test_a_method_that_has_no_run_is_refused_with_those_that_have(tmp_path):
    with pytest.raises(UserError, match=r"--against midle: no finished run of it\. Did you mean: middle\?.*There: low"):
        summarise(made(tmp_path), Choice(against="midle"), tmp_path)


def test_a_named_method_that_is_not_shown_is_refused_and_the_only_one_shown_is_not_called_the_only_one(tmp_path):
    records = made(tmp_path)
    with pytest.raises(UserError, match=r"--against low: its row is not shown; add it to --methods\."):
        summarise(records, Choice(against="low", methods="top,middle"), tmp_path)
    assert "is the only one shown" in shown(records, results=tmp_path, methods="top")


def test_with_one_seed_it_says_why_nothing_is_compared(tmp_path):
    records = [written(tmp_path, method, 0, share) for method, share in SHARES]
    (summary,) = summarise(records, Choice(against="low"), tmp_path)
    assert all(row.against is None for row in summary.rows)
    assert any(line.startswith("vs low: not compared, since with one seed") for line in summary.receipt)


def test_the_matrix_holds_each_pair_in_both_orders_with_the_sign_turned(tmp_path):
    (summary,) = summarise(made(tmp_path), Choice(), tmp_path)
    pairs = pairs_of(summary.rows, summary.comparison)
    assert pairs is not None
    assert set(pairs.methods[:2]) == {"top", "near"}
    assert pairs.methods[2:] == ("middle", "low")
    assert len(pairs.differences) == 12
    assert pairs.level == threshold(4)
    for (method, other), pair in pairs.differences.items():
        assert pair.difference == -pairs.differences[other, method].difference
    assert not pairs.told_apart("top", "near")
    assert pairs.told_apart("middle", "low")
    assert [pairs.places(method) for method in pairs.methods] == [(1, 2), (1, 2), (3, 3), (4, 4)]


def test_places_follow_from_what_is_told_apart():
    def pair(difference: float) -> Comparison:
        return Comparison(difference, from_seeds=1e-4, seed_freedom=50, from_images=1e-4, images=500)

    means = {"a": 0.8, "b": 0.77, "c": 0.74}  # neighbours are not told apart, a and c are
    differences = {(m, o): pair(means[m] - means[o]) for m in means for o in means if m != o}
    pairs = Pairs(tuple(means), differences, 0.02)
    assert [pairs.places(method) for method in means] == [(1, 2), (1, 3), (2, 3)]


def test_without_two_methods_of_several_seeds_there_is_no_matrix(tmp_path):
    records = [written(tmp_path, "top", seed, 0.9) for seed in range(3)] + [written(tmp_path, "once", 0, 0.5)]
    (summary,) = summarise(records, Choice(), tmp_path)
    assert pairs_of(summary.rows, summary.comparison) is None


def test_an_interval_as_wide_as_all_there_is_is_called_unknown():
    wild = Comparison(difference=-0.004, from_seeds=4.0, seed_freedom=1.0, from_images=1e-6, images=1000.0)
    assert in_points(wild, 0.001) == "-0.4 [unknown]"
    tame = Comparison(difference=-0.004, from_seeds=1e-6, seed_freedom=30.0, from_images=1e-6, images=1000.0)
    assert re.fullmatch(r"-0\.4 \[-\d\.\d, [+-]\d\.\d\]", in_points(tame, 0.05))


def test_the_page_has_the_matrix_with_intervals_and_places(tmp_path):
    summaries = summarise(made(tmp_path / "results"), Choice(), tmp_path / "results")
    text = write_page(summaries, tmp_path / "results", tmp_path / "page").read_text()
    matrix = text[text.index('id="pairs"') : text.index("</section>", text.index('id="pairs"'))]
    assert len(re.findall("<small>", matrix)) == 12
    assert "<td>1–2</td>" in matrix
    assert "<td>4</td>" in matrix
    pairs = pairs_of(summaries[0].rows, summaries[0].comparison)
    assert pairs is not None
    assert in_points(pairs.differences["middle", "low"], pairs.level).split(" ", 1)[1] in matrix

"""Cells of text become label columns: combinations, orders, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support_own_images import names

from mtlbench.data.table import Table, column_of, labels_of, remark_on_several, remarks_on_words
from mtlbench.errors import UserError


def test_cells_are_coded_alphabetically_without_the_spaces_around_them_and_empty_ones_are_unlabelled() -> None:
    column = labels_of(["b ", "", "a", " ", "b"], "value")
    assert column.values == ("a", "b")
    assert column.codes.tolist() == [1, -1, 0, -1, 1]
    assert column.codes.dtype == np.int64
    assert not column.ordered


def test_a_combination_is_one_value_in_whatever_order_it_is_written() -> None:
    column = labels_of(["b;a", "a; b", "a", "b;a;b"], "value")
    assert names(column) == ["a;b", "a;b", "a", "a;b"]


def test_the_first_of_several_values_is_the_one_that_is_written_first() -> None:
    assert names(labels_of(["b;a", "a;b", ";c", "a"], "first")) == ["b", "a", "c", "a"]
    assert labels_of(["b;a", "b"], "first").values == ("b",)  # a is no value of any image


def test_several_values_can_be_taken_for_unlabelled() -> None:
    column = labels_of(["b;a", "a", "c;c", "b;"], "unlabelled")
    assert names(column) == [None, "a", "c", "b"]


def test_an_order_codes_by_it_and_keeps_values_that_no_image_has() -> None:
    column = labels_of(["high", "", "low"], "value", ["low", "middle", "high"])
    assert (column.codes.tolist(), column.values, column.ordered) == ([2, -1, 0], ("low", "middle", "high"), True)


@pytest.mark.parametrize(("rule", "expected"), [("value", None), ("first", "high"), ("unlabelled", None)])
def test_a_combination_has_no_place_in_an_order_but_its_first_value_has(rule: str, expected: str | None) -> None:
    assert names(labels_of(["high;low", "low"], rule, ["low", "high"])) == [expected, "low"]


def test_a_value_that_an_order_lacks_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'hihg' has no place in the order low, high\. Did you mean: high\?"):
        labels_of(["low", "hihg"], "value", ["low", "high"])


def test_an_order_that_sidesa_value_twice_is_refused() -> None:
    with pytest.raises(UserError, match="low, high, low names a value twice"):
        labels_of(["low"], "value", ["low", "high", "low"])


def test_an_unknown_rule_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="'last'"):
        labels_of(["a"], "last")


def test_a_remark_counts_the_cells_of_several_values_and_says_what_they_are() -> None:
    cells = ["a;b", "b;a", "a", "a;", ""]
    say = "2 cells of closure hold several values: "
    assert remark_on_several("closure", cells, "value") == [say + "each combination is a value of its own."]
    assert remark_on_several("closure", cells, "first") == [say + "the first counts."]
    assert remark_on_several("closure", cells, "unlabelled") == [say + "counted as unlabelled."]
    assert remark_on_several("closure", cells, "value", ordered=True) == [say + "counted as unlabelled."]
    assert remark_on_several("closure", cells[1:], "first")[0].startswith("1 cell of closure holds")
    assert remark_on_several("closure", cells[2:], "value") == []


def test_words_for_a_missing_value_are_unlabelled_where_they_are_named():
    cells = ["NaN", "red", " nan ", "None", "red;NaN"]
    assert names(labels_of(cells, "value", missing=["NaN"])) == [None, "red", None, "None", "red"]
    assert names(labels_of(cells, "value")) == ["NaN", "red", "nan", "None", "NaN;red"]
    assert names(labels_of(["n/a", "low"], "value", ["low", "high"], missing=["N/A"])) == [None, "low"]


def test_another_separator_parts_values_and_the_usual_one_no_longer_does():
    cells = ["a|b", "b|a", "a;b", "a"]
    assert names(labels_of(cells, "value", separator="|")) == ["a|b", "a|b", "a;b", "a"]
    assert names(labels_of(cells, "first", separator="|")) == ["a", "b", "a;b", "a"]
    assert remark_on_several("t", cells, "first", separator="|") == [
        "2 cells of t hold several values: the first counts."
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["NaN", "red"], "colour: 'NaN' is a label value like any other; with data.missing = [\"NaN\"]"),
        (["None", "n/a", "red"], 'with data.missing = ["None", "n/a"] such images are unlabelled'),
        (["1", "1.0", "2"], "'1' and '1.0' are different label values"),
        ([f"{n}{end}" for n in range(9) for end in ("", ".0")], "'2' and '2.0', and 6 more like them, are different"),
        (["Red", "RED", "blue"], "'RED' and 'Red' are different label values"),
        (["a|b", "a", "b"], "'a|b' counts as one value, though its parts are values too; with data.separator = \"|\""),
        (["['a', 'b']", "c"], "is a list written as text"),
        (['{"choices": ["a", "b"]}', "c"], "is JSON written as text"),
        (["red", "blue", "1", "2", "a|b"], None),
        (["size 38", "size 39", "AC/DC"], None),
    ],
)
def test_values_that_look_like_something_else_are_remarked_on(values, said):
    table = Table("t", Path(), tuple(values), {"colour": column_of(values)}, np.zeros(len(values), np.int64), "none")
    found = remarks_on_words(table, ["colour"])
    assert (len(found), said is None or said in found[0]) == (said is not None, True), found

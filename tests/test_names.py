"""Names in sentences, and tasks by names that are spelt otherwise."""

from __future__ import annotations

import pytest

from mtlbench.errors import UserError
from mtlbench.names import find_task, joined


@pytest.mark.parametrize(
    ("names", "text"),
    [("", ""), ("a", "a"), ("ab", "a and b"), ("abc", "a, b and c"), ("abcde", "a, b, c and 2 more")],
)
def test_names_are_joined_as_in_a_sentence(names, text):
    assert joined(list(names), 3) == text


@pytest.mark.parametrize("name", ["Heel_Height", "heel-height", "heel height", "HeelHeight"])
def test_a_task_is_found_however_it_is_spelt(name):
    assert find_task(name, ["closure", "Heel_Height"], "here") == "Heel_Height"


def test_of_tasks_that_differ_in_blanks_alone_each_is_found_by_its_own_name():
    tasks = ["a b", "ab"]
    assert [find_task(name, tasks, "here") for name in ("a b", "A B", "ab", "AB")] == ["a b", "a b", "ab", "ab"]
    with pytest.raises(UserError, match=r"here has no task 'c'\..* Tasks: a b, ab\."):
        find_task("c", tasks, "here")

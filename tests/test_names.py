"""Names in sentences, and tasks by names that are spelt otherwise."""

from __future__ import annotations

import pytest

from mtlbench.errors import UserError
from mtlbench.names import find_task, joined, listed, names_in


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


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        (" heel ,,closure,", ("heel", "closure")),
        ('male,"big, lips", big "nose"', ("male", "big, lips", 'big "nose"')),
        ('"""big"" nose, lips"', ('"big" nose, lips',)),
        ("male,\nheel", ("male", "heel")),
    ],
)
def test_names_with_commas_are_read_in_double_quotes(text, names):
    assert names_in(text) == names
    assert names_in(listed(names)) == names


def test_a_task_with_a_comma_is_found_in_quotes_and_listed_so():
    tasks = ["male", "big, lips"]
    assert find_task('"Big, Lips"', tasks, "here") == find_task("big, lips", tasks, "here") == "big, lips"
    with pytest.raises(UserError) as refused:
        find_task("big", tasks, "here")
    assert str(refused.value).endswith('Tasks: male, "big, lips". One with a comma is in double quotes.')

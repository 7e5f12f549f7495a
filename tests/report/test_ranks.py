"""Several suites side by side: ranks, and where their means differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from page_records import found, put
from scipy.stats import f

from mtlbench.report.figures.ranks import mean_ranks
from mtlbench.report.figures.style import looks, styled
from mtlbench.report.ranks import Ranks, critical_difference, friedman, ranked

METHODS = ("shared", "modulation", "independent", "film", "csn", "mtan")


def suites(results: Path, sets: int, methods: int = 6, rendered: bool = False) -> None:
    """Methods in the same order on each data set, but for the first two, which take turns."""
    for n in range(sets):
        for place, method in enumerate(METHODS[:methods]):
            turn = (1 - place) if place < 2 and n % 2 else place
            put(results, method, hits=(0.9 - 0.05 * turn, 0.8), benchmark=f"set-{n}", rendered=rendered,
                title=f"Set {n}", dataset=f"set-{n}")  # fmt: skip


def test_ranks_are_by_mean_accuracy_on_each_data_set_and_equals_share_theirs(tmp_path: Path) -> None:
    put(tmp_path, "shared", hits=(0.9, 0.9), benchmark="one", dataset="one")
    put(tmp_path, "film", hits=(0.8, 0.8), benchmark="one", dataset="one")
    put(tmp_path, "csn", hits=(0.7, 0.7), benchmark="one", dataset="one")
    for method in ("shared", "film"):
        put(tmp_path, method, hits=(0.8, 0.8), benchmark="two", dataset="two")
    (ranks,) = ranked(found(tmp_path))
    assert ranks.methods == ("shared", "film")  # csn is missing from one
    np.testing.assert_allclose(ranks.ranks, [[1, 1.5], [2, 1.5]])
    np.testing.assert_allclose(ranks.means, [1.25, 1.75])


def test_rendered_and_real_are_never_ranked_together(tmp_path: Path) -> None:
    suites(tmp_path / "real", 2)
    assert [ranks.rendered for ranks in ranked(found(tmp_path / "real"))] == [False]
    one = tmp_path / "mixed"
    for rendered in (True, False):
        for method in ("shared", "film"):
            put(one, method, benchmark=f"set-{rendered}".lower(), rendered=rendered, dataset=str(rendered))
    assert ranked(found(one)) == []


def test_a_data_set_counts_once_with_the_mean_rank_over_its_suites_whatever_their_names(tmp_path: Path) -> None:
    def runs(folder: Path, names: list[str]) -> Ranks:
        for method, better in (("shared", 0.9), ("film", 0.8)):
            put(folder, method, hits=(better, 0.8), benchmark="two", dataset="two")
        for name, shared in zip(names, (0.9, 0.7, 0.6), strict=True):  # on two of the three film is better
            put(folder, "shared", hits=(shared, 0.8), benchmark=name, dataset="one", fingerprint=f"labels of {name}")
            put(folder, "film", hits=(0.8, 0.8), benchmark=name, dataset="one", fingerprint=f"labels of {name}")
        put(folder, "shared", hits=(0.9, 0.8), benchmark="alone", dataset="one", fingerprint="others")
        (ranks,) = ranked(found(folder))
        return ranks

    ranks, turned = runs(tmp_path / "a", ["x", "y", "z"]), runs(tmp_path / "b", ["z", "y", "x"])
    assert ranks.suites == ("one: x; y; z", "two: two")
    assert ranks.left_out == ("alone",)
    assert ranks.methods == turned.methods == ("shared", "film")
    for one in (ranks, turned):
        np.testing.assert_allclose(one.ranks, [[5 / 3, 1], [4 / 3, 2]])
        np.testing.assert_allclose(one.accuracy[0], [(0.85 + 0.75 + 0.7) / 3, 0.85])


def test_the_methods_are_the_most_that_some_suite_of_every_data_set_has(tmp_path: Path) -> None:
    for name, dataset, methods in (
        ("a", "one", ("csn", "mtan")), ("b", "one", ("shared", "film", "csn")), ("c", "two", ("film", "shared")),
        ("d", "two", ("csn", "mtan", "shared", "film")),
    ):  # fmt: skip
        for method in methods:
            put(tmp_path, method, benchmark=name, dataset=dataset, fingerprint=name)
    (ranks,) = ranked(found(tmp_path))
    assert sorted(ranks.methods) == ["csn", "film", "shared"]
    assert ranks.left_out == ("a", "c")


@pytest.mark.parametrize(("sets", "methods"), [(3, 6), (11, 5)])
def test_of_few_data_sets_or_methods_nothing_is_tested_and_it_is_said_why(
    tmp_path: Path, sets: int, methods: int
) -> None:
    suites(tmp_path, sets, methods)
    (ranks,) = ranked(found(tmp_path))
    assert ranks.p is ranks.critical is None
    assert ranks.groups == []
    assert f"here there are {sets} and {methods}" in ranks.reason
    with styled():
        drawing = mean_ranks(ranks, looks(ranks.methods))
    assert "critical" not in drawing.title
    assert "which of them differ is not tested" in drawing.says
    assert not any(method in drawing.says for method in ranks.methods)


def test_of_many_the_diagram_joins_what_is_not_told_apart(tmp_path: Path) -> None:
    suites(tmp_path, 12)
    (ranks,) = ranked(found(tmp_path))
    assert ranks.p is not None
    assert ranks.p < 1e-6
    assert ranks.critical == pytest.approx(critical_difference(6, 12))
    np.testing.assert_allclose(ranks.means, [1.5, 1.5, 3, 4, 5, 6])
    assert ranks.groups == [(0, 2), (2, 4), (3, 5)]  # 2.18 apart: 1.5 to 3, 3 to 5, 4 to 6
    with styled():
        drawing = mean_ranks(ranks, looks(ranks.methods))
    gids = [one.get_gid() for one in drawing.figure.axes[0].lines]
    assert gids.count("group") == 3
    assert gids.count("critical") == 1
    tied = "lowest mean ranks, which do not differ by the test, are those of modulation, shared and "
    assert tied + ranks.methods[2] in drawing.says


def test_the_critical_difference_is_that_of_the_paper() -> None:
    # Demsar 2006, table 5 (a): q of 0.05 is 2.569 for 4 methods and 2.728 for 5
    assert critical_difference(4, 14) == pytest.approx(2.569 * (4 * 5 / (6 * 14)) ** 0.5, abs=1e-3)
    assert critical_difference(5, 30) == pytest.approx(2.728 * (5 * 6 / (6 * 30)) ** 0.5, abs=1e-3)


def test_friedmans_p_is_iman_and_davenports_and_holds_its_level() -> None:
    random = np.random.default_rng(0)
    ranks = np.argsort(random.random((12, 6)), axis=1).T + 1.0
    means, n, k = ranks.mean(1), 12, 6
    chi = 12 * n / (k * (k + 1)) * (float((means**2).sum()) - k * (k + 1) ** 2 / 4)
    assert friedman(ranks) == pytest.approx(f.sf((n - 1) * chi / (n * (k - 1) - chi), k - 1, (k - 1) * (n - 1)))
    tried = [friedman(np.argsort(random.random((12, 6)), axis=1).T + 1.0) < 0.05 for _ in range(2000)]
    assert np.mean(tried) == pytest.approx(0.05, abs=0.015)
    assert friedman(np.full((6, 12), 3.5)) == 1.0


def test_a_group_within_another_is_not_drawn() -> None:
    ranks = np.array([[1.0], [1.2], [1.3], [4.0]])
    made = Ranks(False, ("a",), (), ("a", "b", "c", "d"), ranks, ranks, 0.01, 0.5, "")
    assert made.groups == [(0, 2)]

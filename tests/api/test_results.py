"""Results in Python: the numbers are the command line's, the comparison is the table's, figures land where asked."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import pandas as pd
import pytest
from report_records import written
from support import run_command

from mtlbench import Results, UserError, results

matplotlib.use("Agg")
PUBLISHED = Path(__file__).parents[2] / "results" / "published"


@pytest.fixture(scope="module")
def shoes() -> Results:
    return results(PUBLISHED, "shoes-quick")


@pytest.fixture
def two(tmp_path: Path) -> Results:
    for seed in range(3):
        curve = [{"step": s, "seconds": 10.0 * s, "accuracy": 0.5 + s / 10, "loss": 1.0} for s in (1, 2)]
        written(tmp_path, "shared", seed, 0.8, curve=curve)
        written(tmp_path, "modulation", seed, 0.7, curve=curve)
    return results(tmp_path)


def test_the_table_holds_the_numbers_of_the_csv(shoes: Results) -> None:
    text = run_command("report", "shoes-quick", "--results", PUBLISHED, "--format", "csv").out
    csv = pd.read_csv(io.StringIO(text)).set_index("method")
    table = shoes.table()
    assert list(table.index) == list(csv.index)
    assert not [name for name in table.columns if name.startswith("receipt/")]
    for column in ("mean", "worst", "mean/sd", "task/heel", "cost/file_bytes"):
        pd.testing.assert_series_equal(table[column].astype(float), csv[column].astype(float), rtol=1e-12)


def test_metric_tasks_and_methods_choose(shoes: Results) -> None:
    table = shoes.table("macro/map@r", tasks="heel,closure", methods="core")
    assert {"task/heel", "task/closure"} <= set(table.columns)
    assert "task/gender" not in table.columns
    assert set(table.query("kind == 'method'").index) == {
        "independent", "shared", "cross-stitch", "gradnorm", "modulation",
    }  # fmt: skip
    with pytest.raises(UserError, match=r"No run has the metric 'triplets'\. Did you mean: triplet\?"):
        shoes.table("triplets")


def test_names_are_given_as_one_text_or_as_a_list(shoes: Results) -> None:
    two = results(PUBLISHED, "shoes-quick", methods=["shared", "single*"])
    assert two.methods == results(PUBLISHED, "shoes-quick", methods="shared,single*").methods
    assert set(two.methods) == {"shared", "single"}
    some = shoes.table(tasks=["heel", "closure"], methods=["shared", "modulation"])
    pd.testing.assert_frame_equal(some, shoes.table(tasks="heel,closure", methods="shared,modulation"))


def test_a_comparison_is_the_tables_where_there_are_two_methods(two: Results) -> None:
    table, pair = two.table(), two.compare("modulation", "shared")
    row = table.loc["modulation"]
    assert pair.difference == pytest.approx(row["mean/vs_best"], abs=1e-12)
    assert pair.interval() == pytest.approx((row["mean/vs_best/low"], row["mean/vs_best/high"]), abs=1e-9)
    assert pair.p < 0.05
    assert pair.difference == pytest.approx(row["mean"] - table.loc["shared", "mean"], abs=1e-6)
    back = two.compare("shared", "modulation", "colour")
    assert back.difference == pytest.approx(table.loc["shared", "task/colour"] - row["task/colour"], abs=1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("shared", "modulate"), r"no method 'modulate'\. Did you mean: modulation\?"),
        (("shared", "modulation", "colours"), r"no task 'colours'\. Did you mean: colour\?"),
    ],
)
def test_what_is_not_there_cant_be_compared(two: Results, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        two.compare(*words)


def test_one_seed_and_missing_answers_are_not_compared(tmp_path: Path) -> None:
    for seed in range(2):
        written(tmp_path, "shared", seed, 0.8)
        written(tmp_path, "mtan", seed, 0.8, kept=False)
    written(tmp_path, "modulation", 0, 0.7)
    found = results(tmp_path)
    with pytest.raises(UserError, match="modulation has one seed"):
        found.compare("shared", "modulation")
    with pytest.raises(UserError, match=r"test\.safetensors is missing"):
        found.compare("shared", "mtan")


def test_runs_and_curves_have_a_row_each(two: Results) -> None:
    runs, curves = two.runs(), two.curves()
    assert sorted(zip(runs["method"], runs["seed"], strict=True)) == [
        (method, seed) for method in ("modulation", "shared") for seed in range(3)
    ]
    assert len(curves) == 12
    assert list(curves.columns[:4]) == ["benchmark", "method", "seed", "step"]
    last = curves.query("method == 'shared' and seed == 1 and step == 2")
    assert last["accuracy"].item() == 0.7


def test_several_benchmarks_are_split_and_one_must_be_named() -> None:
    found = results(PUBLISHED)
    with pytest.raises(UserError, match=r"results of \d benchmarks: .*shoes-quick.* Name one: results\("):
        found.compare("shared", "modulation")
    parts = found.split()
    assert [part.benchmarks for part in parts] == [(name,) for name in found.benchmarks]
    assert sum(len(part.runs()) for part in parts) == len(found.runs())
    shoes = next(part for part in parts if part.benchmarks == ("shoes-quick",))
    pd.testing.assert_frame_equal(shoes.table(), results(PUBLISHED, "shoes-quick").table())


def test_where_there_is_nothing_it_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"No run records of any benchmark in {tmp_path}\."):
        results(tmp_path)
    with pytest.raises(UserError, match=r"No run records of shoe-quick in .*Did you mean: shoes-quick"):
        results(PUBLISHED, "shoe-quick")


def test_it_is_read_by_people(shoes: Results, two: Results, tmp_path: Path) -> None:
    assert repr(two) == f"Results({str(two.folder)!r}): 2 methods, 6 runs"
    assert "≈: tied with it" in str(shoes).replace("\n", " ")
    html = shoes._repr_html_()
    assert html.count("<table>") == 2
    assert "<b>" in html
    for task in shoes.tasks:
        assert f">{task}</th>" in html
    written(tmp_path / "odd", "<script>", 0, 0.5)
    odd = results(tmp_path / "odd")._repr_html_()
    assert "<script>" not in odd
    assert "&lt;script&gt;" in odd


def test_figures_are_drawn_on_given_axes_or_on_new_ones(shoes: Results, two: Results) -> None:
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3)
    assert shoes.plot.pareto(ax=panels[0]) is panels[0]
    assert shoes.plot.heatmap(ax=panels[1]) is panels[1]
    assert two.plot.curves(ax=panels[2]) is panels[2]
    figure.canvas.draw()
    names = {text.get_text() for text in panels[0].texts}
    assert {"shared", "modulation"} <= names
    assert [label.get_text() for label in panels[1].get_xticklabels()] == ["mean", *shoes.tasks]
    line = next(line for line in panels[2].lines if line.get_gid() == "shared")
    assert list(line.get_xdata()) == [1, 2]
    assert list(line.get_ydata()) == pytest.approx([60, 70])
    assert not figure.texts, "a heading is the caller's"
    alone = two.plot.curves("seconds")
    assert alone.get_xlabel() == "seconds of training"
    assert alone.figure is not figure
    pyplot.close("all")


def test_what_cant_be_drawn_is_said(two: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no cost 'bytes' to draw\. Take one of: storage, embedding, training"):
        two.plot.pareto("bytes")
    with pytest.raises(UserError, match="not by 'hour'"):
        two.plot.curves("hour")
    written(tmp_path / "bare", "shared", 0, 0.8)
    with pytest.raises(UserError, match="No run kept a curve by step"):
        results(tmp_path / "bare").plot.curves()
    with pytest.raises(UserError, match="Fewer than two methods"):
        results(tmp_path / "bare").plot.pareto()
    monkeypatch.setattr("mtlbench.report.figures.accuracy._CELLS_WITH_NUMBERS", (2, 60))
    with pytest.raises(UserError, match="shared alone, on 2 tasks, has nothing"):
        results(tmp_path / "bare").plot.heatmap()

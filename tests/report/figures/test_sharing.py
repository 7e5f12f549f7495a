"""Figures of how tasks share: gradients, what was learned, and the balancers' weights."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from figure_records import SCALES, TASKS, cells, curve, line, put, record, scale_tensors, scene, texts

from mtlbench import Learned
from mtlbench.report.figures import learned, sharing
from mtlbench.report.figures.checkpoints import similarity
from mtlbench.report.figures.style import FAINT

pytestmark = pytest.mark.filterwarnings("error")


# --- agreement of gradients -------------------------------------------------------------------------------------------


def test_agreement_is_the_mean_cosine_and_the_share_of_pairs_above_0(results: Path) -> None:
    over_training, often, _ = sharing.agreement(scene(results))
    place = [axes.get_title() for axes in over_training.figure.axes].index
    steps, means = line(over_training.figure, "shared", place("shared"))
    assert steps == [0, 20]
    assert means == pytest.approx([(-0.5 - 0.1 + 0.2) / 3, (0.3 - 0.1) / 2])  # the third pair has no cosine at step 20
    assert line(often.figure, "shared", place("shared"))[1] == pytest.approx([100 / 3, 50])
    assert line(often.figure, "modulation", place("modulation"))[1] == pytest.approx([100, 100])
    assert "modulation 0.24" in over_training.alt
    assert "shared −0.04" in over_training.alt
    assert "modulation 100 %" in often.alt
    assert "shared 40 %" in often.alt
    assert often.says.startswith("Over training the mean over probes is 40 % to 100 % of pairs")


def test_agreement_is_small_multiples_a_method_each_before_the_others_in_grey(results: Path) -> None:
    over_training, often, _ = sharing.agreement(scene(results))
    for drawing in (over_training, often):
        panels = [axes for axes in drawing.figure.axes if axes.get_title()]
        assert len(panels) > 1
        assert len({axes.get_title() for axes in panels}) == len(panels)
        for axes in panels:
            own = [one for one in axes.lines if one.get_gid() == axes.get_title()]
            assert len(own) == 1
            assert [one.get_color() for one in axes.lines].count(FAINT) == len(panels) - 1


def test_the_map_of_pairs_holds_each_pairs_mean_over_probes(results: Path) -> None:
    _, _, pairs = sharing.agreement(scene(results))
    panels = {axes.get_title(): axes.collections[0].get_array() for axes in pairs.figure.axes if axes.get_title()}
    values = np.ma.filled(panels["shared"], math.nan)
    expected = [[math.nan, -0.1, -0.1], [-0.1, math.nan, 0.2], [-0.1, 0.2, math.nan]]
    np.testing.assert_allclose(values, expected, atol=1e-9)
    limits = {axes.collections[0].get_clim() for axes in pairs.figure.axes if axes.get_title()}
    assert limits == {(-0.4, 0.4)}  # the same for all, up to modulation's 0.4


# --- what was learned -------------------------------------------------------------------------------------------------


def test_scales_are_shown_as_stored_of_one_seed_with_channels_in_the_order_of_their_mean(results: Path) -> None:
    (drawing,) = learned.channels(scene(results))
    images = [axes.images[0].get_array() for axes in drawing.figure.axes if axes.images]
    expected = np.array(SCALES[3])
    np.testing.assert_allclose(images[0], expected[:, np.argsort(expected.mean(0))], rtol=1e-6)
    assert [axes.get_title() for axes in drawing.figure.axes[:2]] == ["layer 3", "layer 5"]
    assert "seed 0" in drawing.title
    assert "layer 3: 4 channels, 0.50 to 1.50" in drawing.alt


def test_similarity_is_the_correlation_over_channels_mean_over_layers_and_seeds(results: Path) -> None:
    (drawing,) = learned.channels_similarity(scene(results))
    expected = np.mean([np.corrcoef(np.array(values)) for values in SCALES.values()], 0)  # a shift changes nothing
    np.testing.assert_allclose(list(cells(drawing).values()), expected, atol=1e-6)


def test_a_task_whose_scales_never_moved_is_similar_to_none() -> None:
    found = similarity({"layer 1": np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])})
    assert np.isnan(found[0]).all()
    assert found[1, 2] == pytest.approx(1)


@pytest.mark.parametrize(
    "tensors",
    [
        {f"scales.3.{t}": torch.ones(2, 4) for t in range(3)},  # matrices
        {f"scales.3.{t}": torch.ones(4 + t) for t in range(3)},  # of different lengths
        {f"scales.3.{t}": torch.ones(4) for t in range(2)},  # a task without
        {"units.0": torch.ones(2, 2), "units.1": torch.ones(3)},
        {"net.scales.3.0": torch.ones(4)},
    ],
)
def test_tensors_of_another_shape_are_something_else(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    put(tmp_path, record("one"), weights=tensors)
    found = scene(tmp_path)
    assert learned.channels(found) == learned.channels_similarity(found) == learned.mixes(found) == []


def test_any_method_with_such_scales_is_shown(tmp_path: Path) -> None:
    put(tmp_path, record("my-own+uw"), weights=scale_tensors())
    assert [drawing.stem for drawing in learned.channels(scene(tmp_path))] == ["scales-my-own+uw"]


def test_units_are_means_over_seeds(results: Path) -> None:
    (drawing,) = learned.mixes(scene(results))
    panels = [axes.collections[0].get_array() for axes in drawing.figure.axes if axes.get_title()]
    for n, values in enumerate(panels):
        np.testing.assert_allclose(np.ma.getdata(values), np.eye(3) * 0.91 + 0.05 * n, atol=1e-6)
    assert "unit 1: own column 0.91, others 0.00 on average; unit 2: own column 0.96, others 0.05" in drawing.alt


def test_weights_are_shown_where_they_move(results: Path) -> None:
    drawing = sharing.weights(scene(results))
    assert drawing is not None
    assert [axes.get_title() for axes in drawing.figure.axes] == ["gradnorm"]
    steps, weights = line(drawing.figure, "weight/colour")
    assert (len(steps), steps[0], steps[-1]) == (40, 1, 40)
    assert weights[-1] == pytest.approx(1.995)  # the mean of 2 and 1.99
    assert "gradnorm 2 (colour) to 0.5 (heel height)" in drawing.alt  # 1.995 to three figures


def test_a_long_run_is_drawn_as_means_over_windows(tmp_path: Path) -> None:
    rows = [{"step": s, "seconds": s, "accuracy": 0.5} | {f"weight/{t}": s for t in TASKS} for s in range(1, 201)]
    put(tmp_path, record("one"), curve=rows)
    drawing = sharing.weights(scene(tmp_path))
    assert drawing is not None
    steps, weights = line(drawing.figure, "weight/brand")
    assert len(steps) == 50
    assert steps[:2] == [2.5, 6.5]
    assert weights == steps
    assert drawing.where.endswith("; means over 50 windows of steps")
    # published records keep the steps that were validated; a balancer that hardly weighs looks it beside another
    put(tmp_path, record("one"), curve=rows[39::40])
    put(tmp_path, record("two"), curve=[row | {f"weight/{TASKS[0]}": 1 + row["step"] / 1e4} for row in rows[39::40]])
    drawing = sharing.weights(scene(tmp_path))
    assert drawing is not None
    assert drawing.where.endswith("; at 5 steps")
    assert len({axes.get_ylim() for axes in drawing.figure.axes}) == 1


def test_weights_of_one_balancer_do_not_flatten_those_of_the_others(tmp_path: Path) -> None:
    for n, name in enumerate(("one", "two", "three")):
        put(tmp_path, record(name), curve=curve(0.5, (2 + n / 10, 0.5, 0.5)))
    drawing = sharing.weights(scene(tmp_path))
    assert drawing is not None
    assert {axes.get_yscale() for axes in drawing.figure.axes} == {"linear"}
    put(tmp_path, record("large"), curve=curve(0.5, (40, 0.5, 0.5)))
    drawing = sharing.weights(scene(tmp_path))
    assert drawing is not None
    assert {axes.get_yscale() for axes in drawing.figure.axes if axes.get_title()} == {"log"}
    assert "weight (logarithmic)" in texts(drawing.figure)
    put(tmp_path, record("large"), curve=curve(0.5, (40, 0, 0)))  # which has no logarithm
    drawing = sharing.weights(scene(tmp_path))
    assert drawing is not None
    assert "weight" in texts(drawing.figure)


# --- what architectures declare ---------------------------------------------------------------------------------------


def test_what_is_declared_is_drawn_whatever_its_tensors_are_called(tmp_path: Path) -> None:
    """As of FiLM, whose tensors hold scales over shifts; undeclared tensors are left alone, whatever their names."""
    names = tuple(f"table.{t}" for t in range(3))
    declared = [
        Learned("gains", "layer 2", names, ("task", "channel"), "gain", neutral=1, row=0),
        Learned("shifts", "layer 2", names, ("task", "channel"), "shift", row=1),
        Learned("routes", "block 7", ("routing",), ("task", "task"), "share"),
    ]
    table = torch.arange(24).view(3, 2, 4) / 10
    weights = {name: table[t] for t, name in enumerate(names)} | {"routing": torch.eye(3)} | scale_tensors()
    put(tmp_path, record("one", learned=[one.as_json() for one in declared]), weights=weights)
    gains, shifts = learned.channels(scene(tmp_path))
    assert (gains.stem, shifts.stem) == ("gains-one", "shifts-one")
    assert "layer 2: 4 channels, 0.00 to 1.90" in gains.alt
    assert "0 or below" in gains.alt
    assert "layer 2: 4 channels, 0.40 to 2.30" in shifts.alt
    assert "0 or below" not in shifts.alt
    assert "gain" in texts(gains.figure)
    (routes,) = learned.mixes(scene(tmp_path))
    assert routes.stem == "routes-one"
    assert "block 7: own column 1.00" in routes.alt
    assert len(learned.channels_similarity(scene(tmp_path))) == 1


def test_a_method_that_declares_nothing_has_no_such_figure(tmp_path: Path) -> None:
    put(tmp_path, record("one", learned=[]), weights=scale_tensors())
    assert learned.channels(scene(tmp_path)) == []


def test_a_declared_tensor_that_is_missing_or_shaped_otherwise_is_left_out(tmp_path: Path) -> None:
    declared = [
        Learned("scales", "layer 3", tuple(f"scales.3.{t}" for t in range(3)), ("task", "channel"), "scale", 1),
        Learned("scales", "layer 9", tuple(f"scales.9.{t}" for t in range(3)), ("task", "channel"), "scale", 1),
        Learned("units", "unit 1", ("scales.3.0",), ("task", "task"), "weight"),
    ]
    put(tmp_path, record("one", learned=[one.as_json() for one in declared]), weights=scale_tensors())
    (drawing,) = learned.channels(scene(tmp_path))
    assert "layer 3" in drawing.alt
    assert "layer 9" not in drawing.alt
    assert learned.mixes(scene(tmp_path)) == []

"""How figures look: colours, names, and texts that don't collide."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from figure_records import CORE, crowd, put, record, scene, texts, tuned, varied
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from mtlbench.report.figures import accuracy, draw_all, learned, sharing
from mtlbench.report.figures.accuracy import EMBEDDING, STORAGE, TRAINING, accuracy_against, heat_map
from mtlbench.report.figures.labels import Label, place_labels
from mtlbench.report.figures.scene import Scene, _shortly
from mtlbench.report.figures.storage import storage_by_tasks
from mtlbench.report.figures.style import Drawing, Look, blank, head, settle, shorts, signed
from mtlbench.report.figures.style import looks as looks_of
from mtlbench.report.suites import suites
from mtlbench.runs import find_records

pytestmark = pytest.mark.filterwarnings("error")


def looks(names: Iterable[str]) -> dict[str, Look]:
    of = {name: name.partition(" · ")[0] for name in names}
    return looks_of(of, CORE, "independent", of)


def test_the_core_methods_look_the_same_in_whatever_company() -> None:
    alone = {name: looks([name])[name] for name in CORE}
    together = looks([*CORE, *(f"method-{n}" for n in range(40))])
    assert {name: together[name] for name in CORE} == alone
    assert len({look.colour for look in alone.values()}) == len(CORE)


def test_a_methods_look_follows_from_its_name_and_is_nobody_elses() -> None:
    names = [f"method-{n}" for n in range(40)]
    found = looks([*CORE, *names])
    assert found == looks([*reversed(names), *CORE])
    assert len({(look.colour, look.marker) for look in found.values()}) == 45
    few = looks([*CORE, *names[:6]])
    assert len({look.colour for look in few.values()}) == 11
    assert looks(["single"])["single"] == looks(["single", *CORE])["single"]


def test_a_fifth_core_method_looks_like_the_others_and_the_base_is_black() -> None:
    found = looks_of([*CORE, "more", "other"], [*CORE, "more"], "other")
    assert found["other"].colour == "#000000"
    assert len({look.colour for look in found.values()}) == 7


def test_a_tuned_row_has_its_methods_colour_and_marker_and_another_line() -> None:
    names = [*CORE, *(f"method-{n}" for n in range(12))]
    plain = looks(names)
    found = looks([*names, *(f"{name} · tuned" for name in names)])
    assert {name: found[name] for name in names} == plain
    for name in names:
        tuned = found[f"{name} · tuned"]
        assert (tuned.colour, tuned.marker) == (plain[name].colour, plain[name].marker)
        assert (tuned.line, tuned.fill) != (plain[name].line, plain[name].fill)
    # curves in a browser have no markers
    assert len({(look.colour, look.line) for look in found.values()}) == len(found)
    assert looks(["shared · tuned", "single"])["shared · tuned"] == plain["shared"]  # nothing to tell it from


def test_rows_of_one_method_have_one_colour_and_rows_of_one_value_one_line() -> None:
    found = looks(f"{name} · width={width}" for name in ("modulation", "shared", "single") for width in (0.25, 0.5, 1))
    for name in ("modulation", "shared", "single"):
        rows = [look for row, look in found.items() if row.startswith(f"{name} ·")]
        assert {(look.colour, look.marker) for look in rows} == {(found[name].colour, found[name].marker)}
        assert len({look.line for look in rows}) == len({look.fill for look in rows}) == 3
    for width in (0.25, 0.5, 1):
        assert len({(look.line, look.fill) for row, look in found.items() if row.endswith(f"={width}")}) == 1


def test_what_no_core_method_uses_others_take_before_any_colour_comes_again() -> None:
    found = looks_of(f"method-{n}" for n in range(11))
    assert len({look.colour for look in found.values()}) == 11
    assert {look.line for look in found.values()} == {"-"}
    found = looks([*(f"method-{n}" for n in range(9)), "shared", "independent"])
    assert len({look.colour for look in found.values()}) == 11


def test_reference_rows_take_no_colour_from_methods(tmp_path: Path) -> None:
    names = [f"method-{n}" for n in range(6)]
    for name in names:
        put(tmp_path, record(name))
    put(tmp_path, record("chance", kind="reference", costs={}))
    found = scene(tmp_path)
    assert {name: found.looks[name] for name in names} == looks_of(names)


def test_names_leave_out_what_all_rows_share_and_the_keys_of_factors(tmp_path: Path) -> None:
    for steps in (40, 80):
        for method in ("independent", "shared"):
            varied(tmp_path, method, (0.7, 0.6, 0.5), steps, train={"lr": 0.1})
    found = scene(tmp_path, "train.steps")
    assert {method.label for method in found.methods} == {
        f"{method} · steps={steps}" for method in ("independent", "shared") for steps in (40, 80)
    }
    assert found.where(found.methods).endswith("; by train.steps; all tuned; 1 seed")
    drawing = accuracy_against(found, STORAGE)
    assert drawing is not None
    assert "shared · steps=80" in texts(drawing.figure)
    assert drawing.where.endswith("; fill: train.steps")
    alone = Scene.of(found.suite, tmp_path, [m.name for m in found.methods if m.label.startswith("shared")][:1])
    assert [method.label for method in alone.methods] == ["shared"]
    put(tmp_path, record("single"))
    mixed = scene(tmp_path, "train.steps")
    assert "shared · tuned · steps=80" in {method.label for method in mixed.methods}


def test_names_leave_out_options_that_rows_of_one_method_share(tmp_path: Path) -> None:
    for after in (3, 4):
        put(tmp_path, record(f"modulation[after={after},rate=9]"))
    found = scene(tmp_path)
    assert {method.label for method in found.methods} == {"modulation[after=3]", "modulation[after=4]"}
    assert "; all rate=9; " in found.where(found.methods)
    put(tmp_path, record("film[after=3,rate=9]"))
    assert {method.label for method in scene(tmp_path).methods} == {method.name for method in scene(tmp_path).methods}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["small", "small[width=0.5]"], ["small", "width=0.5"]),
        (["small", "paper[after=3]"], ["small", "paper[after=3]"]),
        ([0.1, None], ["backbone=0.1", "backbone=null"]),
    ],
)
def test_values_of_a_factor_are_written_shortly(values: list[Any], said: list[str]) -> None:
    assert _shortly("model.backbone", values) == said


def test_of_many_rows_each_methods_tuned_one_is_shown_first(tmp_path: Path) -> None:
    for n, method in enumerate(("shared", "modulation", *(f"method-{n}" for n in range(8)))):
        put(tmp_path, record(method, 0, (0.6 + n / 100,) * 3))
        tuned(tmp_path, method, (0.5 + n / 100,) * 3, train={"lr": 0.1})
    found = scene(tmp_path)
    shown = {method.name for method in found.prominent(found.methods)}
    assert shown == {"shared · tuned", "modulation · tuned", *(f"method-{n} · tuned" for n in range(2, 8))}
    drawing = accuracy_against(found, STORAGE)
    assert drawing is not None
    named = {text.get_text() for text in drawing.figure.axes[0].texts} - {""}
    assert named == shown | {"method-7"}  # on the front


def test_more_methods_than_looks_can_be_drawn() -> None:
    assert len(looks(f"method-{n}" for n in range(60))) == 60


def test_a_method_has_its_colour_in_every_figure(results: Path) -> None:
    found = scene(results)
    for drawing in (accuracy.learning_curves(found), sharing.agreement(found)[0]):
        assert drawing is not None
        lines = [one for axes in drawing.figure.axes for one in axes.lines if one.get_gid() == "shared"]
        assert {to_hex(one.get_color()).upper() for one in lines} == {found.looks["shared"].colour}
    against = accuracy_against(found, STORAGE)
    assert against is not None
    (bars,) = [c for c in against.figure.axes[0].containers if c.get_label() == "shared"]
    assert to_hex(bars.lines[0].get_color()).upper() == found.looks["shared"].colour


def oklab(colour: str) -> np.ndarray:
    """Lightness, and two numbers of hue and chroma, by Ottosson's matrices."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    cones = np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.63]]) @ linear
    mixed = [[0.2105, 0.7936, -0.0041], [1.978, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    return np.array(mixed) @ np.cbrt(cones)


def test_curves_of_a_dark_page_are_light_and_no_two_look_alike() -> None:
    sheet = (resources.files("mtlbench.report") / "templates" / "page.css").read_text()
    scales = set(re.findall(r"oklch\(from var\(--c\) calc\(1 - ([.0-9]+) \* l\) c h\)", sheet))
    assert len(scales) == 1
    scale = float(scales.pop())
    plain = {look.colour for look in looks([*CORE, *(f"method-{n}" for n in range(6))]).values()}
    dark = [np.array([1 - scale * lab[0], *lab[1:]]) for lab in map(oklab, plain)]
    assert len(dark) == 11
    assert min(lab[0] for lab in dark) > 0.5
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(dark, 2)) > 0.1


def test_numbers_have_a_true_minus_and_zero_no_sign() -> None:
    assert [signed(value) for value in (-0.26, 0.0, -0.001, float("nan"))] == ["−0.26", "0.00", "0.00", ""]
    assert [signed(value, 1, plus=True) for value in (-0.26, -0.01, 0.01, 1.0)] == ["−0.3", "0.0", "0.0", "+1.0"]


def test_long_names_are_cut_unless_they_would_become_the_same() -> None:
    assert shorts(["short", "a-very-long-name-of-a-method"], 11) == ["short", "a-very…thod"]
    alike = ["beginning-one-the-end", "beginning-two-the-end"]
    assert shorts(alike, 11) == alike


def drawings(found: Scene) -> list[Drawing]:
    one_each = [accuracy_against(found, cost) for cost in (STORAGE, EMBEDDING, TRAINING)]
    one_each += [heat_map(found), accuracy.learning_curves(found), sharing.weights(found)]
    one_each += [storage_by_tasks(found)]
    several = [
        sharing.agreement(found),
        learned.channels(found),
        learned.channels_similarity(found),
        learned.mixes(found),
    ]
    return [one for one in one_each if one] + [one for some in several for one in some]


def written(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Bbox]]:
    """Every text that drawing a figure really writes, and its box."""
    settle(figure)
    found: list[tuple[str, Bbox]] = []
    draw = Text.draw

    def note(self: Text, renderer: Any, *args: Any, **kwargs: Any) -> None:
        if self.get_text() and self.get_visible():
            found.append((self.get_text(), Text.get_window_extent(self, renderer)))
        draw(self, renderer, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", note)
        FigureCanvasAgg(figure).draw()
    return found


def test_a_label_stands_by_its_own_point_and_not_on_a_line() -> None:
    """Of two points one above the other, and a third beside them, on a line that joins the upper two."""
    figure = blank(3.3, 2.5)
    axes = figure.subplots()
    points = [(1.0, 5.0), (1.0, 4.6), (0.8, 4.9)]
    axes.set(xlim=(0, 10), ylim=(0, 10))
    labels = [Label(*point, name, "#000000") for point, name in zip(points, ("upper", "lower", "beside"), strict=True)]
    place_labels(axes, labels, points, [(0.8, 5.0, 9.0, 5.0)])
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = {text.get_text(): text.get_window_extent(renderer) for text in axes.texts if text.get_text()}
    line = axes.transData.transform((0, 5.0))[1]
    assert boxes["upper"].y0 > line > boxes["lower"].y1
    led = [tuple(text.xy) for text in axes.texts if not text.get_text()]
    assert points[2] in led


@pytest.mark.parametrize("tasks", [3, 12])
def test_no_text_leaves_its_figure_or_runs_into_another(
    results: Path, tmp_path: Path, tasks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scene(results) if tasks == 3 else crowd(tmp_path / "many", 12, tasks)
    for drawing in drawings(found):
        page = drawing.figure.bbox.padded(1)
        shown = written(drawing.figure, monkeypatch)
        assert len(shown) > 5
        for text, box in shown:
            assert page.containsx(box.x0), (drawing.stem, text)
            assert page.containsx(box.x1), (drawing.stem, text)
            assert page.containsy(box.y0), (drawing.stem, text)
            assert page.containsy(box.y1), (drawing.stem, text)
        for (text, box), (other, beside) in itertools.combinations(shown, 2):
            both = Bbox.intersection(box, beside)
            # boxes have some room above and below their letters
            collide = both is not None and min(both.width, both.height) > 0.3 * min(box.height, box.width)
            assert not collide, (drawing.stem, text, other)


def test_a_label_longer_than_its_axis_is_broken_and_not_written_over_the_title(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = blank(3.3, 1.9)
    figure.subplots().set_ylabel("a quantity with a long name that goes on, in units of its own")
    head(figure, "A title", "with a second line below it")
    shown = written(figure, monkeypatch)
    (label,) = [box for text, box in shown if text.startswith("a quantity")]
    (below,) = [box for text, box in shown if text.startswith("with a second")]
    assert label.y1 <= below.y0
    assert "\n" in figure.axes[0].get_ylabel()


def test_names_with_signs_of_mathematics_are_written_as_they_are(tmp_path: Path) -> None:
    names = ("$price$", "50%_off", "a^b_{c}")
    for method in ("one", "two"):
        put(tmp_path, record(method, tasks=names))
    (suite,) = suites(find_records(tmp_path))
    assert [f.stem for f in draw_all(suite, tmp_path, tmp_path / "figures", ("svg", "pdf"))][-1] == "accuracy-tasks"
    drawing = heat_map(Scene.of(suite, tmp_path))
    assert drawing is not None
    assert {"$price$", "50% off", "a^b {c}"} <= set(texts(drawing.figure))


def test_one_task_and_one_method_are_enough(tmp_path: Path) -> None:
    rows = [{"step": s, "seconds": s / 9, "accuracy": 0.5, "weight/only": 1 + s} for s in range(1, 5)]
    weights = {"scales.3.0": torch.linspace(0, 2, 8), "units.0": torch.ones(1, 1)}
    put(tmp_path, record("one", 0, (0.5,), tasks=("only",)), curve=rows, weights=weights)
    (suite,) = suites(find_records(tmp_path))
    stems = [figure.stem for figure in draw_all(suite, tmp_path, tmp_path / "figures", ("png",))]
    assert stems == ["accuracy-tasks", "learning-curves", "scales-one", "units-one", "balancer-weights"]

"""Labels of points: where they cover neither each other nor what is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mtlbench.report.figures.style import GREY, settle

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Label:
    """A name to be written beside a point, in data coordinates."""

    x: float
    y: float
    text: str
    colour: str


Segment = tuple[float, float, float, float]  # x, y, x, y


class _Box(NamedTuple):
    """A rectangle in pixels; matplotlib's own works out its corners again whenever it is asked."""

    x0: float
    y0: float
    x1: float
    y1: float

    def holds(self, x: float, y: float) -> bool:
        return self.x0 <= x <= self.x1 and self.y0 <= y <= self.y1


# right, left, above, below, and between them
_DIRECTIONS: tuple[tuple[float, float], ...] = (
    (1, 0),
    (-1, 0),
    (0, 1),
    (0, -1),
    (0.8, 0.8),
    (-0.8, 0.8),
    (0.8, -0.8),
    (-0.8, -0.8),
)
_DIRECTIONS += ((0.4, 0.9), (-0.4, 0.9), (0.4, -0.9), (-0.4, -0.9), (0.9, 0.4), (-0.9, 0.4), (0.9, -0.4), (-0.9, -0.4))
_REACH = (5, 9, 14, 20, 27, 35, 44, 54, 66, 80)  # points


def place_labels(
    axes: Axes, labels: Sequence[Label], points: Sequence[tuple[float, float]], lines: Sequence[Segment]
) -> None:
    """Write labels beside their points, where they cover neither each other nor a point.

    A line leads to labels that are far from their point, or not much nearer to it than to another.
    Each label takes the best of some places around its point, those before it standing, in three orders of which the
    best is kept; what is left to overlap, if anything, is the least. The figure's layout is settled here, since it
    decides what lies near what.

    Args:
        axes: where the points are.
        labels: in the order of importance.
        points: all of them, (x, y) in data coordinates, labelled or not.
        lines: what had better not be written over, in data coordinates.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import to_rgb
    from matplotlib.patheffects import withStroke

    figure = axes.figure
    settle(figure)  # type: ignore[arg-type]
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[arg-type,no-untyped-call]
    point = figure.dpi / 72
    frame = _Box(*axes.get_window_extent(renderer).extents)

    def to_pixels(x: float, y: float) -> tuple[float, float]:
        across, up = axes.transData.transform((x, y))
        return float(across), float(up)

    spots = [to_pixels(*spot) for spot in points]
    avoided: list[Segment] = [(*to_pixels(*line[:2]), *to_pixels(*line[2:])) for line in lines]
    sized = []
    for label in labels:
        probe = axes.text(0, 0, label.text, fontsize=7)
        size = probe.get_window_extent(renderer)
        probe.remove()
        sized.append((label, to_pixels(label.x, label.y), size.width, size.height * 0.85))
    orders = [sized, sorted(sized, key=lambda one: one[1][1]), sorted(sized, key=lambda one: -one[1][1])]
    arranged = [_arranged(order, spots, avoided, frame, point) for order in orders]
    for label, (x, y), place in min(arranged, key=lambda placed: sum(place.cost for *_, place in placed)):
        near, box = place.near, place.box
        text = axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=((box.x0 - x) / point, ((box.y0 + box.y1) / 2 - y) / point),
            textcoords="offset points",
            fontsize=7,
            ha="left",
            va="center",
            color=[0.75 * part for part in to_rgb(label.colour)],  # letters are thin: pale ones would be hard to read
            zorder=5,
        )
        text.set_path_effects([withStroke(linewidth=1.6, foreground="white")])
        if place.led:
            axes.annotate(
                "",
                (label.x, label.y),
                xytext=((near[0] - x) / point, (near[1] - y) / point),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "lw": 0.5, "color": GREY, "shrinkA": 0, "shrinkB": 2.5},
                zorder=2.5,
            )


class _Place(NamedTuple):
    """Where a label may stand: its cost, where a line to its point would end, and whether there is one."""

    cost: float
    near: tuple[float, float]
    box: _Box
    led: bool


def _arranged(
    sized: Sequence[tuple[Label, tuple[float, float], float, float]],
    spots: Sequence[tuple[float, float]],
    avoided: Sequence[Segment],
    frame: _Box,
    point: float,
) -> list[tuple[Label, tuple[float, float], _Place]]:
    """Place labels one after the other, each where it costs least beside those before it; all in pixels.

    Args:
        sized: labels with their points, widths and heights.
        spots: all points; avoided: lines that had better not be written over.
        frame: the axes; point: how many pixels it has.
    """
    marks = [_Box(x - 3.5 * point, y - 3.5 * point, x + 3.5 * point, y + 3.5 * point) for x, y in spots]
    written: list[_Box] = []
    leaders: list[Segment] = []
    found = []
    for label, (x, y), width, height in sized:
        others = [spot for spot in spots if math.dist(spot, (x, y)) > point]
        places: list[_Place] = []
        lowest = math.inf
        for reach in _REACH:
            for turn, (dx, dy) in enumerate(_DIRECTIONS):
                if reach / 4 + turn / 10 > lowest:
                    continue
                left = x + dx * reach * point - (width if dx < 0 else width / 2 if dx == 0 else 0)
                low = y + dy * reach * point - (height if dy < 0 else height / 2 if dy == 0 else 0)
                box = _Box(left, low, left + width, low + height)
                hidden = sum(_overlap(box, other) for other in (*marks, *written))
                outside = width * height - _overlap(box, frame)
                cost = 50 * (hidden + 2 * outside) / height**2 + reach / 4 + turn / 10
                if cost > lowest:
                    continue
                near = (min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1))  # where a line to the point ends
                leader = (x, y, *near)
                cost += 40 * sum(_crosses(line, box) for line in leaders)
                cost += 40 * sum(_crosses(leader, other) for other in written)
                cost += 4 * sum(_crosses(leader, other) for other in marks if not other.holds(x, y))
                cost += 20 * sum(_crosses(line, box) for line in avoided)
                own, beside = math.dist((x, y), near), min((_distance(box, *o) for o in others), default=math.inf)
                cost += 12 * (beside < 1.2 * own)
                lowest = min(lowest, cost)
                places.append(_Place(cost, near, box, own > min(8 * point, beside / 2)))
        place = min(places, key=lambda one: one.cost)
        leaders += [(x, y, *place.near)] * place.led
        written.append(place.box)
        found.append((label, (x, y), place))
    return found


def _overlap(a: _Box, b: _Box) -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    if width <= 0:
        return 0.0
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(width * height) if height > 0 else 0.0


def _distance(box: _Box, x: float, y: float) -> float:
    """Return how far a point is from a box; 0 within."""
    return math.hypot(max(box.x0 - x, x - box.x1, 0.0), max(box.y0 - y, y - box.y1, 0.0))


def _crosses(line: Segment, box: _Box) -> bool:
    """Return whether a line enters a box: by Liang and Barsky, cutting it at each side in turn."""
    x0, y0, x1, y1 = line
    begin, end = 0.0, 1.0
    for start, step, low, high in ((x0, x1 - x0, box.x0, box.x1), (y0, y1 - y0, box.y0, box.y1)):
        if step == 0:
            if not low <= start <= high:
                return False
            continue
        first, last = sorted(((low - start) / step, (high - start) / step))
        begin, end = max(begin, first), min(end, last)
    return begin <= end

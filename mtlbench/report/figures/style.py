"""How all figures look: sizes, fonts, colours, titles, and labels that don't collide. It knows no data.

Nothing here touches pyplot or a user's matplotlib settings: figures are made and saved without a backend being chosen.
"""

from __future__ import annotations

import math
import textwrap
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEAD = "head"
COLUMN, FULL = 3.3, 6.9  # inches: a column, and a page of two
GREY, FAINT, INK = "#767676", "#c9c9c9", "#222222"
TUNED = " · tuned"  # in the name of a row with a recipe

# Okabe and Ito's colours, which the colour-blind can tell apart: of the base, and of the core comparison.
_BASE = ("#000000", "s")
_CORE = (("#E69F00", "o"), ("#009E73", "^"), ("#D55E00", "P"), ("#56B4E9", "D"))
_COLOURS = ("#0072B2", "#CC79A7", "#882255", "#8C8C00", "#332288", "#7F5F3F")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
TASK_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#D55E00", "#8C8C00")

_SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same on every machine
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": "figure",
    "text.parse_math": False,  # a task's name may hold a dollar sign
    "pdf.fonttype": 42,  # publishers refuse type 3
    "svg.hashsalt": "mtlbench",  # the same data give the same file
}


@contextmanager
def styled() -> Iterator[None]:
    """Use the figures' settings within, whatever the user's are, and put the user's back."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # leaves the backend alone
        matplotlib.rcParams.update(_SETTINGS)
        yield


@dataclass(frozen=True)
class Look:
    """How one row is drawn everywhere; `fill` is matplotlib's fillstyle of its marker."""

    colour: str
    marker: str
    line: str = "-"
    fill: Any = "full"


def looks(rows: Iterable[str], core: Iterable[str] = (), base: str = "") -> dict[str, Look]:
    """Give each row the look of its method, by their names.

    The base is black, and methods of the core comparison have colours of their own. Which one follows from the name,
    so that it is the same in every suite, unless one before it in the alphabet has that colour in this suite: then it
    takes the next. When all of the core's colours are used, the rest are as other methods; when all of those are, they
    come again with other markers and dotted lines. Where a method has a row with its tuned recipe beside one without,
    tuned rows have dashed lines and half-filled markers.
    """
    methods = {row: row.replace(TUNED, "", 1) for row in rows}
    apart = any(method in methods for row, method in methods.items() if method != row)
    found = _by_method(set(methods.values()), core, base)
    for row, method in methods.items():
        look = found[method]
        if apart and row != method:
            look = replace(look, line="-." if look.line == ":" else "--", fill="left")
        found[row] = look
    return found


def _by_method(methods: set[str], core: Iterable[str], base: str) -> dict[str, Look]:
    found = {base: Look(*_BASE)} if base in methods else {}
    free = dict.fromkeys(range(len(_CORE)))
    for name in sorted(methods & set(core) - {base}):
        first = zlib.crc32(name.encode()) * len(_CORE) >> 32
        place = next((n for n in [*range(first, len(_CORE)), *range(first)] if n in free), None)
        if place is not None:
            del free[place]
            found[name] = Look(*_CORE[place])
    taken = set()
    for name in sorted(methods - set(found)):
        first = zlib.crc32(name.encode())
        places = ((turn, (first + n) % len(_COLOURS)) for turn in range(len(_MARKERS)) for n in range(len(_COLOURS)))
        turn, colour = next((place for place in places if place not in taken), (0, first % len(_COLOURS)))
        taken.add((turn, colour))
        found[name] = Look(_COLOURS[colour], _MARKERS[(colour + turn) % len(_MARKERS)], ":" if turn else "-")
    return found


def short(name: str, length: int = 28) -> str:
    """Return a name with its middle left out where it is too long."""
    keep = length // 2
    return name if len(name) <= length else f"{name[: length - keep]}…{name[-(keep - 1) :]}"


def shorts(names: Sequence[str], length: int = 28) -> list[str]:
    """Shorten names, but only those that stay different from each other."""
    cut = [short(name, length) for name in names]
    return [name if cut.count(part) > 1 else part for name, part in zip(names, cut, strict=True)]


def percent(value: float) -> str:
    """Write a number that is in per cent already."""
    return f"{value:.1f} %"


def count(number: int, what: str) -> str:
    """Write how many there are of something: `1 task`, `4 tasks`."""
    return f"{number} {what}{'s' * (number != 1)}"


def blank(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches; its layout keeps parts from running into each other."""
    from matplotlib.figure import Figure

    # the layout is made in the dots that are saved: letters' widths differ a little with their size in dots
    figure = Figure(figsize=(width, height), dpi=300 if width <= COLUMN else 220, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.03)  # type: ignore[union-attr,call-arg]
    return figure


def panel(ax: Axes | None, width: float, height: float) -> tuple[Figure, Axes]:
    """Return given axes with their figure, or axes that fill an empty one, sizes in inches."""
    if ax is None:
        figure = blank(width, height)
        return figure, figure.subplots()
    return cast("Figure", ax.figure), ax


def head(figure: Figure, what: str, where: str) -> None:
    """Write the title: what is shown, and below it, lighter, on which data and over how many seeds."""
    characters = int(figure.get_figwidth() * 16.5)
    line = 10.5 / 72 / figure.get_figheight()  # of 8 points with what lies between lines
    top = 1 - 0.4 * line
    for text, weight in ((what, "bold"), (where, "normal")):
        for part in textwrap.wrap(text, int(characters * (0.88 if weight == "bold" else 1))):
            figure.text(0.01, top, part, fontsize=8, fontweight=weight, va="top", gid=_HEAD)
            top -= line
    engine = figure.get_layout_engine()
    engine.set(rect=(0, 0, 1, top - 0.2 * line))  # type: ignore[union-attr,call-arg]


def head_share(figure: Figure) -> float:
    """Return which share of a figure's height its title takes, from the top; 0 without one."""
    line = 10.5 / 72 / figure.get_figheight()
    tops = [text.get_position()[1] for text in figure.texts if text.get_gid() == _HEAD]
    return 1 - (min(tops) - line) if tops else 0.0


def settle(figure: Figure) -> None:
    """Work out the layout once; it stays as it is in every format. Labels of axes are broken where they don't fit."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        if _break_labels(figure):
            engine.execute(figure)
    figure.set_layout_engine(None)  # "none" would leave one that has every file drawn twice


def _break_labels(figure: Figure) -> bool:
    """Break labels that don't fit: of y axes, longer than these are high; of x axes, wider than the figure has room.

    Return whether there was one.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    broken, page = False, figure.bbox
    for axes in figure.axes:
        label = axes.yaxis.label
        words, height = label.get_text(), axes.get_window_extent(renderer).height
        long = label.get_window_extent(renderer).height
        if " " in words and "\n" not in words and long > height:
            width = len(words) * height / long  # characters that fit
            axes.set_ylabel("\n".join(textwrap.wrap(words, max(1, int(width)), break_long_words=False)))
            broken = True
        below, box = axes.xaxis.label, axes.xaxis.label.get_window_extent(renderer)
        words = " ".join(below.get_text().split())
        room = 2 * min(page.x1 - (box.x0 + box.x1) / 2, (box.x0 + box.x1) / 2 - page.x0)  # it is centred
        if " " in words and box.width > room:
            longest = max(map(len, below.get_text().split("\n")))
            width = int(longest * room / box.width) - 1
            axes.set_xlabel("\n".join(textwrap.wrap(words, max(1, width), break_long_words=False)))
            broken = True
    return broken


def log_x(axes: Axes, low: float, high: float, most: int = 6) -> None:
    """Make the x axis logarithmic from `low` to `high`, with room at both ends and ticks that read as numbers.

    Where ticks at 1, 2 and 5 of every power of ten would be more than `most`, those at powers of ten are left.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    wide = high / low
    room = max(wide**0.08, 1.08)
    axes.set(xscale="log", xlim=(low / room, high * room))
    if wide > 2.5:
        subs = (1.0, 2.0, 3.0, 5.0, 7.0) if wide < 8 else (1.0, 2.0, 5.0) if 3 * math.log10(wide) < most else (1.0,)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
        axes.xaxis.set_minor_locator(LogLocator(subs=range(1, 10)))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


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


def legend(figure: Figure, lines: Sequence[Any]) -> None:
    """Write below a figure what its lines are, in as few rows as their labels' lengths allow.

    The figure grows by all rows but the first, so that the axes keep their height; its title comes after this.
    """
    from matplotlib.textpath import TextPath

    sizes = [TextPath((0, 0), str(line.get_label()), size=7).get_extents().width / 72 for line in lines]  # inches
    lengths = [size + 0.36 for size in sizes]  # with the line, and the room between columns
    width = figure.get_figwidth() - 0.1
    columns = len(lines) if sum(lengths) < width else max(1, int(width / max(lengths)))
    rows = -(-len(lines) // columns)
    figure.set_figheight(figure.get_figheight() + 0.15 * (rows - 1))
    figure.legend(handles=lines, loc="outside lower center", ncols=-(-len(lines) // rows), columnspacing=1.2,
                  handlelength=1.8, handletextpad=0.6)  # fmt: skip


def signed(value: float) -> str:
    """Write a number for a map's cell, with a true minus; nan is left empty."""
    return "" if math.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def colour_bar(figure: Figure, mappable: Any, axes: Sequence[Any], label: str, beyond: tuple[bool, bool]) -> None:
    """Put a flat colour bar below axes; its ends are pointed where values lie beyond, (below, above)."""
    from matplotlib.ticker import MaxNLocator

    extend = {(True, True): "both", (True, False): "min", (False, True): "max", (False, False): "neither"}[beyond]
    bar = figure.colorbar(
        mappable, ax=axes, orientation="horizontal", extend=extend, fraction=0.04, aspect=40, shrink=0.65, pad=0.02
    )
    bar.ax.tick_params(labelsize=6, width=0.5, length=2)
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(5)
    bar.set_label("\n".join(textwrap.wrap(label, int(figure.get_figwidth() * 13))), fontsize=7)


def heat(
    axes: Axes,
    values: npt.NDArray[np.float64],
    limit: float,
    rows: Sequence[str],
    columns: Sequence[str],
    numbers: npt.NDArray[np.str_] | None,
    **settings: Any,
) -> None:
    """Draw a map of values around 0, (rows, columns), red below and blue above, with `numbers` in its cells if given.

    Nan stays white. Names of columns stand upright; without any of either, none are written.
    """
    from seaborn import heatmap  # type: ignore[import-untyped]

    small = numbers is None
    figure, engine = axes.figure, axes.figure.get_layout_engine()
    figure.set_layout_engine(None)  # type: ignore[union-attr]  # seaborn draws the figure
    heatmap(
        values, ax=axes, cmap="vlag_r", vmin=-limit, vmax=limit, cbar=False, linewidths=0.4, linecolor="white",
        annot=numbers, fmt="", xticklabels=False, yticklabels=False, rasterized=small and values.size > 100, **settings,
    )  # fmt: skip
    figure.set_layout_engine(engine)  # type: ignore[union-attr]
    # seaborn would measure every label to see whether they collide; here the figure's size sees to that
    for axis, names in ((axes.xaxis, columns), (axes.yaxis, rows)):
        axis.set_ticks([n + 0.5 for n in range(len(names))], names)
        axis.set_label_coords(0.5, 0.5)  # there is none: to place it, every name would be measured at every drawing
    axes.grid(False)
    axes.tick_params(length=0, labelsize=6 if small and values.size > 100 else 7, pad=2)
    axes.tick_params(axis="x", labelrotation=90)


@dataclass(frozen=True)
class Drawing:
    """One figure: the stem of its files' names, its heading, of what it is, what it shows in words, and the figure.

    `says` is one sentence that says what it shows of these data; `alt` says more, for those who can't see it.
    """

    stem: str
    heading: str
    where: str
    alt: str
    figure: Figure
    says: str = ""

    @property
    def title(self) -> str:
        """Its heading, and of what it is."""
        return f"{self.heading}. {self.where}"

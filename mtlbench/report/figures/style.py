"""How all figures look: sizes, fonts, colours and titles. It knows no data.

Nothing here touches pyplot or a user's matplotlib settings: figures are made and saved without a backend being chosen.
"""

from __future__ import annotations

import math
import textwrap
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
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
_LINES = ("-", "--", "-.", ":")  # of a method's rows; where its own line is dotted, from the end
_FILLS = ("full", "left", "right", "top", "bottom")
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


def looks(
    rows: Iterable[str], core: Iterable[str] = (), base: str = "", of: Mapping[str, str] | None = None
) -> dict[str, Look]:
    """Give each row, and each method, a look by their names.

    The base is black, and methods of the core comparison have colours of their own. Which one follows from the name,
    so that it is the same in every suite, unless one before it in the alphabet has that colour in this suite: then it
    takes the next. When all of the core's colours are used, the rest are as other methods; when all of those are, they
    take what the core left; then they come again with other markers and dotted lines. Colour and marker are a
    method's; where one has several rows, such as one with its tuned recipe, their lines and fills differ, which mean
    the same for all methods.

    Args:
        rows: their names.
        core, base: methods.
        of: the method of each row, with which its name begins; without it, each is its own.
    """
    of = {row: row for row in rows} if of is None else {row: of[row] for row in rows}
    found = _by_method(set(of.values()), core, base)
    kinds: list[str] = []
    if len(set(of.values())) < len(of):
        kinds = sorted({row.removeprefix(method) for row, method in of.items()})
    for row, method in of.items():
        look = found[method]
        if kinds:
            place = kinds.index(row.removeprefix(method))
            lines = _LINES[::-1] if look.line == ":" else _LINES
            look = replace(look, line=lines[place % len(lines)], fill=_FILLS[place % len(_FILLS)])
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
    spare = [*(_CORE[place] for place in free), *[_BASE] * (base not in methods)]
    for name in sorted(methods - set(found)):
        first = zlib.crc32(name.encode())
        places = ((turn, (first + n) % len(_COLOURS)) for turn in range(len(_MARKERS)) for n in range(len(_COLOURS)))
        turn, colour = next((place for place in places if place not in taken), (0, first % len(_COLOURS)))
        if turn and spare:
            found[name] = Look(*spare.pop(0))
            continue
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
    """Make the x axis reach from `low` to `high`, with room at both ends and ticks that read as numbers.

    It is logarithmic if the one is more than 2.5 times the other; for less it would look the same. Where ticks at 1, 2
    and 5 of every power of ten would be more than `most`, those at powers of ten are left.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    wide = high / low
    room = max(wide**0.08, 1.08)
    axes.set(xscale="log" if wide > 2.5 else "linear", xlim=(low / room, high * room))
    if wide > 2.5:
        subs = (1.0, 2.0, 3.0, 5.0, 7.0) if wide < 8 else (1.0, 2.0, 5.0) if 3 * math.log10(wide) < most else (1.0,)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
        axes.xaxis.set_minor_locator(LogLocator(subs=range(1, 10)))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def logarithmic(axis: Axis) -> str:
    """Return what the label of an axis says of its scale."""
    return " (logarithmic)" if axis.get_scale() == "log" else ""


def plain_numbers(axes: Axes) -> None:
    """Write the numbers of a logarithmic y axis as numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis = axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


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


def signed(value: float, digits: int = 2, plus: bool = False) -> str:
    """Write a number with a true minus, and with a plus if wanted; 0 has no sign, and nan is left empty."""
    text = f"{value:{'+' * plus}.{digits}f}"
    return "" if math.isnan(value) else text.replace("-", "−") if float(text) else text.lstrip("+-")


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
    import numpy as np
    from seaborn import heatmap  # type: ignore[import-untyped]

    small = numbers is None
    figure, engine = axes.figure, axes.figure.get_layout_engine()
    figure.set_layout_engine(None)  # type: ignore[union-attr]  # seaborn draws the figure
    heatmap(
        values, ax=axes, cmap="vlag_r", vmin=-limit, vmax=limit, cbar=False, linewidths=0.4, linecolor="white",
        annot=numbers, fmt="", xticklabels=False, yticklabels=False, rasterized=small and values.size > 100, **settings,
    )  # fmt: skip
    figure.set_layout_engine(engine)  # type: ignore[union-attr]
    if numbers is not None:  # seaborn writes none where there is no value
        how = settings.get("annot_kws", {})
        for y, x in zip(*np.nonzero(np.isnan(values)), strict=True):
            axes.text(x + 0.5, y + 0.5, numbers[y, x], ha="center", va="center", color=INK, **how)
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

"""The figure of storage against the number of tasks, from what runs measured of their own networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mtlbench.names import joined
from mtlbench.report.columns import three_figures
from mtlbench.report.figures.data import Array
from mtlbench.report.figures.scene import Scene, method_lines
from mtlbench.report.figures.style import COLUMN, FAINT, Drawing, blank, count, head, legend, plain_numbers

MOST_TASKS = 40  # CelebA's attributes
_APART = 0.025  # of the axis; lines that are nearer lie on each other
_DASH = 4.0  # in widths of a line
_WORTH_SAYING = 1.1  # times


def storage_by_tasks(scene: Scene) -> Drawing | None:
    """Draw how many bytes each method's network would take for 1 to 40 tasks; None where fewer than two are known.

    Two numbers of a run's record, both counted from its network: the stored file at the suite's T tasks, and what one
    more task adds. A line through them is exact for networks that add the same for every task; for those with weights
    between every two tasks, such as cross-stitch, it leaves out what their squares add.
    """
    here = len(scene.tasks)
    most = max(MOST_TASKS, 2 * here)
    sizes = {
        method.name: (method.cost("file_bytes")[0] / 1e6, method.cost("bytes_added")[0] / 1e6)
        for method in scene.methods
    }
    shown = [method for method in scene.methods if not any(map(math.isnan, sizes[method.name]))]
    if len(shown) < 2:
        return None
    prominent = scene.prominent(shown)
    tasks = np.arange(1, most + 1)
    figure = blank(COLUMN, 3.0)
    axes = figure.subplots()
    # a file's header and what all tasks share stay: fewer tasks can't take less than that
    curves = {name: np.maximum(size + added * (tasks - here), size / here) for name, (size, added) in sizes.items()}
    low, high = (end([end(curves[method.name]) for method in shown]) for end in (np.min, np.max))
    span = max(high / low, 2.0)  # sizes that hardly differ look it
    dashes = _in_turn([method.name for method in prominent], curves, math.log(span))
    for method in sorted(shown, key=lambda m: m in prominent):
        size, _ = sizes[method.name]
        look, plain = scene.looks[method.name], method not in prominent
        colour = FAINT if plain else look.colour
        axes.plot(tasks, curves[method.name], color=colour, ls=dashes.get(method.name, look.line),
                  lw=0.6 if plain else 1.2, zorder=1 + 2 * (not plain), gid=method.name)  # fmt: skip
        axes.plot([here], [size], color=colour, marker=look.marker, fillstyle=look.fill,
                  markerfacecoloralt="white", ls="", ms=4, zorder=4)  # fmt: skip
    axes.set(xlabel="tasks", ylabel="storage, MB (logarithmic)", yscale="log", xlim=(0, most + 1))
    axes.set_ylim(low / span**0.05, low * span**1.05)
    axes.axvline(here, color=FAINT, lw=0.6, zorder=0)
    plain_numbers(axes)
    ends = {m.label: sizes[m.name][0] + sizes[m.name][1] * (most - here) for m in shown}
    lines = method_lines(scene, prominent, others=len(shown) - len(prominent))
    for line, method in zip(lines, prominent, strict=False):  # lines may lie on each other: their ends are written
        line.set_label(f"{line.get_label()}: {three_figures(ends[method.label])}")
    legend(figure, lines)
    title = "Storage against the number of tasks"
    where = (
        f"{scene.about}; from these records: marks are files at {count(here, 'task')}, lines continue with the bytes"
        f" that one more task adds; numbers: MB at {most} tasks"
    )
    where += "; lines that coincide take turns" * bool(dashes)
    head(figure, title, where)
    order = sorted(ends, key=lambda name: (ends[name], name))
    alt = f"At {most} tasks: {joined([f'{name} {three_figures(ends[name])} MB' for name in order], 8)}."
    texts = {name: f"{three_figures(size)} MB" for name, size in ends.items()}
    small, large = ([name for name in order if texts[name] == texts[order[end]]] for end in (0, -1))
    says = f"At {most} tasks {joined(large, 4)} would take {texts[large[0]]}"
    if small != large:
        times = ends[large[-1]] / ends[small[0]]
        less = f", {times:,.3g} times less" if times >= _WORTH_SAYING else ""
        says += f" and {joined(small, 4)} {texts[small[0]]}{less}"
    says += "."
    return Drawing("storage-tasks", title, where, alt, figure, says)


def _in_turn(
    names: Sequence[str], curves: Mapping[str, Array], span: float
) -> dict[str, tuple[float, tuple[float, float]]]:
    """Return dashes for lines that lie on each other on an axis of that span, so that each shows in others' gaps."""
    found: dict[str, tuple[float, tuple[float, float]]] = {}
    left = list(names)
    while left:
        first = left[0]
        alike = [name for name in left if np.abs(np.log(curves[name] / curves[first])).max() < _APART * span]
        left = [name for name in left if name not in alike]
        if len(alike) > 1:
            gap = _DASH * (len(alike) - 1)
            found |= {name: (-_DASH * n, (_DASH, gap)) for n, name in enumerate(alike)}
    return found

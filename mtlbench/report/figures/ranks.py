"""The figure of mean ranks over data sets, with the critical difference where a test holds."""

from __future__ import annotations

from collections.abc import Mapping

from mtlbench.names import joined
from mtlbench.report.figures.style import FAINT, FULL, GREY, INK, Drawing, Look, blank, count, head, shorts
from mtlbench.report.ranks import LEVEL, Ranks


def mean_ranks(ranks: Ranks, look: Mapping[str, Look]) -> Drawing:
    """Draw each method's mean rank, its ranks on the single data sets small beside it.

    Where there is a critical difference, thick lines join methods whose mean ranks don't differ (Demšar 2006).
    """
    means = ranks.means
    number = len(ranks.methods)
    groups = ranks.groups
    figure = blank(FULL, 1.25 + 0.2 * number + 0.1 * (len(groups) + 2 * (ranks.critical is not None)))
    axes = figure.subplots()
    for row, (method, mean, single) in enumerate(zip(ranks.methods, means, ranks.ranks, strict=True)):
        axes.plot(single, [row] * len(single), ls="", marker="o", ms=3, color=FAINT, zorder=1)
        axes.plot([mean], [row], ls="", marker=look[method].marker, ms=5.5, color=look[method].colour, zorder=3,
                  gid=method)  # fmt: skip
    axes.set_yticks(range(number), shorts(list(ranks.methods)))
    axes.set(xlabel="rank by mean accuracy, 1 is the highest", xlim=(0.6, number + 0.4))
    low = number - 0.3
    for step, (first, last) in enumerate(groups):
        axes.plot([means[first], means[last]], [low + 0.5 * step] * 2, color=INK, lw=2.5, gid="group")
    low += 0.5 * len(groups)
    if ranks.critical is not None:
        axes.plot([1, 1 + ranks.critical], [low + 0.6] * 2, color=GREY, lw=1, marker="|", gid="critical")
        axes.annotate(f"critical difference {ranks.critical:.2f}", (1 + ranks.critical, low + 0.6), xytext=(5, 0),
                      textcoords="offset points", va="center", fontsize=7)  # fmt: skip
        low += 1.1
    axes.set_ylim(low + 0.2, -0.7)
    what = "rendered images" if ranks.rendered else "real images"
    title = "Mean rank over data sets" + (": critical-difference diagram" if ranks.critical is not None else "")
    where = f"{count(len(ranks.suites), 'suite')} of {what}; small: the rank on each of them"
    if groups:
        where += f"; joined: mean ranks that don't differ at {100 * LEVEL:g} %"
    head(figure, title, where)
    parts = [f"{method} {mean:.2f}" for method, mean in zip(ranks.methods, means, strict=True)]
    over = f"Over {count(len(ranks.suites), 'suite')} of {what}"
    if ranks.critical is None:
        told = "which of them differ is not tested" if ranks.p is None else "none differ significantly"
        says = f"{over} mean ranks range from {means[0]:.2f} to {means[-1]:.2f}; {told}."
    else:  # nobody is first before those whose mean rank does not differ
        near = [name for name, mean in zip(ranks.methods, means, strict=True) if mean - means[0] <= ranks.critical]
        says = f"{over} the lowest mean rank is {means[0]:.2f}, of {near[0]}"
        if len(near) > 1:
            says = f"{over} the lowest mean ranks, which do not differ by the test, are those of {joined(near, 6)}"
        says += f"; the highest is that of {parts[-1]}."
    test = f" Friedman's test: p = {ranks.p:.2g}." if ranks.p is not None else ""
    stem = f"mean-ranks-{'rendered' if ranks.rendered else 'real'}"
    return Drawing(stem, title, where, f"Mean ranks: {', '.join(parts)}.{test}", figure, says)

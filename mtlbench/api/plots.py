"""Figures of results on matplotlib axes, in the look of mtlbench's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtlbench.errors import UserError, counted
from mtlbench.report.figures import accuracy
from mtlbench.report.figures.scene import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mtlbench.api.results import Results

_COSTS = {"storage": accuracy.STORAGE, "embedding": accuracy.EMBEDDING, "training": accuracy.TRAINING}


class Plots:
    """`Results.plot`: each draws on `ax`, or on axes of a new pyplot figure, and returns the axes."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def _scene(self) -> Scene:
        scene = Scene.of(self._results.one, self._results.folder)
        if not scene.methods:
            raise UserError(f"{self._results!r}: no run is finished, so there is nothing to draw.")
        return scene

    def pareto(self, cost: str = "storage", ax: Axes | None = None) -> Axes:
        """Draw mean accuracy against a cost, with the Pareto front.

        Args:
            cost: `storage` (MB of the file), `embedding` (images/s, all tasks) or `training` (images/s).
            ax: where to draw.

        Raises:
            UserError: fewer than two methods have that cost, or there is no such cost.

        Example:
            >>> from matplotlib.figure import Figure
            >>> from mtlbench import results
            >>> found = results("results/published", "shoes-quick")
            >>> axes = found.plot.pareto("storage", ax=Figure().subplots())
            >>> {"shared", "modulation"} <= {text.get_text() for text in axes.texts}
            True
        """
        if cost not in _COSTS:
            raise UserError(f"There is no cost {cost!r} to draw. Take one of: {', '.join(_COSTS)}.")
        axes = _axes(ax)
        if accuracy.accuracy_against(self._scene(), _COSTS[cost], axes) is None:
            raise UserError(f"Fewer than two methods have a measured cost {cost!r}.")
        return _plain(axes)

    def heatmap(self, ax: Axes | None = None) -> Axes:
        """Draw every method's accuracy on every task; colours are differences to the base, or to the mean.

        Raises:
            UserError: one method with nothing to compare it with, on too many tasks for numbers.

        Example:
            >>> from matplotlib.figure import Figure
            >>> from mtlbench import results
            >>> axes = results("results/published", "shoes-quick").plot.heatmap(ax=Figure().subplots())
            >>> [label.get_text() for label in axes.get_xticklabels()]
            ['mean', 'category', 'closure', 'gender', 'heel']
        """
        scene = self._scene()
        axes = _axes(ax)
        if accuracy.heat_map(scene, axes) is None:
            name = scene.methods[0].name
            raise UserError(f"{name} alone, on {counted(len(scene.tasks), 'task')}, has nothing to be compared with.")
        return _plain(axes)

    def curves(self, by: str = "step", ax: Axes | None = None) -> Axes:
        """Draw mean validation accuracy while training: the mean over seeds, and a band from lowest to highest.

        Args:
            by: `step`, or `seconds` of training.
            ax: where to draw.

        Raises:
            UserError: no run kept a curve, or one without seconds.

        Example:
            >>> from matplotlib.figure import Figure
            >>> from mtlbench import results
            >>> axes = results("results/published", "shoes-quick").plot.curves("step", ax=Figure().subplots())
            >>> axes.get_xlabel()
            'training step'
        """
        if by not in ("step", "seconds"):
            raise UserError(f"Curves are by 'step' or by 'seconds', not by {by!r}.")
        axes = _axes(ax)
        if accuracy.learning_curves(self._scene(), axes, by) is None:
            raise UserError(f"No run kept a curve by {by}.")
        return _plain(axes)


def _plain(axes: Axes) -> Axes:
    """Show every text on axes as it is: a name with two dollar signs is no formula, whatever the user's settings."""
    from matplotlib.text import Text

    for text in axes.findobj(Text):
        text.set_parse_math(False)
        text.set_usetex(False)
    return axes


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    from matplotlib import pyplot

    axes: Axes = pyplot.subplots(layout="constrained")[1]
    return axes

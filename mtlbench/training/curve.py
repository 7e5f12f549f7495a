"""The training curve: losses, weights and gradient norms by step, thinned to means where a run is long."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtlbench.training.state import Row, State, TrainingError

_EVEN = 0.01  # weights nearer to 1 are 1; a share of the sum nearer to 1 is all
CURVE_ROWS = 1000  # a longer run's curve holds means over windows of steps


class Curve:
    """Collects what steps log, on the device until `flush` looks at it.

    Args:
        tasks: the T names.
        steps: of the whole run.
    """

    def __init__(self, tasks: Sequence[str], steps: int) -> None:
        self.tasks, self.steps = tuple(tasks), steps
        self.names: list[str] = []  # of the columns; the first step tells whether the balancer gives norms
        self._pending: list[Tensor] = []  # of the latest steps, one row each of what `names` says
        self._window: list[tuple[float, list[float]]] = []  # seconds and row of steps that wait for their mean

    def log(self, losses: Tensor, weights: Tensor, norms: Tensor | None, norm: Tensor) -> None:
        """Take one step's numbers.

        Args:
            losses: (T,); weights: (T,), the balancer's; norms: (T,), of the tasks' gradients, where it computes them.
            norm: (), of the whole gradient.

        Raises:
            TrainingError: the balancer gives norms at some steps alone.
        """
        parts = {"loss": losses, "weight": weights} | ({} if norms is None else {"gradient_norm": norms})
        names = [*(f"{what}/{task}" for what in parts for task in self.tasks), "gradient_norm"]
        self.names = self.names or names
        if names != self.names:
            raise TrainingError("the balancer holds gradient_norms after some steps and None after others")
        self._pending.append(torch.cat([part.float() for part in (*parts.values(), norm.view(1))]))

    def flush(self, state: State, seconds: float, *, close: bool) -> None:
        """Move what the latest steps logged into the state's curve.

        Args:
            state: whose curve and seconds grow.
            seconds: that these steps took.
            close: end the window of steps whose mean makes a row of the curve, full or not.

        Raises:
            TrainingError: a number is not finite.
        """
        rows = torch.stack(self._pending).cpu() if self._pending else torch.empty(0, len(self.names))
        self._pending = []
        first = state.step - len(rows)
        self._check(rows, first)
        self._count(rows, state)
        size = max(1, self.steps // CURVE_ROWS)
        for number, row in enumerate(rows.tolist(), 1):
            state.seconds += seconds / len(rows)
            self._window.append((state.seconds, row))
            if len(self._window) == size or (close and number == len(rows)):
                state.curve.append({"step": first + number, "seconds": self._window[-1][0]} | self._means())
                self._window = []

    def _count(self, rows: Tensor, state: State) -> None:
        """Count the steps in which the balancer decided nothing, or for one task alone."""
        if not len(rows):
            return
        number = len(self.tasks)
        weights = rows[:, number : 2 * number]
        off = (weights - 1).abs().amax(1)
        state.even_steps += int((off < _EVEN).sum())
        state.single_steps += int((weights.amax(1) > (1 - _EVEN) * weights.sum(1)).sum())
        state.farthest_weight = max(state.farthest_weight, float(off.max()))

    def _means(self) -> Row:
        means = [sum(column) / len(self._window) for column in zip(*(r for _, r in self._window), strict=True)]
        logged = dict(zip(self.names, means, strict=True))
        return logged | {"weight_sum": sum(logged[f"weight/{task}"] for task in self.tasks)}

    def _check(self, rows: Tensor, first: int) -> None:
        if rows.isfinite().all():
            return
        step = int(torch.nonzero(~rows.isfinite().all(1))[0])
        column = int(torch.nonzero(~rows[step].isfinite())[0])
        what, _, task = self.names[column].partition("/")
        of = f" of {task}" if task else ""
        raise TrainingError(
            f"the {what.replace('_', ' ')}{of} became {rows[step, column].item()} at step {first + step + 1}"
        )


def constant_share(curve: Sequence[Row], tasks: Sequence[str]) -> float:
    """Return the share of a curve's rows whose weights are, to 0.01, those of its last row."""
    if not curve:
        return 0.0
    last = curve[-1]
    return sum(all(abs(row[f"weight/{t}"] - last[f"weight/{t}"]) < _EVEN for t in tasks) for row in curve) / len(curve)

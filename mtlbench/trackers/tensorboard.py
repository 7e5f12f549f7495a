"""Runs in TensorBoard: `tensorboard --logdir results/<benchmark>/tensorboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtlbench.trackers.contract import TrackedRun, Tracker, register_tracker
from mtlbench.training.events import Event, Started, StepWindow, Validation


@register_tracker("tensorboard", needs=("tensorboard",), extra="tensorboard")
class TensorBoard(Tracker):
    """Losses, speed and validation in TensorBoard's files.

    Args:
        folder: where they go, each run in a folder `<method>/seed-<n>` of its own; by default a folder `tensorboard`
            beside the methods' results.
    """

    def __init__(self, run: TrackedRun, *, folder: str = "") -> None:
        super().__init__(run)
        self.folder = Path(folder, run.variant, f"seed-{run.seed}") if folder else run.folder("tensorboard")
        self.writer: Any = None

    def handle(self, event: Event) -> None:
        """Write the event's numbers at its step."""
        if isinstance(event, Started):
            from torch.utils.tensorboard import SummaryWriter  # takes a second: only where it is wanted

            # what an interrupted or replaced run wrote beyond this step is not shown
            self.writer = SummaryWriter(self.folder, purge_step=event.step + 1 if event.step else 0)
        elif isinstance(event, StepWindow):
            self._write(event, {f"loss/{task}": loss for task, loss in event.losses.items()})
            self._write(event, {"loss": event.loss, "images_per_second": event.images_per_second})
        elif isinstance(event, Validation):
            self._write(event, {f"accuracy/{task}": accuracy for task, accuracy in event.accuracy.items()})
            self._write(event, {"criterion": event.criterion})
            self.writer.flush()

    def _write(self, event: Event, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, event.step)

    def close(self) -> None:
        """Close the file."""
        if self.writer:
            self.writer.close()

"""`mtlbench profile`: where the time of a training step goes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlbench.cli.live import terminal
from mtlbench.cli.options import (
    DataDirOption,
    DatasetOption,
    DeviceOption,
    PluginsOption,
    QuickOption,
    SettingsOption,
    TasksOption,
)
from mtlbench.cli.planned import tell_busy
from mtlbench.cli.progress import say, status
from mtlbench.errors import counted

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.training.profile import Profile


def profile(
    methods: Annotated[str, typer.Argument(help="Methods or groups: modulation, core.", show_default=False)],
    dataset: DatasetOption,
    quick: QuickOption = False,
    data_dir: DataDirOption = None,
    tasks: TasksOption = None,
    settings: SettingsOption = None,
    steps: Annotated[int, typer.Option(min=1, help="How many steps of each method.")] = 20,
    trace: Annotated[
        Path | None,
        typer.Option(help="Write two steps of one method to this file, for ui.perfetto.dev.", show_default=False),
    ] = None,
    device: DeviceOption = "auto",
    plugins: PluginsOption = None,
) -> None:
    """Show where the time of a method's training steps goes, beside the time of the network alone.

    Takes real steps of a run that is then thrown away; writes no record.
    """
    from rich.console import Console

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # what torch's profiler would write into the table
    console = Console()
    with status(console, "loading torch …"):
        from mtlbench.devices import device_name
        from mtlbench.errors import UserError
        from mtlbench.jobs.experiment import plan_experiment, read_experiment, resources_of
        from mtlbench.jobs.job import Site
        from mtlbench.plugins import load_given
        from mtlbench.training.loop import Trainer
        from mtlbench.training.profile import profile_steps

    view = terminal(console)
    for broken in load_given(plugins or []):
        view.warn(f"warning: {broken}")
    experiment = read_experiment(
        view, dataset=dataset, methods=methods, quick=quick, seeds=[0], settings=settings or [], vary=[], tasks=tasks,
        site=Site(data_dir, device, tuple(plugins or ())), results=Path("results"), overwrite=True,
    )  # fmt: skip
    if trace is not None:
        _check_trace(trace, len(experiment.methods))
    with resources_of(experiment):
        (part,) = plan_experiment(experiment, view)
        data, benchmark = part.dataset, part.variant.benchmark
        say(
            console,
            f"{benchmark.title} ({benchmark.name}): {counted(len(data.tasks), 'task')}, {benchmark.model.backbone},"
            f" {'x'.join(map(str, benchmark.data.size))} px, {device_name(data.device)}, {part.precision},"
            f" medians of {steps} step{'s' * (steps > 1)}",
        )
        tell_busy(console, "On an idle machine steps are faster, perhaps with other shares", data.device.type)
        for job in part.jobs:
            with status(console, f"taking steps of {job.method.name} …"):
                try:
                    trainer = Trainer(job.method, benchmark, data, 0, part.precision)
                    found = profile_steps(trainer, steps, trace)
                except OSError as error:
                    raise UserError(f"--trace {trace} can't be written: {error.strerror}.") from error
            _show(console, job.method.name, found)
    if trace is not None:
        say(console, f"Trace: {trace}; open it at https://ui.perfetto.dev, which keeps it in your browser.")


def _check_trace(trace: Path, methods: int) -> None:
    """Refuse a trace that can't be written before any step is taken.

    Raises:
        UserError: several methods, a folder, or no folder to put it in.
    """
    from mtlbench.errors import UserError

    if methods > 1:
        raise UserError(f"--trace holds the steps of one method, and {methods} were named: name one.")
    if trace.is_dir() or not trace.parent.is_dir():
        raise UserError(f"--trace {trace} can't be written: it is a folder, or its folder does not exist. Name a file.")


def _show(console: Console, name: str, found: Profile) -> None:
    """Print one method's table."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("part of a step", "ms", "share"):
        table.add_column(heading, justify="left" if heading.startswith("part") else "right")
    total = sum(found.parts.values())
    for part, seconds in found.parts.items():
        table.add_row(part, f"{1e3 * seconds:.2f}", f"{100 * seconds / total:.1f} %")
    table.add_section()
    table.add_row("a step", f"{1e3 * found.seconds:.2f}", "100.0 %")
    table.add_row("network alone", f"{1e3 * found.network:.2f}", f"{100 * found.network / found.seconds:.1f} %")
    table.add_row("outside the network", f"{1e3 * (found.seconds - found.network):.2f}", f"{100 * found.outside:.1f} %")
    if found.waits is not None:
        table.add_row(
            f"waits for the device, {found.waits[0]:.1f}",
            f"{1e3 * found.waits[1]:.2f}",
            f"{100 * found.waits[1] / found.seconds:.1f} %",
        )
    console.print()
    say(console, name, "bold")
    console.print(table)
    say(
        console,
        f"{found.images / found.seconds:,.0f} images/s; the network alone, one pass forward and one backward on images"
        f" in memory: {found.images / found.network:,.0f}",
    )

"""Options that several commands take, in the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtlbench.names import names_in


def benchmarks(incomplete: str) -> list[str]:
    """Return the bundled benchmarks and local files that begin with what was typed, for the shell's completion."""
    from mtlbench.benchmark import benchmark_files

    names = [*benchmark_files(), *(str(path) for path in Path().glob("*.toml"))]
    return [name for name in names if name.startswith(incomplete)]


DatasetOption = Annotated[
    str,
    typer.Option(
        help="A benchmark (see: mtlbench list benchmarks) or the path of your own .toml.", autocompletion=benchmarks
    ),
]
MethodsOption = Annotated[
    str, typer.Option(help="Groups, methods and patterns, joined by commas: core, 'mod*', film\\[after=3]+pcgrad.")
]
QuickOption = Annotated[
    bool, typer.Option("--quick", help="A short protocol for two CPU cores instead of the full one.")
]
DataDirOption = Annotated[Path | None, typer.Option(help="The data set's folder.", show_default=False)]
ImagesOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="The folder of the test images.", show_default="where mtlbench run looks"),
]
TasksOption = Annotated[
    str | None,
    typer.Option(help="Tasks by name, joined by commas; one that holds a comma in double quotes.", show_default=False),
]
SomeTasksOption = Annotated[str, typer.Option("--tasks", help="Tasks by name, joined by commas.", show_default="all")]
OldTaskOption = Annotated[list[str] | None, typer.Option("--task", hidden=True, help="The old name of --tasks.")]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change the protocol: --set train.steps=500; may be repeated.", show_default=False),
]
DeviceOption = Annotated[str, typer.Option(help="Where networks run: auto, cpu, cuda, cuda:1.")]
PluginsOption = Annotated[
    list[Path] | None,
    typer.Option(help="A file or folder with methods of your own; may be repeated.", show_default=False),
]
ResultsOption = Annotated[Path, typer.Option(help="The folder of run records.")]
NotesOption = Annotated[
    bool,
    typer.Option(
        "--notes", help="All columns and the small print: data, device, versions and how everything was measured."
    ),
]
RunArgument = Annotated[
    Path,
    typer.Argument(help="A run's folder, such as results/shoes-quick/modulation@tuned/seed-0.", show_default=False),
]

JobsOption = Annotated[
    int | None, typer.Option(min=1, help="How many runs at a time, each in its own process.", show_default="1")
]
OnOption = Annotated[
    str | None,
    typer.Option(
        help="Where to run: here, processes, ray\\[address=auto], slurm\\[partition=gpu].", show_default="here"
    ),
]


def task_words(tasks: str, old: list[str] | None) -> list[str]:
    """Return the words of `--tasks` and of its old name, in their order."""
    return [word for words in (tasks, *(old or [])) for word in names_in(words)]

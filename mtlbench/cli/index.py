"""`mtlbench index`: embeds a folder of images once, for many searches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtlbench.cli.options import DeviceOption, OldTaskOption, PluginsOption, SomeTasksOption, task_words
from mtlbench.cli.search import open_model, tell_left_out


def index(
    folder: Annotated[Path, typer.Argument(help="A folder of images, with or without subfolders.", show_default=False)],
    model: Annotated[Path, typer.Option(help="The network: a run's folder or an exported file.", show_default=False)],
    tasks: SomeTasksOption = "",
    task: OldTaskOption = None,
    output: Annotated[Path, typer.Option(help="The index to write, for mtlbench search --index.")] = Path(
        "index.safetensors"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing index.")] = False,
    device: DeviceOption = "auto",
    plugins: PluginsOption = None,
) -> None:
    """Save the embeddings of a folder of images, for `mtlbench search --index`."""
    from rich.console import Console

    from mtlbench.cli.progress import bar, say, status
    from mtlbench.errors import UserError
    from mtlbench.names import listed

    console = Console()
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder.")
    with status(console, "loading torch …"):
        from mtlbench import index as engine
    if output.suffix != engine.ENDING:
        raise UserError(f"--output {output}: end its name in {engine.ENDING}.")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}.")
    if output.exists() and not (overwrite and engine.is_index(output)):
        what = "is no index and is left as it is" if overwrite else "exists already; add --overwrite to replace it"
        raise UserError(f"{output} {what}, or choose another name with --output.")
    loaded = open_model(console, model, device, plugins)
    chosen = list(dict.fromkeys(map(loaded.find_task, task_words(tasks, task)))) or loaded.tasks
    with bar(console, "embedding images") as progress:
        made, left = engine.make_index(loaded, folder, chosen, output, progress)
    tell_left_out(console, left)
    images = f"{len(made.names):,} image{'s' * (len(made.names) != 1)}"
    say(console, f"index: {output} ({images} under {listed(made.tasks)}; {output.stat().st_size:,} bytes)")

"""`mtlbench export`: one file that embeds raw images as a run's network does, with a model card."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlbench.cli.options import ImagesOption, PluginsOption, RunArgument
from mtlbench.cli.planned import tell_busy
from mtlbench.cli.search import open_run

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.search import Run


class Format(StrEnum):
    """What a network is exported to."""

    onnx = "onnx"
    torch = "torch"
    safetensors = "safetensors"


class Precision(StrEnum):
    """The numbers in which an exported network keeps its weights and computes."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


def export(
    run: RunArgument,
    format: Annotated[
        Format,
        typer.Option(help="onnx; torch: a program of torch.export (.pt2); safetensors: the weights alone."),
    ] = Format.onnx,
    task: Annotated[str, typer.Option(help="Embed under this task alone: (N, D).", show_default="all tasks")] = "",
    all_tasks: Annotated[
        bool, typer.Option("--all-tasks", help="Embed under every task: (T, N, D). The default.")
    ] = False,
    precision: Annotated[
        Precision, typer.Option(help="The numbers of weights and computation: fp32, fp16; int8 with ONNX.")
    ] = Precision.fp32,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The file; its card goes beside it.",
            show_default="named after the run, here",
        ),
    ] = None,
    data_dir: ImagesOption = None,
    plugins: PluginsOption = None,
) -> None:
    """Write one file that embeds raw images as a run does, check it against the run, and write its model card."""
    from rich.console import Console

    from mtlbench.cli.progress import bar, say, status
    from mtlbench.errors import UserError
    from mtlbench.runs.sizes import keep_sizes

    console = Console()
    if task and all_tasks:
        raise UserError("--task and --all-tasks exclude each other: give one of them.")
    with status(console, "loading torch …"):
        from mtlbench.export import exporting, formats
    formats.check_installed(format.value)
    exporting.check_precision(format.value, precision.value)
    loaded = open_run(console, run, plugins)
    index = loaded.tasks.index(loaded.find_task(task)) if task else None
    file = exporting.target(loaded, format.value, index, precision.value, output)
    files, training, why = _images(console, loaded, data_dir)
    with bar(console, "comparing embeddings") as progress:
        made = exporting.export(loaded, format.value, file, index, precision.value, files, why, progress, training)
    found = made.check
    say(console, f"file: {made.file} ({found.bytes:,} bytes)")
    say(console, f"card: {made.card}")
    images = f"{found.images:,} {'random' if found.random else 'test'} images"
    say(
        console,
        f"largest difference to the run's network in float32: {found.difference:.3g}, of numbers up to"
        f" {found.largest:.3g}, on {images}.",
    )
    if found.stored is not None:
        say(console, f"largest difference to the embeddings that the run stored in float16: {found.stored:.3g}.")
    if found.random:
        say(console, f"note: checked on random images. {why}", "yellow")
    for name, before in found.before.items():
        say(console, f"triplet accuracy, {name}: {before:.4f} of the run, {found.after[name]:.4f} of the file.")
    for name in found.fallen:
        say(
            console,
            f"warning: {precision.value} lowers the triplet accuracy under {name} by {found.fall_in_words(name)}, more"
            f" than other test images explain{_remedy(precision)}.",
            "yellow",
        )
    if found.one is not None and found.many is not None:
        say(
            console,
            f"onnxruntime, {found.threads} thread{'s' * (found.threads > 1)}: {found.one:.2f} ms for one image,"
            f" {found.many:.2f} ms an image in batches of 32.",
        )
        tell_busy(console, "On an idle machine these times are shorter")
    if made.added is not None:
        say(console, f"one more task adds {made.added:,} bytes to such a file.")
    if made.sizes and (why := keep_sizes(loaded.folder, made.sizes)):
        say(console, f"note: tables will not show the size, which the run's record did not get: {why}", "yellow")


def _remedy(precision: Precision) -> str:
    """Return what to do against a loss of accuracy."""
    better = {Precision.int8: "fp16", Precision.fp16: "fp32"}.get(precision)
    return f": export with --precision {better}" if better else ""


def _images(
    console: Console, loaded: Run, data_dir: Path | None
) -> tuple[tuple[Path, ...] | None, tuple[Path, ...], str]:
    """Return the run's test images, or None; its training images; and why the test images can't be compared."""
    from mtlbench.cli.progress import bar, say
    from mtlbench.errors import UserError
    from mtlbench.report.originals import read_originals
    from mtlbench.search import read_stored

    try:
        stored, _ = read_stored(loaded)
    except UserError:
        return None, (), "The run has no embeddings of its test images."
    try:
        with bar(console, "drawing images") as drawing, bar(console, "packing images") as packing:
            found = read_originals(loaded.record, data_dir, True, drawing, packing)
    except UserError as error:
        say(console, f"note: no test images: {error}", "yellow")
        return None, (), "The run's test images were not found."
    if stored.shape[1] != len(found.files):
        return None, (), "The run does not have one embedding for each test image."
    return found.files, found.training, ""

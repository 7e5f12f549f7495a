"""Exporting a run: the file is written, run, compared with the run, and kept with its model card if it holds."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mtlbench.errors import UserError
from mtlbench.export.card import about, card
from mtlbench.export.check import Check, check, random_images, read_pixels
from mtlbench.export.formats import ENDINGS, check_installed, opened, write
from mtlbench.export.int8 import quantise, sampled
from mtlbench.export.stored import stored_sizes
from mtlbench.names import file_name
from mtlbench.runs import method_of
from mtlbench.runs.sizes import stored_as
from mtlbench.search import Run, finite


@dataclass(frozen=True)
class Exported:
    """What `export` left.

    Attributes:
        sizes: bytes by cost, for the run's record: see `stored_sizes`.
        added: bytes that one more task adds to such a file; None where that was not measured.
    """

    file: Path
    card: Path
    check: Check
    sizes: dict[str, int]
    added: int | None


def beside(file: Path) -> Path:
    """Return where the card of a file goes: two formats of one run have a card each."""
    return file.with_name(f"{file.name}.md")


def target(run: Run, format: str, task: int | None, precision: str, output: Path | None) -> Path:
    """Return where the file goes: `output`, or a name made of the run's in the current folder.

    Raises:
        UserError: the file or its card is there already, its folder is not, or its ending is another format's.
    """
    named = [run.record.setup["benchmark"]["name"], method_of(run.record).folder, f"seed-{run.record.seed}"]
    named += ([run.tasks[task]] if task is not None else []) + ([precision] if precision != "fp32" else [])
    file = output or Path(file_name("-".join(named), r"\w.+=,@\[\]-") + ENDINGS[format])
    if file.suffix != ENDINGS[format]:
        raise UserError(f"--output {file}: end its name in {ENDINGS[format]}, as --format {format} requires.")
    if not file.parent.is_dir():
        raise UserError(f"--output {file}: there is no folder {file.parent}.")
    for there in (file, beside(file)):
        if there.exists():
            raise UserError(f"{there} exists already and is left as it is; choose another name with --output.")
    return file


def check_precision(format: str, precision: str) -> None:
    """Refuse int8 in formats that it isn't made for.

    Raises:
        UserError: with the format to take.
    """
    if precision == "int8" and format != "onnx":
        raise UserError(f"--precision int8 is for ONNX, not for {format}: take --format onnx, or --precision fp16.")


def export(
    run: Run,
    format: str,
    file: Path,
    task: int | None = None,
    precision: str = "fp32",
    test_images: Sequence[Path] | None = None,
    random_why: str = "",
    progress: Callable[[int, int], None] | None = None,
    training_images: Sequence[Path] = (),
) -> Exported:
    """Export a run's network, check the file and write its card.

    Args:
        run: on the CPU.
        format: `onnx`, `torch` or `safetensors`.
        file: where to; see `target`.
        task: the task's index, or None for all.
        precision: `fp32`, `fp16`, or `int8` of ONNX.
        test_images: the run's, in the order of its stored embeddings; None checks on random images.
        random_why: why they are not at hand, in a sentence.
        progress: told how many images are compared, of how many.
        training_images: the run's, of which some calibrate int8.

    Raises:
        UserError: a library is missing, int8 lacks training images, the method can't be exported so, the network gives
            NaN, or the file does not embed as the run does.
    """
    check_installed(format)
    check_precision(format, precision)
    if precision == "int8" and not (training_images and test_images):
        raise UserError(
            f"--precision int8 is calibrated with images of the training split and judged on the test's. {random_why}"
            " Name the data's folder with --data-dir."
        )
    finite(run, run.embed(random_images(run).numpy()))  # else whatever comes next takes the blame
    half = precision == "fp16"
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".export-") as folder:
        made = Path(folder) / f"network{ENDINGS[format]}"
        said = about(run, task, precision)
        with torch.no_grad():
            write(format, run, task, half, said, made)
        if precision == "int8":
            quantise(made, read_pixels(run, sampled(training_images)), run.record.method)
        embed = opened(format, made, run, task, half)
        checked = check(run, embed, made, task, precision, test_images, format == "onnx", progress)
        sizes = stored_sizes(run, format, task, precision, said, checked.bytes)
        kind = stored_as(format, precision)
        added = sizes.get(kind.added) if kind else None
        words = card(run, format, file, task, precision, checked, random_why, added)
        written = beside(made)
        written.write_text(words, encoding="utf-8")
        made.replace(file)
        written.replace(beside(file))
    return Exported(file, beside(file), checked, sizes, added)

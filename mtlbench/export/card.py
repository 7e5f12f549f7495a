"""The model card beside an exported file: what it is, how to call it, what it was trained on, how good it is."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from mtlbench import __version__
from mtlbench.datasets.contract import readers
from mtlbench.errors import UserError, counted
from mtlbench.export.check import Check
from mtlbench.recipes import in_words
from mtlbench.runs import Record, decisive, method_of, read_record, without_training
from mtlbench.search import Run

_INT8 = (
    "**int8.** Weights and inputs of convolutions and products are 8-bit integers, whose ranges were found on images of"
    " the training split; biases are 32-bit integers; pixel values and a method's scales are"
    " float32. The table above says what that costs."
)
_FITS = {  # as `data.decoding` fits images
    "squash": "then resize it with Pillow: `photo.resize(({width}, {height}), Image.Resampling.BILINEAR)`",
    "crop": "cut its middle in the shape of {width} x {height}, then resize that with Pillow:"
    " `photo.resize(({width}, {height}), Image.Resampling.BILINEAR)`",
}
_PRECISION = "macro/map@r"  # the number of the tables: a rare value counts as much as a common one
_MEANING = (
    "mAP@R is the mean average precision among the R nearest, where R is the number of images of the same label, macro"
    " mean over label values."
)
_SECTIONS = ("model", "loss", "embedding", "train", "evaluation")
_RECEIPT = (
    "mtlbench", "commit", "torch", "device", "precision", "date",
    "steps", "selection", "selected_step", "selected_steps",
)  # fmt: skip


def about(run: Run, task: int | None, precision: str) -> dict[str, Any]:
    """Return the run's configuration as exported files carry it; no path of this machine is in it."""
    tasks = list(run.tasks) if task is None else [run.tasks[task]]
    found: dict[str, Any] = pathless(
        {
            "written_by": f"mtlbench {__version__}",
            "embeds": tasks,
            "precision": precision,
            "setup": decisive(run.record.setup),
        }
    )
    return found


def pathless(value: Any) -> Any:
    """Return a value of JSON in which whole paths are cut to their last part."""
    if isinstance(value, dict):
        return {key: pathless(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [pathless(inner) for inner in value]
    if isinstance(value, str):
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(value).is_absolute():
                return kind(value).name
    return value


def card(
    run: Run,
    format: str,
    file: Path,
    task: int | None,
    precision: str,
    checked: Check,
    random_why: str,
    added: float | None = None,
) -> str:
    """Return the Markdown of a model card.

    Args:
        run: that was exported.
        format: of the file.
        file: it; the card names it without its folder.
        task: the task's index, or None for all.
        precision: `fp32`, `fp16` or `int8`.
        checked: what the file was found to do.
        random_why: why it was checked on random images, in a sentence; empty where it was not.
        added: bytes that one more task adds to the file; None where that was not measured.
    """
    record, benchmark = run.record, run.benchmark
    tasks = run.tasks if task is None else (run.tasks[task],)
    height, width = benchmark.data.size
    size = benchmark.model.embedding
    shape = f"({len(tasks)}, N, {size})" if task is None else f"(N, {size})"
    order = f"; along the first axis: {', '.join(f'`{t}`' for t in tasks)}" if task is None else ""
    unit = (
        "The protocol compares embeddings of unit length: divide each by its L2 norm first."
        if benchmark.embedding.normalise
        else "The protocol compares embeddings as they are, by Euclidean distance."
    )
    parts = [
        f"# {method_of(record).label}, {record.setup['benchmark']['name']}, seed {record.seed}",
        f"`{file.name}`: {format}, {precision}, {checked.bytes:,} bytes. It embeds images so that images alike under"
        f" {'the task' if len(tasks) == 1 else 'each of the tasks'} {', '.join(f'`{t}`' for t in tasks)} lie near each"
        " other.",
        "## Use",
        _use(format, height, width, benchmark.data.fit, shape, order) + f" {unit}",
        "## Data",
        _data(run),
        "## Accuracy",
        _accuracy(run, tasks, checked, random_why) + (f"\n\n{_INT8}" if precision == "int8" else ""),
        "## Cost",
        _cost(format, checked, added),
        "## Recipe and protocol",
        _protocol(run),
        "## Origin",
        _table(("", ""), [(k, pathless(record.receipt[k])) for k in _RECEIPT if k in record.receipt]),
    ]
    if run.edited:
        parts.insert(2, "**The method's source has changed since the run; the network may embed differently.**")
    return "\n\n".join(parts) + "\n"


def _use(format: str, height: int, width: int, fit: str, shape: str, order: str) -> str:
    if format == "safetensors":
        return (
            "The file holds weights under the names of mtlbench's network, and the run's configuration as JSON in its"
            f" metadata under `mtlbench`. That network takes normalised images of {height} x {width} pixels and returns"
            f" float32 {shape}{order}."
        )
    return (
        f"Input `images`: (N, {height}, {width}, 3) uint8, RGB, N of any size from 1; pixel values are normalised"
        " inside. Turn a photo as its EXIF data says, lay transparent parts on white, take the upper 8 of 16 bits,"
        f" {_FITS[fit].format(width=width, height=height)}. Other filters change which images are nearest. Output:"
        f" float32 {shape}{order}."
    )


def _data(run: Run) -> str:
    facts, data = run.record.receipt.get("data", {}), run.benchmark.data
    rendered = facts.get("rendered") or data.rendered is not None
    counts = [f"{facts[f'{s}_images']:,} {s}" for s in ("train", "val", "test") if facts.get(f"{s}_images") is not None]
    lines = [
        ("name", facts.get("name", data.reader)),
        ("images", ", ".join(counts) or "not recorded"),
        ("split", facts.get("split", "not recorded")),
        ("fingerprint", run.record.setup["data"]),
        ("fit", data.fit),
    ]
    reader = readers().get(data.reader)
    if rendered:
        licence = "mtlbench drew these images; they are no photographs, and no published data set's terms apply."
    elif reader is not None and reader.source is not None:
        source = reader.source()
        licence = f"{' '.join(source.licence.split())}\n\nPublished at {source.page}"
    else:
        licence = "mtlbench's reader of this data states no licence: ask whoever published the images."
    return f"{_table(('', ''), [(k, pathless(v)) for k, v in lines])}\n\n**Licence of the data.** {licence}"


def _accuracy(run: Run, tasks: tuple[str, ...], checked: Check, random_why: str) -> str:
    record, chance, rows = run.record, _chance(run), []
    heads = ["task", "triplet accuracy of the run", "of this file", "mAP@R of the run"]
    heads += ["of random embeddings"] if chance else []
    for task in tasks:
        metrics = record.metrics[task]
        measured = (metrics["triplet"], checked.after.get(task), metrics.get(_PRECISION), chance.get(task))
        cells = ("not measured" if share is None else f"{share:.4f}" for share in measured)
        rows.append([f"`{task}`", *cells][: len(heads)])
    table = f"{_table(heads, rows)}\n\n{_MEANING}"
    where = (
        f"{checked.images} random images. {random_why}" if checked.random else f"the {checked.images:,} test images."
    )
    stored = (
        f" The run stored its embeddings in float16; the file's differ from those by at most {checked.stored:.3g}."
        if checked.stored is not None
        else ""
    )
    lowered = ""
    if checked.fallen:
        falls = ", ".join(f"`{task}` by {checked.fall_in_words(task)}" for task in checked.fallen)
        lowered = (
            f"\n\n**This file orders fewer triplets rightly than the run, by more than chance explains: {falls}.**"
        )
    elif checked.before:
        lowered = (
            "\n\nUnder no task does the file order fewer triplets rightly than the run by more than other test images"
            " would explain."
        )
    fallen = [task for task in tasks if task in record.collapsed]
    warning = f"\n\n**The embeddings collapsed under {', '.join(fallen)}: don't use them.**" if fallen else ""
    return (
        f"{table}\n\nThe file's embeddings differ from the run's network in float32 by at most"
        f" {checked.difference:.3g}, where the largest number in them is {checked.largest:.3g}: on"
        f" {where}{stored}{lowered}{warning}"
    )


def _chance(run: Run) -> dict[str, float]:
    """Return the mAP@R of random embeddings by task, from the reference rows beside the run; empty without them."""
    wanted = without_training(run.record.setup)
    beside = run.folder.absolute().parent.parent.glob("chance*/seed-*/run.json")
    rows = [row for path in sorted(beside) if (row := _readable(path.parent)) and row.kind == "reference"]
    found = [row.metrics for row in rows if without_training(row.setup) == wanted]
    each = {task: [metrics.get(task, {}).get(_PRECISION) for metrics in found] for task in run.tasks}
    known = {task: [share for share in shares if share is not None] for task, shares in each.items()}
    return {task: statistics.fmean(shares) for task, shares in known.items() if shares}


def _readable(folder: Path) -> Record | None:
    try:
        return read_record(folder)
    except UserError:
        return None


def _cost(format: str, checked: Check, added: float | None) -> str:
    size = f"{checked.bytes:,} bytes{'' if added is None else f'; one more task adds {added:,.0f}'}."
    if checked.one is None or checked.many is None:
        return f"{size} Speed was not measured in this format."
    threads = f"{checked.threads} thread{'s' if checked.threads > 1 else ''}"
    return (
        f"{size} Under onnxruntime on the exporting machine's processor ({threads}):"
        f" {checked.one:.2f} ms for one image, {checked.many:.2f} ms an image in batches of 32."
    )


def _protocol(run: Run) -> str:
    """Return what the run was trained with; a setting of the method's recipe stands in place of the benchmark's."""
    setup = pathless(decisive(run.record.setup))
    method = setup["method"]
    recipe = method.get("recipe") or {}
    rows = [("architecture", method["architecture"]), ("balancer", method["balancer"])]
    for kind in ("architecture_options", "balancer_options"):
        rows += [(f"{kind}.{key}", value) for key, value in method.get(kind, {}).items()]
    for section in _SECTIONS:
        for key, value in (setup["benchmark"].get(section, {}) | recipe.get(section, {})).items():
            rows.append((f"{section}.{key}", value if isinstance(value, str) else json.dumps(value)))
    table = _table(("setting", "value"), [(k, f"`{v}`") for k, v in rows])
    if not recipe:
        return table
    return f"{_origin(run.record.receipt.get('recipe', {}), in_words(recipe))}\n\n{table}"


def _origin(found: dict[str, Any], recipe: str) -> str:
    trials = f" It was found in {counted(found['trials'], 'trial')}" if found.get("trials") else ""
    by = f" by `{found['command']}`" if trials and found.get("command") else ""
    return f"The method's recipe ({recipe}) is in place of the benchmark's settings.{trials}{by}{'.' * bool(trials)}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)

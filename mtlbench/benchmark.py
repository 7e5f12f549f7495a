"""A benchmark: data set, tasks and protocol, read from one TOML file and validated. Nothing is trained here."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mtlbench.errors import UserError, did_you_mean
from mtlbench.registry import bundled

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
MOVED = {"loss.distance": "embedding.distance", "loss.normalise": "embedding.normalise"}
"""Keys of mtlbench 0.1 and where they are now; files, records and `--set` may still use them."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Rendered(_Section):
    """Draw the data set when its folder is not there."""

    what: Literal["shoes", "faces"]
    images: Positive
    seed: Annotated[int, Field(ge=0)] = 0
    conflict: Share = 0.0  # how much the tasks' evidence competes


class Csv(_Section):
    """Columns of the table of one's own images; each other column is a task."""

    file: str = "labels.csv"  # in the data set's folder
    path: str = "path"  # column of image paths, relative to that folder
    split: str = "split"  # column of train, val, test, if there is one
    group: str = (
        ""  # column whose equal cells stay on one side of a random split, such as a person's or a product's name
    )


class Data(_Section):
    """Which images, which tasks, and the pixels that networks see."""

    reader: Literal["celeba", "zappos", "csv", "folders"]
    folder: str = ""  # where it lies, relative to this file, if not in the usual place; --data-dir names another
    rendered: Rendered | None = None
    csv: Csv | None = None
    levels: list[str] = []  # folders: the task that each level of folders is a label of
    tasks: list[str] = []  # by default all that have labels
    spare_tasks: list[str] = []  # used when fewer than two of `tasks` have labels
    image_size: Positive | tuple[Positive, Positive]  # one number, or height and width
    fit: Literal["squash", "crop"] = "squash"
    pixels: Literal["unit", "imagenet", "bgr"] = "unit"  # see data.dataset.PIXELS
    limit: Annotated[int, Field(ge=0)] = 0  # at most so many images, drawn at random; 0 takes all
    split: Literal["default", "identity", "csn"] = "default"  # default: the official one, else at random
    split_seed: Annotated[int, Field(ge=0)] = 0  # of a random split
    multi_valued: Literal["value", "first", "unlabelled"] = (
        "value"  # what a cell "a;b" is: a value of its own, a, nothing
    )
    min_images: Annotated[int, Field(ge=0)] = 0  # values of fewer images are taken for unlabelled
    ordered: dict[str, list[str]] = {}  # csv: tasks whose values have an order, from low to high
    skip_unreadable: bool = False  # leave out images that are missing or broken, and count them

    @model_validator(mode="after")
    def _fits_its_reader(self) -> Data:
        for key, readers in (("csv", ["csv"]), ("ordered", ["csv"]), ("levels", ["folders"])):
            if getattr(self, key) and self.reader not in readers:
                raise ValueError(f"data.{key} is for data.reader = '{readers[0]}'")
        if self.reader == "folders" and not self.levels:
            raise ValueError("data.reader = 'folders' needs data.levels, such as levels = [\"kind\"]")
        if self.split != "default" and self.reader != {"identity": "celeba", "csn": "zappos"}[self.split]:
            raise ValueError(f"data.split = '{self.split}' is not for data.reader = '{self.reader}'")
        return self

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size


class Model(_Section):
    """The network that every method is built from."""

    backbone: str
    embedding: Positive
    pretrained: bool = False


class Embedding(_Section):
    """How embeddings are compared, in training, in evaluation and in use."""

    distance: Literal["squared", "plain"] = "squared"  # squared Euclidean, or Euclidean
    normalise: bool = True  # embeddings to unit length


class Loss(_Section):
    """The triplet loss max(0, d(a, p) - d(a, n) + margin)."""

    margin: Annotated[float, Field(gt=0)] = 0.2


class Train(_Section):
    """The budget and the optimiser, the same for every method."""

    sampling: Literal["per-task", "joint"]
    anchors: Literal["positive", "balanced"] = "balanced"  # of training triplets; see data.triplets.TripletSampler
    triplets: Positive  # per task and step; 3 images each
    joint_triplets: Positive = 512  # per task and step, formed within the batch when sampling is joint
    steps: Positive
    optimiser: Literal["adamw", "adam", "adagrad", "sgd"]
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # of layers' weights; not of biases, norms, scales, units
    schedule: Literal["constant", "one-cycle", "cosine", "step", "exponential"] = "constant"
    milestones: list[Share] = []  # step: shares of the run after which the rate is multiplied by `decay`
    decay: Annotated[float, Field(gt=0, le=1)] = 0.1  # step: the factor; exponential: last rate over first
    flip: bool = True  # mirror images at random
    shift: Annotated[int, Field(ge=0)] = 0  # move images by up to so many pixels
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    tried: Positive = 1  # how many versions of this protocol were compared before it was fixed, for the receipt


class Evaluation(_Section):
    """How checkpoints are chosen and networks judged."""

    every: Positive  # steps between validations
    triplets: Positive  # per task, for validation and for test, drawn once by `seed`
    anchors: Literal["positive", "balanced"] = "balanced"  # of those triplets; see data.triplets.TripletSampler
    seed: int = 0
    ks: list[Positive] = [1, 5, 10, 20]  # depths of hit@k and precision@k
    select: str = "mean"  # what chooses the checkpoint: mean or worst triplet accuracy, or a metric such as "map@r"
    metrics: list[str] = []  # besides the standard ones: registered metrics, such as "hit@3"
    agreement_every: Annotated[int, Field(ge=0)] = 0  # steps between probes of how the tasks' gradients agree; 0: none
    agreement_layers: bool = False  # probe every shared layer too

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: Any) -> Any:
        """Take the keys that mtlbench 0.1 had for those of today."""
        if isinstance(given, dict):
            old = {"conflict_every": "agreement_every", "conflict_layers": "agreement_layers"}
            given = {k: v for k, v in given.items() if k not in old} | {old[k]: given[k] for k in given if k in old}
        return given

    @model_validator(mode="after")
    def _consistent(self) -> Evaluation:
        if self.agreement_layers and not self.agreement_every:
            raise ValueError("evaluation.agreement_layers = true needs evaluation.agreement_every, such as 50")
        return self


class Benchmark(_Section):
    """Data set x tasks x protocol."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    title: str
    data: Data
    model: Model
    embedding: Embedding = Embedding()
    loss: Loss = Loss()
    train: Train
    evaluation: Evaluation

    @model_validator(mode="before")
    @classmethod
    def _moved(cls, given: Any) -> Any:
        """Take files and records of mtlbench 0.1, in which the loss held the distance and `train.anchors` did both."""
        if not isinstance(given, dict):
            return given
        given = dict(given)
        for old, new in MOVED.items():
            (section, key), (target, name) = old.split("."), new.split(".")
            held, taken = given.get(section), given.get(target, {})
            if isinstance(held, dict) and isinstance(taken, dict) and key in held:
                if name in taken:
                    raise ValueError(f"{old} is now {new}, which is there too: remove {old}")
                given[section] = {k: v for k, v in held.items() if k != key}
                given[target] = taken | {name: held[key]}
        train, evaluation = given.get("train"), given.get("evaluation")
        if isinstance(train, dict) and isinstance(evaluation, dict) and "anchors" in train:
            given["evaluation"] = {"anchors": train["anchors"]} | evaluation
        return given

    @model_validator(mode="after")
    def _consistent(self) -> Benchmark:
        if self.data.split == "csn" and (self.train.sampling != "per-task" or self.data.limit):
            raise ValueError(
                "data.split = 'csn' has triplets of its own: it needs train.sampling = 'per-task' and data.limit = 0"
            )
        if self.train.schedule == "step" and not self.train.milestones:
            raise ValueError("train.schedule = 'step' needs train.milestones")
        return self


def benchmark_files() -> dict[str, Path]:
    """Return the bundled benchmarks by name."""
    return {file.stem: file for file in sorted(bundled("benchmarks").glob("*.toml"))}


def load_benchmark(name: str, *, quick: bool = False, settings: Iterable[str] = ()) -> Benchmark:
    """Read a benchmark by its bundled name or its path.

    Args:
        name: `celeba`, or a path that ends in `.toml`.
        quick: apply the file's `[quick]` overrides, and add `-quick` to its name.
        settings: `train.steps=500`, applied last.

    Raises:
        UserError: no such benchmark, TOML that can't be read, or a key or value that does not fit; it names the file,
            the key and the nearest valid one.
    """
    files = benchmark_files()
    path = Path(name) if name.endswith(".toml") else files.get(name)
    if path is None or not path.is_file():
        raise UserError(
            f"Unknown data set or benchmark '{name}'.{did_you_mean(name, files)} Available: {', '.join(files)},"
            " or the path of a .toml file."
        )
    try:
        full = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}.") from error
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}.") from error
    overrides = full.pop("quick", None)
    if not isinstance(overrides, dict | None):
        raise UserError(f"{path}: 'quick' must be a table of overrides, [quick].")
    content = _validated(full, str(path))
    if overrides is not None:  # checked even when not used: a mistake there should not wait for its first use
        quick_content = _validated(_merged(full, overrides), f"{path} [quick]")
    elif quick:
        raise UserError(f"{path} has no [quick] table; run it without --quick.")
    if quick:
        content = quick_content.model_copy(update={"name": f"{content.name}-quick"})
    raw = content.model_dump(mode="json")
    if content.data.folder or content.data.reader in ("csv", "folders"):
        raw["data"]["folder"] = str((path.parent / content.data.folder).resolve())
    for setting in settings:
        raw = _merged(raw, _setting(setting))
    return _validated(raw, "--set")


def _setting(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text}: write it as key=value, such as --set train.steps=500.")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for part in reversed(MOVED.get(key.strip(), key.strip()).split(".")):
        parsed = {part: parsed}
    return dict(parsed)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _validated(content: dict[str, Any], where: str) -> Benchmark:
    try:
        return Benchmark.model_validate(content)
    except ValidationError as error:
        problems: dict[str, list[str]] = {}  # a value that may be of two types has two
        for e in error.errors():
            subject, what = _explain(dict(e))
            problems.setdefault(subject, []).append(what)
        raise UserError(
            " ".join(f"{where}: {subject}{' or '.join(dict.fromkeys(what))}." for subject, what in problems.items())
        ) from error


def _explain(error: dict[str, Any]) -> tuple[str, str]:
    """Return what an error is about ("train.steps: ") and what is wrong with it."""
    location, section = _locate(error["loc"])
    key = ".".join(location)
    if error["type"] == "extra_forbidden" and section is not None:
        known = list(section.model_fields)
        return f"unknown key '{key}'.", f"{did_you_mean(location[-1], known)} Valid: {', '.join(known)}"
    if error["type"] == "missing":
        return f"the key '{key}' ", "is missing"
    if error["type"] == "value_error":
        return "", str(error["ctx"]["error"])
    if error["type"] in ("model_type", "dict_type"):
        return f"{key}: ", f"must be a table (not {error['input']!r})"
    hint = ', written as ["a", "b"]' if error["type"] == "list_type" else ""
    shown = f" (not {error['input']!r})" if not isinstance(error["input"], dict) else ""
    return f"{key}: ", f"{error['msg'][0].lower()}{error['msg'][1:]}{hint}{shown}"


def _locate(loc: Iterable[str | int]) -> tuple[list[str], type[BaseModel] | None]:
    """Return the keys down to an error, without the types that pydantic tried, and the section of the last key."""
    keys: list[str] = []
    inside: type[BaseModel] | None = Benchmark
    section = inside
    for part in loc:
        if inside is not None:
            keys.append(str(part))
            section, inside = inside, _section_of(inside, str(part))
        elif isinstance(part, int):
            keys.append(str(part))
    return keys, section


def _section_of(section: type[BaseModel], field: str) -> type[BaseModel] | None:
    annotation: Any = section.model_fields[field].annotation if field in section.model_fields else None
    options = [annotation, *getattr(annotation, "__args__", ())]
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)

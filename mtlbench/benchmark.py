"""A benchmark: data set, tasks and protocol, read from one TOML file and validated. Nothing is trained here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mtlbench.bundled import bundled
from mtlbench.errors import UserError, did_you_mean
from mtlbench.recipes import Recipe, Search
from mtlbench.sections import Anchors, Count, Positive, Section, Share
from mtlbench.sections import Csv as Csv
from mtlbench.sections import Data as Data
from mtlbench.sections import Rendered as Rendered

_LONGEST_SHOWN = 200  # characters of a value in an error
_DEEPEST = 40  # lists and tables within each other
LARGEST = 1e100  # of a number that is finite: squares and sums of such are finite too


class Model(Section):
    """The network that every method is built from."""

    backbone: str = Field(
        default="small", description="The backbone, with options where it has some: see mtlbench list backbones."
    )
    embedding: Annotated[int, Field(gt=0, le=1_000_000)] = Field(default=64, description="The length of an embedding.")
    pretrained: bool | str = Field(
        default=False,
        description="Start from published weights instead of random ones, or from those in a file: a state dict of the"
        " backbone, .pth or .safetensors.",
    )
    freeze: bool | Count = Field(
        default=False,
        description="Pretrained stages that are not trained: true, all of them; a number, the first so many.",
    )
    pretrained_rate: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="A multiple of train.lr for the pretrained stages that are trained."
    )

    @model_validator(mode="after")
    def _from_pretrained(self) -> Model:
        if self.freeze and not self.pretrained:
            raise ValueError("model.freeze would fix random weights: set model.pretrained too, to true or to a file")
        if self.pretrained_rate != 1 and not self.pretrained:
            raise ValueError("model.pretrained_rate applies to pretrained stages: set model.pretrained too")
        if self.pretrained_rate != 1 and self.freeze is True:
            raise ValueError("model.pretrained_rate has no effect where model.freeze = true")
        if self.pretrained == "":
            raise ValueError("model.pretrained names no file: set true, false or a file's path")
        return self


class Embedding(Section):
    """How two embeddings are compared, in training and evaluation alike."""

    distance: Literal["squared", "plain"] = Field(
        default="squared", description="Squared Euclidean distance, or Euclidean."
    )
    normalise: bool = Field(default=True, description="Scale embeddings to unit length.")


class Loss(Section):
    """The loss; keys beside the name are its own options."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(default="triplet", description="The loss: see mtlbench list losses.")

    @property
    def options(self) -> dict[str, Any]:
        """The loss's own options, as they were given."""
        return dict(self.model_extra or {})


class Train(Section):
    """The budget and the optimiser, the same for every method."""

    renamed: ClassVar[dict[str, str]] = {"tried": "protocols_tried"}

    sampling: str = Field(default="joint", description="How batches are drawn: see mtlbench list samplers.")
    anchors: Anchors = Field(
        default="balanced",
        description="Which images are anchors of training triplets: those with label 1, or every label evenly.",
    )
    triplets: Annotated[int, Field(gt=0, le=1_000_000)] = Field(
        default=16,
        description="Triplets drawn per task and step. Their images, 3 for each triplet, are the batch. joint forms"
        " train.joint_triplets triplets within the batch instead of these.",
    )
    joint_triplets: Annotated[int, Field(gt=0, le=10_000_000)] = Field(
        default=512, description="joint: how many triplets per task and step it forms within the batch."
    )
    steps: Positive = Field(default=1000, description="Training steps.")
    optimiser: str = Field(
        default="adamw", description="adamw, adam, adagrad, sgd, or the name of another class of torch.optim."
    )
    optimiser_options: dict[str, Any] = Field(default={}, description="Further arguments of the optimiser's class.")
    lr: Annotated[float, Field(gt=0)] = Field(default=3e-3, description="The learning rate.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.9, description="sgd: the momentum.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="Weight decay of layers' weights; biases, norms, scales and units have none."
    )
    schedule: Literal["constant", "one-cycle", "cosine", "linear", "step", "exponential"] = Field(
        default="one-cycle", description="How the learning rate changes over the run."
    )
    milestones: list[Share] = Field(
        default=[], description="step: shares of the run after which the learning rate is multiplied by train.decay."
    )
    decay: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="step: the factor at a milestone; exponential: the last learning rate over the first."
    )
    flip: bool = Field(default=True, description="Mirror training images at random.")
    shift: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=0, description="Move training images by up to this many pixels."
    )
    augment: list[str] = Field(
        default=[], description="Further augmentations in order: see mtlbench list augmentations."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="The numbers in which networks run; auto uses bfloat16 where the device is made for it.",
    )
    compile: Literal["auto", "on", "off"] = Field(
        default="off",
        description="Compile networks with torch.compile for training, which changes the last bits; auto does so on a"
        " GPU in runs of 20,000 steps and more.",
    )
    deterministic: bool = Field(
        default=False,
        description="On a GPU, train with those kernels alone that give the same bits every time; it is slower.",
    )
    protocols_tried: Positive = Field(
        default=1,
        description="How many versions of this protocol were compared before it was fixed; the receipt states it.",
    )

    @model_validator(mode="after")
    def _rate_of_its_optimiser(self) -> Train:
        if self.optimiser != "adamw" and "lr" not in self.model_fields_set:
            raise ValueError(f"train.optimiser = '{self.optimiser}' needs train.lr: the default is adamw's")
        return self


class Evaluation(Section):
    """How checkpoints are chosen and networks evaluated, independently of training settings."""

    renamed: ClassVar[dict[str, str]] = {"conflict_every": "agreement_every", "conflict_layers": "agreement_layers"}

    every: Positive = Field(default=200, description="Steps between validations.")
    triplets: Annotated[int, Field(gt=0, le=10_000_000)] = Field(
        default=2000, description="Triplets per task on the validation split, and on the test split."
    )
    anchors: Anchors = Field(
        default="balanced",
        description="Which images are anchors of these triplets: those with label 1, or every label evenly.",
    )
    min_images: Count = Field(
        default=0,
        description="Label values with fewer images in the split than this anchor fewer of these triplets, in"
        " proportion to their images, so that a few images don't decide a score; 0 weighs all values alike.",
    )
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = Field(
        default=0, description="The seed that draws these triplets."
    )
    select: str = Field(
        default="mean",
        description="The measure that chooses the checkpoint on the validation split: mean or worst triplet accuracy"
        " over tasks, or the mean of a retrieval metric such as map@r. per-task chooses each task's checkpoint by its"
        " own accuracy, for methods whose tasks share no parameter.",
    )
    ks: list[Positive] = Field(default=[1, 5, 10, 20], description="Depths k of hit@k and precision@k.")
    metrics: list[str] = Field(default=[], description="Further retrieval metrics: see mtlbench list metrics.")
    agreement_every: Count = Field(
        default=0, description="Steps between probes of how the tasks' gradients agree; 0 makes none."
    )
    agreement_layers: bool = Field(default=False, description="Probe every shared layer too.")

    @model_validator(mode="after")
    def _consistent(self) -> Evaluation:
        if self.agreement_layers and not self.agreement_every:
            raise ValueError("evaluation.agreement_layers = true needs evaluation.agreement_every, such as 50")
        return self


class Benchmark(Section):
    """A benchmark is a data set, its tasks, and a protocol."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")] = Field(
        description="The folder of its results: lower-case letters, digits, dots, hyphens and underscores; by default"
        " the file's name."
    )
    title: str = Field(default="", description="What tables call it; by default its name.")
    protocol: Literal["full", "quick"] = Field(
        default="full", description="Which of the file's protocols this is; --quick sets it."
    )
    data: Data = Field(description="Images and tasks.")
    model: Model = Field(default=Model(), description="The network.")
    embedding: Embedding = Field(default=Embedding(), description="How embeddings are compared.")
    loss: Loss = Field(default=Loss(), description="The loss.")
    train: Train = Field(default=Train(), description="The budget and the optimiser.")
    evaluation: Evaluation = Field(default=Evaluation(), description="Checkpoints and scores.")
    search: Search = Field(default=Search(), description="The settings that mtlbench tune varies for every method.")
    recipes: dict[str, Recipe] = Field(
        default={}, description="Each method's own settings, as mtlbench tune found them: see docs/tuning.md."
    )

    def changed(self, content: Mapping[str, Any], where: str) -> Benchmark:
        """Return the benchmark with other settings in `train` and `loss`, without recipes.

        Args:
            content: by section and key; anything else is ignored.
            where: they were set, for messages.

        Raises:
            UserError: a key that there isn't, or a value that doesn't fit.
        """
        base = self.model_dump(mode="json", exclude={"recipes"})
        return _validated(_overridden(base, {k: dict(content[k]) for k in ("train", "loss") if k in content}), where)

    @model_validator(mode="before")
    @classmethod
    def _moved(cls, given: Any) -> Any:
        """Take the keys that mtlbench 0.1 had elsewhere: the distance was the loss's, the test's anchors training's."""
        if not isinstance(given, dict):
            return given
        given = {"title": given["name"]} | given if given.get("name") else given
        train, evaluation = given.get("train"), given.get("evaluation")
        if isinstance(train, dict) and isinstance(evaluation, dict) and "anchors" in train:
            given = given | {"evaluation": {"anchors": train["anchors"]} | evaluation}
        loss = given.get("loss")
        if not isinstance(loss, dict):
            return given
        moved = {key: loss[key] for key in ("distance", "normalise") if key in loss}
        if not moved:
            return given
        embedding = given.get("embedding", {})
        for key in moved:
            if key in embedding:
                raise ValueError(f"loss.{key} has moved: set embedding.{key}")
        return given | {
            "embedding": embedding | moved,
            "loss": {"name": "triplet", "margin": 0.2, "soft_margin": False, "mining": "all"}
            | {key: value for key, value in loss.items() if key not in moved},
        }

    @model_validator(mode="after")
    def _consistent(self) -> Benchmark:
        if self.data.split == "csn" and (self.train.sampling != "per-task" or self.data.limit):
            raise ValueError(
                "data.split = 'csn' has triplets of its own: it needs train.sampling = 'per-task' and data.limit = 0"
            )
        if self.train.schedule == "step" and not self.train.milestones:
            raise ValueError("train.schedule = 'step' needs train.milestones")
        if not unreasonable(self.model_dump()):  # that is said later, and is no recipe's fault
            for name, recipe in self.recipes.items():  # a mistake there should not wait for its first use
                self.changed(recipe.content(), f"recipes.{name}")
        return self


def with_protocol(benchmark: dict[str, Any]) -> dict[str, Any]:
    """Return a record's benchmark with its protocol, which runs of mtlbench 0.1 told by their name alone."""
    return {"protocol": "quick" if str(benchmark.get("name")).endswith("-quick") else "full"} | benchmark


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
    if path is not None and path.suffix == ".toml" and name not in files and not path.is_file():
        raise UserError(f"There is no file {path}. Give a bundled benchmark by its name: {', '.join(files)}.")
    if path is None or not path.is_file():
        raise UserError(
            f"Unknown data set or benchmark '{name}'.{did_you_mean(name, files)} Available: {', '.join(files)},"
            " or the path of a .toml file."
        )
    try:
        full = tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise UserError(f"{path} is not valid TOML: its brackets are nested too deeply.") from None
    except ValueError as error:  # of characters, of syntax, of a number of thousands of digits
        raise UserError(f"{path} is not valid TOML: {error}.") from error
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}.") from error
    full.setdefault("name", re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).lstrip("._-"))
    overrides = full.pop("quick", None)
    if not isinstance(overrides, dict | None):
        raise UserError(f"{path}: 'quick' must be a table of overrides, [quick].")
    content = _validated(full, str(path))
    if overrides is not None:  # checked even when not used: a mistake there should not wait for its first use
        own: dict[str, Any] = {"recipes": {}}  # the full protocol's were found under another budget
        quick_content = _validated(_overridden(full | own, overrides), f"{path} [quick]")
    elif quick:
        raise UserError(f"{path} has no [quick] table; run it without --quick.")
    if quick:
        content = quick_content.model_copy(update={"name": f"{content.name}-quick", "protocol": "quick"})
    raw = content.model_dump(mode="json")
    if content.data.folder or content.data.reader in ("csv", "folders"):
        raw["data"]["folder"] = str((path.parent / content.data.folder).resolve())
    if isinstance(content.model.pretrained, str):
        raw["model"]["pretrained"] = str((path.parent / content.model.pretrained).resolve())
    changes: dict[str, Any] = {}
    for setting in settings:
        changes = _merged(changes, _setting(setting))
    model = changes.get("model")
    if isinstance(model, dict) and isinstance(file := model.get("pretrained"), str) and file:
        model["pretrained"] = str(Path(file).expanduser().resolve())
    return _validated(_overridden(raw, changes), "--set")


def _setting(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text}: write it as key=value, such as --set train.steps=500.")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except RecursionError:
        raise UserError(f"--set {key.strip()}: the brackets of its value are nested too deeply.") from None
    except ValueError:
        parsed = value.strip()
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    return dict(parsed)


def _overridden(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge overrides into settings; options of a loss or optimiser go with it where another one is named."""
    base = dict(base)
    loss, train = base.get("loss"), base.get("train")
    if isinstance(loss, dict) and isinstance(over.get("loss"), dict):
        name = loss.get("name", "triplet")
        if over["loss"].get("name", name) != name:
            base["loss"] = {}
    if isinstance(train, dict) and isinstance(over.get("train"), dict):
        optimiser = train.get("optimiser")
        if over["train"].get("optimiser", optimiser) != optimiser:
            base["train"] = {key: value for key, value in train.items() if key != "optimiser_options"}
    return _merged(base, over)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def unreasonable(value: Any, depth: int = 0) -> str:
    """Say why a value is none that settings or records hold: nested too deeply, or a number that is too large."""
    if depth > _DEEPEST:
        return f"lists and tables are nested more than {_DEEPEST} deep"
    if isinstance(value, int) and not -(2**64) < value < 2**64:
        return "a number has more than 64 bits"
    if isinstance(value, float) and LARGEST < abs(value) < float("inf"):
        return f"a number is larger than {LARGEST:g}"
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return next(filter(None, (unreasonable(one, depth + 1) for one in inner)), "")


def _validated(content: dict[str, Any], where: str) -> Benchmark:
    try:
        found = Benchmark.model_validate(content)
        if why := unreasonable(content):  # in tables whose keys are not known here
            raise UserError(f"{where}: {why}.")
        return found
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
        return f"{key}: ", f"must be a table (not {_shown(error['input'])})"
    hint = ', written as ["a", "b"]' if error["type"] == "list_type" else ""
    shown = f" (not {_shown(error['input'])})" if not isinstance(error["input"], dict) else ""
    return f"{key}: ", f"{error['msg'][0].lower()}{error['msg'][1:]}{hint}{shown}"


def _shown(value: Any) -> str:
    """Write a value that was given, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python writes no number of thousands of digits
        return "what is given: it is too long to be shown"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _locate(loc: Iterable[str | int]) -> tuple[list[str], type[BaseModel] | None]:
    """Return the keys down to an error, without the types that pydantic tried, and the section of the last key."""
    keys: list[str] = []
    inside: type[BaseModel] | None = Benchmark
    section, named = inside, False
    for part in loc:
        if inside is not None:
            keys.append(str(part))
            if named:  # the key of a section among several, such as a method's name
                named = False
                continue
            named = str(part) == "recipes" and inside is Benchmark
            section, inside = inside, _section_of(inside, str(part))
        elif isinstance(part, int):
            keys.append(str(part))
    return keys, section


def _section_of(section: type[BaseModel], field: str) -> type[BaseModel] | None:
    annotation: Any = section.model_fields[field].annotation if field in section.model_fields else None
    options = [annotation, *getattr(annotation, "__args__", ())]
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)

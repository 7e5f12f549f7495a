"""What a run record must hold to be read: types, sections and limits, checked with pydantic before anything uses it.

Records are copied about, edited and sent by others: one that is damaged is refused by name, never half read.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from mtlbench.benchmark import Benchmark, unreasonable, with_protocol
from mtlbench.learned import Learned
from mtlbench.names import printable

_ELSEWHERE = ("extra_forbidden", "literal_error")  # what a setting of another version of mtlbench looks like
Seed = Annotated[int, Field(ge=0, lt=2**64)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=())


class _Method(_Part):
    name: Annotated[str, Field(min_length=1)]
    architecture: str = ""
    balancer: str = ""
    architecture_options: dict[str, Any] = {}
    balancer_options: dict[str, Any] = {}


class _Setup(_Part):
    method: _Method
    benchmark: dict[str, Any]
    tasks: Annotated[list[str], Field(min_length=1)]
    seed: Seed | None = None
    data: str | None = None
    precision: str | None = None
    compiled: bool = False
    deterministic: bool = False
    code: dict[str, str | int] = {}
    threads: Annotated[int, Field(ge=1, le=2**16)] | None = None


class _Data(_Part):
    name: str | None = None
    rendered: bool | None = None
    fingerprint: str | None = None
    split: str | None = None
    images: Count | None = None
    train_images: Count | None = None
    val_images: Count | None = None
    test_images: Count | None = None
    unreadable: Count | None = None


class _Weights(_Part):
    file: str
    sha256: Sha256


class _Receipt(_Part):
    data: _Data = _Data()
    precision: str | None = None
    device: str | None = None
    mtlbench: str | None = None
    commit: str | None = None
    torch: str | None = None
    torchvision: str | None = None
    python: str | None = None
    system: str | None = None
    date: str | None = None
    groups: list[str] = []
    steps: Count | None = None
    images_seen: Count | None = None
    training_seconds: Number | None = None
    test_triplets: Count | None = None
    selection: str | None = None
    selected_step: Count | None = None
    validation_accuracy: float | None = None
    protocols_tried: Count | None = None
    packages: dict[str, str] = {}
    varied: dict[str, Any] = {}
    costs_due: bool = False
    traceback: str | None = None
    pretrained: _Weights | None = None
    weights: Sha256 | None = None
    compiled: str | None = None


class RecordFile(BaseModel):
    """`run.json` as it must be; its values are taken from the file as they stand."""

    model_config = ConfigDict(strict=True, extra="forbid")

    method: Annotated[str, Field(min_length=1)]
    seed: Seed
    kind: Literal["method", "reference"]
    setup: _Setup
    status: Literal["done", "failed"]
    reason: str = ""
    metrics: dict[str, dict[str, float]] = {}
    collapsed: list[str] = []
    costs: dict[str, Number] = {}
    receipt: _Receipt = _Receipt()
    learned: list[dict[str, Any]] | None = None
    schema_: Annotated[int, Field(alias="schema", ge=1)]

    @model_validator(mode="after")
    def _whole(self) -> RecordFile:
        for task in self.setup.tasks if self.status == "done" else ():
            if task not in self.metrics:
                raise ValueError(f"a finished run has metrics of each of its tasks; '{task}' has none")
            accuracy = self.metrics[task].get("triplet")
            if accuracy is None or not 0 <= accuracy <= 1:
                raise ValueError(f"the triplet accuracy of '{task}' is not between 0 and 1: {accuracy}")
            if any(value in (float("inf"), -float("inf")) for value in self.metrics[task].values()):
                raise ValueError(f"a metric of '{task}' is infinite")
        for one in self.learned or ():
            TypeAdapter(Learned).validate_python(one)
        _check_benchmark(self.setup.benchmark)
        return self


class _Evaluation(_Part):
    triplets: Count


class _Train(_Part):
    steps: Count


class _Model(_Part):
    backbone: str
    embedding: Count


class _Settings(_Part):
    reader: str
    image_size: int | list[int]


class _Sections(_Part):
    name: str
    data: _Settings
    model: _Model
    train: _Train
    evaluation: _Evaluation


class _Protocol(_Part):
    steps: Count
    sampling: str
    optimiser: str
    lr: Number
    schedule: str


class _Elsewhere(_Part):
    """What another version of mtlbench must have written out: its defaults may differ from those here."""

    title: str
    train: _Protocol


def _check_benchmark(benchmark: dict[str, Any]) -> None:
    """Refuse a protocol whose settings have wrong types, or lack what tables say of every run.

    Settings of later versions of mtlbench, which this one does not know, are no fault.
    """
    _Sections.model_validate(benchmark)
    try:
        Benchmark.model_validate(with_protocol(benchmark))
    except ValidationError as error:
        faults = [e for e in error.errors(include_url=False) if e["type"] not in _ELSEWHERE]
        if faults:
            where = ".".join(map(str, faults[0]["loc"]))
            raise ValueError(f"setup.benchmark.{where}: {faults[0]['msg']}") from None
        try:
            _Elsewhere.model_validate(benchmark)
        except ValidationError as lacking:
            first = lacking.errors(include_url=False)[0]
            raise ValueError(f"setup.benchmark.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def checked_setup(content: Any) -> dict[str, Any]:
    """Return the setup of a run that is noted elsewhere than in its record, as `checked` returns a record.

    Raises:
        ValueError: it is none.
    """
    if why := unreasonable(content):
        raise ValueError(why)
    clean = _clean(content)
    _check_benchmark(_Setup.model_validate(clean).benchmark)
    found: dict[str, Any] = clean
    return found


def checked(content: Any) -> dict[str, Any]:
    """Return a record's JSON, as `json.loads` gives it, without control characters in its texts.

    Raises:
        ValueError: it is not a run record, with the first reason.
    """
    if why := unreasonable(content):
        raise ValueError(why)
    clean = _clean(content)
    try:
        RecordFile.model_validate(clean)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        what = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
        raise ValueError(f"{where}: {what}" if where else what) from None
    found: dict[str, Any] = clean
    return found


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): _clean(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    return value

"""What an interrupted run keeps, so that it can be continued."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from mtlbench.runs.disk import save_tensors, writing
from mtlbench.runs.lock import writer
from mtlbench.runs.record import SCHEMA, Json, partial_folder
from mtlbench.runs.setup import differences
from mtlbench.training.loop import Trainer
from mtlbench.training.state import State


class _Saved(BaseModel):
    """A `State` as JSON holds it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    step: Annotated[int, Field(ge=0)]
    seconds: float = 0.0
    best_accuracy: float = -1.0
    best_score: float = -math.inf
    best_step: int = 0
    accuracy: dict[str, float] = {}
    collapsed: list[str] = []
    curve: list[dict[str, float]] = []
    probes: list[dict[str, Any]] = []


def save_partial(folder: Path, setup: Json, trainer: Trainer) -> None:
    """Keep what continuing a run needs; the last such save is replaced only when the new one is whole.

    Raises:
        DiskFull: there is no space for it; the last save stays.
    """
    place = partial_folder(folder)
    name = f"state-{trainer.state.step}.safetensors"
    device = trainer.dataset.device.type  # random states of one kind of device mean nothing to another
    facts = {"schema": SCHEMA, "setup": setup, "device": device, "tensors": name, "state": asdict(trainer.state)}
    if device == "cpu":  # sums are taken in another order with another number of threads
        facts["threads"] = torch.get_num_threads()
    tensors, text = place / f"{name}.{writer()}.new", place / f"state.json.{writer()}.new"
    try:
        with writing(place):
            place.mkdir(parents=True, exist_ok=True)
            save_tensors(trainer.tensors(), tensors)
            tensors.replace(place / name)
            text.write_text(json.dumps(facts), encoding="utf-8")
            text.replace(place / "state.json")
    finally:
        tensors.unlink(missing_ok=True)
        text.unlink(missing_ok=True)
    for other in place.glob("state-*.safetensors"):
        if other.name != name:
            other.unlink(missing_ok=True)


def begun_with(folder: Path) -> int:
    """Return with how many threads the interrupted run in a folder trained; 0 where it doesn't say."""
    try:
        threads = json.loads((partial_folder(folder) / "state.json").read_text(encoding="utf-8"))["threads"]
        return threads if isinstance(threads, int) and 0 < threads < 2**16 else 0
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return 0


def read_partial(folder: Path, setup: Json, device: str) -> tuple[State, Path] | None:
    """Return where an interrupted run stood and the file of its tensors.

    None if there is none that can be continued: it was set up otherwise, ran on another kind of device, or is damaged.
    """
    place = partial_folder(folder)
    try:
        facts = json.loads((place / "state.json").read_text(encoding="utf-8"))
        if facts["schema"] != SCHEMA or facts["device"] != device or differences(facts["setup"], setup):
            return None
        if "conflict" in facts["state"]:  # what mtlbench 0.1 called them
            facts["state"]["probes"] = facts["state"].pop("conflict")
        facts["state"].setdefault("best_score", facts["state"].get("best_accuracy", -1.0))
        _Saved.model_validate(facts["state"])
        if Path(facts["tensors"]).name != facts["tensors"]:
            return None
        state, tensors = State(**facts["state"]), place / facts["tensors"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):  # whatever it is, no state
        return None
    return (state, tensors) if tensors.is_file() else None

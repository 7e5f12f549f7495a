"""What an interrupted run keeps, so that it can be continued."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, Field, create_model

from mtlbench.runs.disk import save_tensors, writing
from mtlbench.runs.lock import writer
from mtlbench.runs.record import SCHEMA, Json, partial_folder
from mtlbench.runs.setup import differences
from mtlbench.training.loop import Trainer
from mtlbench.training.state import State


def _saved() -> type[BaseModel]:
    """Return what checks a `State` as JSON holds it: of its own types, but for probes, whose shape it leaves alone."""
    types = get_type_hints(State) | {"probes": list[dict[str, Any]], "step": Annotated[int, Field(ge=0)]}
    members: dict[str, Any] = {one.name: (types[one.name], None) for one in fields(State)}  # each of them has a default
    made: type[BaseModel] = create_model("_Saved", __config__=ConfigDict(strict=True, extra="forbid"), **members)
    return made


_SAVED = _saved()


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
        _SAVED.model_validate(facts["state"])
        if Path(facts["tensors"]).name != facts["tensors"]:
            return None
        state, tensors = State(**facts["state"]), place / facts["tensors"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):  # whatever it is, no state
        return None
    return (state, tensors) if tensors.is_file() else None

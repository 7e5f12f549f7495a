"""What an interrupted run keeps, so that it can be continued."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, Field, create_model
from safetensors import SafetensorError
from safetensors.torch import load_file

from mtlbench.runs.disk import save_tensors, writing
from mtlbench.runs.lock import writer
from mtlbench.runs.record import SCHEMA, Json, Record, partial_folder
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
    threads = _facts(folder).get("threads")
    return threads if isinstance(threads, int) and 0 < threads < 2**16 else 0


def begun_on(folder: Path) -> str:
    """Return on which kind of device the interrupted run in a folder trained; empty where it doesn't say."""
    device = _facts(folder).get("device")
    return device if isinstance(device, str) else ""


def _facts(folder: Path) -> Json:
    """Return what the interrupted run in a folder kept beside its tensors; empty if there is none, or it is damaged."""
    try:
        facts = json.loads((partial_folder(folder) / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def begun_otherwise(folder: Path, setup: Json, device: str) -> list[str]:
    """List how the interrupted run in a folder was begun otherwise: its settings, or the kind of device.

    Empty if there is none, if it can be continued, or if nothing can continue it, since it is damaged.
    """
    facts = _facts(folder)
    try:
        if not (partial_folder(folder) / facts["tensors"]).is_file():
            return []
        if isinstance(facts["schema"], int) and facts["schema"] > SCHEMA:
            return [f"schema: {facts['schema']} there, {SCHEMA} now"]
        unlike = differences(facts["setup"], setup)
        kind = facts["device"]
        return unlike + ([f"device: {kind} there, {device} now"] if isinstance(kind, str) and kind != device else [])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []


def has_broken(folder: Path, record: Record) -> bool:
    """Return whether what a run kept is of no more use once it is edited: its own error has ended it since."""
    if record.status != "failed" or "traceback" not in record.receipt:
        return False
    try:
        kept = (partial_folder(folder) / "state.json").stat().st_mtime_ns
        return kept <= (folder / "run.json").stat().st_mtime_ns
    except OSError:
        return False


def continued(folder: Path, setup: Json, begin: Callable[[], Trainer]) -> Trainer:
    """Return a trainer that goes on where an interrupted run stood; `begin` returns one that has not begun.

    It has not begun either if there is no such run, or if what was kept is damaged.
    """
    trainer = begin()
    if kept := read_partial(folder, setup, trainer.dataset.device.type):
        state, tensors = kept
        try:
            trainer.restore(load_file(tensors), state)
        except torch.OutOfMemoryError:  # another process has the memory; nothing is wrong with what was kept
            raise
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError):
            return begin()
    return trainer


def read_partial(folder: Path, setup: Json, device: str) -> tuple[State, Path] | None:
    """Return where an interrupted run stood and the file of its tensors.

    None if there is none that can be continued: it was set up otherwise, ran on another kind of device, or is damaged.
    """
    place, facts = partial_folder(folder), _facts(folder)
    try:
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

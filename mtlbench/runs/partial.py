"""What an interrupted run keeps, so that it can be continued."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file

from mtlbench.runs.record import SCHEMA, Json, partial_folder
from mtlbench.runs.setup import differences
from mtlbench.training.loop import Trainer
from mtlbench.training.state import State


def save_partial(folder: Path, setup: Json, trainer: Trainer) -> None:
    """Keep what continuing a run needs; the last such save is replaced only when the new one is whole."""

    place = partial_folder(folder)
    place.mkdir(parents=True, exist_ok=True)
    name = f"state-{trainer.state.step}.safetensors"
    save_file(trainer.tensors(), place / f"{name}.new")
    (place / f"{name}.new").rename(place / name)
    device = trainer.dataset.device.type  # random states of one kind of device mean nothing to another
    facts = {"schema": SCHEMA, "setup": setup, "device": device, "tensors": name, "state": asdict(trainer.state)}
    (place / "state.json.new").write_text(json.dumps(facts))
    (place / "state.json.new").rename(place / "state.json")
    for other in place.glob("state-*.safetensors"):
        if other.name != name:
            other.unlink()


def read_partial(folder: Path, setup: Json, device: str) -> tuple[State, Path] | None:
    """Return where an interrupted run stood and the file of its tensors.

    None if there is none that can be continued: it was set up otherwise, ran on another kind of device, or is damaged.
    """
    place = partial_folder(folder)
    try:
        facts = json.loads((place / "state.json").read_text())
        if facts["schema"] != SCHEMA or facts["device"] != device or differences(facts["setup"], setup):
            return None
        if "conflict" in facts["state"]:  # what mtlbench 0.1 called them
            facts["state"]["probes"] = facts["state"].pop("conflict")
        state, tensors = State(**facts["state"]), place / facts["tensors"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (state, tensors) if tensors.exists() else None

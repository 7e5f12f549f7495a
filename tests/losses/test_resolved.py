"""What a record holds of the loss: every option, so that equal runs have equal setups."""

from __future__ import annotations

import pytest
from support import make_dataset, protocol

from mtlbench.plugins import load_plugins
from mtlbench.runs.provenance import setup_of
from mtlbench.runs.setup import differences
from mtlbench.specs import parse_method

load_plugins()


def setup(*settings: str) -> dict:
    return setup_of(parse_method("shared"), protocol(*settings), make_dataset(), 0, "fp32")


def test_a_setup_holds_the_losss_defaults():
    assert setup()["benchmark"]["loss"] == {"name": "triplet", "margin": 0.2, "soft_margin": False, "mining": "all"}
    supcon = setup("loss.name='pml:SupConLoss'")["benchmark"]["loss"]
    assert supcon == {"name": "pml:SupConLoss", "temperature": 0.1}


@pytest.mark.parametrize("setting", ["loss.margin=0.2", "loss.mining=all", "loss.soft_margin=false"])
def test_a_default_that_is_written_out_makes_the_same_run(setting):
    assert differences(setup(), setup(setting)) == []
    assert differences(setup(), setup("loss.mining=hard")) == ["benchmark.loss.mining: all there, hard now"]


def test_an_old_records_loss_is_todays():
    old = setup()
    old["benchmark"]["loss"] = {"margin": 0.2, **old["benchmark"].pop("embedding")}
    assert differences(old, setup()) == []

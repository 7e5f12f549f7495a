"""Where a step's time goes: parts by a clock that the test moves, and steps that stay those of a run."""

from __future__ import annotations

import json

import pytest
import torch
from support import make_dataset, protocol

from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method
from mtlbench.training import profile
from mtlbench.training.loop import Trainer
from mtlbench.training.profile import PARTS, Profile, _Clock, _told_apart, profile_steps

load_plugins()


def trainer_of(method="shared", *settings):
    return Trainer(parse_method(method), protocol(*settings), make_dataset(), 0, "fp32")


def test_a_part_within_another_stops_the_outer_ones_clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(profile.time, "perf_counter", lambda: now[0])
    clock = _Clock(torch.device("cpu"))

    def later(seconds):
        now[0] += seconds

    with clock.part("balancer"):
        later(1)
        clock.timed(later, "backward")(2)
        later(4)
        with clock.part("backward"):
            later(8)
    assert clock.step == {"balancer": 5, "backward": 10}


@pytest.mark.parametrize("method", ["shared", "gradnorm", "mgda", "famo", "modulation", "cross-stitch"])
@pytest.mark.parametrize("sampling", ["joint", "per-task"])
def test_every_part_of_a_step_is_seen_and_they_add_up(method, sampling):
    if method == "mgda" and sampling == "per-task":
        method = "pcgrad"
    trainer = trainer_of(method, f"train.sampling={sampling}")
    clock = _Clock(torch.device("cpu"))
    with _told_apart(trainer, clock), clock.part("the rest"):
        begun = profile.time.perf_counter()
        trainer.step()
        took = profile.time.perf_counter() - begun
    assert clock.step.keys() == set(PARTS)
    assert all(seconds > 0 for seconds in clock.step.values())
    assert sum(clock.step.values()) >= took


def test_the_steps_taken_are_those_of_a_run():
    found = []
    for watched in (True, False):
        trainer = trainer_of("gradnorm")
        for _ in range(3):
            if watched:
                with _told_apart(trainer, clock := _Clock(torch.device("cpu"))), clock.part("the rest"):
                    trainer.step()
            else:
                trainer.step()
        found.append([p.detach().clone() for p in trainer.architecture.parameters()])
        assert "draw" not in vars(trainer.sampler)  # nothing stays wrapped
        assert torch.autograd.grad.__module__ == "torch.autograd"
        assert not hasattr(torch.autograd.grad, "__wrapped__")
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_profile_has_the_networks_own_time_beside_a_steps(tmp_path):
    trainer = trainer_of("modulation")
    found = profile_steps(trainer, 2, tmp_path / "trace.json")
    assert tuple(found.parts) == PARTS
    assert found.images == trainer.images_per_step
    assert found.seconds > 0
    assert found.network > 0
    assert found.waits is None  # there is no device to wait for
    events = {event.get("name") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert {"step", "data", "network forward", "backward", "optimiser"} <= events


def test_the_network_alone_changes_nothing_of_it():
    trainer = trainer_of("shared")
    before = [p.detach().clone() for p in trainer.architecture.parameters()]
    batch = trainer.sampler.draw(trainer.generators)
    profile._network(trainer, batch.images, batch.joint)()
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.architecture.parameters(), strict=True))
    assert all(p.grad is None for p in trainer.architecture.parameters())
    assert trainer.architecture.representation is None


def test_outside_the_network_is_what_a_step_takes_longer():
    assert Profile(0.1, {}, 0.08, 96).outside == pytest.approx(0.2)
    assert Profile(0.1, {}, 0.11, 96).outside == 0  # other work on the machine slowed the network alone

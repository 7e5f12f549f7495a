"""Compiled networks: the same steps, resumed to the bit, and left as they are where a method doesn't fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import make_dataset, protocol

from mtlbench import Architecture, BackboneFactory
from mtlbench.errors import UserError
from mtlbench.jobs.execute import execute
from mtlbench.jobs.job import Watcher
from mtlbench.jobs.plan import plan
from mtlbench.report.suites import suites
from mtlbench.runs.provenance import setup_of
from mtlbench.runs.record import read_record
from mtlbench.runs.setup import differences, without_training
from mtlbench.specs import parse_method
from mtlbench.training import compiled
from mtlbench.training.compiled import check_compiler, compiles, why_not
from mtlbench.training.loop import Trainer

CPU, GPU = torch.device("cpu"), torch.device("cuda")
ON = "train.compile='on'"


@pytest.fixture(autouse=True)
def _quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trace and differentiate as ever, but leave out the code's generation, which takes long."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(compiled, "_BACKEND", "aot_eager")
    yield
    torch.compiler.reset()


def trained(spec: str, *settings: str, steps: int = 4) -> Trainer:
    trainer = Trainer(parse_method(spec), protocol(*settings), make_dataset(), 0, "fp32")
    for _ in range(steps):
        trainer.step()
    return trainer


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.architecture.parameters()])


def uses(trainer: Trainer) -> list[bool]:
    """Take a step, and return which passes of it were compiled ones, joint or not."""
    seen: list[bool] = []
    assert trainer.compiled is not None
    known = trainer.compiled.embed

    def embed(images: torch.Tensor, joint: bool) -> torch.Tensor:
        seen.append(joint)
        return known(images, joint)

    trainer.compiled.embed = embed  # type: ignore[method-assign]
    trainer.step()
    return seen


@pytest.mark.parametrize("sampling", ["joint", "per-task"])
def test_a_compiled_network_takes_the_same_steps(sampling):
    settings = f"train.sampling='{sampling}'"
    plain, made = trained("shared", settings), trained("shared", settings, ON)
    assert made.state.compiled == ""
    assert (plain.compiled, plain.state.compiled) == (None, None)
    torch.testing.assert_close(weights(made), weights(plain), rtol=1e-3, atol=1e-4)
    assert made.state.normalised == plain.state.normalised
    assert uses(made) == [sampling == "joint"]


@pytest.mark.parametrize("spec", ["gradnorm", "shared+pcgrad", "shared+mgda"])
def test_a_balancer_that_goes_back_more_than_once_keeps_its_network(spec):
    plain, made = trained(spec, steps=2), trained(spec, ON, steps=2)
    assert made.state.compiled == compiled._MORE
    assert weights(made).equal(weights(plain))
    assert uses(made) == []


def _stubborn(trainer: Trainer) -> None:
    """Let its network look at a number, which splits the graph."""
    architecture = trainer.architecture
    known = architecture.embed

    def embed(images: torch.Tensor) -> torch.Tensor:
        assert float(images.mean()) < 1e9
        return known(images)

    architecture.embed = embed  # type: ignore[method-assign]
    trainer.compiled = compiled.CompiledNetwork(architecture, CPU)


def test_a_network_that_torch_can_not_compile_stays_as_it_is():
    plain = trained("shared", steps=2)
    made = Trainer(parse_method("shared"), protocol(ON), make_dataset(), 0, "fp32")
    _stubborn(made)
    for _ in range(2):
        made.step()
    assert made.state.compiled is not None
    assert made.state.compiled.startswith("torch can't compile it (")
    assert "\n" not in made.state.compiled
    assert weights(made).equal(weights(plain))


def test_other_gradients_are_not_taken(monkeypatch):
    def wrong(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        return lambda *given: [out.sin() if out.is_floating_point() else out for out in graph(*given)]

    monkeypatch.setattr(compiled, "_BACKEND", wrong)
    made, plain = trained("shared", ON, steps=2), trained("shared", steps=2)
    assert made.state.compiled is not None
    assert made.state.compiled.startswith("compiled, its gradients would be others, at ")
    assert weights(made).equal(weights(plain))


def test_a_gradient_of_nothing_but_nan_or_of_another_parameter_is_another():
    def step(found: dict[str, torch.Tensor]) -> Any:
        return lambda made: (found if made else {"a": torch.ones(3), "b": torch.ones(2)}, 1)

    right = {"a": torch.ones(3), "b": torch.ones(2)}
    assert why_not(step(right), "fp32", CPU) == ""
    assert "at b first" in why_not(step(right | {"b": torch.full((2,), torch.nan)}), "fp32", CPU)
    assert "at b first" in why_not(step(right | {"b": torch.tensor([1.0, 1.01])}), "fp32", CPU)
    assert why_not(step(right | {"b": torch.tensor([1.0, 1.01])}), "bf16", CPU) == ""
    assert "at b first" in why_not(step({"a": torch.ones(3)}), "fp32", CPU)


class Counting(Architecture):
    """Takes another constant at every step, so that each is another graph."""

    def __init__(self, backbones: Any, tasks: Any) -> None:
        super().__init__(backbones, tasks)
        self.net, self.passes = backbones.backbone(), 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        found: torch.Tensor = self.net(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        return found if self.passes % 2 else found + 0.0


def test_a_network_that_would_be_compiled_anew_at_every_step_stays_as_it_is():
    made = Trainer(parse_method("shared"), protocol(ON, "train.sampling='per-task'"), make_dataset(), 0, "fp32")

    batch = made.sampler.draw(made.generators)
    other = Counting(BackboneFactory("small", (24, 24), 8, 0), made.dataset.tasks).train()
    made.architecture = other
    made.optimiser = torch.optim.SGD(other.parameters(), 0.1)
    made.compiled = compiled.CompiledNetwork(other, CPU)
    assert why_not(lambda by_torch: made._tried(batch, by_torch), "fp32", CPU).startswith("torch can't compile it (")


def test_an_interrupted_run_goes_on_to_the_bit_without_trying_again(monkeypatch):
    whole = trained("shared", ON, steps=5)
    begun = trained("shared", ON, steps=3)
    tensors, state = begun.tensors(), begun.state
    torch.compiler.reset()
    again = Trainer(parse_method("shared"), protocol(ON), make_dataset(), 0, "fp32")
    again.restore(tensors, state)
    monkeypatch.setattr("mtlbench.training.loop.why_not", lambda *_: pytest.fail("tried again"))
    for _ in range(2):
        again.step()
    assert weights(again).equal(weights(whole))


def test_when_networks_are_compiled():
    long, short = "train.steps=20000", "train.steps=19999"
    found = {
        (chosen, device.type, steps): compiles(protocol(f"train.compile='{chosen}'", steps), device)
        for chosen in ("auto", "on", "off")
        for device in (CPU, GPU)
        for steps in (long, short)
    }
    assert {key for key, yes in found.items() if yes} == {
        ("auto", "cuda", long), ("on", "cpu", long), ("on", "cpu", short), ("on", "cuda", long), ("on", "cuda", short),
    }  # fmt: skip
    assert not compiles(protocol(long), GPU)


def test_a_missing_compiler_is_named_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr(compiled, "missing", lambda device: "a C++ compiler, such as g++")
    check_compiler(protocol(), CPU)
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler, such as g\+\+, which is not here: install it"):
        check_compiler(protocol(ON), CPU)


def test_records_say_it_and_are_not_pooled_with_others(tmp_path):
    dataset, method = make_dataset(), parse_method("shared")
    for name, settings in (("plain", ()), ("made", (ON,))):
        for spec in ("shared", "gradnorm"):
            (job,) = plan([parse_method(spec)], [0], protocol(*settings), dataset, "fp32", tmp_path / name)
            execute(job, protocol(*settings), dataset, "fp32", Watcher(), costs=False)
    records = [
        read_record(path.parent) for name in ("plain", "made") for path in sorted((tmp_path / name).rglob("run.json"))
    ]
    said = {(r.method, r.setup.get("compiled"), r.receipt.get("compiled")) for r in records if r is not None}
    assert said == {
        ("shared", None, None), ("gradnorm", None, None), ("shared", True, "yes"),
        ("gradnorm", True, f"no: {compiled._MORE}"),
    }  # fmt: skip
    assert sorted(len(suite.done) for suite in suites([r for r in records if r is not None])) == [2, 2]
    with pytest.raises(UserError, match="compiled: None there, True now"):
        plan([method], [0], protocol(ON), dataset, "fp32", tmp_path / "plain")
    off, on = (setup_of(method, protocol(*settings), dataset, 0, "fp32") for settings in ((), (ON,)))
    assert differences(off, on) == ["compiled: None there, True now"]
    assert without_training(off) == without_training(on)  # untrained networks are the same


@pytest.mark.slow
def test_generated_code_gives_the_same_bits_every_time():
    if compiled.missing(CPU):
        pytest.skip(f"torch.compile needs {compiled.missing(CPU)}")
    found = []
    for _ in range(2):
        torch.compiler.reset()
        made = trained("shared", ON)
        assert made.state.compiled == ""
        found.append(weights(made))
    assert found[0].equal(found[1])
    torch.testing.assert_close(found[0], weights(trained("shared")), rtol=1e-2, atol=1e-3)

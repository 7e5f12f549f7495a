"""Every method on pretrained and frozen stages: what is trained, what is stored, what is refused, what records say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import TASKS, make_dataset, protocol
from torch import nn

from mtlbench import cost
from mtlbench.backbones import BackboneFactory
from mtlbench.backbones.weights import digest, is_frozen
from mtlbench.benchmark import Benchmark, load_benchmark
from mtlbench.errors import UserError
from mtlbench.jobs.measure import memory_of
from mtlbench.networks import build, tensors_by_task
from mtlbench.plugins import load_plugins
from mtlbench.registry import BALANCERS
from mtlbench.runs.provenance import setup_of
from mtlbench.runs.setup import differences
from mtlbench.specs import Method, method_names, parse_method
from mtlbench.torchjd import Combiner
from mtlbench.training.loop import Trainer

load_plugins()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stages of another network: weights to start from."""
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save(BackboneFactory("small", 24, 8, seed=9).backbone().stages.state_dict(), path)
    return path


def on(file: Path, *settings: str) -> Benchmark:
    return protocol("model.backbone=small", f"model.pretrained={file}", *settings)


def trainer(method: str | Method, benchmark: Benchmark, seed: int = 0) -> Trainer:
    parsed = parse_method(method) if isinstance(method, str) else method
    return Trainer(parsed, benchmark, make_dataset(), seed, "fp32")


def wants_gradients(method: Method) -> bool:
    """Whether a method's balancer looks at the gradients of what is shared."""
    return issubclass(BALANCERS.get(method.balancer).target, Combiner) or method.balancer == "gradnorm"


@pytest.mark.parametrize("freeze", ["2", "true"])
@pytest.mark.parametrize("name", method_names())
def test_every_method_trains_beside_frozen_stages_or_says_why_not(name: str, freeze: str, file: Path) -> None:
    method = parse_method(name)
    if freeze == "true" and method.architecture == "shared" and wants_gradients(method):
        with pytest.raises(UserError, match=r"frozen: freeze fewer stages \(model\.freeze\)"):
            trainer(method, on(file, "model.freeze=true"))
        return
    made = trainer(method, on(file, f"model.freeze={freeze}"))
    net, fixed = made.architecture, [m for m in made.architecture.modules() if is_frozen(m)]
    assert fixed
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in fixed]
    trained = {n: p.detach().clone() for n, p in net.named_parameters() if p.requires_grad}
    for _ in range(2):
        made.step()
    for module, state in zip(fixed, before, strict=True):
        now = module.state_dict()
        # modulation puts its scaled norm where a frozen stage's norm was
        assert all(torch.equal(now[k], v) for k, v in state.items())
    assert any(not torch.equal(p, trained[n]) for n, p in net.named_parameters() if n in trained)
    frozen = {id(p) for m in fixed for p in m.parameters(recurse=False)}
    assert not any(id(p) in frozen for p in made.optimiser.state)
    assert not any(id(p) in frozen for group in made.optimiser.param_groups for p in group["params"])


def test_frozen_stages_are_stored_once_whatever_the_method(file: Path) -> None:
    stages = BackboneFactory("small", 24, 8).backbone().stages
    first = sum(p.numel() for p in stages[:2].parameters())
    whole = sum(p.numel() for p in BackboneFactory("small", 24, 8).backbone().parameters())
    for freeze, once in (("2", first), ("true", sum(p.numel() for p in stages.parameters()))):
        benchmark, method = on(file, f"model.freeze={freeze}"), parse_method("independent")
        found = cost.storage(build(method, benchmark, TASKS, 0)[0])
        assert found["parameters_shared"] == once
        assert found["parameters_per_task"] == whole - once
        assert found["parameters"] == once + len(TASKS) * (whole - once)
        assert found["bytes"] == found["bytes_shared"] + len(TASKS) * found["bytes_per_task"]
        added = cost.added_by_one_task(method, benchmark, TASKS)
        assert added["parameters_added"] == whole - once


def test_frozen_parameters_take_no_memory_of_the_optimiser(file: Path) -> None:
    taken = {}
    for freeze in ("false", "3"):
        made = trainer("shared", on(file, f"model.freeze={freeze}"))
        made.step()
        assert memory_of(made)
        states = [t for values in made.optimiser.state.values() for t in values.values()]
        taken[freeze] = sum(t.numel() for t in states)
    stages = BackboneFactory("small", 24, 8).backbone().stages
    parameters = list(stages[:3].parameters())
    per_parameter = sum(p.numel() for p in parameters)
    assert taken["false"] - taken["3"] == 2 * per_parameter + len(parameters)  # two moments and a counter each


def test_each_tasks_checkpoint_may_be_its_own_where_all_that_is_shared_is_frozen(file: Path) -> None:
    made = trainer("shared", on(file, "model.freeze=true", "evaluation.select=per-task"))
    made.run()
    lists = tensors_by_task(made.architecture)
    assert lists is not None
    assert set(lists[0]) & set(lists[1])
    with pytest.raises(UserError, match="tasks share no parameter"):
        trainer("shared", on(file, "model.freeze=3", "evaluation.select=per-task"))


@pytest.mark.parametrize("method", ["shared+pcgrad", "shared+gradnorm", "mgda", "shared+graddrop[at=auto]"])
def test_a_balancer_that_has_nothing_to_act_on_says_so_in_one_sentence(method: str, file: Path) -> None:
    with pytest.raises(UserError, match=r"frozen: freeze fewer stages \(model\.freeze\), or take a balancer") as caught:
        trainer(method, on(file, "model.freeze=true"))
    assert str(caught.value).count(". ") == 0


def test_gradients_at_features_of_frozen_stages_are_taken_at_what_is_shared_behind_them(file: Path) -> None:
    """csn's representation is the embedding; the layer before it is trained though the trunk is not."""
    made = trainer("csn+mgda", on(file, "model.freeze=true"))
    made.step()
    assert made.balancer.gradient_norms is not None
    assert bool((made.balancer.gradient_norms > 0).any())


def test_pretrained_stages_have_a_rate_of_their_own(file: Path) -> None:
    made = trainer("modulation[rate=10]", on(file, "model.pretrained_rate=0.1", "model.freeze=1"))
    scales = {id(p): group["scale"] for group in made.optimiser.param_groups for p in group["params"]}
    by_name = {n: scales.get(id(p)) for n, p in made.architecture.named_parameters()}
    assert {s for n, s in by_name.items() if n.startswith("net.stages.0")} == {None}
    assert {s for n, s in by_name.items() if n.startswith(("net.stages.1", "net.stages.3"))} == {0.1}
    assert {s for n, s in by_name.items() if n.startswith("net.head")} == {1.0}
    assert {s for n, s in by_name.items() if n.startswith("scales.")} == {10}


def test_a_rate_near_zero_leaves_pretrained_weights_and_trains_the_rest(file: Path) -> None:
    made = trainer("shared", on(file, "model.pretrained_rate=1e-9"))
    made.step()
    there = torch.load(file, weights_only=True)
    for name, parameter in made.architecture.named_parameters():
        if name.startswith("trunk."):
            torch.testing.assert_close(parameter.detach(), there[name.removeprefix("trunk.")], atol=1e-8, rtol=0)
    heads = BackboneFactory("small", 24, 8).heads(made.dataset.tasks)
    assert not torch.equal(next(made.architecture.heads.parameters()), next(heads.parameters()))  # type: ignore[union-attr]


def test_defaults_change_no_number() -> None:
    """Nothing is frozen, all scales are 1, and the steps are those of settings that name the defaults."""
    runs = []
    for settings in ([], ["model.freeze=false", "model.pretrained=false", "model.pretrained_rate=1.0"]):
        made = trainer("modulation", protocol(*settings))
        assert {group["scale"] for group in made.optimiser.param_groups} == {1.0}
        assert not any(is_frozen(m) for m in made.architecture.modules())
        made.step()
        runs.append(made.architecture.state_dict())
    assert all(torch.equal(v, runs[1][k]) for k, v in runs[0].items())


class TestSettings:
    def test_what_makes_no_sense_is_refused(self, file: Path) -> None:
        for settings, words in (
            (["model.freeze=2"], "would fix random weights"),
            (["model.pretrained_rate=0.1"], "set model.pretrained too"),
            (["model.pretrained=true", "model.freeze=true", "model.pretrained_rate=0.1"], "no effect"),
            (['model.pretrained=""'], "names no file"),
            ([f"model.pretrained={file}", "model.freeze=-1"], "model.freeze"),
            ([f"model.pretrained={file}", "model.pretrained_rate=0"], "model.pretrained_rate"),
        ):
            with pytest.raises(UserError, match=words):
                load_benchmark("shoes", settings=settings)

    def test_a_file_is_found_beside_its_benchmark_and_from_the_command_line(
        self, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "own").mkdir()
        toml = tmp_path / "own" / "mine.toml"
        toml.write_text('[data]\nreader = "zappos"\n[model]\npretrained = "trunk.pth"\nfreeze = 2\n')
        model = load_benchmark(str(toml)).model
        assert model.pretrained == str((tmp_path / "own/trunk.pth").resolve())
        assert (model.freeze, type(model.freeze)) == (2, int)
        monkeypatch.chdir(tmp_path)
        found = load_benchmark(str(toml), settings=["model.pretrained=other.pth", "model.freeze=1"]).model
        assert found.pretrained == str((tmp_path / "other.pth").resolve())
        assert (found.freeze, type(found.freeze)) == (1, int)
        assert load_benchmark(str(toml), settings=["model.freeze=true"]).model.freeze is True

    def test_a_setup_states_the_content_of_a_file_and_not_its_path(self, file: Path, tmp_path: Path) -> None:
        method, data = parse_method("shared"), make_dataset()

        def setup(path: Path, *more: str) -> dict[str, Any]:
            return setup_of(method, on(path, *more), data, 0, "fp32")

        copied, other = tmp_path / "copied.pth", tmp_path / "other.pth"
        copied.write_bytes(file.read_bytes())
        torch.save(nn.Linear(2, 2).state_dict(), other)
        assert str(file.parent) not in json.dumps(setup(file))
        assert differences(setup(file), setup(copied)) == []
        said = f"sha256:{digest(file)[:16]} there, sha256:{digest(other)[:16]} now"
        assert differences(setup(file), setup(other)) == [f"benchmark.model.pretrained: {said}"]
        assert "benchmark.model.freeze" in differences(setup(file), setup(file, "model.freeze=2"))[0]
        with pytest.raises(UserError, match="can't be read"):
            setup(tmp_path / "none.pth")

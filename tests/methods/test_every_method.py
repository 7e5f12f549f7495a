"""What holds for every registered method."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mtlbench.architecture import Architecture
from mtlbench.backbones import BackboneFactory
from mtlbench.benchmark import load_benchmark
from mtlbench.cost import added_by_one_task, file_size, operations, storage, weights_of
from mtlbench.specs import parse_method

TASKS = ("colour", "shape", "size")
MIXING = ("cross-stitch", "nddr", "ple")  # each task's features are made of every task's


def build(method: str, backbones: BackboneFactory, tasks: tuple[str, ...] = TASKS) -> Architecture:
    return parse_method(method).build(backbones, tasks)[0]


def trained_a_little(architecture: Architecture, images: torch.Tensor) -> Architecture:
    """Take three steps, so that tasks differ, batch norm has statistics and no parameter stands where it began."""
    optimiser = torch.optim.SGD(architecture.parameters(), lr=0.05)
    target = torch.randn(architecture(images).shape, generator=torch.Generator().manual_seed(2))
    for _ in range(3):
        optimiser.zero_grad()
        (architecture(images) - target).square().sum().backward()
        torch.nn.utils.clip_grad_norm_(architecture.parameters(), 1.0)
        optimiser.step()
    return architecture.eval()


def test_a_group_is_embedded_under_its_own_task(method, backbones, images):
    net = trained_a_little(build(method, backbones), images)
    with torch.no_grad():
        embeddings = net(images)
        assert embeddings.shape == (3, 4, 8)
        for t in range(3):
            torch.testing.assert_close(embeddings[t], net.embed(images[t])[t], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(embeddings[t], net.embed_task(images[t], t), rtol=1e-4, atol=1e-5)


def test_embed_is_what_the_contract_says_it_is_by_default(method, backbones, images):
    net = trained_a_little(build(method, backbones), images)
    with torch.no_grad():
        torch.testing.assert_close(net.embed(images[0]), Architecture.embed(net, images[0]), rtol=1e-4, atol=1e-5)


def test_the_tasks_order_plays_no_part(method, backbones, images):
    order = [2, 0, 1]
    net = build(method, backbones).eval()
    other = build(method, backbones, tuple(TASKS[t] for t in order)).eval()
    with torch.no_grad():
        torch.testing.assert_close(net(images)[order], other(images[order]), rtol=1e-4, atol=1e-5)


def test_a_task_starts_the_same_whichever_other_tasks_there_are(method, backbones, images):
    alone, together = build(method, backbones, ("shape",)).eval(), build(method, backbones).eval()
    if method in MIXING:
        pytest.skip("its features are mixed with the other tasks' from the start")
    with torch.no_grad():
        torch.testing.assert_close(together(images)[1], alone(images[1:2])[0], rtol=1e-4, atol=1e-5)


def test_in_evaluation_an_embedding_does_not_depend_on_its_batch(method, backbones, images):
    net = trained_a_little(build(method, backbones), images)
    with torch.no_grad():
        whole = net.embed(images.flatten(0, 1))
        torch.testing.assert_close(whole[:, 3:6], net.embed(images.flatten(0, 1)[3:6]), rtol=1e-4, atol=1e-5)
        assert torch.equal(whole, net.embed(images.flatten(0, 1)))


def test_images_of_different_tasks_do_not_mix(method, backbones, images):
    net = trained_a_little(build(method, backbones), images)
    changed = images.clone()
    changed[1] += 1
    with torch.no_grad():
        before, after = net(images), net(changed)
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before[1], after[1], atol=1e-3)


def test_every_parameter_is_used_or_declared_frozen(method, backbones, images):
    net = build(method, backbones)
    weights = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(4))
    (net(images) * weights).sum().backward()
    unused = [n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert unused == []


def test_only_a_tasks_own_loss_reaches_what_is_its_own(method, backbones, images):
    net = build(method, backbones).eval()  # while training, a batch norm's statistics mix the tasks a little
    if method in MIXING:
        pytest.skip("a column also feeds the other tasks, through the units")
    net(images)[1].square().sum().backward()
    for t in (0, 2):
        assert all(p.grad is None or not p.grad.any() for p in net.task_parameters(t))
    assert all(p.grad is not None and p.grad.any() for p in net.task_parameters(1))


def test_a_checkpoint_round_trip_is_exact(method, backbones, images, tmp_path: Path):
    net = trained_a_little(build(method, backbones), images)
    save_file(weights_of(net), tmp_path / "weights.safetensors")
    other = build(method, BackboneFactory("small", 24, 8, seed=99)).eval()
    loaded = load_file(tmp_path / "weights.safetensors")
    missing, unexpected = other.load_state_dict(loaded, strict=False)
    assert unexpected == []
    assert all(name.endswith("num_batches_tracked") for name in missing)
    with torch.no_grad():
        assert torch.equal(net(images), other(images))


def test_counted_parameters_are_the_saved_ones(method, backbones, tmp_path: Path):
    net = build(method, backbones)
    counted = storage(net)
    save_file(weights_of(net), tmp_path / "weights.safetensors")
    buffers = {name for name, _ in net.named_buffers()}
    with safe_open(tmp_path / "weights.safetensors", "pt") as saved:
        sizes = {name: saved.get_tensor(name).numel() for name in saved.keys()}  # noqa: SIM118
    assert counted["parameters"] == sum(n for name, n in sizes.items() if name not in buffers)
    assert counted["parameters"] == sum(p.numel() for p in net.parameters())
    assert counted["bytes"] == 4 * sum(sizes.values())
    assert file_size(net) == (tmp_path / "weights.safetensors").stat().st_size
    assert 0 < file_size(net) - counted["bytes"] < 200 * len(sizes) + 100  # the file's own header
    whole = counted["parameters_shared"] + 3 * counted["parameters_per_task"]
    assert whole == pytest.approx(counted["parameters"])


def test_what_one_more_task_adds_is_the_difference(method):
    benchmark = load_benchmark("shoes", quick=True)
    spec, size = parse_method(method), benchmark.data.size
    factory = BackboneFactory("small", size, benchmark.model.embedding)
    three = storage(build(method, factory))["parameters"]
    four = storage(build(method, factory, (*TASKS, "weight")))["parameters"]
    assert added_by_one_task(spec, benchmark, TASKS)["parameters_added"] == four - three


def test_one_task_costs_no_more_operations_than_all(method, backbones, images):
    counts = operations(build(method, backbones), images[0, :1])
    assert 0 < counts["flops_one_task"] <= counts["flops_all_tasks"]


def test_a_single_task_is_enough(method, backbones, images):
    net = build(method, backbones, ("colour",))
    assert net(images[:1]).shape == (1, 4, 8)


def test_it_can_be_counted_for_forty_tasks_without_memory(method):
    with torch.device("meta"):
        net = build(method, BackboneFactory("small", 48, 64), tuple(f"task {t}" for t in range(40)))
    assert storage(net)["parameters"] == sum(p.numel() for p in net.parameters()) > 0

"""Checkpoints of a modulated network, tasks that are added, and what a task stores."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from support_modulated import TASKS, Tiny, spread, tiny

from mtlbench import Modulated, UserError, modulate


def test_a_checkpoint_names_module_and_task(images):
    net, other = spread(tiny()), tiny()
    scales = {f"scales.{name}:{task}" for name in ("conv1", "conv2", "fc") for task in TASKS}
    assert set(net.state_dict()) == {f"network.{name}" for name in net.network.state_dict()} | scales
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(images, 2), net(images, 2))
    swapped = modulate(Tiny(), TASKS[::-1], net.after, example=images).eval()  # another order of tasks: names count
    swapped.load_state_dict(net.state_dict())
    assert torch.equal(swapped(images, "toe"), net(images, "toe"))


def test_names_with_dots_and_names_of_attributes(images):
    net = modulate(Tiny(), ("forward", "v1.5"), ["conv1.0"], example=images)
    assert list(net.task_parameters("v1.5")) == ["scales.conv1/0:v1/5"]
    assert net(images, "forward").shape == (6, 5)


def test_a_task_can_be_saved_and_loaded_alone(images):
    net, other = spread(tiny(), 5), spread(tiny(), 6)
    saved = {name: vector.detach().clone() for name, vector in net.task_parameters("heel").items()}
    untouched = other(images, "toe")
    result = other.load_state_dict(saved, strict=False)
    assert result.unexpected_keys == []
    assert torch.equal(other(images, "heel"), net(images, "heel"))
    assert torch.equal(other(images, "toe"), untouched)


def test_a_new_task_starts_plain_and_leaves_the_others(images):
    net = spread(tiny()).to(torch.float64)
    images = images.double()
    before = [net(images, task) for task in TASKS]
    net.add_task("heel.height")
    assert net.tasks == (*TASKS, "heel.height")
    assert torch.equal(net(images, 3), net.network(images))
    assert all(torch.equal(net(images, t), expected) for t, expected in enumerate(before))
    for name in ("heel", "", "heel/height"):
        with pytest.raises(UserError, match=r"is there already|isn't empty"):
            net.add_task(name)
    assert len(net.tasks) == 4


def test_training_a_new_task_in_evaluation_mode_leaves_the_others_and_its_vectors_are_all_that_is_new(images):
    net = spread(tiny())  # with batch norm
    old = copy.deepcopy(net)
    before = [net(images, task) for task in TASKS]

    def train(net: Modulated) -> None:
        optimiser = torch.optim.Adam(net.task_parameters("tip").values(), lr=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            net(images * 3 + 1, "tip").square().mean().backward()
            optimiser.step()

    net.add_task("tip")
    train(net)
    assert not torch.allclose(net(images, "tip"), net.network(images))
    assert all(torch.equal(net(images, task), expected) for task, expected in zip(TASKS, before, strict=True))
    buffer = io.BytesIO()
    torch.save(net.task_parameters("tip"), buffer)
    buffer.seek(0)
    old.add_task("tip")
    assert old.load_state_dict(torch.load(buffer), strict=False).unexpected_keys == []
    assert torch.equal(old(images, "tip"), net(images, "tip"))

    train(net.train())  # why the documentation says eval()
    assert not torch.allclose(net.eval()(images, 0), before[0])


def test_a_task_costs_a_number_per_channel():
    net = tiny()
    assert net.task_bytes("heel") == 4 * (4 + 6 + 5)
    added = sum(p.numel() for p in net.parameters()) - sum(p.numel() for p in net.network.parameters())
    assert added == 3 * (4 + 6 + 5)
    assert net.to(torch.bfloat16).task_bytes("heel") == 2 * (4 + 6 + 5)


def test_vectors_are_of_the_networks_kind():
    net = modulate(Tiny().double(), TASKS, ["conv1"], example=torch.zeros(1, 3, 12, 12).double())
    assert {vector.dtype for vector in net.scales.values()} == {torch.float64}
    assert all(vector.requires_grad and vector.is_leaf for vector in net.scales.values())


def test_autocast_and_channels_last(images):
    net = tiny().to(memory_format=torch.channels_last).train()
    kept = []
    net.network.conv2.register_forward_hook(lambda _, __, output: kept.append(output))
    with torch.autocast("cpu", torch.bfloat16):
        output = net(images.contiguous(memory_format=torch.channels_last), [0, 1, 2, 2, 1, 0])
    assert output.dtype == kept[0].dtype == torch.bfloat16
    assert kept[0].is_contiguous(memory_format=torch.channels_last)
    output.float().square().mean().backward()
    assert all(vector.grad.isfinite().all() and vector.grad.any() for vector in net.scales.values())


@pytest.mark.slow
def test_it_compiles_as_a_whole(images):
    net = spread(tiny())
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    for task in ("heel", "toe", torch.tensor([0, 1, 2, 2, 1, 0])):
        torch.testing.assert_close(compiled(images, task), net(images, task))
    compiled(images, "toe").square().sum().backward()
    assert net.scales["conv1:toe"].grad.any()
    assert net.scales["conv1:heel"].grad is None
    wrong = compiled(images, torch.tensor([0, -1, 2, 3, 1, 0]))  # where they can't be looked at: no other task's
    assert wrong.isnan().all(1).tolist() == wrong.isnan().any(1).tolist() == [False, True, False, True, False, False]

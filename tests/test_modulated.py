"""`modulate`: against the hand, the plain network and the modulation method; what it refuses; README's example."""

from __future__ import annotations

import copy
import io
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mtlbench import BackboneFactory, Modulated, UserError, modulate
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method

TASKS = ("closure", "heel", "toe")
README = Path(__file__).parent.parent / "README.md"


class Tiny(nn.Module):
    """A network of one's own: a module that is called twice, one that never is, one that returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.relu = nn.ReLU()
        self.unused = nn.Conv2d(6, 6, 1)
        self.pair = Pair()
        self.mean = Mean()
        self.fc = nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        features = self.relu(self.conv2(self.relu(self.conv1(images))))
        self.mean(features)
        return self.fc(self.pair(features)[0].mean((2, 3)))


class Pair(nn.Module):
    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return features, features


class Mean(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.mean()


class ChannelsLast(nn.Module):
    """(B, 3, H, W) -> (B, H, W, 4) -> (B, 4), like the stages of a Swin; `only` is the one size of images it takes."""

    def __init__(self, only: int | None = None) -> None:
        super().__init__()
        self.linear, self.only = nn.Linear(3, 4), only

    def forward(self, images: Tensor) -> Tensor:
        assert self.only in (None, images.shape[-1])
        return self.linear(images.movedim(1, -1)).mean((1, 2))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def tiny(**options: object) -> Modulated:
    torch.manual_seed(2)
    return modulate(Tiny(), TASKS, ["conv1", "conv2", "fc"], example=torch.zeros(1, 3, 12, 12), **options).eval()


def spread(net: Modulated, seed: int = 5) -> Modulated:
    """Draw all vectors from -1 to 2, so that the ReLU closes some channels."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for vector in net.scales.values():
            vector.copy_(torch.rand(vector.shape, generator=generator) * 3 - 1)
    return net


# --- what it computes -------------------------------------------------------------------------------------------------


def test_two_channels_by_hand():
    net = modulate(nn.Conv2d(1, 2, 1, bias=False), ("a", "b"), [""], example=torch.zeros(1, 1, 2, 2))
    with torch.no_grad():
        net.network.weight.copy_(torch.tensor([1.0, 10.0]).reshape(2, 1, 1, 1))
        net.scales[":b"].copy_(torch.tensor([0.5, -3.0]))
        images = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 4.0]]]])
        assert net(images, "a").tolist() == [[[[1, 2]], [[10, 20]]], [[[3, 4]], [[30, 40]]]]
        assert net(images, "b").tolist() == [[[[0.5, 1]], [[0, 0]]], [[[1.5, 2]], [[0, 0]]]]
        assert net(images, [1, 0]).tolist() == [[[[0.5, 1]], [[0, 0]]], [[[3, 4]], [[30, 40]]]]


@pytest.mark.parametrize("relu", [True, False])
def test_it_is_scaling_after_each_module(images, relu):
    net = spread(tiny(relu=relu))
    plain = net.network
    with torch.no_grad():
        for task in TASKS:
            first, second, last = (v.clamp(min=0) if relu else v for v in net.task_parameters(task).values())
            features = plain.relu(plain.conv1(images) * first[:, None, None])
            features = plain.relu(plain.conv2(features) * second[:, None, None])
            torch.testing.assert_close(net(images, task), plain.fc(features.mean((2, 3))) * last)


@pytest.mark.parametrize("mode", [True, False])
def test_at_the_start_every_task_is_the_plain_network_bit_for_bit(images, mode):
    net = tiny().train(mode)
    plain = copy.deepcopy(net.network)
    mixed = copy.deepcopy(net)(images, [0, 1, 2, 0, 1, 2])
    for task in TASKS:
        assert torch.equal(copy.deepcopy(net)(images, task), copy.deepcopy(plain)(images))
        assert torch.equal(mixed, copy.deepcopy(plain)(images))


def test_names_indices_and_numbers_in_a_tensor_are_the_same_task(images):
    net = spread(tiny())
    expected = net(images, "heel")
    assert not torch.allclose(expected, net(images, "closure"))
    assert torch.equal(net(images, 1), expected)
    assert torch.equal(net(images, np.int64(1)), expected)
    torch.testing.assert_close(net(images, torch.tensor(1)), expected)
    assert list(net.task_parameters(1)) == list(net.task_parameters("heel"))
    for many in (
        ["heel"] * 6,
        [1] * 6,
        (1,) * 6,
        np.ones(6, dtype=int),
        torch.ones(6, dtype=torch.long),
        torch.ones(6, dtype=torch.int32),
    ):
        torch.testing.assert_close(net(images, many), expected)


def test_a_mixed_batch_is_each_image_under_its_task(images):
    net = spread(tiny())
    mixed = net(images, torch.tensor([2, 0, 1, 1, 0, 2]))
    for i, task in enumerate([2, 0, 1, 1, 0, 2]):
        torch.testing.assert_close(mixed[i : i + 1], net(images[i : i + 1], task))


def test_a_tasks_loss_moves_its_own_vectors_and_the_network_alone(images):
    net = tiny()
    net(images, "heel").square().sum().backward()
    for task in TASKS:
        gradients = [vector.grad for vector in net.task_parameters(task).values()]
        assert all(g.any() for g in gradients) if task == "heel" else gradients == [None] * 3
    assert net.network.conv1[0].weight.grad.any()


def test_of_a_mixed_batch_too(images):
    net = tiny()
    net(images, [0, 1, 0, 1, 0, 1])[1::2].square().sum().backward()
    for task in TASKS:
        assert [bool(v.grad.any()) for v in net.task_parameters(task).values()] == [task == "heel"] * 3


def test_the_small_backbone_is_the_modulation_method(images):
    load_plugins()
    backbones = BackboneFactory("small", 24, 8, seed=3)
    method = parse_method("modulation").build(backbones, TASKS)[0].eval()
    plain = backbones.backbone()
    net = modulate(plain, TASKS, ["stages.2", "stages.3", "head"], example=torch.zeros(1, 3, 24, 24)).eval()
    spread(net)
    with torch.no_grad():
        for t, task in enumerate(TASKS):
            for vector, mine in zip(method.task_parameters(t), net.task_parameters(task).values(), strict=True):
                vector.copy_(mine)
        images = torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(4))
        embeddings = method.embed(images)
        for t, task in enumerate(TASKS):
            assert torch.equal(net(images, task), method.embed_task(images, t))
            torch.testing.assert_close(net(images, task), embeddings[t])
        rows = torch.arange(3).repeat_interleave(4)
        torch.testing.assert_close(net(images.repeat(3, 1, 1, 1), rows).unflatten(0, (3, 4)), embeddings)


def test_channels_last_outputs_are_scaled_along_the_axis_that_is_named(images):
    net = spread(modulate(ChannelsLast(), TASKS, "linear", channel_axis=-1, example=images))
    (vector,) = net.task_parameters("toe").values()
    expected = (net.network.linear(images.movedim(1, -1)) * vector.clamp(min=0)).mean((1, 2))
    torch.testing.assert_close(net(images, "toe"), expected)
    torch.testing.assert_close(net(images, [2] * 6), expected)


# --- what becomes of the network --------------------------------------------------------------------------------------


def test_the_network_is_the_one_that_was_given_and_stays_plain_by_itself(images):
    plain = Tiny().eval()
    plain.conv1.train()
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    expected = copy.deepcopy(plain)(images)
    net = spread(modulate(plain, TASKS, ["conv1", "fc"], example=images))
    assert net.network is plain
    assert [plain.training, plain.conv1.training, plain.conv1[1].training] == [False, True, True]
    after = plain.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(plain(images), expected)
    assert not torch.equal(net(images, 0), expected)


class Merging(nn.Linear):
    """Adds a second weight to its own for evaluation, like the layers of loralib."""

    def __init__(self) -> None:
        super().__init__(4, 2)
        self.second, self.merged = nn.Parameter(torch.ones(2, 4)), False
        self.weight.data.fill_(2)

    def train(self, mode: bool = True) -> Merging:
        if mode == self.merged:
            self.weight.data += -self.second if mode else self.second
            self.merged = not mode
        return super().train(mode)

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight if self.merged else self.weight + self.second, self.bias)


@pytest.mark.parametrize("mode", [True, False])
def test_layers_that_merge_their_weights_for_evaluation_are_left_as_they_were(images, mode):
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Merging()).train(mode)
    expected = plain(images)
    modulate(plain, TASKS, ["0"], example=images)
    assert (plain[3].training, plain[3].merged) == (mode, not mode)
    assert torch.equal(plain[3].weight, torch.full((2, 4), 2.0 if mode else 3.0))
    assert torch.equal(plain(images), expected)


def test_a_network_can_be_modulated_twice_and_within(images):
    one, other = spread(tiny(), 5), tiny()
    other.network.load_state_dict(one.network.state_dict())
    two = modulate(one.network, ("x",), ["conv2"], example=images)
    within = modulate(nn.Sequential(two.network, nn.Linear(5, 2)), ("y",), ["0.fc", "1"], example=images)
    for net in (two, within):
        spread(net, 6)
    assert torch.equal(one(images, "toe"), spread(other, 5)(images, "toe"))
    assert two(images, "x").shape == (6, 5)
    assert within(images, "y").shape == (6, 2)


def test_a_copy_has_vectors_of_its_own(images):
    net = spread(tiny())
    twin = copy.deepcopy(net)
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    expected = net(images, 1)
    with torch.no_grad():
        net.scales["fc:heel"].add_(1)
    for other in (twin, loaded):
        assert torch.equal(other(images, 1), expected)
    assert not torch.equal(net(images, 1), expected)


def test_threads_do_not_take_each_others_task(images):
    net = spread(tiny())
    expected = [net(images, t) for t in range(3)]
    start, found = threading.Barrier(3), {}

    # every thread waits within the network, so that all three passes are under way at once
    def wait(*_: object) -> None:
        start.wait(timeout=20)

    net.network.conv2.register_forward_pre_hook(wait)

    def work(t: int) -> None:
        found[t] = net(images, t)

    threads = [threading.Thread(target=work, args=(t,)) for t in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[t], expected[t]) for t in range(3))


def test_a_pass_that_fails_leaves_nothing_behind(images):
    net = spread(tiny())
    plain, expected = net.network(images), net(images, 2)
    with pytest.raises(RuntimeError):
        net(images[:, :1], 0)
    assert torch.equal(net.network(images), plain)
    assert torch.equal(net(images, 2), expected)


# --- checkpoints, tasks, storage --------------------------------------------------------------------------------------


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


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "after", "said"),
    [
        ((), ["fc"], "tasks is empty"),
        ("heel", ["fc"], "must be a sequence of names"),
        (range(3), ["fc"], "must be a sequence of names"),
        (("heel", "toe", "heel"), ["fc"], "the task 'heel' is there already"),
        (3, ["fc"], "tasks=3 must be a sequence of names"),
        (("",), ["fc"], "isn't empty"),
        (TASKS, 0, "after=0 must be names of modules"),
        (TASKS, [], "after is empty"),
        (TASKS, ["conv3"], r"Unknown module 'conv3'. Did you mean: .*conv2.*The network has: conv1, conv2, relu,"),
        (TASKS, ["fc", "fc"], "names the module 'fc' twice"),
        (TASKS, ["relu"], "'relu' is called 2 times"),
        (TASKS, ["unused"], "'unused' is called 0 times"),
        (TASKS, ["pair"], "'pair' returns a tuple"),
        (TASKS, ["mean"], r"the output of the module 'mean' has no channels of every image: it is \(\) for 2 images"),
    ],
)
def test_what_cannot_be_modulated_is_refused(tasks, after, said):
    network = Tiny()
    with pytest.raises(UserError, match=said):
        modulate(network, tasks, after, example=torch.zeros(1, 3, 12, 12))
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("tasks", [(name for name in TASKS), np.array(TASKS), list(TASKS), dict.fromkeys(TASKS)])
def test_tasks_may_come_as_any_sequence(tasks):
    net = modulate(Tiny(), tasks, (name for name in ["fc"]), example=torch.zeros(1, 3, 12, 12))
    assert net.tasks == TASKS
    assert {type(task) for task in net.tasks} == {str}
    assert list(net.scales) == ["fc:closure", "fc:heel", "fc:toe"]


def test_a_network_that_fails_on_the_example_says_so():
    with pytest.raises(UserError, match=r"failed on images \(2, 3, 224, 224\).*give a batch that it takes as example="):
        modulate(nn.Conv2d(1, 2, 3), TASKS, [""])


@pytest.mark.parametrize("only", [None, 12])
def test_maps_with_channels_last_are_refused_unless_the_axis_is_named(images, only):
    with pytest.raises(UserError, match=r"\(6, 12, 12, 4\), with channels last; say channel_axis=-1"):
        modulate(ChannelsLast(only), TASKS, ["linear"], example=images)


class Patches(nn.Module):
    """Maps with channels last, (B, H / stride, W / stride, 8), of images of any size, one size, or resized to one."""

    def __init__(self, stride: int, only: tuple[int, int] | None = None, resize: int | None = None) -> None:
        super().__init__()
        self.conv, self.maps = nn.Conv2d(3, 8, stride, stride), nn.Identity()
        self.only, self.resize = only, resize

    def forward(self, images: Tensor) -> Tensor:
        assert self.only in (None, images.shape[2:])
        if self.resize is not None:
            images = F.interpolate(images, size=(self.resize, self.resize))
        return self.maps(self.conv(images).movedim(1, -1)).mean((1, 2))


@pytest.mark.parametrize(
    ("network", "example", "said"),
    [
        (
            Patches(4, only=(48, 64)),
            (48, 64),
            r"\(2, 12, 16, 8\), in which channels aren't plain.*channel_axis=1 or .*=-1",
        ),
        (Patches(4, resize=64), (24, 24), r"\(2, 16, 16, 8\), with channels last; say channel_axis=-1"),
        (Patches(4, resize=32), (24, 24), r"\(2, 8, 8, 8\), in which channels aren't plain"),
        (Patches(64), (128, 128), r"\(2, 2, 2, 8\), with channels last; say channel_axis=-1"),
        (
            Patches(64),
            (128, 160),
            r"\(2, 2, 2, 8\), in which channels aren't plain",
        ),  # grows along its third axis alone
    ],
)
def test_channels_that_are_not_plain_to_find_are_asked_for(network, example, said):
    example = torch.zeros(2, 3, *example)
    with pytest.raises(UserError, match=said):
        modulate(network, TASKS, ["maps"], example=example)
    assert modulate(network, TASKS, ["maps"], channel_axis=-1, example=example).task_bytes("toe") == 4 * 8
    assert modulate(network, TASKS, ["conv"], channel_axis=1, example=example).task_bytes("toe") == 4 * 8


@pytest.mark.parametrize("size", [(16, 16), (16, 24)])
@pytest.mark.parametrize("pooled", [1, 3])
def test_channels_of_maps_that_do_not_grow_are_found_beside_a_square(size, pooled):
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(pooled), nn.Flatten())
    net = modulate(network, TASKS, ["0", "1", "2"], example=torch.zeros(2, 3, *size))
    assert [len(vector) for vector in net.task_parameters("toe").values()] == [8, 8, 8 * pooled**2]


def test_a_network_for_one_size_of_images_is_taken():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(400, 2))
    assert modulate(network, TASKS, ["0", "2"], example=torch.zeros(1, 3, 12, 12)).task_bytes("toe") == 24


def test_tokens_need_their_axis_named():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2))
    with pytest.raises(UserError, match=r"\(2, 4, 100\).*say channel_axis=1 or"):
        modulate(network, TASKS, ["1"], example=torch.zeros(1, 3, 12, 12))
    assert modulate(network, TASKS, ["1"], channel_axis=1, example=torch.zeros(1, 3, 12, 12)).task_bytes("toe") == 16


@pytest.mark.parametrize("axis", [0, -4, 4])
def test_an_axis_that_holds_no_channels_is_refused(axis):
    with pytest.raises(UserError, match=f"channel_axis={axis} is no axis of channels"):
        modulate(Tiny(), TASKS, ["conv1"], channel_axis=axis, example=torch.zeros(1, 3, 12, 12))


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("heal", r"Unknown task 'heal'. Did you mean: heel\? Tasks: closure, heel, toe, or their indices from 0 to 2"),
        (3, "Unknown task 3"),
        (-1, "Unknown task -1"),
        (True, "Unknown task True"),
        ([0, 1, 2, 0, 1, -1], "Unknown task -1"),
        (torch.tensor([0, 1, 2, 0, 1, -1]), "Unknown task -1"),
        (torch.tensor([0, 1, 2, 0, 1, 3]), "Unknown task 3"),
        ([0, 1], r"shape \(2,\) for 6 images"),
        (torch.tensor(3), "Unknown task 3"),
        (torch.tensor([[1]]), r"shape \(1, 1\) for 6 images"),
        (None, "task=None must be a name or an index"),
        (1.0, "task=1.0 must be a name or an index"),
        (torch.zeros(6), "whole numbers, not torch.float32"),
        (torch.zeros(6, dtype=torch.bool), "whole numbers, not torch.bool"),
    ],
)
def test_tasks_that_are_not_there_are_refused(images, task, said):
    with pytest.raises(UserError, match=said):
        tiny()(images, task)


def test_unknown_tasks_have_no_parameters():
    for ask in (tiny().task_parameters, tiny().task_bytes):
        with pytest.raises(UserError, match="Unknown task 'tip'"):
            ask("tip")


class Fickle(nn.Module):
    """Calls its module as often as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.calls = nn.Conv2d(3, 3, 1), 1

    def forward(self, images: Tensor) -> Tensor:
        for _ in range(self.calls):
            images = self.conv(images)
        return images


@pytest.mark.parametrize(("calls", "said"), [(0, "was not called in this pass"), (2, "was called twice in one pass")])
def test_a_module_that_is_not_called_once_in_a_pass_is_refused(images, calls, said):
    net = modulate(Fickle(), TASKS, ["conv"], example=images)
    net.network.calls = calls
    with pytest.raises(UserError, match=said):
        net(images, 0)


def test_an_output_that_no_longer_fits_is_refused(images):
    net = modulate(nn.Sequential(nn.Conv2d(3, 4, 1)), TASKS, ["0"], example=images)
    net.network[0].weight = nn.Parameter(torch.ones(1, 3, 1, 1))
    net.network[0].bias = None
    with pytest.raises(UserError, match=r"the output of the module '0' is \(6, 1, 12, 12\), and its scales are for 4 "):
        net(images, 0)


class Folding(nn.Module):
    """Puts all images into one, or each into two, before its module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.groups = nn.Conv2d(3, 3, 1), None

    def forward(self, images: Tensor) -> Tensor:
        groups = self.groups or len(images)
        folded = images.reshape(groups, -1, *images.shape[1:]).movedim(1, 2).reshape(groups, 3, -1, images.shape[-1])
        return self.conv(folded)


def test_an_output_of_other_than_one_row_per_image_is_refused(images):
    net = modulate(Folding(), TASKS, ["conv"], example=images)
    assert net(images, [0] * 6).shape == images.shape
    net.network.groups = 1
    with pytest.raises(UserError, match=r"is \(1, 3, 72, 12\), and its scales are for 3 channels of 6 images"):
        net(images, [0, 1, 2, 0, 1, 2])
    with pytest.raises(UserError, match=r"has no channels of every image: it is \(1, 3, 72, 12\) for 6 images"):
        modulate(net.network, TASKS, ["conv"], example=images)


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.stem, self.conv, self.reentrant = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), reentrant

    def forward(self, images: Tensor) -> Tensor:
        return checkpoint(self.conv, self.stem(images), use_reentrant=self.reentrant).mean((2, 3))


@pytest.mark.filterwarnings("ignore:None of the inputs")  # of the dry run
@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_around_a_module_is_refused(images, reentrant):
    net = spread(modulate(Checkpointed(reentrant), TASKS, ["conv"], example=images))
    loss = net(images, 0).square().sum()
    with pytest.raises(UserError, match="gradient checkpointing around the module 'conv' isn't supported"):
        loss.backward()


# --- others' networks -------------------------------------------------------------------------------------------------


def test_resnet18_with_the_default_example():
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    plain = models.resnet18().train()
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    net = modulate(plain, TASKS, ["layer3", "layer4"])
    assert plain.training
    assert all(torch.equal(plain.state_dict()[name], value) for name, value in before.items())
    net.eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(net(images, "heel"), plain(images))
        third, fourth = spread(net).task_parameters("toe").values()
        features = plain.layer1(plain.maxpool(plain.relu(plain.bn1(plain.conv1(images)))))
        features = plain.layer3(plain.layer2(features)) * third.clamp(min=0)[:, None, None]
        features = plain.layer4(features) * fourth.clamp(min=0)[:, None, None]
        torch.testing.assert_close(net(images, "toe"), plain.fc(features.mean((2, 3))))
    with pytest.raises(UserError, match=r"Unknown module 'layer5'. Did you mean: .*layer4"):
        modulate(plain, TASKS, ["layer5"])


def test_timm_networks():
    timm = pytest.importorskip("timm")
    example = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    plain = timm.create_model("mobilenetv3_small_050").eval()
    net = modulate(plain, TASKS, ["blocks.4", "conv_head"], example=example)
    with torch.no_grad():
        assert torch.equal(net(example, 1), plain(example))
        assert not torch.allclose(spread(net)(example, 1), plain(example))
    swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=64, depths=(1, 1, 1, 1)).eval()
    with pytest.raises(UserError, match="with channels last; say channel_axis=-1"):
        modulate(swin, TASKS, ["layers.2"], example=example)
    assert modulate(swin, TASKS, ["layers.2"], channel_axis=-1, example=example).task_bytes("toe") == 4 * 384


# --- README -----------------------------------------------------------------------------------------------------------


def test_readmes_example_runs_and_prints_what_it_says(capsys, monkeypatch, tmp_path):
    pytest.importorskip("torchvision")
    monkeypatch.chdir(tmp_path)
    section = README.read_text().split("## In your own project\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.S)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert printed == re.findall(r"print\(.*\)  # (.*)", code)
    assert printed
    # the new task's training moved nothing that was saved before, and its own file is all that is new
    net, saved, toe = names["net"].state_dict(), torch.load("net.pt"), torch.load("toe.pt")
    assert all(torch.equal(net[name], value) for name, value in saved.items())
    assert net.keys() - saved.keys() == toe.keys() == set(names["net"].task_parameters("toe"))
    assert all(torch.equal(net[name], value) and not value.eq(1).all() for name, value in toe.items())

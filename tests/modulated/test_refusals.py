"""What `modulate` refuses, and how it says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support_modulated import TASKS, ChannelsLast, Tiny, spread, tiny
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mtlbench import UserError, modulate


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

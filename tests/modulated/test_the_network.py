"""What becomes of the network that is modulated, and of its threads and copies."""

from __future__ import annotations

import copy
import io
import threading

import pytest
import torch
import torch.nn.functional as F
from support_modulated import TASKS, Tiny, spread, tiny
from torch import Tensor, nn

from mtlbench import modulate


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

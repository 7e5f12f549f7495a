"""Short cuts to the tasks' gradients: at the representation and at the last shared layer, against torch.autograd."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mtlbench import Architecture, BackboneFactory, gradients
from mtlbench.gradients import TaskGradients, _add_weighted
from mtlbench.layer_gradients import lengths, of_blocks, of_parameters, uses_of
from mtlbench.specs import parse_method

TASKS = ("colour", "shape", "size")
SIZES = {"small": 24, "paper": 64, "resnet18": 48, "resnet18-csn": 48, "torchvision:mobilenet_v3_small": 48}


def losses_of(net, images, dtype=torch.float32):
    """(T,) losses of unlike size, each of its own task's embeddings."""
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        embeddings = net.train().embed(images)
    wanted = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(5))
    return (embeddings.float() - wanted).square().mean((1, 2)) * torch.arange(1.0, len(embeddings) + 1)


def losses_in_blocks(net, images, dtype=torch.float32):
    """(T,) losses of unlike size, each of embeddings of images of its own; half of the second task's add nothing."""
    groups = torch.stack([images.roll(t, 0) * (1 + t) for t in range(len(net.tasks))])
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        embeddings = net.train()(groups)
    wanted = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(5))
    errors = (embeddings.float() - wanted).square().mean(2)
    errors[1, ::2] = 0
    return errors.mean(1) * torch.arange(1.0, len(embeddings) + 1)


def network(method, backbone="small", size=24):
    backbones = BackboneFactory(backbone, size, 8, seed=3)
    net = parse_method(method).build(backbones, TASKS)[0].to(memory_format=torch.channels_last)
    return net, torch.randn(6, 3, size, size, generator=torch.Generator().manual_seed(1))


def by_autograd(losses, layer):
    """(T,) norms from one whole pass for each task."""
    found = [torch.autograd.grad(x, layer, retain_graph=True) for x in losses]
    return torch.stack([torch.cat([g.flatten() for g in gradients]).double().norm() for gradients in found])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shared", "branched", "branched[at=2]", "csn", "single", "modulation", "mmoe"])
@pytest.mark.parametrize(("backbone", "size"), SIZES.items())
def test_norms_at_the_last_shared_layer_are_autograds(name, backbone, size):
    net, images = network(name, backbone, size)
    losses, layer = losses_of(net, images), list(net.last_shared_layer())
    finder = TaskGradients()
    for _ in range(2):  # the first time it also looks whether its way is right
        torch.testing.assert_close(
            finder.norms(losses, net, layer).double(), by_autograd(losses, layer), rtol=1e-4, atol=1e-9
        )
    of_other_form = backbone == "paper" and name in (
        "csn",
        "single",
        "modulation",
    )  # a batch norm's bias is in the layer
    assert finder._direct is (None if of_other_form else True)


@pytest.mark.parametrize("backbone", ["small", "paper", "resnet18"])
def test_in_bfloat16_they_are_autograds_to_its_rounding(backbone):
    net, images = network("shared", backbone, SIZES[backbone])
    losses, layer = losses_of(net, images, torch.bfloat16), list(net.last_shared_layer())
    finder = TaskGradients()
    for _ in range(2):
        torch.testing.assert_close(
            finder.norms(losses, net, layer).double(), by_autograd(losses, layer), rtol=1e-2, atol=0
        )
    assert finder._direct


BLOCKS = [("shared", b) for b in SIZES] + [(n, "small") for n in ("branched", "modulation", "csn", "single")]


@pytest.mark.parametrize(("name", "backbone"), BLOCKS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_where_tasks_have_images_of_their_own_norms_are_autograds(name, backbone, dtype):
    net, images = network(name, backbone, SIZES[backbone])
    losses, layer = losses_in_blocks(net, images, dtype), list(net.last_shared_layer())
    finder = TaskGradients()
    for _ in range(2):
        found = finder.norms(losses, net, layer).double()
        rtol = 1e-4 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(found, by_autograd(losses, layer), rtol=rtol, atol=1e-9)
    assert finder._in_blocks
    assert finder._direct


@pytest.mark.parametrize("wide", [torch.float64, torch.float32])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_in_blocks_are_autograds_through_a_batch_norm(wide, bias):
    torch.manual_seed(0)
    layer, norm = nn.Conv2d(4, 5, 3, stride=2, padding=1, bias=bias).to(wide), nn.BatchNorm2d(5).to(wide)
    nn.init.normal_(norm.weight)
    output = norm(layer(torch.randn(12, 4, 9, 8, dtype=wide)))
    losses = (
        output.unflatten(0, (3, 4)).sigmoid().mul(torch.randn(3, 4, *output.shape[1:], dtype=wide)).sum((1, 2, 3, 4))
    )
    (use,) = uses_of(losses, list(layer.parameters()))
    assert use.norm is not None
    at_output = torch.autograd.grad(losses.sum(), output, retain_graph=True)[0]
    for parameter, found in of_blocks(use, at_output, 3):
        wanted = torch.stack([torch.autograd.grad(loss, parameter, retain_graph=True)[0] for loss in losses])
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12 if wide == torch.float64 else 1e-4)


@pytest.mark.parametrize("name", ["single", "embedding-mask", "mmoe[experts=1]", "shared"])
@pytest.mark.parametrize("losses_of", [losses_of, losses_in_blocks])
@pytest.mark.parametrize("inactive", [[0], [0, 1, 2]])
def test_a_first_step_without_gradients_confirms_nothing(name, losses_of, inactive):
    net, images = network(name)
    layer = list(net.last_shared_layer())
    finder = TaskGradients()
    for number in range(3):
        losses = losses_of(net, images)
        if number == 0:
            losses = losses * torch.tensor([0.0 if t in inactive else 1.0 for t in range(3)])
        found = finder.norms(losses, net, layer).double()
        torch.testing.assert_close(found, by_autograd(losses, layer), rtol=1e-4, atol=1e-9)
        assert finder._confirmed == (number > 0)


class Plugged(Architecture):
    """Three tasks with images of their own, and a last shared layer that is taken in another way than usual."""

    def __init__(self, how):
        super().__init__(BackboneFactory("small", 24, 8), TASKS)
        torch.manual_seed(0)
        self.how, self.gate = how, nn.Parameter(torch.zeros(()))
        self.matrix, self.bias = nn.Parameter(torch.randn(6, 6)), nn.Parameter(torch.randn(6))
        self.convolution, self.norm, self.late = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.BatchNorm1d(6)

    def forward(self, images):
        convolved = self.convolution(images.flatten(0, 1))
        features = self.norm(convolved)
        if self.how == "a second user":
            features = features + self.gate * convolved
        features = features.relu().mean((2, 3))
        if self.how == "late mixing":
            features = features + self.gate * self.late(features)
        if self.how == "a product":
            features = features @ self.matrix
        if self.how == "a sum and a product":
            features = torch.addmm(self.bias, features, self.matrix)
        return features.unflatten(0, images.shape[:2])

    def embed(self, images):
        raise NotImplementedError

    def last_shared_layer(self):
        return [self.matrix] if "product" in self.how else [self.convolution.weight]


@pytest.mark.parametrize("how", ["a product", "a sum and a product", "a second user", "late mixing"])
def test_layers_that_are_taken_in_other_ways_train_as_by_autograd(how):
    net, images = Plugged(how), torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    balancer = parse_method("shared+gradnorm").build(BackboneFactory("small", 24, 8), TASKS)[1]
    for number in range(3):
        with torch.no_grad():
            net.gate.fill_(0.0 if number == 0 else 1.0)
        net.zero_grad(set_to_none=True)
        losses = losses_in_blocks(net, images)
        weights, layer = torch.tensor([0.5, 2.0, 0.5]), net.last_shared_layer()
        wanted = by_autograd(losses, layer)
        gradient = torch.autograd.grad((losses * weights).sum(), layer[0], retain_graph=True)[0]
        found = balancer.norms_at_last_shared_layer(losses, net)
        balancer.weighted_backward(losses, weights, net)
        torch.testing.assert_close(
            layer[0].grad, gradient / (3 if net.shared_parameters() else 1), rtol=1e-4, atol=1e-6
        )
        if how != "late mixing" or number != 1:  # that step showed it
            torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-9)


def test_weights_that_are_learned_by_their_gradient_keep_it():
    net, images = network("shared")
    balancer = parse_method("shared+gradnorm").build(BackboneFactory("small", 24, 8), TASKS)[1]
    weights = torch.ones(3, requires_grad=True)
    for _ in range(2):
        weights.grad = None
        losses = losses_of(net, images)
        balancer.norms_at_last_shared_layer(losses, net)
        balancer.weighted_backward(losses, weights, net)
        torch.testing.assert_close(weights.grad, losses.detach())


def test_a_loss_that_reaches_others_images_is_noticed():
    net, images = network("shared")
    finder, layer = TaskGradients(), list(net.last_shared_layer())
    for _ in range(2):
        embeddings = net.train()(torch.stack([images, images + 1, images + 2]))
        losses = embeddings.square().mean((1, 2)) + 1e-3 * embeddings[0].mean()
        torch.testing.assert_close(
            finder.norms(losses, net, layer).double(), by_autograd(losses, layer), rtol=1e-4, atol=0
        )
    assert finder._in_blocks is False


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"padding": 2, "dilation": 2}, {"kernel_size": (1, 3)}])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_gradients_of_a_convolution_are_autograds(options, dtype, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr("mtlbench.layer_gradients._PATCHES", 2000)  # so that a batch takes several products
    layer = (
        nn.Conv2d(4, 5, **{"kernel_size": 3, "padding": 1, **options}).to(dtype).to(memory_format=torch.channels_last)
    )
    output = layer(torch.randn(6, 4, 9, 8, dtype=dtype).to(memory_format=torch.channels_last))
    at_output = torch.randn(3, *output.shape, dtype=dtype)
    (use,) = uses_of(output.sum(), list(layer.parameters()))
    for parameter, found in of_parameters([use], [at_output]):
        wanted = [torch.autograd.grad(output, parameter, row, retain_graph=True)[0] for row in at_output]
        rtol, atol = {torch.bfloat16: (2e-2, 0.1), torch.float32: (1e-4, 1e-4)}.get(dtype, (1e-9, 1e-9))
        torch.testing.assert_close(found.to(dtype), torch.stack(wanted), rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(4, 4, 3, groups=2), nn.ConvTranspose2d(4, 4, 3), nn.Conv2d(4, 4, 1, bias=False), nn.GroupNorm(2, 4)],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_of_another_form_gets_a_pass_for_each_task(layer):
    output = layer(torch.randn(6, 4, 9, 8))
    losses = torch.stack([output.square().mean(), output.relu().sum()])
    known = isinstance(layer, nn.Conv2d) and layer.groups == 1
    assert (uses_of(losses, list(layer.parameters())) is not None) == known
    finder = TaskGradients()
    for _ in range(2):
        found = finder.norms(losses, Nothing(), list(layer.parameters()))
        torch.testing.assert_close(found.double(), by_autograd(losses, list(layer.parameters())), rtol=1e-4, atol=0)


class Nothing(Architecture):
    """An architecture that shows no representation."""

    def __init__(self) -> None:
        super().__init__(BackboneFactory("small", 24, 8), TASKS)

    def forward(self, images):
        raise NotImplementedError


def test_weights_that_a_network_takes_twice_count_twice():
    layer = nn.Linear(4, 4)
    output = layer(layer(torch.randn(6, 4)).relu())
    losses = torch.stack([output.square().mean(), output.relu().sum()])
    finder = TaskGradients()
    for _ in range(2):
        found = finder.norms(losses, Nothing(), list(layer.parameters()))
        torch.testing.assert_close(found.double(), by_autograd(losses, list(layer.parameters())), rtol=1e-4, atol=0)
    assert finder._direct is None  # refused before it is tried


def test_the_trunk_is_passed_once_and_its_last_convolution_for_no_task_again():
    net, images = network("shared")
    passes = []
    net.trunk[0].register_forward_hook(lambda *a: a[2].register_hook(lambda g: passes.append(1)) and None)
    balancer = parse_method("shared+gradnorm").build(BackboneFactory("small", 24, 8), TASKS)[1]
    balancer.backward(losses_of(net, images), net)  # here it looks whether its way is right
    net.zero_grad()
    losses = losses_of(net, images)
    passes.clear()
    balancer.backward(losses, net)
    assert len(passes) == 1


@pytest.mark.parametrize("name", ["shared", "branched", "modulation", "csn", "dselect-k"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("losses_of", [losses_of, losses_in_blocks])
def test_going_on_from_what_was_found_gives_the_weighted_gradients(name, dtype, losses_of):
    net, images = network(name)
    balancer = parse_method(f"{name}+gradnorm").build(BackboneFactory("small", 24, 8), TASKS)[1]
    weights, found = torch.tensor([0.5, 2.0, 0.5]), []
    for ask in (True, False):
        net.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        losses = losses_of(net, images, dtype)
        if ask:
            balancer.norms_at_last_shared_layer(losses, net)
        balancer.weighted_backward(losses, weights, net)
        found.append({name: p.grad for name, p in net.named_parameters()})
        assert all(g.stride() == p.stride() for p in net.parameters() if (g := p.grad) is not None)
    assert found[0].keys() == found[1].keys()
    for key, wanted in found[1].items():
        off = (found[0][key] - wanted).norm() / wanted.norm()
        assert off < (1e-5 if dtype == torch.float32 else 3e-2), (key, off)


class Mixed(Architecture):
    """Two tasks, of which the second one's embedding takes the first one's row too, or the features past all rows."""

    def __init__(self, how: str) -> None:
        super().__init__(BackboneFactory("small", 24, 8), ("colour", "shape"))
        self.how, self.trunk, self.own = how, nn.Linear(3, 4), nn.Parameter(torch.ones(2, 4))

    def forward(self, images):
        return self.embed(images[0])

    def embed(self, images):
        features = self.trunk(images)
        rows = self.branch_off(features) * self.own[:, None]
        if self.how == "other rows":
            return torch.stack([rows[0], rows[1] + 0.5 * rows[0]])
        return torch.stack([rows[0], rows[1] + 0.01 * features]) if self.how == "past the rows" else rows

    def last_shared_layer(self):
        return list(self.trunk.parameters())


@pytest.mark.parametrize(("how", "apart"), [("apart", True), ("other rows", False), ("past the rows", False)])
def test_rows_that_do_not_stay_apart_are_noticed(how, apart):
    torch.manual_seed(0)
    net, finder = Mixed(how), TaskGradients()
    for _ in range(2):
        losses = net.train().embed(torch.randn(5, 3)).square().mean((1, 2))
        wanted = [torch.autograd.grad(x, net.representation, retain_graph=True)[0] for x in losses]
        torch.testing.assert_close(finder.at_representation(losses, net), torch.stack(wanted))
        at_trunk = [torch.autograd.grad(x, net.trunk.weight, retain_graph=True)[0] for x in losses]
        torch.testing.assert_close(finder.at(losses, net, [net.trunk.weight]), torch.stack(at_trunk).flatten(1))
        torch.testing.assert_close(
            finder.norms(losses, net, net.last_shared_layer()).double(), by_autograd(losses, net.last_shared_layer())
        )
        assert finder._apart is apart


def test_lengths_are_those_of_all_parameters_together():
    found = lengths(
        [
            (nn.Parameter(torch.zeros(2)), torch.tensor([[3.0, 0], [1, 2]])),
            (nn.Parameter(torch.zeros(1)), torch.tensor([[4.0], [2]])),
        ]
    )
    assert found.tolist() == pytest.approx([5.0, 3.0])


class Computing(TorchDispatchMode):
    """Counts operations inside the block that are more than another look at the same numbers."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def heads(tasks):
    torch.manual_seed(0)
    layers = [nn.Linear(6, 3) for _ in range(tasks)]
    own = [(p, torch.randn_like(p)) for layer in layers for p in layer.parameters()]
    return own, [t for t in range(tasks) for _ in range(2)], torch.rand(tasks) + 0.5


def test_weighing_the_tasks_own_gradients_takes_as_many_operations_whatever_their_number():
    counts = []
    for tasks in (2, 40):
        given = heads(tasks)
        with Computing() as computing, torch.no_grad():
            _add_weighted(*given)
        counts.append(computing.count)
    assert counts[0] == counts[1] <= 6


def test_weighed_gradients_are_the_products_to_the_bit_and_added_to_what_is_there():
    own, owners, weights = heads(5)
    kernel = nn.Parameter(torch.randn(2, 3, 2, 2).to(memory_format=torch.channels_last))
    own, owners = [*own, (kernel, torch.randn(2, 3, 2, 2))], [*owners, 4]
    own[0][0].grad = torch.ones(3, 6)
    with torch.no_grad():
        _add_weighted(own, owners, weights)
    for number, ((parameter, gradient), owner) in enumerate(zip(own, owners, strict=True)):
        assert parameter.grad.equal(gradient * weights[owner] + (1 if number == 0 else 0))
        assert parameter.grad.stride() == parameter.stride()


def test_all_at_once_as_on_a_gpu_they_are_autograds_and_take_as_many_operations_whatever_t(monkeypatch):
    monkeypatch.setattr("mtlbench.gradients._all_at_once", lambda rows: True)
    counts = []
    for tasks in (2, 5):
        torch.manual_seed(0)
        backbones = BackboneFactory("resnet18", 48, 8, seed=0)
        net = parse_method("shared").build(backbones, tuple(map(str, range(tasks))))[0].train()
        losses = net.embed(torch.randn(6, 3, 48, 48)).square().mean((1, 2))
        layer = list(net.last_shared_layer())
        uses = uses_of(losses, layer)
        assert all(use.norm is not None for use in uses)
        found = TaskGradients()
        wanted = by_autograd(losses, layer).float()
        torch.testing.assert_close(found.norms(losses, net, layer), wanted, rtol=1e-4, atol=1e-6)
        assert found._direct
        rows = torch.randn_like(net.views)
        with Computing() as computing:
            gradients._together(net.representation, rows, uses)
        counts.append(computing.count)
    assert counts[0] == counts[1]

"""Modulation's ablations: which layers, where in a stage, with or without ReLU, from which initial value."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, UserError
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method

load_plugins()
TASKS = ("colour", "shape", "size")
PLACES = ("output", "before-norm", "after-norm")


def build(spec: str, backbones: BackboneFactory, tasks: tuple[str, ...] = TASKS) -> Architecture:
    return parse_method(spec).build(backbones, tasks)[0]


def set_vector(net: Architecture, task: int, layer: int, values: Tensor | float) -> None:
    with torch.no_grad():
        list(net.scales[str(layer)].parameters())[task].copy_(torch.as_tensor(values))


# --- which layers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "layers"),
    [("all", "12345"), ("stages", "1234"), ("embedding", "5"), ("4:2", "24"), ("3", "3"), ("3:", "3")],
)
def test_layers_are_named_by_number_or_by_a_word(backbones, after, layers):
    assert list(build(f"modulation[after={after}]", backbones).scales) == list(layers)


@pytest.mark.parametrize("after", ["head", "0", "1:9", "3:x"])
def test_layers_that_are_not_there_are_refused(backbones, after):
    with pytest.raises(UserError, match=f"after={after} must name layers from 1 to 5 .* or be one of all, stages"):
        build(f"modulation[after={after}]", backbones)


def test_by_default_a_checkpoint_names_the_plain_network_and_one_vector_per_task_and_layer(backbones):
    names = {f"net.{name}" for name in backbones.backbone().state_dict()}
    scales = {f"scales.{layer}.{task}" for layer in (3, 4, 5) for task in (0, 1, 2)}
    assert set(build("modulation", backbones).state_dict()) == names | scales


# --- vectors ----------------------------------------------------------------------------------------------------------


def test_without_relu_a_vector_may_turn_a_channels_sign(backbones, images):
    plain, rectified = (build(f"modulation[after=5{o}]", backbones).eval() for o in (",relu=false", ""))
    values = torch.linspace(-2, 2, 8)
    for net in (plain, rectified):
        set_vector(net, 1, 5, values)
    with torch.no_grad():
        expected = build("single", backbones).eval()(images)[1] * values
        torch.testing.assert_close(plain(images)[1], expected)
        torch.testing.assert_close(rectified(images)[1], expected * (values > 0))


def test_vectors_start_at_the_initial_value(backbones, images):
    halved = build("modulation[after=embedding,initial=0.5]", backbones).eval()
    turned = build("modulation[after=embedding,initial=-1,relu=false]", backbones).eval()
    with torch.no_grad():
        single = build("single", backbones).eval()(images)
        assert torch.equal(halved(images), single * 0.5)
        assert torch.equal(turned(images), -single)


@pytest.mark.parametrize("options", ["initial=0", "initial=-1", "initial=0,relu=false"])
def test_vectors_that_could_never_learn_are_refused(backbones, options):
    with pytest.raises(UserError, match="lets no gradient through"):
        build(f"modulation[{options}]", backbones)


# --- the place within a stage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_wherever_its_scales_stand_it_starts_as_single(backbones, images, place):
    net, single = build(f"modulation[after=all,place={place}]", backbones).eval(), build("single", backbones).eval()
    with torch.no_grad():
        assert torch.equal(net(images), single(images))
        assert torch.equal(net.embed(images[0]), single.embed(images[0]))


@pytest.mark.parametrize("place", ["before-norm", "after-norm"])
def test_scales_stand_next_to_the_stages_last_norm(backbones, images, place):
    """Stage 3 of the small network by hand: y + ReLU(norm(conv(y))), with the scale before or after the norm."""
    net, plain = build(f"modulation[after=3,place={place}]", backbones).eval(), backbones.backbone().eval()
    values = torch.linspace(-1, 2, 128)
    set_vector(net, 1, 3, values)
    scale = values.clamp_min(0)[:, None, None]
    conv, norm, _ = plain.stages[2].residual
    with torch.no_grad():
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(1, 2)
        net.net.stages[2].residual[1].norm.load_state_dict(norm.state_dict())
        y = plain.stages[2].reduce(plain.stages[1](plain.stages[0](images[1])))
        branch = norm(conv(y) * scale) if place == "before-norm" else norm(conv(y)) * scale
        expected = plain.head(plain.stages[3](y + branch.relu()))
        torch.testing.assert_close(net(images)[1], expected)
        torch.testing.assert_close(net.embed(images[1])[1], expected)
        torch.testing.assert_close(net.embed_task(images[1], 1), expected)


@pytest.mark.parametrize("after", ["1", "2:4", "3:5", "all"])
@pytest.mark.parametrize("place", PLACES)
def test_all_ways_to_embed_agree_after_training(backbones, images, place, after):
    net = build(f"modulation[after={after},place={place}]", backbones)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01)
    for n in range(3):
        optimiser.zero_grad()
        (net(images) - n).square().mean().backward()
        assert all(p.grad is not None and p.grad.any() for p in net.parameters())
        optimiser.step()
    net = copy.deepcopy(net.eval())
    with torch.no_grad():
        embeddings = net(images)
        assert not torch.allclose(net.embed(images[0])[0], net.embed(images[0])[1], atol=1e-4)
        for t in range(3):
            torch.testing.assert_close(embeddings[t], net.embed(images[t])[t], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(embeddings[t], net.embed_task(images[t], t), rtol=1e-4, atol=1e-5)


def test_a_copy_scales_by_its_own_vectors(backbones, images):
    net = build("modulation[after=3,place=after-norm]", backbones).eval()
    other = copy.deepcopy(net)
    before = net(images)
    set_vector(other, 0, 3, 0.0)
    assert torch.equal(net(images), before)
    assert not torch.allclose(other(images)[0], before[0])


def test_before_a_norm_what_all_tasks_have_in_common_divides_out(backbones, images):
    """While training, the norm's statistics hold all tasks' images: only what tasks differ by has an effect."""
    net = build("modulation[after=4,place=before-norm]", backbones)
    start = net(images)
    for t in range(3):
        set_vector(net, t, 4, 3.0)
    torch.testing.assert_close(net(images), start, rtol=1e-3, atol=1e-4)
    for t in range(3):
        set_vector(net, t, 4, torch.rand(128, generator=torch.Generator().manual_seed(t)) + 0.5)
    (net(images) * torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(5))).sum().backward()
    along = torch.stack([(v * v.grad).detach() for v in net.scales["4"].parameters()])
    assert along.sum(0).abs().max() < 1e-3 * along.abs().max()


@pytest.mark.parametrize(("place", "moved"), [("before-norm", True), ("after-norm", False), ("output", False)])
def test_only_before_a_norm_does_a_tasks_vector_move_the_others_while_training(backbones, images, place, moved):
    """At the last stage, after which the small network has no further norm."""
    net = build(f"modulation[after=4,place={place}]", backbones)
    with torch.no_grad():
        trained, evaluated = net(images)[1:], net.eval()(images)[1:]
        set_vector(net, 0, 4, 2.0)
        assert torch.equal(net(images)[1:], evaluated)
        assert torch.allclose(net.train()(images)[1:], trained, atol=1e-5) != moved


def test_before_a_norm_a_channel_scaled_to_zero_becomes_a_constant(backbones, images):
    net = build("modulation[after=4,place=before-norm]", backbones)
    set_vector(net, 0, 4, 0.0)
    seen: list[Tensor] = []
    net.net.stages[3].residual[1].norm.register_forward_hook(lambda module, args, output: seen.append(output))
    net(images)
    own, others = seen[0].transpose(0, 1).flatten(1).tensor_split([seen[0][:4, 0].numel()], dim=1)
    assert (own - own[:, :1]).abs().max() < 1e-5
    assert own.abs().min(dim=1).values.median() > 1e-3
    assert (others.std(dim=1) > 1e-3).all()


def test_a_stage_without_batch_norm_is_refused():
    with torch.device("meta"):
        vgg = BackboneFactory("torchvision:vgg11", 64, 8)
        assert list(build("modulation[after=2]", vgg).scales) == ["2"]
        with pytest.raises(UserError, match="needs a batch norm, and stage 2 of this backbone has none"):
            build("modulation[after=2,place=after-norm]", vgg)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("place=middle", "place=middle must be one of output, before-norm, after-norm"),
        ("place=before-norm,after=embedding", "is about stages, and after= names none"),
    ],
)
def test_places_that_are_not_there_are_refused(backbones, options, reason):
    with pytest.raises(UserError, match=reason):
        build(f"modulation[{options}]", backbones)


def test_scales_fit_the_norm_they_stand_at():
    """A stage of DenseNet ends in a layer whose norm has fewer channels than the stage puts out."""
    with torch.device("meta"):
        dense = BackboneFactory("torchvision:densenet121", 64, 8)
        net = build("modulation[after=stages,place=after-norm]", dense)
        net.embed(torch.empty(2, 3, 64, 64))
    for layer, stage in enumerate(net.net.stages, 1):
        norms = [m for m in stage.modules() if isinstance(m, nn.BatchNorm2d)]
        assert net.scales[str(layer)][0].shape == norms[-1].weight.shape

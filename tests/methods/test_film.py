"""FiLM by task: against its formula by hand, `single` and `modulation`."""

from __future__ import annotations

import pytest
import torch

from mtlbench import Architecture, BackboneFactory, UserError
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method

load_plugins()
TASKS = ("colour", "shape", "size")


def build(spec: str, backbones: BackboneFactory, tasks: tuple[str, ...] = TASKS) -> Architecture:
    return parse_method(spec).build(backbones, tasks)[0]


def test_film_starts_as_single(backbones, images):
    film, single = build("film", backbones).eval(), build("single", backbones).eval()
    with torch.no_grad():
        assert torch.equal(film(images), single(images))
        assert torch.equal(film.embed(images[0]), single.embed(images[0]))


def test_film_has_two_numbers_for_each_of_modulations():
    paper = BackboneFactory("paper", 150, 256)
    with torch.device("meta"):
        net, modulated = build("film", paper), build("modulation", paper)
    assert [tuple(p.shape) for p in net.task_parameters(0)] == [(2, 128), (2, 128), (2, 256)]
    assert list(net.rows) == list(modulated.scales)


def test_film_without_shifts_is_modulation(backbones, images):
    film, modulated = build("film", backbones).eval(), build("modulation", backbones).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for t in range(3):
            for row, vector in zip(film.task_parameters(t), modulated.task_parameters(t), strict=True):
                vector.copy_(torch.rand(len(vector), generator=generator))
                row[0].copy_(vector)
        torch.testing.assert_close(film(images), modulated(images))
        torch.testing.assert_close(film.embed(images[0]), modulated.embed(images[0]))
        torch.testing.assert_close(film.embed_task(images[0], 2), modulated.embed_task(images[0], 2))


def test_film_scales_and_shifts_each_channel_by_its_tasks_row(backbones, images):
    net = build("film[after=2:5]", backbones).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for t in range(3):
            for row in net.task_parameters(t):
                row.copy_(torch.randn(row.shape, generator=generator))
        for t in range(3):
            (gamma, beta), (last_gamma, last_beta) = net.task_parameters(t)
            stages = net.net.stages
            features = stages[1](stages[0](images[t]))
            for channel in range(len(gamma)):
                features[:, channel] = gamma[channel] * features[:, channel] + beta[channel]
            for stage in stages[2:]:
                features = stage(features)
            expected = last_gamma * net.net.head(features) + last_beta
            torch.testing.assert_close(net(images)[t], expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(net.embed(images[t])[t], expected, rtol=1e-4, atol=1e-5)


def test_a_shift_of_the_embedding_moves_no_distance(backbones, images):
    net = build("film[after=5]", backbones).eval()
    with torch.no_grad():
        before = net.embed(images[0])
        (row,) = net.task_parameters(1)
        row[1] = torch.linspace(-1, 1, 8)
        after = net.embed(images[0])
    assert not torch.allclose(before[1], after[1])
    torch.testing.assert_close(torch.cdist(before[1], before[1]), torch.cdist(after[1], after[1]), rtol=1e-4, atol=1e-5)


def test_only_its_own_task_moves_a_row(backbones, images):
    net = build("film", backbones).eval()  # while training, a batch norm's statistics mix the tasks a little
    net(images)[2].square().sum().backward()
    for t in range(3):
        gradients = [p.grad for p in net.task_parameters(t)]
        assert len(gradients) == 3
        assert all(g[0].any() and g[1].any() if t == 2 else not g.any() for g in gradients)


@pytest.mark.parametrize("after", ["0", "6", "2:9"])
def test_film_refuses_layers_that_are_not_there(after, backbones):
    with pytest.raises(UserError, match=rf"film: after={after} must name layers from 1 to 5"):
        build(f"film[after={after}]", backbones)


def test_a_colon_alone_names_no_layer(backbones):
    with pytest.raises(UserError, match="film: after=: must name layers"):
        parse_method("film[after=:]").build(backbones, ("colour", "shape"))

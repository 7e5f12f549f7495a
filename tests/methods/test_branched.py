"""The branched trunk: its two ends are independent nets and a shared trunk; narrow embeddings."""

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


@pytest.mark.parametrize(("at", "limit"), [(0, "independent"), (4, "shared")])
def test_at_its_ends_it_is_independent_nets_and_a_shared_trunk(backbones, images, at, limit):
    branched, other = build(f"branched[at={at}]", backbones), build(limit, backbones)
    for net in (branched, other):
        net(images).square().sum().backward()
    found, expected = ([net(images), *(p.grad for p in net.shared_parameters())] for net in (branched, other))
    for t in range(3):
        found += [p.grad for p in branched.task_parameters(t)]
        expected += [p.grad for p in other.task_parameters(t)]
    with torch.no_grad():
        for net in (branched.eval(), other.eval()):
            net.embed(images[0])
    found.append(branched(images))
    expected.append(other(images))
    assert len(found) == len(expected)
    for ours, theirs in zip(
        found, expected, strict=True
    ):  # all heads are one product there: to the last bit it may differ
        assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_branch_is_the_end_of_its_tasks_own_net(backbones, images, at):
    net = build(f"branched[at={at}]", backbones).eval()
    shared, own = backbones.backbone().eval(), backbones.backbone("shape").eval()
    with torch.no_grad():
        features = images[1]
        for stage in (*shared.stages[:at], *own.stages[at:]):
            features = stage(features)
        torch.testing.assert_close(net(images)[1], own.head(features))


def test_by_default_the_last_stage_is_the_tasks_own(backbones):
    net, one = build("branched", backbones), backbones.backbone()
    trunk, last, head = (sum(p.numel() for p in m.parameters()) for m in (one.stages[:3], one.stages[3], one.head))
    assert sum(p.numel() for p in net.shared_parameters()) == trunk
    assert [sum(p.numel() for p in net.task_parameters(t)) for t in range(3)] == [last + head] * 3


@pytest.mark.parametrize(("at", "shape"), [(0, None), (1, (4, 32, 12, 12)), (4, (4, 128, 2, 2))])
def test_the_representation_is_where_the_tasks_branch_off(backbones, images, at, shape):
    net = build(f"branched[at={at}]", backbones)
    net.embed(images[0])
    assert (net.representation if shape is None else net.representation.shape) == shape
    net.eval().embed(images[0])
    assert net.representation is None


def test_narrow_embeddings_of_all_tasks_together_are_one_wide_one(images):
    backbones = BackboneFactory("small", 24, 8, seed=3)
    net = build("branched[embedding=narrow]", backbones).eval()
    wide = build("branched", BackboneFactory("small", 24, 2, seed=3)).eval()
    with torch.no_grad():
        embeddings = net(images)
        assert embeddings.shape == (3, 4, 8)
        assert not embeddings[:, :, 2:].any()
        assert torch.equal(embeddings[:, :, :2], wide(images))
        assert torch.equal(net.embed(images[0])[0], embeddings[0])
        assert torch.equal(net.embed_task(images[2], 2), embeddings[2])
        # the same but for the order of sums, which differs between processors
        distances = (torch.cdist(each, each) for each in (embeddings[0], wide(images)[0]))
        torch.testing.assert_close(*distances, rtol=1e-6, atol=1e-6)
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in wide.parameters())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("at=5", "at=5 must lie between 0 and the 4 stages"),
        ("at=-1", "at=-1 must lie between 0 and the 4 stages"),
        ("embedding=slim", "embedding=slim must be wide or narrow"),
    ],
)
def test_options_out_of_range_are_refused(backbones, options, reason):
    with pytest.raises(UserError, match=reason):
        build(f"branched[{options}]", backbones)


def test_more_tasks_than_numbers_have_no_narrow_embeddings():
    with torch.device("meta"):
        with pytest.raises(UserError, match="can't be shared out among 9 tasks"):
            build("branched[embedding=narrow]", BackboneFactory("small", 24, 8), tuple("abcdefghi"))
        assert build("branched[embedding=narrow]", BackboneFactory("small", 24, 9), tuple("abcdefghi"))

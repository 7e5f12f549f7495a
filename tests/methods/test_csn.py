"""Conditional Similarity Networks and the plain embedding mask: against the paper's formulas in NumPy, and `single`."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from mtlbench import Architecture, BackboneFactory, UserError
from mtlbench.cost import storage
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method

load_plugins()
TASKS = ("colour", "shape", "size")
BOTH = ["csn", "embedding-mask"]


def build(spec: str, backbones: BackboneFactory, tasks: tuple[str, ...] = TASKS) -> Architecture:
    return parse_method(spec).build(backbones, tasks)[0]


def masks_of(net: Architecture) -> torch.Tensor:
    """(T, D) as they are stored, before any ReLU."""
    return torch.stack([mask.values.detach() for mask in net.masks])


def set_masks(net: Architecture, values: torch.Tensor) -> None:
    with torch.no_grad():
        for mask, row in zip(net.masks, values, strict=True):
            mask.values.copy_(row)


@pytest.mark.parametrize("spec", BOTH)
def test_masks_of_ones_make_single(spec, backbones, images):
    net, single = build(spec, backbones), build("single", backbones)
    set_masks(net, torch.ones(3, 8))
    assert torch.equal(net(images), single(images))
    assert torch.equal(net.embed(images[0]), single.embed(images[0]))
    (net(images).square().sum()).backward()
    (single(images).square().sum()).backward()
    theirs = dict(single.named_parameters())
    for name, parameter in net.named_parameters():
        if name.startswith("net."):
            torch.testing.assert_close(parameter.grad, theirs[name].grad)


@pytest.mark.parametrize(("spec", "rectified"), [("csn", True), ("embedding-mask", False)])
def test_a_mask_multiplies_the_embedding(spec, rectified, backbones, images):
    net, single = build(spec, backbones).eval(), build("single", backbones).eval()
    masks = torch.linspace(-1, 2, 24).view(3, 8)
    set_masks(net, masks)
    expected = masks.clamp_min(0) if rectified else masks
    with torch.no_grad():
        torch.testing.assert_close(net(images), single(images) * expected[:, None])
        torch.testing.assert_close(net.embed(images[0]), single.embed(images[0]) * expected[:, None])
        torch.testing.assert_close(net.embed_task(images[0], 2), single.embed(images[0])[2] * expected[2])


def test_embedding_mask_is_modulation_of_the_embedding_without_relu(backbones, images):
    masked, modulated = build("embedding-mask", backbones), build("modulation[after=5,relu=false]", backbones)
    masks = torch.linspace(-1, 2, 24).view(3, 8)
    set_masks(masked, masks)
    with torch.no_grad():
        for t in range(3):
            modulated.task_parameters(t)[0].copy_(masks[t])
    torch.testing.assert_close(masked(images), modulated(images))
    torch.testing.assert_close(masked.embed(images[0]), modulated.embed(images[0]))


def test_embedding_mask_is_modulation_of_the_embedding_until_a_scale_is_negative(backbones, images):
    masked, modulated = build("embedding-mask", backbones).eval(), build("modulation[after=5]", backbones).eval()
    values = torch.linspace(0.1, 2, 8)

    def outcome(values: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for net in (masked, modulated):
            (vector,) = net.task_parameters(1)
            vector.data.copy_(values)
            vector.grad = None
            embeddings = net(images)[1]
            embeddings.square().sum().backward()
            found += [embeddings.detach(), vector.grad]
        return found

    mine, my_gradient, theirs, their_gradient = outcome(values)
    torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(my_gradient, their_gradient)
    values[3] = -1
    mine, my_gradient, theirs, their_gradient = outcome(values)
    assert mine[:, 3].any()
    assert my_gradient[3] != 0
    assert not theirs[:, 3].any()
    assert their_gradient[3] == 0


def test_embedding_mask_starts_as_single_and_has_no_penalty(backbones, images):
    net = build("embedding-mask", backbones)
    assert torch.equal(masks_of(net), torch.ones(3, 8))
    net(images)
    assert net.regulariser() is None


# --- how masks start --------------------------------------------------------------------------------------------------


def test_learned_masks_start_from_a_normal_distribution():
    net = build("csn", BackboneFactory("small", 24, 4096, seed=1))
    masks = masks_of(net)
    assert masks.mean().item() == pytest.approx(0.9, abs=0.03)
    assert masks.std().item() == pytest.approx(0.7, abs=0.03)
    assert not torch.allclose(masks[0], masks[1])


def test_learned_masks_start_by_the_runs_seed(backbones):
    same, other = (build("csn", BackboneFactory("small", 24, 8, seed=seed)) for seed in (3, 4))
    assert torch.equal(masks_of(build("csn", backbones)), masks_of(same))
    assert not torch.equal(masks_of(build("csn", backbones)), masks_of(other))


def test_fixed_masks_are_disjoint_blocks_and_what_is_left_over_belongs_to_none(backbones):
    masks = masks_of(build("csn[masks=fixed]", backbones))
    assert masks.tolist() == [[1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 0, 0]]


def test_fixed_masks_are_stored_but_never_trained(backbones, images):
    net, single = build("csn[masks=fixed]", backbones), build("single", backbones)
    before = masks_of(net)
    assert [net.task_parameters(t) for t in range(3)] == [[], [], []]
    assert storage(net)["parameters"] == storage(single)["parameters"]
    assert storage(net)["bytes"] == storage(single)["bytes"] + 3 * 8 * 4
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    (net(images).square().sum() + net.regulariser().sum()).backward()
    optimiser.step()
    assert torch.equal(masks_of(net), before)


def test_learned_blocks_start_at_one_inside_and_a_tenth_outside(backbones):
    net = build("csn[masks=blocks]", backbones)
    fixed = masks_of(build("csn[masks=fixed]", backbones))
    torch.testing.assert_close(masks_of(net), 0.1 + 0.9 * fixed)
    assert [len(net.task_parameters(t)) for t in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("masks", ["fixed", "blocks"])
def test_blocks_belong_to_tasks_whatever_their_order(masks, backbones):
    forwards, backwards = (build(f"csn[masks={masks}]", backbones, tasks) for tasks in (TASKS, TASKS[::-1]))
    assert torch.equal(masks_of(forwards), masks_of(backwards).flip(0))


@pytest.mark.parametrize("masks", ["fixed", "blocks"])
def test_blocks_need_a_dimension_per_task(masks, backbones):
    with pytest.raises(UserError, match=r"needs at least one dimension of the embedding per task, 9, but .* has 8"):
        build(f"csn[masks={masks}]", backbones, tuple(f"task {t}" for t in range(9)))


@pytest.mark.parametrize("option", ["masks=random", "mask_norm=-1", "embedding_norm=-0.1", "embedding_norm=nan"])
def test_other_options_are_refused(option, backbones):
    with pytest.raises(UserError, match=option.split("=")[0]):
        build(f"csn[{option}]", backbones)


# --- the norms --------------------------------------------------------------------------------------------------------


def papers_penalty(legs: list[np.ndarray], masks: np.ndarray, condition: np.ndarray) -> float:
    """The two norms as the authors' code takes them for one batch of B triplets of mixed tasks.

    Args:
        legs: three (B, D) embeddings before their masks.
        masks: (T, D), rectified.
        condition: (B,) task of each triplet.
    """
    number = len(condition)
    embedding = sum(np.sqrt((leg**2).sum()) for leg in legs) / 3
    mask = sum(np.abs(masks[condition]).sum() for _ in legs) / 3
    return float(5e-3 * embedding / np.sqrt(number) + 5e-4 * mask / number)


def test_the_penalty_is_the_papers_for_one_task(backbones, images):
    net = build("csn", backbones, ("colour",))
    embeddings = net.net(images[0]).detach().numpy()
    mask = masks_of(net).clamp_min(0).numpy()
    for legs in ([0, 1, 2, 3], [2, 0, 3, 1]):  # three legs that hold the same four images, in any order
        net(images[0][[*legs, *legs, *legs]][None])
        expected = papers_penalty([embeddings[legs]] * 3, mask, np.zeros(4, dtype=int))
        assert net.regulariser().tolist() == pytest.approx([expected], rel=1e-5)


def test_the_mean_of_the_penalties_is_the_papers_for_its_mixed_batch():
    """Exactly in the masks' term; in the embedding's as far as the root mean squares of tasks and legs agree."""
    backbones, tasks = BackboneFactory("small", 24, 8, seed=3), TASKS
    images = torch.randn(3, 24, 3, 24, 24, generator=torch.Generator().manual_seed(6))
    net = build("csn", backbones)
    with torch.no_grad():
        groups = net.net(images.flatten(0, 1)).unflatten(0, (3, 24)).numpy()
    net(images)
    legs = [groups[:, 8 * leg : 8 * leg + 8].reshape(24, -1) for leg in range(3)]
    expected = papers_penalty(legs, masks_of(net).clamp_min(0).numpy(), np.arange(3).repeat(8))
    assert net.regulariser().shape == (len(tasks),)
    assert net.regulariser().mean().item() == pytest.approx(expected, rel=1e-3)

    only_masks = build("csn[embedding_norm=0]", backbones)
    only_masks(images)
    expected = papers_penalty([np.zeros((3, 8))] * 3, masks_of(net).clamp_min(0).numpy(), np.arange(3))
    assert only_masks.regulariser().mean().item() == pytest.approx(expected, rel=1e-5)


def test_each_tasks_penalty_is_on_its_own_group_and_mask(backbones, images):
    net = build("csn[embedding_norm=2,mask_norm=3]", backbones)
    embeddings = net.net(images.flatten(0, 1)).unflatten(0, (3, 4)).detach().numpy()
    net(images)
    for t, penalty in enumerate(net.regulariser().tolist()):
        lengths = np.linalg.norm(embeddings[t], axis=1)
        expected = 2 * np.sqrt((lengths**2).mean()) + 3 * np.maximum(masks_of(net)[t].numpy(), 0).sum()
        assert penalty == pytest.approx(expected, rel=1e-5)


def test_one_batch_for_all_tasks_has_one_embedding_norm(backbones, images):
    net = build("csn[mask_norm=0]", backbones)
    embeddings = net.net(images[0]).detach().numpy()
    net.embed(images[0])
    expected = 5e-3 * np.sqrt((embeddings**2).sum(1).mean())
    assert net.regulariser().tolist() == pytest.approx([expected] * 3, rel=1e-5)


def test_a_mask_feels_its_norm_where_it_is_open(backbones, images):
    net = build("csn", backbones)
    set_masks(net, torch.tensor([1.0, -1.0]).repeat(3, 4))
    net(images)
    net.regulariser()[1].backward()
    gradients = [mask.values.grad for mask in net.masks]
    torch.testing.assert_close(gradients[1], torch.tensor([5e-4, 0.0]).repeat(4))
    assert not gradients[0].any()
    assert not gradients[2].any()


def test_the_embeddings_norm_draws_every_embedding_towards_zero(backbones, images):
    net = build("csn[mask_norm=0]", backbones)
    net.embed(images[0])
    net.representation.retain_grad()
    net.regulariser()[0].backward()
    embeddings = net.representation.detach()
    torch.testing.assert_close(net.representation.grad, 5e-3 * embeddings / embeddings.norm() / 4**0.5)


def test_embeddings_of_zero_have_a_finite_gradient(backbones, images):
    net = build("csn", backbones)
    with torch.no_grad():
        for parameter in net.last_shared_layer():
            parameter.zero_()
    net(images)
    net.regulariser().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_norms_can_be_left_out(backbones, images):
    net = build("csn[norms=false]", backbones)
    net(images)
    assert net.regulariser() is None


def test_a_penalty_does_not_outlive_training_and_the_network_can_be_copied(backbones, images):
    net = build("csn", backbones)
    net.embed(images[0])
    assert net.regulariser() is not None
    assert net.representation.shape == (4, 8)
    net.eval().embed(images[0])
    assert net.regulariser() is None
    assert net.representation is None
    assert torch.equal(masks_of(copy.deepcopy(net)), masks_of(net))


def test_under_bfloat16_the_penalty_stays_float32_and_trains(backbones, images):
    net = build("csn", backbones)
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = net(images)
    penalty = net.regulariser()
    assert penalty.dtype == torch.float32
    (embeddings.float().square().mean((1, 2)) + penalty).sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())

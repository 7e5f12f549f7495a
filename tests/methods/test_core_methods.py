"""The five methods of the first comparison and `single`, each against what its paper or plain algebra says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, UserError
from mtlbench.plugins import load_plugins
from mtlbench.registry import BALANCERS
from mtlbench.specs import parse_method

load_plugins()
TASKS = ("colour", "shape", "size")


def build(spec: str, backbones: BackboneFactory, tasks: tuple[str, ...] = TASKS) -> Architecture:
    return parse_method(spec).build(backbones, tasks)[0]


# --- independent ------------------------------------------------------------------------------------------------------


def test_independent_nets_share_no_parameter(backbones):
    net = build("independent", backbones)
    assert net.shared_parameters() == []
    owners = [{p.data_ptr() for p in net.task_parameters(t)} for t in range(3)]
    assert len(set.union(*owners)) == sum(map(len, owners)) == len(list(net.parameters()))


def test_independent_nets_start_differently(backbones):
    net = build("independent", backbones)
    first, second = (net.task_parameters(t)[0] for t in (0, 1))
    assert not torch.equal(first, second)


# --- shared -----------------------------------------------------------------------------------------------------------


def test_the_shared_trunks_gradient_is_the_mean_of_the_tasks(backbones, images):
    net = build("shared", backbones)
    losses = net(images).square().mean(dim=(1, 2))
    alone = [torch.autograd.grad(loss, net.shared_parameters(), retain_graph=True) for loss in losses]
    heads = [torch.autograd.grad(loss, net.task_parameters(t), retain_graph=True) for t, loss in enumerate(losses)]
    weights = BALANCERS.get("mean").target(TASKS).backward(losses, net)
    assert weights.tolist() == [1, 1, 1]
    for parameter, *gradients in zip(net.shared_parameters(), *alone, strict=True):
        torch.testing.assert_close(parameter.grad, sum(gradients) / 3)
    for t in range(3):
        for parameter, gradient in zip(net.task_parameters(t), heads[t], strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


def test_shared_has_one_trunk_and_an_embedding_layer_per_task(backbones):
    net, one = build("shared", backbones), backbones.backbone()
    trunk, head = (sum(p.numel() for p in part.parameters()) for part in (one.stages, one.head))
    assert sum(p.numel() for p in net.shared_parameters()) == trunk
    assert [sum(p.numel() for p in net.task_parameters(t)) for t in range(3)] == [head] * 3


def test_single_gives_one_embedding_whatever_the_task(backbones, images):
    net = build("single", backbones).eval()
    with torch.no_grad():
        embeddings = net.embed(images[0])
    assert torch.equal(embeddings[0], embeddings[1])
    assert torch.equal(embeddings[0], embeddings[2])


# --- modulation -------------------------------------------------------------------------------------------------------


def test_modulation_adds_3584_parameters_to_the_papers_network_for_seven_tasks():
    tasks = tuple(f"attribute {t}" for t in range(7))
    paper = BackboneFactory("paper", 150, 256)
    with torch.device("meta"):
        counts = {
            spec: sum(p.numel() for p in build(spec, paper, tasks).parameters()) for spec in ("single", "modulation")
        }
    assert counts == {"single": 2_953_664, "modulation": 2_953_664 + 3_584}


def test_modulation_scales_the_papers_blocks_3_and_4_and_its_embedding():
    paper = BackboneFactory("paper", 150, 256)
    with torch.device("meta"):
        net = build("modulation", paper)
        explicit = build("modulation[after=3:4:5]", paper)
    assert [p.numel() for p in net.task_parameters(0)] == [128, 128, 256]
    assert list(net.scales) == list(explicit.scales) == ["3", "4", "5"]


def test_modulation_starts_as_single(backbones, images):
    modulated, single = build("modulation", backbones).eval(), build("single", backbones).eval()
    with torch.no_grad():
        assert torch.equal(modulated(images), single(images))
        assert torch.equal(modulated.embed(images[0]), single.embed(images[0]))


def test_only_its_own_task_moves_a_modulation_vector(backbones, images):
    net = build("modulation", backbones).eval()  # while training, a batch norm's statistics mix the tasks a little
    net(images)[2].square().sum().backward()
    for t in range(3):
        gradients = [p.grad for p in net.task_parameters(t)]
        assert len(gradients) == 3
        assert all(g.any() if t == 2 else not g.any() for g in gradients)


def test_modulation_multiplies_channels_by_the_rectified_vector(backbones, images):
    net = build("modulation[after=2]", backbones).eval()
    (vector,) = net.task_parameters(1)
    with torch.no_grad():
        vector.copy_(torch.linspace(-1, 2, len(vector)))
        net_of = net.net
        features = net_of.stages[1](net_of.stages[0](images[1])) * vector.clamp_min(0)[:, None, None]
        for stage in net_of.stages[2:]:
            features = stage(features)
        torch.testing.assert_close(net(images)[1], net_of.head(features))


def test_modulation_after_the_embedding_scales_the_embedding(backbones, images):
    last = len(backbones.channels) + 1
    net, single = build(f"modulation[after={last}]", backbones).eval(), build("single", backbones).eval()
    (vector,) = net.task_parameters(0)
    with torch.no_grad():
        vector[:4] = 0
        vector[4:] = 2
        expected = single(images)[0]
        expected[:, :4] = 0
        expected[:, 4:] *= 2
        torch.testing.assert_close(net(images)[0], expected)
        torch.testing.assert_close(net.embed(images[0])[0], expected)


def test_modulation_refuses_layers_that_are_not_there(backbones):
    with pytest.raises(UserError, match=r"after=9 must name layers from 1 to 5"):
        build("modulation[after=9]", backbones)


# --- cross-stitch -----------------------------------------------------------------------------------------------------


def test_identity_units_make_cross_stitch_independent_nets(backbones, images):
    stitched, alone = build("cross-stitch[same=1]", backbones), build("independent", backbones)
    for net in (stitched, alone):
        net.eval()
    torch.testing.assert_close(stitched.embed(images[0]), alone.embed(images[0]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(stitched(images), alone(images), rtol=1e-4, atol=1e-4)
    (stitched(images).square().sum()).backward()
    (alone(images).square().sum()).backward()
    for t in range(3):
        mine, theirs = stitched.task_parameters(t), alone.task_parameters(t)
        assert len(mine) == len(theirs)
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("tasks", [2, 3, 7])
def test_units_start_convex_with_nine_tenths_of_their_own(backbones, tasks):
    net = build("cross-stitch", backbones, tuple(f"task {t}" for t in range(tasks)))
    assert len(net.units) == len(backbones.channels) - 1
    for unit in net.units:
        torch.testing.assert_close(unit.sum(1), torch.ones(tasks))
        torch.testing.assert_close(unit.diagonal(), torch.full((tasks,), 0.9))
        off = unit[~torch.eye(tasks, dtype=torch.bool)]
        torch.testing.assert_close(off, torch.full_like(off, 0.1 / (tasks - 1)))


def test_a_unit_mixes_the_columns_features_by_its_rows(backbones, images):
    net = build("cross-stitch", backbones, TASKS[:2]).eval()
    with torch.no_grad():
        for n, unit in enumerate(net.units):
            unit.copy_(torch.tensor([[0.7, 0.2], [-0.1, 1.1]]) + n)
        a = b = images[0]
        for n in range(len(backbones.channels)):
            a, b = net.columns[0][n](a), net.columns[1][n](b)
            if n < len(net.units):
                u = net.units[n]
                a, b = u[0, 0] * a + u[0, 1] * b, u[1, 0] * a + u[1, 1] * b
        expected = torch.stack([net.heads[0](a), net.heads[1](b)])
        torch.testing.assert_close(net.embed(images[0]), expected, rtol=1e-4, atol=1e-5)


def test_units_learn_a_hundred_times_faster_by_gradient_descent(backbones):
    assert build("cross-stitch", backbones).learning_rate_scales(adaptive=False) == {"units.": 100.0}
    assert build("cross-stitch", backbones).learning_rate_scales(adaptive=True) == {"units.": 1.0}
    assert build("cross-stitch[rate=1000]", backbones).learning_rate_scales(adaptive=True) == {"units.": 1000.0}
    with pytest.raises(UserError, match="same=2"):
        build("cross-stitch[same=2]", backbones)


# --- gradnorm ---------------------------------------------------------------------------------------------------------


class OneLinearLayer(Architecture):
    """Task t embeds its numbers x as h_t w x: one shared weight w, one weight h_t of task t's own."""

    def __init__(self, w: float, heads: tuple[float, ...]) -> None:
        nn.Module.__init__(self)
        self.tasks = tuple(f"task {t}" for t in range(len(heads)))
        self.w = nn.Parameter(torch.tensor(w))
        self.heads = nn.ParameterList([nn.Parameter(torch.tensor(h)) for h in heads])

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([h * self.w * x for h, x in zip(self.heads, images, strict=True)])

    def task_state(self, task: int) -> tuple[nn.Parameter]:
        return (self.heads[task],)

    def last_shared_layer(self) -> tuple[nn.Parameter]:
        return (self.w,)


def gradnorm(tasks: int = 2, **options: float) -> nn.Module:
    words = ",".join(f"{k}={v}" for k, v in options.items())
    method = parse_method(f"shared+gradnorm[{words}]" if words else "shared+gradnorm")
    return BALANCERS.get(method.balancer).target([f"task {t}" for t in range(tasks)], **method.balancer_options)


def test_gradnorm_takes_the_two_steps_worked_by_hand():
    """L_1 = 3 h_1 w and L_2 = h_2 w, from w = 2 and h = (1, 1), with alpha = 1 and a rate of 0.1.

    Step 1: n = (3, 1), G = (3, 1), mean 2, r = (1, 1), targets (2, 2): w - 0.1 (+3, -1) = (0.7, 1.1), whose sum
    1.8 is brought to 2. Network gradients: shared (3 + 1) / 2 = 2; heads 3 w = 6 and w = 2, each at weight 1.
    Step 2, after a step of 0.1: w = 1.8, h = (0.4, 0.8): L = (2.16, 1.44), L / L(0) = (0.36, 0.72), r = (2/3, 4/3);
    n = (1.2, 0.8), G = (0.7/0.9 * 1.2, 1.1/0.9 * 0.8), targets mean(G) r.
    """
    net, balancer = OneLinearLayer(2.0, (1.0, 1.0)), gradnorm(alpha=1, lr=0.1)
    x = torch.tensor([[3.0], [1.0]])

    used = balancer.backward(net(x)[:, 0], net)
    assert used.tolist() == [1, 1]
    assert balancer.gradient_norms.tolist() == [3, 1]
    assert net.w.grad.item() == pytest.approx(2)
    assert [h.grad.item() for h in net.heads] == pytest.approx([6, 2])
    first = [0.7 * 2 / 1.8, 1.1 * 2 / 1.8]
    assert balancer.weights.tolist() == pytest.approx(first)

    with torch.no_grad():
        for p in net.parameters():
            p -= 0.1 * p.grad
            p.grad = None
    assert [net.w.item(), *(h.item() for h in net.heads)] == pytest.approx([1.8, 0.4, 0.8])

    used = balancer.backward(net(x)[:, 0], net)
    assert used.tolist() == pytest.approx(first)
    norms = [first[0] * 1.2, first[1] * 0.8]
    assert balancer.gradient_norms.tolist() == pytest.approx(norms)
    assert net.w.grad.item() == pytest.approx(sum(norms) / 2)
    assert [h.grad.item() for h in net.heads] == pytest.approx([first[0] * 5.4, first[1] * 1.8])
    target = [sum(norms) / 2 * 2 / 3, sum(norms) / 2 * 4 / 3]
    assert norms[0] > target[0]
    assert norms[1] < target[1]
    moved = [first[0] - 0.1 * 1.2, first[1] + 0.1 * 0.8]
    assert balancer.weights.tolist() == pytest.approx([m * 2 / sum(moved) for m in moved])
    assert balancer.first_losses.tolist() == [6, 2]


def test_gradnorms_gradient_is_that_of_its_loss():
    """The closed form of dL_grad/dw against automatic differentiation, the target held constant."""
    torch.manual_seed(0)
    for alpha in (0.12, 1.5):
        balancer = gradnorm(tasks=4, alpha=alpha, lr=1e-3)
        balancer.weights = torch.rand(4) + 0.5
        balancer.first_losses = torch.rand(4) + 0.5
        losses, norms = torch.rand(4), torch.rand(4)
        w = balancer.weights.clone().requires_grad_()
        ratios = losses / balancer.first_losses
        norm = w * norms
        target = (norm.mean() * (ratios / ratios.mean()) ** alpha).detach()
        (norm - target).abs().sum().backward()
        moved = w.detach() - 1e-3 * w.grad
        balancer._update(losses, norms)
        torch.testing.assert_close(balancer.weights, moved * 4 / moved.sum())


def test_gradnorm_with_alpha_0_makes_the_norms_equal():
    net, balancer = OneLinearLayer(1.0, (1.0, 1.0, 1.0)), gradnorm(tasks=3, alpha=0, lr=0.002)
    x = torch.tensor([[5.0], [1.0], [2.0]])
    for _ in range(2000):
        balancer.backward(net(x)[:, 0], net)
    norms = balancer.gradient_norms
    assert (norms.max() - norms.min()) / norms.mean() < 0.05
    assert balancer.weights.sum().item() == pytest.approx(3)


def test_gradnorm_stays_finite_when_losses_are_zero():
    net, balancer = OneLinearLayer(1.0, (1.0, 1.0)), gradnorm()
    for x in ([0.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 0.0], [1.0, 1.0]):
        losses = net(torch.tensor(x)[:, None])[:, 0].clamp_min(0)
        balancer.backward(losses, net)
        assert balancer.weights.isfinite().all()
        assert (balancer.weights > 0).all()
        assert balancer.weights.sum().item() == pytest.approx(2)
        assert all(p.grad.isfinite().all() for p in net.parameters())
    assert balancer.first_losses.tolist() == [2, 1]


def test_a_task_that_never_had_a_loss_counts_as_slow_and_one_without_any_now_as_fast():
    """L = (0, 2), then (0, 1): L / L(0) = (1, 1/2), r = (4/3, 2/3); G = (0, 1), target of task 1 is 1/2 r = 1/3."""
    balancer = gradnorm(alpha=1, lr=0.1)
    balancer.first_losses = torch.tensor([0.0, 2.0])
    balancer._update(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))
    assert balancer.weights.tolist() == pytest.approx([2 / 1.9, 1.8 / 1.9])
    balancer = gradnorm(alpha=2, lr=0.1)  # L / L(0) = (0, 1/2), r = (0, 2); G = (0, 1), target of task 1 is 1/2 r^2 = 2
    balancer.first_losses = torch.tensor([1.0, 2.0])
    balancer._update(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))
    assert balancer.weights.tolist() == pytest.approx([2 / 2.1, 2.2 / 2.1])


def test_gradnorm_weights_stay_positive():
    net, balancer = OneLinearLayer(1.0, (1.0, 1.0)), gradnorm(alpha=0, lr=10)
    for _ in range(5):
        balancer.backward(net(torch.tensor([[100.0], [1.0]]))[:, 0], net)
        assert (balancer.weights > 0).all()


def test_gradnorm_measures_at_the_trunks_last_convolution(backbones):
    net = build("gradnorm", backbones)
    (weight,) = net.last_shared_layer()
    assert weight.dim() == 4
    assert any(weight is p for p in net.shared_parameters())
    assert weight.shape[0] == backbones.channels[-1]


@pytest.mark.parametrize("architecture", ["independent", "cross-stitch"])
def test_gradnorm_refuses_architectures_without_a_shared_layer(backbones, architecture):
    with pytest.raises(UserError, match="has none"):
        parse_method(f"{architecture}+gradnorm").build(backbones, TASKS)


def test_gradnorms_memory_is_in_its_checkpoint():
    assert set(gradnorm().state_dict()) == {"weights", "first_losses"}


def test_gradnorms_weights_by_adam_take_the_steps_of_torchs_adam():
    """The network stays where it is; the first loss is twice as far from its start as the second, at every step."""
    method = parse_method("shared+gradnorm[alpha=1,lr=0.025,optimiser=adam]")
    balancer = BALANCERS.get("gradnorm").target(["a", "b"], **method.balancer_options)
    theirs = torch.ones(2)
    optimiser = torch.optim.Adam([theirs], lr=0.025)
    norms, first = torch.tensor([2e-3, 5e-3]), torch.tensor([0.2, 0.1])
    for step in range(4):
        losses = first * torch.tensor([1.0, 0.5]) if step else first
        ratios = losses / first
        target = (theirs * norms).mean() * ratios / ratios.mean()
        theirs.grad = torch.sign(theirs * norms - target) * norms
        balancer._update(losses, norms)
        optimiser.step()
        theirs.data *= 2 / theirs.sum()
        torch.testing.assert_close(balancer.weights, theirs.data, rtol=1e-5, atol=1e-6)
    assert abs(float(balancer.weights[0]) - 1) > 0.05, "small gradients move them too"

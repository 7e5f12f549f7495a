"""The modulation paper's network: the sizes that the paper states, and what it computes."""

from __future__ import annotations

import torch
from support_backbones import count, images, on_meta, shake_batch_norms
from torch import Tensor, nn

from mtlbench.backbones import BackboneFactory


class TestPaper:
    """The network that the modulation paper released, at its 150 px and 256 dimensions."""

    def test_has_the_released_number_of_parameters(self) -> None:
        net = on_meta("paper", 150, 256)

        assert count(net) == 2_953_664
        assert count(net.stages) == 1_347_776
        assert count(net.head) == 1_605_888

    def test_every_parameter_is_a_convolution_the_fc_or_a_batch_norm_bias(self) -> None:
        net = on_meta("paper", 150, 256)
        sizes: dict[str, int] = {"convolution": 0, "fc": 0, "batch-norm bias": 0}
        for layer in net.modules():
            for name, parameter in layer.named_parameters(recurse=False):
                kind = {
                    (nn.Conv2d, "weight"): "convolution",
                    (nn.Linear, "weight"): "fc",
                    (nn.BatchNorm1d, "bias"): "batch-norm bias",
                    (nn.BatchNorm2d, "bias"): "batch-norm bias",
                }[type(layer), name]
                sizes[kind] += parameter.numel()

        assert sizes == {"convolution": 1_346_400, "fc": 6272 * 256, "batch-norm bias": 1_376 + 256}

    def test_has_four_blocks_of_which_the_last_two_are_modulated(self) -> None:
        factory = BackboneFactory("paper", 150, 256)

        assert factory.channels == (64, 128, 128, 128)
        assert factory.feature_size == (7, 7)
        # The paper's storage per task: blocks 3 and 4, and the embedding.
        assert sum(factory.channels[2:]) + factory.embedding_size == 512

    def test_starts_as_the_released_code_where_that_is_asked_for(self) -> None:
        """TensorFlow's truncated_normal_initializer(stddev=0.1) cuts at two deviations, which leaves 0.088."""
        he, theirs = (BackboneFactory(name, 60, 32).backbone() for name in ("paper", "paper[start=truncated]"))
        layers = [m for m in theirs.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        large = [layer.weight.detach() for layer in layers if layer.weight.numel() > 4000]

        assert count(he) == count(theirs)
        assert len(large) == len(layers) - 1
        assert all(0.19 < float(weight.abs().max()) <= 0.2 for weight in large)
        assert all(abs(float(weight.std()) - 0.08796) < 0.002 for weight in large)
        assert float(he.stages[3].reduce[0][0].weight.detach().std()) < 0.05  # He's falls with a layer's inputs
        assert torch.equal(theirs.head[1].weight, BackboneFactory("paper[start=truncated]", 60, 32).head()[1].weight)

    def test_stages_shrink_as_valid_convolutions_and_pooling_say(self) -> None:
        features = torch.empty(1, 3, 150, 150, device="meta")
        sides = [150]
        for stage in on_meta("paper", 150, 256).eval().stages:
            features = stage(features)
            sides.append(features.shape[-1])

        assert sides == [150, 73, 35, 16, 7]

    def test_computes_what_the_paper_draws(self) -> None:
        net = BackboneFactory("paper", (60, 52), 8).backbone().double().eval()
        shake_batch_norms(net)
        layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
        for norm in norms:
            nn.init.uniform_(norm.bias, -0.5, 0.5, generator=torch.Generator().manual_seed(2))
        step = iter(zip(layers, norms, strict=True))

        def unit(x: Tensor, padding: int | None) -> Tensor:
            layer, norm = next(step)
            weight = layer.weight
            y = x @ weight.T if padding is None else nn.functional.conv2d(x, weight, padding=padding)
            shape = (1, -1) if padding is None else (1, -1, 1, 1)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            mean, variance = norm.running_mean.view(shape), norm.running_var.view(shape)
            return ((y - mean) / (variance + 1e-3).sqrt() + norm.bias.view(shape)).clamp(min=0)

        x = images((60, 52)).double()
        expected = unit(x, 0)
        for _ in range(4):
            pooled = nn.functional.max_pool2d(unit(expected, 0), 2)
            expected = pooled + unit(unit(pooled, 1), 1)
        expected = unit(expected.flatten(1), None)

        assert expected.abs().max() > 0
        torch.testing.assert_close(net(x), expected)
        assert next(step, None) is None

    def test_running_statistics_keep_995_parts_in_a_thousand(self) -> None:
        net = BackboneFactory("paper", 48, 8).backbone()
        stem = net.stages[0][0]
        stem(5 * images((48, 48)))
        batch_mean = stem[0](5 * images((48, 48))).mean((0, 2, 3))

        torch.testing.assert_close(stem[1].running_mean, 0.005 * batch_mean)

    def test_the_fixed_batch_norm_scale_is_neither_learned_nor_saved(self) -> None:
        net = BackboneFactory("paper", 48, 8).backbone()
        net(images((48, 48))).square().sum().backward()

        norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
        assert len(norms) == 14
        assert all(torch.equal(norm.weight, torch.ones_like(norm.bias)) for norm in norms)
        assert not any(norm.weight.requires_grad for norm in norms)
        saved = {id(value) for value in net.state_dict(keep_vars=True).values()}
        assert not saved & {id(norm.weight) for norm in norms}
        assert all(parameter.grad is not None for parameter in net.parameters())

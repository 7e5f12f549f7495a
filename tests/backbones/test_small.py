"""The small network: its sizes, its head, its width."""

from __future__ import annotations

import pytest
import torch
from support_backbones import count, images, on_meta
from torch import nn

from mtlbench.backbones import BackboneFactory


class TestSmall:
    """Our own network for CPUs."""

    def test_has_four_stages_that_halve_the_resolution(self) -> None:
        factory = BackboneFactory("small", 64, 64)

        assert factory.channels == (32, 64, 128, 128)
        assert factory.feature_size == (4, 4)
        assert count(on_meta("small", 64).stages) == 573_600

    @pytest.mark.parametrize("size", [(48, 48), (24, 37), (64, 33), (16, 16), (100, 24)])
    def test_its_head_sees_the_quarters_of_the_map(self, size: tuple[int, int]) -> None:
        factory = BackboneFactory("small", size, 8)
        net = factory.backbone().eval()
        features = torch.rand(2, 128, *factory.feature_size, generator=torch.Generator().manual_seed(0))
        bins = (min(2, factory.feature_size[0]), min(2, factory.feature_size[1]))
        quarters = nn.functional.adaptive_avg_pool2d(features, bins).flatten(1)

        linear = net.head[-1]
        torch.testing.assert_close(net.head(features), quarters @ linear.weight.T + linear.bias)
        assert net(images(size)).shape == (2, 8)

    def test_learns_a_batch_in_bfloat16_and_channels_last(self) -> None:
        net = BackboneFactory("small", 24, 4).backbone().to(memory_format=torch.channels_last)
        batch = images((24, 24), batch=8).contiguous(memory_format=torch.channels_last)
        targets = torch.eye(4).repeat(2, 1)
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        losses = []
        for _ in range(30):
            with torch.autocast("cpu", torch.bfloat16):
                embeddings = net(batch)
            loss = (embeddings.float() - targets).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

        assert losses[-1] < 0.1 * losses[0]

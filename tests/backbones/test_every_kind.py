"""What holds for every kind of backbone: shapes, counts, and weights that depend on their owner alone."""

from __future__ import annotations

import pickle

import pytest
import torch
from support_backbones import count, images, on_meta, same

from mtlbench.backbones import BackboneFactory

EVERY_KIND = [
    ("paper", (60, 52)),
    ("small", (48, 48)),
    ("small", (24, 37)),
    ("resnet18", (64, 40)),
    ("resnet18-csn", (40, 64)),
    ("resnet50", (32, 48)),
    ("torchvision:mobilenet_v3_small", (40, 64)),
    ("torchvision:squeezenet1_1", (48, 33)),
    ("torchvision:efficientnet_b0", (32, 32)),
    ("torchvision:densenet121", (32, 40)),
]


@pytest.mark.parametrize(("name", "size"), EVERY_KIND)
class TestEveryKind:
    def test_stages_have_the_channels_that_the_factory_announces(self, name: str, size: tuple[int, int]) -> None:
        factory = BackboneFactory(name, size, 16)
        with torch.device("meta"):
            net = factory.backbone().eval()
        features = torch.empty(2, 3, *size, device="meta")
        channels = []
        for stage in net.stages:
            features = stage(features)
            assert features.ndim == 4
            channels.append(features.shape[1])

        assert tuple(channels) == factory.channels == net.channels
        assert tuple(features.shape[2:]) == factory.feature_size
        assert net.head(features).shape == (2, 16)

    def test_is_a_handful_of_stages_each_with_weights(self, name: str, size: tuple[int, int]) -> None:
        net = on_meta(name, size)

        assert 3 <= len(net.stages) <= 6
        assert all(count(stage) > 0 for stage in net.stages)

    def test_counts_on_meta_what_it_builds_for_real(self, name: str, size: tuple[int, int]) -> None:
        real = BackboneFactory(name, size, 16).backbone()
        meta = on_meta(name, size, 16)

        assert all(tensor.is_meta for tensor in (*meta.parameters(), *meta.buffers()))
        assert {key: value.shape for key, value in meta.state_dict().items()} == {
            key: value.shape for key, value in real.state_dict().items()
        }

    def test_embeds_images_through_stages_and_head(self, name: str, size: tuple[int, int]) -> None:
        net = BackboneFactory(name, size, 16).backbone().eval()
        batch = images(size)
        with torch.no_grad():
            embeddings = net(batch)
            features = batch
            for stage in net.stages:
                features = stage(features)
            by_hand = net.head(features)

        assert embeddings.shape == (2, 16)
        assert embeddings.isfinite().all()
        assert torch.equal(embeddings, by_hand)

    def test_a_lone_head_is_the_head_of_the_backbone(self, name: str, size: tuple[int, int]) -> None:
        factory = BackboneFactory(name, size, 16, seed=3)

        assert same(factory.head("closure"), factory.backbone("closure").head)


class TestInitialWeights:
    """They depend on (name, sizes, seed, owner) and on nothing else."""

    @pytest.mark.parametrize("name", ["small", "paper", "resnet18-csn", "torchvision:mobilenet_v3_small"])
    def test_same_seed_and_owner_give_the_same_weights(self, name: str) -> None:
        first = BackboneFactory(name, 48, 8, seed=5).backbone("closure")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(123)
            torch.rand(7)
            second = BackboneFactory(name, 48, 8, seed=5).backbone("closure")

        assert same(first, second)

    def test_do_not_depend_on_what_was_built_before(self) -> None:
        busy, fresh = BackboneFactory("small", 32, 8), BackboneFactory("small", 32, 8)
        busy.backbone("gender")
        busy.head("closure")
        busy.backbone("closure")

        assert same(busy.backbone("closure"), fresh.backbone("closure"))
        assert same(busy.head("heel"), fresh.head("heel"))

    @pytest.mark.parametrize("part", ["stages", "head"])
    def test_owners_and_seeds_differ_in(self, part: str) -> None:
        nets = [
            BackboneFactory("small", 32, 8, seed=seed).backbone(owner).get_submodule(part)
            for seed in (0, 1)
            for owner in ("", "closure", "gender")
        ]
        weights = [next(net.parameters()) for net in nets]

        assert len({tuple(weight.flatten()[:8].tolist()) for weight in weights}) == 6

    def test_stages_do_not_depend_on_the_embedding_size(self) -> None:
        short, long = (BackboneFactory("small", 32, size).backbone("closure") for size in (8, 16))

        assert same(short.stages, long.stages)

    def test_share_no_memory(self) -> None:
        factory = BackboneFactory("small", 32, 8)
        first, second = factory.backbone(), factory.backbone()
        with torch.no_grad():
            for parameter in first.parameters():
                parameter.zero_()

        assert same(second, factory.backbone())
        assert not same(first, second)

    def test_building_leaves_the_accelerators_seed_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(seed: int) -> None:
            raise AssertionError("an accelerator was reseeded")

        monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)

        assert count(BackboneFactory("small", 32, 8).backbone()) > 0

    def test_survive_a_trip_to_another_process(self) -> None:
        for name in ("small", "resnet18-csn", "torchvision:mobilenet_v3_small"):
            factory = BackboneFactory(name, 48, 8, seed=2)

            assert same(pickle.loads(pickle.dumps(factory)).head("heel"), factory.head("heel"))


def test_what_a_method_builds_itself_depends_on_seed_and_owner_alone() -> None:
    def drawn(seed: int, owner: str) -> torch.Tensor:
        torch.rand(3)
        with BackboneFactory("small", 24, 8, seed=seed).seeded(owner):
            return torch.nn.Linear(4, 4).weight.detach()

    before = torch.get_rng_state()
    assert torch.equal(drawn(1, "a"), drawn(1, "a"))
    assert not torch.equal(drawn(1, "a"), drawn(1, "b"))
    assert not torch.equal(drawn(1, "a"), drawn(2, "a"))
    torch.set_rng_state(before)
    with BackboneFactory("small", 24, 8).seeded():
        torch.rand(5)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.device("meta"), BackboneFactory("small", 24, 8).seeded():
        assert torch.nn.Linear(2, 2).weight.device.type == "meta"

"""Backbones: sizes that papers state, cuts that change nothing, and weights that depend on their owner alone."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn

from mtlbench.backbones import BACKBONES, Backbone, BackboneFactory, backbone_names
from mtlbench.errors import UserError

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


@pytest.fixture
def pretend_download(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stand in for the network: every download returns the state put under "state"."""
    from torchvision.models._api import WeightsEnum

    answer: dict[str, Any] = {"downloads": 0}

    def get_state_dict(weights: Any, *args: Any, **kwargs: Any) -> Any:
        answer["downloads"] += 1
        answer["url"] = weights.url
        return answer["state"]

    monkeypatch.setattr(WeightsEnum, "get_state_dict", get_state_dict)
    return answer


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """On maps this small, threads on a busy machine wait for each other longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _global_random_state_is_left_alone() -> Iterator[None]:
    before = torch.get_rng_state()
    python = random.getstate()
    yield
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == python


def on_meta(name: str, size: tuple[int, int] | int, embedding_size: int = 64, **options: Any) -> Backbone:
    with torch.device("meta"):
        return BackboneFactory(name, size, embedding_size, **options).backbone()


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def images(size: tuple[int, int], batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(0))


def same(left: nn.Module, right: nn.Module) -> bool:
    ours, theirs = left.state_dict(), right.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def shake_batch_norms(net: nn.Module) -> None:
    """Move the running statistics off their initial 0 and 1, so that a test notices when one is not used."""
    generator = torch.Generator().manual_seed(1)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.uniform_(-0.2, 0.2, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)


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


class TestTorchvision:
    """Cutting a network must not change what it computes."""

    def cut_like(self, name: str, reference: nn.Module) -> Backbone:
        """A backbone with the reference's weights in its stages and in its head."""
        net = BackboneFactory(name, 64, 16).backbone().eval()
        theirs = [reference.conv1, reference.bn1, *(getattr(reference, f"layer{i}") for i in range(1, 5))]
        theirs = theirs[: len(net.stages) + 1]
        stem = net.stages[0]
        for ours, source in zip([stem[0], stem[1], *net.stages[1:]], theirs, strict=True):
            ours.load_state_dict(source.state_dict())
        return net

    def test_resnet18_is_torchvisions_with_a_new_last_layer(self) -> None:
        from torchvision.models import resnet18

        with torch.random.fork_rng(devices=[]):
            reference = resnet18(num_classes=16).eval()
        shake_batch_norms(reference)
        net = self.cut_like("resnet18", reference)
        net.head[-1].load_state_dict(reference.fc.state_dict())

        with torch.no_grad():
            torch.testing.assert_close(net(images((64, 64))), reference(images((64, 64))))

    def test_resnet18_csn_stops_before_layer4(self) -> None:
        from torchvision.models import resnet18

        with torch.random.fork_rng(devices=[]):
            reference = resnet18().eval()
        shake_batch_norms(reference)
        net = self.cut_like("resnet18-csn", reference)
        linear = net.head[-1]
        reference.layer4, reference.fc = nn.Identity(), nn.Identity()

        assert net.channels == (64, 64, 128, 256)
        assert linear.in_features == 256
        with torch.no_grad():
            pooled = reference(images((64, 64)))
            torch.testing.assert_close(net(images((64, 64))), linear(pooled))

    def test_resnet18_csn_ends_on_the_map_that_csn_pools(self) -> None:
        assert BackboneFactory("resnet18-csn", 112, 64).feature_size == (7, 7)

    @pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1", "efficientnet_b0", "convnext_tiny"])
    def test_a_features_network_is_cut_without_a_change(self, name: str) -> None:
        import torchvision

        with torch.random.fork_rng(devices=[]):
            reference = torchvision.models.get_model(name).features.eval()
        shake_batch_norms(reference)
        net = BackboneFactory(f"torchvision:{name}", (48, 64), 16).backbone().eval()
        # Same layers in the same order: the weights match by position.
        net.stages.load_state_dict(
            dict(zip(net.stages.state_dict(), reference.state_dict().values(), strict=True)), strict=True
        )
        linear = net.head[-1]

        with torch.no_grad():
            pooled = reference(images((48, 64))).mean((2, 3))
            torch.testing.assert_close(net(images((48, 64))), linear(pooled))

    def test_densenet_keeps_the_relu_outside_its_features(self) -> None:
        net = BackboneFactory("torchvision:densenet121", 32, 16).backbone().eval()
        features = images((32, 32))
        with torch.no_grad():
            for stage in net.stages:
                features = stage(features)

        assert features.min() == 0

    @pytest.mark.parametrize(
        ("name", "first_layers"),
        [
            ("mobilenet_v3_small", [0, 1, 2, 4, 9]),
            ("vgg11_bn", [0, 3, 7, 14, 21]),
            ("convnext_tiny", [0, 2, 4, 6]),
            ("efficientnet_b0", [0, 2, 3, 4, 6]),
        ],
    )
    def test_a_stage_opens_where_the_resolution_drops(self, name: str, first_layers: list[int]) -> None:
        import torchvision

        with torch.device("meta"):
            features = torchvision.models.get_model(name).features
        lengths = [len(stage) for stage in on_meta(f"torchvision:{name}", 64).stages]

        assert lengths == [stop - start for start, stop in pairwise([*first_layers, len(features)])]

    def test_the_cut_does_not_depend_on_the_image_size(self) -> None:
        small, large = (on_meta("torchvision:mobilenet_v3_small", size) for size in (16, 224))

        assert [len(stage) for stage in small.stages] == [len(stage) for stage in large.stages]
        assert small.channels == large.channels

    def test_is_not_imported_before_it_is_asked_for(self) -> None:
        script = (
            "import sys; from mtlbench.backbones import BackboneFactory, backbone_names; backbone_names();"
            "BackboneFactory('small', 32, 8).backbone(); print('torchvision' in sys.modules)"
        )
        answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

        assert answer.stdout.strip() == "False"

    def test_a_broken_one_hurts_only_those_who_use_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torchvision.models", None)

        assert BackboneFactory("small", 32, 8).channels[-1] == 128
        for name in ("resnet18", "torchvision:alexnet"):
            with pytest.raises(UserError, match=r"torchvision can't be imported .* matches your torch"):
                BackboneFactory(name, 64, 8)


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


class TestPretrained:
    @pytest.mark.parametrize(
        ("name", "reference"), [("resnet18-csn", "resnet18"), ("torchvision:squeezenet1_1", "squeezenet1_1")]
    )
    def test_stages_hold_the_downloaded_weights(
        self, name: str, reference: str, pretend_download: dict[str, Any]
    ) -> None:
        import torchvision

        with torch.random.fork_rng(devices=[]):
            downloaded = torchvision.models.get_model(reference)
        shake_batch_norms(downloaded)
        pretend_download["state"] = downloaded.state_dict()
        factory = BackboneFactory(name, 64, 8, pretrained=True)
        assert pretend_download["downloads"] == 0

        net = factory.backbone("closure").stages.state_dict()

        layers = dict(zip(net, downloaded.state_dict().values(), strict=False))
        assert len(net) >= 50
        assert all(torch.equal(net[key], layers[key]) for key in net)
        assert reference in pretend_download["url"]

    def test_heads_are_new_and_their_owners(self, pretend_download: dict[str, Any]) -> None:
        import torchvision

        with torch.random.fork_rng(devices=[]):
            pretend_download["state"] = torchvision.models.resnet18().state_dict()
        pretrained = BackboneFactory("resnet18-csn", 64, 8, pretrained=True)
        fresh = BackboneFactory("resnet18-csn", 64, 8)
        first, second = pretrained.backbone("closure"), pretrained.backbone("gender")

        assert same(first.stages, second.stages)
        assert not same(first.head, second.head)
        assert same(first.head, fresh.head("closure"))

    def test_counting_parameters_downloads_nothing(self, pretend_download: dict[str, Any]) -> None:
        assert count(on_meta("resnet18", 64, pretrained=True)) == count(on_meta("resnet18", 64))
        assert pretend_download["downloads"] == 0

    @pytest.mark.parametrize("name", ["paper", "small"])
    def test_our_own_networks_have_none(self, name: str) -> None:
        with pytest.raises(UserError, match=f"no pretrained weights for the backbone '{name}'"):
            BackboneFactory(name, 64, 8, pretrained=True)

    def test_a_failed_download_names_the_file_and_the_way_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*args: Any, **kwargs: Any) -> Any:
            raise URLError("no route to host")

        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
        factory = BackboneFactory("resnet18", 64, 8, pretrained=True)

        with pytest.raises(UserError, match=r"'resnet18'.*no route to host.*resnet18-\w+\.pth.*pretrained off"):
            factory.backbone()


class TestErrors:
    def message(self, build: Callable[[], object]) -> str:
        with pytest.raises(UserError) as caught:
            build()
        return str(caught.value)

    def test_an_unknown_name_is_answered_with_the_near_and_the_known_ones(self) -> None:
        message = self.message(lambda: BackboneFactory("resnet-18-cns", 64, 8))

        assert message.startswith("Unknown backbone 'resnet-18-cns'. Did you mean: resnet18-csn")
        assert all(name in message for name in backbone_names())

    def test_an_unknown_torchvision_name_is_answered_with_near_ones(self) -> None:
        message = self.message(lambda: BackboneFactory("torchvision:mobilenet_v3_smal", 64, 8))

        assert "no classifier 'mobilenet_v3_smal'. Did you mean: mobilenet_v3_small" in message

    @pytest.mark.parametrize("name", ["fcos_resnet50_fpn", "quantized_mobilenet_v2", "<name>", ""])
    def test_what_is_no_classifier_is_refused(self, name: str) -> None:
        assert f"no classifier '{name}'" in self.message(lambda: BackboneFactory(f"torchvision:{name}", 64, 8))

    @pytest.mark.parametrize("name", ["vit_b_16", "regnet_y_400mf", "googlenet", "mnasnet0_5", "maxvit_t"])
    def test_a_network_without_a_features_sequence_is_refused(self, name: str) -> None:
        message = self.message(lambda: BackboneFactory(f"torchvision:{name}", 64, 8))

        assert message == f"torchvision's '{name}' has no sequence of features that can be cut into stages."

    def test_a_resnet_is_led_to_the_built_in_one(self) -> None:
        assert "Use 'resnet34'" in self.message(lambda: BackboneFactory("torchvision:resnet34", 64, 8))

    @pytest.mark.parametrize("name", ["swin_t", "swin_v2_t"])
    def test_a_channels_last_network_is_refused(self, name: str) -> None:
        message = self.message(lambda: BackboneFactory(f"torchvision:{name}", 64, 8))

        assert "feature maps aren't (B, channels, height, width)" in message

    @pytest.mark.parametrize(("name", "smallest"), [("paper", 48), ("torchvision:vgg11_bn", 32)])
    def test_images_too_small_are_told_the_smallest_size(self, name: str, smallest: int) -> None:
        message = self.message(lambda: BackboneFactory(name, (smallest - 1, 200), 8))

        assert f"{smallest - 1} x 200 pixels are too small for the backbone '{name}'" in message
        assert f"at least {smallest}." in message
        assert BackboneFactory(name, smallest, 8).feature_size == (1, 1)

    @pytest.mark.parametrize(("size", "embedding_size"), [(0, 8), ((48, -1), 8), (48, 0)])
    def test_sizes_below_one_are_refused(self, size: tuple[int, int] | int, embedding_size: int) -> None:
        assert "must be at least 1" in self.message(lambda: BackboneFactory("small", size, embedding_size))


def test_every_name_has_one_line_of_description() -> None:
    assert backbone_names() == list(BACKBONES)
    assert {"paper", "small", "resnet18", "resnet18-csn", "resnet34", "resnet50"} < set(BACKBONES)
    assert all(line and "\n" not in line for line in BACKBONES.values())


def test_every_family_of_torchvision_classifiers_is_cut_or_refused() -> None:
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)
    families = {name.rstrip("0123456789").split("_")[0].rstrip("0123456789"): name for name in reversed(names)}
    cut = set()
    for family, name in families.items():
        try:
            factory = BackboneFactory(f"torchvision:{name}", 64, 8, pretrained=True)
        except UserError:
            continue
        cut.add(family)
        assert 3 <= len(factory.channels) <= 6, name
        assert torchvision.models.get_model_weights(name).DEFAULT.url, name

    assert cut >= {"alexnet", "convnext", "densenet", "efficientnet", "mobilenet", "squeezenet", "vgg"}


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

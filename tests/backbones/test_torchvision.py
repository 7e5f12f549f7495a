"""torchvision's networks: cutting one must not change what it computes."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from typing import Any
from urllib.error import URLError

import pytest
import torch
from support_backbones import count, images, on_meta, same, shake_batch_norms
from torch import nn

from mtlbench.backbones import Backbone, BackboneFactory
from mtlbench.errors import UserError


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

    @pytest.mark.slow
    def test_is_not_imported_before_it_is_asked_for(self) -> None:
        script = (
            "import sys; from mtlbench.backbones import BackboneFactory;"
            "from mtlbench.registry import BACKBONES; BACKBONES.names();"
            "BackboneFactory('small', 32, 8).backbone(); print('torchvision' in sys.modules, 'timm' in sys.modules)"
        )
        answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

        assert answer.stdout.strip() == "False False"

    def test_a_broken_one_hurts_only_those_who_use_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torchvision.models", None)

        assert BackboneFactory("small", 32, 8).channels[-1] == 128
        for name in ("resnet18", "torchvision:alexnet"):
            with pytest.raises(UserError, match=r"torchvision can't be imported .* matches your torch"):
                BackboneFactory(name, 64, 8)


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


@pytest.mark.slow
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

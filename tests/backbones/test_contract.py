"""The factory: names, options, refusals, and kinds of one's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support_backbones import images, same
from torch import Tensor, nn

from mtlbench.backbones import BackboneFactory
from mtlbench.backbones.contract import BackboneKind, register_backbone
from mtlbench.errors import UserError
from mtlbench.plugins import load_plugins
from mtlbench.registry import BACKBONES


class TestErrors:
    def message(self, build: Callable[[], object]) -> str:
        with pytest.raises(UserError) as caught:
            build()
        return str(caught.value)

    def test_an_unknown_name_is_answered_with_the_near_and_the_known_ones(self) -> None:
        message = self.message(lambda: BackboneFactory("resnet-18-cns", 64, 8))

        assert message.startswith("Unknown backbone 'resnet-18-cns'. Did you mean: resnet18-csn")
        assert all(name in message for name in BACKBONES.names())

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
    assert {"paper", "small", "resnet18", "resnet18-csn", "resnet34", "resnet50"} <= set(BACKBONES)
    assert "torchvision" in BACKBONES.families
    lines = [BACKBONES.get(name).summary for name in BACKBONES]
    lines += [family.summary for family in BACKBONES.families.values()]
    assert all(line and "\n" not in line for line in lines)


class TestOptions:
    """They stand after the name, as with methods."""

    def test_widen_the_channels(self) -> None:
        narrow = BackboneFactory("small[width=0.5]", 24, 8)

        assert narrow.channels == (16, 32, 64, 64)
        assert narrow.backbone()(images((24, 24))).shape == (2, 8)
        assert BackboneFactory("small[width=2]", 24, 8).channels == (64, 128, 256, 256)
        assert BackboneFactory("small[width=0.001]", 24, 8).channels == (1, 1, 1, 1)

    def test_given_as_they_are_by_default_change_nothing(self) -> None:
        plain, given = (BackboneFactory(name, 24, 8, seed=3).backbone("heel") for name in ("small", "small[width=1]"))

        assert same(plain, given)

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("small[widht=2]", "backbone 'small' has no option 'widht'. Did you mean: width"),
            ("small[width=wide]", "backbone 'small' can't take width=wide"),
            ("small[width=0]", "can't take width=0.0: it must be above 0"),
            ("small[width=nan]", "can't take width=nan"),
            ("paper[width=2]", "It has: start."),
            ("torchvision:alexnet[width=2]", "It has none."),
            ("small[width", "can't be read"),
        ],
    )
    def test_unknown_or_malformed_are_refused(self, name: str, said: str) -> None:
        with pytest.raises(UserError) as caught:
            BackboneFactory(name, 24, 8)

        assert said in str(caught.value)


class TestKindsOfOnesOwn:
    def test_must_keep_the_contract(self) -> None:
        with pytest.raises(UserError, match=r"must be a subclass of mtlbench\.BackboneKind"):
            register_backbone("odd")(dict)
        with pytest.raises(UserError, match="the backbone 'odd' lacks stages"):

            @register_backbone("odd")
            class Odd(BackboneKind):
                pass

    def test_a_stage_that_returns_no_map_is_refused(self) -> None:
        @register_backbone("flat")
        class Flat(BackboneKind):
            def stages(self, pretrained: bool) -> nn.ModuleList:
                return nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Flatten()])

        with pytest.raises(
            UserError, match=r"'flat' \(.*\) must return feature maps .* from stage 2, not .* \(1, 1936\)"
        ):
            BackboneFactory("flat", 24, 8)

    def test_a_stage_that_fails_without_a_word_is_named_with_its_error(self) -> None:
        class Mute(nn.Module):
            def forward(self, features: Tensor) -> Tensor:
                raise NotImplementedError

        @register_backbone("mute")
        class Silent(BackboneKind):
            def stages(self, pretrained: bool) -> nn.ModuleList:
                return nn.ModuleList([nn.Conv2d(3, 4, 3), Mute()])

        with pytest.raises(
            UserError, match=r"Stage 2 of the backbone 'mute' .* \(1, 4, 22, 22\): NotImplementedError\."
        ):
            BackboneFactory("mute", 24, 8)

    def test_know_the_size_of_images(self) -> None:
        @register_backbone("sized")
        class Sized(BackboneKind):
            def stages(self, pretrained: bool) -> nn.ModuleList:
                return nn.ModuleList([nn.Sequential(nn.LayerNorm(self.image_size), nn.Conv2d(3, 4, 3))])

        assert BackboneFactory("sized", (24, 32), 8).feature_size == (22, 30)
        assert BackboneFactory("sized", (32, 24), 8).feature_size == (30, 22)

    def test_shapes_are_worked_out_once_for_each_size_and_options(self) -> None:
        built: list[float] = []

        @register_backbone("counted")
        class Counted(BackboneKind):
            def __init__(self, *, width: int = 4) -> None:
                self.width = width

            def stages(self, pretrained: bool) -> nn.ModuleList:
                built.append(self.width)
                return nn.ModuleList([nn.Conv2d(3, self.width, 3)])

        names = ("counted", "counted", "counted[width=5]", "counted[width=5]")
        assert [BackboneFactory(name, 24, 8).channels for name in names] == [(4,), (4,), (5,), (5,)]
        BackboneFactory("counted", 32, 8)

        assert built == [4, 5, 4]


def test_a_file_of_ones_own_is_found(tmp_path: Path) -> None:
    """A plug-in: one file, loaded by its path, no file of mtlbench touched."""
    file = tmp_path / "strips.py"
    file.write_text(
        """
from torch import nn
from mtlbench import BackboneKind, register_backbone


@register_backbone("strips", cite="@misc{me, author = {Me, A.}, year = {2026}}")
class Strips(BackboneKind):
    '''Convolutions over strips.'''

    def __init__(self, *, depth: int = 2):
        self.depth = depth

    def stages(self, pretrained):
        sizes = [3, *[8] * self.depth]
        return nn.ModuleList([nn.Conv2d(a, b, (1, 3), padding=(0, 1), stride=2) for a, b in zip(sizes, sizes[1:])])
"""
    )
    assert load_plugins([file]) == []
    entry = BACKBONES.get("strips")
    factory = BackboneFactory("strips[depth=3]", (24, 32), 8, seed=1)

    assert (entry.summary, entry.origin) == ("Convolutions over strips.", f"{file.resolve()}:6")
    assert factory.channels == (8, 8, 8)
    assert factory.feature_size == (3, 4)
    assert factory.backbone("heel")(images((24, 32))).shape == (2, 8)
    assert same(factory.backbone("heel"), BackboneFactory("strips[depth=3]", (24, 32), 8, seed=1).backbone("heel"))
    with pytest.raises(UserError, match=r"Unknown backbone 'stirps'\. Did you mean: strips"):
        BackboneFactory("stirps", 24, 8)

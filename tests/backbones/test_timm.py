"""timm's networks: cut without a change where they are sequences, transformers by their blocks, others refused."""

from __future__ import annotations

import pickle
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support_backbones import count, images, on_meta, same, shake_batch_norms
from torch import Tensor

from mtlbench.backbones import Backbone, BackboneFactory
from mtlbench.errors import UserError
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method

timm = pytest.importorskip("timm", reason="timm isn't installed: pip install timm")

CUT = [
    ("resnet10t", (64, 48), 5),
    ("mobilenetv3_small_050", (48, 64), 5),
    ("vit_tiny_patch16_224", (32, 48), 4),
    ("swin_tiny_patch4_window7_224", (64, 64), 4),
]


def cut(name: str, size: tuple[int, int] | int, **options: Any) -> BackboneFactory:
    return BackboneFactory(f"timm:{name}", size, 8, **options)


def maps(net: Backbone, batch: Tensor) -> list[Tensor]:
    """The output of every stage."""
    found = [batch]
    for stage in net.stages:
        found.append(stage(found[-1]))
    return found[1:]


def message(build: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        build()
    return str(caught.value)


@pytest.mark.parametrize(("name", "size", "stages"), CUT)
class TestEveryNetwork:
    def test_stages_return_the_maps_that_the_factory_announces(
        self, name: str, size: tuple[int, int], stages: int
    ) -> None:
        factory = cut(name, size)
        net = factory.backbone().eval()
        with torch.no_grad():
            outputs = maps(net, images(size))

            assert len(outputs) == stages
            assert [out.shape[:2] for out in outputs] == [(2, channels) for channels in factory.channels]
            assert all(out.ndim == 4 for out in outputs)
            assert tuple(outputs[-1].shape[2:]) == factory.feature_size
            assert torch.equal(net.head(outputs[-1]), net(images(size)))
            assert net(images(size)).isfinite().all()

    def test_every_parameter_that_is_counted_learns(self, name: str, size: tuple[int, int], stages: int) -> None:
        net = cut(name, size).backbone()
        with torch.random.fork_rng(devices=[]):  # Swin leaves out blocks at random
            net(images(size, batch=4)).square().sum().backward()

        assert [key for key, parameter in net.named_parameters() if parameter.grad is None] == []
        assert all(count(stage) > 0 for stage in net.stages)

    def test_counts_on_meta_what_it_builds_for_real(self, name: str, size: tuple[int, int], stages: int) -> None:
        meta, real = on_meta(f"timm:{name}", size, 8), cut(name, size).backbone()

        assert all(tensor.is_meta for tensor in (*meta.parameters(), *meta.buffers()))
        assert {key: value.shape for key, value in meta.state_dict().items()} == {
            key: value.shape for key, value in real.state_dict().items()
        }

    def test_weights_depend_on_seed_and_owner_alone(self, name: str, size: tuple[int, int], stages: int) -> None:
        factory = cut(name, size, seed=5)
        first = factory.backbone("heel")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(123)
            second = cut(name, size, seed=5).backbone("heel")

        assert same(first, second)
        assert not same(first.stages, factory.backbone("toe").stages)
        assert not same(first.stages, cut(name, size, seed=6).backbone("heel").stages)
        assert same(factory.head("heel"), first.head)
        assert same(pickle.loads(pickle.dumps(factory)).backbone("heel"), first)

    def test_runs_in_bfloat16_and_channels_last(self, name: str, size: tuple[int, int], stages: int) -> None:
        net = cut(name, size).backbone().eval()
        with torch.no_grad():
            plain = net(images(size))
            turned = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            batch = images(size).contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(turned(batch), plain, rtol=1e-3, atol=1e-4)
            with torch.autocast("cpu", torch.bfloat16):
                half = turned(batch)

        assert half.dtype == torch.bfloat16
        assert torch.nn.functional.cosine_similarity(half.float(), plain).min() > 0.95

    @pytest.mark.parametrize("after", ["1:2", "stages", "embedding"])
    def test_can_be_modulated_after_any_stage(self, name: str, size: tuple[int, int], stages: int, after: str) -> None:
        load_plugins()
        method = parse_method(f"modulation[after={after}]")
        with torch.device("meta"):
            architecture, _ = method.build(cut(name, size), ("heel", "toe"))
            embeddings = architecture(torch.empty(2, 3, 3, *size))

        assert embeddings.shape == (2, 3, 8)


class TestSequences:
    """Cutting must not change what a network computes."""

    @pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "swin_tiny_patch4_window7_224"])
    def test_stages_end_with_timms_features(self, name: str) -> None:
        options = {"img_size": 64} if "swin" in name else {}
        with torch.random.fork_rng(devices=[]):
            reference = timm.create_model(name, features_only=True, **options).eval()
        shake_batch_norms(reference)
        net = cut(name, 64).backbone().eval()
        theirs = list(reference.state_dict().values())
        net.stages.load_state_dict(dict(zip(net.stages.state_dict(), theirs, strict=True)))

        with torch.no_grad():
            for ours, feature in zip(maps(net, images((64, 64))), reference(images((64, 64))), strict=True):
                expected = feature if ours.shape == feature.shape else feature.permute(0, 3, 1, 2)
                assert torch.equal(ours, expected)

    def test_a_pooling_at_the_end_is_no_stage(self) -> None:
        net = on_meta("timm:vgg11_bn", 64).eval()

        assert [out.shape[-1] for out in maps(net, torch.empty(1, 3, 64, 64, device="meta"))] == [64, 32, 16, 8, 2]

    def test_images_too_small_are_told_the_smallest_size(self) -> None:
        assert "both sides need at least 75." in message(lambda: cut("inception_v3", 64))


class TestTransformers:
    def test_stage_one_is_timms_embedding_and_first_blocks(self) -> None:
        with torch.random.fork_rng(devices=[]):
            reference = timm.create_model("vit_tiny_patch16_224", img_size=(32, 48), num_classes=0).eval()
        net = cut("vit_tiny_patch16_224", (32, 48)).backbone().eval()
        theirs = reference.state_dict()
        net.stages[0].net.load_state_dict({key: theirs[key] for key in net.stages[0].net.state_dict()})

        with torch.no_grad():
            batch = images((32, 48))
            expected = reference.forward_intermediates(batch, indices=[2], intermediates_only=True)[0]
            assert torch.equal(net.stages[0](batch), expected)

    def test_later_stages_are_its_other_blocks_and_the_norm_on_tokens_without_prefix(self) -> None:
        with torch.random.fork_rng(devices=[]):
            reference = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0).eval()
        net = cut("vit_tiny_patch16_224", 32).backbone().eval()
        theirs = list(reference.blocks[3:].state_dict().values()) + list(reference.norm.state_dict().values())
        later = net.stages[1:]
        later.load_state_dict(dict(zip(later.state_dict(), theirs, strict=True)))

        with torch.no_grad():
            first = net.stages[0](images((32, 32)))
            tokens = first.flatten(2).transpose(1, 2)
            expected = reference.norm(reference.blocks[3:](tokens)).transpose(1, 2).reshape(2, 192, 2, 2)
            torch.testing.assert_close(maps(net, images((32, 32)))[-1], expected)

    def test_blocks_are_dealt_out_evenly_and_no_head_is_counted(self) -> None:
        net = on_meta("timm:vit_tiny_patch16_224", 32, 8)
        with torch.random.fork_rng(devices=[]):
            whole = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0)

        blocks = [net.stages[0].net.blocks, *(stage.blocks for stage in net.stages[1:])]
        assert [len(part) for part in blocks] == [3, 3, 3, 3 + 2]  # the norms
        assert count(net.stages) == count(whole)

    @pytest.mark.parametrize(
        ("name", "prefix"), [("deit_tiny_distilled_patch16_224", 2), ("vit_pwee_patch16_reg1_gap_256", 1)]
    )
    def test_prefix_tokens_are_dropped_and_still_learn(self, name: str, prefix: int) -> None:
        net = cut(name, 32).backbone()
        net(images((32, 32))).square().sum().backward()

        assert net.stages[0].net.num_prefix_tokens == prefix
        assert net.stages[0](images((32, 32))).shape[2:] == (2, 2)
        assert all(parameter.grad is not None for parameter in net.parameters())

    def test_images_that_are_no_whole_number_of_patches_are_refused(self) -> None:
        said = message(lambda: cut("vit_tiny_patch16_224", (50, 30)))

        assert "patches of timm's 'vit_tiny_patch16_224' are 16 x 16 pixels" in said
        assert said.endswith("set data.image_size to [48, 32].")
        assert cut("vit_tiny_patch16_224", (48, 32)).feature_size == (3, 2)


class TestPretrained:
    @pytest.fixture
    def weights(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """Stand in for the network: every download returns the state put under "state"."""
        answer: dict[str, Any] = {"downloads": 0}

        def fetch(*args: Any, **options: Any) -> Any:
            answer["downloads"] += 1
            if "error" in answer:
                raise answer["error"]
            return dict(answer["state"])

        monkeypatch.setattr("timm.models._builder.has_hf_hub", lambda necessary=False: True)
        for loader in ("load_state_dict_from_hf", "load_state_dict_from_url", "load_custom_from_hf"):
            if hasattr(timm.models._builder, loader):
                monkeypatch.setattr(f"timm.models._builder.{loader}", fetch)
        return answer

    def test_stages_hold_the_downloaded_weights(self, weights: dict[str, Any]) -> None:
        with torch.random.fork_rng(devices=[]):
            downloaded = timm.create_model("resnet10t")
        weights["state"] = downloaded.state_dict()
        factory = cut("resnet10t", 64, pretrained=True)
        on_meta("timm:resnet10t", 64, pretrained=True)
        assert weights["downloads"] == 0

        first, second = factory.backbone("heel"), factory.backbone("toe")

        assert same(first.stages, second.stages)
        assert not same(first.head, second.head)
        layers = list(downloaded.state_dict().values())
        assert all(torch.equal(a, b) for a, b in zip(first.stages.state_dict().values(), layers, strict=False))

    def test_positions_are_resampled_to_the_benchmarks_image_size(self, weights: dict[str, Any]) -> None:
        with torch.random.fork_rng(devices=[]):
            weights["state"] = timm.create_model("deit_tiny_patch16_224").state_dict()
        net = cut("deit_tiny_patch16_224", (32, 48), pretrained=True).backbone()

        assert net.stages[0].net.pos_embed.shape == (1, 1 + 2 * 3, 192)
        assert torch.equal(net.stages[0].net.cls_token, weights["state"]["cls_token"])
        assert net(images((32, 48))).shape == (2, 8)

    def test_a_failed_download_says_so_and_the_way_out(self, weights: dict[str, Any]) -> None:
        weights["error"] = OSError("no route to host")
        said = message(lambda: cut("resnet10t", 64, pretrained=True).backbone())

        assert "weights of timm's 'resnet10t' can't be fetched (no route to host)" in said
        assert said.endswith("turn pretrained off.")

    def test_a_network_without_weights_has_none(self) -> None:
        name = next(n for n in timm.list_models("resnet*") if not timm.models.is_model_pretrained(n))

        assert "There are no pretrained weights" in message(lambda: cut(name, 64, pretrained=True))


class TestRefusals:
    def test_an_unknown_name_is_answered_with_near_ones(self) -> None:
        assert "timm has no network 'resnet10'. Did you mean: resnet10t" in message(lambda: cut("resnet10", 64))
        assert "timm has no network ''." in message(lambda: cut("", 64))

    def test_an_unknown_tag_is_answered_with_a_known_one(self) -> None:
        assert cut("resnet10t.c3_in1k", 64).channels[-1] == 512
        assert "resnet10t.c3_in1k" in message(lambda: cut("resnet10t.c3_in2k", 64))

    def test_a_network_that_cannot_be_cut_is_answered_with_near_ones_that_can(self) -> None:
        said = message(lambda: cut("levit_128s", 64))

        assert said.startswith("timm's 'levit_128s' can't be cut into stages: its features don't come one after")
        nearest = said.partition("Did you mean: ")[2].rstrip("?").split(", ")
        assert nearest
        for name in nearest:
            assert cut(name, 224).channels

    def test_a_network_that_computes_with_values_while_it_is_built_is_counted_too(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create = timm.create_model

        def older(*args: Any, **options: Any) -> Any:
            torch.linspace(0, 1, 2).sum().item()  # as transformers did: no value on meta
            return create(*args, **options)

        expected = count(on_meta("timm:resnet10t", 64))
        monkeypatch.setattr(timm, "create_model", older)
        net = on_meta("timm:resnet10t", 64)

        assert count(net) == expected
        assert all(tensor.is_meta for tensor in (*net.parameters(), *net.buffers()))

    def test_images_that_do_not_fit_a_network_of_fixed_size_are_refused(self) -> None:
        said = message(lambda: cut("maxvit_tiny_tf_224", (80, 64)))

        assert said.startswith("timm's 'maxvit_tiny_tf_224' can't take images of 80 x 64 pixels (")
        assert said.endswith("it was made for 224 x 224.")

    def test_a_missing_timm_is_told_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "timm", None)

        assert BackboneFactory("small", 32, 8).channels[-1] == 128
        assert message(lambda: cut("resnet10t", 64)).endswith("pip install 'timm>=1.0'.")


def test_timm_comes_with_mtlbench() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert any(needed.startswith("timm") for needed in project["dependencies"])

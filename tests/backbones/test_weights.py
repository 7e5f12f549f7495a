"""Weights from a file: matched by names and shapes, whichever library saved them; what doesn't fit is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support_backbones import images, on_meta, same, shake_batch_norms
from torch import Tensor, nn

from mtlbench.backbones import BackboneFactory
from mtlbench.backbones.weights import digest, is_frozen, stated
from mtlbench.errors import UserError


def resnet() -> nn.Module:
    import torchvision

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(5)
        net: nn.Module = torchvision.models.resnet18()
    shake_batch_norms(net)
    return net


def features(net: nn.Module, batch: Tensor) -> Tensor:
    """What a whole torchvision ResNet passes to its pooling."""
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)  # type: ignore[arg-type]
    found = stem(batch)
    for i in range(1, 5):
        found = net.get_submodule(f"layer{i}")(found)
    return found  # type: ignore[no-any-return]


def refused(file: Path, name: str = "resnet18") -> str:
    with pytest.raises(UserError) as caught:
        BackboneFactory(name, 64, 8, pretrained=file).backbone()
    return str(caught.value)


@pytest.mark.parametrize("wrap", ["bare", "ddp", "checkpoint", "safetensors"])
def test_a_torchvision_state_dict_is_taken_however_it_was_saved(tmp_path: Path, wrap: str) -> None:
    net, file = resnet(), tmp_path / f"net.{'safetensors' if wrap == 'safetensors' else 'pth'}"
    state = net.state_dict()
    if wrap == "safetensors":
        save_file({k: v.clone() for k, v in state.items() if not k.endswith("num_batches_tracked")}, file)
    else:
        inner = {f"module.{k}": v for k, v in state.items()} if wrap == "ddp" else state
        torch.save({"epoch": 3, "state_dict": inner} if wrap == "checkpoint" else inner, file)
    ours = BackboneFactory("resnet18", 64, 8, pretrained=file).backbone().eval()
    batch, found = images((64, 64)), None
    with torch.no_grad():
        found = batch
        for stage in ours.stages:
            found = stage(found)
        torch.testing.assert_close(found, features(net.eval(), batch))


@pytest.mark.parametrize("before", ["", "stages.", "trunk.", "net.stages."])
def test_own_networks_are_taken_from_state_dicts_and_from_runs(tmp_path: Path, before: str) -> None:
    there = BackboneFactory("small", 24, 8, seed=9).backbone()
    torch.save({before + k: v for k, v in there.stages.state_dict().items()}, tmp_path / "small.pth")
    factory = BackboneFactory("small", 24, 8, pretrained=str(tmp_path / "small.pth"))
    assert same(factory.backbone("heel").stages, there.stages)
    assert same(factory.backbone("heel").head, BackboneFactory("small", 24, 8).head("heel"))


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet10t", (64, 64)), ("mobilenetv3_small_050", (48, 64)), ("vit_tiny_patch16_224", (32, 48)),
     ("swin_tiny_patch4_window7_224", (64, 64))],
)  # fmt: skip
def test_timms_state_dicts_are_taken_by_timms_names(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    timm = pytest.importorskip("timm", reason="timm isn't installed")
    with torch.random.fork_rng(devices=[]):
        net = timm.create_model(name, **({"img_size": size} if name.startswith(("vit", "swin")) else {}))
    shake_batch_norms(net)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    ours = BackboneFactory(f"timm:{name}", size, 8, pretrained=tmp_path / "net.pth").backbone().eval()
    there = list(net.state_dict().values())
    for tensor in ours.stages.state_dict().values():
        assert any(tensor.shape == other.shape and torch.equal(tensor, other) for other in there)
    if name == "resnet10t":
        batch = images(size)
        with torch.no_grad():
            found = batch
            for stage in ours.stages:
                found = stage(found)
            torch.testing.assert_close(found, net.eval().forward_features(batch))


def test_what_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    file, state = tmp_path / "net.pth", resnet().state_dict()
    torch.save({k: v for k, v in state.items() if not k.startswith("layer3.1.conv2")}, file)
    assert "1 of 100 tensors are missing, 'layer3.1.conv2.weight' the first" in refused(file)
    torch.save(state | {"conv1.weight": torch.zeros(64, 1, 7, 7)}, file)
    assert "'conv1.weight' is (64, 1, 7, 7) there and (64, 3, 7, 7) here" in refused(file)
    assert "no name in it ends in '0.0.weight', the first that it needs" in refused(file, "small")
    torch.save({f"nets.{i}.{k}": v for i in range(2) for k, v in state.items()}, file)
    assert "holds several networks" in refused(file)
    torch.save(resnet(), file)  # a pickled network, which is code
    assert "not a readable state dict" in refused(file)
    assert "it holds more than tensors, such as a pickled network" in refused(file)
    torch.save(state | {"layer2.0.conv1.weight": torch.full_like(state["layer2.0.conv1.weight"], float("nan"))}, file)
    assert "'layer2.0.conv1.weight' holds numbers that are not finite" in refused(file)
    torch.save({"epoch": 3}, file)
    assert "holds no tensors by name" in refused(file)
    file.write_bytes(b"broken")
    assert "not a readable state dict" in refused(file)
    assert "can't be read (No such file" in refused(tmp_path / "none.pth")
    (tmp_path / "net.zip").write_bytes(b"")
    assert "files in .pth, .pt, .bin, .safetensors" in refused(tmp_path / "net.zip")


def test_a_deeper_network_of_the_family_is_refused_and_a_classifier_is_passed_over(tmp_path: Path) -> None:
    import torchvision

    file = tmp_path / "net.pth"
    with torch.random.fork_rng(devices=[]):
        deeper = torchvision.models.resnet34().state_dict()
    for before in ("", "module.", "encoder."):
        torch.save({f"{before}{name}": t for name, t in deeper.items()}, file)
        assert f"which has no place for '{before}layer1.2.conv1.weight'" in refused(file)
    more = {"classifier.0.weight": torch.zeros(3, 3), "heads.7.bias": torch.zeros(2)}
    torch.save(resnet().state_dict() | more, file)
    assert BackboneFactory("resnet18", 64, 8, pretrained=file).backbone().stages


def test_a_file_is_told_by_its_content(tmp_path: Path) -> None:
    first, second = tmp_path / "a.pth", tmp_path / "b.pth"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    assert stated(str(first)) == stated(str(second)) == f"sha256:{hashlib.sha256(b'weights').hexdigest()[:16]}"
    second.write_bytes(b"others.")
    assert stated(str(first)) != stated(str(second))
    assert (stated(True), stated(False)) == (True, False)
    with pytest.raises(UserError, match=r"--set model\.pretrained=FILE"):
        digest(Path(str(stated(str(first)))))


class TestFrozen:
    def factory(self, tmp_path: Path, **options: Any) -> BackboneFactory:
        file = tmp_path / "small.pth"
        torch.save(BackboneFactory("small", 24, 8, seed=9).backbone().stages.state_dict(), file)
        return BackboneFactory("small", 24, 8, pretrained=file, **options)

    def test_the_first_stages_are_fixed_and_stay_in_evaluation(self, tmp_path: Path) -> None:
        net = self.factory(tmp_path, frozen=2).backbone().train()
        assert [any(p.requires_grad for p in stage.parameters()) for stage in net.stages] == [False, False, True, True]
        before = {k: v.clone() for k, v in net.state_dict().items()}
        net(images((24, 24)))
        moved = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
        assert moved
        assert all(k.startswith(("stages.2", "stages.3")) for k in moved)
        assert all(is_frozen(m) and not m.training for stage in net.stages[:2] for m in stage.modules())

    def test_all_of_them_and_not_more_than_there_are(self, tmp_path: Path) -> None:
        net = self.factory(tmp_path, frozen=True).backbone()
        assert not any(p.requires_grad for p in net.stages.parameters())
        assert all(p.requires_grad for p in net.head.parameters())
        with pytest.raises(UserError, match="freeze = 5: the backbone 'small' has 4 stages"):
            self.factory(tmp_path, frozen=5)

    def test_frozen_stages_are_the_same_for_every_owner_and_heads_of_any_size(self, tmp_path: Path) -> None:
        factory = self.factory(tmp_path, frozen=2)
        first, second, narrow = factory.backbone("a"), factory.backbone("b"), factory.resized(4).backbone("c")
        assert first.stages[1] is second.stages[1] is narrow.stages[1]
        assert first.stages[2] is not second.stages[2]

    def test_without_memory_no_file_is_read(self, tmp_path: Path) -> None:
        net = on_meta("small", 24, pretrained=tmp_path / "none.pth", frozen=2)
        assert all(p.is_meta for p in net.parameters())

    def test_what_is_put_into_a_frozen_stage_later_goes_along(self, tmp_path: Path) -> None:
        net = self.factory(tmp_path, frozen=1).backbone()
        net.stages[0].append(nn.Dropout(0.5))
        assert net.train().stages[0][-1].training
        assert not net.eval().stages[0][-1].training
        assert not net.train().stages[0][0].training

"""`modulate` in torchvision's and timm's networks, and the documentation's example."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from support_modulated import TASKS, spread

from mtlbench import UserError, modulate

PAGE = Path(__file__).parent.parent.parent / "docs" / "modulate.md"


def test_resnet18_with_the_default_example():
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    plain = models.resnet18().train()
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    net = modulate(plain, TASKS, ["layer3", "layer4"])
    assert plain.training
    assert all(torch.equal(plain.state_dict()[name], value) for name, value in before.items())
    net.eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(net(images, "heel"), plain(images))
        third, fourth = spread(net).task_parameters("toe").values()
        features = plain.layer1(plain.maxpool(plain.relu(plain.bn1(plain.conv1(images)))))
        features = plain.layer3(plain.layer2(features)) * third.clamp(min=0)[:, None, None]
        features = plain.layer4(features) * fourth.clamp(min=0)[:, None, None]
        torch.testing.assert_close(net(images, "toe"), plain.fc(features.mean((2, 3))))
    with pytest.raises(UserError, match=r"Unknown module 'layer5'. Did you mean: .*layer4"):
        modulate(plain, TASKS, ["layer5"])


def test_timm_networks():
    timm = pytest.importorskip("timm")
    example = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    plain = timm.create_model("mobilenetv3_small_050").eval()
    net = modulate(plain, TASKS, ["blocks.4", "conv_head"], example=example)
    with torch.no_grad():
        assert torch.equal(net(example, 1), plain(example))
        assert not torch.allclose(spread(net)(example, 1), plain(example))
    swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=64, depths=(1, 1, 1, 1)).eval()
    with pytest.raises(UserError, match="with channels last; say channel_axis=-1"):
        modulate(swin, TASKS, ["layers.2"], example=example)
    assert modulate(swin, TASKS, ["layers.2"], channel_axis=-1, example=example).task_bytes("toe") == 4 * 384


def test_the_docs_example_runs_and_prints_what_it_says(capsys, monkeypatch, tmp_path):
    pytest.importorskip("torchvision")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    names: dict[str, object] = {}
    exec(compile(code, PAGE.name, "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert printed == re.findall(r"print\(.*\)  # (.*)", code)
    assert printed
    # the new task's training moved nothing that was saved before, and its own file is all that is new
    net, saved, toe = names["net"].state_dict(), torch.load("net.pt"), torch.load("toe.pt")
    assert all(torch.equal(net[name], value) for name, value in saved.items())
    assert net.keys() - saved.keys() == toe.keys() == set(names["net"].task_parameters("toe"))
    assert all(torch.equal(net[name], value) and not value.eq(1).all() for name, value in toe.items())

"""Gradients in bfloat16: a processor that gives wrong ones trains in float32, and says so."""

from __future__ import annotations

import pytest
import torch
from support import protocol, registries_restored

from mtlbench import soundness
from mtlbench.plugins import load_plugins
from mtlbench.soundness import sound_precision, unsound_convolutions
from mtlbench.specs import parse_methods


@pytest.fixture(autouse=True)
def _untried(monkeypatch):
    monkeypatch.setattr(soundness, "_TRIED", {})


def test_a_network_is_tried_once_for_each_image_size(monkeypatch):
    right, tried = soundness._gradient, []

    def counted(convolution, maps, bfloat16):
        tried.append(maps.shape)
        return right(convolution, maps, bfloat16)

    monkeypatch.setattr(soundness, "_gradient", counted)
    for settings, more in ((("train.lr=0.1",), True), (("train.lr=0.2",), False), (("data.image_size=32",), True)):
        before = len(tried)
        unsound_convolutions(protocol("data.image_size=24", *settings))
        assert (len(tried) > before) is more


def test_a_kernel_that_leaves_its_result_unwritten_is_found(monkeypatch):
    right = soundness._gradient

    def wrong(convolution, maps, bfloat16):
        found = right(convolution, maps, bfloat16)
        narrow = maps.shape[3] == 2 and convolution.stride == (2, 2)
        return found * 1e15 if bfloat16 and narrow else found

    assert unsound_convolutions(protocol("data.image_size=[48, 40]")) == []
    soundness._TRIED.clear()
    monkeypatch.setattr(soundness, "_gradient", wrong)
    assert unsound_convolutions(protocol("data.image_size=[48, 16]")) == ["stages.3.reduce.0"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0])
def test_a_gradient_that_is_not_finite_or_missing_is_not_sound(monkeypatch, bad):
    right = soundness._gradient
    monkeypatch.setattr(soundness, "_gradient", lambda c, m, b: right(c, m, b) * (bad if b else 1))
    assert len(unsound_convolutions(protocol("data.image_size=24"))) > 3


def test_the_networks_of_the_bundled_protocols_are_sound_here():
    for size in ("[48, 64]", "48", "24"):
        assert unsound_convolutions(protocol(f"data.image_size={size}")) == []


@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="this processor has no bfloat16 instructions")
def test_networks_on_tiny_images_are_tried_on_this_processor():
    """Sound or not depends on the release of torch; the answer must be the same twice."""
    tiny = protocol("data.image_size=8")
    first = unsound_convolutions(tiny)
    soundness._TRIED.clear()
    assert unsound_convolutions(tiny) == first


def test_networks_run_in_float32_where_bfloat16_is_wrong_and_the_user_is_told(monkeypatch):
    monkeypatch.setattr(soundness, "unsound_convolutions", lambda *given: ["stages.3.reduce.0", "stages.2.reduce.0"])
    benchmark = protocol("train.precision=bf16")
    precision, said = sound_precision(benchmark, torch.device("cpu"))
    assert precision == "fp32"
    assert "gradients of stages.3.reduce.0 and 1 more are wrong on images of 24×24 px" in said
    assert sound_precision(protocol("train.precision=fp32"), torch.device("cpu")) == ("fp32", "")
    monkeypatch.setattr(soundness, "unsound_convolutions", lambda *given: [])
    assert sound_precision(benchmark, torch.device("cpu")) == ("bf16", "")


_OWN = """
import torch
from torch import nn
from mtlbench import Architecture, register_architecture

@register_architecture("narrowing")
class Narrowing(Architecture):
    "A network with a convolution of its own on maps of one pixel."

    def __init__(self, backbones, tasks):
        super().__init__(backbones, tasks)
        self.trunk = backbones.backbone().stages
        self.own = nn.Conv2d(backbones.channels[-1], 16, 3, stride=2, padding=1, groups=2)
        self.heads = nn.ModuleList(nn.Linear(16, 8) for _ in tasks)

    def forward(self, images):
        return torch.stack([head(self._of(x)) for head, x in zip(self.heads, images)])

    def embed(self, images):
        return torch.stack([head(self._of(images)) for head in self.heads])

    def _of(self, images):
        for stage in self.trunk:
            images = stage(images)
        return self.own(images.mean((2, 3), keepdim=True)).flatten(1)
"""


def test_convolutions_of_methods_own_are_tried_too(monkeypatch, tmp_path):
    (tmp_path / "narrowing.py").write_text(_OWN)
    right, tried = soundness._gradient, []

    def wrong(convolution, maps, bfloat16):
        tried.append((convolution.kernel_size, maps.shape[1:]))
        found = right(convolution, maps, bfloat16)
        return found * 1e15 if bfloat16 and convolution.groups == 2 else right(convolution, maps, False)

    monkeypatch.setattr(soundness, "_gradient", wrong)
    with registries_restored():
        assert load_plugins([tmp_path / "narrowing.py"]) == []
        methods = parse_methods("shared,mtan,nddr,cross-stitch,narrowing,narrowing+rlw")
        found = unsound_convolutions(protocol("data.image_size=24"), methods, ("colour", "shape"))
    assert found == ["narrowing's own"]
    assert ((1, 1), (64, 12, 12)) in tried  # nddr's projections of two columns' 32 channels
    before = len(tried)
    assert unsound_convolutions(protocol("data.image_size=24"), parse_methods("mtan,nddr"), ("colour", "shape")) == []
    assert len(tried) == before


def test_methods_in_files_have_no_stride_that_would_be_unsound_where_the_backbone_is_sound():
    sound = protocol("data.image_size=24")
    assert unsound_convolutions(sound, parse_methods("all"), ("colour", "shape")) == []


@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="this processor has no bfloat16 instructions")
@pytest.mark.parametrize("groups", ["one", "two", "each channel's"])
def test_the_answer_of_a_faulty_kernel_is_the_same_every_time(groups):
    """Memory that is never written differs from run to run; what is said of the kernel must not."""
    found = []
    for _ in range(8):
        number = {"one": 1, "two": 2, "each channel's": 64}[groups]
        convolution = torch.nn.Conv2d(64, 64, 3, 2, 1, groups=number, bias=False)
        found.append(soundness._is_sound(convolution, torch.Size((64, 1, 1))))
    assert len(set(found)) == 1, found

"""Gradients in bfloat16: a processor that gives wrong ones trains in float32, and says so."""

from __future__ import annotations

import pytest
import torch
from support import protocol, registries_restored

from mtlbench import soundness
from mtlbench.plugins import load_plugins
from mtlbench.soundness import Convolution, sound_precision, unsound_convolutions
from mtlbench.specs import parse_methods


@pytest.fixture(autouse=True)
def _untried(monkeypatch):
    monkeypatch.setattr(soundness, "_TRIED", {})


def conv(channels, size, kernel, *, groups=1, stride=2, padding=1, **more):
    """A convolution on maps of `size` with a kernel of 3 in each dimension."""
    n = len(size)
    settings = {
        "maps": (channels, *size), "weights": (channels, channels // groups, *(kernel,) * n), "stride": (stride,) * n,
        "padding": (padding,) * n, "dilation": (1,) * n, "transposed": False, "output_padding": (0,) * n,
        "groups": groups, "folded": False, "computed": False,
    }  # fmt: skip
    return Convolution(**settings | more)


def spoilt(monkeypatch, fault, tried=None):
    """Let bfloat16 be as sound as float32, but for convolutions that have the fault."""
    right = soundness._gradients

    def wrong(convolution, maps, weights, bfloat16):
        if tried is not None:
            tried.append(convolution)
        found = right(convolution, maps, weights, False)
        return tuple(one * 1e15 for one in found) if bfloat16 and fault(convolution) else found

    monkeypatch.setattr(soundness, "_gradients", wrong)


def test_a_network_is_tried_once_for_each_image_size(monkeypatch):
    tried = []
    spoilt(monkeypatch, lambda convolution: False, tried)
    for settings, more in ((("train.lr=0.1",), True), (("train.lr=0.2",), False), (("data.image_size=32",), True)):
        before = len(tried)
        unsound_convolutions(protocol("data.image_size=24", *settings))
        assert (len(tried) > before) is more


def test_a_kernel_that_leaves_its_result_unwritten_is_found(monkeypatch):
    assert unsound_convolutions(protocol("data.image_size=[48, 40]")) == []
    soundness._TRIED.clear()
    spoilt(monkeypatch, lambda convolution: convolution.maps[-1] == 2 and convolution.stride == (2, 2))
    assert unsound_convolutions(protocol("data.image_size=[48, 16]")) == ["stages.3.reduce.0"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0])
@pytest.mark.parametrize("which", [0, 1])
def test_a_gradient_that_is_not_finite_or_missing_is_not_sound(monkeypatch, bad, which):
    """Of the weights, or of what the layers before them learn from."""
    right = soundness._gradients

    def wrong(convolution, maps, weights, bfloat16):
        found = list(right(convolution, maps, weights, False))
        found[which] = found[which] * bad if bfloat16 else found[which]
        return tuple(found)

    monkeypatch.setattr(soundness, "_gradients", wrong)
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
    tried = []
    spoilt(monkeypatch, lambda convolution: convolution.groups == 2, tried)
    with registries_restored():
        assert load_plugins([tmp_path / "narrowing.py"]) == []
        methods = parse_methods("shared,mtan,nddr,cross-stitch,narrowing,narrowing+rlw")
        found = unsound_convolutions(protocol("data.image_size=24"), methods, ("colour", "shape"))
    assert found == ["narrowing's own"]
    assert (64, 12, 12) in [c.maps for c in tried if c.weights[2:] == (1, 1)]  # nddr's projections of two columns
    before = len(tried)
    assert unsound_convolutions(protocol("data.image_size=24"), parse_methods("mtan,nddr"), ("colour", "shape")) == []
    assert len(tried) == before


_WAYS = {
    "a function": ("torch.randn(16, 3, 3, 3)", "F.conv2d(images, self.kernel, stride=2, padding=1)"),
    "computed weights": ("torch.randn(16, 3, 3, 3)", "F.conv2d(images, 2 * self.kernel, stride=2, padding=1)"),
    "a convolution of rows": (
        "torch.randn(16, 3, 3)", "F.conv1d(images.flatten(2), self.kernel, stride=2, padding=1)[..., None]",
    ),
    "a volume": (
        "torch.randn(16, 3, 3, 3, 3)", "F.conv3d(images[:, :, None], self.kernel, stride=2, padding=1)[:, :, 0]",
    ),
    "a transposed one": ("torch.randn(3, 16, 3, 3)", "F.conv_transpose2d(images, self.kernel, stride=2)"),
    "images as groups": (
        "torch.randn(16, 3, 3, 3)",
        "F.conv2d(images.flatten(0, 1)[None], self.kernel.repeat(len(images), 1, 1, 1), stride=2,"
        " groups=len(images))[0].unflatten(0, (len(images), 16))",
    ),
    "in training alone": (
        "torch.randn(16, 3, 3, 3)",
        "F.conv2d(images, self.kernel, stride=2, padding=1) if self.training else images.repeat(1, 6, 1, 1)[:, :16]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", _WAYS)
def test_a_convolution_is_tried_however_a_plug_in_computes_it(monkeypatch, tmp_path, way):
    kernel, computed = _WAYS[way]
    (tmp_path / "own_way.py").write_text(f"""
import torch
from torch import nn
from torch.nn import functional as F
from mtlbench import Architecture, register_architecture

class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter({kernel})

    def forward(self, images):
        return {computed}

@register_architecture("own-way")
class OwnWay(Architecture):
    "A network that asks for its convolution in its own way."

    def __init__(self, backbones, tasks):
        super().__init__(backbones, tasks)
        self.part = Part()
        self.heads = nn.ModuleList(nn.Linear(16, 8) for _ in tasks)

    def forward(self, images):
        return torch.stack([head(self.part(x).mean((2, 3))) for head, x in zip(self.heads, images)])

    def embed(self, images):
        return torch.stack([head(self.part(images).mean((2, 3))) for head in self.heads])
""")
    spoilt(monkeypatch, lambda convolution: 16 in convolution.weights or 128 in convolution.weights)
    monkeypatch.setattr(soundness, "_of_network", _without_backbone(soundness._of_network))
    with registries_restored():
        assert load_plugins([tmp_path / "own_way.py"]) == []
        state = torch.random.get_rng_state()
        found = unsound_convolutions(protocol("data.image_size=24"), parse_methods("own-way"), ("colour", "shape"))
        assert torch.equal(torch.random.get_rng_state(), state), "no draw of a run's is used up"
    assert found == ["own-way's part"]


def _without_backbone(right):
    def of_network(network, *rest):
        return right(network, *rest) if hasattr(network, "heads") else {}

    return of_network


def test_methods_in_files_have_no_stride_that_would_be_unsound_where_the_backbone_is_sound():
    sound = protocol("data.image_size=24")
    assert unsound_convolutions(sound, parse_methods("all"), ("colour", "shape")) == []


@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="this processor has no bfloat16 instructions")
@pytest.mark.parametrize("size", [(1,), (1, 1), (1, 1, 1)], ids=["row", "map", "volume"])
@pytest.mark.parametrize("groups", ["one", "two", "each channel's"])
def test_the_answer_of_a_faulty_kernel_is_the_same_every_time(groups, size):
    """Memory that is never written differs from run to run; what is said of the kernel must not."""
    number = {"one": 1, "two": 2, "each channel's": 64}[groups]
    found = [soundness._is_sound(conv(64, size, 3, groups=number)) for _ in range(4)]
    assert len(set(found)) == 1, found

"""Gradients in bfloat16: a processor that gives wrong ones trains in float32, and says so."""

from __future__ import annotations

import pytest
import torch
from support import protocol

from mtlbench import soundness
from mtlbench.soundness import sound_precision, unsound_convolutions


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
    monkeypatch.setattr(soundness, "unsound_convolutions", lambda benchmark: ["stages.3.reduce.0", "stages.2.reduce.0"])
    benchmark = protocol("train.precision=bf16")
    precision, said = sound_precision(benchmark, torch.device("cpu"))
    assert precision == "fp32"
    assert "gradients of stages.3.reduce.0 and 1 more are wrong on images of 24×24 px" in said
    assert sound_precision(protocol("train.precision=fp32"), torch.device("cpu")) == ("fp32", "")
    monkeypatch.setattr(soundness, "unsound_convolutions", lambda benchmark: [])
    assert sound_precision(benchmark, torch.device("cpu")) == ("bf16", "")

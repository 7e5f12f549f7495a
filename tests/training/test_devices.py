"""In which numbers networks run on a GPU, as far as that shows without one."""

from __future__ import annotations

import contextlib
import warnings
from unittest import mock

import pytest
import torch
from support import make_dataset

from mtlbench.devices import choose_precision, computing_in
from mtlbench.jobs.experiment import resources
from mtlbench.runs import provenance

GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)


def test_float32_is_never_tf32_whatever_ran_before():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there may be no CUDA here
        for precision, tf32 in (("bf16", True), ("fp32", False), ("bf16", True), ("fp32", False)):
            with computing_in(precision, GPU):
                assert torch.backends.cudnn.allow_tf32 is tf32


def test_a_programs_own_convolutions_compute_as_before_when_the_runs_are_done():
    torch.backends.cudnn.allow_tf32 = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there may be no CUDA here
        with resources():
            with computing_in("fp32", GPU):
                pass
            assert torch.backends.cudnn.allow_tf32 is False  # for the gradients that follow
    assert torch.backends.cudnn.allow_tf32 is True


def test_a_processor_changes_nothing_of_cudas_numbers():
    for now in (True, False):
        torch.backends.cudnn.allow_tf32 = now
        with computing_in("fp32", torch.device("cpu")):
            assert torch.backends.cudnn.allow_tf32 is now


def test_bfloat16_is_asked_of_the_device_in_use(monkeypatch):
    current = [0]

    @contextlib.contextmanager
    def on(device: torch.device):
        before, current[0] = current[0], device.index
        yield
        current[0] = before

    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: current[0] == 1)
    assert [choose_precision("auto", torch.device("cuda", n)) for n in (0, 1)] == ["fp32", "bf16"]


def test_the_receipt_of_a_gpu_says_in_which_float32_it_computed(monkeypatch):
    dataset = make_dataset()
    assert "cuda" not in provenance.receipt(dataset, "fp32")
    monkeypatch.setattr(provenance, "device_name", lambda device: "made up")
    torch.backends.cudnn.allow_tf32 = False
    with mock.patch.object(type(dataset), "device", GPU):
        said = provenance.receipt(dataset, "fp32")["cuda"]
    assert (said["tf32_convolutions"], said["tf32_products"], said["deterministic"]) == (False, False, False)
    assert said["cudnn_benchmark"] is False

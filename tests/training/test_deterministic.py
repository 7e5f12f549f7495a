"""A GPU's deterministic kernels: chosen by a setting, for training alone, and said in the record."""

from __future__ import annotations

import os
from unittest import mock

import pytest
import torch
from support import make_dataset, protocol
from support_gpu import PretendedGpu

from mtlbench.devices import allow_deterministic, deterministic_kernels
from mtlbench.runs import provenance
from mtlbench.runs.provenance import setup_of
from mtlbench.runs.setup import differences, without_training
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

CPU, GPU = torch.device("cpu"), torch.device("cuda")
YES = "train.deterministic=true"


def now() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return cudnn.deterministic, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()


def test_what_was_set_before_is_set_again():
    before, seen = now(), []

    def fails() -> None:
        with deterministic_kernels(True):
            seen.append(now())
            raise ValueError("stops")

    with pytest.raises(ValueError, match="stops"):
        fails()
    assert seen == [(True, False, True)]
    assert now() == before == (False, False, False)
    with deterministic_kernels(False):
        assert now() == before


def test_cublas_is_told_before_its_first_product(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    allow_deterministic(CPU)
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    allow_deterministic(GPU)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    allow_deterministic(GPU)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize("wanted", [True, False])
def test_a_gpu_trains_with_them_and_is_left_as_it_was(wanted, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    gpu = PretendedGpu("shared", f"train.deterministic={str(wanted).lower()}")
    seen = []
    with gpu.computing() as trainer:
        known = trainer.balancer.backward
        monkeypatch.setattr(trainer.balancer, "backward", lambda *given: (seen.append(now()), known(*given))[1])
        trainer.step()
    assert seen == [(wanted, False, wanted)]
    assert now() == (False, False, False)
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) is wanted


def test_a_processor_takes_none_of_it(monkeypatch):
    trainer = Trainer(parse_method("shared"), protocol(YES), make_dataset(), 0, "fp32")
    seen = []
    known = trainer.balancer.backward
    monkeypatch.setattr(trainer.balancer, "backward", lambda *given: (seen.append(now()), known(*given))[1])
    trainer.step()
    assert seen == [(False, False, False)]


def test_the_record_of_a_gpu_says_it(monkeypatch):
    monkeypatch.setattr(provenance, "device_name", lambda device: "made up")
    dataset, method = make_dataset(), parse_method("shared")
    plain = setup_of(method, protocol(), dataset, 0, "fp32")
    assert differences(plain, setup_of(method, protocol(YES), dataset, 0, "fp32")) == []  # a CPU's runs are the same
    with mock.patch.object(type(dataset), "device", GPU):
        setups = [setup_of(method, protocol(*settings), dataset, 0, "fp32") for settings in ((), (YES,))]
        said = [provenance.receipt(dataset, "fp32", {}, yes)["cuda"]["deterministic"] for yes in (False, True)]
    assert differences(*setups) == ["deterministic: None there, True now"]
    assert without_training(setups[0]) == without_training(setups[1])
    assert said == [False, True]

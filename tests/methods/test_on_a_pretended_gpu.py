"""No tensor stays on the processor when a run is on a GPU: every method's step, probe and embedding, without a GPU."""

from __future__ import annotations

import pytest
import torch
from support_gpu import PretendedGpu
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from mtlbench.networks import embed_images
from mtlbench.plugins import load_plugins
from mtlbench.registry import BALANCERS

Mismatch = getattr(fake_tensor, "FakeTensorDeviceMismatchError", None)
if Mismatch is None:
    pytest.skip(f"torch {torch.__version__} has no error of its own for devices that differ", allow_module_level=True)

load_plugins()
OPTIONS = {"static": "[weights=1:1]"}


def steps_probes_and_embeds(gpu: PretendedGpu) -> None:
    with gpu.computing() as trainer:
        trainer.step()
        trainer.step()
        assert all(p.grad is None or p.grad.device.type == "cuda" for p in trainer.architecture.parameters())
        trainer.probe()
        images = trainer.triplets.images
        embeddings = embed_images(trainer.architecture, trainer.dataset, images, "fp32", 8)
        assert (embeddings.device.type, embeddings.shape) == ("cuda", (2, len(images), 8))


@pytest.mark.parametrize("sampling", ["joint", pytest.param("per-task", marks=pytest.mark.slow)])
def test_nothing_of_an_architecture_stays_on_the_processor(method: str, sampling: str) -> None:
    steps_probes_and_embeds(PretendedGpu(method, f"train.sampling={sampling}"))


@pytest.mark.slow
@pytest.mark.parametrize("balancer", sorted(BALANCERS))
def test_nothing_of_a_balancer_stays_on_the_processor(balancer: str) -> None:
    try:
        steps_probes_and_embeds(PretendedGpu(f"shared+{balancer}{OPTIONS.get(balancer, '')}"))
    except (DynamicOutputShapeException, ValueError):  # there are no values: it is told that losses are below 0, say
        steps_probes_and_embeds(PretendedGpu(f"shared+{balancer}{OPTIONS.get(balancer, '')}", answer=False))


def test_a_tensor_that_is_made_on_the_processor_is_found() -> None:
    gpu = PretendedGpu("shared")
    embed = gpu.trainer.architecture.embed
    gpu.trainer.architecture.embed = lambda images: embed(images) + torch.zeros(8)
    with (
        pytest.raises(Mismatch),
        gpu.computing() as trainer,
    ):
        trainer.step()


def test_a_tensor_that_does_not_move_with_its_module_is_found() -> None:
    gpu = PretendedGpu("shared")
    embed, left = gpu.trainer.architecture.embed, torch.zeros(8)
    gpu.trainer.architecture.embed = lambda images: embed(images) + left
    with pytest.raises(AssertionError, match="Please convert all Tensors"), gpu.computing() as trainer:
        trainer.step()


def test_one_in_a_balancers_gradients_is_found() -> None:
    gpu = PretendedGpu("shared")
    backward = gpu.trainer.balancer.weighted_backward
    gpu.trainer.balancer.weighted_backward = lambda losses, weights, net: backward(losses, torch.ones(2), net)
    with pytest.raises(Mismatch), gpu.computing() as trainer:
        trainer.step()

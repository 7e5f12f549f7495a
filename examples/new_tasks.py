"""New tasks for a trained, modulated network that stays as it is, head and all: each adds its scales and nothing else.

    python examples/new_tasks.py

takes about three minutes on two CPU cores. `QUICKLY=1 python examples/new_tasks.py` shows in seconds that it runs.
It compares three ways to add two tasks: scales for a frozen network (this file's `frozen-network`), a new embedding
layer on a frozen trunk (`shared`), and a new network (`independent`). The file is a plug-in too:

    mtlbench run --dataset DATA --tasks NEW --methods frozen-network --plugins examples/new_tasks.py \\
        --set model.pretrained=RUN/weights.safetensors --set model.freeze=true
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import mtlbench as mb
from mtlbench import BackboneFactory, Conditioned, Range, register_architecture


@register_architecture("frozen-network", shares="a trained network that no task changes")
class FrozenNetwork(Conditioned):
    """A trained network that stays as it is. Each task scales its channels by vectors of its own.

    Args:
        rate: the vectors' learning rate as a multiple of the network's.
    """

    search: ClassVar = {"rate": Range(0.3, 300, log=True)}

    def __init__(self, backbones: BackboneFactory, tasks: Sequence[str], *, rate: float = 1.0) -> None:
        super().__init__(backbones, tasks, method="frozen-network")
        self.rate = rate
        if isinstance(backbones.pretrained, (str, Path)):  # the stages come from this file already
            weights = load_file(backbones.pretrained)
            kept = {name.removeprefix("net.head."): w for name, w in weights.items() if name.startswith("net.head.")}
            if not any(parameter.is_meta for parameter in self.net.head.parameters()):  # those only count
                self.net.head.load_state_dict(kept)
            self.net.head.requires_grad_(False)
        self.scales = nn.ModuleDict(
            {str(n): nn.ParameterList([torch.ones(self.sizes[n - 1]) for _ in tasks]) for n in self.chosen}
        )

    def condition(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        scales = torch.stack([self.scales[str(layer)][t] for t in tasks]).relu()
        scales = scales.repeat_interleave(len(features) // len(tasks), dim=0).to(features.dtype)
        return features * scales.reshape(*scales.shape, *[1] * (features.dim() - 2))

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        return [vectors[task] for vectors in self.scales.values()]

    def learning_rate_scales(self, *, adaptive: bool) -> Mapping[str, float]:
        return {"scales.": self.rate}


TINY = {"data.rendered.images": 300, "train.steps": 6, "evaluation.every": 3, "evaluation.triplets": 200}
SETTINGS = TINY if os.environ.get("QUICKLY") else {}

if __name__ == "__main__":
    first = SETTINGS | {"data.tasks": ["category", "gender"]}
    mb.run("shared,modulation", "shoes", quick=True, settings=first, results="results-first", show=False)

    def added(method: str, start: str = "") -> mb.Results:
        """Add two tasks to the network that a method trained on the first two."""
        settings = SETTINGS | {"data.tasks": ["closure", "heel"]}
        if start:
            (file,) = Path("results-first/shoes-quick").glob(f"{start}*/seed-0/weights.safetensors")
            settings |= {"model.pretrained": str(file), "model.freeze": True}
        return mb.run(method, "shoes", quick=True, settings=settings, results=f"results-{start or 'new'}", show=False)

    for method, start in (("frozen-network[rate=100]", "modulation"), ("shared", "shared"), ("independent", "")):
        row = added(method, start).table().iloc[0]
        print(f"{method}: {100 * row['mean']:.1f} %, one more task adds {row['cost/bytes_added']:,.0f} bytes")

"""Measures whether T networks run faster as one: by grouped convolutions, or stacked under torch.func.

    python tools/speed/columns.py --backbone resnet18 --size 112 112 --images 24

Each way embeds the same images by all T networks in training and computes all gradients, in turn, in bfloat16 on the
CPU. The tool prints medians over the rounds, in seconds that this process had the core, and relative to the loop. It
also prints the number of operations that compute something, forward and backward; most of these are one kernel launch
on a GPU. It prints how far embeddings differ from the loop's, relative to the largest of them.

Results for T = 4, on a busy AMD EPYC, one thread, torch 2.14.1, operations and processor time relative to the loop's:

    resnet18, 48 x 48 px, 8 images     loop 829 ops    grouped 255 ops, 1.47 x    vmap 371 ops, 2.28 x
    small, 24 x 32 px, 32 images       loop 345 ops    grouped 144 ops, 0.89 x    vmap 125 ops, 1.47 x

Grouped convolutions gave the loop's embeddings to the bit, vmap to 2 % in bfloat16. On a CPU, neither is worth it for
ResNet-18. On a GPU, launches dominate at these sizes and both may be faster, but nobody has measured it. The engine has
neither: `independent` and `cross-stitch` call their nets one by one in their own files. Published records name these
files by their digests, and checkpoints name parameters net by net. Joining the weights at every step would keep the
names and cost one copy of all weights per step; that change can come with the next version of these files.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from mtlbench.backbones import BackboneFactory
from mtlbench.devices import computing_in, device_name
from mtlbench.plugins import load_plugins

_CPU = torch.device("cpu")
_NO_KERNEL = ("empty", "new_empty", "_unsafe_view")


class Launches(TorchDispatchMode):
    """Counts the operations that compute. On a GPU, most launch one kernel; a convolution's gradient launches two."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += not func.is_view and not func.overloadpacket.__name__.startswith(_NO_KERNEL)
        return func(*args, **(kwargs or {}))


def joined(parts: Sequence[nn.Module]) -> nn.Module:
    """Return T modules of the same form as one module, with their channels side by side."""
    first, number = parts[0], len(parts)
    if isinstance(first, nn.Conv2d):
        stride, padding = first.stride, first.padding
        wide = nn.Conv2d(
            number * first.in_channels, number * first.out_channels, first.kernel_size, stride, padding, groups=number,
            bias=False,
        )  # fmt: skip
        wide.weight.data = torch.cat([part.weight.data for part in parts])
        return wide
    if isinstance(first, nn.BatchNorm2d):
        return nn.BatchNorm2d(number * first.num_features, first.eps, first.momentum)
    whole = copy.deepcopy(first)
    for name, _ in first.named_children():
        setattr(whole, name, joined([getattr(part, name) for part in parts]))
    return whole


def ways(nets: Sequence[nn.Module], images: Tensor) -> dict[str, tuple[Callable[[], Tensor], list[Tensor]]]:
    """Return ways to compute the (T, B, D) embeddings, each with its parameters, by name."""
    number = len(nets)
    stages = nn.Sequential(*(joined([net.stages[n] for net in nets]) for n in range(len(nets[0].stages))))
    stages.to(memory_format=torch.channels_last)
    one = copy.deepcopy(nets[0])
    for module in one.modules():
        if isinstance(module, nn.BatchNorm2d):  # vmap can't update running statistics
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
            module.num_batches_tracked = None
        if hasattr(module, "inplace"):
            module.inplace = False
    stacked = stack_module_state(list(nets))[0]

    def grouped() -> Tensor:
        side_by_side = images.repeat(1, number, 1, 1).contiguous(memory_format=torch.channels_last)
        features = stages(side_by_side).unflatten(1, (number, -1))
        return torch.stack([net.head(features[:, t]) for t, net in enumerate(nets)])

    return {
        "one after the other": (
            lambda: torch.stack([net(images) for net in nets]),
            [p for net in nets for p in net.parameters()],
        ),
        "grouped convolutions": (grouped, [*stages.parameters(), *(p for net in nets for p in net.head.parameters())]),
        "torch.func.vmap": (
            lambda: vmap(lambda own, x: functional_call(one, own, (x,)), (0, None))(stacked, images),
            list(stacked.values()),
        ),
    }


def main() -> None:
    """Read the command line, measure, print."""
    what, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=what, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--backbone", default="small", help="one of plain convolutions, such as small and resnet18")
    parser.add_argument("--size", type=int, nargs=2, default=[48, 64], help="height and width in pixels")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    load_plugins()
    warnings.simplefilter("ignore", UserWarning)  # vmap's warnings about operations that it runs in a loop
    factory = BackboneFactory(chosen.backbone, tuple(chosen.size), 64)
    nets = [factory.backbone(str(t)).to(memory_format=torch.channels_last).train() for t in range(chosen.tasks)]
    images = torch.randn(chosen.images, 3, *chosen.size).to(memory_format=torch.channels_last)
    found = ways(nets, images)
    times: dict[str, list[float]] = {name: [] for name in found}
    counts, unlike, first = {}, {}, None
    for name, (embed, parameters) in found.items():
        with Launches() as launches, computing_in("bf16", _CPU):
            embeddings = embed().float()
        with launches:
            torch.autograd.grad(embeddings.square().sum(), parameters)
        counts[name] = launches.number
        first = embeddings.detach() if first is None else first
        unlike[name] = float((embeddings.detach() - first).abs().max() / first.abs().max())
    for number in range(chosen.rounds + 1):
        for name, (embed, parameters) in found.items():
            begun = time.process_time()
            with computing_in("bf16", _CPU):
                embeddings = embed()
            torch.autograd.grad(embeddings.float().square().sum(), parameters)
            if number:  # the first round is a warm-up
                times[name].append(time.process_time() - begun)
    base = statistics.median(times["one after the other"])
    print(f"{device_name(_CPU)}, bf16, torch {torch.__version__}")
    print(f"{chosen.tasks} x {chosen.backbone}, {chosen.size[0]} x {chosen.size[1]} px, {chosen.images} images")
    rows = [
        [name, f"{1e3 * statistics.median(t):.0f}", f"{statistics.median(t) / base:.2f}", counts[name], f"{off:.0e}"]
        for (name, t), off in zip(times.items(), unlike.values(), strict=True)
    ]
    headings = ["way", "ms", "x the loop", "operations", "largest difference"]
    print(tabulate(rows, headings, disable_numparse=True, colalign=("left", *["right"] * 4)))


if __name__ == "__main__":
    main()

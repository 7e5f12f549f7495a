"""A pretended GPU: tensors that say `cuda`, hold no values, and refuse to meet tensors that were left on the processor.

torch's fake tensors, under torch's own functions: steps, gradients and optimisers are run for shapes and devices alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from support import make_dataset, protocol
from torch import Tensor, nn
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mtlbench.data import pixels
from mtlbench.sampling.contract import Batch
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

aten, device_of = torch.ops.aten, torch.ops.prim.device.default
MODE = FakeTensorMode(allow_non_fake_inputs=False)  # one for all: tensors of two modes don't meet
MOVE, APPLY = nn.Module.to, nn.Module._apply
LOOKS = (aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default)


class _Answers(TorchDispatchMode):
    """Answers where the host looks at values, which are not there, and keeps the gradients' graph off torch's streams.

    The graph notes the devices of what passes through it, and asks CUDA for their streams: it is told `meta`.
    """

    def __init__(self, answer: bool) -> None:
        super().__init__()
        self.answer, self.deep = answer, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is device_of:
            return func(*args, **kwargs)
        if func in LOOKS:
            truth = func is not LOOKS[0] or args[0].dtype == torch.bool
            return self.answer if truth else 1.0 if args[0].is_floating_point() else 1
        if kwargs.get("device") == torch.device("meta"):  # zeros for a gradient that did not arrive
            kwargs["device"] = torch.device("cuda")
        self.deep += 1
        try:
            return func(*args, **kwargs)
        finally:
            self.deep -= 1


class PretendedGpu:
    """A trainer whose every tensor is on the pretended GPU.

    Args:
        spec: the method.
        settings: of the protocol, see `support.protocol`.
        answer: to every question for a truth value on the device, since there are no values.
    """

    def __init__(self, spec: str, *settings: str, answer: bool = True) -> None:
        self.answers = _Answers(answer)
        dataset, benchmark = make_dataset(), protocol(*settings)
        here = Trainer(parse_method("shared"), benchmark, dataset, 0, "fp32")
        drawn = here.sampler.draw(here.generators)
        parts = {name: self.sent(getattr(drawn, name)) for name in ("images", "labels", "triplets", "possible")}
        self.batch = Batch(**parts)
        held = replace(
            here.triplets, images=self.sent(here.triplets.images), triplets=self.sent(here.triplets.triplets)
        )
        there = replace(
            dataset,
            images=self.sent(dataset.images),
            labels=self.sent(dataset.labels),
            split=self.sent(dataset.split),
        )
        with (
            mock.patch("mtlbench.training.loop.sampler_of", return_value=here.sampler),
            mock.patch("mtlbench.training.loop.HeldOutTriplets.draw", return_value=held),
            mock.patch.object(nn.Module, "to", lambda module, *args, **options: self._to(module, *args, **options)),
            mock.patch.object(nn.Module, "_apply", lambda module, change, *_: self._applied(module, change)),
        ):
            self.trainer = Trainer(parse_method(spec), benchmark, there, 0, "fp32")
        self.trainer._looked = True  # at values

    def sent(self, tensor: Tensor | None) -> Any:
        """Return a tensor's shape on the pretended GPU."""
        if tensor is None:
            return None
        tensor = tensor.detach()
        with MODE:
            return MODE.from_tensor(tensor).to("cuda")

    def _to(self, module: nn.Module, *arguments: Any, **options: Any) -> nn.Module:
        """What `module.to` does: other modules that a module takes along by its own `_apply` move too."""
        device = torch._C._nn._parse_to(*arguments, **options)[0]
        gpu = device is not None and device.type == "cuda"
        return module._apply(self.sent) if gpu else MOVE(module, *arguments, **options)

    def _applied(self, module: nn.Module, change: Any) -> nn.Module:
        """What `module._apply` does: parameters and buffers are changed, other tensors stay."""
        if change != self.sent:
            return APPLY(module, change)
        known: dict[int, Any] = {}
        for part in module.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None:
                    if id(parameter) not in known:
                        known[id(parameter)] = nn.Parameter(self.sent(parameter), parameter.requires_grad)
                    part._parameters[name] = known[id(parameter)]
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = self.sent(buffer)
        return module

    @contextmanager
    def computing(self) -> Iterator[Trainer]:
        """Yield the trainer; what it computes in here, it computes on the pretended GPU."""
        class_handler = FakeTensor.__torch_dispatch__.__func__  # type: ignore[attr-defined]
        mode_handler = fake_tensor._DISPATCH_META_HANDLERS[device_of]

        def by_class(cls: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is device_of and not self.answers.deep:
                return torch.device("meta")
            return class_handler(cls, func, types, args, kwargs)

        def by_mode(args: Any) -> torch.device:
            return mode_handler(args) if self.answers.deep else torch.device("meta")

        on_gpu = property(lambda tensor: tensor.device.type == "cuda")
        with ExitStack() as stack:
            for patch in (
                mock.patch.object(FakeTensor, "__torch_dispatch__", classmethod(by_class)),
                mock.patch.object(FakeTensor, "is_cuda", on_gpu, create=True),
                mock.patch.dict(fake_tensor._DISPATCH_META_HANDLERS, {device_of: by_mode}),
                mock.patch.object(self.trainer.sampler, "draw", return_value=self.batch),
                mock.patch("mtlbench.data.pixels._factors_on", pixels.factors),  # which would keep them for real GPUs
                mock.patch("torch.cuda.synchronize"),
                mock.patch("torch.random.fork_rng", return_value=nullcontext()),
                torch.autograd.set_multithreading_enabled(False),
                MODE,
                self.answers,
            ):
                stack.enter_context(patch)  # type: ignore[arg-type]
            yield self.trainer

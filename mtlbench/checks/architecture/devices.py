"""Items on devices and optional parts: the network moves as a whole, optional parts are well-formed, a rate works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from mtlbench.architecture import Architecture
from mtlbench.checks.architecture import sizes
from mtlbench.checks.architecture.subject import BATCH, TASKS, Subject
from mtlbench.checks.items import Fault, Items, NotApplicable, described, gap, near
from mtlbench.checks.rates import rate_acts
from mtlbench.names import joined
from mtlbench.registry import ARCHITECTURES

SAME = sizes.SAME
check = Items[Subject](sizes.ITEMS)


_LOOSE = "name it a buffer: self.register_buffer(name, tensor), or make it an nn.Parameter"


def unregistered(net: nn.Module) -> list[str]:
    """Return the names of tensors that modules keep in plain attributes, lists and dictionaries."""
    known = {id(t) for t in (*net.parameters(), *net.buffers())}
    found = []

    def look(name: str, value: object, deep: int = 3) -> None:
        if isinstance(value, Tensor):
            if id(value) not in known:
                found.append(name)
        elif deep and isinstance(value, Mapping):
            for key, inner in value.items():
                look(f"{name}[{key!r}]", inner, deep - 1)
        elif deep and isinstance(value, list | tuple | set):
            for place, inner in enumerate(value):
                look(f"{name}[{place}]", inner, deep - 1)
        elif deep and isinstance(value, nn.Module):  # a module that its parent does not register
            for key, inner in value.state_dict(keep_vars=True).items():
                look(f"{name}.{key}", inner, 0)

    for path, module in net.named_modules():
        for name, value in vars(module).items():
            if name not in ("_parameters", "_buffers", "_modules"):
                look(f"{path}.{name}" if path else name, value)
    return found


@check("it moves to a CUDA device" if torch.cuda.is_available() else "it would move to a device (tried on meta)", SAME)
def moves(subject: Subject) -> str:
    """The network still works after a move: no tensor stays behind, and none is created on the wrong device.

    Without an accelerator, the meta device stands in. It refuses to mix devices as an accelerator does, but it holds no
    values, so numerics are not checked there.
    """
    net = subject.build()
    loose = unregistered(net)
    if loose:
        raise Fault(
            "every tensor to move and be saved with the network", f"a plain attribute: {joined(loose, 4)}", _LOOSE
        )
    target = torch.device("cuda" if torch.cuda.is_available() else "meta")
    with torch.no_grad():
        before = net.eval().embed(subject.images[0])
        images = subject.images.to(target)
        net, found, blind = net.to(target), [], []
        for what, training, run in (
            ("forward", False, lambda: net(images)),
            ("embed", False, lambda: net.embed(images[0])),
            ("embed_task", False, lambda: net.embed_task(images[0], 1)),
            ("forward in training", True, lambda: net(images)),
            ("embed in training", True, lambda: net.embed(images[0])),
        ):
            net.train(training)
            try:
                found.append(run())
            except RuntimeError as error:  # includes NotImplementedError
                if target.type == "meta" and (isinstance(error, NotImplementedError) or "meta tensors" in str(error)):
                    blind.append(what)  # it reads values: allowed, but meta has none
                    continue
                if "device" not in str(error):
                    raise
                raise Fault(
                    f"a pass on {target} after .to({target})", described(error),
                    "make tensors where the images are: torch.zeros(…, device=images.device); keep others in buffers",
                ) from error  # fmt: skip
    if not found:
        raise NotApplicable("no tensor stays behind; meta lacks the values that its pass looks at")
    stayed = [e.device.type for e in found if e.device.type != target.type]
    if stayed:
        raise Fault(f"embeddings on {target}", f"on {stayed[0]}")
    if target.type == "cuda" and not near(before, found[1].cpu(), 1e-2, 1e-3):
        raise Fault("the processor's embeddings on CUDA", gap(before, found[1].cpu()))
    if blind:
        return f"every tensor is registered; meta lacks the values that it looks at in {joined(blind, 5)}"
    return "really moved, embeds as on the processor" if target.type == "cuda" else "every tensor is registered"


@check("the optional parts are well-formed", "it takes training steps")
def optional_parts(subject: Subject) -> str:
    """Penalties, learning rates and the shared representation are well-formed, where the architecture has them."""
    net, said = subject.build(), []
    for what, run in (("forward", lambda: net(subject.images)), ("embed", lambda: net.embed(subject.images[0]))):
        run()
        penalty = net.regulariser()
        if penalty is not None and (penalty.shape != (len(TASKS),) or not penalty.isfinite().all()):
            raise Fault(f"a finite (T,) = (3,) regulariser after {what}", f"{tuple(penalty.shape)}: {penalty.tolist()}")
        if what == "forward" and net.representation is not None:
            raise Fault("representation set by embed alone", "it is set by forward", "set it in embed, in training")
    said += ["a regulariser"] if penalty is not None else []
    features = net.representation
    if features is not None:
        if features.shape[0] != BATCH or not features.requires_grad:
            raise Fault(
                f"a representation with its graph whose leading axis is the batch, {BATCH}", str(tuple(features.shape))
            )
        if len(net.shared_parameters()) == 0:
            raise Fault("shared parameters before the shared representation", "none")
        said.append("a shared representation")
        net.eval().embed(subject.images[0])
        if net.representation is not None:
            raise Fault("no representation kept in evaluation", "one", "set it if self.training, else to None")
    for adaptive in (True, False):
        for prefix, scale in net.learning_rate_scales(adaptive=adaptive).items():
            if not any(n.startswith(prefix) for n, _ in net.named_parameters()):
                raise Fault("learning_rate_scales to name parameters by how they begin", f"'{prefix}', which none does")
            if not scale > 0:
                raise Fault("learning-rate scales above 0", f"{scale} for '{prefix}'")
    said += ["learning rates of its own"] if net.learning_rate_scales(adaptive=False) else []
    if net.last_shared_layer():
        said.append("a last shared layer")
    return ", ".join(said) or "it has none"


@check("a rate acts", "the optional parts are well-formed")
def a_rate_acts(subject: Subject) -> str:
    """An option `rate` multiplies the learning rate of some parameters, and of no others."""

    def build(rate: float) -> Architecture:
        options = subject.method.architecture_options | {"rate": rate}
        return Subject(replace(subject.method, architecture_options=options)).build()

    def gradients(net: nn.Module) -> None:
        net.train()
        net(subject.images).square().sum().backward()

    return rate_acts(ARCHITECTURES.get(subject.method.architecture).target, build, gradients)


ITEMS: Items[Subject] = check

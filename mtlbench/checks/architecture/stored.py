"""Items on storage: the counted parameters are the saved ones, and a checkpoint restores the network."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from mtlbench.checks.architecture import chance
from mtlbench.checks.architecture.subject import TASKS, Subject
from mtlbench.checks.items import Fault, Items, gap, refuse_unsaved
from mtlbench.cost import storage, weights_of
from mtlbench.names import joined

SAME = chance.SAME
check = Items[Subject](chance.ITEMS)


@check("counted parameters are the used and the saved ones", "it takes training steps")
def counts_are_true(subject: Subject) -> str:
    """The storage count equals what a file of the network holds, with each tensor counted once."""
    net = subject.build()
    counted = storage(net)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file(weights_of(net), path)
        saved = load_file(path)
    with torch.device("meta"):
        without_memory = sum(p.numel() for p in subject.build().parameters())
    buffers = {name for name, _ in net.named_buffers()}
    numbers = {
        "counted": int(counted["parameters"]),
        "saved": sum(t.numel() for n, t in saved.items() if n not in buffers),
        "in the network": sum(p.numel() for p in net.parameters()),
        "of one that is built without memory, on meta": without_memory,
    }
    if len(set(numbers.values())) > 1:
        raise Fault("one number of parameters", ", ".join(f"{n:,} {what}" for what, n in numbers.items()))
    size = sum(t.numel() * t.element_size() for t in saved.values())
    if counted["bytes"] != size:
        raise Fault(f"{counted['bytes']:,.0f} bytes, as counted, in the file's tensors", f"{size:,.0f}")
    whole = counted["parameters_shared"] + len(TASKS) * counted["parameters_per_task"]
    if round(whole) != numbers["counted"] and len({id(p) for t in range(3) for p in net.task_parameters(t)}) == sum(
        len(net.task_parameters(t)) for t in range(3)
    ):  # another item reports parts that are claimed twice
        raise Fault("shared and own parameters that add up to all", f"{whole:,.0f} of {numbers['counted']:,}")
    return f"{numbers['counted']:,}, in {len(saved)} tensor{'s' * (len(saved) != 1)}"


@check("a checkpoint brings it back", SAME)
def checkpoint_brings_it_back(subject: Subject) -> str:
    """A network of another seed that loads the saved weights returns the same embeddings, bit for bit."""
    net = subject.trained
    other = subject.build(seed=99).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file(weights_of(net), path)
        missing, unexpected = other.load_state_dict(load_file(path), strict=False)
    tied = {name for name in net.state_dict() if name not in weights_of(net)}  # second names of shared tensors
    lost = [n for n in missing if n not in tied]
    if lost or unexpected:
        raise Fault("the same names in every network", f"{joined([*lost, *unexpected], 4)} in one of two alone")
    with torch.no_grad():
        expected, found = net(subject.images), other(subject.images)
    if not torch.equal(expected, found):
        raise Fault(
            "a network loaded from its file to embed as the saved one", gap(expected, found),
            "keep what a network learns or draws in nn.Parameters and buffers (self.register_buffer)",
        )  # fmt: skip
    return f"{len(weights_of(net))} tensor{'s' * (len(weights_of(net)) != 1)}"


@check(
    "training goes on from a checkpoint", SAME, "a checkpoint brings it back", "the same seed gives the same network"
)
def training_goes_on(subject: Subject) -> str:
    """In training too, a network of another seed that loads the saved weights does the same: a run can be continued."""
    net, other, like = subject.trained, subject.build(seed=99), subject.build()
    for one in (other, like):
        one.load_state_dict(net.state_dict())
    before, seen = {name: tensor.clone() for name, tensor in net.state_dict().items()}, []
    for one in (net, other, like):
        with torch.random.fork_rng(devices=[]), torch.no_grad():  # dropout and the like
            torch.manual_seed(0)
            one.train()
            embeddings, penalty = one(subject.images), one.regulariser()
        one.forget()
        seen.append(torch.cat([embeddings.flatten(), *([penalty] if penalty is not None else [])]))
    net.eval().load_state_dict(before)  # batch norm has moved
    if not torch.equal(*seen[:2]):
        raise Fault(
            "a network loaded from its file to train on as the saved one", gap(*seen[:2]),
            "count steps and the like in buffers (self.register_buffer)",
        )  # fmt: skip
    refuse_unsaved(net, like)
    return ""


ITEMS: Items[Subject] = check

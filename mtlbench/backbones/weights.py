"""Weights that a backbone starts from: a state dict in a file, told by its content, matched by names and shapes.

No pickled object is run: `.pth` files are read by torch's loader of tensors alone.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mtlbench.data.files import digest_of
from mtlbench.errors import UserError, first_line

STATED = "sha256:"  # what a record has in place of a file's path begins so
ENDINGS = (".pth", ".pt", ".bin", ".safetensors")
_WRAPPED = ("state_dict", "model_state_dict", "model")  # under which training scripts save a network among other things
_NEVER_READ = "num_batches_tracked"  # batch norm's step counters, which files may leave out


def stated(pretrained: bool | str) -> bool | str:
    """Return `model.pretrained` as records state it: of a file its content, since its path is one machine's.

    Raises:
        UserError: there is no such file, or it can't be read.
    """
    return pretrained if isinstance(pretrained, bool) else f"{STATED}{digest(Path(pretrained))[:16]}"


def digest(file: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal.

    Raises:
        UserError: there is no such file, it can't be read, or a record's statement of one was given.
    """
    if str(file).startswith(STATED):
        raise UserError(
            f"The runs began from a file of weights ({file}), and records don't keep its path: add --set"
            " model.pretrained=FILE to the command."
        )
    try:
        about = file.stat()
        return _digest(file, about.st_mtime_ns, about.st_size)
    except OSError as error:
        raise UserError(
            f"model.pretrained = '{file}' can't be read ({error.strerror}): name a file of weights, or set true for the"
            " published ones."
        ) from error


@lru_cache(maxsize=16)
def _digest(file: Path, changed: int, size: int) -> str:
    return digest_of(file)


def read_state(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict in a file, by name, on the CPU.

    Raises:
        UserError: the file can't be read, or holds no state dict.
    """
    digest(file)  # says that it is missing
    if file.suffix not in ENDINGS:
        raise UserError(f"model.pretrained = '{file}': weights are read from files in {', '.join(ENDINGS)}.")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file torch's reader may raise any
        first = first_line(error)
        if isinstance(error, pickle.UnpicklingError):  # whose words advise to run what is in it
            first = "it holds more than tensors, such as a pickled network, or is damaged"
        raise UserError(
            f"model.pretrained = '{file}' is not a readable state dict ({first}): save one by"
            " torch.save(network.state_dict(), file)."
        ) from error
    for key in _WRAPPED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise UserError(
            f"model.pretrained = '{file}' holds no tensors by name: save them by torch.save(network.state_dict(),"
            " file)."
        )
    return tensors


def names_within(network: nn.Module, stages: nn.ModuleList) -> tuple[str, ...]:
    """Return the names that a network has for the tensors of stages that were cut out of it, in the stages' order."""
    known = {id(tensor): name for name, tensor in network.state_dict(keep_vars=True).items()}
    return tuple(known[id(tensor)] for tensor in stages.state_dict(keep_vars=True).values())


def load_stages(
    stages: nn.ModuleList, state: Mapping[str, Tensor], names: Sequence[str], file: Path, backbone: str
) -> None:
    """Give stages the tensors of a state dict, which knows them by mtlbench's names or by their library's.

    What stands before all of the names (`module.`, or `trunk.` in the weights of a run) may be anything; tensors that
    the stages have no place for, such as a classifier's, are passed over.

    Args:
        stages: to be changed.
        state: of the file.
        names: the library's, in the order of the stages' own; empty where there are none.
        file, backbone: for messages.

    Raises:
        UserError: a tensor is missing or of another shape, or the file holds several such networks.
    """
    own = dict(stages.state_dict(keep_vars=True))
    schemes = [tuple(own), *([tuple(names)] if names else [])]
    found = _found(schemes, state)
    wanted = [n for n in own if not n.endswith(_NEVER_READ)]
    if found is None:
        library = names[0] if names else wanted[0]
        raise UserError(
            f"model.pretrained = '{file}' has no weights of the backbone '{backbone}': no name in it ends in"
            f" '{library}'" + (f" or '{wanted[0]}'" if library != wanted[0] else "") + ", the first that it needs."
        )
    scheme, prefixes = found
    if len(prefixes) > 1:
        raise UserError(
            f"model.pretrained = '{file}' holds several networks of the backbone '{backbone}'"
            f" ({', '.join(repr(p) for p in prefixes[:3])} …): save the one to start from in a file of its own."
        )
    taken = {ours: prefixes[0] + theirs for ours, theirs in zip(own, scheme, strict=True)}
    if missing := [taken[n] for n in wanted if taken[n] not in state]:
        raise UserError(
            f"model.pretrained = '{file}' does not fit the backbone '{backbone}': {len(missing)} of {len(wanted)}"
            f" tensors are missing, '{missing[0]}' the first."
        )
    for name in wanted:
        theirs = state[taken[name]]
        if theirs.shape != own[name].shape:
            raise UserError(
                f"model.pretrained = '{file}' does not fit the backbone '{backbone}': '{taken[name]}' is"
                f" {tuple(theirs.shape)} there and {tuple(own[name].shape)} here."
            )
    _refuse_deeper(scheme, prefixes[0], state, file, backbone)
    for name in wanted:
        if not bool(state[taken[name]].isfinite().all()):
            raise UserError(f"model.pretrained = '{file}': '{taken[name]}' holds numbers that are not finite.")
    with torch.no_grad():
        for name, tensor in own.items():
            if taken[name] in state:
                tensor.copy_(state[taken[name]])


def _refuse_deeper(scheme: Sequence[str], prefix: str, state: Mapping[str, Tensor], file: Path, backbone: str) -> None:
    """Refuse the weights of a deeper network, of which some would be left out between others.

    Of a list of like parts, `layer1.0`, `layer1.1`, the file then has more than the backbone.

    Args:
        scheme: the names that are taken, each with what stands before it in the file, `prefix`.
        state, file, backbone: as of `load_stages`.

    Raises:
        UserError: with the first tensor that has no place.
    """
    known = {tuple(name.split(".")[:i]) for name in scheme for i in range(1, name.count(".") + 2)}
    lists = {part[:-1] for part in known if part[-1].isdigit()}
    for name in state:
        parts = tuple(name.removeprefix(prefix).split(".")) if name.startswith(prefix) else ()
        for i, part in enumerate(parts):
            if part.isdigit() and parts[:i] in lists and parts[: i + 1] not in known:
                raise UserError(
                    f"model.pretrained = '{file}' holds another network than the backbone '{backbone}', which has no"
                    f" place for '{name}': name the backbone that these are the weights of."
                )


def _found(schemes: Iterable[Sequence[str]], state: Mapping[str, Tensor]) -> tuple[Sequence[str], list[str]] | None:
    """Return the names that fit a state dict best, and what stands before them there; several where several fit."""
    best: tuple[int, Sequence[str], list[str]] | None = None
    for scheme in schemes:
        first = scheme[0]
        before = [k.removesuffix(first) for k in state if k == first or k.endswith(f".{first}")]
        fits = {p: sum(p + name in state for name in scheme) for p in before}
        if fits and (best is None or max(fits.values()) > best[0]):
            most = max(fits.values())
            best = (most, scheme, [p for p, count in fits.items() if count == most])
    return None if best is None else best[1:]


class _StaysInEvaluation:
    """`nn.Module.train` of a frozen module: it stays as it is; modules that were put into it later go along."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, mode: bool = True) -> nn.Module:
        for child in self.module.children():
            child.train(mode)
        return self.module


def freeze(stage: nn.Module) -> None:
    """Fix a stage: its parameters are not trained, and it stays in evaluation mode, as do its batch norms."""
    stage.requires_grad_(False).eval()
    for module in stage.modules():
        # on the object: its class, its names and what methods look for in it stay as they are
        module.train = _StaysInEvaluation(module)  # type: ignore[method-assign]


def is_frozen(module: nn.Module) -> bool:
    """Tell whether a module was fixed by `freeze`."""
    return isinstance(vars(module).get("train"), _StaysInEvaluation)

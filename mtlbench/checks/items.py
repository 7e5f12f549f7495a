"""Items and how they run: an item passes, fails with a reason, or says why it does not apply.

This module knows nothing about what the items check, but for what both kinds must hold: `refuse_unsaved`.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from mtlbench.errors import FAULTS, UserError
from mtlbench.names import joined
from mtlbench.unsaved import changed, unsaved

S = TypeVar("S")
Status = Literal["passed", "failed", "skipped"]


class Fault(Exception):
    """The method breaks the contract.

    Args:
        expected: what the contract requires.
        found: what the method does instead.
        mend: the usual remedy.
    """

    def __init__(self, expected: str, found: str, mend: str = "") -> None:
        super().__init__(f"expected {expected}; found {found}")
        self.expected, self.found, self.mend = expected, found, mend


class NotApplicable(Exception):
    """The item says nothing about this method, for the reason given."""


@dataclass(frozen=True)
class Result:
    """The result of one item."""

    name: str
    status: Status
    note: str = ""  # figures if it passed, the reason if it was skipped
    expected: str = ""
    found: str = ""
    mend: str = ""
    seconds: float = 0.0

    @property
    def lines(self) -> list[str]:
        """The reasons for a failure, one per line."""
        said = (("expected", self.expected), ("found", self.found), ("to mend it", self.mend))
        return [f"{what}: {words}" for what, words in said if words]


@dataclass(frozen=True)
class Item(Generic[S]):
    """One property: its name, the function that checks it, and the items that must hold before it means anything."""

    name: str
    check: Callable[[S], str | None]  # returns a note
    needs: tuple[str, ...] = ()


class Items(list[Item[S]]):
    """Items in the order in which they are checked; calling the list gives a decorator that adds an item."""

    def __call__(self, name: str, *needs: str) -> Callable[[Callable[[S], str | None]], Callable[[S], str | None]]:
        """Add the decorated function as the item `name`."""
        unknown = set(needs) - {item.name for item in self}
        if unknown:
            raise ValueError(f"'{name}' needs {unknown}, which does not come before it")

        def add(check: Callable[[S], str | None]) -> Callable[[S], str | None]:
            self.append(Item(name, check, needs))
            return check

        return add


def run_items(items: Sequence[Item[S]], subject: S) -> Iterator[Result]:
    """Check every item on a subject; an item that needs a failed one is skipped, with that reason.

    The caller's random state and number formats are not changed.

    Raises:
        UserError: the method refused its options in the first item. In a later item, a refusal counts as a failure.
    """
    failed: set[str] = set()
    for item in items:
        blocked = [name for name in item.needs if name in failed]
        if blocked:
            failed.add(item.name)  # items that need this one need the same
            yield Result(item.name, "skipped", f"not checked, since '{blocked[0]}' did not hold")
            continue
        begun = time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            result = _checked(item, subject, first=item is items[0])
        if result.status == "failed":
            failed.add(item.name)
        yield Result(**{**vars(result), "seconds": time.perf_counter() - begun})


def _checked(item: Item[S], subject: S, *, first: bool) -> Result:
    try:
        return Result(item.name, "passed", item.check(subject) or "")
    except UserError as error:
        if first:  # the method can't be built with these options
            raise
        return Result(item.name, "failed", "", "no refusal", str(error))
    except NotApplicable as reason:
        return Result(item.name, "skipped", str(reason))
    except Fault as fault:
        return Result(item.name, "failed", "", fault.expected, fault.found, fault.mend)
    except FAULTS as error:  # a method may fail in any way, and every failure is a result
        return Result(item.name, "failed", "", "no error", described(error))


def described(error: BaseException) -> str:
    """Return an error as one line, with the place in the method's own file where it arose."""
    text = " ".join(str(error).split())
    text = f"{text[:300]} …" if len(text) > 300 else text
    engine = Path(__file__).parent.parent
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        f
        for f in frames
        if "site-packages" not in f.filename
        and (engine not in Path(f.filename).parents or (engine / "methods") in Path(f.filename).parents)
    ]
    where = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {text}{where}"


def refuse_unsaved(saved: nn.Module, restored: nn.Module) -> None:
    """Refuse memory in plain attributes, whenever it acts.

    What is of the latest step, or is made once, is the same in both modules.

    Args:
        saved: a module that has taken some steps, and one more since its state was saved.
        restored: one that began with that state, and has taken that step.

    Raises:
        Fault: an attribute differs.
    """
    if names := changed(unsaved({"self": saved}), unsaved({"self": restored})):
        raise Fault(
            "all that training changes in a checkpoint", f"a plain attribute: {joined(names, 4)}",
            "keep what it counts or remembers in buffers: self.register_buffer(name, tensor)",
        )  # fmt: skip


def near(a: Tensor, b: Tensor, relative: float = 1e-4, absolute: float = 1e-5) -> bool:
    """Return whether two tensors are equal up to rounding."""
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), rtol=relative, atol=absolute)


def gap(a: Tensor, b: Tensor) -> str:
    """Say how far two tensors are from each other."""
    if a.shape != b.shape:
        return f"shapes {tuple(a.shape)} and {tuple(b.shape)}"
    return f"a difference of up to {(a.float() - b.float()).abs().max().item():.2g}, where values reach" + (
        f" {a.float().abs().max().item():.2g}"
    )

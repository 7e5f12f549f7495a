"""How an item is checked: it passes, fails with a reason, or says why it does not apply.

Knows nothing of what is checked.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor

from mtlbench.errors import UserError

S = TypeVar("S")
Status = Literal["passed", "failed", "skipped"]


class Fault(Exception):
    """The method breaks the contract.

    Args:
        expected: what the contract asks for.
        found: what the method does instead.
        mend: how that is usually put right.
    """

    def __init__(self, expected: str, found: str, mend: str = "") -> None:
        super().__init__(f"expected {expected}; found {found}")
        self.expected, self.found, self.mend = expected, found, mend


class NotApplicable(Exception):
    """The item says nothing about this method, for the reason given."""


@dataclass(frozen=True)
class Result:
    """What came of one item."""

    name: str
    status: Status
    note: str = ""  # of what passed: figures; of what was skipped: why
    expected: str = ""
    found: str = ""
    mend: str = ""
    seconds: float = 0.0

    @property
    def lines(self) -> list[str]:
        """The reasons of a failure, a line each."""
        said = (("expected", self.expected), ("found", self.found), ("to mend it", self.mend))
        return [f"{what}: {words}" for what, words in said if words]


@dataclass(frozen=True)
class Item(Generic[S]):
    """One property: its name, what checks it, and the items without which it would say nothing."""

    name: str
    check: Callable[[S], str | None]  # returns a note
    needs: tuple[str, ...] = ()


class Items(list[Item[S]]):
    """Items in the order in which they are checked; called, it is a decorator that adds one."""

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
    """Check every item of a subject; an item whose needs have failed is skipped, with that reason.

    The caller's random state and number formats are left as they were.

    Raises:
        UserError: the first item can't be checked with these options, as the method itself says to its user. In a
            later item that is a failure.
    """
    failed: set[str] = set()
    for item in items:
        blocked = [name for name in item.needs if name in failed]
        if blocked:
            failed.add(item.name)  # what needs this one needs the same
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
        if first:  # it can't be built at all with these options
            raise
        return Result(item.name, "failed", "", "no refusal", str(error))
    except NotApplicable as reason:
        return Result(item.name, "skipped", str(reason))
    except Fault as fault:
        return Result(item.name, "failed", "", fault.expected, fault.found, fault.mend)
    except Exception as error:  # a method may break in any way; that it broke is the finding
        return Result(item.name, "failed", "", "no error", described(error))


def described(error: BaseException) -> str:
    """Return an error in one line, with the place in the method's own file where it arose."""
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


def near(a: Tensor, b: Tensor, relative: float = 1e-4, absolute: float = 1e-5) -> bool:
    """Whether two tensors are equal but for rounding."""
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), rtol=relative, atol=absolute)


def gap(a: Tensor, b: Tensor) -> str:
    """Say how far two tensors are from each other."""
    if a.shape != b.shape:
        return f"shapes {tuple(a.shape)} and {tuple(b.shape)}"
    return f"a difference of up to {(a.float() - b.float()).abs().max().item():.2g}, where values reach" + (
        f" {a.float().abs().max().item():.2g}"
    )

"""The base of balancers from torchjd (0.18 and later), its aggregators and scalarizers, behind mtlbench's contract.

Public: methods and plug-ins import from here. torchjd itself is imported when a balancer is built, and no earlier.

Quinton, Rey: Jacobian Descent for Multi-Objective Optimization, 2024 (arXiv 2406.16232); torchjd holds the formulas,
this file says what goes into them, at which scale it comes out, and what they remember between steps. A balancer is a
short file: a subclass of `Scalarizer` or `Combiner` (with `Remembering` before it where torchjd's object remembers),
which builds that object by `make`.

Two kinds. *Weighing losses* (`Scalarizer`) needs the T losses alone: one backward pass, for any architecture; a task's
own layers are trained with its weighted loss. *Combining gradients* (`Combiner`) needs the T gradients J (T, P) of what
is shared; a task's own layers get the plain gradient of its own loss, also where an architecture mixes tasks and other
losses reach them. An architecture that shares nothing, or less than 1 % of its trained parameters, is refused. Where
the gradients are taken:

- `at=shared`: at all shared parameters: T backward passes through everything, T x P numbers in memory.
- `at=representation`: at the features where the tasks branch off (`Architecture.representation`): T passes through the
  heads, then one through the trunk. The chain rule makes the trunk's gradient the same combination of the tasks'
  gradients, but lengths and angles are those at the features: an upper bound of the conflict on the parameters (Sener
  and Koltun), another number, and much cheaper. Needs an architecture with such a place and one batch for all tasks
  (joint sampling). Balancers that remember gradients, whose places in a batch mean nothing in the next, offer no `at`.
- `at=auto`: at the representation where there is one, else at the shared parameters: for methods whose papers take
  gradients at the features.

Scale. Weights of 1 mean the plain mean (see `Balancer`), so what torchjd returns is brought to that scale. With T
gradients of equal length, all the same or all at right angles, each method then takes the plain mean's step, except
where its docstring says otherwise under "Scale"; a hidden learning rate would pass for a better method. A scale that is
a method's own by design is kept.

The weights returned for the log are T times those on the tasks' gradients; where a method has none, the least-squares
weights of the gradient it returns.

Zero losses. A triplet loss reaches 0, where the papers' losses stay above it. Where a formula divides by a loss or
takes its logarithm, losses count as at least `SMALLEST_LOSS`. A task without a gradient in this batch waits: methods
without memory combine the other n tasks' gradients as if they were alone, n/T as large, and its weight is given as 1.
Methods with memory see its zero gradient.

Numbers. Gradients of a triplet loss are small: 1e-4 is a usual length. Gramians are divided by the mean of their
diagonal first, since several solvers regard small ones as 0; a method whose weights depend on it scales them back.
Gradients that are not finite are handed on as their mean, for the run to stop on.

Packages. Some methods need solvers that torchjd leaves optional: `needs` in their decorator. Without them
`architecture+name` says what to install, and `name` alone is left out of groups (`mtlbench.specs.left_out_methods`).

Left out: Mean, Sum and Constant (mtlbench has its own); the aggregator Random (the scalarizer Random, at T times the
cost); Krum and TrimmedMean, which guard against faulty workers and discard tasks for it; PCD, which wants one task
above the others; COSMOS and PBI, which trace a Pareto front over preferences and give weights below 0 to tasks ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from mtlbench.architecture import Architecture
from mtlbench.balancer import Balancer
from mtlbench.errors import UserError
from mtlbench.gradients import add_gradient
from mtlbench.registry import BALANCERS

__all__ = [
    "SMALLEST_LOSS", "Array", "At", "Combiner", "Exactly", "FromPreviousBatches", "FromTorchJD", "Remembering",
    "Scalarizer", "combiner", "gramian", "make", "project_on_dual_cone", "shortest_in_hull",
]  # fmt: skip

At = Literal["auto", "shared", "representation"]
Array = npt.NDArray[np.float64]
SMALLEST_LOSS = 1e-3


def make(balancer: str, what: str, *values: Any, **options: Any) -> Any:
    """Build torchjd's `what`, `module.Class`, for the balancer of that name; torchjd is imported here and no earlier.

    Raises:
        UserError: torchjd, this class of it or a package that it needs is missing, or torchjd refuses a value.
    """
    entry = BALANCERS.entries.get(balancer)
    missing = entry.left_out() if entry is not None else None
    if missing is not None:
        raise UserError(f"{missing}.")
    module, name = what.split(".")
    found = getattr(import_module(f"torchjd.{module}"), name, None)
    if found is None:
        raise UserError(f"{balancer}: the installed torchjd has no {name}: pip install -U 'torchjd>=0.18'.")
    try:
        return found(*values, **options)
    except ImportError as error:
        raise UserError(f"{balancer}: {error}") from error
    except ValueError as error:
        raise UserError(f"{balancer}: torchjd refuses an option: {error}") from error


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Return what may be memory among a module's attributes: tensors, arrays, numbers, lists of tensors, optimisers."""
    kinds = (Tensor, int, float, list, torch.optim.Optimizer, type(None))
    named = {**vars(module), **module._buffers, **module._parameters}
    return {
        name: value
        for name, value in named.items()
        if (isinstance(value, kinds) and not isinstance(value, bool)) or type(value).__module__ == "numpy"
    }


def _memory_of(part: nn.Module) -> dict[str, Tensor]:
    """Return what a torchjd object holds as tensors, by module/attribute and, within lists and optimisers, /place."""
    found: dict[str, Any] = {}
    for path, module in part.named_modules():
        for name, value in _attributes(module).items():
            if isinstance(value, torch.optim.Optimizer):
                states = value.state_dict()["state"]
                found |= {f"{path}/{name}/{n}/{k}": v for n, state in states.items() for k, v in state.items()}
            elif isinstance(value, list):
                found |= {f"{path}/{name}/{n}": v for n, v in enumerate(value)}
            elif isinstance(value, float):
                found[f"{path}/{name}"] = torch.tensor(value, dtype=torch.float64)
            elif value is not None:
                found[f"{path}/{name}"] = value
    # copies: safetensors wants no two names for one piece of memory
    return {key: torch.as_tensor(value).detach().cpu().clone().contiguous() for key, value in found.items()}


def _put_back(part: nn.Module, saved: Mapping[str, Tensor], device: torch.device) -> None:
    """Give a torchjd object that has worked before, and so is complete, the memory that `_memory_of` returned."""
    for path, module in part.named_modules():
        for name, now in _attributes(module).items():
            key = f"{path}/{name}"
            inside = {k.removeprefix(f"{key}/"): v for k, v in saved.items() if k.startswith(f"{key}/")}
            value = saved.get(key)
            if isinstance(now, torch.optim.Optimizer):
                states: dict[int, dict[str, Tensor]] = {}
                for place, item in inside.items():
                    number, _, what = place.partition("/")
                    states.setdefault(int(number), {})[what] = item
                now.load_state_dict({"state": states, "param_groups": now.state_dict()["param_groups"]})
            elif isinstance(now, list):
                setattr(module, name, [inside[n].to(device) for n in sorted(inside, key=int)])
            elif isinstance(now, nn.Parameter):
                with torch.no_grad():
                    now.copy_(saved[key])
            elif value is None:
                if isinstance(now, Tensor):
                    setattr(module, name, None)
            elif isinstance(now, int | float):
                setattr(module, name, type(now)(value.item()))
            elif isinstance(now, Tensor) or now is None:
                setattr(module, name, value.to(device if now is None else now.device))
            else:
                setattr(module, name, value.numpy())


class FromTorchJD(Balancer):
    """Holds the torchjd object that does the work.

    Attributes:
        part: the torchjd object.
        remembers: whether it carries something from step to step. Much of that is in plain attributes of torchjd's, and
            its buffers come and go; so it is kept out of the modules, and its memory goes into a checkpoint as one
            tensor of bytes, in safetensors' format.
    """

    remembers: ClassVar[bool] = False
    part: Any

    def __init__(self, tasks: Sequence[str], part: Any) -> None:
        super().__init__(tasks)
        if self.remembers:
            object.__setattr__(self, "part", part)
            self._saved: dict[str, Tensor] = {}  # what a checkpoint held, until the next step gives it to the part
        else:
            self.part = part

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        if self.remembers:
            self.part._apply(fn)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _ask(self, statistic: Tensor) -> Tensor:
        """Return what the torchjd object makes of losses, gradients or their Gramian."""
        self._recall(statistic)
        answer: Tensor = self.part(statistic)
        return answer

    def _recall(self, statistic: Tensor) -> None:
        """Give the torchjd object the memory that a checkpoint held, if one was loaded."""
        if self.remembers and self._saved:
            with torch.random.fork_rng(devices=[]):
                self._complete(statistic)
            _put_back(self.part, self._saved, statistic.device)
            self._saved = {}

    def _complete(self, statistic: Tensor) -> None:
        """Let a new torchjd object work, so that all that it makes at first use is there to be overwritten."""
        for _ in range(2):
            self.part(statistic)


class Remembering(FromTorchJD):
    """Whose torchjd object carries something from step to step."""

    remembers = True

    def get_extra_state(self) -> Tensor:
        """Return the memory as (n,) bytes."""
        held = save(self._saved or _memory_of(self.part))
        return torch.frombuffer(bytearray(held), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the memory that `get_extra_state` returned; it is in use from the next step on."""
        self._saved = load(state.cpu().numpy().tobytes())


class Scalarizer(FromTorchJD):
    """Weighs losses by the derivatives of a torchjd scalarizer at the losses.

    Attributes:
        scale: what the scalarizer is multiplied by to make weights of 1 the plain mean.
        smallest: what losses count as at least.
    """

    smallest: ClassVar[float | None] = None

    def __init__(self, tasks: Sequence[str], part: Any, scale: float = 1.0) -> None:
        super().__init__(tasks, part)
        self.scale = scale

    def backward(self, losses: Tensor, architecture: Architecture) -> Tensor:
        """See `Balancer.backward`; one backward pass."""
        weights = self._weights(losses.detach().clamp_min(self.smallest) if self.smallest else losses.detach().clone())
        self.weighted_backward(losses, weights, architecture)
        return weights

    def _weights(self, values: Tensor) -> Tensor:
        """Return the (T,) derivatives at (T,) losses, and give the scalarizer's own parameters theirs."""
        own = [p for p in self.parameters() if p.requires_grad]
        value = self.scale * self._ask(values.requires_grad_())
        weights, *gradients = torch.autograd.grad(value, [values, *own])
        for parameter, gradient in zip(own, gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return weights


class Combiner(FromTorchJD):
    """Combines the tasks' gradients of what they share by a torchjd weighting or aggregator.

    Args:
        tasks: their names.
        part: the torchjd object; made of the Gramian of the gradients, where `of_gramian`, else of the gradients.
        at: where the gradients are taken; see the module's beginning.

    Attributes:
        scale: what torchjd's result is: a "mean" over tasks, a "sum", or "own", of a scale of its own.
        of_gramian: whether the torchjd object takes the (T, T) Gramian, of mean diagonal 1, or the (T, P) gradients.
        gives_weights: whether it gives (T,) weights, or the (P,) combined gradient.
    """

    scale: Literal["mean", "sum", "own"] = "mean"
    of_gramian: ClassVar[bool] = True
    gives_weights: ClassVar[bool] = True

    def __init__(self, tasks: Sequence[str], part: Any, at: At = "shared") -> None:
        super().__init__(tasks, part)
        self.at = at

    def check(self, architecture: Architecture) -> None:
        """Refuse an architecture whose tasks share nothing, or have no common features where those are wanted.

        Raises:
            UserError: with the reason.
        """
        kind, name = type(architecture).__name__, type(self).__name__
        if not architecture.shared_parameters():  # where all of them are frozen, `check_share` says so
            raise UserError(
                f"{name} combines the tasks' gradients of the parameters that they share, and {kind} shares none:"
                " gradient surgery is meaningless there. Take the plain mean, or a balancer that weighs losses"
                " (`mtlbench list balancers`)."
            )
        if self.at == "representation" and type(architecture).embed is Architecture.embed:
            raise UserError(f"{name} at=representation: {kind} {_NO_PLACE}")

    @classmethod
    def acts_on(cls, architecture: Architecture) -> list[nn.Parameter]:
        """Return the shared parameters: a task's own get the plain gradient of its own loss."""
        return _trained(architecture.shared_parameters())

    def backward(self, losses: Tensor, architecture: Architecture) -> Tensor:
        """See `Balancer.backward`; the weights returned are T times those on the tasks' gradients.

        Raises:
            UserError: at=representation, and there is none in this architecture or with this sampling.
        """
        shared = _trained(architecture.shared_parameters())
        features = self._features(architecture)
        rows = self._rows(losses, architecture, shared)
        self._train_own_layers(losses, architecture)
        self.gradient_norms = rows.norm(dim=1)
        combined, weights = self._combine(rows)
        if features is None:
            _add_gradient(shared, combined)
            return weights
        torch.autograd.backward([features], [combined.view_as(features).to(features.dtype)], inputs=shared)
        if any(p.grad is None for p in shared):
            raise UserError(
                f"{type(self).__name__} at=representation: some parameters that the tasks share come after the"
                f" representation of {type(architecture).__name__}; set at=shared."
            )
        return weights

    @staticmethod
    def _train_own_layers(losses: Tensor, architecture: Architecture) -> None:
        """Give each task's own layers the plain gradient of its own loss, also where other losses reach them."""
        own = [_trained(architecture.task_parameters(t)) for t in range(len(losses))]
        if architecture.mixes_tasks:
            for loss, parameters in zip(losses, own, strict=True):
                if parameters:
                    torch.autograd.backward(loss, inputs=parameters, retain_graph=True)
        elif any(own):
            torch.autograd.backward(losses.sum(), inputs=[p for some in own for p in some], retain_graph=True)

    def _features(self, architecture: Architecture) -> Tensor | None:
        """Return where the gradients are taken, None for the shared parameters."""
        features = None if self.at == "shared" else architecture.representation
        features = features if features is not None and features.requires_grad else None  # behind frozen stages: None
        if self.at == "representation" and features is None:
            raise UserError(f"{type(self).__name__} at=representation: {type(architecture).__name__} {_NO_PLACE}")
        return features

    def _rows(self, losses: Tensor, architecture: Architecture, shared: Sequence[nn.Parameter]) -> Tensor:
        """Return the (T, P) float32 gradients where they are taken."""
        found = None if self.at == "shared" else self.task_gradients.at_representation(losses, architecture)
        if found is None:
            return self.task_gradients.at(losses, architecture, shared)
        return found.flatten(1).float()

    def _combine(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Combine (T, P) gradients: the (P,) update at the plain mean's scale and the (T,) weights for the log.

        What decides goes to the host once, and weights that come of the Gramian are found there.
        """
        tasks = len(rows)
        products = rows @ rows.T
        known = torch.cat([products.flatten(), rows.any(dim=1), rows.isfinite().all()[None]]).cpu()
        active = known[tasks * tasks : -1].bool()
        if tasks == 1 or not known[-1] or not active.any():  # one task: nothing to combine
            return rows.mean(0), rows.new_ones(tasks)
        everyone = self.remembers or bool(active.all())
        places = active.nonzero().flatten()
        there = places.to(rows.device, non_blocking=True)
        chosen = rows if everyone else rows[there]
        scale = {"mean": len(chosen) / tasks, "sum": 1 / tasks, "own": 1.0}[self.scale]
        if not self.of_gramian:
            answer = self._ask(chosen) * scale
        else:
            found = known[: tasks * tasks].view(tasks, tasks)
            found = found if everyone else found[places][:, places]
            answer = (self._ask(_to_mean_of_one(found)) * scale).to(rows.device, non_blocking=True)
        combined = answer @ chosen if self.gives_weights else answer
        on_tasks = answer if self.gives_weights else _nearest_weights(chosen, combined)
        on_active = tasks * (on_tasks[there] if everyone else on_tasks)
        return combined, on_tasks.new_ones(tasks).index_copy(0, there, on_active)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move what the balancer holds, but not the torchjd object of a Gramian: that works on the host."""
        super()._apply(fn, recurse)
        if self.of_gramian:
            self.part.to("cpu")
        return self


_NO_PLACE = (
    "shows no features that all tasks share, with triplets drawn per task or at all; set at=shared, or"
    " train.sampling='joint' where the architecture branches at one place."
)


def _trained(parameters: Any) -> list[nn.Parameter]:
    return [p for p in parameters if p.requires_grad]


def _add_gradient(parameters: Sequence[nn.Parameter], gradient: Tensor) -> None:
    """Add a (P,) gradient to the parameters' `.grad`."""
    for parameter, piece in zip(parameters, gradient.split([p.numel() for p in parameters]), strict=True):
        add_gradient(parameter, piece)


def gramian(rows: Tensor) -> Tensor:
    """Return the (T, T) products of (T, P) gradients, divided by the mean of the diagonal."""
    return _to_mean_of_one(rows @ rows.T)


def _to_mean_of_one(products: Tensor) -> Tensor:
    """Divide (T, T) products by the mean of their diagonal."""
    return products / products.diagonal().mean().clamp_min(1e-30)


def _nearest_weights(rows: Tensor, combined: Tensor) -> Tensor:
    """Return the (T,) weights whose combination of (T, P) rows is nearest to a (P,) vector."""
    weights: Tensor = torch.linalg.pinv(rows @ rows.T, hermitian=True) @ (rows @ combined)
    return weights


class Exactly(nn.Module):
    """Weights that a function finds in float64 on the CPU, where a few tasks' quadratic programs are solved exactly.

    Args:
        solve: the (T, T) Gramian -> (T,) weights.
    """

    def __init__(self, solve: Callable[[Array], Array]) -> None:
        super().__init__()
        self.solve = solve

    def forward(self, products: Tensor) -> Tensor:
        """(T, T) Gramian -> (T,) weights."""
        weights = self.solve(products.detach().double().cpu().numpy())
        return torch.from_numpy(weights).to(products)


def shortest_in_hull(gramian: Array) -> Array:
    """Return the (T,) weights, none below 0 and of sum 1, of the shortest vector in the hull of T gradients.

    With A the Gramian's root, z >= 0 that minimises `|A z|^2 + (sum z - 1)^2` points to it: along any direction w of
    sum 1 the least value is `|A w|^2 / (1 + |A w|^2)`, which rises with `|A w|`.
    """
    number = len(gramian)
    found = _nonnegative(np.vstack([_root(gramian), np.ones(number)]), np.append(np.zeros(number), 1.0))
    shares: Array = found / found.sum()
    return shares


def project_on_dual_cone(gramian: Array, weights: Array) -> Array:
    """Return the (T,) weights of the vector nearest to J^T `weights` that worsens no task, J the T gradients.

    They are `weights` + z with the z >= 0 that makes the vector shortest (Quinton and Rey, 2024, Proposition 1), found
    for gradients of length 1, so that short ones count as much as long ones.
    """
    lengths = np.sqrt(np.maximum(gramian.diagonal(), 1e-60))
    root, scaled = _root(gramian / np.outer(lengths, lengths)), weights * lengths
    size = max(float(np.abs(scaled).max()), 1e-60)
    return weights + size * _nonnegative(root, -(root @ scaled) / size) / lengths


def _root(gramian: Array) -> Array:
    values, vectors = np.linalg.eigh(gramian)
    root: Array = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    return root


def _nonnegative(matrix: Array, wanted: Array) -> Array:
    """Return the z >= 0 that minimises `|matrix z - wanted|`, exactly (Lawson and Hanson, 1974)."""
    from scipy.optimize import nnls

    found: Array = nnls(matrix, wanted, maxiter=100 * len(wanted))[0]
    return found


def combiner(name: str, tasks: Sequence[str]) -> Combiner:
    """Build a registered balancer that combines gradients, with its default options, for another to build on.

    Raises:
        UserError: it is no `Combiner`.
    """
    found = BALANCERS.get(name).target(tasks)
    if not isinstance(found, Combiner):
        raise UserError(f"The balancer '{name}' does not combine gradients by torchjd.")
    return found


class FromPreviousBatches(nn.Module):
    """Weights for one batch's gradients from the two batches before it.

    Methods with double sampling want three independent batches a step: two for the weights, whose gradients' products
    are then without bias, one for the update. Here every method gets one batch a step, so the three are those of three
    steps, and the weights come one step late. The last batch's (T, P) gradients are kept for it.
    """

    def __init__(self, weighting: nn.Module, normalise: bool) -> None:
        super().__init__()
        self.weighting, self.normalise = weighting, normalise
        self.weights: Tensor | None = None
        self.previous: Tensor | None = None

    def forward(self, rows: Tensor) -> Tensor:
        """(T, P) gradients of a batch -> (T,) weights for them."""
        used = rows.new_full((len(rows),), 1 / len(rows)) if self.weights is None else self.weights
        if self.previous is not None:
            products = self.previous @ rows.T
            if self.normalise:
                products = products / rows.square().sum(1).mean().clamp_min(1e-30)
            self.weights = self.weighting(products)
        self.previous = rows
        return used

"""The balancers of torchjd, its aggregators and its scalarizers, behind mtlbench's contract; torchjd 0.18 and later.

Quinton, Rey: Jacobian Descent for Multi-Objective Optimization, 2024 (arXiv 2406.16232); torchjd holds the formulas,
this file says what goes into them, at which scale it comes out, and what they remember between steps.

Two kinds. *Weighing losses* needs the T losses alone: one backward pass, for any architecture; a task's own layers
are trained with its weighted loss. *Combining gradients* needs the T gradients J (T, P) of what is shared; a task's
own layers get the plain gradient of its own loss, and an architecture that shares nothing is refused. Where the
gradients are taken:

    at=shared          at all shared parameters: T backward passes through everything, T x P numbers in memory.
    at=representation  at the features where the tasks branch off (`Architecture.representation`): T passes through
                       the heads, then one through the trunk. The chain rule makes the trunk's gradient the same
                       combination of the tasks' gradients, but lengths and angles are those at the features: an upper
                       bound of the conflict on the parameters (Sener and Koltun), another number, and much cheaper.
                       Needs an architecture with such a place and one batch for all tasks (joint sampling). SDMGrad,
                       MoDo and ExcessMTL remember gradients, whose places in a batch mean nothing in the next: no `at`.
    at=auto            at the representation where there is one, else at the shared parameters: what MGDA and IMTL-G do
                       by default, whose papers take gradients at the features; the others' papers don't.

Scale. Weights of 1 mean the plain mean (see `Balancer`), so what torchjd returns is brought to that scale. With T
gradients of equal length, all the same or all at right angles, each method then takes the plain mean's step, except
where the last column says otherwise; a hidden learning rate would pass for a better method.

    method          torchjd's weights        here           of a scale of its own, by design, which is kept
    rlw, famo       sum to 1                 times T
    geometric-mean  G / (T L_i)              times T        G / L_i with the geometric mean G: their sum is above T
    stch            sum to 1/T               times T^2
    uw              exp(-s_i) / 2            times 2        1 at the start, then learned
    dwa             sum to T                 as they are
    imtl-l          exp(s_i)                 as they are    1 at the start, then learned
    mgda            sum to 1                 as a mean      the shortest vector of the hull: shorter the more conflict
    imtl-g          sum to 1                 as a mean      equal projections; weights below 0 make it long or short
    aligned-mtl     mean, aligned            as a mean      all gradients are cut to the weakest direction
    cagrad          1/T + c ...              as a mean      1 + c times the mean where tasks agree
    upgrad          mean of projections      as a mean      longer than the mean in conflict
    dualproj        projected mean           as a mean
    sdmgrad, modo   sum to 1                 as a mean
    excess-mtl      sum to 1                 as a mean
    pcgrad, gradvac sum over tasks           divided by T
    config          length: sum over tasks   divided by T
    graddrop        sum over tasks           divided by T
    cr-mogm         those of its base        as its base's
    nash-mtl        G a = 1/a, cut off       as they are    at most `max_norm` long, whatever the gradients' length
    fairgrad        G w = w^(-1/alpha)       as they are    hardly depends on the gradients' length

The weights returned for the log are T times those on the tasks' gradients; for ConFIG and GradDrop, which have none,
the least-squares weights of the gradient they return.

Zero losses. A triplet loss reaches 0, where the papers' losses stay above it. Where a formula divides by a loss or
takes its logarithm (geometric-mean, famo, dwa), losses count as at least 0.001. A task without a gradient in this batch
waits: methods without memory combine the other n tasks' gradients as if they were alone, n/T as large, and its weight
is given as 1. (With MGDA as written, one task at 0 would stop all.) Methods with memory see its zero gradient.

Numbers. Gradients of a triplet loss are small: 1e-4 is a usual length. Gramians are divided by the mean of their
diagonal first, since several solvers regard small ones as 0; the weights don't depend on it, but FairGrad's, which are
scaled back. Gradients that are not finite are handed on as their mean, for the run to stop on.

Packages. cagrad, nash-mtl, dualproj and upgrad need solvers that torchjd leaves optional, fairgrad SciPy. Without them
`architecture+name` says what to install, and `name` alone is no method, so that groups hold only what can be run.

Left out: Mean, Sum and Constant (here `mean` and `static`); the aggregator Random (`rlw`, at T times the cost); Krum
and TrimmedMean, which guard against faulty workers and discard tasks for it; PCD, which wants one task above the
others; COSMOS and PBI, which trace a Pareto front over preferences and give weights below 0 to tasks ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from mtlbench import Architecture, Balancer, UserError, register_balancer, register_method

At = Literal["auto", "shared", "representation"]
SMALLEST_LOSS = 1e-3
_PACKAGES = {  # beside torchjd, which doesn't bring them itself
    "cagrad": ("cvxpy", "clarabel"),
    "dualproj": ("qpsolvers", "quadprog"),
    "fairgrad": ("scipy",),
    "nash-mtl": ("cvxpy", "ecos"),
    "upgrad": ("qpsolvers", "quadprog"),
}


def _missing(method: str) -> list[str]:
    """Return the packages that a balancer needs and that are not installed."""
    return [package for package in ("torchjd", *_PACKAGES.get(method, ())) if find_spec(package) is None]


def _cite(key: str, authors: str, title: str, venue: str, year: int, arxiv: str = "") -> str:
    """Return a BibTeX entry: of proceedings, of a journal, or of arXiv alone when there is no venue."""
    kind, place = ("misc", "") if not venue else ("inproceedings", f"\n  booktitle = {{{venue}}},")
    if venue.startswith(("Journal", "Transactions")):
        kind, place = "article", f"\n  journal = {{{venue}}},"
    eprint = f"\n  eprint = {{{arxiv}}},\n  archivePrefix = {{arXiv}}," if arxiv else ""
    return (
        f"@{kind}{{{key},\n  author = {{{authors}}},\n  title = {{{title}}},{place}\n  year = {{{year}}},{eprint}\n}}"
    )


def _make(method: str, what: str, *values: Any, **options: Any) -> Any:
    """Build torchjd's `what`, `module.Class`, for the balancer `method`; torchjd is imported here and no earlier.

    Raises:
        UserError: torchjd, this class of it or a package that it needs is missing, or torchjd refuses a value.
    """
    missing = _missing(method)
    if missing:
        raise UserError(f"{method} needs {' and '.join(missing)}: pip install {' '.join(missing)}.")
    module, name = what.split(".")
    found = getattr(import_module(f"torchjd.{module}"), name, None)
    if found is None:
        raise UserError(f"{method}: the installed torchjd has no {name}: pip install -U 'torchjd>=0.18'.")
    try:
        return found(*values, **options)
    except ImportError as error:
        raise UserError(f"{method}: {error}") from error
    except ValueError as error:
        raise UserError(f"{method}: torchjd refuses an option: {error}") from error


# --- memory -----------------------------------------------------------------------------------------------------------


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


class _FromTorchJD(Balancer):
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


class _Remembering(_FromTorchJD):
    """Whose torchjd object carries something from step to step."""

    remembers = True

    def get_extra_state(self) -> Tensor:
        """Return the memory as (n,) bytes."""
        held = save(self._saved or _memory_of(self.part))
        return torch.frombuffer(bytearray(held), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the memory that `get_extra_state` returned; it is in use from the next step on."""
        self._saved = load(state.cpu().numpy().tobytes())


# --- weighing losses --------------------------------------------------------------------------------------------------


class _Scalarizer(_FromTorchJD):
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


@register_balancer(
    "uw",
    cite=_cite(
        "kendall2018uncertainty",
        "Kendall, Alex and Gal, Yarin and Cipolla, Roberto",
        "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics",
        "Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition (CVPR)",
        2018,
        "1705.07115",
    ),
)
class UncertaintyWeighting(_Scalarizer):
    """Uncertainty weighting: weights that are learned as the tasks' inverse variances.

    Kendall, Gal, Cipolla, CVPR 2018. Minimises sum_i exp(-s_i) L_i + s_i over the network and s_i = log sigma_i^2, all
    0 at the start: twice the paper's objective, so that weights start at 1. At rest, exp(-s_i) = 1 / L_i: as losses
    fall, weights rise.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(tasks, _make("uw", "scalarization.UW", len(tasks)), 2.0)


_IMTL = _cite(
    "liu2021imtl",
    "Liu, Liyang and Li, Yi and Kuang, Zhanghui and Xue, Jing-Hao and Chen, Yimin and Yang, Wenming and"
    " Liao, Qingmin and Zhang, Wayne",
    "Towards Impartial Multi-task Learning",
    "International Conference on Learning Representations (ICLR)",
    2021,
)


@register_balancer("imtl-l", cite=_IMTL)
class IMTLL(_Scalarizer):
    """IMTL-L: weights exp(s_i), learned, that bring the weighted losses together.

    Liu et al., ICLR 2021. Minimises sum_i exp(s_i) L_i - s_i over the network and s, 0 at the start. That is
    uncertainty weighting with s negated: the two differ in name alone, once `uw` is brought to the same scale.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(tasks, _make("imtl-l", "scalarization.IMTLL", len(tasks)))


@register_balancer(
    "dwa",
    cite=_cite(
        "liu2019mtan",
        "Liu, Shikun and Johns, Edward and Davison, Andrew J.",
        "End-to-End Multi-Task Learning with Attention",
        "Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
        2019,
        "1803.10704",
    ),
)
class DWA(_Remembering, _Scalarizer):
    """Dynamic weight average: a task whose loss falls slowly weighs more.

    Liu, Johns, Davison, CVPR 2019. w_i = T softmax(r / temperature)_i, r_i = the mean loss of the latest epoch over
    that of the one before; 1 for the first two. Triplets are drawn without end, so an epoch here is `every` steps.
    Losses count as at least 0.001.

    Args:
        temperature: larger brings the weights nearer to 1; paper: 2.
        every: steps over which losses are averaged, and after which the weights change.
    """

    smallest = SMALLEST_LOSS
    steps: Tensor

    def __init__(self, tasks: Sequence[str], *, temperature: float = 2.0, every: int = 100) -> None:
        if every < 1:
            raise UserError(f"dwa: every={every} must be 1 step or more.")
        super().__init__(tasks, _make("dwa", "scalarization.DWA", temperature=temperature))
        self.every = every
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def _weights(self, values: Tensor) -> Tensor:
        weights = super()._weights(values)
        self.steps += 1
        if int(self.steps) % self.every == 0:
            self.part.step()
        return weights


@register_balancer(
    "rlw",
    cite=_cite(
        "lin2022rlw",
        "Lin, Baijiong and Ye, Feiyang and Zhang, Yu and Tsang, Ivor W.",
        "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning",
        "Transactions on Machine Learning Research",
        2022,
        "2111.10603",
    ),
)
class RandomLossWeighting(_Scalarizer):
    """Random loss weighting: weights T softmax(z), z drawn from a normal distribution at every step.

    Lin, Ye, Zhang, Tsang, TMLR 2022: what any cleverer weighting should beat.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(tasks, _make("rlw", "scalarization.Random"), len(tasks))


@register_balancer(
    "geometric-mean",
    cite=_cite(
        "chennupati2019multinet",
        "Chennupati, Sumanth and Sistu, Ganesh and Yogamani, Senthil and Rawashdeh, Samir A.",
        "MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy for Multi-Task Learning",
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition Workshops (CVPRW)",
        2019,
        "1904.08492",
    ),
)
class GeometricMean(_Scalarizer):
    """The geometric mean of the losses: equal relative improvements count the same.

    Chennupati, Sistu, Yogamani, Rawashdeh, CVPR workshops 2019 (geometric loss strategy, GLS). w_i = G / L_i, with the
    geometric mean G. Losses count as at least 0.001.
    """

    smallest = SMALLEST_LOSS

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(tasks, _make("geometric-mean", "scalarization.GeometricMean"), len(tasks))


@register_balancer(
    "stch",
    cite=_cite(
        "lin2024stch",
        "Lin, Xi and Zhang, Xiaoyuan and Yang, Zhiyuan and Liu, Fei and Wang, Zhenkun and Zhang, Qingfu",
        "Smooth Tchebycheff Scalarization for Multi-Objective Optimization",
        "International Conference on Machine Learning (ICML)",
        2024,
        "2402.19078",
    ),
)
class STCH(_Scalarizer):
    """Smooth Tchebycheff: a smooth maximum of the losses, the worst task weighs most.

    Lin et al., ICML 2024. mu log sum_i exp(L_i / (T mu)), with equal preferences 1/T and 0 as the ideal point:
    w_i = T softmax(L / (T mu))_i.

    Args:
        mu: smoothness; smaller is nearer to the maximum alone. The paper tries 0.01, 0.1, 0.5 and 1 and has no single
            best; 0.01 is what makes a difference between triplet losses, which lie between 0 and 0.2.
    """

    def __init__(self, tasks: Sequence[str], *, mu: float = 0.01) -> None:
        super().__init__(tasks, _make("stch", "scalarization.STCH", mu=mu), len(tasks) ** 2)


@register_balancer(
    "famo",
    cite=_cite(
        "liu2023famo",
        "Liu, Bo and Feng, Yihao and Stone, Peter and Liu, Qiang",
        "FAMO: Fast Adaptive Multitask Optimization",
        "Advances in Neural Information Processing Systems (NeurIPS)",
        2023,
        "2306.03792",
    ),
)
class FAMO(_Remembering, _Scalarizer):
    """FAMO: all losses shall fall at the same relative rate, judged by the losses alone.

    Liu, Feng, Stone, Liu, NeurIPS 2023. w_i = T (z_i / L_i) / sum_j (z_j / L_j) with z = softmax(xi), and after each
    step Adam moves xi along the rates log L_i(before) - log L_i(after).

    Deviations: the paper evaluates the batch again after the step, a second forward pass that no other method gets;
    here the losses of the next batch stand for those after the step, so the rates carry the noise between two batches.
    Losses count as at least 0.001. A task at 0 would still take nearly all of the weight and leave the step idle: its
    weight goes to the others in proportion, and is given as 1.

    Args:
        lr: of xi; paper: 0.025.
        decay: weight decay of xi; paper: 0.001.
    """

    steps: Tensor

    def __init__(self, tasks: Sequence[str], *, lr: float = 0.025, decay: float = 1e-3) -> None:
        part = _make("famo", "scalarization.FAMO", len(tasks), lr=lr, weight_decay=decay)
        super().__init__(tasks, part, len(tasks))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def backward(self, losses: Tensor, architecture: Architecture) -> Tensor:
        """See `Balancer.backward`; one backward pass."""
        values = losses.detach().clamp_min(SMALLEST_LOSS)
        self._recall(values)
        if self.steps > 0:
            self.part.update(values)
        self.steps += 1
        weights = self._weights(values)
        active = losses.detach() > 0
        among = torch.where(active, weights, 0.0)
        weights = torch.where(active, among * (active.sum() / among.sum().clamp_min(1e-30)), 1.0)
        self.weighted_backward(losses, weights, architecture)
        return weights

    def _complete(self, statistic: Tensor) -> None:
        super()._complete(statistic)
        self.part.update(statistic)


# --- combining gradients ----------------------------------------------------------------------------------------------


class _Combiner(_FromTorchJD):
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
        self.gradient_norms = torch.zeros(len(tasks))

    def check(self, architecture: Architecture) -> None:
        """Refuse an architecture whose tasks share nothing, or have no common features where those are wanted.

        Raises:
            UserError: with the reason.
        """
        kind, name = type(architecture).__name__, type(self).__name__
        if not _trained(architecture.shared_parameters()):
            raise UserError(
                f"{name} combines the tasks' gradients of the parameters that they share, and {kind} shares none:"
                " gradient surgery is meaningless there. Take the plain mean, or a balancer that weighs losses, such as"
                " uw."
            )
        if self.at == "representation" and type(architecture).embed is Architecture.embed:
            raise UserError(f"{name} at=representation: {kind} {_NO_PLACE}")

    def backward(self, losses: Tensor, architecture: Architecture) -> Tensor:
        """See `Balancer.backward`; the weights returned are T times those on the tasks' gradients.

        Raises:
            UserError: at=representation, and there is none in this architecture or with this sampling.
        """
        shared = _trained(architecture.shared_parameters())
        own = _trained(p for t in range(len(losses)) for p in architecture.task_parameters(t))
        features = self._features(architecture)
        rows = _gradients(losses, shared if features is None else [features])
        if own:
            torch.autograd.backward(losses.sum(), inputs=own, retain_graph=True)
        self.gradient_norms = rows.norm(dim=1)
        combined, weights = self._combine(rows)
        if features is None:
            _add_gradient(shared, combined)
            return weights
        torch.autograd.backward([features], [combined.view_as(features).to(features.dtype)], inputs=shared)
        if any(p.grad is None for p in shared):
            raise UserError(
                f"{type(self).__name__} at=representation: some parameters that the tasks share lie behind the"
                f" representation of {type(architecture).__name__}; set at=shared."
            )
        return weights

    def _features(self, architecture: Architecture) -> Tensor | None:
        """Return where the gradients are taken, None for the shared parameters."""
        features = None if self.at == "shared" else architecture.representation
        if self.at == "representation" and (features is None or not features.requires_grad):
            raise UserError(f"{type(self).__name__} at=representation: {type(architecture).__name__} {_NO_PLACE}")
        return features

    def _combine(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Combine (T, P) gradients: the (P,) update at the plain mean's scale and the (T,) weights for the log."""
        tasks = len(rows)
        weights = rows.new_ones(tasks)
        active = rows.any(dim=1)
        if tasks == 1 or not rows.isfinite().all() or not active.any():  # one task: nothing to combine
            return rows.mean(0), weights
        chosen = rows if self.remembers or active.all() else rows[active]
        scale = {"mean": len(chosen) / tasks, "sum": 1 / tasks, "own": 1.0}[self.scale]
        answer = self._ask(_gramian(chosen) if self.of_gramian else chosen) * scale
        combined = answer @ chosen if self.gives_weights else answer
        on_tasks = answer if self.gives_weights else _nearest_weights(chosen, combined)
        if len(chosen) == tasks:
            weights = torch.where(active, tasks * on_tasks, 1.0)
        else:
            weights[active] = tasks * on_tasks
        return combined, weights


_NO_PLACE = (
    "shows no features that all tasks share, with triplets drawn per task or at all; set at=shared, or"
    " train.sampling='joint' where the architecture branches at one place."
)


def _trained(parameters: Any) -> list[nn.Parameter]:
    return [p for p in parameters if p.requires_grad]


def _gradients(losses: Tensor, places: Sequence[Tensor]) -> Tensor:
    """Return the (T, P) float32 gradients of (T,) losses at all places, flattened and joined."""
    rows = []
    for loss in losses:
        found = torch.autograd.grad(loss, places, retain_graph=True, allow_unused=True)
        parts = [torch.zeros_like(p) if g is None else g for p, g in zip(places, found, strict=True)]
        rows.append(torch.cat([part.flatten().float() for part in parts]))
    return torch.stack(rows)


def _add_gradient(parameters: Sequence[nn.Parameter], gradient: Tensor) -> None:
    """Add a (P,) gradient to `.grad`, laid out in memory as its parameter: fused optimisers take that for granted."""
    for parameter, piece in zip(parameters, gradient.split([p.numel() for p in parameters]), strict=True):
        part = torch.empty_like(parameter).copy_(piece.view_as(parameter))
        parameter.grad = part if parameter.grad is None else parameter.grad + part


def _gramian(rows: Tensor) -> Tensor:
    gramian = rows @ rows.T
    return gramian / gramian.diagonal().mean().clamp_min(1e-30)


def _nearest_weights(rows: Tensor, combined: Tensor) -> Tensor:
    """Return the (T,) weights whose combination of (T, P) rows is nearest to a (P,) vector."""
    weights: Tensor = torch.linalg.pinv(rows @ rows.T, hermitian=True) @ (rows @ combined)
    return weights


@register_balancer(
    "mgda",
    cite=_cite(
        "sener2018mgda",
        "Sener, Ozan and Koltun, Vladlen",
        "Multi-Task Learning as Multi-Objective Optimization",
        "Advances in Neural Information Processing Systems (NeurIPS)",
        2018,
        "1810.04650",
    ),
)
class MGDA(_Combiner):
    """MGDA: the shortest vector in the convex hull of the tasks' gradients, which worsens no task.

    Desideri, Comptes Rendus Mathematique, 2012; Sener, Koltun, NeurIPS 2018, whose upper bound MGDA-UB is the default
    place, their Frank-Wolfe solver (Algorithm 2) is torchjd's. Gradients are not normalised.

    Args:
        at: where gradients are taken.
    """

    def __init__(self, tasks: Sequence[str], *, at: At = "auto") -> None:
        super().__init__(tasks, _make("mgda", "aggregation.MGDAWeighting"), at)


@register_balancer("imtl-g", cite=_IMTL)
class IMTLG(_Combiner):
    """IMTL-G: the combination whose projections on all tasks' gradient directions are equal.

    Liu et al., ICLR 2021, at the shared features as there; in torchjd's form, which allows for dependent gradients.
    Weights sum to T and may lie below 0; near a sum of 0 before that, they are large.

    Args:
        at: where gradients are taken.
    """

    def __init__(self, tasks: Sequence[str], *, at: At = "auto") -> None:
        super().__init__(tasks, _make("imtl-g", "aggregation.IMTLGWeighting"), at)


@register_balancer(
    "pcgrad",
    cite=_cite(
        "yu2020pcgrad",
        "Yu, Tianhe and Kumar, Saurabh and Gupta, Abhishek and Levine, Sergey and Hausman, Karol and Finn, Chelsea",
        "Gradient Surgery for Multi-Task Learning",
        "Advances in Neural Information Processing Systems (NeurIPS)",
        2020,
        "2001.06782",
    ),
)
class PCGrad(_Combiner):
    """PCGrad: each gradient loses what points against another task's, in random order; then their mean.

    Yu et al., NeurIPS 2020, Algorithm 1; the sum there, the mean here.

    Args:
        at: where gradients are taken.
    """

    scale = "sum"

    def __init__(self, tasks: Sequence[str], *, at: At = "shared") -> None:
        super().__init__(tasks, _make("pcgrad", "aggregation.PCGradWeighting"), at)


@register_balancer(
    "gradvac",
    cite=_cite(
        "wang2021gradvac",
        "Wang, Zirui and Tsvetkov, Yulia and Firat, Orhan and Cao, Yuan",
        "Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively Multilingual Models",
        "International Conference on Learning Representations (ICLR)",
        2021,
        "2010.05874",
    ),
)
class GradVac(_Remembering, _Combiner):
    """GradVac: each gradient is turned until its cosine with each other is what it has been on average.

    Wang, Tsvetkov, Firat, Cao, ICLR 2021; the mean of the turned gradients. One cosine per pair of tasks, over all
    parameters at once (the paper also does so layer by layer).

    Args:
        beta: what the latest cosine counts in the moving average, from 0 to 1; torchjd: 0.5.
        at: where gradients are taken.
    """

    scale = "sum"

    def __init__(self, tasks: Sequence[str], *, beta: float = 0.5, at: At = "shared") -> None:
        super().__init__(tasks, _make("gradvac", "aggregation.GradVacWeighting", beta=beta), at)


@register_balancer(
    "cagrad",
    cite=_cite(
        "liu2021cagrad",
        "Liu, Bo and Liu, Xingchao and Jin, Xiaojie and Stone, Peter and Liu, Qiang",
        "Conflict-Averse Gradient Descent for Multi-task Learning",
        "Advances in Neural Information Processing Systems (NeurIPS)",
        2021,
        "2110.14048",
    ),
)
class CAGrad(_Combiner):
    """CAGrad: near the mean gradient, the step that helps the worst task most (needs cvxpy and clarabel).

    Liu, Liu, Jin, Stone, Liu, NeurIPS 2021: g_0 + c |g_0| g_w / |g_w|, not rescaled afterwards: where the tasks agree,
    the step is 1 + c times the mean's.

    Args:
        c: radius of the neighbourhood as a share of the mean's length, 0 or more and below 1; 0 is the mean.
        at: where gradients are taken.
    """

    own_scale = True

    def __init__(self, tasks: Sequence[str], *, c: float = 0.5, at: At = "shared") -> None:
        if not 0 <= c < 1:
            raise UserError(f"cagrad: c={c} must be 0 or more and below 1.")
        part = _make("cagrad", "aggregation.CAGradWeighting", c)
        super().__init__(tasks, part, at)


@register_balancer(
    "nash-mtl",
    cite=_cite(
        "navon2022nashmtl",
        "Navon, Aviv and Shamsian, Aviv and Achituve, Idan and Maron, Haggai and Kawaguchi, Kenji and Chechik, Gal and"
        " Fetaya, Ethan",
        "Multi-Task Learning as a Bargaining Game",
        "International Conference on Machine Learning (ICML)",
        2022,
        "2202.01017",
    ),
)
class NashMTL(_Remembering, _Combiner):
    """Nash-MTL: the step on which the tasks would agree in a bargaining game (needs cvxpy and ecos).

    Navon et al., ICML 2022: weights a with G a = 1/a, G the Gramian, found from the previous step's on.

    Args:
        max_norm: the update's greatest length; 0 for no limit. The update's length does not follow the gradients', so
            this is a part of the learning rate.
        every: steps from one solution to the next.
        iterations: of the solver, at most.
        at: where gradients are taken.
    """

    scale = "own"
    of_gramian = False
    own_scale = True

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        max_norm: float = 1.0,
        every: int = 1,
        iterations: int = 20,
        at: At = "shared",
    ) -> None:
        limits: dict[str, Any] = {"max_norm": max_norm, "update_weights_every": every, "optim_niter": iterations}
        made = _make("nash-mtl", "aggregation.NashMTL", len(tasks), **limits)
        super().__init__(tasks, made.weighting, at)


@register_balancer(
    "aligned-mtl",
    cite=_cite(
        "senushkin2023aligned",
        "Senushkin, Dmitry and Patakin, Nikolay and Kuznetsov, Arseny and Konushin, Anton",
        "Independent Component Alignment for Multi-Task Learning",
        "Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
        2023,
        "2305.19000",
    ),
)
class AlignedMTL(_Combiner):
    """Aligned-MTL: the gradients' principal components are made equally long, then the mean is taken.

    Senushkin, Patakin, Kuznetsov, Konushin, CVPR 2023, Algorithm 1.

    Args:
        length: what the components are brought to: the least singular value above 0 ("min", as in the paper), the
            "median", or "rmse", their root mean square (as in the authors' code).
        at: where gradients are taken.
    """

    def __init__(
        self, tasks: Sequence[str], *, length: Literal["min", "median", "rmse"] = "min", at: At = "shared"
    ) -> None:
        super().__init__(tasks, _make("aligned-mtl", "aggregation.AlignedMTLWeighting", scale_mode=length), at)


@register_balancer(
    "config",
    cite=_cite(
        "liu2025config",
        "Liu, Qiang and Chu, Mengyu and Thuerey, Nils",
        "ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks",
        "International Conference on Learning Representations (ICLR)",
        2025,
        "2408.11104",
    ),
)
class ConFIG(_Combiner):
    """ConFIG: the direction with equal cosines to all gradients, as long as their projections on it are together.

    Liu, Chu, Thuerey, ICLR 2025, Equation 2; the sum of the projections there, their mean here.

    Args:
        at: where gradients are taken.
    """

    scale = "sum"
    of_gramian = False
    gives_weights = False

    def __init__(self, tasks: Sequence[str], *, at: At = "shared") -> None:
        super().__init__(tasks, _make("config", "aggregation.ConFIG"), at)


@register_balancer(
    "dualproj",
    cite=_cite(
        "lopezpaz2017gem",
        "Lopez-Paz, David and Ranzato, Marc'Aurelio",
        "Gradient Episodic Memory for Continual Learning",
        "Advances in Neural Information Processing Systems (NIPS)",
        2017,
        "1706.08840",
    ),
)
class DualProj(_Combiner):
    """DualProj: the mean gradient, moved as little as it takes to worsen no task (needs quadprog and qpsolvers).

    Lopez-Paz, Ranzato, NIPS 2017, Equation 11: the mean's projection on the cone of directions without conflict.

    Args:
        at: where gradients are taken.
    """

    def __init__(self, tasks: Sequence[str], *, at: At = "shared") -> None:
        part = _make("dualproj", "aggregation.DualProjWeighting")
        super().__init__(tasks, part, at)


@register_balancer(
    "upgrad",
    cite=_cite(
        "quinton2024jacobian",
        "Quinton, Pierre and Rey, Val{\\'e}rian",
        "Jacobian Descent for Multi-Objective Optimization",
        "",
        2024,
        "2406.16232",
    ),
)
class UPGrad(_Combiner):
    """UPGrad: each gradient, moved as little as it takes to worsen no task; their mean (needs quadprog and qpsolvers).

    Quinton, Rey, 2024: the projections of the tasks' gradients on the cone of directions without conflict.

    Args:
        at: where gradients are taken.
    """

    def __init__(self, tasks: Sequence[str], *, at: At = "shared") -> None:
        part = _make("upgrad", "aggregation.UPGradWeighting")
        super().__init__(tasks, part, at)


@register_balancer(
    "graddrop",
    cite=_cite(
        "chen2020graddrop",
        "Chen, Zhao and Ngiam, Jiquan and Huang, Yanping and Luong, Thang and Kretzschmar, Henrik and Chai, Yuning and"
        " Anguelov, Dragomir",
        "Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout",
        "Advances in Neural Information Processing Systems (NeurIPS)",
        2020,
        "2010.06808",
    ),
)
class GradDrop(_Combiner):
    """GradDrop: each number of the gradient follows the tasks of one sign, drawn by how pure that sign is.

    Chen et al., NeurIPS 2020, Algorithm 1, lines 10 to 15; the sum there, the mean here. What the paper does before
    these lines at a layer of features, with their signs and over the batch, torchjd leaves out.

    Args:
        at: where gradients are taken.
    """

    scale = "sum"
    of_gramian = False
    gives_weights = False

    def __init__(self, tasks: Sequence[str], *, at: At = "shared") -> None:
        super().__init__(tasks, _make("graddrop", "aggregation.GradDrop"), at)


@register_balancer(
    "fairgrad",
    cite=_cite(
        "ban2024fairgrad",
        "Ban, Hao and Ji, Kaiyi",
        "Fair Resource Allocation in Multi-Task Learning",
        "International Conference on Machine Learning (ICML)",
        2024,
        "2402.15638",
    ),
)
class FairGrad(_Combiner):
    """FairGrad: the step that shares progress between tasks by alpha-fairness (needs scipy).

    Ban, Ji, ICML 2024, Equation 4: weights with G w = w^(-1/alpha). The Gramian is divided by s, the mean of its
    diagonal, and the solution multiplied by s^(-alpha / (alpha + 1)): the same w, but the solver's tolerances are
    absolute and would stop it early where gradients are small.

    Args:
        alpha: above 0: 1 is proportional fairness, larger goes towards max-min fairness.
        at: where gradients are taken.
    """

    scale = "own"
    of_gramian = False
    own_scale = True

    def __init__(self, tasks: Sequence[str], *, alpha: float = 1.0, at: At = "shared") -> None:
        if alpha <= 0:
            raise UserError(f"fairgrad: alpha={alpha} must be above 0.")
        super().__init__(tasks, _make("fairgrad", "aggregation.FairGradWeighting", alpha), at)
        self.alpha = alpha

    def _ask(self, statistic: Tensor) -> Tensor:
        size = statistic.square().sum(1).mean().clamp_min(1e-30)
        return super()._ask(_gramian(statistic)) * size.pow(-self.alpha / (self.alpha + 1))


class _FromPreviousBatches(nn.Module):
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


@register_balancer(
    "sdmgrad",
    cite=_cite(
        "xiao2023sdmgrad",
        "Xiao, Peiyao and Ban, Hao and Ji, Kaiyi",
        "Direction-oriented Multi-objective Learning: Simple and Provable Stochastic Algorithms",
        "Advances in Neural Information Processing Systems (NeurIPS)",
        2023,
        "2305.18409",
    ),
)
class SDMGrad(_Remembering, _Combiner):
    """SDMGrad: a short vector of the gradients' hull, pulled towards their mean, from double sampling.

    Xiao, Ban, Ji, NeurIPS 2023. Gradients at all shared parameters, and those of the latest batch stay in memory.

    Deviations: the three batches of one step are those of three steps (see `_FromPreviousBatches`).

    Args:
        pull: towards the mean gradient, 0 or more (lambda in the paper); in the authors' experiments: 0.3.
        lr: of the inner descent on the weights.
        momentum: of the inner descent.
        iterations: of the inner descent, at every step.
    """

    of_gramian = False

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        pull: float = 0.3,
        lr: float = 10.0,
        momentum: float = 0.5,
        iterations: int = 20,
    ) -> None:
        inner: dict[str, Any] = {"lr": lr, "momentum": momentum, "n_iter": iterations, "lambda_": pull}
        weighting = _make("sdmgrad", "aggregation.SDMGradWeighting", **inner)
        super().__init__(tasks, _FromPreviousBatches(weighting, normalise=True))


@register_balancer(
    "modo",
    cite=_cite(
        "chen2024modo",
        "Chen, Lisha and Fernando, Heshan and Ying, Yiming and Chen, Tianyi",
        "Three-Way Trade-Off in Multi-Objective Learning: Optimization, Generalization and Conflict-Avoidance",
        "Journal of Machine Learning Research",
        2024,
        "2305.20057",
    ),
)
class MoDo(_Remembering, _Combiner):
    """MoDo: MGDA's weights by one small step at a time, from double sampling.

    Chen, Fernando, Ying, Chen, JMLR 2024. Gradients at all shared parameters, and those of the latest batch stay in
    memory. The step on the weights is in the gradients' own units, so small gradients leave them near the mean.

    Deviations: the three batches of one step are those of three steps (see `_FromPreviousBatches`).

    Args:
        gamma: learning rate of the weights.
        rho: their l2 regularisation, 0 or more.
    """

    of_gramian = False

    def __init__(self, tasks: Sequence[str], *, gamma: float = 0.1, rho: float = 0.1) -> None:
        weighting = _make("modo", "aggregation.MoDoWeighting", gamma=gamma, rho=rho)
        super().__init__(tasks, _FromPreviousBatches(weighting, normalise=False))


@register_balancer(
    "excess-mtl",
    cite=_cite(
        "he2024excessmtl",
        "He, Yifei and Zhou, Shiji and Zhang, Guojun and Yun, Hyokun and Xu, Yi and Zeng, Belinda and"
        " Chilimbi, Trishul and Zhao, Han",
        "Robust Multi-Task Learning with Excess Risks",
        "International Conference on Machine Learning (ICML)",
        2024,
        "2402.02009",
    ),
)
class ExcessMTL(_Remembering, _Combiner):
    """ExcessMTL: tasks far from their own optimum weigh more, judged by gradients in an AdaGrad-like metric.

    He et al., ICML 2024. Gradients at all shared parameters; the sums of their squares, (T, P) numbers, stay in memory.
    A task whose first gradient is 0 has no baseline and soon takes all of the weight; `warmup` is the remedy.

    Args:
        step: of the exponentiated gradient on the weights. The excess grows with the number of parameters: with 600,000
            of them, 1 (torchjd's value) gives one task all of the weight at the first step, where 0.001 trains.
        warmup: steps with equal weights, whose mean excess risk is the baseline; 0 takes the first step's, as the
            authors' code does. The paper's appendix recommends three epochs.
    """

    of_gramian = False

    def __init__(self, tasks: Sequence[str], *, step: float = 1.0, warmup: int = 0) -> None:
        options: dict[str, Any] = {"robust_step_size": step, "n_warmup_steps": warmup}
        super().__init__(tasks, _make("excess-mtl", "aggregation.ExcessMTLWeighting", **options))


_SMOOTHED: dict[str, Any] = {
    "mgda": MGDA,
    "imtl-g": IMTLG,
    "pcgrad": PCGrad,
    "cagrad": CAGrad,
    "aligned-mtl": AlignedMTL,
    "dualproj": DualProj,
    "upgrad": UPGrad,
}


@register_balancer(
    "cr-mogm",
    cite=_cite(
        "zhou2022crmogm",
        "Zhou, Shiji and Zhang, Wenpeng and Jiang, Jiyan and Zhong, Wenliang and Gu, Jinjie and Zhu, Wenwu",
        "On the Convergence of Stochastic Multi-Objective Gradient Manipulation and Beyond",
        "Advances in Neural Information Processing Systems (NeurIPS)",
        2022,
    ),
)
class CRMOGM(_Remembering, _Combiner):
    """CR-MOGM: another method's weights, smoothed over steps.

    Zhou et al., NeurIPS 2022: an exponential moving average, which starts at the first weights. The paper lets alpha
    grow as the learning rate falls; here it is constant.

    Args:
        base: the method whose weights are smoothed, with its default options.
        alpha: what the past counts, from 0, no smoothing, to 1, weights that stay as they began; torchjd: 0.9.
        at: where gradients are taken.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        base: Literal["mgda", "imtl-g", "pcgrad", "cagrad", "aligned-mtl", "dualproj", "upgrad"] = "mgda",
        alpha: float = 0.9,
        at: At = "shared",
    ) -> None:
        smoothed = _SMOOTHED[base](tasks)
        part = _make("cr-mogm", "aggregation.CRMOGMWeighting", smoothed.part, alpha)
        super().__init__(tasks, part, at)
        self.scale = smoothed.scale


for _name, _what in {
    "uw": "uncertainty weighting",
    "imtl-l": "IMTL-L's learned weights",
    "dwa": "dynamic weight average",
    "rlw": "random loss weights",
    "geometric-mean": "the geometric mean of losses",
    "stch": "the smooth Tchebycheff maximum of losses",
    "famo": "FAMO",
    "mgda": "MGDA, at the representation",
    "imtl-g": "IMTL-G, at the representation",
    "pcgrad": "PCGrad",
    "gradvac": "GradVac",
    "cagrad": "CAGrad",
    "nash-mtl": "Nash-MTL",
    "aligned-mtl": "Aligned-MTL",
    "config": "ConFIG",
    "dualproj": "DualProj",
    "upgrad": "UPGrad",
    "graddrop": "GradDrop",
    "fairgrad": "FairGrad",
    "sdmgrad": "SDMGrad",
    "modo": "MoDo",
    "excess-mtl": "ExcessMTL",
    "cr-mogm": "MGDA's weights, smoothed (CR-MOGM)",
}.items():
    if not _missing(_name):  # a group with methods that can't be built would stop at them
        register_method(
            _name,
            architecture="shared",
            balancer=_name,
            groups=("balancers",),
            summary=f"The shared trunk with {_what}.",
        )

"""One run: a method trained on a data set with one seed, the best checkpoint chosen on the validation split.

The loop prints nothing, writes no record, and never sees the test split.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlbench.agreement import cosines, gramians, preserved_state
from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.data.table import SPLITS
from mtlbench.data.triplets import ListedTriplets, TripletSampler, joint_triplets
from mtlbench.devices import computing_in, named_generator
from mtlbench.evaluation.collapse import collapsed_tasks
from mtlbench.evaluation.selection import criterion
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.losses.triplet import triplet_losses
from mtlbench.networks import build, embed_images, load_state, state_of
from mtlbench.specs import Method
from mtlbench.training.schedules import schedule_factor
from mtlbench.training.state import Interrupted, Progress, State, TrainingError

CURVE_ROWS = 1000  # a longer run's curve holds means over windows of steps
VERSION = 1  # raised when the same settings come to train otherwise: older records are then no longer the same run
_CHECK_EVERY = 20  # steps between looks at the losses; each look waits for the device
_PROBES = "conflict"  # names the random stream of probes; another word would draw other batches


class Trainer:
    """Trains one method on one data set with one seed.

    Args:
        method: what to build.
        benchmark: the protocol.
        dataset: images and labels on the device.
        seed: of initial weights, triplets and augmentation.
        precision: `bf16` or `fp32`.

    Raises:
        UserError: the method can't be built for this benchmark, or a task has no triplets.
    """

    def __init__(self, method: Method, benchmark: Benchmark, dataset: Dataset, seed: int, precision: str) -> None:
        self.benchmark, self.dataset, self.seed, self.precision = benchmark, dataset, seed, precision
        self.protocol = benchmark.train
        torch.backends.cudnn.allow_tf32 = precision != "fp32"  # fp32 means float32
        architecture, balancer = build(method, benchmark, dataset.tasks, seed)
        self.architecture = architecture.to(dataset.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.balancer = balancer.to(dataset.device)
        self.optimiser = self._make_optimiser()
        self.samplers = self._make_samplers()
        self.generators = {task: named_generator(dataset.device, seed, "training", task) for task in dataset.tasks}
        self.questions = HeldOutTriplets.draw(dataset, benchmark, "val")
        self.state = State()
        self.best: dict[str, Tensor] = {}
        names = [f"{what}/{task}" for what in ("loss", "weight") for task in dataset.tasks]
        if self.balancer.gradient_norms is not None:
            names += [f"gradient_norm/{task}" for task in dataset.tasks]
        self._logged = [*names, "gradient_norm"]
        self._pending: list[Tensor] = []  # of the latest steps, one row each of what `_logged` names
        self._window: list[tuple[float, list[float]]] = []  # seconds and row of steps that wait for their mean
        torch.manual_seed(seed)  # dropout and the like

    def _make_optimiser(self) -> torch.optim.Optimizer:
        train = self.protocol
        scales = self.architecture.learning_rate_scales(adaptive=train.optimiser != "sgd")
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for name, parameter in self.architecture.named_parameters():
            if parameter.requires_grad:
                scale = next((s for prefix, s in scales.items() if name.startswith(prefix)), 1.0)
                decay = train.weight_decay if name.endswith(".weight") and parameter.dim() > 1 else 0.0
                groups.setdefault((scale, decay), []).append(parameter)
        listed = [{"params": p, "scale": scale, "weight_decay": decay} for (scale, decay), p in groups.items()]
        own = [p for p in self.balancer.parameters() if p.requires_grad]
        if own:
            listed.append({"params": own, "scale": 1.0, "weight_decay": 0.0})
        if train.optimiser == "adagrad":
            return torch.optim.Adagrad(listed, lr=train.lr)
        if train.optimiser == "sgd":
            return torch.optim.SGD(listed, lr=train.lr, momentum=0.9, fused=True)
        kind = torch.optim.AdamW if train.optimiser == "adamw" else torch.optim.Adam
        return kind(listed, lr=train.lr, fused=True)

    def _make_samplers(self) -> Sequence[TripletSampler | ListedTriplets]:
        """Return what draws each task's training triplets, as indices into the data set."""
        if self.dataset.triplets:
            return [ListedTriplets(rows) for rows in self.dataset.triplets["train"]]
        train = self.dataset.split == SPLITS.index("train")
        labels = torch.where(train, self.dataset.labels, -1)
        return [TripletSampler(row, self.protocol.anchors) for row in labels]

    @property
    def images_per_step(self) -> int:
        """Images drawn from the data set at every step, the same for every method."""
        return 3 * self.protocol.triplets * len(self.dataset.tasks)

    def _draw(self, generators: Mapping[str, torch.Generator]) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a batch by the tasks' generators: images as the network takes them, triplets, and which are possible."""
        train, tasks = self.protocol, self.dataset.tasks
        groups, drawn = [], []
        for task, sampler in zip(tasks, self.samplers, strict=True):
            generator = generators[task]
            index = sampler.draw(train.triplets, generator).t().flatten()
            drawn.append(index)
            groups.append(self.dataset.batch(index, generator, train.flip, train.shift))
        if train.sampling == "joint":
            order = sorted(range(len(tasks)), key=lambda t: tasks[t])  # so that the order of tasks plays no part
            images = torch.cat([groups[t] for t in order])
            labels = self.dataset.labels[:, torch.cat([drawn[t] for t in order])]
            formed = [
                joint_triplets(labels[t : t + 1], train.joint_triplets, train.anchors, generators[task])
                for t, task in enumerate(tasks)
            ]
            triplets, possible = (torch.cat(parts) for parts in zip(*formed, strict=True))
        else:
            images = torch.stack([group.movedim(1, -1) for group in groups]).movedim(-1, 2)  # channels stay last
            legs = torch.arange(3 * train.triplets, device=self.dataset.device).view(3, -1).t()
            triplets = legs.expand(len(tasks), -1, -1)
            possible = torch.ones(len(tasks), dtype=torch.bool, device=self.dataset.device)
        return images, triplets, possible

    def _losses(self, images: Tensor, triplets: Tensor, possible: Tensor) -> Tensor:
        """Return the tasks' losses, (T,), on what `_draw` drew, the network in training."""
        joint = self.protocol.sampling == "joint"
        self.architecture.train()
        with computing_in(self.precision, self.dataset.device):
            embeddings = self.architecture.embed(images) if joint else self.architecture(images)
        return triplet_losses(embeddings, triplets, possible, self.benchmark.loss, self.benchmark.embedding)

    def step(self) -> None:
        """Take one step: draw triplets, embed, balance, update."""
        train = self.protocol
        losses = self._losses(*self._draw(self.generators))
        penalty = self.architecture.regulariser()
        factor = schedule_factor(train, self.state.step)
        for group in self.optimiser.param_groups:
            group["lr"] = train.lr * group["scale"] * factor
        self.optimiser.zero_grad(set_to_none=True)
        weights = self.balancer.backward(losses if penalty is None else losses + penalty, self.architecture)
        norm = nn.utils.get_total_norm([p.grad for p in self.architecture.parameters() if p.grad is not None])
        self.optimiser.step()
        self.architecture.representation = None  # with it goes the step's graph
        by_task = self.balancer.gradient_norms
        logged = [losses.detach(), weights, *([] if by_task is None else [by_task]), norm.view(1)]
        self._pending.append(torch.cat([part.float() for part in logged]))
        self.state.step += 1

    def probe(self) -> float:
        """Note how the tasks' gradients agree before the step that comes; return the seconds that it took.

        They are those of the losses alone, without the balancer's weights and the regulariser, on a batch drawn as a
        step draws it, by the seed and the step's number alone: the same for every method, and for a run that was
        interrupted. Training goes on as if no probe had been made. Nothing is noted where tasks share no parameters.
        """
        tasks, device, step = self.dataset.tasks, self.dataset.device, self.state.step
        if len(tasks) < 2 or not self.architecture.shared_parameters():
            return 0.0
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        begun = time.perf_counter()
        generators = {task: named_generator(device, self.seed, _PROBES, str(step), task) for task in tasks}
        with preserved_state(self.architecture, device):
            torch.manual_seed(named_generator(torch.device("cpu"), self.seed, _PROBES, str(step)).initial_seed())
            losses = self._losses(*self._draw(generators))
            found = gramians(losses, self.architecture, self.benchmark.evaluation.agreement_layers)
        for layer, gramian in found.items():
            self.state.probes.append({"step": step, "layer": layer, "cosines": cosines(gramian)})
        return time.perf_counter() - begun

    def _flush(self, seconds: float, close: bool) -> None:
        """Move what the latest steps logged into the curve; stop the run if any of it is not finite.

        Args:
            seconds: that these steps took.
            close: end the window of steps whose mean makes a row of the curve, full or not.
        """
        rows = torch.stack(self._pending).cpu() if self._pending else torch.empty(0, len(self._logged))
        self._pending = []
        first = self.state.step - len(rows)
        if not rows.isfinite().all():
            step = int(torch.nonzero(~rows.isfinite().all(1))[0])
            column = int(torch.nonzero(~rows[step].isfinite())[0])
            what, _, task = self._logged[column].partition("/")
            of = f" of {task}" if task else ""
            raise TrainingError(
                f"the {what.replace('_', ' ')}{of} became {rows[step, column].item()} at step {first + step + 1}"
            )
        size = max(1, self.protocol.steps // CURVE_ROWS)
        for number, row in enumerate(rows.tolist(), 1):
            self.state.seconds += seconds / len(rows)
            self._window.append((self.state.seconds, row))
            if len(self._window) == size or (close and number == len(rows)):
                means = [sum(column) / len(self._window) for column in zip(*(r for _, r in self._window), strict=True)]
                logged = dict(zip(self._logged, means, strict=True))
                weights = sum(logged[f"weight/{task}"] for task in self.dataset.tasks)
                place = {"step": first + number, "seconds": self._window[-1][0]}
                self.state.curve.append(place | logged | {"weight_sum": weights})
                self._window = []

    def validate(self) -> dict[str, float]:
        """Measure triplet accuracy on the validation split, by task; keep the weights if they are the best yet."""
        embeddings = embed_images(self.architecture, self.dataset, self.questions.images, self.precision)
        hits = self.questions.hits(embeddings, self.benchmark.embedding.normalise)
        score = criterion(self.benchmark, self.dataset, embeddings, self.questions, hits)
        accuracy = dict(zip(self.dataset.tasks, hits.float().mean(1).tolist(), strict=True))
        mean = sum(accuracy.values()) / len(accuracy)
        self.state.accuracy = accuracy
        fallen = collapsed_tasks(embeddings, self.questions, self.benchmark.embedding.normalise).tolist()
        self.state.collapsed = [task for task, yes in zip(self.dataset.tasks, fallen, strict=True) if yes]
        if self.state.curve:
            self.state.curve[-1].update({f"accuracy/{t}": a for t, a in accuracy.items()}, accuracy=mean)
        if score > self.state.best_score:
            self.state.best_score, self.state.best_accuracy, self.state.best_step = score, mean, self.state.step
            self.best = {k: v.detach().clone() for k, v in state_of(self.architecture).items()}
        return accuracy

    def run(
        self,
        show: Callable[[Progress], None] | None = None,
        save: Callable[[], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train to the last step and load the best weights.

        Args:
            show: told where the run stands every few steps and after every validation.
            save: called after every validation and before stopping early, when `tensors()` and `state` hold all that
                continuing needs.
            stop: asked after every step whether to stop early.

        Raises:
            TrainingError: a loss or gradient is not finite.
            Interrupted: `stop` said so.
        """
        train, every = self.protocol, self.benchmark.evaluation.every
        probe_every = self.benchmark.evaluation.agreement_every
        begun, since = time.perf_counter(), self.state.step
        speed = loss = 0.0

        def report() -> None:
            if show:
                show(Progress(self.state.step, train.steps, self.state.seconds, loss, speed, self.state.accuracy))

        report()
        while self.state.step < train.steps:
            if probe_every and self.state.step % probe_every == 0:
                begun += self.probe()  # its seconds are not training's
            self.step()
            at_validation = self.state.step % every == 0 or self.state.step == train.steps
            stopping = stop()
            if at_validation or stopping or self.state.step % _CHECK_EVERY == 0:
                if self.dataset.device.type == "cuda":
                    torch.cuda.synchronize(self.dataset.device)
                seconds = time.perf_counter() - begun
                self._flush(seconds, close=at_validation or stopping)
                speed = (self.state.step - since) * self.images_per_step / seconds
                if self.state.curve:
                    latest = self.state.curve[-1]
                    loss = sum(latest[f"loss/{task}"] for task in self.dataset.tasks) / len(self.dataset.tasks)
                if at_validation:
                    self.validate()
                if save and (at_validation or stopping):
                    save()
                if stopping and self.state.step < train.steps:
                    raise Interrupted
                report()
                begun, since = time.perf_counter(), self.state.step
        load_state(self.architecture, self.best)

    def _trained(self) -> dict[str, Tensor]:
        """Return what the optimiser trains, by name."""
        return {
            **{f"architecture.{n}": p for n, p in self.architecture.named_parameters()},
            **{f"balancer.{n}": p for n, p in self.balancer.named_parameters()},
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor that continuing the run needs, by name; none shares memory with another."""
        found = {f"architecture/{k}": v for k, v in state_of(self.architecture).items()}
        found |= {f"best/{k}": v for k, v in self.best.items()}
        found |= {f"balancer/{k}": v for k, v in state_of(self.balancer).items()}
        for name, parameter in self._trained().items():
            values = self.optimiser.state.get(parameter, {})
            found |= {f"optimiser/{name}/{k}": v for k, v in values.items() if isinstance(v, Tensor)}
        found |= {f"random/{name}": g.get_state() for name, g in self.generators.items()}
        found["random"] = torch.get_rng_state()
        if self.dataset.device.type == "cuda":
            found["random-cuda"] = torch.cuda.get_rng_state(self.dataset.device)
        return {k: v.detach().cpu().contiguous() for k, v in found.items()}

    def restore(self, tensors: dict[str, Tensor], state: State) -> None:
        """Continue from what `tensors` and `state` held; the steps that follow are those that would have followed.

        Raises:
            KeyError, ValueError, RuntimeError: they are not of this method, benchmark and kind of device.
        """

        def under(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        device = self.dataset.device
        load_state(self.architecture, under("architecture/"))
        load_state(self.balancer, under("balancer/"))
        self.best = {k: v.to(device) for k, v in under("best/").items()}
        for name, parameter in self._trained().items():
            for key, value in under(f"optimiser/{name}/").items():
                if value.shape == parameter.shape:  # fused optimisers take it for granted that the strides agree
                    value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
                elif device.type == "cuda":
                    value = value.to(device)
                self.optimiser.state[parameter][key] = value
        for name, generator in self.generators.items():
            generator.set_state(tensors[f"random/{name}"])
        torch.set_rng_state(tensors["random"])
        if "random-cuda" in tensors and device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random-cuda"], device)
        self.state = state

"""One run: a method trained on a data set with one seed, the best checkpoint chosen on the validation split.

The loop prints nothing, writes no record, and never sees the test split; whoever listens is told what happens.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mtlbench.agreement import preserved_state
from mtlbench.augmentation import check_augmentations, read_augmentations
from mtlbench.backbones import BackboneFactory
from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.data.table import SPLITS
from mtlbench.devices import allow_deterministic, computing_in, deterministic_kernels, named_generator
from mtlbench.errors import UserError, counted
from mtlbench.evaluation.collapse import collapsed_tasks
from mtlbench.evaluation.selection import check_selection, criterion, own_tensors
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.losses.contract import LossContext, build_loss
from mtlbench.networks import build, embed_images, load_state, state_of
from mtlbench.optimisers import find_optimiser, parameter_groups
from mtlbench.options import read_spec
from mtlbench.registry import ARCHITECTURES, BALANCERS, SAMPLERS
from mtlbench.returned import (
    check_architecture,
    check_batch,
    check_chance,
    check_drawn,
    check_embeddings,
    check_evaluation,
    check_finite,
    check_indices,
    check_losses,
    check_regulariser,
    check_repeated,
    check_scales,
    check_weights,
)
from mtlbench.sampling.contract import Batch, Sampler, Source
from mtlbench.specs import Method
from mtlbench.training.checkpoint import Checkpoint
from mtlbench.training.compiled import CompiledNetwork, Gradients, compiles, why_not
from mtlbench.training.curve import Curve
from mtlbench.training.events import CheckpointSaved, Ended, Event, Listener, Started, StepWindow, Validation
from mtlbench.training.norms import counting_normalised
from mtlbench.training.probe import probe_gradients
from mtlbench.training.schedules import schedule_factor
from mtlbench.training.state import Interrupted, State, TrainingError
from mtlbench.unsaved import changed, print_of, unsaved

VERSION = 3  # raised when the same settings come to train otherwise: older records are then no longer the same run
_CHECK_EVERY = 20  # steps between looks at the losses; each look waits for the device


def sampler_of(benchmark: Benchmark, dataset: Dataset) -> Sampler:
    """Build a benchmark's sampler on a data set.

    Raises:
        UserError: no such sampler or option, or a task that nothing can be drawn for.
    """
    train = benchmark.train
    entry, options = read_spec(SAMPLERS, train.sampling)
    if dataset.triplets and not entry.target.uses_listed:
        raise UserError(
            f"The data set came with triplets of its own, which train.sampling = '{train.sampling}' doesn't draw:"
            " set train.sampling = 'per-task'."
        )
    odd = [task for task, members in zip(dataset.tasks, dataset.sets, strict=True) if members is not None]
    if odd and not entry.target.takes_sets:
        raise UserError(
            f"train.sampling = '{train.sampling}' needs one label per image, and those of '{odd[0]}' are sets: set"
            " train.sampling = 'joint' or 'per-task', or data.multi_valued to another rule than 'set'."
        )
    augment = read_augmentations(train.augment)
    training = dataset.split == SPLITS.index("train")
    ours = training.cpu()

    def load(index: Tensor, generator: torch.Generator | Sequence[torch.Generator]) -> Tensor:
        check_drawn(entry.target, index, ours)
        return dataset.batch(index, generator, train.flip, train.shift, augment)

    source = Source(
        labels=torch.where(training, dataset.labels, -1),
        tasks=dataset.tasks,
        load=load,
        triplets=train.triplets,
        joint_triplets=train.joint_triplets,
        anchors=train.anchors,
        listed=dataset.triplets["train"] if dataset.triplets else (),
        members=dataset.sets if odd else (),
        unlabelled=torch.nonzero(ours & (dataset.labels < 0).all(0).cpu()).flatten(),
    )
    sampler: Sampler = entry.target(source, **options)
    return sampler


def refuse_not_finite(embeddings: Tensor, split: str) -> None:
    """Refuse (T, n, D) embeddings of a split's images that are not finite: no score says anything about them.

    Raises:
        TrainingError: with how many there are.
    """
    number = int((~embeddings.isfinite().all(2)).any(0).sum())
    if number:
        images = counted(embeddings.shape[1], f"{split} image")
        raise TrainingError(f"the embeddings of {number:,} of {images} are not finite")


class Trainer:
    """Trains one method on one data set with one seed.

    Args:
        method: what to build.
        benchmark: the protocol.
        dataset: images and labels on the device.
        seed: of initial weights, triplets and augmentation.
        precision: `bf16` or `fp32`.

    Raises:
        UserError: the method can't be built for this benchmark, a task has no triplets, or a setting names something
            that there isn't.
    """

    def __init__(self, method: Method, benchmark: Benchmark, dataset: Dataset, seed: int, precision: str) -> None:
        benchmark = method.protocol(benchmark)
        self.benchmark, self.dataset, self.seed, self.precision = benchmark, dataset, seed, precision
        self.protocol, device = benchmark.train, dataset.device
        check_selection(benchmark)
        architecture, balancer = build(method, benchmark, dataset.tasks, seed)
        check_architecture(architecture)
        self.architecture = architecture.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.balancer = balancer.to(device)
        self.compiled = CompiledNetwork(self.architecture, device) if compiles(benchmark, device) else None
        self._deterministic = self.protocol.deterministic and device.type == "cuda"
        if self._deterministic:
            allow_deterministic(device)
        values, embedding = tuple(map(len, dataset.values)), benchmark.embedding
        context = LossContext(
            dataset.tasks, values, benchmark.model.embedding, embedding.distance, embedding.normalise, seed,
            tuple(members is not None for members in dataset.sets),
        )  # fmt: skip
        self.loss = build_loss(benchmark.loss, context).to(device)
        self.optimiser = self._make_optimiser()
        self.sampler = sampler_of(benchmark, dataset)
        cpu = torch.device("cpu")  # a seed draws the same batches on every device
        self.generators = {task: named_generator(cpu, seed, "training", task) for task in dataset.tasks}
        self.triplets = HeldOutTriplets.draw(dataset, benchmark, "val")
        self.state = State()
        self._looked = False  # at the values of a batch
        self.best: dict[str, Tensor] = {}
        self.own_tensors = own_tensors(self.architecture, benchmark, method.name)
        self.curve = Curve(dataset.tasks, self.protocol.steps)
        self.parts: dict[str, nn.Module] = {
            "architecture": self.architecture, "balancer": self.balancer, "loss": self.loss, "sampler": self.sampler,
        }  # fmt: skip
        self._unsaved = unsaved(self.parts)
        self.checkpoint = Checkpoint(self.parts, self.optimiser, self.generators, device)
        torch.manual_seed(seed)  # dropout and the like

    def _make_optimiser(self) -> torch.optim.Optimizer:
        train, kind = self.protocol, find_optimiser(self.protocol.optimiser)
        scales = [
            check_scales(registry, module, module.learning_rate_scales(adaptive=kind.adaptive))
            for registry, module in ((ARCHITECTURES, self.architecture), (BALANCERS, self.balancer))
        ]
        groups = parameter_groups(self.architecture, scales[0], train.weight_decay)
        return kind([*groups, *parameter_groups(self.balancer, scales[1]), *parameter_groups(self.loss, {})], train)

    @property
    def images_per_step(self) -> int:
        """Images drawn from the data set at every step, the same for every method."""
        return self.sampler.images_per_step

    def losses(self, batch: Batch, compiled: bool = False) -> Tensor:
        """Return the tasks' losses on a batch, (T,), the network in training, as it is or compiled.

        Raises:
            ContractError: the sampler, the architecture or the loss returned what its contract does not allow.
        """
        return self._losses_at(self._embeddings(batch, compiled), batch)

    def embed(self, images: Tensor, joint: bool, compiled: bool) -> Tensor:
        """Return (T, B, D) of a batch's images in the run's precision, by the network as it is or compiled."""
        with computing_in(self.precision, self.dataset.device):
            if compiled and self.compiled is not None:
                return self.compiled.embed(images, joint)
            embeddings: Tensor = (self.architecture.embed if joint else self.architecture)(images)
            return embeddings

    def _embeddings(self, batch: Batch, compiled: bool) -> Tensor:
        tasks = len(self.dataset.tasks)
        check_batch(self.sampler, batch, tasks, self.dataset.device)
        self.architecture.train()
        self.loss.train()
        embeddings = self.embed(batch.images, batch.joint, compiled)
        shape = (tasks, batch.images.shape[-4], self.benchmark.model.embedding)
        name = "embed" if batch.joint else "forward"
        check_embeddings(self.architecture, embeddings, shape, name, graph=torch.is_grad_enabled())
        return embeddings

    def _losses_at(self, embeddings: Tensor, batch: Batch) -> Tensor:
        tasks = len(self.dataset.tasks)
        first, self._looked = not self._looked and self.state.step == 0, True
        if first:
            check_indices(self.sampler, batch, tuple(map(len, self.dataset.values)))
            self._check_finite(batch.images, embeddings)
        return check_losses(self.loss, self.loss(embeddings, batch), tasks, finite=first)

    def _check_finite(self, images: Tensor, embeddings: Tensor) -> None:
        """Refuse embeddings that are not finite though nothing has been trained.

        Raises:
            ContractError: it names who made them so.
        """
        if not embeddings.isfinite().all():
            model = self.benchmark.model
            backbones = BackboneFactory(model.backbone, self.benchmark.data.size, model.embedding, self.seed)
            check_finite(self.architecture, self.sampler, images, backbones)

    def step(self) -> None:
        """Take one step: draw a batch, embed, balance, update."""
        with deterministic_kernels(self._deterministic):
            self._step()

    def _step(self) -> None:
        draw = self._checked_draw if self.state.step == 0 else self.sampler.draw
        batch = draw(self.generators)
        if self.compiled is not None and self.state.compiled is None:
            self.state.compiled = why_not(partial(self._tried, batch), self.precision, self.dataset.device)
        counted = self.state.step == 0 and isinstance(batch, Batch) and not batch.joint
        compiled = self.state.compiled == "" and not counted
        losses = self._counted_losses(batch) if counted else self.losses(batch, compiled)
        total = self._with_penalty(losses)
        factor = schedule_factor(self.protocol, self.state.step)
        for group in self.optimiser.param_groups:
            group["lr"] = self.protocol.lr * group["scale"] * factor
        self.optimiser.zero_grad(set_to_none=True)
        weights = self.balancer.backward(total, self.architecture)
        gradients = [p.grad for p in self.architecture.parameters() if p.grad is not None]
        weights = check_weights(self.balancer, weights, len(losses), gradients)
        self._train_the_loss(losses)
        norm = nn.utils.get_total_norm(gradients)
        self.optimiser.step()
        if self.balancer.judges_again:
            with torch.no_grad():
                self.balancer.judge(self._with_penalty(self.losses(batch, compiled)).detach())
        self.architecture.forget()
        self.curve.log(losses.detach(), weights, self.balancer.gradient_norms, norm)
        self.state.step += 1

    def _checked_draw(self, generators: Mapping[str, torch.Generator]) -> Batch:
        """Draw the first batch, twice: what it is must depend on the generators and on what a checkpoint holds alone.

        Raises:
            ContractError: it names the sampler or the augmentation of which that is not so.
        """
        if specs := self.protocol.augment:
            check_augmentations(specs, self.dataset.images[:4].to(self.dataset.device).permute(0, 3, 1, 2))
        held = {name: buffer.clone() for name, buffer in state_of(self.sampler).items()}
        again = {task: torch.Generator(g.device) for task, g in generators.items()}
        for task, generator in generators.items():
            again[task].set_state(generator.get_state())
        first = print_of(check_chance(SAMPLERS, type(self.sampler), self.sampler.draw, again))
        before = unsaved({"self": self.sampler})
        load_state(self.sampler, held)
        batch = self.sampler.draw(generators)
        check_repeated(self.sampler, first == print_of(batch), changed(before, unsaved({"self": self.sampler})))
        return batch

    def _tried(self, batch: Batch, compiled: bool) -> tuple[Gradients, int]:
        """Return a step's gradients by parameter, and how many times they come through the embeddings.

        All is left as it was, but that the network's parameters have no gradients.
        """
        passes: list[None] = []
        with preserved_state(self.architecture, (self.loss,), self.dataset.device):
            balancer = copy.deepcopy(self.balancer)
            embeddings = self._embeddings(batch, compiled)
            if embeddings.requires_grad:
                embeddings.register_hook(lambda gradient: passes.append(None))
            total = self._with_penalty(self._losses_at(embeddings, batch))
            self.optimiser.zero_grad(set_to_none=True)
            balancer.backward(total, self.architecture)
            found = {n: p.grad.clone() for n, p in self.architecture.named_parameters() if p.grad is not None}
            self.optimiser.zero_grad(set_to_none=True)
            self.architecture.forget()
        return found, len(passes)

    def _counted_losses(self, batch: Batch) -> Tensor:
        """Return the first batch's losses, and note over how many images batch norms average."""
        with counting_normalised(self.architecture) as seen:
            losses = self.losses(batch)
        self.state.normalised = sorted(seen)
        return losses

    def _with_penalty(self, losses: Tensor) -> Tensor:
        """Return the losses of the latest forward pass with the architecture's penalties: what balancers work with."""
        penalty = self.architecture.regulariser()
        check_regulariser(self.architecture, penalty)
        return losses if penalty is None else losses + penalty

    def _train_the_loss(self, losses: Tensor) -> None:
        """Give the loss's own parameters their tasks' plain gradients where the balancer reached the network alone."""
        left = [p for p in self.loss.parameters() if p.requires_grad and p.grad is None]
        if left:
            for parameter, gradient in zip(
                left, torch.autograd.grad(losses.sum(), left, allow_unused=True), strict=True
            ):
                parameter.grad = gradient

    def probe(self) -> float:
        """Note how the tasks' gradients agree before the step that comes; return the seconds that it took."""
        self._synchronise()
        begun = time.perf_counter()
        with deterministic_kernels(self._deterministic):
            self.state.probes += probe_gradients(
                self.architecture,
                self.sampler,
                self.losses,
                self.loss,
                seed=self.seed,
                step=self.state.step,
                device=self.dataset.device,
                by_layer=self.benchmark.evaluation.agreement_layers,
            )
        return time.perf_counter() - begun

    def _synchronise(self) -> None:
        if self.dataset.device.type == "cuda":
            torch.cuda.synchronize(self.dataset.device)

    def validate(self) -> Validation:
        """Judge the validation split, and keep the weights if they are the best yet."""
        state, tasks = self.state, self.dataset.tasks
        size = self.benchmark.model.embedding
        embeddings = embed_images(self.architecture, self.dataset, self.triplets.images, self.precision, size)
        refuse_not_finite(embeddings, "validation")
        if not self.best:  # now, not after the training
            self._check_evaluation()
        hits = self.triplets.hits(embeddings, self.benchmark.embedding.normalise).float().mean(1).tolist()
        score = criterion(hits, embeddings, self.triplets, self.benchmark, self.dataset)
        state.accuracy = dict(zip(tasks, hits, strict=True))
        collapsed = collapsed_tasks(embeddings, self.triplets, self.benchmark.embedding).tolist()
        state.collapsed = [task for task, yes in zip(tasks, collapsed, strict=True) if yes]
        if state.curve:
            accuracy = {f"accuracy/{task}": value for task, value in state.accuracy.items()}
            state.curve[-1].update(accuracy, accuracy=sum(hits) / len(hits))
        best = self._keep_by_task(self.own_tensors) if self.own_tensors else score > state.best_score
        if best and not self.own_tensors:
            state.best_score, state.best_accuracy, state.best_step = score, sum(hits) / len(hits), state.step
            self.best = {k: v.detach().clone() for k, v in state_of(self.architecture).items()}
        return Validation(state.step, self.protocol.steps, state.seconds, dict(state.accuracy), score, best)

    def _check_evaluation(self) -> None:
        """Refuse a network that embeds images by chance in evaluation.

        Raises:
            ContractError: it names who does so.
        """
        model = self.benchmark.model
        backbones = BackboneFactory(model.backbone, self.benchmark.data.size, model.embedding, self.seed)
        with computing_in(self.precision, self.dataset.device):
            check_evaluation(self.architecture, self.dataset.batch(self.triplets.images[:8]), backbones)

    def _keep_by_task(self, own_tensors: list[list[str]]) -> bool:
        """Keep the weights of each task that is at its best yet; tell whether one is."""
        state, now = self.state, state_of(self.architecture)
        better = [t for t, (task, hit) in enumerate(state.accuracy.items()) if hit > state.task_bests.get(task, -1.0)]
        for t in better:
            task = self.dataset.tasks[t]
            state.task_bests[task], state.task_steps[task] = state.accuracy[task], state.step
            self.best |= {name: now[name].detach().clone() for name in own_tensors[t]}
        if better:
            state.best_score = state.best_accuracy = sum(state.task_bests.values()) / len(state.task_bests)
            state.best_step = state.step
        return bool(better)

    def run(
        self,
        listen: Listener = lambda event: None,
        save: Callable[[], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train to the last step and load the best weights.

        Args:
            listen: told what happens.
            save: called after every validation and before stopping early, when `tensors()` and `state` hold all that
                continuing needs.
            stop: asked after every step whether to stop early.

        Raises:
            TrainingError: a loss, a gradient or an embedding is not finite.
            Interrupted: `stop` said so.
        """
        state, steps, every = self.state, self.protocol.steps, self.benchmark.evaluation.every
        probe_every = self.benchmark.evaluation.agreement_every
        begun, since = time.perf_counter(), state.step
        listen(Started(state.step, steps, state.seconds))
        while state.step < steps:
            if probe_every and state.step % probe_every == 0:
                begun += self.probe()  # its seconds are not training's
            self.step()
            at_validation = state.step % every == 0 or state.step == steps
            stopping = stop()
            if not (at_validation or stopping or state.step % _CHECK_EVERY == 0):
                continue
            self._synchronise()
            seconds = time.perf_counter() - begun
            self.curve.flush(state, seconds, close=at_validation or stopping)
            events: list[Event] = [self._window((state.step - since) * self.images_per_step / seconds)]
            if at_validation:
                events.append(self.validate())
            if save and (at_validation or stopping):
                state.unsaved = changed(self._unsaved, unsaved(self.parts))
                save()  # before anyone hears of it: what has been told is kept
                events.append(CheckpointSaved(state.step, steps, state.seconds))
            for event in events:
                listen(event)
            if stopping and state.step < steps:
                raise Interrupted
            begun, since = time.perf_counter(), state.step
        load_state(self.architecture, self.best)
        listen(Ended(state.step, steps, state.seconds))

    def _window(self, images_per_second: float) -> StepWindow:
        latest = self.state.curve[-1] if self.state.curve else {}
        losses = {task: latest[f"loss/{task}"] for task in self.dataset.tasks if f"loss/{task}" in latest}
        return StepWindow(self.state.step, self.protocol.steps, self.state.seconds, losses, images_per_second)

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor that continuing the run needs, by name; none shares memory with another."""
        return self.checkpoint.tensors(self.best)

    def restore(self, tensors: dict[str, Tensor], state: State) -> None:
        """Continue from what `tensors` and `state` held; the steps that follow are those that would have followed.

        Raises:
            KeyError, ValueError, RuntimeError: they are not of this method, benchmark and kind of device.
        """
        self.best = self.checkpoint.restore(tensors)
        self.state = state
        state.forgot = sorted({*state.forgot, *state.unsaved})

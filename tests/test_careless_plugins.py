"""Plug-ins that return something else than their contract says: a run fails in one sentence that names them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import make_dataset, protocol, run_command

from mtlbench.jobs.execute import execute
from mtlbench.jobs.job import Watcher
from mtlbench.jobs.plan import plan
from mtlbench.plugins import load_plugins
from mtlbench.runs import Record, find_records
from mtlbench.specs import parse_methods

ARCHITECTURE = """
import torch
from torch import nn
from mtlbench import Architecture, register_architecture

@register_architecture("careless")
class Careless(Architecture):
    '''Careless.'''

    def __init__(self, backbones, tasks):
        super().__init__(backbones, tasks)
        self.net = backbones.backbone()
        self.wide = nn.Linear(backbones.embedding_size, backbones.embedding_size + 1)

    def forward(self, images):
        found = torch.stack([self.net(group) for group in images])
        return {returned}
"""
BACKBONE = """
import numpy
from torch import nn
from mtlbench import BackboneKind, register_backbone

class Dropping(nn.Module):
    def forward(self, features):
        return nn.functional.dropout(features)

@register_backbone("careless")
class Careless(BackboneKind):
    '''Careless.'''

    def stages(self, pretrained):
        first = nn.Conv2d(3, 16, 4, stride=4)
        return nn.ModuleList([first, {last}])
"""
BALANCER = """
from mtlbench import Balancer, register_balancer

@register_balancer("careless")
class Careless(Balancer):
    '''Careless.'''

    def backward(self, losses, architecture):
        {body}
"""
LOSS = """
import torch
from mtlbench.losses.contract import Loss, register_loss

@register_loss("careless")
class Careless(Loss):
    '''Careless.'''

    def forward(self, embeddings, batch):
        losses = embeddings.square().mean((1, 2))
        return {returned}
"""
SAMPLER = """
import torch
from mtlbench.sampling.contract import Batch, Sampler, register_sampler

@register_sampler("careless")
class Careless(Sampler):
    '''Careless.'''

    def draw(self, generators):
        index = self.source.images[: self.images_per_step]
        images = self.source.load(index, generators[self.source.tasks[0]])
        labels = self.source.labels[:, index]
        return {returned}
"""
AUGMENTATION = """
from mtlbench.augmentation import register_augmentation

@register_augmentation("careless")
def careless(images, generator):
    '''Careless.'''
    return {returned}
"""
METRIC = """
import torch
from mtlbench.evaluation.metrics import register_metric

@register_metric("careless")
def careless(ranked):
    '''Careless.'''
    return {returned}
"""


def run(folder: Path, text: str, *settings: str, method: str = "shared") -> Record:
    folder.mkdir(exist_ok=True)
    (folder / "careless.py").write_text(text)
    assert load_plugins([folder / "careless.py"]) == []
    benchmark = protocol(*settings)
    (job,) = plan(parse_methods(method), (0,), benchmark, make_dataset(), "fp32", folder / "results")
    return execute(job, benchmark, make_dataset(), "fp32", Watcher(), costs=False)


@pytest.mark.parametrize(
    ("late", "said"),
    [
        ("self.seen = found.detach().mean((0, 1))", "built again with its weights, its embeddings differ"),
        (
            "self.late = nn.Parameter(torch.zeros(1))",
            "weights that don't fit a new one (",
        ),
    ],
)
def test_what_an_architecture_learned_is_in_its_weights(tmp_path: Path, late: str, said: str) -> None:
    """Otherwise the table shows what no file can bring back."""
    text = ARCHITECTURE.replace("{returned}", "found + getattr(self, 'seen', 0) * (not self.training)")
    sound = run(tmp_path, text, method="careless")
    assert sound.status == "done", sound.reason
    text = text.replace("        return found", f"        if self.training:\n            {late}\n        return found")
    record = run(tmp_path / "late", text.replace('"careless"', '"careless-2"'), method="careless-2")
    assert record.status == "failed"
    assert "must keep all that it learns or draws in nn.Parameters and buffers made in __init__, not " in record.reason
    assert said in record.reason


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("(found, found)", "return a float tensor of shape (2, 12, 8), tasks × images × model.embedding"),
        ("found[:1]", "not a float32 tensor of shape (1, 12, 8)"),
        ("self.wide(found)", "not a float32 tensor of shape (2, 12, 9)"),
        ("found.detach()", "that gradients flow back from, not detached ones"),
        ("found / 0", "return finite embeddings from forward, not inf or nan"),
        ("None", "not None"),
    ],
)
def test_an_architectures_embeddings(tmp_path: Path, returned: str, said: str) -> None:
    """Those of another size than asked for are not compared without a word."""
    text = ARCHITECTURE.replace("{returned}", returned)
    record = run(tmp_path, text, "train.sampling='per-task'", method="careless")
    assert record.status == "failed"
    assert said in record.reason
    assert "'careless' (careless.py:" in record.reason
    assert "\n" not in record.reason


def test_embeddings_in_evaluation_are_finite(tmp_path: Path) -> None:
    """Those that are not are not called nearly equal."""
    missing = "found if self.training else found.masked_fill((images.mean((2, 3, 4)) > 0)[..., None], torch.nan)"
    record = run(tmp_path, ARCHITECTURE.replace("{returned}", missing), method="careless")
    assert record.status == "failed"
    assert re.fullmatch(r"the embeddings of \d+ of \d+ validation images are not finite", record.reason)


@pytest.mark.parametrize("who", ["architecture", "backbone"])
def test_who_embeds_by_chance_in_evaluation_is_named_at_the_first_validation(tmp_path: Path, who: str) -> None:
    """Not after the training, and not in the words of a lost weight."""
    if who == "architecture":
        text = ARCHITECTURE.replace("{returned}", "torch.nn.functional.dropout(found)")
        record = run(tmp_path, text, method="careless")
    else:
        record = run(tmp_path, BACKBONE.replace("{last}", "Dropping()"), "model.backbone='careless'")
    assert record.status == "failed"
    assert record.reason.startswith(f"The {who} 'careless' (careless.py:")
    assert "must embed an image alike each time in evaluation, not by chance" in record.reason


def test_a_backbones_weights_follow_the_seed(tmp_path: Path) -> None:
    text = BACKBONE.replace("{last}", "nn.Identity()")
    assert run(tmp_path, text, "model.backbone='careless'").status == "done"
    text = text.replace("        return ", "        first.bias.data += numpy.random.rand()\n        return ")
    text = text.replace('"careless"', '"careless-2"')
    record = run(tmp_path / "drawn", text, "model.backbone='careless-2'")
    assert record.status == "failed"
    assert "must draw the weights of its stages with torch alone" in record.reason


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "losses.sum().backward()",
            "return a float tensor of shape (2,), the weight of each task, from backward, not None",
        ),
        ("return losses.detach()", "leave gradients in the network's parameters in backward, not none"),
        ("losses.sum().backward(); return losses.detach().sum()", "not a float32 tensor of shape ()"),
    ],
)
def test_a_balancers_weights(tmp_path: Path, body: str, said: str) -> None:
    record = run(tmp_path, BALANCER.replace("{body}", body), method="shared+careless")
    assert record.status == "failed"
    assert said in record.reason


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("losses.sum()", "return a float tensor of shape (2,), one loss per task, from forward"),
        ("losses.detach()", "not detached ones"),
        ("losses.tolist()", "not a list of 2"),
        ("losses / 0", "return finite losses"),
    ],
)
def test_a_losss_losses(tmp_path: Path, returned: str, said: str) -> None:
    record = run(tmp_path, LOSS.replace("{returned}", returned), "loss={name='careless'}")
    assert record.status == "failed"
    assert said in record.reason


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("images", "return a Batch from draw"),
        ("Batch(images, labels[:1])", "draw labels of shape (2, "),
        ("Batch(images[:3], labels[:, :3])", "images at every step, not 3"),
        ("Batch(images, labels + 100)", "draw labels from -1 to 1 for a task of 2 values"),
        ("Batch(images, labels.float())", "type int64"),
    ],
)
def test_a_samplers_batch(tmp_path: Path, returned: str, said: str) -> None:
    loss = "loss={name='pml:ContrastiveLoss'}"
    record = run(tmp_path, SAMPLER.replace("{returned}", returned), "train.sampling='careless'", loss)
    assert record.status == "failed"
    assert said in record.reason


def test_a_sampler_draws_training_images_alone(tmp_path: Path) -> None:
    """Others would reach batch norm and losses without labels, and no label would show it."""
    text = SAMPLER.replace("{returned}", "Batch(images, labels)")
    loss = "loss={name='pml:ContrastiveLoss'}"
    assert run(tmp_path, text, "train.sampling='careless'", loss).status == "done"
    others = text.replace("self.source.images[: self.images_per_step]", "torch.arange(self.images_per_step)")
    record = run(tmp_path / "others", others.replace("careless", "careless-2"), "train.sampling='careless-2'", loss)
    assert record.status == "failed"
    # two of five of the first 24 images
    assert "must draw training images alone (source.images), not 9 images of the validation and test splits" in (
        record.reason
    )


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        ("torch.randperm(n)", "draw with the given generators alone, not with torch's global one"),
        ("torch.tensor(numpy.random.permutation(n))", "not with NumPy's global one"),
        ("torch.tensor(random.sample(range(n), n))", "not with Python's global one"),
        (
            "torch.tensor(numpy.random.default_rng().permutation(n))",
            "draw the same batch under equal generators (draw with the given ones alone), not another one",
        ),
        ("torch.arange(n).roll(self.turn())", "in buffers (self.register_buffer), not in self.at, which no checkpoint"),
    ],
)
def test_a_samplers_chance_and_memory(tmp_path: Path, drawn: str, said: str) -> None:
    """Otherwise a seed repeats nothing, methods see different batches, and a continued run is another one."""
    batch = "Batch(self.source.load(chosen, generators[self.source.tasks[0]]), self.source.labels[:, chosen])"
    text = SAMPLER.replace("{returned}", batch).replace("import torch\n", "import numpy, random, torch\n")
    text = text.replace(
        "        return ",
        f"        n = len(index)\n        chosen = index[{drawn}]\n        return ",
    )
    text += """
    at = 0

    def turn(self):
        self.at += 1
        return 0
"""
    record = run(tmp_path, text, "train.sampling='careless'", "loss={name='pml:ContrastiveLoss'}")
    assert record.status == "failed"
    assert said in record.reason
    assert "'careless' (careless.py:" in record.reason


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("images if numpy.random.rand() < 2 else images", "draw with the given generators alone, not with NumPy's"),
        (
            "images + (COUNTED.append(0) or len(COUNTED) // 9)",
            "change equal images alike under equal generators (draw with the given one alone",
        ),
        ("images + numpy.random.default_rng().integers(200)", "keep no memory), not in another way the second time"),
    ],
)
def test_an_augmentations_chance_and_memory(tmp_path: Path, returned: str, said: str) -> None:
    """What it remembers would reach the next method of the command."""
    text = "import numpy\nCOUNTED = []\n" + AUGMENTATION.replace("{returned}", returned)
    record = run(tmp_path, text, "train.augment=['careless']")
    assert record.status == "failed"
    assert said in record.reason
    assert "'careless' (careless.py:" in record.reason


@pytest.mark.parametrize("returned", ["None", "images.float()", "images[:1]"])
def test_an_augmentations_images(tmp_path: Path, returned: str) -> None:
    record = run(tmp_path, AUGMENTATION.replace("{returned}", returned), "train.augment=['careless']")
    assert record.status == "failed"
    assert "return images of the shape" in record.reason


@pytest.mark.parametrize("returned", ["0.5", "[0.5]", "torch.zeros(1)"])
def test_a_metrics_scores(tmp_path: Path, returned: str) -> None:
    record = run(tmp_path, METRIC.replace("{returned}", returned), "evaluation.metrics=['careless']")
    assert record.status == "failed"
    assert "a score for each query" in record.reason


def test_a_metric_scores_the_same_queries_of_every_method(tmp_path: Path) -> None:
    """Otherwise a method that finds nothing for half of them is judged by the other half."""
    found = "ranked.hits.any(1).double()"
    by_label = f"torch.where(ranked.relevant > 5, {found}, torch.nan)"
    assert run(tmp_path, METRIC.replace("{returned}", by_label), "evaluation.metrics=['careless']").status == "done"
    by_rank = "torch.where(ranked.hits[:, 0], 1.0, torch.nan)"
    text = METRIC.replace("{returned}", by_rank).replace('"careless"', '"careless-2"')
    record = run(tmp_path / "by-rank", text, "evaluation.metrics=['careless-2']")
    assert record.status == "failed"
    assert "must score the same queries whatever the ranking: by 0, for example" in record.reason
    assert "not NaN for " in record.reason


def test_metrics_do_not_reach_each_other(tmp_path: Path) -> None:
    """What one writes into its ranking, or how deep another looks, is in no number but its own."""

    def scores(*metrics: str) -> list[list[float]]:
        own = "-".join(metrics)  # names are taken once
        returned = "ranked.gains.fill_(ranked.best).sum(1).double() + ranked.hits.fill_(True).sum(1)"
        text = METRIC.replace("{returned}", returned).replace('"careless"', f'"writes-{own}"')
        for name, depth, option in (("two", "k", ", *, k=2"), ("some", "R", "")):
            more = METRIC.replace("{returned}", "ranked.hits[:, :99].sum(1).double()").replace(
                "(ranked)", f"(ranked{option})"
            )
            text += more.replace('"careless"', f'"{name}-{own}", depth="{depth}"')
        names = [name if name == "map" else f"{name}-{own}" for name in metrics]
        record = run(tmp_path / own, text, f"evaluation.metrics={names}", "evaluation.ks=[1]")
        assert record.status == "done", record.reason
        return [[of[name] for of in record.metrics.values()] for name in names]

    together = scores("writes", "two", "some", "map")
    assert together[1:] == [*scores("two"), *scores("some"), *scores("map")]


@pytest.mark.parametrize("name", ["triplet", "mean", "worst", "per-task", "hit@1", "mine@5"])
def test_no_metric_takes_the_name_of_another_measure(tmp_path: Path, name: str) -> None:
    (tmp_path / "careless.py").write_text(METRIC.replace("{returned}", "None").replace("careless", name, 1))
    (broken,) = load_plugins([tmp_path / "careless.py"])
    assert f"'{name}' s" in broken.reason
    assert broken.reason.endswith("call the metric something else")


def test_an_exception_names_the_plug_ins_own_line(tmp_path: Path) -> None:
    record = run(tmp_path, LOSS.replace("{returned}", "torch.stack([losses, losses[:1]])"), "loss={name='careless'}")
    assert record.status == "failed"
    assert record.reason.startswith("RuntimeError: ")
    assert record.reason.endswith("(loss 'careless', careless.py:11)")


@pytest.mark.parametrize("place", ["__init__", "forward"])
def test_sys_exit_in_a_method_is_its_failure_and_nobody_elses(tmp_path: Path, place: str) -> None:
    """Otherwise the command ends with code 0: `check` would pass, and no other method would be trained."""
    body, head = ARCHITECTURE.replace("{returned}", "found"), "super().__init__(backbones, tasks)\n"
    where = {"__init__": head, "forward": "def forward(self, images):\n"}[place]
    text = body.replace(where, f"{where}        raise SystemExit\n").replace(
        '"careless"', f'"quits-{place.strip("_")}"'
    )
    (tmp_path / "quits.py").write_text(text)
    plugin = ("--plugins", tmp_path / "quits.py")
    name = f"quits-{place.strip('_')}"
    checked = run_command("check", name, *plugin)
    assert checked.code == 1, checked
    assert "SystemExit" in checked.out
    words = ("run", "--dataset", "shoes", "--quick", "--methods", f"{name},single", *SHORT)
    ended = run_command(*words, "--results", tmp_path / "results", *plugin)
    assert ended.code == 1, ended
    statuses = {
        record.method: record.status for record in find_records(tmp_path / "results") if record.kind == "method"
    }
    assert statuses == {name: "failed", "single": "done"}


READER = """
from mtlbench import Reader, register_reader

@register_reader("careless")
class Careless(Reader):
    '''Careless.'''

    def read(self, folder, data):
        return {returned}
"""
EXECUTOR = """
from mtlbench import Executor, register_executor

@register_executor("careless")
class Careless(Executor):
    '''Careless.'''

    def __init__(self, *, host: str = "here"):
        self.host = {{"here": 1, "slow": 1}}[host]

    def threads(self, available):
        return {threads}

    def at_once(self):
        return {at_once}

    def run(self, jobs, watcher, stop):
        return None
"""


@pytest.mark.parametrize("command", [("run", "--dataset"), ("data", "check")])
@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("[]", "The reader 'careless' (careless.py:8) must return a Table from read, not a list of 0."),
        ("{}['x']", "KeyError: 'x' (reader 'careless', careless.py:9)."),
    ],
)
def test_a_readers_table(tmp_path: Path, command: tuple[str, ...], returned: str, said: str) -> None:
    (tmp_path / "careless.py").write_text(READER.replace("{returned}", returned))
    (tmp_path / "mine.toml").write_text("[data]\nreader = 'careless'\nfolder = '.'\n")
    words = [*command, tmp_path / "mine.toml", "--plugins", tmp_path / "careless.py"]
    assert run_command(*words).error == said


SHORT = [
    word
    for setting in ("data.rendered.images=200", "train.steps=2", "evaluation.every=2", "evaluation.triplets=50")
    for word in ("--set", setting)
]


@pytest.mark.parametrize(
    ("threads", "at_once", "on", "code", "said"),
    [
        (
            "available",
            1,
            "careless",
            1,
            "'careless' (careless.py:17) must leave a run record of every job, not none of",
        ),
        ("None", 1, "careless", 2, "(careless.py:11) must return a whole number above 0 from threads, not None"),
        ("1", 0, "careless", 2, "(careless.py:14) must return a whole number above 0 from at_once, not 0"),
        ("1", 1, "careless[host=far]", 2, "KeyError: 'far' (executor 'careless', careless.py:9)"),
    ],
)
def test_an_executors_work(tmp_path: Path, threads: str, at_once: int, on: str, code: int, said: str) -> None:
    (tmp_path / "careless.py").write_text(EXECUTOR.format(threads=threads, at_once=at_once))
    words = ["run", "--dataset", "shoes", "--quick", "--methods", "shared", *SHORT, "--results", tmp_path / "results"]
    ended = run_command(*words, "--on", on, "--plugins", tmp_path / "careless.py")
    assert ended.code == code, ended
    assert said in " ".join((ended.out + ended.err).split())
    assert "Traceback" not in ended.out + ended.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            LOSS.replace("def forward", "def __init__(self, context, margin=0.2):\n        pass\n\n    def forward"),
            "'careless' must take its options as keyword-only arguments, behind a star: (context, *, margin=…)",
        ),
        (
            LOSS.replace("def forward", "def __init__(self):\n        pass\n\n    def forward"),
            "the loss 'careless' must take context, not ()",
        ),
        (METRIC.replace("(ranked)", "(ranked, k=3)"), "behind a star: (ranked, *, k=…)"),
        (AUGMENTATION.replace("(images, generator)", "(images)"), "must take images and generator, not (images)"),
        (ARCHITECTURE.replace("backbones, tasks)", "tasks)"), "must take backbones and tasks, not (tasks)"),
    ],
)
def test_arguments_that_mtlbench_does_not_give_are_told_when_the_file_is_loaded(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "careless.py").write_text(text)
    (broken,) = load_plugins([tmp_path / "careless.py"])
    assert said in broken.reason

"""What architectures declare to have learned: it is there in their checkpoints, in the shapes that they say."""

from __future__ import annotations

import json

import pytest
from support import TASKS, make_dataset, protocol

from mtlbench import Learned
from mtlbench.cost import weights_of
from mtlbench.jobs.execute import execute
from mtlbench.jobs.job import Watcher
from mtlbench.jobs.plan import plan
from mtlbench.networks import build
from mtlbench.plugins import load_plugins
from mtlbench.registry import ARCHITECTURES
from mtlbench.report.figures.learned import channels
from mtlbench.report.figures.scene import Scene
from mtlbench.report.suites import suites
from mtlbench.runs import find_records
from mtlbench.specs import parse_method, parse_methods

load_plugins()


@pytest.mark.parametrize("method", [*ARCHITECTURES, "csn[masks=fixed]", "modulation[place=after-norm,after=all]"])
def test_what_is_declared_lies_in_the_checkpoint_in_the_shape_that_is_said(method):
    architecture, _ = build(parse_method(method), protocol(), TASKS, 0)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights_of(architecture).items()}
    for one in architecture.learned():
        assert one.meaning
        found = [shapes[name] if one.row is None else shapes[name][1:] for name in one.tensors]
        if one.axes == ("task", "task"):
            assert found == [(len(TASKS), len(TASKS))]
        else:
            assert len(found) == len(TASKS)
            assert len(set(found)) == 1
            assert len(found[0]) == 1


@pytest.mark.parametrize(
    ("method", "names"),
    [("modulation", {"scales"}), ("film", {"scales", "shifts"}), ("csn", {"masks"}), ("embedding-mask", {"masks"}),
     ("cross-stitch", {"units"}), ("shared", set())],
)  # fmt: skip
def test_these_methods_declare(method, names):
    architecture, _ = build(parse_method(method), protocol(), TASKS, 0)
    assert {one.name for one in architecture.learned()} == names


def test_a_record_gives_back_what_was_declared():
    one = Learned("shifts", "layer 3", ("rows.3.0", "rows.3.1"), ("task", "channel"), "what is added", 0.0, row=1)
    assert Learned.from_json(json.loads(json.dumps(one.as_json()))) == one


def test_a_run_writes_what_was_declared_and_reports_draw_it(tmp_path):
    short = protocol("train.steps=2", "evaluation.every=1")
    (job,) = plan(parse_methods("film"), (0,), short, make_dataset(), "fp32", tmp_path)
    execute(job, short, make_dataset(), "fp32", Watcher())
    (record,) = find_records(tmp_path)
    assert {Learned.from_json(one).name for one in record.learned or []} == {"scales", "shifts"}
    drawn = channels(Scene.of(suites([record])[0], tmp_path))
    assert [drawing.stem for drawing in drawn] == ["scales-film", "shifts-film"]

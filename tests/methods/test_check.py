"""`mtlbench.checks`: each planted fault is caught by the item that is about it, and by no other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mtlbench.checks import ARCHITECTURE_ITEMS, BALANCER_ITEMS, Part, Subject, parts_of
from mtlbench.checks.architecture import unregistered
from mtlbench.checks.items import Fault, Items, NotApplicable, Result, run_items
from mtlbench.checks.options import ITEM
from mtlbench.errors import UserError
from mtlbench.plugins import load_plugins
from mtlbench.registry import ARCHITECTURES, BALANCERS
from mtlbench.specs import parse_method

FAULTY = Path(__file__).parent / "faulty"
MOVES = next(item.name for item in ARCHITECTURE_ITEMS if "device" in item.name)
AGREE, LEAK, BATCH = (
    "embed, forward and embed_task agree",
    "no leak between tasks",
    "in evaluation an image's batch does not matter",
)
SPEED = "speed beside a shared trunk"
CHECKPOINT = "a checkpoint brings it back"
START, ORDER = "a task starts the same whichever others there are", "the order of tasks does not matter"
OWN = "only a task's own loss reaches what is its own"
# what fails for each architecture, and words of its reason
ARCHITECTURES_CAUGHT = {
    "sound": ({}, ""),
    "task-average": ({LEAK}, "leading axis"),
    "batch-statistics": ({BATCH}, "running ones in buffers"),
    "joint-batch-norm": ({LEAK, BATCH}, "leading axis"),
    "unused-parameter": ({"every parameter is used"}, "none for projection"),
    "plain-attribute": ({CHECKPOINT, MOVES}, "register_buffer"),
    "counts-steps": ({"training goes on from a checkpoint"}, "count steps and the like in buffers"),
    "warms-up": ({"training goes on from a checkpoint"}, "a plain attribute: self.steps"),
    "looks-back": ({}, ""),
    "in-place": ({"shapes"}, "forward changes its images in place"),
    "made-on-the-cpu": ({MOVES}, "torch.zeros(…, device=images.device)"),
    "batch-first": ({"shapes"}, "(T, B, D) = (3, 4, 8)"),
    "other-embed": ({AGREE}, "embed to give what forward gives"),
    "other-embed-task": ({AGREE}, "embed_task(images, 0) to give embed(images)[0]"),
    "embed-detached": ({"embed trains as forward does"}, "no detach"),
    "squeezes-one": ({BATCH}, "embed_task to embed a single image"),
    "claims-the-shared": ({OWN}, "which task_state(0) names"),
    "one-table": ({"what counts as shared serves several tasks"}, "a part for each task in scales"),
    "fused-head": ({"what counts as shared serves several tasks"}, "a part for each task in head"),
    "adapters": ({}, ""),
    "placed-adapters": ({START}, "other values of its own parameters"),
    "drawn-by-python": ({"the same seed gives the same network"}, "draw with torch alone"),
    "always-dropping": ({"two passes in evaluation are equal"}, "if self.training"),
    "two-at-least": ({"it works with 1 task"}, "AssertionError: there is no other task"),
    "fixed-channels": ({"it works on another backbone"}, "backbones.channels"),
    "float-only": ({"it computes in bfloat16"}, "must have the same scalar type"),
    "drawn-globally": ({"the same seed gives the same network"}, "offset"),
    "placed-start": ({START, ORDER}, "backbones.seeded(task)"),
    "mixes-unsaid": ({OWN}, "set mixes_tasks = True"),
    "mixes-in-words": ({OWN}, "leave mixes_tasks out"),
    "idle-rate": ({"a rate acts"}, "return it in learning_rate_scales"),
    "needs-an-option": ({"it is built", ITEM}, "a default for the option after"),
    "search-beyond": ({ITEM}, "with after=99, which its search holds"),
    "wrong-rates": ({"the optional parts are well-formed"}, "'scale.'"),
}
SCALE, WEIGHTS = "weights of 1 mean the plain mean", "its weights are (T,), detached and its own copy"
BALANCERS_CAUGHT = {
    "sound-weights": ({}, ""),
    "forgetful": ({"a checkpoint brings its memory back"}, "register_buffer"),
    "warms-up": ({"a checkpoint brings its memory back"}, "a plain attribute: self.past"),
    "sums-to-one": ({SCALE}, "one 0.333 times as long"),
    "later-scale": ({SCALE}, "at step 3"),
    "three-or-none": ({"it works with 1, 2 and 40 tasks"}, "it refuses all of them"),
    "plain-sum": ({SCALE}, "one 3 times as long"),
    "logarithmic": ({"losses of 0 leave all finite"}, "clamp_min(1e-3)"),
    "keeps-the-graph": ({WEIGHTS}, "detach"),
    "reuses-its-weights": ({WEIGHTS}, "clone"),
    "prefers-the-first": ({"another order of tasks only reorders its weights"}, "whatever their place"),
    "made-for-three": ({"it works with 1, 2 and 40 tasks"}, ""),
    "returns-only": ({"gradients arrive in .grad"}, "weighted_backward"),
    "untyped-option": ({ITEM}, "a type for the option power"),
    "unread-type": ({ITEM}, "name 'Literal' is not defined"),
    "search-misspelt": ({ITEM}, "'pover'. Did you mean: power?"),
    "search-between": ({ITEM}, "steps=1.74"),
    "search-refused": ({ITEM}, "power must be at most 1."),
    "seeded-by-the-class": ({"the same losses give the same update"}, "on the class"),
}


@pytest.fixture(autouse=True)
def _faulty() -> None:
    """The faulty ones are there for a test and gone after it: `all` must not hold them elsewhere."""
    assert load_plugins([FAULTY]) == []


def failures(spec: str, kind: str) -> dict[str, Result]:
    method = parse_method(spec)
    if kind == "architecture":
        items = [
            item for item in ARCHITECTURE_ITEMS if item.name != SPEED
        ]  # takes seconds, and fails only what is absurd
        results = list(run_items(items, Subject(method)))
    else:
        items = BALANCER_ITEMS
        results = list(Part(kind, method).results())
    assert [r.name for r in results] == [item.name for item in items]  # nothing is left out silently
    return {r.name: r for r in results if r.status == "failed"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES_CAUGHT)
def test_an_architectures_fault_is_caught_by_its_item(name: str) -> None:
    expected, words = ARCHITECTURES_CAUGHT[name]
    found = failures(name, "architecture")
    assert set(found) == set(expected), {n: r.lines for n, r in found.items()}
    assert all(r.expected and r.found for r in found.values())
    assert words in " ".join(line for r in found.values() for line in r.lines)


@pytest.mark.parametrize("name", BALANCERS_CAUGHT)
def test_a_balancers_fault_is_caught_by_its_item(name: str) -> None:
    expected, words = BALANCERS_CAUGHT[name]
    found = failures(f"shared+{name}", "balancer")
    assert set(found) == set(expected), {n: r.lines for n, r in found.items()}
    assert all(r.expected and r.found for r in found.values())
    assert words in " ".join(line for r in found.values() for line in r.lines)


def test_every_faulty_method_has_an_expectation() -> None:
    here = {n for r in (ARCHITECTURES, BALANCERS) for n, e in r.entries.items() if str(FAULTY) in e.origin}
    assert here == {*ARCHITECTURES_CAUGHT, *BALANCERS_CAUGHT}
    assert len(here) > 20


# --- how items are run ------------------------------------------------------------------------------------------------


def items_that(*outcomes: BaseException | str) -> list[Result]:
    items: Items[None] = Items()

    def make(number: int, outcome: BaseException | str) -> None:
        @items(f"item {number}", *([f"item {number - 1}"] if number else []))
        def _(subject: None) -> str:
            if isinstance(outcome, str):
                return outcome
            raise outcome

    for number, outcome in enumerate(outcomes):
        make(number, outcome)
    return list(run_items(items, None))


def test_what_needs_a_failed_item_is_skipped_with_that_reason_and_so_is_what_needs_that() -> None:
    results = items_that("fine", Fault("a", "b", "c"), "never", "never")
    assert [r.status for r in results] == ["passed", "failed", "skipped", "skipped"]
    assert results[1].lines == ["expected: a", "found: b", "to mend it: c"]
    assert results[2].note == "not checked, since 'item 1' did not hold"
    assert results[3].note == "not checked, since 'item 2' did not hold"


def test_an_item_that_does_not_apply_holds_nothing_up() -> None:
    results = items_that(NotApplicable("by design"), "fine")
    assert [(r.status, r.note) for r in results] == [("skipped", "by design"), ("passed", "fine")]


def test_any_error_is_a_finding_but_what_the_method_says_to_its_user_at_first_is_not() -> None:
    (result,) = items_that(KeyError("gone"))
    assert result.status == "failed"
    assert result.found.startswith("KeyError: 'gone' (")
    assert "test_check.py:" in result.found
    with pytest.raises(UserError, match="an option"):
        items_that(UserError("an option is wrong"))


def test_what_the_method_says_to_its_user_after_it_was_built_is_a_finding_and_not_the_end() -> None:
    results = items_that("built", UserError("not with these tasks"), "never")
    assert [r.status for r in results] == ["passed", "failed", "skipped"]
    assert results[1].found == "not with these tasks"


def test_a_balancers_gradients_may_arrive_behind_a_factor_that_starts_at_0() -> None:
    assert failures("adapters+sound-weights", "balancer") == {}


def test_an_item_can_only_need_what_comes_before_it() -> None:
    items: Items[None] = Items()
    with pytest.raises(ValueError, match="does not come before"):
        items("first", "later")


def test_checking_leaves_the_random_state_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(Part("balancer", parse_method("gradnorm")).results())
    assert torch.equal(torch.rand(3), expected)


def test_the_plain_mean_is_not_checked_again_and_any_other_balancer_is() -> None:
    assert [p.kind for p in parts_of(parse_method("shared"))] == ["architecture"]
    assert [p.kind for p in parts_of(parse_method("shared+gradnorm"))] == ["architecture", "balancer"]
    assert parts_of(parse_method("modulation[after=3]+gradnorm"))[0].spec == "modulation[after=3]"


def test_tensors_that_hide_in_attributes_are_found_wherever_they_are() -> None:
    net = nn.Module()
    net.known, net.alias = nn.Parameter(torch.ones(1)), None
    net.register_buffer("buffer", torch.ones(1))
    net.alias = [net.known]  # a second name of a parameter hides nothing
    net.loose, net.many, net.named = torch.ones(1), [torch.ones(1)], {"x": (torch.ones(1),)}
    net.layers = [nn.Linear(1, 1, bias=False)]
    net.inner = nn.Module()
    net.inner.loose = torch.ones(1)
    assert unregistered(net) == ["loose", "many[0]", "named['x'][0]", "layers[0].weight", "inner.loose"]


def test_options_with_a_value_a_task_say_how_many_tasks_there_are() -> None:
    assert failures("shared+static[weights=1:2]", "balancer") == {}
    assert failures("shared+static[weights=3:1:2:2]", "balancer") == {}
    with pytest.raises(UserError, match="static wants 3 weights"):
        failures("shared+static", "balancer")

"""What a `--methods` value means: which methods, with which options, under which name."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtlbench import (
    Architecture,
    BackboneFactory,
    Balancer,
    UserError,
    register_architecture,
    register_balancer,
    register_method,
)
from mtlbench.specs import Method, method_groups, method_names, parse_method, parse_methods

CORE = ["cross-stitch", "gradnorm", "independent", "modulation", "shared"]


class Several(Architecture):
    def __init__(
        self,
        backbones: BackboneFactory,
        tasks: Sequence[str],
        *,
        depth: int = 1,
        rate: float = 0.1,
        open: bool = False,
        word: str = "w",
        after: int | tuple[int, ...] | None = None,
        shares: tuple[float, ...] = (),
        mode: Literal["soft", "hard"] = "soft",
        free: Any = None,
    ) -> None:
        super().__init__(backbones, tasks)

    def forward(self, images: Tensor) -> Tensor:
        return images


class Weighing(Balancer):
    def __init__(self, tasks: Sequence[str], *, pull: float = 1.0, depth: int = 0) -> None:
        super().__init__(tasks)

    def backward(self, losses: Tensor, architecture: Architecture) -> Tensor:
        return losses


@pytest.fixture(autouse=True)
def _parts() -> None:
    """Two parts with options of every type."""
    register_architecture("several", groups=("own",))(Several)
    register_balancer("weighing")(Weighing)
    register_method("pair", architecture="several", balancer="weighing", groups=("own",))
    register_method("later", architecture="several", balancer="weighing")


def names(text: str) -> list[str]:
    return [method.name for method in parse_methods(text)]


# --- which methods ----------------------------------------------------------------------------------------------------


def test_core_is_the_five_of_the_papers_comparison() -> None:
    assert names("core") == CORE


def test_a_pattern_is_every_method_whose_name_fits_it() -> None:
    assert names("c?n") == ["csn"]
    assert names("single,c*n") == ["single", "csn"]
    assert set(names("mo*")) == {"modo", "modulation"}
    with pytest.raises(UserError, match=r"--methods nope\*: no method has such a name\. Available: .*shared"):
        parse_methods("core,nope*")


def test_all_is_every_named_method_and_a_plug_ins_group_is_its_methods() -> None:
    assert {*CORE, "pair", "several", "single", "mtan", "uw"} <= set(names("all"))
    assert set(names("all")) <= set(method_names())  # two names of one pair are one method
    assert names("own") == ["pair", "several"]
    assert method_groups()["own"] == ["pair", "several"]


def test_methods_come_once_in_the_order_given() -> None:
    assert names("single,core") == ["single", *CORE]
    assert names("shared, modulation ,shared,,") == ["shared", "modulation"]
    assert names("shared+gradnorm,gradnorm,gradnorm[]") == ["gradnorm"]
    assert names("gradnorm[alpha=1],gradnorm[alpha=1.0],shared+gradnorm[alpha=1e0]") == ["gradnorm[alpha=1.0]"]
    assert names("core,gradnorm[alpha=0.12]") == [*CORE, "gradnorm[alpha=0.12]"]


def test_commas_in_brackets_do_not_separate_methods() -> None:
    assert names("several[depth=2,rate=0.5]+weighing[pull=3,depth=4],single") == [
        "several[depth=2,rate=0.5]+weighing[depth=4,pull=3.0]",
        "single",
    ]


def test_a_plain_architecture_has_the_plain_mean() -> None:
    (method,) = parse_methods("modulation")
    assert method == Method("modulation", "modulation", "mean")
    assert parse_method("modulation+mean") == method


@pytest.mark.parametrize(
    "text", ["gradnorm[alpha=0.12]", "shared+gradnorm[alpha=0.12]", " shared + gradnorm[ alpha = .12 ]"]
)
def test_a_pair_with_a_name_of_its_own_is_called_by_it(text: str) -> None:
    assert parse_method(text) == Method("gradnorm[alpha=0.12]", "shared", "gradnorm", {}, {"alpha": 0.12})


def test_a_pair_without_a_name_is_called_by_its_parts() -> None:
    assert parse_method("modulation[after=3:4]+gradnorm") == Method(
        "modulation[after=3:4]+gradnorm", "modulation", "gradnorm", {"after": (3, 4)}, {}
    )


def test_the_first_of_two_names_for_a_pair_is_the_one_that_results_are_kept_under() -> None:
    assert names("later,several+weighing,pair") == ["pair"]


def test_a_named_methods_options_go_to_the_part_that_has_them() -> None:
    method = parse_method("pair[pull=2,rate=0.5]")
    assert (method.architecture_options, method.balancer_options) == ({"rate": 0.5}, {"pull": 2.0})
    assert method.name == "several[rate=0.5]+weighing[pull=2.0]"
    assert parse_method("pair[depth=3]").balancer_options == {"depth": 3}


def test_options_are_named_in_alphabetical_order_and_hyphens_are_underscores() -> None:
    assert names("several[word=x,depth=3],several[depth=3,word=x]") == ["several[depth=3,word=x]"]

    @register_architecture("hyphens")
    class _Hyphens(Several):
        def __init__(self, backbones: BackboneFactory, tasks: Sequence[str], *, two_words: int = 0) -> None:
            super().__init__(backbones, tasks)

    assert parse_method("hyphens[two-words=4]").architecture_options == {"two_words": 4}


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("depth=3", 3),
        ("depth=-3", -3),
        ("rate=3", 3.0),
        ("rate=1e-3", 0.001),
        ("open=true", True),
        ("open=False", False),
        ("word=soft", "soft"),
        ("word=5", "5"),
        ("word=true", "true"),
        ("word=a:b", "a:b"),
        ("word=a=b", "a=b"),
        ("after=3", 3),
        ("after=3:4:5", (3, 4, 5)),
        ("after=3:", (3,)),
        ("shares=1:0.5", (1.0, 0.5)),
        ("mode=hard", "hard"),
        ("free=3:x:true", (3, "x", True)),
        ("free=0.5", 0.5),
    ],
)
def test_a_value_has_the_type_that_the_option_is_annotated_with(text: str, value: object) -> None:
    (got,) = parse_method(f"several[{text}]").architecture_options.values()
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("several[depth=x]", "architecture 'several' can't take depth=x: input should be a valid integer"),
        ("several[depth=2.5]", "can't take depth=2.5"),
        ("several[depth=true]", "can't take depth=true"),
        ("several[rate=fast]", "can't take rate=fast: input should be a valid number"),
        ("several[rate=nan]", "can't take rate=nan: input should be a finite number"),
        ("several[rate=inf]", "can't take rate=inf: input should be a finite number"),
        ("several[open=maybe]", "can't take open=maybe: input should be a valid boolean"),
        ("several[after=3:x]", "can't take after=3:x"),
        ("several[mode=sft]", "can't take mode=sft: input should be 'soft' or 'hard'"),
        ("several[shares=0.1]", "can't take shares=0.1: input should be a valid tuple"),
        ("gradnorm[alpha=x]", "balancer 'gradnorm' can't take alpha=x"),
        ("several[after=:]", "architecture 'several' can't take after=:"),
    ],
)
def test_a_value_of_another_type_is_the_users_error_that_names_option_and_value(text: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_method(text)
    assert reason in str(caught.value)


def test_a_value_that_the_part_refuses_is_the_users_error_when_it_is_built() -> None:
    with torch.device("meta"):
        backbones = BackboneFactory("small", (32, 32), 8, 0, False)
        with pytest.raises(UserError, match=r"modulation: after=9 must name layers"):
            parse_method("modulation[after=9]").build(backbones, ("a", "b"))
        with pytest.raises(UserError, match="Independent has none"):
            parse_method("independent+gradnorm").build(backbones, ("a", "b"))
        architecture, balancer = parse_method("modulation[after=2]+gradnorm[alpha=0.5]").build(backbones, ("a", "b"))
    assert architecture.tasks == ("a", "b")
    assert set(architecture.get_submodule("scales")._modules) == {"2"}
    assert balancer.alpha == 0.5  # type: ignore[comparison-overlap]


# --- what can't be read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("modulaton", "Unknown method 'modulaton'. Did you mean: modulation, modo?"),
        ("cros_stitch", "Did you mean: cross-stitch?"),
        ("mine", "One in a file of your own needs --plugins FILE."),
        ("cor", "Did you mean: core?"),
        ("modulatoin+gradnorm", "Unknown method 'modulatoin'. Did you mean: modulation?"),
        ("shared+gradnrm", "Unknown balancer 'gradnrm'. Did you mean: gradnorm, graddrop, upgrad? Available: gradnorm"),
        ("weighing", "It is a balancer: write it after an architecture, as in architecture+weighing."),
        ("gradnorm+weighing", "gradnorm is shared+gradnorm, which already has a balancer"),
        ("core+gradnorm", "'core' is a group and takes no options or balancer"),
        ("core[alpha=1]", "'core' is a group and takes no options or balancer"),
        (
            "gradnorm[alpa=0.1]",
            "The method 'gradnorm' has no option 'alpa'. Did you mean: alpha? It has: alpha, lr, optimiser.",
        ),
        ("shared+gradnorm[alfa=1]", "The balancer 'gradnorm' has no option 'alfa'. Did you mean: alpha?"),
        ("modulation[aftr=1]", "The architecture 'modulation' has no option 'aftr'. Did you mean: after?"),
        ("shared[alpha=1]+gradnorm", "The architecture 'shared' has no option 'alpha'. It has none."),
        ("single[tasks=3]", "has no option 'tasks'"),
    ],
)
def test_an_unknown_word_is_answered_with_what_was_meant(text: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_methods(text)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("shared+gradnorm+mean", "one architecture and at most one balancer"),
        ("a+b+c", "one architecture and at most one balancer"),
        ("shared++gradnorm", "can't be read"),
        ("modulation[", "'modulation[' can't be read"),
        ("modulation]", "'modulation]' can't be read"),
        ("modulation[after=1,shared", "can't be read"),
        ("modulation[after=1]x", "can't be read"),
        ("modulation[after=[1,2]]", "can't be read"),
        ("[after=1]", "can't be read"),
        ("+gradnorm", "can't be read"),
        ("shared+", "can't be read"),
        ("modulation[=1]", "'=1' is not option=value"),
        ("modulation[after=]", "'after=' is not option=value"),
        ("modulation[after]", "'after' is not option=value"),
        ("several[depth=1,depth=2]", "the option 'depth' has two values"),
    ],
)
def test_malformed_text_is_the_users_error_that_quotes_it(text: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_methods(text)
    assert f"'{text}'" in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize("text", ["", " ", ",", " , ,"])
def test_no_method_at_all_is_the_users_error_with_the_remedy(text: str) -> None:
    with pytest.raises(UserError, match="--methods is empty: name a group or methods, such as --methods core"):
        parse_methods(text)
    with pytest.raises(UserError, match="can't be read"):
        parse_method(text.replace(",", ""))


# --- properties -------------------------------------------------------------------------------------------------------

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = {
    "depth": st.integers(),
    "rate": NUMBERS,
    "open": st.booleans(),
    "word": st.text("ab=:+-.1é%", min_size=1, max_size=8),
    "after": st.integers() | st.lists(st.integers(), min_size=1, max_size=4).map(lambda v: ":".join(map(str, v)) + ":"),
    "shares": st.lists(NUMBERS, min_size=1, max_size=4).map(lambda v: ":".join(map(str, v)) + ":"),
    "mode": st.sampled_from(["soft", "hard"]),
    "free": st.integers() | NUMBERS | st.booleans() | st.from_regex(r"[a-z]{1,8}(:[0-9a-z]{1,3})*:?", fullmatch=True),
}
OPTIONS = st.fixed_dictionaries({}, optional=VALUES)
BALANCER_OPTIONS = st.fixed_dictionaries({}, optional={"pull": NUMBERS, "depth": st.integers()})


def written(name: str, options: dict[str, Any]) -> str:
    return f"{name}[{','.join(f'{k}={v}' for k, v in options.items())}]"


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault
@given(OPTIONS, BALANCER_OPTIONS, st.sampled_from(["weighing", "mean"]))
def test_a_methods_name_is_a_spec_of_the_same_method(
    options: dict[str, Any], balancer_options: dict[str, Any], balancer: str
) -> None:
    assume(balancer == "weighing" or not balancer_options)
    method = parse_method(f"{written('several', options)}+{written(balancer, balancer_options)}")
    assert set(method.architecture_options) == set(options)
    assert set(method.balancer_options) == set(balancer_options)
    assert parse_method(method.name) == method
    assert parse_methods(f"single,{method.name}") == [parse_method("single"), method]


@given(st.text(st.sampled_from("ab=[],+:.1 ") | st.characters(), max_size=20))
def test_any_text_is_read_or_is_the_users_error(text: str) -> None:
    with suppress(UserError):
        assert parse_methods(text)

"""Recipes: read, put to use, part of what a run is, told by its row and its receipt; written and replaced in a file."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from report_records import record, shown, unwrapped
from support import make_dataset, protocol, run_command
from tuning_support import tuned, tuning_of

from mtlbench.benchmark import load_benchmark
from mtlbench.errors import UserError
from mtlbench.jobs.factors import Variant
from mtlbench.jobs.job import Job
from mtlbench.jobs.plan import plan
from mtlbench.jobs.recipes import read_recipes, recipes_from_elsewhere, with_recipe_of
from mtlbench.jobs.recipes import with_recipes as recipes_of
from mtlbench.plugins import load_plugins
from mtlbench.recipes import Range, Recipe, conditions, unlike
from mtlbench.report.suites import by_recipe, suites
from mtlbench.runs import Record, differences, find_records
from mtlbench.runs.provenance import setup_of
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer
from mtlbench.tuning.outcome import FOLDER, Outcome, places, sentences, write_recipes, write_trials
from mtlbench.tuning.study import Trial

load_plugins()
SHORT = (
    "train.steps=2", "train.triplets=2", "train.joint_triplets=8", "evaluation.every=2", "evaluation.triplets=50",
    "model.embedding=8", "data.image_size=24", "train.precision=fp32", "data.rendered.images=120",
)  # fmt: skip
FOUND = {"trials": 16, "split": "val", "seeds": [0], "command": "mtlbench tune --trials 16"}


def with_recipes(**recipes: Recipe):
    return protocol().model_copy(update={"recipes": recipes})


def setup(method, benchmark):
    return setup_of(method, benchmark, make_dataset(), 0, "fp32")


def test_a_recipe_is_part_of_what_a_run_is_and_nobody_elses():
    recipe = Recipe(options={"rate": 30}, train={"lr": 0.01}, found=FOUND)
    plain, benchmark = protocol(), with_recipes(modulation=recipe)
    method = with_recipe_of(benchmark, parse_method("modulation"))
    unlike = differences(setup(parse_method("modulation"), plain), setup(method, benchmark))
    assert any("recipe" in one for one in unlike)
    assert setup(method, benchmark)["benchmark"] == setup(parse_method("modulation"), plain)["benchmark"]
    other = parse_method("shared")
    assert setup(with_recipe_of(benchmark, other), benchmark) == setup(other, plain)
    # where it came from decides nothing
    assert setup(with_recipe_of(with_recipes(modulation=recipe.model_copy(update={"found": {}})), parse_method(
        "modulation")), benchmark) == setup(method, benchmark)  # fmt: skip
    options = with_recipe_of(benchmark, parse_method("modulation[after=4]"))
    assert options.recipe is None


def test_training_has_its_settings_and_options():
    benchmark = with_recipes(modulation=Recipe(options={"rate": 30}, train={"lr": 0.01, "weight_decay": 0.2}))
    trainer = Trainer(with_recipe_of(benchmark, parse_method("modulation")), benchmark, make_dataset(), 0, "fp32")
    assert trainer.protocol.lr == 0.01
    assert trainer.protocol.steps == protocol().train.steps
    assert {g["weight_decay"] for g in trainer.optimiser.param_groups} == {0.2, 0.0}
    assert {g["scale"] for g in trainer.optimiser.param_groups} == {1.0, 30.0}


def test_a_job_takes_it_along(tmp_path):
    recipe = Recipe(options={"after": [3, 4], "rate": 3}, loss={"margin": 0.5}, found=FOUND)
    benchmark = with_recipes(modulation=recipe)
    method = with_recipe_of(benchmark, parse_method("modulation"))
    (job,) = plan([method], (0,), benchmark, make_dataset(), "fp32", tmp_path)
    assert Job.from_json(job.to_json()) == job
    assert job.folder.parent.name == "modulation@tuned"
    assert job.label == "modulation, tuned, seed 0"
    assert setup(Job.from_json(job.to_json()).method, benchmark) == job.setup


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[recipes.shared]\ntrain.lr = "fast"', "recipes.shared: train.lr: .*number"),
        ("[recipes.shared]\ntrain.step = 3", "recipes.shared: unknown key 'train.step'. Did you mean: steps"),
        ("[recipes.shared]\ntrain.steps = 3", "train.steps is the same for every method"),
        ("[recipes.shared]\noption.rate = 3", "unknown key 'recipes.shared.option'. Did you mean: options"),
        ("[search]\ntrain.lr = { low = 2, high = 1 }", "low = 2 must be below high = 1"),
        ("[search]\ntrain.lr = { low = 0, high = 1, log = true }", "log = true needs low above 0"),
        ("[search]\ntrain.steps = { low = 2, high = 9 }", "train.steps is the same for every method"),
    ],
)
def test_mistakes_are_told_when_the_file_is_read(table, said, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(f'[data]\nreader = "zappos"\n{table}\n')
    with pytest.raises(UserError, match=said):
        load_benchmark(str(file))


def test_the_quick_protocol_has_recipes_of_its_own(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        '[data]\nreader = "zappos"\n[recipes.shared]\ntrain.lr = 0.1\n[quick.recipes.single]\ntrain.lr = 0.2\n'
    )
    assert set(load_benchmark(str(file)).recipes) == {"shared"}
    assert set(load_benchmark(str(file), quick=True).recipes) == {"single"}
    assert set(read_recipes(file, quick=True)) == {"single"}


def test_a_file_of_recipes_goes_before_the_benchmarks_method_by_method(tmp_path):
    """One of a method of one's own must not take away those of the methods it is compared with."""
    file = tmp_path / "mine.toml"
    file.write_text("[quick.recipes.mine]\ntrain.lr = 0.1\n[quick.recipes.shared]\ntrain.lr = 0.2\n")
    given = [Variant(with_recipes(shared=Recipe(train={"lr": 0.3}), single=Recipe(train={"lr": 0.4})))]
    given = [Variant(one.benchmark.model_copy(update={"protocol": "quick"})) for one in given]
    (found,) = recipes_of(given, plain=False, file=file)
    assert {name: one.train["lr"] for name, one in found.benchmark.recipes.items()} == {
        "mine": 0.1, "shared": 0.2, "single": 0.4,
    }  # fmt: skip
    (without,) = recipes_of(given, plain=True, file=None)
    assert without.benchmark.recipes == {}


def test_the_papers_protocols_are_not_tuned():
    for name in ("celeba", "zappos"):
        full = load_benchmark(name)
        assert not full.recipes
        assert not full.search.space()
        assert load_benchmark(name, quick=True).search.space()


def test_ranges():
    assert 3 in Range(1, 5)
    assert 3.5 not in Range(1, 5)
    assert 3.5 in Range(1.0, 5)
    assert 6 not in Range(1.0, 5)


# --- under other conditions -------------------------------------------------------------------------------------------


def conditions_here(**changed: object) -> dict[str, object]:
    dataset = make_dataset()
    here = conditions(protocol().model_dump(mode="json"), dataset.tasks, str(dataset.facts["fingerprint"]))
    return here | changed


def test_a_recipe_belongs_to_its_conditions():
    here = conditions_here()
    assert unlike(here, here) == []
    assert unlike({}, here) == unlike({"trials": 8}, here) == []  # unknown
    assert unlike(conditions_here(tasks=["a"] * 7), here) == [f"tasks (7, here {len(here['tasks'])})"]
    assert unlike(conditions_here(tasks=["a"] * len(here["tasks"])), here) == ["tasks"]
    assert unlike(conditions_here(tasks=here["tasks"][::-1], data="other"), here) == []  # the order of tasks is in it
    assert unlike(conditions_here(steps={"a": 1}), here) == [f"steps ({{'a': 1}}, here {here['steps']})"]  # by hand
    assert unlike(conditions_here(steps=20_000), here) == [f"steps (20,000, here {here['steps']:,})"]
    assert unlike(conditions_here(triplets=1234), here) == [f"triplets a task (1,234, here {here['triplets']})"]
    assert unlike(conditions_here(backbone="other"), here) == [f"backbone (other, here {here['backbone']})"]
    for key, then in (("loss", "pml:A"), ("optimiser", "sgd"), ("schedule", "cosine"), ("sampling", "other")):
        assert unlike(conditions_here(**{key: then}), here) == [f"{key} ({then}, here {here[key]})"]
    assert unlike(conditions_here(data="other"), here) == ["images"]
    assert unlike(conditions_here(data="other", tasks=["a"] * 7), here) == [f"tasks (7, here {len(here['tasks'])})"]
    assert unlike({"data": "other"}, here) == ["images or tasks"]
    edited = here | {"code": {"architecture": "1", "balancer": "3"}}
    assert unlike(here | {"code": {"architecture": "1"}}, edited) == []
    assert unlike(here | {"code": {"architecture": "2"}}, edited) == ["code"]
    assert unlike(here | {"code": {"architecture": "2"}}, here) == []  # of a record that doesn't say


def test_a_run_warns_of_recipes_from_elsewhere():
    shared = Recipe(train={"lr": 0.01}, found=conditions_here(tasks=["a"] * 7))
    benchmark = with_recipes(
        shared=shared,
        gradnorm=shared.model_copy(update={"found": conditions_here(tasks=["a"] * 7)}),
        modulation=Recipe(options={"rate": 30}, found=conditions_here(backbone="other")),
        single=Recipe(train={"lr": 0.02}, found=conditions_here()),
        film=Recipe(found=conditions_here(tasks=["a"] * 7)),  # the default won
    )
    named = ("shared", "gradnorm", "modulation", "single", "film", "independent")
    methods = [with_recipe_of(benchmark, parse_method(name)) for name in named]
    [said] = recipes_from_elsewhere(benchmark, methods, make_dataset())
    n = len(make_dataset().tasks)
    assert f"shared, gradnorm and film with other tasks (7, here {n}); modulation with other backbone" in said
    assert not {"single", "independent"} & set(said.split())
    assert "--plain" in said
    assert recipes_from_elsewhere(benchmark, [methods[3], methods[5]], make_dataset()) == []


def test_a_recipe_belongs_to_the_code_of_a_method_of_ones_own(tmp_path):
    """An edited method is another method, and its old recipe may be wrong for it."""
    from mtlbench.runs.provenance import own_sources

    plug = tmp_path / "own_balancer.py"
    text = (
        "import mtlbench\n\n\n@mtlbench.register_balancer('own-balancer')\nclass Own(mtlbench.Balancer):\n"
        "    scale = 1\n\n"
        "    def backward(self, losses, architecture):\n        losses.sum().backward()\n        return losses\n"
    )
    plug.write_text(text)
    load_plugins([plug])
    method = parse_method("shared+own-balancer")
    found = own_sources(method)
    assert list(found) == ["balancer"]
    assert own_sources(parse_method("shared")) == {}
    recipes = {method.name: Recipe(train={"lr": 0.1}, found=conditions_here(code=found))}
    benchmark = with_recipes(**recipes)
    tuned = [method.with_recipe({"train": {"lr": 0.1}})]
    assert recipes_from_elsewhere(benchmark, tuned, make_dataset()) == []
    plug.write_text(text.replace("scale = 1", "scale = 2"))
    load_plugins([plug])
    (said,) = recipes_from_elsewhere(benchmark, tuned, make_dataset())
    assert f"{method.name} with other code. mtlbench tune finds" in said


def test_tables_warn_of_recipes_from_elsewhere():
    plain = record("shared")
    here = tuned_record("modulation", steps=plain.setup["benchmark"]["train"]["steps"])
    assert "other conditions" not in shown([plain, here])
    text = unwrapped(shown([plain, tuned_record("modulation", steps=20_000, tasks=["one"])]))
    assert "recipes found under other conditions, perhaps wrong for these: modulation · tuned with other" in text
    assert f"tasks (1, here {len(plain.setup['tasks'])}) and steps (20,000, here" in text


def test_tables_warn_of_means_over_seeds_that_chose_their_recipe():
    """The winning trial had luck too, and the run of its seed has it again."""
    steps = record("shared").setup["benchmark"]["train"]["steps"]
    words = "recipes chosen with seeds that are measured here, so that means are a little too high: modulation · tuned."

    def text(*seeds: int) -> str:
        rows = [tuned_record("modulation", seed=seed, steps=steps, seeds=[1]) for seed in seeds]
        return unwrapped(shown([*(record("shared", seed) for seed in seeds), *rows]))

    assert words in text(0, 1)
    assert "recipes chosen" not in text(2, 3)
    assert "recipes chosen" not in text(1)  # no mean


def test_bundled_recipes_were_found_under_their_benchmarks_conditions():
    for name in ("shoes", "celeba", "faces"):
        benchmark = load_benchmark(name, quick=True)
        keys = set(conditions(benchmark.model_dump(mode="json"), benchmark.data.tasks, ""))
        for recipe in benchmark.recipes.values():
            assert keys <= set(recipe.found)
            assert recipe.found["tasks"] == list(benchmark.data.tasks)
            assert recipe.found["steps"] == benchmark.train.steps
            assert recipe.found["triplets"] == benchmark.train.triplets
            assert recipe.found["backbone"] == benchmark.model.backbone


# --- tables -----------------------------------------------------------------------------------------------------------


def tuned_record(method: str, seed: int = 0, hits: tuple[float, float] = (0.9, 0.7), **found: object) -> Record:
    made = record(method, seed, hits)
    made.setup = made.setup | {"method": {"name": method, "recipe": {"options": {"rate": 30.0}}}}
    made.receipt = made.receipt | {"recipe": FOUND | found}
    return made


def test_plain_and_tuned_rows_stand_beside_each_other():
    (suite,) = suites([record("modulation"), tuned_record("modulation"), record("independent")])
    assert [r.method for r in suite.records] == ["modulation", "modulation · tuned", "independent"]
    assert suite.row_of("modulation", "modulation · tuned") == "modulation · tuned"
    assert suite.row_of("independent", "modulation · tuned") == "independent"  # there is no tuned one
    text = unwrapped(shown([record("modulation"), tuned_record("modulation"), tuned_record("shared")]))
    assert "recipes: tuned, 16 trials a method on the val split, seed 0, by mtlbench tune --trials 16: " in text
    assert "modulation · tuned: rate=30" in text
    assert "not tuned are" not in text
    assert "not tuned: single. Methods with a tuned recipe had more trials" in unwrapped(
        shown([record("single"), tuned_record("modulation")])
    )
    assert "methods were tuned with different numbers of trials" in unwrapped(
        shown([tuned_record("single", trials=8), tuned_record("modulation")])
    )


def test_a_plain_row_whose_method_was_tuned_in_vain_counts_as_tuned(tmp_path):
    trials = tmp_path / "shoes-quick" / FOLDER
    trials.mkdir(parents=True)
    tried = [Trial("single", 0, "done", {}, 0.7), Trial("single", 1, "done", {"train.lr": 0.1}, 0.6)]
    write_trials(trials, [Outcome("single", tuple(tried))], {})
    records = [tuned_record("modulation"), record("single")]
    for one in records:
        one.setup = one.setup | {"benchmark": one.setup["benchmark"] | {"name": "shoes-quick"}}
    text = unwrapped(shown(records, results=tmp_path))
    assert "not tuned" not in text
    assert "The default won: single." in text
    write_trials(trials, [Outcome("single", tuple(replace(t, score=1 - t.score) for t in tried))], {})
    assert "not tuned: single." in unwrapped(shown(records, results=tmp_path))
    assert "not tuned: single." in unwrapped(shown(records))


def test_which_of_them_is_the_users_choice():
    records = [record("modulation"), tuned_record("modulation"), record("single")]
    assert len(by_recipe(records, "both")) == 3
    assert [("recipe" in r.receipt, r.method) for r in by_recipe(records, "plain")] == [
        (False, "modulation"),
        (False, "single"),
    ]
    assert [("recipe" in r.receipt, r.method) for r in by_recipe(records, "tuned")] == [
        (True, "modulation"),
        (False, "single"),
    ]


# --- files ------------------------------------------------------------------------------------------------------------


def outcome(method: str, *scores: float | None, reason: str = "") -> Outcome:
    trials = [
        Trial(
            method, n, "failed" if s is None else "done", {"options.rate": 10.0 * n, "train.lr": 0.01}, s, s, 1, reason
        )
        for n, s in enumerate(scores)
    ]
    return Outcome(method, tuple(trials))


def test_recipes_are_put_into_a_file_and_replaced_there(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('# mine\n[data]\nreader = "zappos"  # shoes\n\n[quick]\ntrain.steps = 3\n')
    outcomes = [outcome("shared", 0.5, 0.6), outcome("modulation[after=4]", 0.7, 0.6), outcome("broken", None)]
    found = {one.method: FOUND | {"space": {"train.lr": "0 to 1"}} for one in outcomes}
    write_recipes(file, outcomes, found, quick=True)
    write_recipes(file, outcomes, found, quick=True)
    text = file.read_text()
    assert text.startswith('# mine\n[data]\nreader = "zappos"  # shoes\n\n[quick]\ntrain.steps = 3\n')
    recipes = tomllib.loads(text)["quick"]["recipes"]
    assert set(recipes) == {"shared", "modulation[after=4]"}
    assert {k: v for k, v in recipes["shared"].items() if k != "found"} == {
        "options": {"rate": 10.0},
        "train": {"lr": 0.01},
    }
    assert set(recipes["modulation[after=4]"]) == {"found"}  # the default was best
    assert recipes["shared"]["found"] == FOUND | {"space": {"train.lr": "0 to 1"}}
    write_recipes(file, [outcome("shared", 0.9, 0.6)], found, quick=True)
    assert set(tomllib.loads(file.read_text())["quick"]["recipes"]["shared"]) == {"found"}
    assert "modulation[after=4]" in file.read_text()
    assert set(load_benchmark(str(file), quick=True).recipes) == {"shared", "modulation[after=4]"}


def test_a_file_that_is_no_toml_is_left_alone(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("these are my notes\n")
    with pytest.raises(UserError, match="can't be read as TOML"):
        write_recipes(file, [outcome("shared", 0.5)], {"shared": FOUND}, quick=False)
    assert file.read_text() == "these are my notes\n"


def test_the_sentence_says_how_much_tuning_changed_and_the_order():
    said = " ".join(
        sentences([outcome("single", 0.6, 0.61), outcome("modulation", 0.5, 0.7), outcome("csn", 0.55, 0.5)])
    )
    assert "raised the validation score by 1.0 points in the median over 3 methods, from 0.0 (csn) to 20.0" in said
    assert "changed in 2 of 3 pairs of methods (scores of one training each may differ by chance); places: mod" in said
    assert "single from 1 to 2" in said
    assert "order of the methods stayed the same" in " ".join(
        sentences([outcome("a", 0.5, 0.6), outcome("b", 0.6, 0.7)])
    )
    assert sentences([outcome("a", 0.5, 0.4)]) == [
        "Tuning found nothing better than the default on the validation split."
    ]
    halved = (replace(outcome("a", 0.5, 0.4).trials[1], number=2, state="dropped", score=None),)
    assert sentences([Outcome("a", outcome("a", 0.5, 0.4).trials + halved)]) == [
        "Tuning found nothing better than the default on the validation split; halving trained 1 other trial of each"
        " to the end."
    ]
    assert "All 2 trials of a failed; the first: out of memory." in sentences(
        [outcome("a", None, None, reason="out of memory")]
    )
    assert outcome("a", 0.5, 0.5).best.number == 0  # of equals the first: the default, if it is one of them
    assert outcome("a", 0.5, 0.5).recipe == {}
    assert places({"a": 0.5, "b": 0.7, "c": 0.5}) == {"b": 1, "a": 2, "c": 2}


# --- commands ---------------------------------------------------------------------------------------------------------


def words(command: str, *more: str | Path) -> list[str | Path]:
    return [command, "--dataset", "shoes", "--quick", *more, *(w for s in SHORT for w in ("--set", s))]


@pytest.mark.slow
def test_tune_and_run_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr("mtlbench.cost._REPEATS", 1)
    monkeypatch.setattr("mtlbench.cost.seconds_each.__defaults__", (0.0,))
    file, where = tmp_path / "recipes.toml", ("--results", tmp_path / "results")
    two = ("--methods", "single,shared")
    done = run_command(*words("tune", *where, *two, "--trials", "2", "--write", file))
    assert done.code == 0, done
    lines = done.out.splitlines()
    assert sum(line.startswith("[") for line in lines) == 4  # a line a trial, as nobody watches
    assert "\x1b" not in done.out
    assert "[4/4] shared, trial 1: validation " in done.out
    assert f"mtlbench run --recipes {file} uses them" in unwrapped(done.out)
    again = run_command(*words("tune", *where, *two, "--trials", "2"))
    assert "4 of 4 trials are done already." in again.out
    assert not find_records(tmp_path / "results")  # a trial is no run

    plain = run_command(*words("run", *where, *two, "--plain"))
    ran = run_command(*words("run", *where, *two, "--recipes", file))
    assert (plain.code, ran.code) == (0, 0), ran
    assert "single, tuned, seed 0: to do" in ran.out
    records = {r.folder.parent.name: r for r in find_records(tmp_path / "results") if r.kind == "method"}
    assert set(records) == {"single", "single@tuned", "shared", "shared@tuned"}
    assert records["single@tuned"].receipt["recipe"]["trials"] == 2
    assert records["single@tuned"].receipt["recipe"]["command"].startswith("mtlbench tune --dataset shoes --quick")
    assert "recipe" not in records["single"].receipt
    both = run_command("report", "shoes-quick", *where, "--format", "csv").out
    assert "shared · tuned" in both
    assert "· tuned" not in run_command("report", "shoes-quick", *where, "--format", "csv", "--recipes", "plain").out
    only = run_command("report", "shoes-quick", *where, "--format", "csv", "--recipes", "tuned").out
    assert ",shared," not in only
    tuned_lr = tomllib.loads(file.read_text())["quick"]["recipes"]["single"].get("train", {}).get("lr")
    if tuned_lr:
        said = run_command(*words("run", *where, *two, "--recipes", file, "--set", "train.lr=1")).error
        assert said == "train.lr is set, and the recipe of single has it too: add --plain to run without the recipe."


def test_tune_shows_its_plan_and_its_time_and_asks_before_days_of_work(monkeypatch, tmp_path):
    def timed(method, seed, benchmark, dataset, precision, costs):
        assert not costs  # a trial measures none
        return (200_000.0, "") if method.name == "single" else (0.0, "it is broken")

    monkeypatch.setattr("mtlbench.jobs.plan.seconds_needed", timed)
    monkeypatch.setattr(sys.modules["mtlbench.cli.tune"], "agreed", lambda console, each, *known: sum(each) < 86_400)
    asked = words("tune", "--results", tmp_path / "r", "--methods", "single,shared", "--trials", "3", "--seeds", "0,1")
    plan = run_command(*asked, "--dry-run")
    assert plan.code == 0, plan
    lines = plan.out.splitlines()
    assert any(line.startswith("  single: about 14 days; train.lr 0.0003 to 0.03, log, ") for line in lines)
    assert any(line.startswith("  shared: its first steps failed: it is broken; train.lr") for line in lines)
    assert "In all about 14 days." in lines
    refused = run_command(*asked)
    assert refused.code == 0
    assert "Nothing was trained. --yes begins without being asked" in unwrapped(refused.out)
    assert not list((tmp_path / "r").rglob("*"))  # other settings can still be chosen


def test_without_optuna_there_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    said = run_command(*words("tune", "--results", tmp_path)).error
    assert said == "mtlbench tune needs Optuna: pip install optuna, or pip install 'mtlbench[tune]'."


def test_what_tune_cant_do_is_one_sentence(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[data]\nreader = "zappos"\nrendered = { what = "shoes", images = 100 }\n')
    assert (
        "There is nothing to tune: mine has no [search], and shared no search of its own"
        in run_command("tune", "--dataset", file, "--methods", "shared", "--results", tmp_path).error
    )
    assert "--plain uses no recipes" in run_command(*words("run", "--plain", "--recipes", file)).error
    assert (
        "no recipes for the quick protocol: tables [quick.recipes.METHOD]"
        in run_command(*words("run", "--recipes", file)).error
    )
    assert "can't be read" in run_command(*words("run", "--recipes", tmp_path / "none.toml")).error


def test_a_recipe_of_the_default_is_still_tuned(tmp_path):
    trials = tuned(tuning_of(tmp_path, "shared", 1))["shared"]
    best = Outcome("shared", tuple(trials))
    assert best.recipe == {}
    assert parse_method("shared").with_recipe(best.recipe).label == "shared, tuned"

"""Tables from records made up by hand: what stands where, what is averaged, and what may not share a table."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from report_records import asked, cells, order, record, shown, unwrapped, written
from typer.testing import CliRunner

from mtlbench.cli import app
from mtlbench.errors import LeftOut, UserError
from mtlbench.report.columns import all_columns, glossary
from mtlbench.report.summary import Choice, summarise
from mtlbench.report.tables import as_markup, rows, suites
from mtlbench.runs import Record, find_records, run_folder, write_record


def test_a_row_holds_mean_worst_and_tasks_in_per_cent():
    text = shown([record("one"), record("two", hits=(0.5, 0.4))])
    assert cells(text, "one")[1:] == ["80.0", "70.0", "90.0", "70.0", "50.0", "70.0"]
    assert text.index("\none ") < text.index("\ntwo ")


def test_seeds_are_averaged_with_their_sample_standard_deviation():
    text = shown([record("one", 0, (0.8, 0.6)), record("one", 1, (0.9, 0.7)), record("one", 2, (1.0, 0.8))])
    assert cells(text, "one")[1:6] == ["3", "80.0", "±10.0", "70.0", "±10.0"]
    assert "over 3 seeds" in unwrapped(text)
    assert "seeds 0, 1, 2" in unwrapped(text)


def test_costs_are_in_the_units_of_their_headings():
    (row,) = rows(suites([record("one")])[0])
    assert row.costs["bytes_added"].mean == 2048
    cost = shown([record("one")]).split("Cost")[1]
    assert cells(cost, "one")[1:] == [
        "1,234,567", "5.00", "4.00", "2.05", "2.05", "38.2", "70.0", "1,000", "±10%", "30.0", "12.3",
    ]  # fmt: skip


def test_what_was_not_measured_stays_empty():
    text = shown([record("one", costs={"parameters": 10, "training_memory": None})])
    assert cells(text.split("Cost")[1], "one") == ["one", "10", "12.3"]
    assert "train img/s" not in unwrapped(text)  # a column of nothing
    assert "no speeds in these records" in unwrapped(text)
    timed = shown([record("one"), record("two", costs={"parameters": 10})])
    assert "rates count images" in unwrapped(timed)


def test_a_failed_run_shows_its_reason_and_no_number():
    failed = record("broken", metrics={}, costs={}, status="failed", reason="out of memory")
    text = shown([record("one"), failed])
    assert cells(text, "broken") == ["broken", "FAILED"]
    assert "broken: FAILED: out of memory" in text


def test_a_seed_that_failed_is_named_and_not_averaged_away():
    failed = record("one", 1, metrics={}, costs={}, status="failed", reason="the loss of colour became nan at step 3")
    text = shown([record("one"), failed, record("two", 0), record("two", 1)])
    assert cells(text, "one")[1:5] == ["PARTLY", "FAILED", "1", "80.0"]
    assert "one: seed 1 FAILED: the loss of colour became nan at step 3" in text


def test_a_collapsed_run_is_called_so():
    text = shown([record("one", collapsed=["colour", "heel_height"]), record("two", collapsed=["colour"])])
    assert "one: COLLAPSED (all tasks)" in text
    assert "not measured" in shown([record("one", reason="cost not measured: out of memory", costs={})])
    assert "two: COLLAPSED (colour)" in text


def test_a_task_that_is_not_shown_makes_no_row_collapsed():
    records = [record("one"), record("two", collapsed=["colour"])]
    assert "COLLAPSED" in shown(records, tasks="colour")
    assert "COLLAPSED" not in shown(records, tasks="heel_height")


def test_columns_without_a_test_have_no_best(tmp_path):
    records = [written(tmp_path, m, s, share) for m, share in (("independent", 0.7), ("one", 0.9)) for s in range(3)]
    text = shown(records, style="md", results=tmp_path)
    header, row = (next(line for line in text.splitlines() if line.startswith(f"| {m}")) for m in ("method", "one"))
    bold = {name.strip() for name, cell in zip(header.split("|"), row.split("|"), strict=True) if "**" in cell}
    assert "mean" in bold
    assert not bold & {"worst", "Δm"}


def test_reference_rows_come_last_whatever_their_score():
    text = shown(
        [record("chance", hits=(0.99, 0.99), kind="reference", costs={}), record("one"), record("two", hits=(0.1, 0.1))]
    )
    assert text.index("\none ") < text.index("\ntwo ") < text.index("\nchance ")
    assert "chance" not in text.split("Cost")[1].split("accuracy:")[0]


def test_rendered_data_are_never_to_be_taken_for_real():
    text = shown([record("one")])
    assert "Made up (rendered images, not real ones)" in text
    assert "(rendered, not real)" in text
    real = record("one")
    real.receipt["data"]["rendered"] = False
    assert "rendered" not in shown([real])


def test_the_small_print_says_what_chose_the_checkpoint_and_that_a_network_is_pretrained():
    plain = unwrapped(shown([record("one")]))
    assert "checkpoint of highest mean triplet accuracy on the validation split" in plain
    assert "pretrained" not in plain
    made = record("one")
    made.receipt["selection"] = "each task's highest triplet accuracy on the validation split, task by task"
    made.setup["benchmark"]["model"]["pretrained"] = True
    text = unwrapped(shown([made]))
    assert "checkpoint of each task's highest triplet accuracy on the validation split, task by task" in text
    assert "small backbone, pretrained, 8-d" in text


@pytest.mark.parametrize("where", ["device", "precision", "compiled", "deterministic", "data", "steps"])
def test_runs_that_differ_in_more_than_method_and_seed_get_tables_of_their_own(where):
    other = record("two")
    if where == "device":
        other.receipt["device"] = "another processor"
    elif where == "steps":
        other.setup["benchmark"]["train"]["steps"] = 600
    else:
        other.setup[where] = "different"
    assert [len(s.records) for s in suites([record("one"), other])] == [1, 1]
    assert [len(s.records) for s in suites([record("one"), record("two"), record("one", 1)])] == [3]


def test_what_decides_the_last_bits_is_in_the_small_print():
    plain, one, two = record("one"), record("one"), record("two")
    assert "compiled" not in shown([plain])
    assert "deterministic" not in shown([plain])
    for made, said in ((one, "yes"), (two, "no: its reason")):
        made.setup |= {"compiled": True, "deterministic": True}
        made.receipt["compiled"] = said
    small_print = " ".join(shown([one, two]).split())
    assert "networks compiled: no: its reason (two); yes (one); trained with deterministic kernels alone" in small_print


def test_reference_rows_join_every_suite_with_the_same_questions():
    reference = record("chance", kind="reference", costs={})
    reference.receipt["device"] = "another processor"
    longer = record("one")
    longer.setup["benchmark"]["train"]["steps"] = 600
    found = suites([record("one"), longer, reference])
    assert [[r.method for r in suite.records] for suite in found] == [["one", "chance"]] * 2
    other = record("one")
    other.setup["benchmark"]["evaluation"]["triplets"] = 5
    assert [[r.method for r in suite.records] for suite in suites([other, reference])] == [["one"]]
    assert suites([reference]) == []


def test_a_narrow_terminal_gets_the_table_in_blocks_and_loses_nothing():
    wide, narrow = (shown([record("one")], width) for width in (200, 40))
    assert max(map(len, narrow.split("accuracy:")[0].splitlines())) <= 40
    for cell in cells(wide, "one") + cells(wide.split("Cost")[1], "one"):
        assert cell in narrow


# --- Δm and tasks hurt ------------------------------------------------------------------------------------------------


def test_a_long_task_name_is_cut_in_the_middle_and_methods_are_not():
    names = [f"heel{side}{'x' * 130}{end}" for side, end in (("l", "left"), ("r", "right"))]
    made = [record(method) for method in ("modulation", "modulation2")]
    for one in made:
        one.setup["tasks"] = names
        one.metrics = dict(zip(names, one.metrics.values(), strict=True))
    told = shown(made, 80)
    assert max(map(len, told.splitlines()[:20])) <= 80
    assert "heellxxxxxxx…xxxxxxxleft" in told
    assert "heelrxxxxxxx…xxxxxxright" in told
    assert {line.split()[0] for line in told.splitlines() if line.startswith("mod")} == {"modulation", "modulation2"}
    assert names[0] in shown(made, style="md")


def test_delta_m_is_the_mean_relative_difference_to_independent_seed_by_seed():
    records = [
        record("independent", 0, (0.8, 0.6)), record("independent", 1, (0.7, 0.6)),
        record("one", 0, (0.9, 0.55)), record("one", 1, (0.8, 0.6)),
    ]  # fmt: skip
    # above chance, a half, the base has 0.25 and 0.1 over its seeds
    by_hand = (100 * (0.1 / 0.25 - 0.05 / 0.1) / 2, 100 * (0.1 / 0.25 + 0) / 2)
    (row,) = (row for row in rows(suites(records)[0]) if row.method == "one")
    assert row.accuracy["delta_m"].mean == pytest.approx(sum(by_hand) / 2)
    assert cells(shown(records), "one")[6:8] == ["+7.5", "±17.7"]


def test_tasks_that_independent_did_not_learn_are_left_out_of_delta_m_and_named():
    records = [record("independent", 0, (0.7, 0.51)), record("one", 0, (0.6, 0.9))]
    (row,) = (row for row in rows(suites(records)[0]) if row.method == "one")
    assert row.accuracy["delta_m"].mean == pytest.approx(-50)
    assert row.unlearned == ("heel_height",)
    lucky = [record("independent", seed, (0.9, heel)) for seed, heel in enumerate((0.5, 0.72, 0.5))]
    row, _ = rows(suites([*lucky, *(record("one", seed) for seed in range(3))])[0])
    assert row.unlearned == ("heel_height",)  # by the mean it is learned, by one seed alone
    assert "Left out, because independent did not learn them: heel height." in unwrapped(shown(records))
    assert "by test scores for lack of validation scores" in unwrapped(shown(records))
    records[0].metrics["colour"]["triplet"] = 0.5
    assert "Δm, tasks hurt: absent, independent learned no task" in unwrapped(shown(records))


def with_validation(results: Path, made: Record, colour: float, heel: float) -> Record:
    made.receipt["selected_step"] = 20
    curve = [{"step": float(step), "accuracy/colour": colour, "accuracy/heel_height": heel if step == 20 else 0.99,
              "accuracy": (colour + heel) / 2} for step in (10, 20, 30)]  # fmt: skip
    folder = run_folder(results, "made-up", made.method, made.seed)
    write_record(folder, made, curve=curve)
    return replace(made, folder=folder)


def test_validation_scores_of_the_chosen_checkpoint_decide_which_tasks_delta_m_is_of(tmp_path):
    one = record("one", 0, (0.7, 0.56))
    base = with_validation(tmp_path, record("independent", 0, (0.7, 0.53)), 0.7, 0.56)
    (row,) = (row for row in rows(suites([one, base])[0]) if row.method == "one")
    assert row.unlearned == ()
    assert row.accuracy["delta_m"].mean == pytest.approx(100 * 0.03 / 0.05 / 2)  # by five points at least
    assert "by validation scores" in unwrapped(shown([one, base]))
    base = with_validation(tmp_path, record("independent", 0, (0.7, 0.6)), 0.7, 0.54)
    (row,) = (row for row in rows(suites([one, base])[0]) if row.method == "one")
    assert (row.unlearned, row.by_test) == (("heel_height",), False)


def test_an_equal_method_does_not_lose_by_delta_m_because_of_tasks_on_which_the_base_had_luck(tmp_path):
    random = np.random.default_rng(0)
    found = []
    for _ in range(60):
        one, base, validated = random.normal(0.56, 0.02, (3, 3, 2))
        records = [record("one", seed, tuple(one[seed])) for seed in range(3)]
        records += [
            with_validation(tmp_path, record("independent", s, tuple(base[s])), *validated[s].tolist())
            for s in range(3)
        ]
        found += [row.accuracy["delta_m"].mean for row in rows(suites(records)[0])
                  if row.method == "one" and "delta_m" in row.accuracy]  # fmt: skip
    assert np.mean(found) > -8  # of tasks that test scores choose, -12


def test_tasks_hurt_are_those_told_apart_from_independent_and_neither_it_nor_references_win(tmp_path):
    records = [written(tmp_path, m, s, share) for m, share in (("independent", 0.9), ("one", 0.6)) for s in range(3)]
    found = {row.method: row for row in summarise(records, Choice(), tmp_path)[0].rows}
    assert found["one"].accuracy["hurt"].mean == 2
    assert "hurt" not in found["independent"].accuracy
    markdown = as_markup(summarise(records, Choice(), tmp_path)[0], "md")
    assert "**+0.0**" not in markdown
    single = {row.method: row for row in summarise([r for r in records if r.seed == 0], Choice(), tmp_path)[0].rows}
    assert "hurt" not in single["one"].accuracy


def test_seeds_that_independent_lacks_are_left_out_of_delta_m_and_named():
    records = [record("independent", 0, (0.8, 0.6)), record("one", 0, (0.8, 0.6)), record("one", 1, (0.9, 0.9))]
    (row,) = (row for row in rows(suites(records)[0]) if row.method == "one")
    assert row.accuracy["delta_m"].mean == 0
    assert "Left out, because independent lacks these seeds: one 1." in unwrapped(shown(records))


def test_without_a_recorded_base_it_is_the_method_with_a_network_for_each_task():
    """Records of mtlbench 0.1 don't say their groups."""
    separate = {"parameters_shared": 0, "flops_one_task": 5, "flops_all_tasks": 10}
    old = record("independent", 0, (0.8, 0.6), costs=separate)
    one = record("one", 0, (0.7, 0.6))
    mixed = record("mixed", 0, (0.7, 0.6), costs=separate | {"flops_all_tasks": 5})
    weighed = record("independent+own", 0, (0.7, 0.6), costs=separate)
    for made in (old, one, mixed, weighed):
        made.receipt.pop("groups", None)
    (suite,) = suites([one, weighed, mixed, old])
    assert suite.base == "independent"
    assert [row.method for row in rows(suite) if row.is_base] == ["independent"]
    one.receipt["groups"] = ["base"]
    assert suites([one, old])[0].base == "one"  # what is said comes first


def test_of_two_bases_none_is_taken_and_the_small_print_says_why():
    own = record("my-base", 0)
    own.receipt["groups"] = ["base"]
    text = unwrapped(shown([own, record("independent"), record("one")]))
    assert "Δm, tasks hurt: absent, independent and my-base are each a base to measure against in this suite." in text


@pytest.mark.parametrize("spoiled", ["missing", "failed", "other seed", "other suite"])
def test_delta_m_is_absent_with_the_reason_where_there_is_no_base(spoiled):
    base = record("independent", int(spoiled == "other seed"))
    if spoiled == "failed":
        base.status, base.metrics = "failed", {}
    if spoiled == "other suite":
        base.receipt["device"] = "another processor"
    text = shown([record("one"), *([] if spoiled == "missing" else [base])])
    assert "Δm" not in text.split("Cost")[0].splitlines()[1]
    why = {
        "failed": "no finished run of independent", "other seed": "no seed is shared with independent",
    }.get(spoiled, "no finished run of a base, a method of the group 'base'")  # fmt: skip
    assert f"Δm, tasks hurt: absent, {why}" in unwrapped(text)


def test_delta_m_uses_the_metric_that_is_shown():
    records = [record("independent", 0, (0.8, 0.5)), record("one", 0, (0.8, 0.55))]
    (row,) = (row for row in rows(suites(records)[0], "macro/map@r") if row.method == "one")
    assert "delta_m" not in row.accuracy  # what chance reaches is not known
    records.append(record("chance", 0, (0.4, 0.4), kind="reference", costs={}))
    (row,) = (row for row in rows(suites(records)[0], "macro/map@r") if row.method == "one")
    assert row.accuracy["delta_m"].mean == pytest.approx(100 * 0.05 / (0.2 - 0.1) / 2)


def test_the_base_counts_even_when_its_row_is_not_asked_for():
    text = shown([record("independent", 0, (0.8, 0.6)), record("one", 0, (0.8, 0.61))], methods="one")
    assert cells(text, "one")[3] == "+5.0"
    assert order(text) == ["one"]


# --- what is shown, in which order ------------------------------------------------------------------------------------


def test_reference_rows_can_be_shown_alone():
    text = shown([record("one"), record("chance", kind="reference", costs={})], methods="chance")
    assert order(text) == ["chance"]
    assert "c0ffee" in text


def test_tables_can_be_cut_down_to_some_tasks_and_say_so():
    records = [record("one", hits=(0.9, 0.2)), record("two", hits=(0.8, 0.7))]
    text = shown(records, tasks="colour")
    assert order(text) == ["one", "two"]
    assert cells(text, "one")[1:4] == ["90.0", "90.0", "90.0"]
    assert "1 of 2 tasks" in text
    assert "chosen on all 2 tasks" in text
    assert order(shown(records)) == ["two", "one"]
    with pytest.raises(UserError, match=r"No run has the task 'color'. Did you mean: colour"):
        shown(records, tasks="color")


def test_methods_are_chosen_by_name_pattern_or_group():
    records = [record(name) for name in ("shared", "shared+uw", "modulation[after=3:4]", "mine")]

    def chosen(words: str) -> set[str]:
        return {row.method for row in summarise(records, Choice(methods=words))[0].tables[0].rows}

    assert chosen("shared*") == {"shared", "shared+uw"}
    assert chosen("modulation[after=3:4],mine") == {"modulation[after=3:4]", "mine"}
    assert chosen("core") == {"shared"}
    with pytest.warns(LeftOut, match=r"csn\*: no run has such a name"):  # a pattern may fit nothing
        assert chosen("core,csn*") == {"shared"}
    with pytest.raises(UserError, match=r"No run of the method 'sharde'. Did you mean: shared"):
        shown(records, methods="sharde")


def test_records_that_say_their_groups_are_believed_and_no_method_is_loaded(monkeypatch):
    monkeypatch.setattr("mtlbench.plugins.load_plugins", lambda: pytest.fail("methods were loaded"))
    records = [record(name) for name in ("shared", "mine", "mine[size=2]", "other")]
    for one in records:
        one.receipt["groups"] = ["ours"] if one.method.startswith("mine") else ["theirs"]
    summary = summarise(records, Choice(methods="ours"))[0]
    assert {row.method for row in summary.tables[0].rows} == {"mine"}  # as when it is run
    with pytest.raises(UserError, match="No run of the method 'core'"):
        summarise(records, Choice(methods="core"))


@pytest.mark.parametrize(
    ("column", "first"),
    [("worst", "even"), ("parameters", "uneven"), ("heel height", "even"), ("colour", "uneven"),
     ("train img/s", "even"), ("train_rate", "even"), ("Train MB", "uneven"), ("method", "even")],
)  # fmt: skip
def test_rows_are_sorted_by_the_column_that_is_named_the_better_first(column, first):
    even, uneven = record("even", hits=(0.6, 0.5)), record("uneven", hits=(0.9, 0.4))
    uneven.costs |= {"parameters": 10, "training_memory": 10, "train_rate": 1.0}
    reference = record("chance", kind="reference", hits=(1.0, 1.0), costs={})
    found = order(shown([even, uneven, reference], sort=column))
    assert found[0] == first
    assert found[-1] == "chance"


def test_an_unknown_column_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"No column 'wrost'. Did you mean: worst"):
        shown([record("one")], sort="wrost")


# --- what may share a table -------------------------------------------------------------------------------------------


def test_runs_from_different_versions_of_a_method_are_not_averaged():
    records = [record("one", seed, (0.9, 0.7)) for seed in (0, 1, 2)] + [record("two", seed) for seed in (0, 1, 2)]
    for r, digest in zip(records, ["aaaaaaaaa", "aaaaaaaaa", "bbbbbbbbb", "c", "c", "c"], strict=True):
        r.setup["code"] = {"training": 1, "architecture": digest, "balancer": "d"}
    found = {row.method: row.seeds for row in rows(suites(records)[0])}
    assert found == {"one (source aaaaaaa)": (0, 1), "one (source bbbbbbb)": (2,), "two": (0, 1, 2)}
    assert "different versions of a method's source have separate rows" in shown(records)


def test_an_edited_base_is_no_base():
    records = [record("independent", 0), record("independent", 1), record("one", 0)]
    records[0].setup["code"], records[1].setup["code"] = {"architecture": "a"}, {"architecture": "b"}
    assert "absent, independent has runs from several versions of its source" in shown(records)


def test_two_different_runs_of_one_method_and_seed_are_refused_and_copies_count_once():
    assert [r.method for r in suites([record("one"), record("one")])[0].records] == ["one"]
    with pytest.raises(UserError, match="two different runs of one with seed 0"):
        suites([record("one"), record("one", hits=(0.1, 0.2))])
    copies = [replace(record("one", hits=(0.1, n / 10)), folder=Path(f"r/b/one{n}/seed-0")) for n in range(2)]
    with pytest.raises(UserError, match=r"benchmark, r/b/one0/seed-0 and r/b/one1/seed-0: keep copies"):
        suites(copies)


def test_commits_and_versions_that_differ_are_named_with_the_runs_that_have_them():
    other = record("two")
    other.receipt |= {"commit": "decaf", "protocols_tried": 4}
    text = unwrapped(shown([record("one"), other, record("three"), record("four"), record("five")]))
    assert "these runs differ in tuned configurations, commit: see the small print" in text
    assert "commit decaf (two); c0ffee (the others)" in text
    later = [record(method, seed) for method in ("one", "two") for seed in (0, 1, 2)]
    for one in later:
        one.receipt["commit"] = "decaf" if one.seed == 2 else "c0ffee"
    assert "commit decaf (seed 2 of all); c0ffee (seeds 0, 1 of all)" in unwrapped(shown(later))
    assert "protocol chosen among 4 (two); 1 (the others), the same for all" not in text
    assert "configurations tuned: 4 (two); 1 (the others)" in text
    alike = shown([record("one"), record("two")])
    assert "these runs differ in" not in alike
    assert "commit c0ffee," in alike


def test_a_second_table_says_what_sets_it_apart():
    longer = record("two")
    longer.setup["benchmark"] = longer.setup["benchmark"] | {"train": {**longer.setup["benchmark"]["train"]}}
    longer.setup["benchmark"]["train"]["steps"] = 600
    text = shown([record("one"), longer])
    assert "a separate table, because these settings differ from the table above: benchmark.train.steps: 300" in text


def test_records_are_read_from_where_they_lie_whatever_their_folders_are_called(tmp_path):
    for method, seed in product(("one", "two"), (0, 1)):
        hits = torch.rand(2, 400, generator=torch.Generator().manual_seed(seed)) < 0.8
        made = record(method, seed, hits=tuple(hits.float().mean(1).tolist()))
        folder = tmp_path / "made-up" / f"{method}@lr=0.003" / f"seed-{seed}"
        write_record(folder, made, test={"hits": hits.to(torch.uint8), "triplets": asked()})
    found = find_records(tmp_path, "made-up")
    assert [one.folder for one in found] == sorted((tmp_path / "made-up").glob("*/seed-*"))
    assert summarise(found, results=tmp_path)[0].comparison.best["mean"] in ("one", "two")


def test_every_column_says_what_it_means_and_the_command_prints_it():
    columns = {c.key: c for c in all_columns()}
    (summary,) = summarise([record("one", seed) for seed in (0, 1)] + [record("independent", seed) for seed in (0, 1)])
    used = [column for table in summary.tables for column in table.columns]
    assert {c.key for c in used if c.task is None} - {"method"} <= set(columns)
    assert all(c.meaning for c in used if c.task is None and c.key != "method")
    printed = unwrapped(CliRunner().invoke(app, ["report", "--columns"], catch_exceptions=False).output)
    for term, meaning in glossary(columns.values()):
        assert f"{term} {meaning}" in printed


def test_an_early_record_of_celeba_does_not_pass_its_partition_off_as_celebas_own():
    made = record("one")
    made.setup["benchmark"]["data"]["reader"] = "celeba"
    told = {"name": "CelebA", "rendered": False, "split": "as in list_eval_partition.txt", "train_images": 70}
    made.receipt["data"] |= told
    assert "split as in list_eval_partition.txt, not CelebA's own 162,770 / 19,867 / 19,962," in unwrapped(
        shown([made])
    )
    made.receipt["data"]["rendered"] = True
    assert "CelebA's own" not in shown([made])


def test_early_records_of_one_thread_share_a_table_with_those_of_today():
    early, today = record("one"), record("two")
    early.receipt["device"], today.receipt["device"] = "AMD EPYC, 1 threads", "AMD EPYC, 1 thread"
    (found,) = suites([early, today])
    assert found.receipt["device"] == "AMD EPYC, 1 thread"
    text = unwrapped(shown([early]))
    assert "AMD EPYC, 1 thread," in text
    assert "seed 0." in text

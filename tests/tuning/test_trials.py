"""Trials: equal in number whatever happens, the default first, chosen on the validation split alone."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import make_dataset, protocol
from support_remote import Pretended
from torch import Tensor
from tuning_support import GoodAt50, begin, command, trials_in, tuned, tuning_of, wait_for_trials

from mtlbench import Architecture, Range, register_architecture
from mtlbench.data.dataset import Dataset
from mtlbench.data.table import SPLITS
from mtlbench.errors import UserError
from mtlbench.recipes import Where
from mtlbench.runs import partial_folder
from mtlbench.runs.disk import DiskFull
from mtlbench.runs.lock import working_on
from mtlbench.specs import parse_method
from mtlbench.training.events import Event
from mtlbench.training.loop import Trainer
from mtlbench.training.state import Interrupted
from mtlbench.tuning import workers
from mtlbench.tuning.afar import _Trials
from mtlbench.tuning.outcome import Outcome
from mtlbench.tuning.study import JOURNAL, Studies, Trial, spread
from mtlbench.tuning.trial import without_test
from mtlbench.tuning.tune import Told, Tuning, open_studies, rehearsed, steps_left, work


@pytest.fixture(autouse=True)
def _planted() -> None:
    """Architectures for trials, gone after each test: at import they would stay for other files' tests."""
    register_architecture("breaks-when-fast")(BreaksWhenFast)
    register_architecture("good-at-50")(GoodAt50)


class Noted(Told):
    """Notes which trials were begun, by whom."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def begun(self, method: str, number: int) -> None:
        self.seen.append((method, number))


@pytest.mark.slow
def test_every_method_gets_the_same_number_whatever_its_space(tmp_path):
    tuning = tuning_of(tmp_path, "single,modulation,gradnorm", 3)
    assert {name: len(space.where) for name, space in tuning.spaces.items()} == {
        "single": 2,
        "modulation": 3,
        "gradnorm": 4,
    }
    told = Noted()
    found = tuned(tuning, told)
    assert {name: [t.number for t in trials] for name, trials in found.items()} == {name: [0, 1, 2] for name in found}
    assert all(trial.state == "done" for trials in found.values() for trial in trials)
    # number by number: whoever stops it has as many of each
    assert told.seen == [(name, number) for number in range(3) for name in ("single", "modulation", "gradnorm")]


def test_the_first_trial_is_the_plain_method(tmp_path):
    trainer = Trainer(parse_method("modulation"), protocol(), without_test(make_dataset()), 0, "fp32")
    trainer.run()
    first, second, _ = tuned(tuning_of(tmp_path, "modulation"))["modulation"]
    assert first.score == trainer.state.best_score
    assert first.values == {"train.lr": 0.003, "train.weight_decay": 0.0001, "options.rate": 1.0}
    assert set(second.values) == set(first.values)
    assert second.values != first.values


def test_a_default_that_lies_elsewhere_is_tried_all_the_same(tmp_path):
    tuning = tuning_of(tmp_path, "modulation", 1, benchmark=protocol("train.lr=0.5", "train.weight_decay=0"))
    (first,) = tuned(tuning)["modulation"]
    assert first.values == {"options.rate": 1.0}
    assert first.state == "done"


@pytest.mark.parametrize("trials", [7, 15])
def test_the_first_trials_are_spread_over_every_parameters_range(trials):
    """One in each n-th: of logarithms where the range is logarithmic; whole numbers and choices in equal parts."""

    def of(name: str, where: Where) -> list[Any]:
        return [spread(name, where, number, trials) for number in range(trials)]

    rates = np.log(of("train.lr", Range(3e-4, 3e-2, log=True)))
    assert sorted((trials * (rates - np.log(3e-4)) / np.log(100)).astype(int)) == list(range(trials))
    plain = np.asarray(of("options.alpha", Range(-1.0, 2.0)))
    assert sorted((trials * (plain + 1) / 3).astype(int)) == list(range(trials))
    assert np.argsort(plain).tolist() != np.argsort(rates).tolist()
    assert set(of("options.k", Range(1, 3))) == {1, 2, 3}
    counts = Counter(of("options.norm", ("a", "b", "c")))
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.slow
def test_the_same_numbers_draw_alike(tmp_path):
    found = tuned(tuning_of(tmp_path / "one", "single,modulation", 4))
    lrs = [[trial.values["train.lr"] for trial in trials] for trials in found.values()]
    assert lrs[0] == lrs[1]
    assert len(set(lrs[0])) == 4
    again = tuned(tuning_of(tmp_path / "two", "modulation", 4))["modulation"]
    assert [t.values for t in again] == [t.values for t in found["modulation"]]


def test_more_trials_go_on_from_those_that_are_there(tmp_path):
    before = tuned(tuning_of(tmp_path, "shared", 2))["shared"]
    told = Noted()
    after = tuned(tuning_of(tmp_path, "shared", 4), told)["shared"]
    assert after[:2] == before
    assert told.seen == [("shared", 2), ("shared", 3)]


def test_several_seeds_are_judged_by_their_mean(tmp_path):
    (both,) = tuned(tuning_of(tmp_path / "both", "shared", 1, seeds=(0, 1)))["shared"]
    alone = [tuned(tuning_of(tmp_path / str(n), "shared", 1, seeds=(n,)))["shared"][0].score for n in (0, 1)]
    assert both.score == pytest.approx(sum(alone) / 2)


def test_a_plan_counts_what_is_left_and_leaves_no_trace(tmp_path):
    def left(tuning, overwrite=False):
        with rehearsed(tuning, overwrite) as studies:
            return [steps_left(tuning, studies, name) for name in tuning.names]

    folder = tmp_path / "tuning"
    two = tuning_of(folder, "shared,single", trials=2)  # of six steps each
    assert left(two) == [12, 12]
    assert not folder.exists()
    tuned(replace(two, methods=two.methods[:1]))
    before = (folder / JOURNAL).read_bytes()
    assert left(two) == [0, 12]
    assert left(replace(two, trials=5)) == [18, 30]
    assert left(two, overwrite=True) == [12, 12]
    other = replace(two, benchmark=protocol("train.lr=0.5"))
    with pytest.raises(UserError, match=f"The trials of shared in {folder} were made with other settings"):
        left(other)
    assert left(other, overwrite=True) == [12, 12]
    assert (folder / JOURNAL).read_bytes() == before


def test_other_settings_are_refused_until_they_are_to_be_replaced(tmp_path):
    tuned(tuning_of(tmp_path, "shared", 2))
    other = tuning_of(tmp_path, "shared", 2, benchmark=protocol("train.steps=8"))
    with pytest.raises(UserError, match=r"made with other settings .*train.steps: 6 there, 8 now.*--overwrite"):
        open_studies(other, overwrite=False)
    work(other, open_studies(other, overwrite=True), told := Noted(), lambda: False)
    assert len(told.seen) == 2
    with pytest.raises(UserError, match="seeds: \\[0\\] there, \\[1\\] now"):
        open_studies(replace(other, seeds=(1,)), overwrite=False)


def test_a_stopped_trial_is_taken_up_where_it_stood(tmp_path):
    whole = tuned(tuning_of(tmp_path / "whole", "shared", 2))["shared"]
    tuning, steps = tuning_of(tmp_path / "cut", "shared", 2), []

    class Steps(Told):
        def happened(self, method: str, number: int, event: Event) -> None:
            steps.append((number, event.step))

    with pytest.raises(Interrupted):
        work(tuning, open_studies(tuning, overwrite=False), Steps(), lambda: bool(steps) and steps[-1] >= (1, 3))
    assert [t.state for t in trials_in(tmp_path / "cut", "shared")] == ["done", "begun"]
    steps.clear()
    found = tuned(tuning, Steps())["shared"]
    assert steps[0][1] >= 3
    assert [(t.values, t.score) for t in found] == [(t.values, t.score) for t in whole]
    assert not list((tmp_path / "cut").rglob("*.safetensors"))


def test_a_trial_that_another_process_works_on_is_left_to_it(tmp_path):
    tuning = tuning_of(tmp_path, "shared", 2)
    studies = open_studies(tuning, overwrite=False)
    held, release = threading.Event(), threading.Event()

    def other() -> None:
        with Studies(tmp_path).claimed([("shared", *_space(tuning))], 2) as claim:
            assert claim is not None
            held.set()
            release.wait(20)
            claim.note(0, {"score": 0.5, "accuracy": 0.5, "seconds": 1.0})
            claim.done()

    thread = threading.Thread(target=other)
    thread.start()
    assert held.wait(20)

    class Release(Noted):
        def waiting(self) -> None:
            release.set()

    work(tuning, studies, told := Release(), lambda: False)
    thread.join()
    assert told.seen == [("shared", 1)]
    assert [t.state for t in studies.trials("shared")] == ["done", "done"]


def _space(tuning):
    space = tuning.spaces["shared"]
    return space.known(), space.where


def test_a_torn_line_of_the_journal_is_cut_off(tmp_path):
    before = tuned(tuning_of(tmp_path, "shared", 2))["shared"]
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"ab')
    after = tuned(tuning_of(tmp_path, "shared", 3))["shared"]
    assert after[:2] == before
    assert len(after) == 3
    assert all(json.loads(line) for line in (tmp_path / JOURNAL).read_text().splitlines())


class BreaksWhenFast(Architecture):
    """Fails where its option is above 2, and always where it is to."""

    search = {"speed": Range(0.1, 10.0), "always": (False, True)}

    def __init__(self, backbones, tasks, *, speed: float = 1.0, always: bool = False, doomed: bool = False) -> None:
        super().__init__(backbones, tasks)
        if doomed or speed > 2:
            raise RuntimeError(f"speed {speed:g} breaks it")
        self.net = backbones.backbone()

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([self.net(group) for group in images])


def test_a_failed_trial_counts_and_says_why(tmp_path):
    trials = tuned(tuning_of(tmp_path, "breaks-when-fast", 6))["breaks-when-fast"]
    assert [t.number for t in trials] == list(range(6))
    failed = [t for t in trials if t.state == "failed"]
    assert 0 < len(failed) < 6
    assert all(t.values["options.speed"] > 2 and "breaks it" in t.reason and t.score is None for t in failed)
    best = Outcome("breaks-when-fast", tuple(trials)).best
    assert best is not None
    assert best.values.get("options.speed", 1.0) <= 2


def test_a_limit_on_the_size_of_files_is_no_trials_failure(tmp_path, monkeypatch):
    def limited(*rest: object) -> None:
        raise OSError(errno.EFBIG, "File too large", "big.bin")

    monkeypatch.setattr("mtlbench.tuning.trial.train_seed", limited)
    with pytest.raises(DiskFull, match=r"File too large for big\.bin\. Raise the limit"):  # it was "No space left"
        tuned(tuning_of(tmp_path, "shared", 1))
    assert [trial.state for trial in trials_in(tmp_path, "shared")] == ["begun"]


def test_a_method_whose_trials_all_fail_has_no_recipe(tmp_path):
    trials = tuned(tuning_of(tmp_path, "breaks-when-fast[doomed=true],shared", 2))
    outcome = Outcome("breaks-when-fast[doomed=true]", tuple(trials["breaks-when-fast[doomed=true]"]))
    assert [t.state for t in outcome.trials] == ["failed", "failed"]
    assert (outcome.best, outcome.recipe, outcome.gain) == (None, None, None)
    assert [t.state for t in trials["shared"]] == ["done", "done"]


@pytest.mark.slow
def test_a_rate_of_50_is_found_where_that_alone_is_good(tmp_path):
    trials = tuned(tuning_of(tmp_path, "good-at-50", 24))["good-at-50"]
    best = Outcome("good-at-50", tuple(trials)).best
    assert best is not None
    assert 30 < best.values["options.rate"] < 80
    assert best.score > trials[0].score + 0.1


@pytest.mark.slow
def test_selection_never_reads_the_test_split(tmp_path, monkeypatch):
    """Other test images and labels change no trial, and no index of one is ever asked for."""
    data = make_dataset()
    test = data.split == SPLITS.index("test")
    images = data.images.clone()
    images[test] = torch.randint(0, 255, images[test].shape, dtype=torch.uint8)
    spoilt = replace(data, images=images, labels=torch.where(test, 0, data.labels))
    asked: set[int] = set()
    batch = Dataset.batch

    def noting(self: Dataset, index: Tensor, *more: object) -> Tensor:
        asked.update(index.tolist())
        return batch(self, index, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Dataset, "batch", noting)
    one = tuned(tuning_of(tmp_path / "one", "shared,gradnorm"))
    two = tuned(tuning_of(tmp_path / "two", "shared,gradnorm", dataset=spoilt))
    assert {m: [(t.values, t.score) for t in trials] for m, trials in one.items()} == {
        m: [(t.values, t.score) for t in trials] for m, trials in two.items()
    }
    assert asked
    assert not asked & set(torch.nonzero(test).flatten().tolist())
    hidden = without_test(data)
    assert not len(hidden.members("test"))
    assert bool((hidden.labels[:, test] == -1).all())


# --- processes --------------------------------------------------------------------------------------------------------


def outcomes(folder: Path) -> dict[str, list[Trial]]:
    return {name: trials_in(folder, name) for name in ("single", "shared")}


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_equal_trials(tmp_path):
    folder = tmp_path / "shoes-quick" / "tuning"
    for jobs, begun in (("1", 2), ("2", 4)):
        process = begin(command(tmp_path, "--jobs", jobs))
        wait_for_trials(folder, begun)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = begin(command(tmp_path, "--jobs", "2"))
    said, _ = done.communicate(timeout=1200)
    assert done.returncode == 0, said
    whole = begin(command(tmp_path / "whole"))
    said, _ = whole.communicate(timeout=1200)
    assert whole.returncode == 0, said
    found, wanted = outcomes(folder), outcomes(tmp_path / "whole" / "shoes-quick" / "tuning")
    for name, trials in found.items():
        assert [(t.number, t.state) for t in trials] == [(0, "done"), (1, "done"), (2, "done")], said
        assert [(t.values, t.score) for t in trials] == [(t.values, t.score) for t in wanted[name]]


@pytest.mark.slow
def test_two_processes_share_one_study(tmp_path):
    both = [begin(command(tmp_path)) for _ in range(2)]
    said = [process.communicate(timeout=1200)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    for trials in outcomes(tmp_path / "shoes-quick" / "tuning").values():
        assert [(t.number, t.state) for t in trials] == [(0, "done"), (1, "done"), (2, "done")]
    worked = [text.count("validation ") for text in said]
    assert all(count > 0 for count in worked), said


@pytest.mark.slow
def test_a_trial_whose_process_dies_has_failed_and_the_others_go_on(tmp_path):
    plugin = tmp_path / "deadly.py"
    plugin.write_text(
        "import os, signal\nfrom mtlbench import Architecture, Range, register_architecture\n"
        "import torch\n\n\n@register_architecture('deadly')\nclass Deadly(Architecture):\n"
        "    '''Ends its process where its option is above 1.'''\n\n    search = {'speed': Range(2.0, 3.0)}\n\n"
        "    def __init__(self, backbones, tasks, *, speed: float = 1.0):\n"
        "        super().__init__(backbones, tasks)\n        self.net = backbones.backbone()\n"
        "        if speed > 1:\n            os.kill(os.getpid(), signal.SIGKILL)\n\n"
        "    def forward(self, images):\n        return torch.stack([self.net(group) for group in images])\n"
    )
    words = command(tmp_path, "--jobs", "2", "--plugins", str(plugin))
    words[words.index("single,shared")] = "deadly,shared"
    done = begin(words)
    said, _ = done.communicate(timeout=1200)
    assert done.returncode == 0, said
    folder = tmp_path / "shoes-quick" / "tuning"
    deadly = trials_in(folder, "deadly")
    assert [t.state for t in deadly] == ["done", "failed", "failed"]
    assert {t.reason for t in deadly[1:]} == {"its task died 3 times: the process died (signal 9)"}
    assert [t.state for t in trials_in(folder, "shared")] == ["done"] * 3


def stopped(tuning: Tuning) -> tuple[Studies, Path]:
    """Stop a tuning in its first trial; return the file that says where that stood."""
    studies, steps = open_studies(tuning, overwrite=False), list[int]()

    class Steps(Told):
        def happened(self, method: str, number: int, event: Event) -> None:
            steps.append(event.step)

    with pytest.raises(Interrupted):
        work(tuning, studies, Steps(), lambda: bool(steps) and steps[-1] >= 3)
    return studies, partial_folder(studies.place("shared", 0) / "seed-0") / "state.json"


class Dead:
    """A process that a signal has ended while it worked on the first trial of shared."""

    slot, reason = 0, ""

    def __init__(self) -> None:
        self.trial: tuple[str, int] | None = ("shared", 0)

    def close(self) -> int:
        return -9

    def why_it_died(self) -> str:
        return "the process died (signal 9)"


def test_a_trial_goes_on_after_its_process_died_until_that_has_happened_three_times(tmp_path):
    tuning = tuning_of(tmp_path, "shared", 2)
    studies, state = stopped(tuning)
    parent = workers._Parent(tuning, studies, Told(), lambda: False, tmp_path / "order.json")

    def dies() -> bool:
        parent.under_way = [worker := Dead()]  # type: ignore[list-item]
        return parent._ended(worker)  # type: ignore[arg-type]

    assert [dies(), dies()] == [True, True]
    assert [trial.state for trial in studies.trials("shared")] == ["begun"]
    assert state.exists()
    assert dies()
    (trial,) = studies.trials("shared")
    assert (trial.state, trial.reason) == ("failed", "its task died 3 times: the process died (signal 9)")
    assert not studies.place("shared", 0).exists()


def test_a_trial_of_another_device_is_not_begun_anew(tmp_path):
    tuning = tuning_of(tmp_path, "shared", 2)
    studies, state = stopped(tuning)
    state.write_text(state.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    before = {file.name: file.read_bytes() for file in state.parent.iterdir()}
    said = r"Trial 0 of shared in .* was begun on cuda, and can't be continued on cpu: go on there, .*--overwrite"
    with pytest.raises(UserError, match=said):
        work(tuning, studies, Told(), lambda: False)
    with pytest.raises(UserError, match=said):
        _Trials(Pretended(), tuning, studies, Told(), lambda: False).drive()
    assert [trial.state for trial in studies.trials("shared")] == ["begun"]
    assert {file.name: file.read_bytes() for file in state.parent.iterdir()} == before
    work(tuning, open_studies(tuning, overwrite=True), Told(), lambda: False)


def test_trials_under_way_are_not_forgotten(tmp_path):
    tuning = tuning_of(tmp_path, "shared", 2)
    studies = open_studies(tuning, overwrite=False)
    with pytest.raises(Interrupted):
        work(tuning, studies, Told(), lambda: len(studies.trials("shared")) == 2)
    with working_on(studies.place("shared", 1)), pytest.raises(UserError, match=r"works on .*Stop it first"):
        open_studies(tuning, overwrite=True)
    assert len(studies.trials("shared")) == 2

"""Numbers that are too large, brackets too deep, disks too full; threads; plug-ins of several files; articles."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import make_dataset, protocol, registries_restored

from mtlbench.benchmark import load_benchmark
from mtlbench.errors import UserError, a, counted
from mtlbench.jobs.plan import plan, seen
from mtlbench.plugins import files_imported_by, load_plugins
from mtlbench.report.suites import suites
from mtlbench.runs import Record, decisive, write_record
from mtlbench.runs.disk import DiskFull, is_full, save_tensors
from mtlbench.runs.provenance import sources_of
from mtlbench.specs import parse_method, parse_methods

SHOES = (Path(__file__).parents[2] / "benchmarks" / "shoes.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "setting",
    [
        "evaluation.triplets=1000000000000", "model.embedding=9223372036854775808", "train.steps=1000000000000000000",
        f"train.steps=0x{'F' * 5000}", f"train.steps={'9' * 5000}", f"data.options={'[' * 5000}",
        f"data.options={{a={'[' * 300}{']' * 300}}}", f"train.optimiser_options={{a=0x{'F' * 5000}}}",
        f"loss.margin=1{'0' * 400}", "train.lr=1e400", "train.lr=nan", f"evaluation.ks=[{'9' * 30}]",
        "data.image_size=99999999", "data.rendered.images=1000000000000", "data.split_seed=-1", "name=../escaped",
    ],
)  # fmt: skip
def test_a_setting_beyond_all_measure_is_refused_in_a_sentence(setting: str) -> None:
    with pytest.raises(UserError) as error:
        load_benchmark("shoes", quick=True, settings=[setting])
    assert len(str(error.value)) < 500
    assert str(error.value).startswith("--set")


@pytest.mark.parametrize(
    "text",
    [
        f"a = {'[' * 50_000}",
        f"{SHOES}\n[data.options]\na = {'[' * 20_000}{']' * 20_000}",
        f"{SHOES}\n[train.optimiser_options{'.b' * 2000}]\nc = 1\n",
        SHOES.replace("\n[", f"\nzz = 0x{'F' * 5000}\n[", 1),
        f"x = {'{a=' * 3000}",
    ],
)
def test_a_file_with_thousands_of_brackets_or_digits_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"mine\.toml") as error:
        load_benchmark(str(file))
    assert len(str(error.value)) < 700


def test_words_have_their_article() -> None:
    assert [a(word) for word in ("loss", "architecture", "executor", "")] == [
        "a loss", "an architecture", "an executor", "a ",
    ]  # fmt: skip


def test_numbers_agree_with_their_nouns() -> None:
    assert [counted(n, "column") for n in (0, 1, 2, 1000)] == ["0 columns", "1 column", "2 columns", "1,000 columns"]


# --- disks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_safetensors_files_are_as_readable_as_others(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        save_tensors({"w": torch.ones(3)}, tmp_path / "w.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "w.safetensors").stat().st_mode) == 0o666 & ~mask


def test_a_limit_on_the_size_of_files_is_a_full_disk_and_says_what_is_needed(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DiskFull, match=r"It takes 1\.2 MB\. Raise the limit on the size of files"):
            save_tensors({"w": torch.ones(300_000)}, tmp_path / "w.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "w.safetensors").exists()
    assert is_full(OSError(errno.EFBIG, "File too large"))


def test_a_small_disk_that_is_full_is_told_by_what_is_needed_and_what_is_free(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system can't be mounted here")
    try:
        with pytest.raises(DiskFull, match=r"No space left on device .*It takes 4\.0 MB; \d\.\d MB are free"):
            save_tensors({"w": torch.ones(1_000_000)}, tmp_path / "w.safetensors")
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# --- threads ----------------------------------------------------------------------------------------------------------


def test_the_number_of_threads_belongs_to_the_setup_and_is_kept(tmp_path: Path) -> None:
    load_plugins()
    (job,) = plan(parse_methods("shared"), (0,), protocol(), make_dataset(), "fp32", tmp_path)
    assert job.setup["threads"] == job.threads == torch.get_num_threads() == 1
    metrics = {task: {"triplet": 0.5} for task in job.setup["tasks"]}
    write_record(job.folder, Record("shared", 0, "method", job.setup | {"threads": 2}, metrics=metrics))
    done = seen(job, "cpu")
    assert (done.state, done.threads, done.setup["threads"]) == ("done", 2, 2)
    assert decisive(done.setup) == decisive(job.setup)  # no reason to refuse it


def test_runs_with_other_threads_have_a_table_of_their_own_by_the_device_alone() -> None:
    from report_records import record

    old, new, other = record("one"), record("two"), record("three")
    new.setup = new.setup | {"threads": 1}
    other.setup, other.receipt = other.setup | {"threads": 2}, other.receipt | {"device": "a processor, 2 threads"}
    assert [[r.method for r in suite.records] for suite in suites([old, new, other])] == [["one", "two"], ["three"]]


# --- plug-ins ---------------------------------------------------------------------------------------------------------

PLUGIN = """
import mtlbench
from .helper import SCALE
import other_helper

@mtlbench.register_balancer("{name}")
class Scaled(mtlbench.Balancer):
    scales = (SCALE, other_helper.SCALE)

    def backward(self, losses, architecture):
        losses.mean().backward()
        return losses.detach() * 0 + 1
"""


def _folder(place: Path, name: str) -> Path:
    place.mkdir()
    (place / "plug.py").write_text(PLUGIN.format(name=name))
    (place / "helper.py").write_text(f"SCALE = '{name}'\n")
    (place / "other_helper.py").write_text(f"SCALE = 'other {name}'\n")
    return place


def test_a_plug_in_in_a_checkout_is_not_made_of_mtlbench(tmp_path: Path) -> None:
    (tmp_path / "mtlbench").mkdir()
    for name in ("__init__.py", "architecture.py"):
        (tmp_path / "mtlbench" / name).write_text("")
    (tmp_path / "helper.py").write_text("from mtlbench.architecture import Architecture\n")
    (tmp_path / "plug.py").write_text("import mtlbench\nimport helper\nfrom mtlbench import Architecture\n")
    assert files_imported_by(tmp_path / "plug.py") == [tmp_path / "helper.py"]


def test_plug_ins_import_the_files_beside_them_each_its_own(tmp_path: Path) -> None:
    from mtlbench.registry import BALANCERS

    path = list(sys.path)
    with registries_restored():
        lone, folder = _folder(tmp_path / "one", "first-scaled"), _folder(tmp_path / "two", "second-scaled")
        assert load_plugins([lone / "plug.py", folder]) == []
        for name in ("first-scaled", "second-scaled"):
            assert BALANCERS.get(name).target.scales == (name, f"other {name}")
        assert files_imported_by(lone / "plug.py") == [lone / "helper.py", lone / "other_helper.py"]
        before = sources_of(parse_method("shared+first-scaled"))
        (lone / "helper.py").write_text("SCALE = 'edited'\n")
        assert sources_of(parse_method("shared+first-scaled")) == before, "what runs here is what was imported"
        assert load_plugins([lone / "plug.py"]) == []
        assert BALANCERS.get("first-scaled").target.scales == ("edited", "other first-scaled")
        assert BALANCERS.get("second-scaled").target.scales == ("second-scaled", "other second-scaled")
        after = sources_of(parse_method("shared+first-scaled"))
        assert before["architecture"] == after["architecture"]
        assert before["balancer"] != after["balancer"], "a helper's edit makes other runs"
    sys.path[:] = path


def test_plug_ins_import_the_packages_beside_them_each_its_own(tmp_path: Path) -> None:
    from mtlbench.registry import BALANCERS

    with registries_restored():
        for name in ("first-scaled", "second-scaled"):
            folder = _folder(tmp_path / name, name)
            text = PLUGIN.replace(".helper", "kit.values").replace("other_helper\n", "kit.other as other_helper\n")
            (folder / "plug.py").write_text(text.format(name=name))
            (folder / "kit").mkdir()
            (folder / "other_helper.py").rename(folder / "kit" / "other.py")
            (folder / "kit" / "__init__.py").write_text("")
            (folder / "kit" / "values.py").write_text(f"SCALE = '{name}'\n")
            assert load_plugins([folder / "plug.py"]) == []
            assert BALANCERS.get(name).target.scales == (name, f"other {name}")


@pytest.mark.parametrize("late", ["one", "two"])
@pytest.mark.parametrize("kit", ["helper.py", "kit/values.py"])
def test_imports_within_functions_that_two_folders_would_answer_are_refused(
    tmp_path: Path, late: str, kit: str
) -> None:
    """They run when both are loaded: one method computed with the other's helper."""
    name = kit.partition("/")[0].removesuffix(".py")
    within = f"        from {name} import x\n        losses.mean()"
    folders = [_folder(tmp_path / name, f"{name}-scaled") for name in ("one", "two")]
    for folder in folders:
        (folder / "kit").mkdir()
        (folder / "kit" / "values.py").write_text("")
    plug = tmp_path / late / "plug.py"
    plug.write_text(plug.read_text().replace("        losses.mean()", within))
    with registries_restored():
        assert load_plugins([folders[0]]) == []
        (broken,) = load_plugins([folders[1] / "plug.py"])
        said = str(broken)  # long paths cut its end
        assert (
            f"{plug} imports '{name}' within a function, and {next(f for f in folders if f.name != late)} has" in said
        )
        assert "which Python would take for it: move that import to the top of the file" in said
        assert said.endswith(f"({folders[1] / 'plug.py'})")
    plug.write_text(plug.read_text().replace(f"from {name} import x", "from .helper import SCALE"))
    with registries_restored():
        assert load_plugins(folders) == []


def test_a_plug_in_is_made_of_the_packages_that_it_imports_too(tmp_path: Path) -> None:
    files = {
        "plug.py": "import os, torch, mylib.layers\nfrom mylib import parts\nfrom .near import far",
        "mylib/__init__.py": "from ._inner import *",
        "mylib/_inner.py": "",
        "mylib/layers.py": "from .. import unseen\nfrom . import parts as p\nfrom .deep.er import x",
        "mylib/parts.py": "",
        "mylib/other.py": "",  # nobody imports it
        "mylib/deep/er.py": "import mylib.late",  # a folder without __init__.py
        "mylib/late.py": "import plug",
        "near.py": "",
        "far.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = {path.relative_to(tmp_path).as_posix() for path in files_imported_by(tmp_path / "plug.py")}
    assert found == files.keys() - {"plug.py", "mylib/other.py", "far.py"}
    # one that is itself part of a package, as an installed plug-in is
    (tmp_path / "mylib/plug.py").write_text("import far\nfrom mylib.parts import x")
    within = [path.relative_to(tmp_path).as_posix() for path in files_imported_by(tmp_path / "mylib/plug.py")]
    assert within == ["mylib/__init__.py", "mylib/_inner.py", "mylib/parts.py"]


MADE = """
import mtlbench

def made(scale):
    class Made(mtlbench.Balancer):
        factor = scale

        def backward(self, losses, architecture):
            losses.mean().backward()
            return losses.detach() * 0 + 1

    return Made
"""


def test_the_file_that_registers_a_thing_is_part_of_its_source_wherever_it_is_defined(tmp_path: Path) -> None:
    from mtlbench.registry import BALANCERS

    path = list(sys.path)
    (tmp_path / "made.py").write_text(MADE)
    plug = tmp_path / "plug.py"
    digests = []
    with registries_restored():
        for factor in (1.0, 5.0, 1.0):
            plug.write_text(f"import made, mtlbench\nmtlbench.register_balancer('made')(made.made({factor}))\n")
            assert load_plugins([plug]) == []
            assert BALANCERS.get("made").target.factor == factor
            digests.append(sources_of(parse_method("shared+made"))["balancer"])
        assert digests[0] == digests[2] != digests[1]
        plug.write_text("1 / 0")
        (broken,) = load_plugins([plug])
        assert "ZeroDivisionError" in str(broken)
        assert "made" not in BALANCERS, "an edit that breaks a plug-in leaves nothing of its old code"
        plug.write_text("import made, mtlbench\nmtlbench.register_balancer('made')(made.made(2.0))\n")
        assert load_plugins([plug]) == []
        assert BALANCERS.get("made").target.factor == 2.0
    sys.path[:] = path
    for name in [n for n, m in sys.modules.items() if str(tmp_path) in str(getattr(m, "__file__", ""))]:
        del sys.modules[name]


def test_what_is_installed_goes_before_a_file_of_its_name(tmp_path: Path) -> None:
    path = list(sys.path)
    (tmp_path / "json.py").write_text("raise RuntimeError('the wrong one')\n")
    (tmp_path / "plug.py").write_text("import json\nassert json.dumps(1) == '1'\n")
    with registries_restored():
        assert load_plugins([tmp_path / "plug.py"]) == []
    sys.path[:] = path

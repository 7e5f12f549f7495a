"""Readers by name: those of plug-ins, their options from a benchmark's [data.options], and what the user is told."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from support_own_images import options

from mtlbench.benchmark import Data, benchmark_files, load_benchmark
from mtlbench.blame import ContractError
from mtlbench.data.check import read_source
from mtlbench.data.reading import read_table
from mtlbench.data.table import Table, column_of
from mtlbench.datasets.contract import READERS, Proposal, Reader, build_reader, read_with, readers, register_reader
from mtlbench.errors import UserError
from mtlbench.report.originals import NoImages, read_originals
from mtlbench.runs import Record

PLUGIN = '''
from pathlib import Path
from mtlbench.data.table import Table, column_of, split_at_random
from mtlbench.datasets.contract import Reader, register_reader


@register_reader("first-letters")
class FirstLetters(Reader):
    """Images of one folder, labelled by how their names begin."""

    stand_in = "shoes"

    def __init__(self, *, letters: int = 1, scale: float = 1.0, names: tuple[str, ...] = ()):
        self.letters, self.scale, self.names = letters, scale, names

    def read(self, folder, data):
        paths = sorted(path.name for path in folder.glob("*.png"))
        labels = column_of([path[: self.letters] for path in paths])
        split = split_at_random(paths, data.split_seed)
        remarks = (f"{self.letters} letters",)
        return Table("letters", folder, tuple(paths), {"letter": labels}, split, "at random", remarks=remarks)

    @classmethod
    def found(cls, folder: Path) -> bool:
        return (folder / "letters.txt").is_file()
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader in a file of its own, where `MTLBENCH_PLUGINS` finds it."""
    file = tmp_path / "plugins" / "first_letters.py"
    file.parent.mkdir()
    file.write_text(PLUGIN)
    monkeypatch.setenv("MTLBENCH_PLUGINS", str(file.parent))
    return file


def photos(root: Path) -> Path:
    root.mkdir()
    (root / "letters.txt").write_text("")
    for i in range(20):
        Image.fromarray(np.full((9, 9, 3), 10 * i, np.uint8)).save(root / f"{'ab'[i % 2]}{i:02d}.png")
    return root


def benchmark(folder: Path, data: str) -> Path:
    text = benchmark_files()["zappos"].read_text()
    rest = text[text.index("[model]") : text.index("[quick]")]
    file = folder / "own.toml"
    file.write_text(f'name = "own"\ntitle = "My own"\n[data]\nimage_size = 32\n{data}\n{rest}')
    return file


def section(**options: Any) -> Data:
    return Data(reader="first-letters", image_size=8, options=options)


def test_the_readers_that_come_with_mtlbench_say_what_they_read() -> None:
    assert list(readers()) == ["celeba", "csv", "folders", "hub", "names", "zappos"]
    for name in readers():
        entry = READERS.get(name)
        assert entry.summary.endswith(".")
        assert entry.origin.rpartition(":")[0].endswith(".py")
        assert bool(entry.cite) == bool(entry.target.source), "a published data set is cited"


def test_a_plug_ins_reader_is_found_by_its_name_and_takes_its_options_from_the_benchmark(
    plugin: Path, tmp_path: Path
) -> None:
    root = photos(tmp_path / "photos")
    file = benchmark(tmp_path, f'reader = "first-letters"\nfolder = "{root}"\noptions = {{ letters = 2 }}')
    table = read_source(file).table
    assert (len(table), table.remarks) == (20, ("2 letters",))
    assert table.columns["letter"].values[:3] == ("a0", "a1", "b0")
    settings = ["data.options.letters=1"]
    assert read_table(load_benchmark(str(file), settings=settings).data, None).columns["letter"].values == ("a", "b")


def test_a_folder_that_a_plug_ins_reader_recognises_needs_no_benchmark(plugin: Path, tmp_path: Path) -> None:
    from mtlbench.plugins import load_plugins

    load_plugins()
    assert read_source(photos(tmp_path / "photos")).table.name == "letters"


def test_a_reader_that_is_not_there_is_an_error_when_the_data_is_read_and_not_before(tmp_path: Path) -> None:
    data = load_benchmark(str(benchmark(tmp_path, 'reader = "folder"\nlimit = 3'))).data
    with pytest.raises(UserError, match=r"Unknown reader 'folder'. Did you mean: folders\? Available: .*celeba"):
        read_table(data, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"leters": 1},
            "The reader 'first-letters' has no option 'leters'. Did you mean: letters?",
        ),
        (
            {"letters": "many"},
            "The reader 'first-letters' can't take letters = 'many': input should be a",
        ),
        ({"scale": float("nan")}, "The reader 'first-letters' can't take scale = nan: input should be a finite number"),
    ],
)
def test_an_option_that_a_reader_can_not_take_is_named(plugin: Path, options: dict[str, Any], said: str) -> None:
    from mtlbench.plugins import load_plugins

    load_plugins()
    with pytest.raises(UserError) as error:
        build_reader(section(**options))
    assert str(error.value).startswith(said)


def test_options_have_the_types_that_they_are_annotated_with(plugin: Path) -> None:
    from mtlbench.plugins import load_plugins

    load_plugins()
    reader: Any = build_reader(section(scale=2, names=["a", "b"]))
    assert (reader.letters, reader.scale, type(reader.scale), reader.names) == (1, 2.0, float, ("a", "b"))


def test_a_reader_that_comes_with_mtlbench_has_its_keys_in_the_section_and_no_options(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The reader 'csv' has no option 'file'. It has none\."):
        build_reader(Data(reader="csv", image_size=8, options={"file": "a.csv"}))


def test_an_option_without_a_default_has_to_be_set() -> None:
    @register_reader("needy")
    class Needy(Reader):
        """Needs an option."""

        def __init__(self, *, key: str) -> None:
            self.key = key

        def read(self, folder: Path, data: Data) -> Table:
            return Table("needy", folder, (), {"a": column_of([])}, np.zeros(0, np.int64), "")

    with pytest.raises(UserError, match=r"The reader 'needy' needs the option 'key': set data\.options\.key\."):
        build_reader(Data(reader="needy", image_size=8))
    assert build_reader(Data(reader="needy", image_size=8, options={"key": "a"})).key == "a"  # type: ignore[attr-defined]


def test_absent_images_of_a_plug_ins_reader_come_with_what_can_be_done(plugin: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"There is no first-letters data at .*first-letters: name its folder with --data-dir, or try --dataset"
        r" shoes, which draws its own images\.$",
    ):
        read_table(section(), None)


def test_a_gallery_of_a_plug_in_that_is_not_here_is_left_out_with_the_reason(tmp_path: Path) -> None:
    file = benchmark(tmp_path, 'reader = "elsewhere"')
    setup = {"benchmark": load_benchmark(str(file)).model_dump(mode="json"), "tasks": ["letter"], "data": "0"}
    record = Record("shared", 0, "method", setup, receipt={"data": {"images": 20}})
    with pytest.raises(NoImages, match=r"its images in .*photos can't be used\. Unknown reader 'elsewhere'"):
        read_originals(record, photos(tmp_path / "photos"), draw_absent=False)


def test_the_example_of_the_contract_runs() -> None:
    example = doctest.DocTestParser().get_doctest(Reader.__doc__ or "", {"__name__": "example"}, "Reader", None, 0)
    said: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert results.attempted == len(example.examples) > 0
    assert results.failed == 0, "".join(said)
    assert "by-first-letter" in readers()


def test_what_is_no_reader_is_refused_where_it_registers() -> None:
    with pytest.raises(UserError, match=r"the reader 'nothing' must be a subclass of mtlbench\.Reader"):
        register_reader("nothing")(int)

    class Unfinished(Reader):
        """Reads nothing."""

    with pytest.raises(UserError, match="the reader 'unfinished' lacks read"):
        register_reader("unfinished")(Unfinished)


def test_a_plug_ins_reader_can_propose_how_to_read_a_folder(tmp_path: Path) -> None:
    @register_reader("sorted")
    class Sorted(Reader):
        """Reads text files."""

        def read(self, folder: Path, data: Data) -> Table:
            raise NotImplementedError

        @classmethod
        def propose(cls, folder: Path) -> Proposal | None:
            return Proposal("lists of images", ('reader = "sorted"',)) if list(folder.glob("*.lst")) else None

    (tmp_path / "a.lst").write_text("")
    with pytest.raises(UserError, match="holds lists of images: describe them") as error:
        read_source(tmp_path)
    assert 'reader = "sorted"\nfolder = "' in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"triplets": {"shade": {"test": np.array([[4, 5, 5]])}}},
            r"triplets by task and split .*, not 'test' of 'shade'",
        ),
        (
            {"triplets": {"kind": {"tset": np.array([[4, 5, 5]])}}},
            r"triplets by task and split .*, not 'tset' of 'kind'",
        ),
        (
            {"triplets": {"kind": {"test": np.array([[4, 5]])}}},
            r"\(n, 3\) whole numbers, .* in Table.triplets of 'kind', te",
        ),
        ({"triplets": {"kind": {"test": np.array([[4, 5, 6]])}}}, "images from 0 to 5 in .*, not from 4 to 6"),
        ({"triplets": {"kind": {"test": np.array([[4, 5, -1]])}}}, "images from 0 to 5 in .*, not from -1 to 5"),
        (
            {"triplets": {"kind": {"test": np.array([[4, 5, 0]])}}},
            "of that split alone in .*, not image 0 of another",
        ),
        ({"apart": np.zeros(5, np.int64)}, "None or 6 whole numbers, one an image, as Table.apart"),
    ],
)
def test_triplets_that_leave_their_split_and_parts_of_another_length_are_refused(changes: Any, said: str) -> None:
    """Such a test triplet would judge a network by its training images."""
    good = {"triplets": {"kind": {"test": np.array([[4, 5, 5]]), "val": np.zeros((0, 3), np.int64)}}}
    split = np.array([0, 0, 1, 1, 2, 2])

    class Mine(Reader):
        """Six images with triplets of their own."""

        changes: ClassVar[Any] = good

        def read(self, folder: Path, data: Data) -> Table:
            paths = tuple(f"{i}.png" for i in range(6))
            return Table("six", folder, paths, {"kind": column_of(list("ababab"))}, split, "as given", **self.changes)

    assert read_with(Mine(), Path(), options()).triplets == good["triplets"]
    Mine.changes = changes
    with pytest.raises(ContractError, match=said):
        read_with(Mine(), Path(), options())

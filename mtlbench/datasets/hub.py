"""Reads any image data set of the Hugging Face Hub, by its id or from a folder, through the library `datasets`.

Lhoest et al.: Datasets: A Community Library for Natural Language Processing, EMNLP 2021 (arXiv 2109.02846). A folder
may hold parquet files, images with a metadata file, or what `save_to_disk` wrote. Images are not decoded here.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mtlbench.benchmark import Data
from mtlbench.data.files import first_files_in, name_of
from mtlbench.data.roles import GALLERY, QUERY, Roles, check_roles, roles_in, roles_of
from mtlbench.data.splits import (
    SPLIT_WORDS,
    check_splits,
    columns_aside,
    completed,
    like_split,
    split_of_columns,
    split_own,
    torn_groups,
)
from mtlbench.data.table import SPLITS, Column, Kin, Labels, Table, check_distinct, labels_of, remark_on_several
from mtlbench.datasets.contract import Proposal, Reader, register_reader
from mtlbench.datasets.hub_columns import MIXED, Cells, are_alike, cells_of, in_words, same_classes, stated_types
from mtlbench.datasets.hub_images import files_of
from mtlbench.errors import UserError, did_you_mean, plain_name

_SAVED = ("dataset_dict.json", "state.json")  # what save_to_disk leaves
_SHARD = re.compile(r"-\d{5}-of-\d{5}\b")
_LOGIN = "ask for access on its page there, and log in on this machine with hf auth login"
_EXTRA = "The reader hub needs the library datasets: pip install 'mtlbench[hub]'."


@register_reader("hub")
class Hub(Reader):
    """Any image data set of the Hugging Face Hub by `id`, or a folder of parquet, arrow or images with metadata.

    Tasks are its columns of classes, words, whole numbers, yes or no, and lists of these. Its splits are taken over;
    where it has one alone, a column of train, val and test or of `is_train`, true or false, is the split.

    Args:
        id: of the data set on the Hub, such as `owner/name`; without one, `data.folder` or `--data-dir` names a folder.
        config: which of its configurations, where it has several.
        revision: a commit, tag or branch of it; by default the newest.
        image: the column of images, where it has several.
        group: the column whose equal cells stay on one side of a random split, such as a product's name.
        splits: which of its splits are train, val and test: { train = "train", validation = "test" }; by default as
            they are called.
    """

    def __init__(
        self,
        *,
        id: str = "",
        config: str = "",
        revision: str = "",
        image: str = "",
        group: str = "",
        splits: dict[str, Literal["train", "val", "test"]] | None = None,
    ) -> None:
        self.id, self.config, self.revision = id, config, revision
        self.fetches = id
        self.image, self.group, self.splits = image, group, splits or {}

    def read(self, folder: Path, data: Data) -> Table:
        """Read a folder, or where it is not there the data set of the Hub that `id` names, downloaded once.

        Raises:
            UserError: the library is missing, the data set can't be had, or a column is not what it should be.
        """
        local = folder.is_dir()
        found = _load(folder, self.config) if local else self._fetch(folder)
        where = str(folder) if local else f"'{self.id}'"
        remarks: list[str] = []
        splits = self._chosen(found, where, remarks)
        image = _image_column(splits, self.image, where)
        labels = [name for name in next(iter(splits.values())).features if name != image]
        found_cells = cells_of(splits, labels, where)
        marks = [
            found_cells[name].texts("", where) if name in found_cells and found_cells[name].kind else None
            for name in (QUERY, GALLERY)
        ]
        own = self._groups(found_cells, where)
        cells = {name: column for name, column in found_cells.items() if name not in (QUERY, GALLERY)}
        saying = self._aside(cells, data, where, len(splits) == 1 and not self.splits, remarks)
        columns = _columns(cells, self.group, data, where, remarks)
        name = name_of(folder) if local else self.id
        source = str(folder.resolve()) if local else f"hub:{self.id}"
        undecoded = {split: _undecoded(part, image) for split, part in splits.items()}
        root, paths = files_of(undecoded, image, name, f"{source}/{self.config}/{self.revision}")
        groups = [own[i] if own and own[i] else f"{i:09d}" for i in range(len(paths))]
        split, rule = self._split(splits, groups, data.split_seed, Path(where), saying)
        if own is not None:
            remarks += torn_groups(self.group, own, split)
        roles, said = roles_in(marks[0], marks[1], split, where)
        return Table(
            name=name,
            root=root,
            paths=tuple(paths),
            columns=columns,
            split=split,
            split_rule=rule,
            remarks=(*remarks, *said),
            group=self.group,
            kin=Kin.of(own, f"another image of the same {self.group}") if own is not None else None,
            roles=roles or self._roles(splits, saying, split, where),
        )

    def _fetch(self, folder: Path) -> Mapping[str, Any]:
        """Return the splits of a data set of the Hub; what was downloaded before is not downloaded again."""
        if not self.id:
            raise UserError(
                f"{folder}: there is no such folder. Name one with data.folder or --data-dir, or a data set of the Hub"
                ' with data.options = { id = "owner/name" }.'
            )
        if Path(self.id).exists():  # the library would take it for the data set
            raise UserError(
                f"'{self.id}' is a data set of the Hub and a path here too: read the latter with data.folder, or run"
                " from another folder."
            )
        return _load(self.id, self.config, self.revision)

    def _chosen(self, found: Mapping[str, Any], where: str, remarks: list[str]) -> dict[str, Any]:
        """Return the splits in use: those that options name, else those whose names are known, or the only one."""
        for name in self.splits:
            if name not in found:
                raise UserError(
                    f"{where} has no split '{name}'.{did_you_mean(name, found)} It has: {', '.join(found)}."
                    " Correct data.options.splits."
                )
        if len(found) == 1 and not self.splits:
            return dict(found)
        used = {name: part for name, part in found.items() if name in (self.splits or _known(found))}
        left = [name for name in found if name not in used]
        if not used:
            raise UserError(
                f"{where} has splits of other names, {', '.join(found)}: say which are train, val and test with"
                f' data.options = {{ splits = {{ {next(iter(found))} = "train", … }} }}.'
            )
        if left:
            remarks.append(f"Left out {'splits' if len(left) > 1 else 'the split'} {', '.join(left)}.")
        return used

    def _groups(self, cells: Mapping[str, Cells], where: str) -> list[str] | None:
        """Return the group of each image as its cell has it, empty without one; None where no column is named."""
        if not self.group:
            return None
        if self.group not in cells:
            raise UserError(_no_column(where, self.group, cells, "data.options.group"))
        column = cells[self.group]
        if not column.kind:
            raise UserError(
                f"{where}: the column '{self.group}' holds {column.said}, which name no groups. Correct"
                " data.options.group."
            )
        return [text.strip().replace("\0", ", ") for text in column.texts("\0", where)]

    def _aside(
        self, cells: dict[str, Cells], data: Data, where: str, alone: bool, remarks: list[str]
    ) -> dict[str, list[str]]:
        """Take columns that say a split or number folds out of the tasks.

        Returns:
            the cells of the columns that say the split, where it is `alone`, the only one that the data set has.
        """

        def text(name: str) -> list[str]:
            return cells[name].texts("\0", where)

        able = [name for name, column in cells.items() if column.kind not in ("list", "")]
        asked = (*data.tasks, *data.ordered, self.group)
        aside = columns_aside(able, text, asked)
        remarks += aside.remarks()
        saying = {name: text(name) for name in aside.flags if alone}
        for name in (*aside.flags, *aside.folds, *aside.alike):
            del cells[name]
        if saying or not alone:
            return saying
        free = [name for name in able if name in cells and plain_name(name) not in map(plain_name, asked)]
        named = [name for name in free if like_split(name, text(name))]
        named = [name for name in named if name.lower() == "split"] or named
        if len(named) > 1:
            raise UserError(
                f"{where}: the columns {', '.join(named)} all look like the split: name those that are tasks in"
                " data.tasks."
            )
        if not named:
            aside.refuse_alike(where)
            return {}
        remarks.append(f"'{named[0]}' says the split, and is no task unless data.tasks names it.")
        return {named[0]: [word.strip() for word in cells.pop(named[0]).texts("\0", where)]}

    def _split(
        self,
        splits: Mapping[str, Any],
        groups: list[str],
        seed: int,
        root: Path,
        saying: Mapping[str, Sequence[str]],
    ) -> tuple[Labels, str]:
        """Return the (N,) sides of images and the rule in words; `saying` as from `_aside`."""
        if len(splits) == 1 and not self.splits:
            if not saying:
                return split_own(groups, seed, self.group or "image", root)
            split, by = split_of_columns(saying, range(1, len(groups) + 1), groups, seed, str(root))
            return split, f"as in {by}"
        sides = [SPLITS.index(self.splits[s]) if self.splits else SPLIT_WORDS[s.lower()] for s in splits]
        given = np.repeat(np.array(sides, dtype=np.int64), [len(part) for part in splits.values()])
        split, drawn = completed(given, groups, seed)
        check_splits(split, str(root), "name others with data.options.splits, or take one split alone to split it")
        return split, f"as in the splits {', '.join(splits)}{drawn}"

    def _roles(
        self, splits: Mapping[str, Any], saying: Mapping[str, Sequence[str]], split: Labels, where: str
    ) -> Roles | None:
        """Return the roles of images in splits that are called query and gallery, or that a column calls so."""
        words = next(iter(saying.values()), [name for name, part in splits.items() for _ in range(len(part))])
        return check_roles(roles_of(words), split, words, where)

    @classmethod
    def propose(cls, folder: Path) -> Proposal | None:
        """See `Reader.propose`: parquet or arrow files; images in folders and beside tables are other readers'."""
        saved = any((folder / name).is_file() for name in _SAVED)
        files = first_files_in(folder)
        tables = [file for file in files if file.lower().endswith((".parquet", ".arrow"))]
        if not saved and not tables:
            return None
        kind = "arrow" if saved or tables[0].lower().endswith(".arrow") else "parquet"
        certain = saved or any(_SHARD.search(file) for file in tables)
        return Proposal(f"a Hugging Face data set, {kind} files", ('reader = "hub"',), certain)


def _known(names: Mapping[str, Any]) -> list[str]:
    return [name for name in names if name.lower() in SPLIT_WORDS]


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError(_EXTRA) from error
    if not hasattr(datasets, "load_dataset"):  # a folder of that name, which Python takes for a package
        raise UserError(_EXTRA)
    return datasets


def _load(place: Path | str, config: str, revision: str = "") -> Mapping[str, Any]:
    """Return the splits of a data set in a folder, or on the Hub.

    Raises:
        UserError: the library is missing, or can't read it; the sentence says why.
    """
    library = _library()
    with _quiet(library):
        try:
            if isinstance(place, Path) and any((place / name).is_file() for name in _SAVED):
                found = library.load_from_disk(str(place))
            else:
                found = _load_each(library, str(place), config, revision)
        except UserError:
            raise
        except Exception as error:  # the library's own, and those of all that it stands on
            raise UserError(_refusal(place, error)) from error
    return found if isinstance(found, Mapping) else {str(found.split or "all"): found}


def _load_each(library: Any, place: str, config: str, revision: str) -> Any:
    """Return the splits of files in a folder or on the Hub, each with the types that its own files state.

    The library reads all splits with the types of the first file: a number that is another class in another file would
    take a wrong name.

    Raises:
        UserError: the files of one split number classes each in their own way.
    """
    builder = library.load_dataset_builder(place, config or None, revision=revision or None)
    files = {str(split): list(part) for split, part in (builder.config.data_files or {}).items()}  # or addresses
    kind = {Path(file).suffix for part in files.values() for file in part}
    if kind in ({".parquet"}, {".arrow"}) and sum(map(len, files.values())) > 1:
        here = library.DownloadManager().download(files)  # the builder finds them there
        types = {split: _stated(place, split, part, builder.info.features or {}) for split, part in here.items()}
        columns = dict.fromkeys(name for own in types.values() for name in own)
        if not all(are_alike([own[name] for own in types.values() if name in own]) for name in columns):
            module = kind.pop().removeprefix(".")
            return {
                split: library.load_dataset(
                    module, data_files={split: part}, split=split, features=library.Features(types[split])
                )
                for split, part in files.items()
            }
    builder.download_and_prepare()
    return builder.as_dataset()


def _stated(place: str, split: str, files: Sequence[str], card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the types that the files of one split state."""
    first, *others = [stated_types(Path(file), card) for file in files]
    for file, own in zip(files[1:], others, strict=True):
        unlike = [name for name, one in own.items() if name in first and not same_classes(first[name], one)]
        if unlike:
            raise UserError(
                f"{place}: {Path(files[0]).name} and {Path(file).name} of the split {split} number the classes of"
                f" '{unlike[0]}' differently: write them with the same names in the same order."
            )
    return first


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Keep the library's bars out of what is no terminal."""
    bars = not library.are_progress_bars_disabled() and not sys.stderr.isatty()
    if bars:
        library.disable_progress_bars()
    try:
        yield
    finally:
        if bars:
            library.enable_progress_bars()


def _refusal(place: Path | str, error: Exception) -> str:
    """Say in a sentence why a data set can't be had, and what to do."""
    words = " ".join(str(error).split()).rstrip(".")
    if "onfig name is missing" in words or "BuilderConfig" in words:
        return f"{place}: {words}. Name one with data.options.config."
    if isinstance(place, Path):
        return (
            f"{place} is not a data set that the library datasets can read: {words or type(error).__name__}. It takes"
            " parquet files, images with a metadata file, and what save_to_disk wrote."
        )
    copy = f"copy it to this machine and name its folder with --data-dir ({type(error).__name__})"
    if "gated" in words.lower():
        return f"The data set '{place}' is gated: {_LOGIN}, or {copy}."
    if isinstance(error, ConnectionError):
        return f"The Hub can't be reached for '{place}': {words}. Try again later, or {copy}."
    if type(error).__name__ == "DatasetNotFoundError":
        private = f"or, if it is private, {_LOGIN}"
        return f"The Hub has no data set '{place}' that you may see: correct data.options.id, {private}."
    return f"The data set '{place}' can't be loaded from the Hub: {words or type(error).__name__}. Or {copy}."


def _check_alike(splits: Mapping[str, Any], where: str) -> None:
    """Refuse splits without rows, and such as have different columns."""
    (first, part), *others = splits.items()
    for name, other in others:
        unlike = sorted(set(part.features) ^ set(other.features))
        if unlike:
            raise UserError(
                f"{where}: the splits {first} and {name} have different columns, such as '{unlike[0]}': make them"
                " alike, or"
                " take one with data.options.splits."
            )
    if not sum(map(len, splits.values())):
        raise UserError(f"{where} has no rows.")


def _image_column(splits: Mapping[str, Any], wanted: str, where: str) -> str:
    """Return the column of images in all splits: the one that is named, else the only one."""
    _check_alike(splits, where)
    features = next(iter(splits.values())).features
    image = _image_column_of(features, wanted, where)
    for name, part in splits.items():
        if not _holds_images(part.features[image]):
            raise UserError(
                f"{where}: the column '{image}' holds images, and in the split {name} {in_words(part.features[image])}:"
                " make them alike, or take other splits with data.options.splits."
            )
    return image


def _image_column_of(features: Mapping[str, Any], wanted: str, where: str) -> str:
    listed = ", ".join(f"{name} ({in_words(feature)})" for name, feature in features.items())
    if wanted:
        if wanted not in features:
            raise UserError(_no_column(where, wanted, features, "data.options.image"))
        if not _holds_images(features[wanted]):
            raise UserError(f"{where}: the column '{wanted}' holds no images. Its columns: {listed}.")
        return wanted
    typed = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    able = typed or [name for name, feature in features.items() if _holds_images(feature)]
    if not able:
        raise UserError(
            f"{where} has no column of images. Its columns: {listed}. A table of paths is read by data.reader = 'csv'."
        )
    if len(able) > 1:
        raise UserError(
            f"{where} has several columns of images: name one of {', '.join(able)} with data.options.image."
        )
    return able[0]


def _holds_images(feature: Any) -> bool:
    """Tell whether a column is of images, or of the bytes or the (bytes, path) that parquet holds of them."""
    parts = feature if isinstance(feature, dict) else {}
    bare = getattr(feature, "dtype", "") in ("binary", "large_binary")
    return type(feature).__name__ == "Image" or bare or {"bytes", "path"} == set(parts)


def _undecoded(part: Any, column: str) -> Any:
    """Return a split whose images are bytes or paths."""
    return part.cast_column(column, _library().Image(decode=False))


def _no_column(where: str, name: str, known: Mapping[str, Any], key: str) -> str:
    return f"{where} has no column '{name}'.{did_you_mean(name, known)} Its columns: {', '.join(known)}. Correct {key}."


def _columns(cells: Mapping[str, Cells], group: str, data: Data, where: str, remarks: list[str]) -> dict[str, Column]:
    """Return the tasks, and remark on columns and cells that are none."""
    asked = {plain_name(task) for task in (*data.tasks, *data.ordered, *filter(None, [data.camera]))}
    columns: dict[str, Column] = {}
    for name, column in cells.items():
        real = next((v for v in column.all if _is_fraction(v)), None) if column.kind == "real" else None
        if not column.kind or real is not None:
            what = f"real numbers, such as {real:g}" if real is not None else column.said
            if plain_name(name) in asked:
                raise UserError(
                    f"{where}: the column '{name}' holds {what}, no labels. Put them into a column of words"
                    " or whole numbers first, such as low, medium and high, or take other tasks."
                )
            if name != group:
                remarks.append(f"'{name}' holds {what}, no labels: left out.")
            continue
        if column.kind == MIXED and not column.share_values(data.separator, where):
            what = f"'{name}' holds {column.said}, which share no value"
            if plain_name(name) in asked or not (data.tasks or name == group):
                raise UserError(
                    f"{where}: the column {what}: write the same kind of labels in all splits, or name other columns in"
                    " data.tasks."
                )
            if name != group:
                remarks.append(f"{what}: left out.")
            continue
        columns[name] = _column(column, data, where, remarks)
    if not columns:
        raise UserError(f"{where} has no column for a task beside its images: {', '.join(remarks) or 'none at all'}")
    check_distinct(columns, where)
    for name in data.ordered:
        if name not in columns:
            raise UserError(_no_column(where, name, columns, "data.ordered"))
    return columns


def _is_fraction(cell: Any) -> bool:
    return isinstance(cell, float) and not math.isnan(cell) and not cell.is_integer()


def _column(column: Cells, data: Data, where: str, remarks: list[str]) -> Column:
    """Return one task's labels, and remark on cells without one that are written in several ways."""
    name, kind, cells = column.name, column.kind, column.all
    nothing = {
        "None": sum(cell is None for cell in cells),
        "NaN": sum(isinstance(cell, float) and math.isnan(cell) for cell in cells),
        "empty text": sum(isinstance(cell, str) and not cell.strip() for cell in cells),
    }
    ways = [f"{count:,} {what}" for what, count in nothing.items() if count]
    if len(ways) > 1:
        remarks.append(f"Cells of {name} without a value are written in several ways, {', '.join(ways)}: unlabelled.")
    order = data.ordered.get(name)
    if kind == "class" and order is None:
        return _classes(cells, column.names, data.missing)
    separator = data.separator if kind in ("text", "list", MIXED) else "\0"  # of other cells each holds one value
    texts = column.texts(data.separator, where)
    try:
        found = labels_of(texts, data.multi_valued, order, missing=data.missing, separator=separator)
    except UserError as error:
        raise UserError(f"{where}, column {name}: {error}") from error
    remarks += remark_on_several(name, texts, data.multi_valued, ordered=order is not None, separator=separator)
    if kind == "flag" and order is None and set(found.values) == {"no"}:
        return Column(found.codes, ("no", "yes"))  # as where both are there: 1 is yes
    return found


def _classes(cells: Sequence[str | None], names: tuple[str, ...], missing: Sequence[str]) -> Column:
    """Return the labels of a column of classes, under its own numbers; None and an empty name are unlabelled."""
    absent = {"", *(word.strip().casefold() for word in missing)}
    code: dict[str | None, int] = {
        name: -1 if name.strip().casefold() in absent else number for number, name in enumerate(names)
    }
    return Column(np.array([code.get(cell, -1) for cell in cells], dtype=np.int64), names)

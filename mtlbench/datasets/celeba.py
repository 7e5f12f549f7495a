"""Reads CelebA as it lies on disk: 40 binary attributes, identities, and the official or a by-identity split.

Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild, ICCV 2015. Nothing is downloaded, unpacked or decoded.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtlbench.benchmark import Data
from mtlbench.data.download.source import File, Source
from mtlbench.data.files import files_in
from mtlbench.data.table import Column, Kin, Table, split_at_random
from mtlbench.data.webpage import holds_web_page
from mtlbench.datasets.contract import Reader, register_reader
from mtlbench.errors import UserError, counted
from mtlbench.rendered.marks import FIRST_IDENTITY

if TYPE_CHECKING:
    import pandas as pd

IMAGES, ATTRIBUTES = "img_align_celeba", "list_attr_celeba.txt"
_HQ = "CelebAMask-HQ-attribute-anno.txt"
IDENTITIES, PARTITION = "identity_CelebA.txt", "list_eval_partition.txt"
_OFFICIAL = (162_770, 19_867, 19_962)  # images to train, validate and test in the official partition
# where archives and users put the parts: beside each other, or as in the official drive's folders
_FOLDERS = ("", "celeba", "CelebA")
_INSIDE = {IMAGES: ("", "Img"), ATTRIBUTES: ("", "Anno"), IDENTITIES: ("", "Anno"), PARTITION: ("", "Eval")}
_LOOKED_AT = 1000  # images: a folder without any of the first so many is not the right one
_CITE = """
@inproceedings{celeba,
  author = {Liu, Ziwei and Luo, Ping and Wang, Xiaogang and Tang, Xiaoou},
  title = {Deep Learning Face Attributes in the Wild},
  booktitle = {ICCV},
  year = {2015},
}
"""


def _published() -> Source:
    """Return where CelebA is published."""
    # torchvision keeps the official ids and checksums; it imports torch
    from torchvision.datasets import CelebA

    official = {name: (number, md5) for number, md5, name in CelebA.file_list}

    def file(name: str, size: int, **archive: Any) -> File:
        number, md5 = official[name]
        # confirm=t: without it Google answers with a page about viruses in place of a large file
        url = f"https://drive.usercontent.google.com/download?id={number}&export=download&confirm=t"
        return File(name, url, size, md5, **archive)

    return Source(
        title="CelebA",
        licence=(
            "CelebA: Ziwei Liu, Ping Luo, Xiaogang Wang, Xiaoou Tang (Multimedia Laboratory, The Chinese University of"
            " Hong Kong), Deep Learning Face Attributes in the Wild, ICCV 2015; cite this paper.\n"
            "For non-commercial research purposes only. The images come from the internet and are not property of the"
            " laboratory. No part of the set or of data derived from it may be sold or used commercially, and no part"
            " of the set may be copied further, published or distributed, except for internal use at a single site of"
            " one organisation. Access can be ended at any time. The whole agreement is on the set's page:\n"
            "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
        ),
        page="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        files=(
            file("list_attr_celeba.txt", 26_721_026),
            file("identity_CelebA.txt", 3_424_458),
            file("list_eval_partition.txt", 2_836_386),
            file(
                "img_align_celeba.zip",
                1_443_490_838,
                unpacks_to="img_align_celeba",
                unpacked=1_900_000_000,
                members=300_000,
            ),
        ),
    )


@register_reader("celeba", cite=_CITE)
class CelebA(Reader):
    """CelebA: 200,000 faces with 40 binary attributes and identities; the official split, or one by identity."""

    layout = "CelebA has img_align_celeba/ and list_attr_celeba.txt"

    @classmethod
    def propose(cls, folder: Path) -> None:
        """Refuse CelebAMask-HQ's attributes, which would else be lost while its images are taken for plain folders.

        Raises:
            UserError: they are there, and no table made of them.
        """
        file = folder / _HQ
        if file.is_file() and not any(folder.glob("*.csv")):
            images = next((f"{p.parent.name}/" for p in sorted(folder.glob("*/0.jpg"))), "")
            made = (
                f"d = pandas.read_csv('{_HQ}', sep=r'\\s+', skiprows=1); d.index = '{images}' + d.index;"
                " d.to_csv('labels.csv', index_label='path')"
            )
            raise UserError(
                f"{folder} holds CelebAMask-HQ: other crops under numbers of their own, without CelebA's split. Make a"
                f" table of {_HQ} first, in that folder with Python: import pandas; {made}"
            )

    stand_in = "faces"
    source = staticmethod(_published)

    def read(self, folder: Path, data: Data) -> Table:
        """See `read_celeba`."""
        return read_celeba(folder, data.split, data.split_seed, data.subset)

    @classmethod
    def found(cls, folder: Path) -> bool:
        """See `Reader.found`: the images, their archive, or the attributes are there."""
        parts = _Parts(folder)
        return any(parts.find(name) for name in (IMAGES, f"{IMAGES}.zip", ATTRIBUTES))


def read_celeba(root: Path, split: str = "default", split_seed: int = 0, subset: bool = False) -> Table:
    """Read CelebA from `root`, or from `celeba/` in it: the image folder and the label files, as .txt or as .csv.

    The tasks are the 40 attributes by their official names (values no, yes) and, with the identity file, `identity`.
    Images may be missing: packing finds out. A set with the identities of the rendered faces is called rendered,
    whatever its folder.

    Args:
        root: the folder; `img_align_celeba/` itself will do where the label files are beside it.
        split: `default`, as in the partition file; `identity`, 70/10/20 at random, no person on two sides.
        split_seed: of the split by identity.
        subset: leave out listed images that are not there.

    Raises:
        UserError: something is missing or malformed; it says what, and what belongs there.
    """
    import pandas as pd

    if split not in ("default", "identity"):
        raise ValueError(f"split is default or identity, not {split!r}")
    parts = _Parts(root)
    needed = PARTITION if split == "default" else IDENTITIES
    there = parts.find(ATTRIBUTES)
    in_table = there is not None and there.suffix == ".csv" and _PARTITION_COLUMN in _header(there)
    parts.check(needed=(IMAGES, ATTRIBUTES, *([] if needed == PARTITION and in_table else [needed])))
    file = parts.path(ATTRIBUTES)
    remarks: list[str] = []
    attributes, joined = _attributes(file, remarks)

    def matching(name: str, what: str, allowed: set[int] | None = None) -> pd.Series[int]:
        """Read a file of one column, in the attributes' order."""
        path = parts.path(name)
        column = _read(path, what, allowed).iloc[:, 0]
        lost = attributes.index.difference(column.index)
        if len(lost):
            raise UserError(
                f"{path} has no line for {lost[0]} ({counted(len(lost), 'image')} of {file.name} without one). Fetch"
                " both again."
            )
        if len(column) > len(attributes):
            more = len(column) - len(attributes)
            remarks.append(f"{path.name} lists images that {file.name} does not ({more:,}): they are left out.")
        return column.loc[attributes.index]

    rendered = False
    columns = {str(a): Column((attributes[a].to_numpy() > 0).astype(np.int64), ("no", "yes")) for a in attributes}
    if parts.find(IDENTITIES):
        codes, values = pd.factorize(matching(IDENTITIES, "identity"), sort=True)
        columns["identity"] = Column(codes.astype(np.int64), tuple(str(v) for v in values))
        rendered = bool(values.min() >= FIRST_IDENTITY)
    else:
        remarks.append(f"{IDENTITIES} is missing: identity is not a task.")
    if split == "identity":
        people = columns["identity"]
        sides = split_at_random([people.values[code] for code in people.codes], split_seed)
        rule = f"by identity at random, 70/10/20, seed {split_seed}"
    elif parts.find(PARTITION):
        sides = matching(PARTITION, "partition", {0, 1, 2}).to_numpy().astype(np.int64)
        rule = f"as in {parts.path(PARTITION).name}"
    else:
        assert joined is not None
        sides, rule = joined.to_numpy().astype(np.int64), f"as in {file.name}, column {_PARTITION_COLUMN}"
    if not rendered:
        rule = told_apart(rule, [int(number) for number in np.bincount(sides, minlength=3)])
    images = parts.images_with(attributes.index, None if subset else _LOOKED_AT)
    names = list(attributes.index)
    files = set(files_in(parts.root / images))
    renamed = {name: _as_png(name) for name in names if name not in files}
    renamed = {name: other for name, other in renamed.items() if other in files}
    if renamed:
        first = next(iter(renamed))
        have = f"{counted(len(renamed), 'image')} {'have .png names' if len(renamed) > 1 else 'has a .png name'}"
        remarks.append(f"{have}, such as {renamed[first]} for {first}.")
    table = Table(
        name="rendered faces" if rendered else "CelebA",
        root=parts.root,
        paths=tuple(f"{images}/{renamed.get(name, name)}" for name in names),
        columns=columns,
        split=sides,
        split_rule=rule,
        rendered=rendered,
        remarks=tuple(remarks),
        kin=Kin(columns["identity"].codes, "another image of the same person") if "identity" in columns else None,
    )
    if not subset:
        return table
    kept = np.flatnonzero([renamed.get(name, name) in files for name in names])
    rule = f"{rule}; the {len(kept):,} of {len(table):,} listed images that are there"
    return replace(table.subset(kept), split_rule=rule)


def told_apart(rule: str, sizes: Sequence[int]) -> str:
    """Return the words for a split by a partition file; one with other sizes than CelebA's own says so.

    Args:
        rule: the words, perhaps of an early record, which did not say so.
        sizes: images to train, validate and test.
    """
    partial = " listed images " in rule or " drawn at random" in rule  # sizes tell nothing then
    if not rule.startswith("as in ") or partial or _NOT_OWN in rule or tuple(sizes) == _OFFICIAL:
        return rule
    file, mark, more = rule.partition(";")
    return f"{file}, {_NOT_OWN} {' / '.join(f'{size:,}' for size in _OFFICIAL)}{mark}{more}"


_NOT_OWN = "not CelebA's own"
_PARTITION_COLUMN = "partition"


def _as_png(name: str) -> str:
    return f"{Path(name).stem}.png"


def _header(path: Path) -> list[str]:
    """Return the names of a CSV's columns; none of a file that can't be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return [name.strip() for name in next(csv.reader(lines), [])]
    except (OSError, ValueError, csv.Error):
        return []


def _attributes(file: Path, remarks: list[str]) -> tuple[pd.DataFrame, pd.Series[int] | None]:
    """Read the attributes, as -1 and 1 or 0 and 1, and the partition where a CSV has it as a column of its own."""
    found = _read(file, "attributes", None, {-1, 1})
    joined = found.pop(_PARTITION_COLUMN) if _PARTITION_COLUMN in found else None
    if joined is not None and not joined.isin({0, 1, 2}).all():
        raise UserError(f"{file}, column {_PARTITION_COLUMN}: 0, 1 or 2 belongs there. Fetch it again.")
    allowed = {0, 1} if len(found) and not (found == -1).to_numpy().any() else {-1, 1}
    if not found.isin(allowed).to_numpy().all():
        if joined is None:
            _refuse_first_bad_line(file, _skipped(file), found.shape[1] + 1, {-1, 1})
        raise UserError(f"{file}: attributes must be -1 and 1, or 0 and 1; it holds other numbers. Fetch it again.")
    if allowed == {0, 1} and (found == 0).to_numpy().any():
        remarks.append(f"{file.name} writes 0 for no, where the official file has -1.")
    return found, joined


def _skipped(path: Path) -> int:
    return 1 if path.suffix == ".csv" else 2


class _Parts:
    """The files and folders of CelebA under a root, wherever in it they lie."""

    def __init__(self, root: Path) -> None:
        self.root = root
        while self.root.name == IMAGES and not self.find(ATTRIBUTES):
            self.root = self.root.parent

    def find(self, name: str) -> Path | None:
        """Return the path of a part, a label file as .txt or .csv, or None."""
        names = (name, name.replace(".txt", ".csv"))
        for folder in _FOLDERS:
            for inside in _INSIDE.get(name.replace(".zip", ""), ("",)):
                for candidate in (self.root / folder / inside / n for n in names):
                    if candidate.is_dir() if name == IMAGES else candidate.is_file():
                        return candidate
        return None

    def path(self, name: str) -> Path:
        """Return the path of a part that `check` found."""
        path = self.find(name)
        assert path is not None
        return path

    def check(self, needed: tuple[str, ...]) -> None:
        """Refuse web pages in the place of data, missing parts, and an archive that is not unpacked, each in one go."""
        archive, message = (None if self.find(IMAGES) else self.find(f"{IMAGES}.zip")), ""
        labels = [path for path in map(self.find, (ATTRIBUTES, IDENTITIES, PARTITION)) if path]
        files = [*labels, *([archive] if archive else [])]
        pages = [str(path) for path in files if holds_web_page(path)]
        if pages:
            raise UserError(
                f"The host answered with a web page, usually 'quota exceeded', instead of the data: delete and fetch"
                f" again {', '.join(pages)}."
            )
        missing = [name for name in needed if not self.find(name)]
        if archive:
            missing.remove(IMAGES)
            # elsewhere it would download the labels again
            beside = archive.parent.name != "Img" and all(path.parent == archive.parent for path in labels)
            get = f"run `mtlbench data get celeba --data-dir {archive.parent}`, which unpacks the official archive, or "
            message = f"{archive} is not unpacked: {get if beside else ''}unzip it there."
            if not missing:
                raise UserError(message)
        if missing:
            there = next((path.parent for path in (*files, self.find(IMAGES)) if path), self.root)
            home = there.parent if there.name in ("Anno", "Eval", "Img") else there
            # it would download again what is in other folders
            beside = all(path.parent == home for path in (*files, self.find(IMAGES)) if path)
            get = f" or by `mtlbench data get celeba --data-dir {home}`" if beside else ""
            listed = ", ".join(f"{name}/ (the folder of images)" if name == IMAGES else name for name in missing)
            many = len(missing) > 1
            raise UserError(
                f"{self.root} is not a complete CelebA: missing {'are' if many else 'is'} {listed}. Put"
                f" {'them' if many else 'it'} into {home}, from the data set's official page{get}, or name another"
                f" folder with --data-dir.{message and f' {message}'}"
            )

    def images_with(self, names: pd.Index[str], most: int | None) -> str:
        """Return the folder of the images, relative to the root; some archives hold it twice, one in the other.

        Args:
            names: of the images.
            most: how many of them are looked for, the first ones; None for all.
        """
        outer = self.path(IMAGES)
        for folder in (outer, outer / IMAGES):
            if any((folder / name).is_file() or (folder / _as_png(name)).is_file() for name in islice(names, most)):
                return folder.relative_to(self.root).as_posix()
        archive = self.find(f"{IMAGES}.zip")
        raise UserError(
            f"{outer} holds none of the first {min(most or len(names), len(names)):,} images that"
            f" {self.path(ATTRIBUTES).name} lists, such as {names[0]}. "
            + (f"Unzip {archive} again." if archive else "Put the aligned and cropped images there.")
        )


def _read(path: Path, what: str, allowed: set[int] | None, usual: set[int] | None = None) -> pd.DataFrame:
    """Read a label file into one column of integers per name, indexed by the images' file names.

    Args:
        path: runs-of-spaces text, or a .csv with a header. The attributes' text opens with two lines of header: the
            number of images, and the names of the columns; the other texts have none.
        what: `attributes`, or the name of the file's only column.
        allowed: the values that there are, or None for any number.
        usual: what a complaint says that belongs there; `allowed` if None.
    """
    import pandas as pd

    comma = path.suffix == ".csv"
    count, skip, columns, numbered = "", 0, [what], False
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            if comma:
                first, *columns = [name.strip() for name in next(csv.reader(lines), [""])]
                skip = 1
                numbered = not first or first == "Unnamed: 0"  # a row number that pandas wrote
                if numbered and columns:
                    first, *columns = columns
                if Path(first).suffix:
                    raise UserError(f"{path} has no line of header, such as image_id,{what}, before its first image.")
            elif what == "attributes":
                count, columns, skip = next(lines, "").strip(), next(lines, "").split(), 2
                if not count.isdecimal():
                    raise UserError(
                        f"{path} should open with the number of its images, not '{count[:40]}'. Fetch it again."
                    )
            else:  # public copies put a header before what has none: `image identity`
                skip = int(_is_header(next(lines, "")))
        # no names are given to pandas: it would take columns in excess for an index, and shift the labels
        frame = pd.read_csv(
            path,
            sep="," if comma else r"\s+",
            skiprows=skip,
            header=None,
            dtype={0: str},
            quoting=csv.QUOTE_MINIMAL if comma else csv.QUOTE_NONE,
            encoding="utf-8-sig",
            keep_default_na=False,
            na_values=[""],
            skipinitialspace=comma,
        )
        if numbered and frame.shape[1] == len(columns) + 2:
            frame = frame.iloc[:, 1:].set_axis(range(len(columns) + 1), axis=1)
            frame[0] = frame[0].astype(str)
    except (OSError, ValueError, csv.Error) as error:
        _refuse_first_bad_line(path, skip, len(columns) + 1, usual or allowed)
        raise UserError(f"{path} can't be read: {str(error).strip()}. Is it the official file?") from error
    width = len(columns) + 1
    if (what != "attributes" and width != 2) or width < 2:
        raise UserError(
            f"{path} has {width} column{'s' * (width != 1)} where a file name and {what} belong."
            " Is it the official file?"
        )
    if len(set(columns)) < len(columns):
        raise UserError(f"{path} can't be read: its header names a column twice. Is it the official file?")
    if (
        frame.shape[1] != width
        or frame.isna().to_numpy().any()
        or not all(pd.api.types.is_integer_dtype(kind) for kind in frame.dtypes[1:])
        or (allowed is not None and not frame.iloc[:, 1:].isin(allowed).to_numpy().all())
    ):
        _refuse_first_bad_line(path, skip, width, usual or allowed)
        raise UserError(f"{path} can't be read: it does not hold a file name and {width - 1} numbers in each line.")
    frame = frame.set_axis(["file", *columns], axis=1).set_index("file")
    if what == "attributes" and not comma and count != str(len(frame)):
        raise UserError(
            f"{path} is cut short or altered: its first line says '{count}' images and {len(frame)} follow."
            " Fetch it again, or correct that line."
        )
    if frame.index.has_duplicates:
        raise UserError(f"{path} lists {frame.index[frame.index.duplicated()][0]} twice.")
    return frame


def _is_header(line: str) -> bool:
    """Return whether the first line of a file of names and numbers names its columns."""
    words = line.split()
    return len(words) == 2 and not Path(words[0]).suffix and not words[1].lstrip("-").isdigit()


def _refuse_first_bad_line(path: Path, skip: int, width: int, allowed: set[int] | None) -> None:
    """Raise UserError for the first line that has not the right fields; only return where there is none."""

    @functools.cache  # 8 million cells of two spellings
    def is_right(cell: str) -> bool:
        try:
            number = int(cell)
        except ValueError:
            return False
        return allowed is None or number in allowed

    known = "a whole number" if allowed is None else " or ".join(map(str, sorted(allowed)))
    remedy = "Correct it, or fetch the official file again."
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if number <= skip or not line.strip():
                    continue
                name, *cells = next(csv.reader([line])) if path.suffix == ".csv" else line.split()
                if len(cells) + 1 != width:
                    fields = f"{len(cells) + 1} field{'s' if cells else ''}"
                    raise UserError(f"{path}: line {number} has {fields} where {width} belong. {remedy}")
                for cell in cells:
                    if not is_right(cell):
                        raise UserError(
                            f"{path}: line {number} says '{cell}' for {name} where {known} belongs. {remedy}"
                        )
    except (OSError, ValueError, csv.Error):
        return  # not text at all: the caller tells what pandas said of it

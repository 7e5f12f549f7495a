"""Reads UT-Zappos50K as it lies on disk: nine label columns, a seeded split by image, or CSN's lists of triplets.

Yu, Grauman: Fine-Grained Visual Comparisons with Local Learning, CVPR 2014. Veit, Belongie, Karaletsos: Conditional
Similarity Networks (CSN), CVPR 2017. Nothing is downloaded, unpacked or decoded. The rendered shoes lie the same way.
"""

from __future__ import annotations

import csv
import html
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mtlbench.benchmark import Data
from mtlbench.data.download.source import File, Source
from mtlbench.data.table import (
    Column,
    Kin,
    Table,
    column_of,
    labels_of,
    remark_on_several,
    split_at_random,
    values_in,
)
from mtlbench.data.webpage import holds_web_page
from mtlbench.datasets.contract import Reader, register_reader
from mtlbench.datasets.csn_lists import LISTS, disagreements, read_lists
from mtlbench.errors import UserError, counted
from mtlbench.rendered.marks import BRANDS

if TYPE_CHECKING:
    import pandas as pd

IMAGES, TABLE = "ut-zap50k-images", "ut-zap50k-data/meta-data.csv"
SQUARE = "ut-zap50k-images-square"
BINARY = "meta-data-bin.csv"  # the same labels, one column of 0 and 1 for each value
_ARCHIVES = {IMAGES: (f"{IMAGES}.zip", f"{SQUARE}.zip"), TABLE: ("ut-zap50k-data.zip",)}
_COLUMNS = {
    "category": "Category",
    "closure": "Closure",
    "gender": "Gender",
    "heel": "HeelHeight",
    "subcategory": "SubCategory",
    "material": "Material",
    "toe": "ToeStyle",
    "insole": "Insole",
}
_CITE = """
@inproceedings{utzap50k,
  author = {Yu, Aron and Grauman, Kristen},
  title = {Fine-Grained Visual Comparisons with Local Learning},
  booktitle = {CVPR},
  year = {2014},
}
"""


def _published() -> Source:
    """Return where UT-Zappos50K is published."""
    page = "https://vision.cs.utexas.edu/projects/finegrained/utzap50k/"
    return Source(
        title="UT-Zappos50K",
        licence=(
            "UT-Zappos50K: Aron Yu, Kristen Grauman (The University of Texas at Austin), Fine-Grained Visual"
            " Comparisons with Local Learning, CVPR 2014; cite this paper.\n"
            "For academic, non-commercial use only. The images are catalogue images collected from Zappos.com. The"
            f" set's page:\n{page}"
        ),
        page=page,
        files=(
            File(
                "ut-zap50k-data.zip",
                f"{page}ut-zap50k-data.zip",
                5_000_000,
                unpacks_to="ut-zap50k-data",
                proof="meta-data.csv",
                unpacked=50_000_000,
                members=1_000,
            ),
            File(
                "ut-zap50k-images.zip",
                f"{page}ut-zap50k-images.zip",
                300_000_000,
                unpacks_to="ut-zap50k-images",
                unpacked=450_000_000,
                members=100_000,
            ),
        ),
    )


@register_reader("zappos", cite=_CITE)
class Zappos(Reader):
    """UT-Zappos50K: 50,000 shoes with nine label columns, split by image at random, or CSN's lists of triplets."""

    layout = "UT-Zappos50K has ut-zap50k-images/ and ut-zap50k-data/meta-data.csv"
    stand_in = "shoes"
    source = staticmethod(_published)

    def read(self, folder: Path, data: Data) -> Table:
        """See `read_zappos`."""
        return read_zappos(folder, data.split_seed, data.split, data.multi_valued, data.missing, data.separator)

    @classmethod
    def found(cls, folder: Path) -> bool:
        """See `Reader.found`: the images, the table, or an archive of either are there."""
        return any(_images_in(home) or _table_in(home) or _archives_in(home) for home in _homes(folder))


def read_zappos(
    root: Path,
    split_seed: int = 0,
    split: str = "default",
    multi_valued: str = "value",
    missing: Sequence[str] = (),
    separator: str = ";",
) -> Table:
    """Read UT-Zappos50K from `root`, or from a folder in it that is named after the data set.

    That folder holds `ut-zap50k-images/` (or, if need be, `ut-zap50k-images-square/`) and
    `ut-zap50k-data/meta-data.csv`, or for want of it `meta-data-bin.csv`; `ut-zap50k-data/` may lie among the images.
    The tasks are category, closure, gender, heel (ordered), subcategory, material, toe, insole and brand (from the
    path). Empty cells are unlabelled, and so are heels that say no height. A row without its image keeps its place,
    with a path where nothing lies: packing reports it.

    A set with the brands of the rendered shoes is called rendered, whatever its folder.

    Args:
        root: the folder.
        split_seed: of the split at random.
        split: `default` or `image`, 70/10/20 at random by image (there is no official one; a CID lies on one side
            only); `product`, by product: a CID is that of a product and a colour, and all colours lie on one side;
            `csn`, the triplets of CSN's own `filenames.json` and `tripletlists/`, in `root` or in `csn/` in it, of the
            four tasks category, closure, gender and heel, and the images that those mention.
        multi_valued, missing, separator: what a cell of text is; see `labels_of`.

    Raises:
        UserError: something is missing or malformed; it says what.
    """
    if split not in ("default", "image", "product", "csn"):
        raise ValueError(f"split is default, image, product or csn, not {split!r}")
    images, table = _locate(root)
    frame = _read_table(table, separator)
    files = _find_images(images)
    orphans = files.keys() - set(frame.index)
    remarks = [f"The images are the square ones of {SQUARE}."] if images.name == SQUARE else []
    if table.name == BINARY:
        remarks.append(f"The labels are those of {BINARY}, with blanks for the marks that its names lack.")
    lists = read_lists(root, _homes(root)) if split == "csn" else None
    if lists:
        unlisted, rowless = len(frame.index.difference(lists.cids)), len(set(lists.cids).difference(frame.index))
        if unlisted:
            remarks.append(f"{counted(unlisted, 'row')} of {table.name} in no triplet of CSN's lists: left out.")
        if rowless:
            remarks.append(f"{counted(rowless, 'image')} of CSN's lists without a row in {table.name}: unlabelled.")
        orphans = orphans.difference(lists.cids)
        frame = frame.reindex(lists.cids, fill_value="")
    if orphans:
        have, are = ("have", "are") if len(orphans) > 1 else ("has", "is")
        remarks.append(f"{counted(len(orphans), 'image')} {have} no row in {table.name} and {are} not used.")
    cids = frame.index.tolist()
    brands = {cid: _brand(files[cid]) for cid in cids if cid in files}
    if not brands:
        raise UserError(f"{images} has no image of {cids[0]} nor of any other row of {table}. Unpack the images again.")
    tasks = LISTS if lists else _COLUMNS
    labelled = partial(labels_of, multi_valued=multi_valued, missing=missing, separator=separator)
    columns = {}
    for task in tasks:
        cells = frame[_COLUMNS[task]].tolist()
        remarks += remark_on_several(task, cells, multi_valued, task == "heel", separator)
        if task == "heel":
            columns[task], vague = _heels(cells, labelled, missing, separator)
            remarks += vague
        else:
            columns[task] = labelled(cells)
    if lists:
        remarks += disagreements(columns, lists.triplets, Path(TABLE).name)
    else:
        columns["brand"] = column_of([brands.get(cid, "") for cid in cids])  # a ; in a folder's name parts no values
    products = [cid.partition("-")[0] for cid in cids]
    by = "product" if split == "product" else "image"
    sides = lists.split if lists else split_at_random(products if by == "product" else cids, split_seed)
    rule = "CSN's own lists" if lists else f"by {by} at random, 70/10/20, seed {split_seed}"
    prefix = images.relative_to(root).as_posix()
    rendered = set(brands.values()) <= set(BRANDS)
    return Table(
        name="rendered shoes" if rendered else "UT-Zappos50K",
        root=root,
        paths=tuple(
            f"{prefix}/{files.get(cid) or _lost_path(cid, category, subcategory)}"
            for cid, category, subcategory in zip(cids, frame["Category"], frame["SubCategory"], strict=True)
        ),
        columns=columns,
        split=sides,
        split_rule=rule,
        kin=Kin.of(products, "another colour of the same product"),
        rendered=rendered,
        triplets=lists.triplets if lists else {},
        remarks=tuple(remarks),
    )


def _homes(root: Path) -> list[Path]:
    """Return the folders where a copy may lie: the root, and those in it that are named after the data set."""
    if not root.is_dir():
        return []
    named = (folder for folder in sorted(root.iterdir()) if "zap" in folder.name.lower() and folder.is_dir())
    return [root, *(folder for folder in named if folder.name not in (IMAGES, SQUARE, Path(TABLE).parent.name))]


def _images_in(home: Path) -> Path | None:
    """Return the folder of images, which some archives hold twice, one in the other."""
    folders = (folder for name in (IMAGES, SQUARE) for folder in (home / name / name, home / name))
    return next((folder for folder in folders if folder.is_dir() and any(folder.iterdir())), None)


def _table_in(home: Path) -> Path | None:
    """Return the table: that of words before that of 0 and 1; its folder may lie among the images."""
    folder, name = Path(TABLE).parts
    places = (home / folder / folder, home / folder, home / IMAGES / folder, home / SQUARE / folder)
    return next((place / n for n in (name, BINARY) for place in places if (place / n).is_file()), None)


def _archives_in(home: Path) -> dict[str, Path]:
    """Return the archive of each part that has one here."""
    archives = {part: [home / name for name in names if (home / name).is_file()] for part, names in _ARCHIVES.items()}
    return {part: paths[0] for part, paths in archives.items() if paths}


def _locate(root: Path) -> tuple[Path, Path]:
    """Return the folder of images and the table, both of one copy; the root itself goes first."""
    homes = _homes(root) or [root]
    whole = [
        (home, images, table)
        for home in homes
        if (images := _images_in(home)) is not None and (table := _table_in(home)) is not None
    ]
    if whole and (whole[0][0] == root or len(whole) == 1):
        return whole[0][1:]
    if whole:
        copies = ", ".join(home.name for home, _, _ in whole)
        raise UserError(f"{root} holds more than one UT-Zappos50K: {copies}. Name one of them with --data-dir.")
    home = next((h for h in homes if _images_in(h) or _table_in(h) or _archives_in(h)), root)
    missing = [part for part, there in ((IMAGES, _images_in(home)), (TABLE, _table_in(home))) if not there]
    packed = {part: path.name for part, path in _archives_in(home).items() if part in missing}
    faults = [f"{packed[part]} is not unpacked" if part in packed else f"{part} is missing" for part in missing]
    message = f"{home} is not UT-Zappos50K: {' and '.join(faults)}."
    if packed:
        what = "them" if len(packed) > 1 else "it"
        get = f"Run `mtlbench data get zappos --data-dir {home}`, which unpacks {what}, or unzip"
        message += f" {get if _would_be_unpacked(home, packed) else 'Unzip'} {what} there."
    wanted = [_ARCHIVES[part][0] for part in missing if part not in packed]
    if wanted:
        message += (
            f" Unpack {' and '.join(wanted)} there, from the data set's official page, or name another folder with"
            " --data-dir."
        )
    raise UserError(message)


def _would_be_unpacked(home: Path, archives: dict[str, str]) -> bool:
    """Return whether `data get` would unpack archives: not of square images, nor over half a table's folder.

    Beside square images it would download the others.
    """
    images, data = _images_in(home), home / Path(TABLE).parent
    if archives.get(IMAGES) == f"{SQUARE}.zip" or (images is not None and images.name == SQUARE):
        return False
    return _table_in(home) is not None or not data.exists() or (data.is_dir() and not any(data.iterdir()))


def _read_table(path: Path, separator: str) -> pd.DataFrame:
    """Read the table as text, by CID; a line of another length is an error, as at the end of a file cut short.

    Columns of 0 and 1 become the words that they stand for, several of a task joined by the separator.
    """
    import pandas as pd

    again = "Unpack ut-zap50k-data.zip of the data set's official page again."
    rows: dict[str, list[str]] = {}
    if holds_web_page(path):
        raise UserError(f"{path} is a web page with which the host answered, not the table: delete it. {again}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            binary = _binary_columns(header) if path.name == BINARY else {}
            lacking = [name for name in ("CID", *_COLUMNS.values()) if header.count(name) != 1]
            if lacking and not binary:
                raise UserError(f"{path} has no column {', '.join(lacking)}, or has it twice. {again}")
            for row in filter(None, reader):
                if len(row) != len(header):
                    fields = f"{counted(len(row), 'field')} where its header has {len(header)}"
                    raise UserError(f"{path}, line {reader.line_num}: it has {fields}. {again}")
                cid = row[header.index("CID")].strip()
                if not cid:
                    raise UserError(f"{path}, line {reader.line_num}: it has no CID. {again}")
                if cid in rows:
                    raise UserError(f"{path} lists {cid} twice, the second time in line {reader.line_num}. {again}")
                if binary and any(row[i].strip() not in ("0", "1") for named in binary.values() for i in named):
                    raise UserError(f"{path}, line {reader.line_num}: it has a label that is not 0 or 1. {again}")
                rows[cid] = [cid, *_words(row, binary, separator)] if binary else row
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}. {again}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read: {error}. {again}") from error
    if not rows:
        raise UserError(f"{path} has no row after its header. {again}")
    columns = ["CID", *_COLUMNS.values()] if binary else header
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=str)


def _binary_columns(header: list[str]) -> dict[str, dict[int, str]]:
    """Return, for each column of the table of words, which columns of 0 and 1 stand for which of its values.

    Their names have dots for all marks and blanks: `SubCategory.Mid.Calf`, `HeelHeight.1in...1.3.4in`. It is empty if
    a column has none, or if the table has no CID.
    """
    found: dict[str, dict[int, str]] = {}
    for column in _COLUMNS.values():
        named = {i: name.removeprefix(f"{column}.") for i, name in enumerate(header) if name.startswith(f"{column}.")}
        if not named or len(set(named.values())) < len(named) or header.count("CID") != 1:
            return {}
        found[column] = {i: _undotted(name) for i, name in named.items()}
    return found


def _undotted(name: str) -> str:
    """Return the words of a name with dots: `Knee High`, and heights as `1in - 1 3/4in` and `5in & over`."""
    name = re.sub(r"(\d)\.(\d)\.(\d)in\b", r"\1 \2/\3in", name)
    name = name.replace("in...over", "in & over").replace("...", " - ")
    return " ".join(name.replace(".", " ").split())


def _words(row: list[str], binary: dict[str, dict[int, str]], separator: str) -> list[str]:
    """Return a row's cells of words in the order of `_COLUMNS`."""
    return [separator.join(word for i, word in named.items() if row[i].strip() == "1") for named in binary.values()]


def _find_images(root: Path) -> dict[str, str]:
    """Map each CID to its image's path under `root`: 100627-72 is .../100627.72.jpg."""
    files: dict[str, str] = {}
    for folder, _, names in os.walk(root):
        inside = Path(folder).relative_to(root).as_posix()
        for name in names:
            stem, _, suffix = name.rpartition(".")
            if suffix.lower() in ("jpg", "jpeg") and not name.startswith("."):  # macOS leaves ._100627.72.jpg
                cid = stem.replace(".", "-")
                path = name if inside == "." else f"{inside}/{name}"
                if cid in files:
                    raise UserError(f"{root} holds two images of {cid}: {files[cid]} and {path}. Remove one.")
                files[cid] = path
    return files


def _brand(path: str) -> str:
    """Return the brand that an image's path names, Category/SubCategory/Brand/file, or nothing."""
    return html.unescape(path.split("/")[-2]) if path.count("/") >= 3 else ""


def _lost_path(cid: str, category: str, subcategory: str) -> str:
    """Return a path for an image that is not there, near where it belongs: no brand is known."""
    return "/".join([*filter(None, (category, subcategory)), f"{cid.replace('-', '.')}.jpg"])


def _heels(
    cells: list[str], labelled: Callable[..., Column], missing: Sequence[str], separator: str
) -> tuple[Column, list[str]]:
    """Make the labels of heels, ordered by height, and say which cells name no height."""
    absent = {word.strip().casefold() for word in missing}
    named = [next((v for v in values_in(cell, separator) if v.casefold() not in absent), "") for cell in cells]
    heights = {words: height for words in set(named) if (height := _height(words)) is not None}
    vague = sorted(set(named) - set(heights) - {""})
    remarks = []
    if vague:
        count = counted(sum(words in vague for words in named), "cell")
        words = ", ".join(f"'{words}'" for words in vague)
        remarks.append(f"{count} of heel without a height, {words}: counted as unlabelled.")
    order = sorted(heights, key=lambda words: (heights[words], words))
    return labelled([c if n in heights else "" for c, n in zip(cells, named, strict=True)], order=order), remarks


def _height(words: str) -> tuple[float, int] | None:
    """Return where a heel height stands among others, or None if its words say no height.

    Flat is 0; others count by their first number, `Under` just below it, an open end (`5in & over`) just above.
    """
    if words.lower().startswith("flat"):
        return 0.0, 0
    number = re.search(r"(?:(\d+)\s+)?(\d+)/([1-9]\d*)|\d+(?:\.\d+)?", words)
    if number is None:
        return None
    whole, part, of = number.groups()
    inches = int(whole or 0) + int(part) / int(of) if part else float(number[0])
    if re.search(r"\b(under|below)\b", words.lower()):
        return inches, -1
    return inches, 1 if re.search(r"\+|\b(over|up|above)\b", words.lower()) else 0

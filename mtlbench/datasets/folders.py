"""Reads a user's own images from folders named after their labels.

Images are not opened here: packing and `data check` say which are missing or broken.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np

from mtlbench.benchmark import Data
from mtlbench.data.files import IMAGE_ENDINGS, files_in, first_files_in, is_image, name_of, run_folders
from mtlbench.data.roles import check_roles, roles_of
from mtlbench.data.splits import (
    SPLIT_WORDS,
    are_split,
    beside_splits,
    check_beside_splits,
    check_splits,
    completed,
    split_own,
)
from mtlbench.data.table import Table, check_distinct, labels_of, remark_on_several
from mtlbench.datasets.contract import Proposal, Reader, register_reader
from mtlbench.errors import UserError, counted


@register_reader("folders")
class Folders(Reader):
    """Images of one's own in folders named after their labels; `data.levels` names the task of each level."""

    def read(self, folder: Path, data: Data) -> Table:
        """See `read_folders`."""
        return read_folders(folder, data)

    @classmethod
    def propose(cls, folder: Path) -> Proposal | None:
        """See `Reader.propose`; a look at some of the files is enough."""
        files = list(first_files_in(folder))
        runs = run_folders(files)
        paths = [path for path in files if "/" in path and is_image(path) and path.split("/")[0] not in runs]
        _, others = beside_splits(paths)
        paths = [path for path in paths if path.split("/")[0] not in others]
        splits = are_split(paths)
        depths = Counter(path.count("/") - splits for path in paths)
        levels = max(depths, key=lambda depth: depths[depth], default=0)
        if levels < 1:
            return None
        tasks = ["label"] if levels == 1 else [f"label{i + 1}" for i in range(levels)]
        named = f"levels = {json.dumps(tasks)}  # the task of each level of folders"
        return Proposal("images in folders", ('reader = "folders"', named))


def read_folders(root: Path, data: Data) -> Table:
    """Read images from folders named after their labels.

    `data.levels` names the task of each level: `["category", "colour"]` reads `<root>/<category>/<colour>/*.jpg`, also
    .jpeg, .png, .webp and .bmp. Where the top folders are called train, val and test (or validation, ...), they are the
    split and the labels follow below: without val, an eighth of train is drawn for it, and without test, val is test.
    Images in query/ are searched for among those in gallery/. Else the split is 70/10/20 at random by image, by
    `data.split_seed`. Hidden files are ignored; folders of runs, images in no folder and other files are left out and
    remarked.

    Raises:
        UserError: no image is there, one lies deeper or less deep than the levels or beside folders of splits, or a
            split has no images.
    """
    check_distinct(data.levels, "data.levels")
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder.")
    files = sorted(files_in(root))
    runs = sorted(run_folders(files))
    files = [file for file in files if file.split("/")[0] not in runs]
    images = [file for file in files if is_image(file)]
    paths = [path for path in images if "/" in path]
    if not paths:
        raise UserError(
            f"{root} holds no images: put them into {'/'.join(f'<{level}>' for level in data.levels)}/, as"
            f" {', '.join(IMAGE_ENDINGS)}."
        )
    check_beside_splits(paths, str(root), "move the latter away, or rename the former if they are labels")
    has_splits = are_split(paths)
    levels = [*(["split"] if has_splits else []), *data.levels]
    folders = [path.split("/")[:-1] for path in paths]
    for path, names in zip(paths, folders, strict=True):
        if len(names) != len(levels):
            raise UserError(
                f"{root}: {path} is in {len(names)} folder{'s' * (len(names) != 1)}, and {len(levels)} belong there,"
                f" {'/'.join(f'<{level}>' for level in levels)}/: move it, or change data.levels."
            )
    columns, remarks = {}, []
    for depth, task in enumerate(data.levels, start=int(has_splits)):
        cells = [names[depth] for names in folders]
        columns[task] = labels_of(cells, data.multi_valued, missing=data.missing, separator=data.separator)
        remarks += remark_on_several(task, cells, data.multi_valued, separator=data.separator)
    remarks += [f"{folder}/ holds runs of mtlbench: left out." for folder in runs]
    loose = sorted(set(images) - set(paths))
    if loose:
        what = "images in no folder were" if len(loose) > 1 else "image in no folder was"
        remarks.append(f"{len(loose):,} {what} left out, such as {loose[0]}.")
    others = sorted(set(files) - set(images))
    if others:
        ends = f"{'whose names end' if len(others) > 1 else 'whose name ends'} in none of {', '.join(IMAGE_ENDINGS)}"
        remarks.append(f"Left out {counted(len(others), 'file')} {ends}, such as {others[0]}.")
    roles = None
    if has_splits:
        tops = [names[0] for names in folders]
        given = np.array([SPLIT_WORDS[names[0].lower()] for names in folders], dtype=np.int64)
        split, drawn = completed(given, paths, data.split_seed)
        roles = check_roles(roles_of(tops), split, tops, str(root))
        rule = f"as in folders{drawn}"
        check_splits(
            split,
            str(root),
            f"move some images there, or the folders of all labels up into {name_of(root)}/ to split 70/10/20 at"
            " random",
        )
    else:
        split, rule = split_own(paths, data.split_seed, "image", root)
    return Table(
        name=name_of(root),
        root=root,
        paths=tuple(paths),
        columns=columns,
        split=split,
        split_rule=rule,
        remarks=tuple(remarks),
        roles=roles,
    )

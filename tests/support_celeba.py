"""Folders in CelebA's layout, by hand and changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mtlbench.data.table import Table

ATTRIBUTES, IDENTITIES, PARTITION = "list_attr_celeba.txt", "identity_CelebA.txt", "list_eval_partition.txt"
PAGE = (
    "<!DOCTYPE html>\n<html>\n<head><title>Google Drive - Quota exceeded</title></head>\n"
    "<body><p>Sorry, you can't view or download this file at this time.</p></body>\n</html>\n"
)


def edit(root: Path, name: str, change: Callable[[list[str]], list[str]]) -> None:
    """Rewrite a file by its lines."""
    lines = (root / name).read_text().splitlines()
    (root / name).write_text("\n".join(change(lines)) + "\n")


def write_three(root: Path, attributes: str | None = None) -> Path:
    """CelebA's layout with two attributes and three images, written out by hand; of the pictures only one is there."""
    (root / "img_align_celeba").mkdir(parents=True)
    (root / "img_align_celeba" / "000009.jpg").touch()
    by_hand = "3\nBald Oval_Face \n000007.jpg -1  1\n000002.jpg  1 -1\n000009.jpg  1  1\n"
    (root / ATTRIBUTES).write_text(by_hand if attributes is None else attributes)
    (root / IDENTITIES).write_text("000002.jpg 9\n000007.jpg 10\n000009.jpg 9\n")
    (root / PARTITION).write_text("000002.jpg 2\n000007.jpg 0\n000009.jpg 1\n")
    return root


def facts(table: Table) -> tuple[object, ...]:
    """All that a reader says of the images, to be compared."""
    columns = {t: (c.codes.tolist(), c.values, c.ordered) for t, c in table.columns.items()}
    return table.paths, columns, table.split.tolist()


def to_csv(root: Path) -> Path:
    """Turn the three texts into the .csv files of another host."""
    for name, header in ((ATTRIBUTES, None), (IDENTITIES, "image_id,identity"), (PARTITION, "image_id,partition")):
        lines = (root / name).read_text().splitlines()
        head = header or "image_id," + ",".join(lines[1].split())
        rows = lines if header else lines[2:]
        text = "\n".join([head, *(",".join(line.split()) for line in rows)]) + "\n"
        (root / name).with_suffix(".csv").write_text(text)
        (root / name).unlink()
    return root

"""The columns of a Hugging Face data set as plain values, the cells of each split read by that split's own types.

Splits may number the classes of a column each in their own way: a number means what its split says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlbench.data.table import values_in
from mtlbench.errors import UserError

_LABELS = ("class", "text", "flag", "whole")
_NULL = "null"  # what a column without any value holds
MIXED = "mixed"


@dataclass(frozen=True)
class Cells:
    """A column's cells.

    Attributes:
        name: of the column.
        kind: what its cells are as labels: `class`, `text`, `flag`, `whole`, `real` or `list`; `mixed` where splits
            hold different ones of these; empty for anything else, whose cells are not there.
        said: what it holds, in words.
        parts: by split, its kind there (of lists, that of what they hold) and its cells: None, text, numbers, truth
            values, and lists of these. Classes are their names.
        names: of the classes of all splits.
    """

    name: str
    kind: str
    said: str
    parts: dict[str, tuple[str, list[Any]]]
    names: tuple[str, ...] = ()

    @property
    def all(self) -> list[Any]:
        """The cells of all splits, one after the other."""
        return [cell for _, cells in self.parts.values() for cell in cells]

    def texts(self, separator: str, where: str) -> list[str]:
        """Return all cells as text; empty where they hold nothing, the values of a list joined by the separator.

        Raises:
            UserError: a value in a list holds the separator.
        """
        return [_text(cell, separator, self.name, where) for cell in self.all]

    def share_values(self, separator: str, where: str) -> bool:
        """Return whether splits that hold different kinds of cells have a value in common, written as text."""
        values: dict[str, set[str]] = {}
        for kind, cells in self.parts.values():
            words = (_text(cell, separator, self.name, where) for cell in cells)
            values.setdefault(kind, set()).update(part for word in words for part in values_in(word, separator))
        return all(
            not own or any(own & other for rest, other in values.items() if rest != kind)
            for kind, own in values.items()
        )


def types_of(feature: Any) -> Any:
    """Return what has to be equal for two types to read a cell alike: the kind and the names of classes."""
    inner = getattr(feature, "feature", None)
    if inner is not None:
        return "list", types_of(inner)
    kind = _kind_here(feature)
    return (kind, tuple(map(str, feature.names))) if kind == "class" else kind


def are_alike(features: Sequence[Any]) -> bool:
    """Return whether types read a cell alike; a type without any value is like every other."""
    return len({types_of(feature) for feature in features} - {_NULL, ("list", _NULL)}) < 2


def same_classes(one: Any, other: Any) -> bool:
    """Return whether two types have the same classes, or none at all."""
    return "class" not in (_kind_inside(one), _kind_inside(other)) or are_alike([one, other])


def _kind_inside(feature: Any) -> str:
    """Return what a cell is as a label, or what a list holds."""
    inner = getattr(feature, "feature", None)
    return _kind_here(feature) if inner is None else _kind_inside(inner)


def stated_types(file: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the types of the columns of a parquet or arrow file, as the file states them.

    Args:
        file: on this machine.
        card: the types that the data set's card states; bare numbers are its classes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features

    if file.suffix == ".arrow":
        with pa.memory_map(str(file)) as source:
            try:
                schema = pa.ipc.open_stream(source).schema
            except pa.ArrowInvalid:
                schema = pa.ipc.open_file(source).schema
    else:
        schema = pq.read_schema(file)
    found = dict(Features.from_arrow_schema(schema))
    bare = {name for name, one in found.items() if (_kind([one]), _kind([card.get(name)])) == ("whole", "class")}
    return {name: card[name] if name in bare else one for name, one in found.items()}


def in_words(feature: Any) -> str:
    """Say what a column holds."""
    inner = getattr(feature, "feature", None)
    if inner is not None:
        return f"lists of {in_words(inner)}"
    if type(feature).__name__ == "ClassLabel":
        return "classes"
    return str(getattr(feature, "dtype", "") or type(feature).__name__) if not isinstance(feature, dict) else "objects"


def cells_of(splits: Mapping[str, Any], names: Sequence[str], where: str) -> dict[str, Cells]:
    """Return columns of all splits.

    Args:
        splits: the library's data sets by name, with the same columns.
        names: of the columns; where: the data set, for messages.

    Raises:
        UserError: a cell is a class without a name.
    """
    types = {name: {split: part.features[name] for split, part in splits.items()} for name in names}
    kinds = {name: _kind(list(own.values())) for name, own in types.items()}
    read: dict[str, dict[str, list[Any]]] = {}
    able = [name for name, kind in kinds.items() if kind]
    for split, part in splits.items():
        rows = part.select_columns(able).with_format(None)[:] if able else {}
        read[split] = {name: _plain(rows[name], types[name][split], name, where) for name in able}
    found = {}
    for name, own in types.items():
        cells = {split: read[split].get(name, []) for split in splits}
        if kinds[name] == MIXED:  # a split without any value may hold whatever the library took that for
            kinds[name] = _kind([own[split] for split, column in cells.items() if not all(map(_is_nothing, column))])
        parts = {split: (_kind_inside(own[split]), column) for split, column in cells.items()}
        classes = dict.fromkeys(str(value) for one in own.values() for value in getattr(one, "names", None) or ())
        found[name] = Cells(name, kinds[name], _said(own), parts, tuple(classes))
    return found


def _said(types: Mapping[str, Any]) -> str:
    """Say what a column holds, and in which split where splits differ."""
    words: dict[str, list[str]] = {}
    for split, feature in types.items():
        words.setdefault(in_words(feature), []).append(split)
    if are_alike(list(types.values())):
        return next((word for word in words if _NULL not in word), _NULL)
    if len(words) == 1:
        return next(iter(words))
    return " and ".join(f"{word} in {', '.join(names)}" for word, names in words.items())


def _kind(features: Sequence[Any]) -> str:
    """Return what a column's cells are as labels, of one type or of those of several splits; see `Cells`."""
    typed = [one for one in features if _kind_here(one) != _NULL]
    inner = [getattr(one, "feature", None) for one in typed]
    if inner and None not in inner:
        kind = _kind(inner)
        return "list" if kind in _LABELS else kind if kind == MIXED else ""
    kinds = {_kind([one]) if getattr(one, "feature", None) is not None else _kind_here(one) for one in typed}
    if kinds == {"whole", "real"}:  # numbers, of which one split lacks some
        return "real"
    return (MIXED if "" not in kinds else "") if len(kinds) > 1 else kinds.pop() if kinds else ""


def _kind_here(feature: Any) -> str:
    if type(feature).__name__ == "ClassLabel":
        return "class"
    dtype = str(getattr(feature, "dtype", "")) if type(feature).__name__ == "Value" else ""
    if dtype in ("string", "large_string"):
        return "text"
    if re.fullmatch(r"u?int\d+", dtype):
        return "whole"
    return {"bool": "flag", _NULL: _NULL}.get(dtype, "real" if dtype.startswith("float") else "")


def _plain(cells: list[Any], feature: Any, name: str, where: str) -> list[Any]:
    """Return cells with the names of classes in place of their numbers; -1 is None."""
    inner = getattr(feature, "feature", None)
    if inner is not None:
        return [None if cell is None else _plain(cell, inner, name, where) for cell in cells]
    if _kind_here(feature) != "class":
        return cells
    classes = [str(value) for value in feature.names]
    odd = next((code for code in cells if code is not None and not -1 <= code < len(classes)), None)
    if odd is not None:
        raise UserError(f"{where}: the column '{name}' holds the class {odd} and names {len(classes)} of them.")
    return [None if code is None or code < 0 else classes[code] for code in cells]


def _is_nothing(cell: Any) -> bool:
    return cell is None or cell == [] or (isinstance(cell, float) and math.isnan(cell))


def _text(cell: Any, separator: str, name: str, where: str) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, list):
        parts = [_text(part, separator, name, where) for part in cell]
        torn = next((part for part in parts if separator in part), None)
        if torn is not None:
            raise UserError(
                f"{where}: a list in column '{name}' holds '{torn}', in which '{separator}' would split it: set"
                " data.separator to another mark."
            )
        return separator.join(parts)
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)

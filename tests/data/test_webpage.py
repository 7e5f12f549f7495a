"""Files of markup under an image's name: a drawing is told from a page that a host answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtlbench.data.check import _open

_HEAD = '<?xml version="1.0"?>\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (_HEAD + '<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        ("<!DOCTYPE html><html><body><svg/></body></html>", "web page"),
    ],
)
def test_a_drawing_is_called_one_and_a_page_a_page(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "a.jpg"
    file.write_text(text)
    found = _open(file)
    assert isinstance(found, str)
    assert said in found

"""A rendered set is recognised by its files, without the code that draws."""

from __future__ import annotations

import subprocess
import sys


def test_a_rendered_set_is_recognised_without_loading_the_code_that_draws() -> None:
    code = """
import sys
import mtlbench.data.check, mtlbench.rendered.kinds
drawing = [name for name in sys.modules if name.startswith("mtlbench.rendered.")]
assert sorted(drawing) == [f"mtlbench.rendered.{name}" for name in ("kinds", "marks", "writing")], drawing
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)

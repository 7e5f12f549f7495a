"""Bundled methods are loaded, and solvers are there or the test is skipped."""

from __future__ import annotations

import pytest
from torchjd_support import PACKAGES, lacks

from mtlbench.plugins import load_plugins

load_plugins()


@pytest.fixture
def solvers() -> None:
    """Skip a test of balancers whose packages are missing; the extra `test` brings them all."""
    missing = sorted({package for name in PACKAGES for package in lacks(name)})
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")

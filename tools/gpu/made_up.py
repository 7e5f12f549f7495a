"""Writes made-up images in CelebA's layout, with 40 attributes, as the tests do: `made_up.py FOLDER IMAGES`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def main() -> None:
    """Write the images at CelebA's own size."""
    checkout = Path(__file__).parents[2]
    sys.path.insert(0, str(checkout / "tests"))
    spec = importlib.util.spec_from_file_location("made_up_conftest", checkout / "tests" / "conftest.py")
    if spec is None or spec.loader is None:
        sys.exit("the checkout has no tests/conftest.py")
    tests = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tests)
    root = tests.write_celeba(Path(sys.argv[1]), images=int(sys.argv[2]), size=(178, 218))
    print(f"{sys.argv[2]} images in {root.name}")


if __name__ == "__main__":
    main()

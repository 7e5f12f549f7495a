"""Takes pictures of a page written by `mtlbench report --html`, in headless Chromium; one is `docs/page.png`.

    mtlbench report celeba-quick --results results/tuned --recipes tuned --html /tmp/page
    python tools/page_picture.py /tmp/page/index.html docs/page.png --width 1440 --height 1200

The tool needs selenium (from the extra `test`), chromium and chromedriver. It uses no network.
"""

from __future__ import annotations

import argparse
import base64
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any


def browser(profile: str, *more: str) -> Any:
    """Return Debian's Chromium, without a window or a network, with `more` command-line arguments."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        sys.exit("No chromium with chromedriver here: apt-get install chromium chromium-driver.")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--force-prefers-reduced-motion",
        f"--user-data-dir={profile}", *more,
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


def picture(driven: Any, page: Path, width: int, height: int, dark: bool, scale: float) -> bytes:
    """Open a page at a size in CSS pixels and return its picture as a PNG; height 0 means the whole page."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driven.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def resize(high: int) -> None:
        size = {"width": width, "height": high, "deviceScaleFactor": scale, "mobile": width < 600}
        driven.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    resize(height or 900)
    driven.get(page.resolve().as_uri())
    whole = height == 0
    if whole:
        resize(int(driven.execute_script("return document.documentElement.scrollHeight")))
    driven.execute_async_script(
        "const done = arguments[0]; for (const i of document.images) i.loading = 'eager';"
        "Promise.all([...document.images].map((i) => i.decode().catch(() => 0))).then(() => setTimeout(done, 300));"
    )
    if whole:
        resize(int(driven.execute_script("return document.documentElement.scrollHeight")))
    taken = driven.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    return base64.b64decode(taken["data"])


def main() -> None:
    """Read the command line, and take the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="the .html file")
    parser.add_argument("output", type=Path, help="the .png file")
    parser.add_argument("--width", type=int, default=1440, help="of the window, in CSS pixels")
    parser.add_argument("--height", type=int, default=900, help="of the window; 0 for the whole page")
    parser.add_argument("--dark", action="store_true", help="as a reader sees it whose system is dark")
    parser.add_argument("--scale", type=float, default=1.0, help="pixels of the picture to a CSS pixel")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as profile:
        driven = browser(profile, "--hide-scrollbars")
        try:
            given.output.write_bytes(picture(driven, given.page, given.width, given.height, given.dark, given.scale))
        finally:
            driven.quit()


if __name__ == "__main__":
    main()

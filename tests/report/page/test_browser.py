"""What a page does in a browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from page_records import found, pictures, put
from PIL import Image
from support import tool

from mtlbench.report import gallery, page
from mtlbench.report.page import write_page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Debian's Chromium, without a window and without a network."""
    pytest.importorskip("selenium.webdriver")
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        pytest.skip("no chromium with chromedriver here: apt-get install chromium chromium-driver")
    driven = tool("page_picture").browser(str(tmp_path_factory.mktemp("profile")), "--window-size=1200,900")
    yield driven
    driven.quit()


@pytest.fixture
def opened(browser: Any, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The page of three methods with galleries, open; nothing may have been written to the console."""
    made = pictures(tmp_path / "pictures")
    monkeypatch.setattr(gallery, "galleries", lambda *given, **more: made)
    for path in results.rglob("run.json"):
        content = json.loads(path.read_text())
        content["receipt"]["groups"] = {"independent": ["core"], "shared": ["balancers"]}.get(content["method"], [])
        path.write_text(json.dumps(content))
    sizes = {"made": 500.5, "slim": 238.0, "learning-curves": 238.0, "narrow": 238.0}
    fakes = [
        page.Figure(stem, f"A figure: {stem}", "Somewhere", "An alt text with 1 number", "It says 1 thing.", 0.2)
        for stem in sizes
    ]

    def draw(scene: Any, folder: Path, formats: Sequence[str], booklet: Path) -> list[Any]:
        folder.mkdir()
        for stem, width in sizes.items():
            Image.new("RGB", (1500, 500)).save(folder / f"{stem}.png")
            (folder / f"{stem}.svg").write_text(
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="200pt" viewBox="0 0 {width} 200"/>'
            )
        booklet.write_bytes(b"")
        return fakes

    monkeypatch.setattr(page, "draw_scene", draw)
    browser.get(write_page(found(results), results, tmp_path / "page").resolve().as_uri())
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []


def find(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def shown(browser: Any) -> list[str]:
    rows = "#leaderboard .board tbody tr:not([hidden]) th"
    script = f"return [...document.querySelectorAll('{rows}')].map(th => th.innerText.trim())"
    return list(browser.execute_script(script))


@pytest.mark.slow
def test_columns_sort_by_click_and_by_keyboard(opened: Any) -> None:
    assert shown(opened) == ["shared", "modulation", "independent"]
    heads = opened.find_elements("css selector", "#leaderboard .board thead th")
    size = next(head for head in heads if head.text == "file MB")
    size.find_element("css selector", "button").click()
    assert shown(opened) == ["modulation", "shared", "independent"]  # less is better
    assert size.get_attribute("aria-sort") == "ascending"
    size.find_element("css selector", "button").send_keys("\ue007")  # Enter
    assert shown(opened) == ["independent", "shared", "modulation"]
    assert size.get_attribute("aria-sort") == "descending"
    heads[0].find_element("css selector", "button").send_keys(" ")
    assert shown(opened) == ["independent", "modulation", "shared"]
    assert len(opened.find_elements("css selector", "[aria-sort]")) == 1


@pytest.mark.slow
def test_rows_are_filtered_by_group_and_by_text_and_columns_can_be_hidden(opened: Any) -> None:
    from selenium.webdriver.support.select import Select

    group = Select(find(opened, "select[name=group]"))
    group.select_by_visible_text("core")
    assert shown(opened) == ["independent"]
    group.select_by_visible_text("all")
    find(opened, "input[name=find]").send_keys("SHA")
    assert shown(opened) == ["shared"]
    assert find(opened, ".count").text == "1 of 3 methods"
    assert find(opened, ".board tr:not([hidden]) td.task").is_displayed()
    find(opened, "input[name=task]").click()
    assert not find(opened, ".board tr:not([hidden]) td.task").is_displayed()


@pytest.mark.slow
def test_curves_are_read_out_by_keyboard_and_by_pointer(opened: Any) -> None:
    button = find(opened, ".legend button")
    opened.execute_script("arguments[0].focus()", button)
    assert find(opened, ".readout").text == "shared: 79.9 % (seeds 79.8 to 80) at step 40, after 20 s"
    button.send_keys("\ue012")  # left
    assert "at step 20, after 10 s" in find(opened, ".readout").text
    from selenium.webdriver import ActionChains

    chart = find(opened, ".chart svg")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", chart)
    size = chart.size
    ActionChains(opened).move_to_element(chart).move_by_offset(int(size["width"] / 2 - 14), 0).perform()
    assert "at step 40" in find(opened, ".readout").text
    find(opened, "input[value=seconds]").click()
    assert "seconds of training" in opened.execute_script("return document.querySelector('.chart').textContent")


@pytest.mark.slow
def test_curves_without_times_are_read_out_by_step_alone(opened: Any, results: Path, tmp_path: Path) -> None:
    for seed in range(3):
        put(results, "shared", seed, timed=False)
    opened.get(write_page(found(results), results, tmp_path / "untimed").resolve().as_uri())
    find(opened, ".legend button").click()
    assert find(opened, ".readout").text.endswith(" at step 40")
    assert not find(opened, "input[value=seconds]").is_displayed()


@pytest.mark.slow
def test_galleries_are_browsed_by_task_and_method_and_tell_right_from_wrong_in_words(opened: Any) -> None:
    rows = opened.find_elements("css selector", ".near")
    assert [row.find_element("css selector", "h4").text for row in rows] == [
        "shared · 1 of 2 right · P@1 62.5 %",
        "modulation · 0 of 2 right · P@1 62.5 % · near chance under this task",
    ]  # fmt: skip
    first = [item.get_attribute("innerText").split() for item in rows[0].find_elements("css selector", "li")]
    assert first == [
        ["✓", "right:", "red", "picture", "1.png"], ["✗", "wrong:", "<i>blue</i>", "picture", "2.png"],
    ]  # fmt: skip
    frames = [item.value_of_css_property("border-top-style") for item in rows[0].find_elements("css selector", "li")]
    assert frames == ["solid", "dashed"]
    find(opened, "select[name=task]").send_keys("heel")
    assert "heel height: flat" in find(opened, ".asked").text
    opened.execute_script("document.querySelector('.methods').open = true")
    find(opened, ".methods input").click()
    assert [h.text for h in opened.find_elements("css selector", ".near h4")] == ["modulation · 1 of 1 right"]
    loaded = "return [...document.images].filter(i => i.closest('.gallery')).every(i => i.alt !== null)"
    assert opened.execute_script(loaded)


@pytest.mark.slow
def test_nothing_makes_a_phones_page_scroll_sideways(opened: Any) -> None:
    size = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    opened.refresh()
    assert opened.execute_script("return document.documentElement.scrollWidth") == 360
    bottom = opened.execute_script(
        "return [...document.querySelectorAll('.lead')].at(-1).getBoundingClientRect().bottom"
    )
    assert bottom < 800  # the three answers are on the first screen
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@contextmanager
def screen(browser: Any, width: int, height: int = 900, dark: bool = False) -> Iterator[None]:
    """Look at the page on a screen of so many CSS pixels."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.refresh()
    yield
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 900, 1440])
def test_nothing_is_wider_than_the_screen_but_what_scrolls_within_itself(opened: Any, width: int) -> None:
    script = """
        return [...document.querySelectorAll("main *")].filter((one) => {
          const box = one.getBoundingClientRect();
          const within = one.closest(".scroll, figure .card, .vh, svg");
          return box.width && !within && (box.right > innerWidth + 0.5 || box.left < -0.5);
        }).map((one) => one.outerHTML.slice(0, 80))"""
    with screen(opened, width):
        assert opened.execute_script(script) == []
        root = "document.documentElement"
        assert opened.execute_script(f"return {root}.scrollWidth <= {root}.clientWidth")


@pytest.mark.slow
def test_on_a_phone_bullets_are_in_their_cards_and_several_columns_of_numbers_are_seen(opened: Any) -> None:
    with screen(opened, 390):
        cards = opened.find_elements("css selector", ".answer")
        assert len(cards) == 3
        more = [card for card in cards if card.find_elements("css selector", "details")]
        assert len(more) >= 2
        for card in more:
            folded = card.find_elements("css selector", "details")
            assert not folded[0].find_element("css selector", "li").is_displayed()
            folded[0].find_element("css selector", "summary").click()
            bullet, box = folded[0].find_element("css selector", "li").rect, card.rect
            assert box["y"] < bullet["y"] < box["y"] + box["height"]
        heads = opened.find_elements("css selector", "#leaderboard .board thead th")
        seen = [one for one in heads if one.is_displayed() and one.rect["x"] + one.rect["width"] <= 390]
        assert len(seen) >= 4  # the name, and three columns of numbers
        titles = opened.execute_script(
            "return [...document.querySelectorAll('figcaption h3')].filter((h) => h.offsetParent)"
            ".map((h) => [h.scrollWidth <= h.clientWidth, h.getBoundingClientRect().right <= innerWidth])"
        )
        assert len(titles) == 4
        assert all(all(pair) for pair in titles)


@pytest.mark.slow
def test_a_wide_screen_has_figures_beside_each_other(opened: Any) -> None:
    with screen(opened, 1440):
        boxes = [one.rect for one in opened.find_elements("css selector", "#figures figure") if one.is_displayed()]
        assert len(boxes) == 4  # the curves, and three drawings: the drawn curves give way to those
        rows = {round(box["y"]) for box in boxes}
        assert len(rows) == 2
        first = [box for box in boxes if round(box["y"]) == min(rows)]
        assert sum(box["width"] for box in first) > 0.9 * 1376
        for box in boxes:  # each follows close below another one, or is in the first row
            near = [
                box["y"] - above["y"] - above["height"]
                for above in boxes
                if above["x"] < box["x"] + box["width"] and box["x"] < above["x"] + above["width"]
                and above["y"] < box["y"]
            ]  # fmt: skip
            assert not near or -1 < min(near) < 40


@pytest.mark.slow
def test_in_the_dark_there_are_no_white_boxes(opened: Any) -> None:
    script = """
        const light = (colour) => {
          const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
          return a && r + g + b > 600;
        };
        return [...document.querySelectorAll("body *")]
          .filter((one) => one.offsetParent && !one.closest(".shown img, .picker img"))
          .filter((one) => light(getComputedStyle(one).backgroundColor)).map((one) => one.outerHTML.slice(0, 80))"""
    with screen(opened, 1440, dark=True):
        assert opened.execute_script(script) == []
        shown_as = opened.execute_script("return getComputedStyle(document.querySelector('.drawn img')).filter")
        assert "invert" in shown_as


@pytest.mark.slow
def test_curves_have_titles_bands_and_seeds_and_all_but_the_chosen_are_grey(opened: Any) -> None:
    assert "validation accuracy, %" in opened.execute_script("return document.querySelector('.chart').textContent")
    assert len(opened.find_elements("css selector", ".chart .band")) == 3
    assert len(opened.find_elements("css selector", ".chart .seed")) == 9
    assert len(opened.find_elements("css selector", ".chart .curve.faint")) == 0
    find(opened, ".legend button").click()
    assert len(opened.find_elements("css selector", ".chart .curve.faint")) == 2
    assert len(opened.find_elements("css selector", ".chart .seed[visibility=visible]")) == 3
    assert not opened.find_element("css selector", ".static").is_displayed()


@pytest.mark.slow
def test_a_figures_title_stands_once_in_words_and_a_sentence_says_what_it_shows(opened: Any) -> None:
    figure = find(opened, "figure.drawn")
    assert figure.find_element("css selector", "h3").text == "A figure: made"
    assert figure.find_element("css selector", ".says").text == "It says 1 thing."
    crop, image = (figure.find_element("css selector", what).rect for what in (".crop", "img"))
    assert image["height"] - crop["height"] == pytest.approx(0.2 * image["height"], abs=1)


@pytest.mark.slow
def test_with_scripts_off_the_tables_are_there(opened: Any) -> None:
    opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    opened.refresh()
    opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert shown(opened) == ["shared", "modulation", "independent"]
    assert not find(opened, "#leaderboard form").is_displayed()
    assert find(opened, ".board td.task").is_displayed()
    assert find(opened, ".static").is_displayed()  # the drawn curves in place of those that need scripts
    assert find(opened, ".answer li").is_displayed()


@pytest.fixture
def printed(opened: Any) -> Iterator[Any]:
    """Show the page as it is printed on A4 from a wide window: styles change, and no script measures anything anew."""
    still = {"source": "ResizeObserver = class { observe() {} }"}
    script = opened.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", still)
    with screen(opened, 1440):
        yield opened
    opened.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def on_paper(browser: Any) -> None:
    size = {"width": 720, "height": 1040, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})


@pytest.mark.slow
def test_on_paper_no_figure_lies_on_another(printed: Any) -> None:
    on_paper(printed)
    boxes = [one.rect for one in printed.find_elements("css selector", "#figures figure") if one.is_displayed()]
    assert len(boxes) == 4  # the drawn curves in place of those that need a pointer
    for n, one in enumerate(boxes):
        assert one["height"] > 100
        for other in boxes[:n]:
            beside = one["x"] >= other["x"] + other["width"] or other["x"] >= one["x"] + one["width"]
            below = one["y"] >= other["y"] + other["height"] or other["y"] >= one["y"] + one["height"]
            assert beside or below


@pytest.mark.slow
def test_a_wide_matrix_of_pairs_fits_on_paper(printed: Any, results: Path, tmp_path: Path) -> None:
    for seed in range(3):
        for place in range(15):
            put(results, f"gradient-vaccine[rate={place}]", seed, (0.8 - 0.002 * seed, 0.6 + 0.01 * place))
    printed.get(write_page(found(results), results, tmp_path / "wide").resolve().as_uri())
    on_paper(printed)
    boards = "return [...document.querySelectorAll('.board')].map((one) => one.getBoundingClientRect().right)"
    assert len(printed.find_elements("css selector", ".pairs thead th")) > 14
    assert all(right <= 720 for right in printed.execute_script(boards))

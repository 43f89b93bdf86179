"""A report in a real browser: pointer, clicks and keys, requests, accessibility. Skipped where there is no browser."""

import pytest


@pytest.fixture(scope="module")
def file(copies, tmp_path_factory):
    """A report on two runs."""
    from bype.experiments.reporting import write_report

    out = tmp_path_factory.mktemp("report") / "r.html"
    write_report([copies["bype"], copies["standard"]], out, samples=2, items=40, device="cpu")
    return out


@pytest.fixture
def opened(browser, file):
    """Opens the report in a window; what the console says and what is requested must be nothing."""
    pages, said = [], []

    def call(**options):
        page = browser.new_page(**options)
        pages.append(page)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request", lambda r: None if r.url.startswith("data:") or r.url == file.as_uri() else said.append(r.url)
        )
        page.goto(file.as_uri())
        return page

    yield call
    for page in pages:
        page.close()
    assert said == []


def test_a_click_on_a_point_shows_it_and_close_hides_it(opened):
    page = opened()
    dialog = page.locator("[popover]").first
    assert not dialog.is_visible()
    page.locator("button.point").first.click()
    assert dialog.is_visible()
    assert dialog.locator(".neighbours li").count() == 5
    assert dialog.locator(".tiles .tile").count() == 8
    dialog.locator("button.close").click()
    assert not dialog.is_visible()
    page.locator("button.point").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("[popover]").nth(1).is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("[popover]").nth(1).is_visible()


@pytest.mark.parametrize("width", [390, 1440])
def test_the_pointer_shows_the_item_under_it(opened, width):
    page = opened(viewport={"width": width, "height": 900})
    area = page.locator(".map").first
    dot, shown = area.locator("circle").nth(7), area.locator(".shown .tile")
    assert not shown.is_visible()
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert area.locator("output").inner_text() == dot.get_attribute("data-n")
    assert shown.is_visible()
    place = shown.evaluate("e => [e.style.getPropertyValue('--x'), e.style.getPropertyValue('--y')]")
    assert place == [dot.get_attribute("data-x"), dot.get_attribute("data-y")]


def test_arrow_keys_go_through_the_map(opened):
    page = opened()
    area = page.locator(".map").first
    area.locator("svg").focus()
    for key, i in (("ArrowRight", 0), ("ArrowRight", 1), ("ArrowLeft", 0), ("ArrowUp", -1)):
        page.keyboard.press(key)
        assert area.locator("output").inner_text() == area.locator("circle").nth(i).get_attribute("data-n")


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_alternative_texts_and_headings_pass_axe(opened, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = opened(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.locator("button.point").first.click()
    result = axe.Axe().run(page)
    assert result.violations_count == 0, result.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_prints(opened):
    page = opened()
    assert page.pdf()[:4] == b"%PDF"
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert page.locator("button.point").first.is_visible()

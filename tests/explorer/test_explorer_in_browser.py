"""The explorer in a real browser: clicks, keys, drops, requests, accessibility. Skipped where there is no browser."""

import base64
import threading
import time

import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the extra app is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra app is not installed")


@pytest.fixture(scope="module")
def address(copies):
    """The address of a served session."""
    from bype.explorer.app import make_app
    from bype.explorer.server import bound_socket, url_of
    from bype.explorer.session import Session
    from bype.runs.run import Run

    session = Session(Run.open(copies["bype"]).load("cpu"), samples=4, items=20)
    with bound_socket("127.0.0.1", 0) as opened:
        config = uvicorn.Config(make_app(session), log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield url_of(opened)
        server.should_exit = True
        thread.join()


@pytest.fixture
def opened(browser, address):
    """Opens a page; the console must say nothing, and only this server may be asked."""
    contexts, said = [], []

    def call(path="", **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(("data:", address)) else said.append(r.url))
        page.goto(address + path)
        return page

    yield call
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture
def photo(tmp_path):
    """An image file."""
    Image.new("RGB", (40, 30), "orange").save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


@pytest.mark.parametrize("script", [True, False])
def test_points_classes_and_components_are_drawn_from(opened, script):
    page = opened(java_script_enabled=script)
    assert page.locator(".points, .choices a").count() == 20
    chosen = page.locator(".choices a").nth(3)
    name = chosen.get_attribute("aria-label").split(",")[0].removeprefix("point ")
    chosen.click()
    assert page.locator("#drawn").inner_text().startswith(f"Component {name}, weight")
    first = page.locator("section .tiles[role=img]").first
    assert first.locator(".tile").count() == 24
    page.get_by_role("link", name="Draw again").click()
    assert "seed=1" in page.url
    page.get_by_role("combobox").select_option(index=1)
    page.get_by_role("button", name="Draw from its components").click()
    assert "of class" in page.locator("#drawn").inner_text()
    page.get_by_label("Number, 0 to 19").fill("7")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?point=7")
    assert page.locator("#drawn").inner_text().startswith("Component 7, weight")
    assert page.get_by_label("Number, 0 to 19").input_value() == "7"


def test_the_slider_moves_by_keys_through_the_steps(opened):
    page = opened("slide?a=0&b=1")
    slider, shown = page.get_by_role("slider"), page.locator(".slider .tile")
    places = page.locator(".steps .tile").evaluate_all("e => e.map(t => t.style.cssText)")
    assert len(places) == 21
    slider.focus()
    page.keyboard.press("Home")
    assert shown.evaluate("e => e.style.cssText") == places[0]
    page.keyboard.press("ArrowRight")
    assert shown.evaluate("e => e.style.cssText") == places[1]
    page.keyboard.press("End")
    assert shown.evaluate("e => e.style.cssText") == places[-1]
    assert slider.get_attribute("aria-valuetext") == "step 21 of 21"


def test_without_a_script_the_steps_are_there_and_no_dead_slider(opened):
    page = opened("slide?a=0&b=1", java_script_enabled=False)
    assert not page.get_by_role("slider").is_visible()
    assert page.locator(".steps .tile").count() == 21


def test_numbers_and_files_are_slid_between(opened, photo):
    page = opened("slide")
    page.get_by_label("Number of a test image").first.fill("3")
    page.locator("input[name=file-b]").set_input_files(photo)
    page.get_by_role("button", name="Show the way").click()
    assert "to photo.jpg" in page.locator("#way").inner_text()


@pytest.mark.parametrize("script", [True, False])
def test_a_chosen_file_is_looked_at(opened, photo, script):
    page = opened("image", java_script_enabled=script)
    page.get_by_label("Choose an image").set_input_files(photo)
    page.get_by_label("Swap light and dark").check()
    page.get_by_role("button", name="Look at it").first.click()
    assert page.locator("#look").inner_text() == "photo.jpg"
    assert page.get_by_role("row", name="more unusual than").count() == 1
    assert page.locator(".neighbours").count() == 3


def test_a_dropped_file_is_looked_at(opened, photo):
    page = opened("image")
    data = base64.b64encode(photo.read_bytes()).decode()
    page.evaluate(
        """data => {
          const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), files = new DataTransfer();
          files.items.add(new File([bytes], "dropped.jpg"));
          const drop = new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
          document.querySelector(".drop").dispatchEvent(drop);
        }""",
        data,
    )
    page.wait_for_selector("#look")
    assert page.locator("#look").inner_text() == "dropped.jpg"


def test_a_file_that_is_no_image_or_too_large_is_refused_on_a_page(browser, address, tmp_path):
    for name, content, said in (
        ("x.png", b"no image", "x.png: expected a PNG"),
        ("y.png", b"\0" * (21 * 2**20), "The file is too large: expected at most 20 MiB."),
    ):
        (tmp_path / name).write_bytes(content)
        page = browser.new_page()  # its console reports the 4xx
        page.goto(f"{address}image")
        page.get_by_label("Choose an image").set_input_files(tmp_path / name)
        page.get_by_role("button", name="Look at it").first.click()
        page.wait_for_selector("[role=alert]")
        assert said in page.get_by_role("alert").inner_text()
        page.close()


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_pages_pass_axe(opened, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    for path in ("", "?point=2", "slide?a=0&b=1", "image?item=2"):
        page = opened(path, viewport={"width": width, "height": 900}, color_scheme=scheme)
        result = axe.Axe().run(page)
        assert result.violations_count == 0, result.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width

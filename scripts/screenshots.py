"""Screenshots of a report or of the explorer for the documentation.

python scripts/screenshots.py report.html docs/report.png --press "button.point"
python scripts/screenshots.py http://127.0.0.1:8765/?point=3 docs/explore.png --height 1250
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright


def screenshot(address, width, height, scheme, press, at):
    """The window of a browser as a picture of 256 colours."""
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height or 900}, color_scheme=scheme)
        page.goto(address if "://" in address else Path(address).resolve().as_uri())
        if at:
            page.locator(at).first.evaluate("e => e.scrollIntoView({ block: 'start' })")
        if press:
            page.locator(press).first.click()
        content = page.screenshot(full_page=not height)
        browser.close()
    return Image.open(io.BytesIO(content)).convert("RGB").quantize(256, dither=Image.Dither.NONE)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="A file or an address.")
    parser.add_argument("out", help="The PNG file.")
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--height", type=int, help="Of the window; by default the whole page.")
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--press", help="Click on the first element of this CSS selector.")
    parser.add_argument("--at", help="Scroll to the first element of this CSS selector.")
    args = parser.parse_args()
    screenshot(args.address, args.width, args.height, args.scheme, args.press, args.at).save(args.out, optimize=True)


if __name__ == "__main__":
    main()

"""Checks a built site: internal links and their anchors lead somewhere, and nothing is loaded from another place.

`python scripts/check_links.py FOLDER` prints each fault and exits 1 if there is one. Addresses of other sites are not
asked for; `make linkcheck` does that.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: What a browser fetches by itself when it shows a page.
LOADED = {("img", "src"), ("script", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}


class Page(HTMLParser):
    """The links of a page, what it loads, and the names that links can lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes a tag's addresses and its name."""
        values = dict(attrs)
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif tag == "a" and name == "href":
                self.links.append(value)
            elif (tag, name) in LOADED and values.get("rel") != "canonical":
                self.loaded.append(value)


def faults_of(site: Path) -> list[str]:
    """The faults of all pages, one line each."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        return [f"{site}: expected a built site, got no pages"]
    faults = []
    for path, page in pages.items():
        where = path.relative_to(site.resolve())
        for address in page.loaded:
            if urlsplit(address).netloc:
                faults.append(f"{where}: loads {address}")
        for address in page.links + page.loaded:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                faults.append(f"{where}: {address} leads to no file")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                faults.append(f"{where}: {address} leads to no anchor")
    return faults


def main(folder: str) -> int:
    """Prints the faults; returns the exit code."""
    faults = faults_of(Path(folder))
    print("\n".join(faults) or f"{folder}: no broken internal link")
    return 1 if faults else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("expected one folder: python scripts/check_links.py FOLDER")
    sys.exit(main(sys.argv[1]))

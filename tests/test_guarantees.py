"""The page of guarantees names tests that exist."""

import re

from checkout import TESTS


def test_every_test_that_the_page_of_guarantees_names_exists(root):
    files = {path.relative_to(TESTS).as_posix(): path.read_text() for path in TESTS.rglob("test_*.py")}
    page, named, missing = (root / "docs" / "reliability.md").read_text(), 0, []
    for file, name in re.findall(r"`((?:\w+/)*test_\w+\.py)?(?:::(test_\w+))?`", page):
        texts = [text for path, text in files.items() if not file or path == file or path.endswith(f"/{file}")]
        if (file or name) and not any(not name or f"def {name}(" in text for text in texts):
            missing.append(f"{file}::{name}")
        named += bool(file or name)
    assert not missing
    assert named > 150, "the names are found in the page"

"""HTML pages from templates, with the style that all pages share."""

from pathlib import Path

from bype.core.version import __version__
from bype.viz.palette import style_sheet

FOLDER = Path(__file__).parent / "page"


def page_file(name: str) -> str:
    """The text of a style sheet or a script."""
    return (FOLDER / name).read_text(encoding="utf-8")


def render_page(template: str, **content: object) -> str:
    """A page as HTML. All text is escaped but the style and the script, which are bype's own.

    Args:
        template: The file of the template.
        content: Its variables, besides `css` and `version`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    css = f"{style_sheet()}\n{page_file('page.css')}"
    return environment.get_template(template).render(css=css, version=__version__, **content) + "\n"

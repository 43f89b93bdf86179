"""The documentation site: `make docs` writes it to docs/_build/html."""

import re

from docutils import nodes
from latex2mathml.converter import convert

from bype.core.version import __version__

project, author, copyright, release = "bype", "The bype developers", "the bype developers", __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"bype {release}"
html_baseurl = ""
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    # scikit-learn's, in its own documentation
    "exclude-members": "set_score_request, set_inverse_transform_request, set_output, get_metadata_routing",
}
suppress_warnings = ["myst.header", "ref.term", "ref.ref"]  # the terms of the glossary are headings of the third level
autosummary_generate = True
napoleon_google_docstring, napoleon_numpy_docstring, napoleon_use_ivar = True, False, True
toc_object_entries = False
nitpicky = False
linkcheck_timeout, linkcheck_retries = 30, 2

#: Pages outside this folder that other pages link to.
ELSEWHERE = {"../results/README.md": "results.md", "../README.md": "index.md"}


def _links(app, page, source):
    """Points links that work in the repository to the pages of the site."""
    text = source[0]
    for there, here in ELSEWHERE.items():
        text = text.replace(f"]({there}", f"]({here}")
    # Folders of the repository are not part of the site.
    source[0] = re.sub(r"\[([^\]]*)\]\(\.\./results/ledger\)", r"\1", text)


def _included(app, path, parent, source):
    """The same for the pages of results and contributing, which are made for the repository."""
    source[0] = re.sub(r"\[([^\]]*)\]\((?:ledger|LICENSE)\)", r"\1", source[0]).replace("](../docs/", "](")


def _formula(display):
    """A formula as MathML, which browsers show without a script and so without a network."""

    def visit(translator, node):
        formula = convert(node.astext(), display=display)
        translator.body.append(formula if display == "inline" else f'<div class="math">{formula}</div>')
        raise nodes.SkipNode

    return visit, None


def _back_links(app, pagename, templatename, context, doctree):
    """Corrects links from source pages to the API: viewcode knows one module for all names of a file."""
    if not pagename.startswith("_modules/"):
        return
    names = app.env.domaindata["py"]["objects"]

    def corrected(match):
        page, name = match.groups()
        if name not in names:
            name = next((n for n in names if n.endswith(f".{name.removeprefix('bype.')}")), name)
        return f'class="viewcode-back" href="{page}#{name}"'

    context["body"] = re.sub(r'class="viewcode-back" href="([^"#]*)#([\w.]+)"', corrected, context["body"])


def setup(app):
    """Connects the rewriting of links, and the rendering of formulas."""
    app.add_html_math_renderer("mathml", _formula("inline"), _formula("block"))
    app.connect("source-read", _links)
    app.connect("include-read", _included)
    app.connect("html-page-context", _back_links)

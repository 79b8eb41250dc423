"""How Sphinx makes the site from the Markdown files of the repository: `make docs`.

The source directory is the root of the repository, so that a link reads the same there and on the site. Warnings are
errors: a link to a page, a heading or a file that is not there fails the build.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = {
    "Use": ["docs/performance", "SAFETY", "SECURITY", "CHANGELOG"],
    "Reference": ["docs/reference/python", "docs/reference/cli", "docs/reference/environment", "docs/reference/c"],
    "Work on it": ["CONTRIBUTING", "docs/architecture", "docs/debugging"],
}
TO_DIRECTORY = re.compile(r"\[([^][]*)\]\(([^)#:]*/)\)")

project = "magicheap"
copyright = "the authors of magicheap"
extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["README.md", *(f"{page}.md" for pages in PAGES.values() for page in pages)]
exclude_patterns = [".*", "build", "models", "bench", "tests", "llama", "magicheap", "native", "tools"]
html_theme = "furo"
html_title = "magicheap"
html_show_copyright = False
html_copy_source = False
myst_heading_anchors = 4
nitpicky = True


def _prepare(app, name, source):
    """Name directories, which a site does not have, and give the front page what GitHub shows as a list of files."""
    source[0] = TO_DIRECTORY.sub(lambda found: f"{found[1]} (`{found[2].lstrip('./')}`)", source[0])
    if name == root_doc:
        for title, pages in PAGES.items():
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(pages) + "\n```\n"


def _add_front_page(app, error):
    if error is None:
        front = (Path(app.outdir) / "README.html").read_text(encoding="utf-8")
        (Path(app.outdir) / "index.html").write_text(front, encoding="utf-8")


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", _prepare)
    app.connect("build-finished", _add_front_page)

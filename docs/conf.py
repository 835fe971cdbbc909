"""The site: Markdown by MyST, the Python API by autodoc, pages from the code by `pages.py`."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

import nasframe

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import pages  # noqa: E402 (the package beside this file)
import pages.studies  # noqa: E402
from pages import notebooks  # noqa: E402

project = "nasframe"
author = "the authors of nasframe"
project_copyright = author
version = release = nasframe.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["Thumbs.db"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["deflist", "attrs_inline"]
myst_heading_anchors = 3

default_role = "py:obj"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"nasframe {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = [str(pages.studies.write_reports(HERE / "study_reports"))]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f5fa8", "color-brand-content": "#1f5fa8"},
    "dark_css_variables": {"color-brand-primary": "#8ab8f0", "color-brand-content": "#8ab8f0"},
}


def setup(app: Sphinx) -> None:
    """Write what is made from the code, and by notebooks, before pages are looked for."""
    app.connect("builder-inited", lambda app: pages.write(Path(app.srcdir)))
    app.connect("builder-inited", lambda app: notebooks.write(Path(app.srcdir)))

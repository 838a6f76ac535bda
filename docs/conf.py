"""How the documentation is built: `sphinx-build docs build/docs`, without network."""

import os
import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
os.environ["MPLBACKEND"] = "agg"

import generated

project = "ebjr_det"
author = "the authors of ebjr_det"
release = metadata.version("ebjr-det")
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
suppress_warnings = ["myst.strikethrough"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_merge_streams = True
nb_execution_mode = "off"  # tests/e2e/test_notebook.py runs it
copybutton_selector = "div:not(.output) > div.highlight pre"

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_use_ivar = True
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90

html_theme = "pydata_sphinx_theme"
html_title = "ebjr_det"
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["ebjr_det.css"]
html_sidebars = {"how_it_works": [], "index": []}
html_theme_options = {
    "logo": {"text": "ebjr_det"},
    "navbar_end": ["theme-switcher"],
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copyright = "the authors of ebjr_det, MIT licence"  # noqa: A001, Sphinx's name for it


def setup(app):
    """Fill the tables that are made of the package itself."""
    app.connect("source-read", lambda app, name, source: source.__setitem__(0, generated.fill(source[0])))
    app.connect(
        "include-read", lambda app, path, parent, source: source.__setitem__(0, generated.of_eval(source[0]))
    )
    return {"parallel_read_safe": True}

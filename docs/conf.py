"""Sphinx configuration. The pages build offline: no inventory, script or font is fetched."""

import sys
from pathlib import Path

import pyro_gmmvae

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "pyro_gmmvae"
author = "The pyro_gmmvae authors"
copyright = author
version = release = pyro_gmmvae.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "made_from_code",
    "made_from_results",
    "mathml",
    "plain_docstrings",
]
exclude_patterns = ["_build", "_ext", "_static"]
source_suffix = {".md": "markdown"}
nitpicky = True
# what other projects document, and modules that this one keeps to itself, are plain text
nitpick_ignore_regex = [
    (r"py:.*", r"(?!pyro_gmmvae\.).*"),
    (r"py:.*", r"pyro_gmmvae\.\w+\.[a-z_0-9]+(\..*)?"),
    (r"py:.*", r"pyro_gmmvae\.files\..*"),
]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {
    "members": True,
    "imported-members": True,
    "inherited-members": "Module, Distribution, Protocol, ABC",
    "show-inheritance": True,
    "member-order": "bysource",
}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = ["Shapes", "Reference"]
# formulas in docstrings are literal blocks, and no Python
highlight_language = "none"

python_maximum_signature_line_length = 88

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_title = f"pyro_gmmvae {release}"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False

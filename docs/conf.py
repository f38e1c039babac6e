"""The documentation as a site: `make docs` builds it, and every warning is an error."""

import sys
from pathlib import Path

import hybridattn

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "hybridattn"
author = "The hybridattn authors"
copyright = "the hybridattn authors. Licence: Apache-2.0"
version = release = hybridattn.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "command_line",
    "public_names",
    "recipe_keys",
    "repository_pages",
]
suppress_warnings = ["ref.python"]  # a type in a signature whose name two modules have
exclude_patterns = ["_ext"]

myst_enable_extensions = [
    "deflist",
]
myst_heading_anchors = 4
smartquotes = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"hybridattn {version}"
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["tables.css"]
pygments_style = "tango"

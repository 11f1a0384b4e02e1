"""Sphinx settings; nothing here needs the network."""

import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import evidence  # noqa: E402  (beside this file, found by the line above)
import render  # noqa: E402

import skfisher  # noqa: E402

project = "skfisher"
author = "The skfisher developers"
copyright = "The skfisher developers"
version = release = skfisher.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**/GALLERY_HEADER.rst"]
default_role = "py:obj"

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "within_subsection_order": "render.ReadingOrder",
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "plot_gallery": "True",
    "abort_on_example_error": True,
    "min_reported_time": 0,
}

html_theme = "pydata_sphinx_theme"
html_title = "skfisher"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["skfisher.css"]
# pages without pages below them need no navigation at the side
html_sidebars = {
    page: []
    for page in (
        "index",
        "choose",
        "concepts",
        "backends",
        "theory",
        "architecture",
        "benchmarks",
        "evidence",
    )
}
html_theme_options = {
    "secondary_sidebar_items": ["page-toc"],
    "navbar_end": ["theme-switcher"],
    "show_prev_next": False,
}


def keep_plain_text(app, what, name, obj, options, lines):
    """Escape what reStructuredText would read into |x| (a substitution) and name_ (a reference)."""
    escaped, in_code = [], False
    for line in lines:
        if not line.strip():
            in_code = False
        elif line.lstrip().startswith((">>>", ".. math::")):
            in_code = True
        verbatim = in_code or ":math:" in line
        escaped.append(line if verbatim else _escape_outside_literals(line))
    lines[:] = escaped


def _escape_outside_literals(line):
    parts = re.split(r"(``.*?``)", line)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"(?<!\\)\|", r"\\|", parts[i])
        parts[i] = re.sub(r"(?<=\w)_(?=[\s,.;:)]|$)", r"\\_", parts[i])
    return "".join(parts)


def setup(app):
    app.connect("builder-inited", lambda app: render.write_all(HERE / "generated"))
    app.connect("builder-inited", lambda app: evidence.write_all(HERE / "generated"))
    # after numpydoc, which has the default priority
    app.connect("autodoc-process-docstring", keep_plain_text, priority=900)

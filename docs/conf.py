"""Sphinx settings of the documentation site: the course, the guides in this folder, and the API reference.

The source folder is the project's root, so that a link such as ``../results/ablations.md`` works on the site and in
the repository alike. ``lgmpose.course.site`` calls Sphinx; every file it writes can be opened without a network.
"""

import os
import pkgutil
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert as latex_to_mathml
from sphinx.ext.napoleon import Config, GoogleDocstring

ROOT = Path(__file__).resolve().parents[1]

project = "LGM-Pose"
author = "the LGM-Pose project"
copyright = "the LGM-Pose project, Apache-2.0"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton"]
root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/**", "results/*.md", "lgmpose/weights/*.md", "C*.md"]
exclude_patterns = ["**/.ipynb_checkpoints", "docs/live/**", ".venv", "build", "data", "runs"]

nb_execution_mode = "off"  # lgmpose.course.notebooks runs the lessons and shows their progress
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["ref.python"]  # a class that two modules export has two entries; either is a good target

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False  # else every forward() shows the text of torch.nn.Module.forward
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"  # CLASS.METHOD is too long for the contents on the right

html_theme = "sphinx_book_theme"
html_title = "LGM-Pose"
html_static_path = ["_static"]
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # summaries are fetched page by page, which browsers refuse to pages from a disk
html_theme_options = {"show_toc_level": 2, "use_download_button": False, "use_fullscreen_button": False}


def use_executed_notebook(app, docname: str, source: list[str]) -> None:
    """Take a lesson as it was run just now, where ``make course`` ran it; else as it is stored."""
    executed = Path(app.config.executed_notebooks) / f"{docname}.ipynb"
    if app.config.executed_notebooks and executed.is_file():
        source[0] = executed.read_text(encoding="utf-8")


def link_the_live_page(app, docname: str, source: list[str]) -> None:
    """Put a link to the live page into ``docs/live.md`` where ``make live`` built it; else say that it is not there."""
    built = (ROOT / "build" / "live" / "index.html").is_file()
    link = "<a href='../live/index.html'><strong>Open the live page</strong></a>"
    missing = "This copy of the site was built without the live page. The last section says how to build it."
    if docname == "docs/live":
        source[0] = source[0].replace("<!-- LIVE_LINK -->", link if built else missing)


def list_the_rooms_modules(app, docname: str, source: list[str]) -> None:
    """Add to ``docs/api/ROOM.md`` the reference of every module of that room, made from the docstrings."""
    folder, _, room = docname.rpartition("/")
    if folder != "docs/api" or room == "index":
        return
    source[0] += f"\n```{{eval-rst}}\n.. automodule:: lgmpose.{room}\n```\n"
    modules = pkgutil.walk_packages([str(ROOT / "lgmpose" / room)], f"lgmpose.{room}.")
    for module in sorted(modules, key=lambda module: module.name):
        members = "" if module.ispkg else "   :members:\n"
        heading = module.name.removeprefix("lgmpose.")  # the whole name is too long for the contents on the right
        source[0] += f"\n## {heading}\n\n```{{eval-rst}}\n.. automodule:: {module.name}\n{members}```\n"


def read_google_docstring(app, what: str, name: str, obj, options, lines: list[str]) -> None:
    """Turn the sections of a docstring (Args, Returns, Raises) into fields.

    This is what ``sphinx.ext.napoleon`` does, but for properties: there it takes the words before a colon for a type.
    """
    what = "method" if what == "property" else what
    lines[:] = GoogleDocstring("\n".join(lines), Config(), app, what, name, obj).lines()


def leave_out_aliases(app, what: str, name: str, obj, skip: bool, options) -> bool | None:
    """Leave out the fields of a named tuple whose docstring is Python's "Alias for field number 0"."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def unlink_mail_addresses(app, doctree) -> None:
    """Make text of what reStructuredText takes for a mail address, such as PCK@0.2."""
    for link in list(doctree.findall(nodes.reference)):
        if link.get("refuri", "").startswith("mailto:"):
            link.replace_self(link.children)


def describe_figures(app, doctree) -> None:
    """Give each picture without an alternative text the title of its section."""
    for image in doctree.findall(nodes.image):
        section = image.parent
        while section.parent is not None and not isinstance(section, nodes.section):
            section = section.parent
        if not image.get("alt"):
            title = section.next_node(nodes.title)
            image["alt"] = f"Figure: {title.astext()}" if title else "Figure"


def _mathml(node, display: str) -> str:
    tex = node.astext().replace("{aligned}", "{align*}")  # the same picture; the converter knows only the second
    return latex_to_mathml(tex, display=display)


def visit_inline_formula(translator, node) -> None:
    """Write a formula as MathML, which every browser draws by itself: no script, no fonts, no network."""
    translator.body.append(_mathml(node, "inline"))
    raise nodes.SkipNode


def visit_formula(translator, node) -> None:
    translator.body.append(f'<div class="math">{_mathml(node, "block")}</div>')
    raise nodes.SkipNode


def setup(app) -> None:
    app.add_config_value("executed_notebooks", os.environ.get("LGMPOSE_EXECUTED_NOTEBOOKS", ""), "env")
    app.add_html_math_renderer("mathml", (visit_inline_formula, None), (visit_formula, None))
    app.config.html_math_renderer = "mathml"
    app.connect("source-read", use_executed_notebook)
    app.connect("source-read", link_the_live_page)
    app.connect("source-read", list_the_rooms_modules)
    app.connect("autodoc-process-docstring", read_google_docstring)
    app.connect("autodoc-skip-member", leave_out_aliases)
    app.connect("doctree-read", describe_figures)
    app.connect("doctree-read", unlink_mail_addresses)

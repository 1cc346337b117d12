"""The documentation site: `make docs` builds it, with every warning an error.

Beside the pages that lie here it has those that are made: one of each rule (rule_pages.py), tables
(markers.py says where they go) and the help of the shell's commands. Nothing in it is loaded from
another host, so that it can be read offline (check.py).
"""

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import gallery_page  # noqa: E402
import links  # noqa: E402
import markers  # noqa: E402
import mathml  # noqa: E402
import pasted  # noqa: E402
import rule_pages  # noqa: E402
import without_torch  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

import fastoptim  # noqa: E402

project = "fastoptim"
author = "The fastoptim developers"
project_copyright = f"2026, {author}"
release = fastoptim.__version__

without_torch.import_it()
extensions = [
    "myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx_copybutton", "sphinx_design",
]
exclude_patterns = ["_build"]

# single backquotes in docstrings: a link where the name is public, else as code
default_role = "py:obj"
nitpicky = True
nitpick_ignore = [("py:obj", "Slot")]
nitpick_ignore_regex = [("py:obj", r"[a-z_].*|None|True|False")]

autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
numpydoc_show_class_members = False
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

copybutton_prompt_text = r">>> |\.\.\. ?|\$ "
copybutton_prompt_is_regexp = True

html_title = "fastoptim"
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_show_search_summary = False    # it would be fetched, which a browser refuses to a file
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


def setup(app: Sphinx) -> None:
    """Connect what is ours."""
    mathml.setup(app)
    app.connect("builder-inited", write)
    app.connect("source-read", markers.replace)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", initials)
    app.connect("autodoc-process-docstring", blocks)


def write(app: Sphinx) -> None:
    """Write the pages that are made."""
    gallery_page.write()
    rule_pages.write(HERE / "rules")
    for cls in rule_pages.with_path():
        rule_pages.draw(cls, HERE / "rules" / f"{cls.__name__.lower()}.png")
    links.write(HERE / "made")
    gallery_page.write()


def resolve(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """Look for a name of the library wherever the docstring stands that has it."""
    for module in ("fastoptim", "fastoptim.optimizer.base", "fastoptim.tracing"):
        name = f"{module}.{node['reftarget']}"
        found = env.domains.python_domain.resolve_xref(
            env, node["refdoc"], app.builder, "obj", name, node, content
        )
        if found is not None:
            return found
    return None


def initials(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep "T. Dozat, …" from being taken for the twentieth of a list."""
    lines[:] = [re.sub(r"^(\s*)(?=[A-Z]\. )", r"\1\\", line) for line in lines]


def blocks(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Let examples be pasted into Python's prompt."""
    lines[:] = pasted.ended("\n".join([*lines, ""])).split("\n")[:-1]

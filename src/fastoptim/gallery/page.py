"""index.html: every picture with its caption and its code, on one page that needs no other file."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

from fastoptim import __version__
from fastoptim.gallery.catalogue import Drawn


def page(pictures: Sequence[Drawn]) -> str:
    """Return the page."""
    template = Template(files(__package__).joinpath("page.html").read_text("utf-8"))
    return template.substitute(
        version=escape(__version__),
        contents="\n".join(f'<li><a href="#{p.name}">{escape(p.title)}</a></li>' for p in pictures),
        pictures="\n".join(map(section, pictures)),
    )


def section(picture: Drawn) -> str:
    """Return one picture's part of the page."""
    title = escape(picture.title)
    images = "\n".join(
        f'<a href="{file}"><img src="{file}" alt="{title}" loading="lazy"></a>'
        for file in map(escape, picture.files)
    )
    paragraphs = "\n".join(f"<p>{escape(text)}</p>" for text in picture.caption.split("\n\n"))
    return (
        f'<section id="{picture.name}">\n<h2>{title}</h2>\n{paragraphs}\n{images}\n'
        f"<details><summary>the code</summary>\n<pre><code>{escape(picture.code)}</code></pre>\n"
        "</details>\n</section>"
    )

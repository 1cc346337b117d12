r"""Formulas as MathML, which browsers draw by themselves: no script, no fonts, no other host.

latex2mathml knows what is inside a cell of a formula. Lines and their parts, between ``\\`` and
``&``, are the rows and cells of a table, made here: it leaves ``aligned`` as it is. A brace
grows with its lines only in fonts made for formulas, so cases have a rule of the style sheet.
"""

import re
from collections.abc import Iterator

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

MATH = '<math xmlns="http://www.w3.org/1998/Math/MathML"'
TOKEN = re.compile(r"\\begin|\\end|\\\\|\\.|.", re.DOTALL)
CASES = re.compile(r"\\begin\{cases\}(.*?)\\end\{cases\}", re.DOTALL)
DEPTH = {"{": 1, r"\begin": 1, "}": -1, r"\end": -1}


def setup(app: Sphinx) -> None:
    """Let Sphinx draw its formulas so."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))


def inline(writer: HTML5Translator, node: nodes.math) -> None:
    """Write a formula in a line."""
    writer.body.append(f"{MATH}>{cell(node.astext())}</math>")
    raise nodes.SkipNode


def block(writer: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula on lines of its own."""
    writer.body.append(f'<div class="formula">{displayed(node.astext())}</div>\n')
    raise nodes.SkipNode


def displayed(latex: str) -> str:
    """Return a formula of one line or several."""
    return f'{MATH} display="block">{rows_of(latex, "right left")}</math>'


def rows_of(latex: str, align: str) -> str:
    """Return lines of parts as a table, each part aligned as the word for it says."""
    sides = align.split()
    rows = [
        "".join(
            f'<mtd style="text-align: {side}; text-align: -webkit-{side}">{cell(part)}</mtd>'
            for part, side in zip(split(line, "&"), sides, strict=False)
        )
        for line in split(latex, r"\\")
    ]
    return f"<mtable displaystyle=\"true\">{''.join(f'<mtr>{row}</mtr>' for row in rows)}</mtable>"


def split(latex: str, at: str) -> list[str]:
    """Cut a formula at a sign that stands in no braces and no environment."""
    parts, depth = [""], 0
    for token in TOKEN.findall(latex):
        depth += DEPTH.get(token, 0)
        if token == at and depth == 0:
            parts.append("")
        else:
            parts[-1] += token
    return [part.strip() for part in parts]


def cell(latex: str) -> str:
    """Return a part of a formula as MathML."""
    return "<mrow>" + "".join(pieces(latex)) + "</mrow>"


def pieces(latex: str) -> Iterator[str]:
    """Yield a part of a formula, and the cases in it."""
    for i, piece in enumerate(CASES.split(latex)):
        if i % 2:
            yield f'<mrow class="cases">{rows_of(piece, "left left")}</mrow>'
        elif piece.strip():
            whole = convert(piece)
            yield whole[whole.index(">") + 1:whole.rindex("</math>")]

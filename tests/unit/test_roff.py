"""The small part of Markdown that the reference pages use, as manual pages."""

from __future__ import annotations

import sys

import pytest
from test_docs_reference import DOCS

sys.path.insert(0, str(DOCS))

from roff import manual


def body(markdown):
    """What a page's text becomes, without its head."""
    text = manual("tool", 1, "does it", markdown, "1.0")
    head, _, rest = text.partition("tool \\- does it\n")
    assert head.startswith('.TH "TOOL" "1" "" "hpcimg 1.0" "hpcimg"\n')
    return rest


@pytest.mark.parametrize(
    ("markdown", "roff"),
    [
        ("# Title\n\nA `b-c` **d**.\n", ".SH DESCRIPTION\n.PP\nA \\fBb\\-c\\fR \\fBd\\fR.\n"),
        ("## Two words\n", ".SH TWO WORDS\n"),
        ("See [`x`](y.md#z).\nNext.\n", ".PP\nSee \\fBx\\fR.\nNext.\n"),
        ("- one\n  more\n- two\n", ".IP \\(bu 2\none\nmore\n.IP \\(bu 2\ntwo\n"),
        ("```yaml\na:\n  b: \\n\n```\n", ".PP\n.RS 4\n.nf\na:\n  b: \\en\n.fi\n.RE\n"),
        ("    tool -x\n", ".PP\n.RS 4\n.nf\ntool \\-x\n.fi\n.RE\n"),
        (".hidden is no command\n", ".PP\n\\&.hidden is no command\n"),
        ("<!-- not\nshown -->\n", ""),
    ],
)
def test_block(markdown, roff):
    """Each block as troff has it; what troff would obey is escaped."""
    assert body(markdown) == roff


def test_table():
    """A row is a paragraph under its first cell; a bar within marks is none between cells."""
    table = "| key | default | means |\n| --- | --- | --- |\n| `a|b` | none | it is |\n"
    assert body(table) == ".TP\n\\fBa|b\\fR\ndefault: none\n.br\nit is\n.br\n"

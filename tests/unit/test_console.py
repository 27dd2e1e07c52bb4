"""What the documentation's runner reads from a page, and what it takes for the same output."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_PATH = Path(__file__).resolve().parents[1] / "integration" / "console.py"
_SPEC = importlib.util.spec_from_file_location("docs_console", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
console = importlib.util.module_from_spec(_SPEC)
sys.modules["docs_console"] = console
_SPEC.loader.exec_module(console)


def commands(tmp_path: Path, text: str):
    """The commands of a page with this text."""
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return console.read_commands(page)


def test_only_console_blocks_are_read(tmp_path: Path) -> None:
    """Prompts outside of a console block are prose; words after `console` come along."""
    text = "$ not this\n```yaml\n$ nor this\n```\n```console bdw1 sorted\n$ one\nout\n# two\n```\n"
    one, two = commands(tmp_path, text)
    assert (one.user, one.text, one.shown, one.line) == ("alice", "one", ["out"], 6)
    assert (two.user, two.text, two.words) == ("root", "two", ("bdw1", "sorted"))


def test_a_command_goes_on_after_its_first_line(tmp_path: Path) -> None:
    """Lines with the shell's second prompt belong to the command."""
    (command,) = commands(tmp_path, "```console\n$ cat <<END\n> > text\n> END\nout\n```\n")
    assert command.text == "cat <<END\n> text\nEND"
    assert command.shown == ["out"]


@pytest.mark.parametrize(
    ("shown", "output", "words", "same"),
    [
        pytest.param("a b", "a b\n", "", True, id="equal"),
        pytest.param("a b", "a c\n", "", False, id="another word"),
        pytest.param("a", "a\nb\n", "", False, id="a line more"),
        pytest.param("a\nb", "a\n", "", False, id="a line less"),
        pytest.param("a  b", " a b\n", "", True, id="columns may be wider"),
        pytest.param("a b", "ab\n", "", False, id="but not run together"),
        pytest.param("x:…", "x:123 45\n", "", True, id="wildcard in a line"),
        pytest.param("x:…", "y:123\n", "", False, id="wildcard is no excuse"),
        pytest.param("…\nlast", "1\n2\nlast\n", "", True, id="any lines before"),
        pytest.param("…\nlast", "last\n", "", True, id="no lines before"),
        pytest.param("…\nlast", "last\nmore\n", "", False, id="lines after"),
        pytest.param("a.c", "abc\n", "", False, id="a dot is a dot"),
        pytest.param("1\n2", "2\n1\n", "", False, id="another order"),
        pytest.param("1\n2", "2\n1\n", "sorted", True, id="any order"),
    ],
)
def test_output_is_compared(
    tmp_path: Path, shown: str, output: str, words: str, *, same: bool
) -> None:
    """A page agrees with what it shows and with nothing else; `…` stands for anything."""
    (command,) = commands(tmp_path, f"```console {words}\n$ x\n{shown}\n```\n")
    assert command.agrees(output) is same

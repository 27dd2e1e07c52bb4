"""Tables for people: on a terminal they are made narrower, and stay readable."""

from __future__ import annotations

import sys

from hpcimg.cli.output import print_table

HEAD = ("SIZE", "STATE", "WHY")
WHY = "is built for a closer CPU target than all the other images of this index"


def test_a_size_and_a_state_are_not_broken(capsys, monkeypatch):
    """The column that is worth it is wrapped; `1.2 MB` stays one word."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("NO_COLOR", "1")
    print_table(HEAD, [("1.2 MB", "in the store", WHY)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("1.2 MB  in the store  is built")
    assert len(lines) > 2
    assert max(map(len, lines)) <= 50


def test_a_column_of_long_words_gives_no_room(capsys, monkeypatch):
    """Where nothing can be broken the line is too long, and each row stays one line."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("NO_COLOR", "1")
    print_table(HEAD, [("1.2 MB", "in the store", "sha256:0123456789ab")])
    assert len(capsys.readouterr().out.splitlines()) == 2

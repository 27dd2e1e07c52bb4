"""The text of a mount, as options and settings have it."""

from __future__ import annotations

import pytest

from hpcimg.bind import Bind, make_bind, parse_bind, parse_binds
from hpcimg.errors import UsageError


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("/data", Bind("/data", "/data")),
        ("/data:/in", Bind("/data", "/in")),
        ("/data:/in:ro", Bind("/data", "/in", ("ro",))),
        ("/a b:/c d:noexec+optional", Bind("/a b", "/c d", ("noexec", "optional"))),
        ("data:/in", Bind("data", "/in")),
        ("tmpfs:/run/x", Bind("tmpfs", "/run/x")),
        ("/dev/fuse:/dev/fuse:nosuid+nosuid", Bind("/dev/fuse", "/dev/fuse", ("nosuid",))),
        ("/a://in/./x/", Bind("/a", "/in/x")),
    ],
)
def test_a_mount_s_text(text, bind):
    """One path, two, and flags with + between them; a repeated flag counts once."""
    assert parse_bind(text) == bind


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no mount"),
        (":/in", "':/in' is no mount"),
        ("/a:", "'/a:' is no mount"),
        ("/a:/b:", "'/a:/b:' is no mount"),
        ("/a:/b:ro:rw", "'/a:/b:ro:rw' is no mount"),
        ("data", "mount target 'data' is no path below / in the container"),
        ("/a:b", "mount target 'b' is no path below / in the container"),
        ("/a:/", "mount target '/' is no path below / in the container"),
        ("/a:/b/../../etc", "mount target '/b/../../etc' is no path below / in the container"),
        ("tmpfs", "mount target 'tmpfs' is no path below / in the container"),
        ("/a:/b:suid", "'suid' is no flag of a mount"),
        ("/a:/b:ro+", "'' is no flag of a mount"),
        ("/a:/b:ro+rw", "the flags of a mount contradict: ro and rw"),
        ("/a:/b:slave+shared", "the flags of a mount contradict: slave and shared"),
        ("/a\n:/b", r"'/a\n' cannot be mounted: a path is not empty and has no tab or line end"),
    ],
)
def test_what_is_no_mount(text, message):
    """The wrong word is quoted, and the hint has the form or the known words."""
    with pytest.raises(UsageError) as caught:
        parse_bind(text)
    assert caught.value.message == message
    assert caught.value.hint.startswith(("write SOURCE:TARGET", "with + between them: ro, rw"))


def test_several_with_commas():
    """A mount that is repeated, as an outer script may have said it already, counts once."""
    assert parse_binds("/a:/x,/b:/y:ro,/a:/x") == (Bind("/a", "/x"), Bind("/b", "/y", ("ro",)))


@pytest.mark.parametrize("text", ["/a:/x,/b:/x", "/a:/x,/a:/x:ro"])
def test_two_mounts_at_one_place(text):
    """The later one would hide the first, whichever was meant."""
    with pytest.raises(UsageError, match="are both mounted at '/x', or with different flags"):
        parse_binds(text)


def test_parts_hold_what_a_text_cannot():
    """A colon or a comma in a path is no separator where the parts are given as parts."""
    assert make_bind("/a:b,c", "/in:d", ["ro"]) == Bind("/a:b,c", "/in:d", ("ro",))

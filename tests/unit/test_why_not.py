"""What is asked of `explain --why-not`, found among a choice's candidates."""

from __future__ import annotations

from dataclasses import replace

import pytest
from indexes import digest, entries_from, entry, index_of

from hpcimg.errors import NotFoundError, UsageError
from hpcimg.node.words import profile_from_words
from hpcimg.oci.reference import parse_reference
from hpcimg.selection import select
from hpcimg.settings import Settings
from hpcimg.workflow.resolve import Resolved
from hpcimg.workflow.why_not import why_not

NAME = parse_reference("registry:5000/qnib/bench")


class Nobody:
    """A registry that has one index, and was asked for nothing else."""

    def __init__(self, document=None):
        self.document = document
        self.asked = []

    def fetch_document(self, reference):
        """Give the index, whatever is asked for."""
        self.asked.append(str(reference))
        if self.document is None:
            raise NotFoundError("it is not there")
        return self.document


def choice(words="linux/amd64:broadwell", *, path=()):
    """Choose between three entries, the last of which stands in a nested index."""
    first, second, third = entries_from(
        entry(1), entry(2, "cpu:broadwell"), entry(3, "cpu:haswell")
    )
    profile = profile_from_words(words, node="bdw1")
    resolution = select(profile, (first, second, replace(third, path=path)))
    return Resolved(NAME, digest(9), True, profile, resolution)


def ask(what, resolved=None, client=None):
    """Ask why not this one."""
    answers = why_not(what, resolved or choice(), Settings(), client or Nobody())
    return "\n".join(one.answer for one in answers)


def test_a_beginning_of_several_digests():
    """More of it is asked for; nobody guesses."""
    with pytest.raises(UsageError, match=r"'sha256:0000' begins 3 digests behind ") as caught:
        ask("sha256:0000")
    assert caught.value.hint.startswith("write more of it: sha256:000000000000")


def test_words_are_not_asked_of_the_registry():
    """`cpu:zen3` could be an image called cpu, and is not meant so."""
    client = Nobody()
    with pytest.raises(NotFoundError, match=r"'cpu:zen3' is not behind "):
        ask("cpu:zen3", client=client)
    assert client.asked == []


def test_a_tag_is_of_the_same_repository():
    """Its digest may be an entry's own, that of an index it stands in, or in that index."""
    wrapping = index_of(entry(3))
    for client, resolved in (
        (Nobody(wrapping), choice()),
        (Nobody(index_of(entry(7))), choice(path=(index_of(entry(7)).digest,))),
    ):
        assert ask("v1", resolved, client).startswith("cpu:haswell (sha256:000000000000) fits, but")
        assert client.asked == ["registry:5000/qnib/bench:v1"]


def test_when_nothing_fits():
    """It is said that another one would not do either."""
    profile = profile_from_words("linux/arm64", node="arm1")
    resolved = replace(
        choice(), profile=profile, resolution=select(profile, entries_from(entry(1)))
    )
    assert ask("generic", resolved) == (
        "the generic image (sha256:000000000000) is rejected on arm1: it is for linux/amd64; "
        "this node is linux/arm64; no other image fits either"
    )


@pytest.mark.parametrize(
    ("what", "message", "hint"),
    [
        ("", "--why-not names no image", "write a digest"),
        ("sha256:00", "'sha256:00' is too short for a digest", "write at least 4 digits"),
        ("@sha256:", "'@sha256:' is too short for a digest", "write at least 4 digits"),
    ],
)
def test_what_names_nothing(what, message, hint):
    """It is a mistake in the command, not an image that is missing."""
    with pytest.raises(UsageError) as caught:
        ask(what)
    assert caught.value.message == message
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize("what", ["Generic", f"@{digest(1)}"])
def test_other_spellings(what):
    """As people copy a digest from a name, and write at the beginning of a sentence."""
    assert ask(what).startswith("the generic image (sha256:000000000000) fits, but")


def test_some_of_one_entry_s_words():
    """Where no other entry has them; where several have, nobody guesses."""
    entries = entries_from(
        entry(1, "cpu:zen3", "nvcap:8.0"), entry(2, "cpu:zen2"), entry(3, "cpu:zen2", "kernel:4.0")
    )
    profile = profile_from_words("linux/amd64:broadwell", node="bdw1")
    resolved = replace(choice(), profile=profile, resolution=select(profile, entries))
    assert ask("nvcap:8.0", resolved).startswith("cpu:zen3,nvcap:8.0 (")
    assert ask("cpu:zen2", resolved).startswith("cpu:zen2 (")


def test_a_bare_name_that_is_no_tag():
    """It is asked for as an image's name then; when neither is there, that is said."""
    client = Nobody()
    with pytest.raises(NotFoundError, match=r"'bench2' is no known word, no entry of registry"):
        ask("bench2", client=client)
    assert [one.rpartition("/")[2] for one in client.asked] == ["bench:bench2", "bench2:latest"]


def test_several_nodes_take():
    """One of them would take `takes`."""
    profile = profile_from_words("linux/amd64:broadwell", node="bdw1,skx1")
    assert "is what bdw1,skx1 take: " in ask("broadwell", replace(choice(), profile=profile))

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
    return why_not(what, resolved or choice(), Settings(), client or Nobody())


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

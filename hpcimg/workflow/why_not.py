"""`explain --why-not`: find one image among a choice's candidates, and say what became of it."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hpcimg.errors import NotFoundError, UsageError
from hpcimg.features import canonical_words, parse_feature
from hpcimg.oci.digest import shortened
from hpcimg.oci.model import Index
from hpcimg.quoting import quoted
from hpcimg.workflow.resolve import read_name

if TYPE_CHECKING:
    from hpcimg.oci.model import Manifest
    from hpcimg.selection import Candidate
    from hpcimg.settings import Settings
    from hpcimg.workflow.resolve import Resolved
    from hpcimg.workflow.source import ImageSource

_DIGEST = re.compile(r"@?(?:sha(?:256|512):)?([0-9a-f]{4,128})")
_SHORT = re.compile(r"@?sha(?:256|512):[0-9a-f]{0,3}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_GENERIC = "generic"
_HINT = "write a digest or its beginning, a tag, a name, or words as in cpu:zen3"
_SHOWN = 8


@dataclass(frozen=True)
class WhyNot:
    """One entry that was asked about, and in a sentence what became of it."""

    candidate: Candidate
    answer: str

    def to_json(self) -> dict[str, Any]:
        """Write it as an object for programs."""
        return {
            "digest": self.candidate.descriptor.digest,
            "features": list(self.candidate.features),
            "verdict": self.candidate.verdict,
            "reason": self.candidate.reason,
            "answer": self.answer,
        }


def why_not(
    what: str, resolved: Resolved, settings: Settings, source: ImageSource
) -> tuple[WhyNot, ...]:
    """Say why an image is not the pick; NotFoundError when it is not behind the name.

    `what` is a digest or its beginning, an entry's words or some of them that no other entry has,
    a tag of the same repository, or the name of another image, whose manifest may have been copied.
    """
    if not what:
        raise UsageError("--why-not names no image", _HINT)
    if _SHORT.fullmatch(what):
        raise UsageError(f"{quoted(what)} is too short for a digest", "write at least 4 digits")
    found = _by_digest(what, resolved) or _by_words(what, resolved)
    if not found and not _is_words(what):
        found = _by_name(what, resolved, settings, source)
    if not found:
        raise _not_there(what, resolved)
    return tuple(WhyNot(candidate, _answer(candidate, resolved)) for candidate in found)


def _answer(candidate: Candidate, resolved: Resolved) -> str:
    what = f"{candidate.label} ({shortened(candidate.descriptor.digest)})"
    node = resolved.profile.node or "such a node"
    takes = "take" if "," in node or " and " in node else "takes"
    if candidate.verdict == "chosen":
        return f"{what} is what {node} {takes}: {candidate.reason}"
    if candidate.verdict == "fits":
        return f"{what} {candidate.reason}"
    pick = resolved.resolution.pick
    instead = f"; {node} {takes} {pick.label}" if pick else "; no other image fits either"
    return f"{what} is {candidate.verdict} on {node}: it {candidate.reason}{instead}"


def _by_digest(what: str, resolved: Resolved) -> list[Candidate]:
    match = _DIGEST.fullmatch(what)
    if match is None:
        return []
    candidates = resolved.resolution.candidates
    found = [one for one in candidates if _hexadecimal(one).startswith(match[1])]
    digests = {one.descriptor.digest for one in found}
    if len(digests) > 1:
        raise UsageError(
            f"{quoted(what)} begins {len(digests)} digests behind {resolved.reference}",
            f"write more of it: {', '.join(sorted(map(shortened, digests))[:_SHOWN])}",
        )
    return found


def _hexadecimal(candidate: Candidate) -> str:
    return candidate.descriptor.digest.partition(":")[2]


def _by_words(what: str, resolved: Resolved) -> list[Candidate]:
    """Find the entries that require just these words, or the one that requires these and more.

    `generic` are those without any.
    """
    words = () if what.lower() == _GENERIC else canonical_words([what])
    candidates = resolved.resolution.candidates
    found = [one for one in candidates if one.features == words]
    more = [one for one in candidates if words and {*words} <= {*one.features}]
    return found or (more if len(more) == 1 else [])


def _is_words(what: str) -> bool:
    """Tell whether this can only be an entry's words: `cpu:zen3`, where `zen3:1` is a name."""
    return ":" in what and "/" not in what and all(f.kind for f in parse_feature(what))


def _by_name(
    what: str, resolved: Resolved, settings: Settings, source: ImageSource
) -> list[Candidate]:
    """Ask the registry what a tag of this repository means, or another image's name."""
    document = _fetched(what, resolved, settings, source)
    digests = {document.digest}
    if isinstance(document, Index):
        # Some tools wrap each build in an index of its own.
        digests |= {one.digest for one in document.manifests}
    return [
        one
        for one in resolved.resolution.candidates
        if digests & {one.descriptor.digest, *one.entry.path}
    ]


def _fetched(
    what: str, resolved: Resolved, settings: Settings, source: ImageSource
) -> Manifest | Index:
    """Read it as a tag first, and where there is no such one as a name."""
    if _TAG.fullmatch(what):
        with suppress(NotFoundError):
            return source.fetch_document(replace(resolved.reference, tag=what, digest=None))
    try:
        return source.fetch_document(read_name(what, settings))
    except (NotFoundError, UsageError) as error:
        raise NotFoundError(
            f"{quoted(what)} is no known word, no entry of {resolved.reference} and no image: "
            f"{error.message}",
            _entries(resolved),
        ) from error


def _not_there(what: str, resolved: Resolved) -> NotFoundError:
    message = f"{quoted(what)} is not behind {resolved.reference}"
    return NotFoundError(message, _entries(resolved))


def _entries(resolved: Resolved) -> str:
    labels = list(dict.fromkeys(one.label for one in resolved.resolution.candidates))
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return f"its entries are {'; '.join(labels[:_SHOWN])}{more}" if labels else "it has no entries"

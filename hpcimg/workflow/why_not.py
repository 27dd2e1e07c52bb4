"""`explain --why-not`: find one image among a choice's candidates, and say what became of it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from hpcimg.errors import NotFoundError, UsageError
from hpcimg.features import canonical_words, parse_feature
from hpcimg.oci.digest import shortened
from hpcimg.oci.model import Index
from hpcimg.quoting import quoted
from hpcimg.workflow.resolve import read_name

if TYPE_CHECKING:
    from hpcimg.selection import Candidate
    from hpcimg.settings import Settings
    from hpcimg.workflow.resolve import Resolved
    from hpcimg.workflow.source import ImageSource

_DIGEST = re.compile(r"(?:sha(?:256|512):)?([0-9a-f]{4,128})")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_GENERIC = "generic"
_SHOWN = 8


def why_not(what: str, resolved: Resolved, settings: Settings, source: ImageSource) -> str:
    """Say why an image is not the pick; NotFoundError when it is not behind the name.

    `what` is a digest or its beginning, an entry's words, a tag of the same repository, or the
    name of another image, whose manifest may have been copied.
    """
    found = _by_digest(what, resolved) or _by_words(what, resolved)
    if not found and not _is_words(what):
        found = _by_name(what, resolved, settings, source)
    if not found:
        raise _not_there(what, resolved)
    return "\n".join(_answer(candidate, resolved) for candidate in found)


def _answer(candidate: Candidate, resolved: Resolved) -> str:
    what = f"{candidate.label} ({shortened(candidate.descriptor.digest)})"
    node = resolved.profile.node or "such a node"
    if candidate.verdict == "chosen":
        return f"{what} is what {node} takes: {candidate.reason}"
    if candidate.verdict == "fits":
        return f"{what} {candidate.reason}"
    pick = resolved.resolution.pick
    instead = f"; {node} takes {pick.label}" if pick else "; no other image fits either"
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
    """Find the entries that require just these words; `generic` are those without any."""
    words = () if what == _GENERIC else canonical_words([what])
    return [one for one in resolved.resolution.candidates if one.features == words]


def _is_words(what: str) -> bool:
    """Tell whether this can only be an entry's words: `cpu:zen3`, where `zen3:1` is a name."""
    return ":" in what and "/" not in what and all(f.kind for f in parse_feature(what))


def _by_name(
    what: str, resolved: Resolved, settings: Settings, source: ImageSource
) -> list[Candidate]:
    """Ask the registry what a tag of this repository means, or another image's name."""
    if _TAG.fullmatch(what):
        reference = replace(resolved.reference, tag=what, digest=None)
    else:
        reference = read_name(what, settings)
    try:
        document = source.fetch_document(reference)
    except NotFoundError as error:
        raise NotFoundError(
            f"{quoted(what)} is neither an entry of {resolved.reference} nor an image: "
            f"{error.message}",
            _entries(resolved),
        ) from error
    digests = {document.digest}
    if isinstance(document, Index):
        # Some tools wrap each build in an index of its own.
        digests |= {one.digest for one in document.manifests}
    return [
        one
        for one in resolved.resolution.candidates
        if digests & {one.descriptor.digest, *one.entry.path}
    ]


def _not_there(what: str, resolved: Resolved) -> NotFoundError:
    message = f"{quoted(what)} is not behind {resolved.reference}"
    return NotFoundError(message, _entries(resolved))


def _entries(resolved: Resolved) -> str:
    labels = list(dict.fromkeys(one.label for one in resolved.resolution.candidates))
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return f"its entries are {'; '.join(labels[:_SHOWN])}{more}" if labels else "it has no entries"

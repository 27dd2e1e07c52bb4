"""What the hub answers for a name: the image that fits a machine type, by the node's own choice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hpcimg.hub.database import KeptDocument
from hpcimg.hub.memory import Memory
from hpcimg.hub.rewrite import one_entry_index
from hpcimg.oci.model import DOCKER_CONFIG, OCI_CONFIG, Index, Manifest, digest_of, parse_document
from hpcimg.policy import PolicyRule, policy_for
from hpcimg.workflow.resolve import Resolved, resolve_document

if TYPE_CHECKING:
    from hpcimg.hub.contents import Contents, Found, Keep
    from hpcimg.hub.machine_type import MachineType
    from hpcimg.node.profile import NodeProfile
    from hpcimg.oci.reference import Reference
    from hpcimg.workflow.source import ImageSource

CHOICE_SECONDS = 3600.0
"""How long a choice from the same index counts; what is attached to its images may change."""
_CHOICES_KEPT = 50_000
_CHOICES_BYTES = 128 << 20
_IMAGES = frozenset({OCI_CONFIG, DOCKER_CONFIG})


@dataclass(frozen=True)
class Served:
    """One answer: its bytes, what they are, and the words of the image that was chosen.

    `words` is None where nothing was chosen. A stale one stands for a tag whose registry fails.
    """

    body: bytes = field(repr=False)
    media_type: str
    digest: str
    words: tuple[str, ...] | None = None
    is_stale: bool = False


@dataclass(frozen=True)
class _Key:
    """What a choice depends on; the type with all that it says, so that a change is another."""

    name: str
    digest: str
    machine_type: MachineType
    wants_index: bool


class Chooser:
    """Makes choices and remembers them; threads may share it.

    Errors of its methods: NoCandidateError and those of the registry client.
    """

    def __init__(
        self,
        contents: Contents,
        source: ImageSource,
        keep: Keep,
        rules: Iterable[PolicyRule],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._contents = contents
        self._source = source
        self._keep = keep
        self._rules = tuple(rules)
        self._now = now
        self._chosen: Memory[_Key, tuple[float, Served]] = Memory(_CHOICES_KEPT, _CHOICES_BYTES)

    def at_hand(
        self, reference: Reference, machine_type: MachineType | None, *, wants_index: bool
    ) -> Served | None:
        """Answer from memory alone; this never waits."""
        found = self._contents.peek(reference)
        if found is None:
            return None
        key = _key(reference, found, machine_type, wants_index=wants_index)
        return _as_it_is(found) if key is None else self._known(key, found)

    def answer(
        self, reference: Reference, machine_type: MachineType | None, *, wants_index: bool
    ) -> Served:
        """Answer for a name; a digest is never filtered, nor is anything without a type."""
        found = self._contents.document(reference)
        key = _key(reference, found, machine_type, wants_index=wants_index)
        if key is None:
            return _as_it_is(found)
        known = self._known(key, found)
        if known is None:
            served = self._choose(reference, found.document, key)
            self._chosen.put(key, (self._now(), served), len(served.body))
            known = replace(served, is_stale=found.is_stale)
        return known

    def digest(self, reference: Reference) -> str:
        """Say what a name stands for."""
        return self._contents.document(reference).digest

    def resolve(self, reference: Reference, machine_type: MachineType) -> Resolved:
        """Tell the choice with its reasons."""
        found = self._contents.document(reference)
        return self._resolved(reference, found.document, machine_type)

    def resolve_for(self, reference: Reference, profile: NodeProfile) -> Resolved:
        """Tell the choice for words that no type has."""
        found = self._contents.document(reference)
        policy = policy_for(self._rules, reference, profile)
        return resolve_document(reference, found.document, profile, self._source, policy)

    def _resolved(
        self, reference: Reference, document: Manifest | Index, machine_type: MachineType
    ) -> Resolved:
        profile = machine_type.profile()
        kind = machine_type.policy or None
        policy = policy_for(self._rules, reference, profile, kind=kind)
        return resolve_document(reference, document, profile, self._source, policy)

    def _known(self, key: _Key, found: Found) -> Served | None:
        known = self._chosen.get(key)
        if known is None or self._now() - known[0] > CHOICE_SECONDS:
            return None
        return replace(known[1], is_stale=True) if found.is_stale else known[1]

    def _choose(self, reference: Reference, document: Manifest | Index, key: _Key) -> Served:
        pick = self._resolved(reference, document, key.machine_type).require()
        if key.wants_index and isinstance(document, Index):
            raw = one_entry_index(document, pick.descriptor)
            made = parse_document(raw)
            kept = KeptDocument(made.digest, raw, made.media_type, made=True)
            self._keep.put_document(reference.name, kept)
            return Served(raw, made.media_type, digest_of(raw), pick.features)
        image = self._contents.document(reference.with_digest(pick.descriptor.digest))
        return replace(_as_it_is(image), words=pick.features)


def _key(
    reference: Reference, found: Found, machine_type: MachineType | None, *, wants_index: bool
) -> _Key | None:
    """Say what the choice depends on; None where there is none to make."""
    if machine_type is None or reference.digest is not None or not _is_chosen(found.document):
        return None
    wants_index = wants_index or machine_type.answer == "index"
    return _Key(reference.name, found.digest, machine_type, wants_index)


def _is_chosen(document: Manifest | Index) -> bool:
    """Tell whether there is an image to choose; a chart or a signature is for any machine."""
    return isinstance(document, Index) or document.config.media_type in _IMAGES


def _as_it_is(found: Found) -> Served:
    document = found.document
    return Served(document.raw, document.media_type, found.digest, None, found.is_stale)

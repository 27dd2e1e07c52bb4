"""What the site asks of an image before it runs: a listed repository, a signature by a listed key.

Decides for the host that a name means, whatever store the image goes into or is found in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING

from hpcimg.errors import ContentError, NotFoundError, NotListedError, UnsignedError
from hpcimg.oci.hosts import Hosts
from hpcimg.oci.model import Index, Manifest
from hpcimg.store.entry import Signature

if TYPE_CHECKING:
    from hpcimg.oci.key import PublicKey
    from hpcimg.oci.reference import Reference
    from hpcimg.oci.signature import Signed
    from hpcimg.registry_settings import RegistrySettings
    from hpcimg.store.entry import Entry
    from hpcimg.store.store import Store
    from hpcimg.workflow.source import ImageSource

MOST_SIGNATURES = 64
"""How many are looked at for one digest: each costs a request."""
TAG_LIMIT = 128
_INDEX_DEPTH = 4

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Admission:
    """The rules of the settings; `connect` gives a registry client, made where one is needed.

    `listed_only` as a registry client has it: a user's own `run` may ask what no job may.
    """

    registries: Mapping[str, RegistrySettings]
    connect: Callable[[], ImageSource]
    listed_only: bool = True

    def check_listed(self, reference: Reference) -> None:
        """Raise NotListedError for a repository that no job may ask for."""
        patterns = self._policy(reference).repositories
        if patterns is None or not self.listed_only:
            return
        if not any(fnmatchcase(reference.repository, pattern) for pattern in patterns):
            raise NotListedError(
                f'repository "{reference.name}" is not listed in the site\'s settings',
                f'the administrator can add it to "repositories" of "{reference.registry}" '
                'under "registries:"',
            )

    def check_rules(self, reference: Reference) -> None:
        """Raise what stops every image of the name: NotListedError, SettingsError for a key."""
        self.check_listed(reference)
        self._keys(reference)

    def is_proved(self, entry: Entry, reference: Reference) -> bool:
        """Tell whether the entry's record alone has what is asked for; no registry is."""
        keys = self._keys(reference)
        known = {signature.key for signature in entry.record.signatures}
        return not keys or any(key.fingerprint in known for key in keys)

    def admit(self, entry: Entry, reference: Reference, index: str, store: Store) -> Entry:
        """Give the entry where its record has what is asked for, or the registry proves it now.

        An entry may be older than the rule, or come from a name that has none.
        """
        if self.is_proved(entry, reference):
            return entry
        found = self.proof(reference, entry.record.digest, index)
        signatures = (*entry.record.signatures, *found)
        from hpcimg.store.amend import amend

        return amend(store, entry, replace(entry.record, signatures=signatures))

    def proof(self, reference: Reference, digest: str, index: str) -> tuple[Signature, ...]:
        """Find the signature that the rules ask for, none where they ask for none.

        One of `index`, from which the image was picked, counts too: its digest holds what it lists.
        Raises UnsignedError, and what a registry's failure raises.
        """
        keys = self._keys(reference)
        if not keys:
            return ()
        for each in keys:  # else the advice would be to sign with a key that nobody can use
            each.check_kind()
        source = self.connect()
        reasons: dict[str, None] = {}
        for signed in dict.fromkeys((index, digest)):
            if not signed:
                continue
            key = _signer(source, reference.with_digest(signed), keys, reasons)
            if key is None:
                continue
            if signed != digest and not _lists(source, reference, signed, digest):
                reasons[f"the signed index {signed} does not list it"] = None
                continue
            log.info("%s is signed by %s", signed, key.path)
            return (Signature(key.fingerprint, signed),)
        raise _unsigned(reference.with_digest(digest), keys, reasons)

    def _keys(self, reference: Reference) -> tuple[PublicKey, ...]:
        for rule in self._policy(reference).signatures:
            if fnmatchcase(reference.repository, rule.repository):
                from hpcimg.oci.key import read_key

                return tuple(read_key(path) for path in rule.files)
        return ()

    def _policy(self, reference: Reference) -> RegistrySettings:
        return Hosts(self.registries, listed_only=False).policy(reference.registry)


def _signer(
    source: ImageSource, image: Reference, keys: tuple[PublicKey, ...], reasons: dict[str, None]
) -> PublicKey | None:
    """Find the first of the keys that signed the image or index of this digest."""
    for signed in _signatures(source, image, reasons):
        by = next(
            (k for k in keys for s in signed.signatures if k.has_signed(signed.message, s)), None
        )
        if by is None:
            reasons["it is signed by another key"] = None
        elif image.digest not in signed.digests:
            named = ", ".join(signed.digests) or "no image"
            reasons[f"the signature under its name is of {named}"] = None
        else:
            return by
    return None


def _signatures(
    source: ImageSource, image: Reference, reasons: dict[str, None]
) -> Iterator[Signed]:
    """Read every signature that stands under the digest's tag, or is attached to it."""
    from hpcimg.oci.signature import SignatureFormError, parse_signed
    from hpcimg.workflow.source import read_text

    layers = (layer for manifest in _manifests(source, image) for layer in manifest.layers)
    for layer in islice(layers, MOST_SIGNATURES):
        try:
            yield parse_signed(layer, read_text(source, image, layer))
        except (SignatureFormError, ContentError) as error:
            reasons[str(error)] = None


def _manifests(source: ImageSource, image: Reference) -> Iterator[Manifest]:
    """Fetch what may hold signatures, one after the other: most often the first will do."""
    from hpcimg.oci.signature import BUNDLE_TYPE, SIMPLE_ARTIFACT, signature_tag

    def named() -> Iterator[Reference]:
        tag = signature_tag(str(image.digest))
        if len(tag) <= TAG_LIMIT:  # with sha512 it is no tag, and cosign makes none
            yield replace(image, digest=None, tag=tag)
        for kind in (BUNDLE_TYPE, SIMPLE_ARTIFACT):
            yield from map(image.with_digest, source.referrers(image, kind)[:MOST_SIGNATURES])

    for each in named():
        try:
            found = source.fetch_document(each)
        except (NotFoundError, ContentError) as error:
            log.debug("%s", error.message)
            continue
        if isinstance(found, Manifest):
            yield found


def _lists(source: ImageSource, reference: Reference, index: str, digest: str) -> bool:
    """Tell whether an index lists an image, itself or in an index that it lists."""
    waiting = [(index, _INDEX_DEPTH)]
    seen = set()
    while waiting:
        at, depth = waiting.pop()
        seen.add(at)
        document = source.fetch_document(reference.with_digest(at))
        for entry in document.manifests if isinstance(document, Index) else ():
            if entry.digest == digest:
                return True
            if entry.is_index and depth and entry.digest not in seen:
                waiting.append((entry.digest, depth - 1))
    return False


def _unsigned(
    image: Reference, keys: tuple[PublicKey, ...], reasons: Mapping[str, None]
) -> UnsignedError:
    files = ", ".join(key.path for key in keys)
    why = "; ".join(reasons) or "no signature of it was found"
    return UnsignedError(
        f'"{image}" bears no signature that this site asks for ({files}): {why}',
        "sign the image, or the index that lists it, with `cosign sign --key` and one of the keys",
    )

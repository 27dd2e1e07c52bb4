"""A registry's answers to the question for a repository's tags, page by page; pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcimg.errors import RegistryError
from hpcimg.oci.reference import is_tag

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE_SIZE = 1000
PAGE_LIMIT = 100
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,]*\brel="?next"?', re.IGNORECASE)


@dataclass(frozen=True)
class TagPage:
    """One page of tags; `next_url` leads to the following one, and is empty on the last."""

    tags: tuple[str, ...]
    next_url: str


def parse_page(raw: bytes, headers: Mapping[str, str], url: str, what: str) -> TagPage:
    """Parse an answer to `url`; tags that no reference could name are left out."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _wrong(what, "it is not JSON") from error
    listed = document.get("tags") if isinstance(document, dict) else None
    # Registries write null for a repository whose tags were all deleted.
    if not isinstance(document, dict) or not isinstance(listed, list | None):
        raise _wrong(what, "it is not an object with a list")
    tags = tuple(tag for tag in listed or () if isinstance(tag, str) and is_tag(tag))
    match = _NEXT.search(headers.get("Link", ""))
    return TagPage(tags, _following(match[1], url) if match else "")


def _following(link: str, url: str) -> str:
    """Take only the question from a link: behind a proxy its host is often a wrong one."""
    query = link.partition("?")[2].partition("#")[0]
    return f"{url.partition('?')[0]}?{query}" if query else ""


def _wrong(what: str, why: str) -> RegistryError:
    return RegistryError(f'the registry sent a bad list of the tags of "{what}": {why}')

"""The names of images that no registry has: a path, or `oci:DIRECTORY[:TAG][@DIGEST]`.

Owns the grammar and opens no file. The plugin's forms.c tells paths from names by the same rules.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpcimg.oci.digest import is_digest
from hpcimg.oci.reference import Reference

SUFFIXES = (".sif", ".sqsh", ".squashfs", ".img")
"""How a file's name ends that is an image without a `./` before it."""

_LAYOUT = "oci:"
_PATH_STARTS = ("/", "./", "../", "~/")
# A registry may be called `oci` and have a port, and an image of that name a tag.
_IS_LAYOUT = re.compile(r"oci:(?![0-9]{1,5}/)(?=[^:]*[:/]|\.{1,2}$)", re.DOTALL)
_TAG = re.compile(r"(?P<path>.*[^/:]):(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})", re.DOTALL)


@dataclass(frozen=True)
class LocalName:
    """A path that means an image; `is_layout` where the user said that it is an OCI layout."""

    path: str
    tag: str = ""
    digest: str = ""
    is_layout: bool = False


@dataclass(frozen=True)
class LayoutReference(Reference):
    """What stands for a registry's reference where a layout is asked: the path is its name."""

    @property
    def name(self) -> str:
        """The name without tag and digest."""
        return f"{_LAYOUT}{self.repository}"


def parse_local(text: str) -> LocalName | None:
    """Take a path or a layout apart; None for all that may be a registry's image."""
    if _IS_LAYOUT.match(text):
        path, at, digest = text.removeprefix(_LAYOUT).rpartition("@")
        if not (at and is_digest(digest)):
            path, digest = text.removeprefix(_LAYOUT), ""
        tagged = _TAG.fullmatch(path)
        path, tag = (tagged["path"], tagged["tag"]) if tagged else (path, "")
        return LocalName(path, tag, digest, is_layout=True)
    if text.startswith(_PATH_STARTS) or text in {".", "..", "~"}:
        return LocalName(text)
    if text.endswith(SUFFIXES) and not any(c in text for c in ":@#"):
        return LocalName(text)
    return None


def layout_reference(path: str, tag: str, digest: str) -> LayoutReference:
    """Name what is in a layout."""
    return LayoutReference("oci", path, tag or None, digest)

"""Reads the machine's own apt configuration: which mirror, which keys, which proxies."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fault import ClusterFault

APT = Path("/etc/apt")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# What the tree's apt takes over: how to reach the mirror and how strictly to take its dates.
_CARRIED = re.compile(
    r"^Acquire::(?:https?::|Retries|ForceIPv|Check-Valid-Until|Check-Date|AllowInsecure)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Mirror:
    """Debian's main archive as this machine reaches it."""

    uri: str
    is_trusted: bool
    keyring: Path


@dataclass(frozen=True)
class _Source:
    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    trusted: bool
    signed_by: str


def find_mirror(codename: str) -> Mirror:
    """The mirror that serves this machine's own release; ClusterFault when there is none."""
    for source in read_sources():
        if codename in source.suites and "main" in source.components:
            keyring = Path(source.signed_by)
            usable = source.signed_by.startswith("/") and keyring.is_file()
            return Mirror(
                source.uris[0].rstrip("/"), source.trusted, keyring if usable else KEYRING
            )
    raise ClusterFault(f"apt on this machine has no mirror for {codename!r} main under {APT}")


def read_sources() -> list[_Source]:
    """All enabled binary package sources, one-line and deb822 alike."""
    lists = [APT / "sources.list", *sorted((APT / "sources.list.d").glob("*.list"))]
    found = [s for p in lists if p.is_file() for s in _one_line(p.read_text("utf-8"))]
    for path in sorted((APT / "sources.list.d").glob("*.sources")):
        found.extend(_deb822(path.read_text("utf-8")))
    return found


def _one_line(text: str) -> Iterator[_Source]:
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)\s+([^#]*)", line)
        if not match:
            continue
        options = dict(o.split("=", 1) for o in (match[1] or "").split() if "=" in o)
        yield _Source(
            (match[2],),
            (match[3],),
            tuple(match[4].split()),
            options.get("trusted") == "yes",
            options.get("signed-by", ""),
        )


def _deb822(text: str) -> Iterator[_Source]:
    clean = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for block in re.split(r"\n\s*\n", clean):
        fields = {
            key.lower(): value.strip()
            for key, value in re.findall(r"^([\w-]+):((?:.*(?:\n[ \t].*)*))", block, re.MULTILINE)
        }
        is_wanted = "deb" in fields.get("types", "").split() and fields.get("uris")
        if is_wanted and fields.get("enabled", "yes").lower() != "no":
            yield _Source(
                tuple(fields["uris"].split()),
                tuple(fields.get("suites", "").split()),
                tuple(fields.get("components", "").split()),
                fields.get("trusted", "no").lower() == "yes",
                fields.get("signed-by", ""),
            )


def carried_settings() -> str:
    """The machine's apt settings about proxies, certificates and dates, as an apt.conf text."""
    dump = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True)
    return "".join(line + "\n" for line in dump.stdout.splitlines() if _CARRIED.match(line))


def proxy_environment() -> dict[str, str]:
    """The same proxies as environment variables, for debootstrap."""
    found = dict(
        re.findall(r'Acquire::(https?)::Proxy "([^"]+)"', carried_settings(), re.IGNORECASE)
    )
    return {f"{scheme.lower()}_proxy": url for scheme, url in found.items()}

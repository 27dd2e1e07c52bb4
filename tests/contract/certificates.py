"""Certificates for the tests' registries: a site's own authority, servers, users."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


def authority(folder: Path, name: str = "ca") -> Pair:
    """Make a certificate authority that nobody knows yet."""
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    words = ["-x509", "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE"]
    _request(pair, *words, "-addext", "keyUsage=keyCertSign")
    return pair


def signed(by: Pair, name: str, address: str = "IP:127.0.0.1") -> Pair:
    """Make a certificate of an authority, for a server at the loopback or for a user."""
    folder = by.key.parent
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    words = ["-x509", "-subj", f"/CN={name}", "-CA", str(by.certificate), "-CAkey", str(by.key)]
    _request(pair, *words, "-addext", f"subjectAltName={address}")
    return pair


def _request(pair: Pair, *words: str) -> None:
    argv = ["openssl", "req", "-nodes", "-days", "2", "-newkey", "ec"]
    argv += ["-pkeyopt", "ec_paramgen_curve:P-256", *words]
    argv += ["-keyout", str(pair.key), "-out", str(pair.certificate)]
    subprocess.run(argv, check=True, capture_output=True)

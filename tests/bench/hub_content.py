"""What the bench's group "hub" serves and asks for: images and tags, and a hub's types."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from hpcimg.hub.account import Account, Login, Role  # noqa: E402 - this checkout's
from hpcimg.hub.database import Database  # noqa: E402
from hpcimg.hub.machine_type import MachineType  # noqa: E402
from hpcimg.hub.token import Claims, sign  # noqa: E402

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
ACCEPT = (
    MANIFEST,
    INDEX,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
REPOSITORY = "qnib/bench"
INDEXES = 100


@dataclass(frozen=True)
class Content:
    """What is in the registry: tags, and two blobs by their digests."""

    tags: list[str]
    blob: str
    large: str


def fill(port: int, storage: Path, blob: int, large: int, tags: int) -> Content:
    """Push an image of four builds in many versions, and lay two blobs into the registry's folder.

    Tags are laid there too: ten thousand pushes would take longer than what is measured.
    """
    config = _put_blob(port, json.dumps({"architecture": "amd64", "os": "linux"}).encode())
    layer = _put_blob(port, b"layer")
    builds = [_put_image(port, words, config, layer) for words in ((), *_builds())]
    indexes = [_put_index(port, builds, version) for version in range(INDEXES)]
    names = [f"v{number}" for number in range(tags)]
    for number, name in enumerate(names):
        folder = storage / f"docker/registry/v2/repositories/{REPOSITORY}/_manifests/tags/{name}"
        link = folder / "current/link"
        link.parent.mkdir(parents=True)
        link.write_text(indexes[number % INDEXES])
    return Content(names, _lay_blob(storage, blob), _lay_blob(storage, large))


def _builds() -> tuple[tuple[str, ...], ...]:
    return ("cpu:broadwell",), ("cpu:skylake",), ("cpu:broadwell", "nvcap:5.2")


def make_types(folder: Path, number: int, words: tuple[str, ...]) -> None:
    """Make a database with so many types, whose tokens stand for them."""
    database = Database(f"sqlite:///{folder}/hub.sqlite")
    with database.change() as change:
        change.put_account(Account("site", Role.OWNER))
        for at in range(number):
            kind = MachineType("site", f"t{at}", (words[at % len(words)],))
            change.put_type(kind)
            change.put_login(Login(kind.login_name, "", "site", kind.full_name))
    key, types = database.signing_key(), database.directory().types.values()
    until = time.time() + 86_400
    lines = [sign(key, Claims(t.login_name, t.full_name, (REPOSITORY,), until)) for t in types]
    (folder / "tokens").write_text("\n".join(lines))
    database.close()


def logins(folder: Path) -> list[str]:
    """Give the tokens of a hub's types."""
    return (folder / "tokens").read_text().split()


def warm(port: int, asked: list[tuple[str, str]]) -> None:
    """Ask once for each path with its token."""
    connection = HTTPConnection("127.0.0.1", port, timeout=600)
    for path, token in asked:
        headers = {"Accept": ", ".join(ACCEPT), "Authorization": f"Bearer {token}"}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise AssertionError(f"{path}: {answer.status} {said[:300]!r}")
    connection.close()


def wrk_script(path: Path, pairs: list[tuple[str, str]]) -> Path:
    """Write a script by which wrk takes turns in logins and tags."""
    lines = ",\n".join(f'{{"{token}", "{tag}"}}' for token, tag in pairs)
    path.write_text(
        f"local pairs = {{\n{lines}\n}}\nlocal at = 0\nlocal headers = {{}}\n"
        f'headers["Accept"] = "{", ".join(ACCEPT)}"\n'
        "request = function()\n  at = at % #pairs + 1\n  local pair = pairs[at]\n"
        '  headers["Authorization"] = "Bearer " .. pair[1]\n'
        f'  return wrk.format("GET", "/v2/{REPOSITORY}/manifests/" .. pair[2], headers)\nend\n'
    )
    return path


def pid_of(port: int) -> int:
    """Find the hub that listens on a port, by its settings' file."""
    for found in Path("/proc").glob("[0-9]*/cmdline"):
        words = found.read_bytes().split(b"\0")
        if b"serve" in words and b"--settings" in words:
            settings = Path(os.fsdecode(words[words.index(b"--settings") + 1]))
            if f"127.0.0.1:{port}" == json.loads(settings.read_text())["listen"]:
                return int(found.parent.name)
    raise AssertionError(f"no hub listens on {port}")


def _put_image(port: int, words: tuple[str, ...], config: dict, layer: dict) -> dict:
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {**config, "mediaType": "application/vnd.oci.image.config.v1+json"},
        "layers": [{**layer, "mediaType": "application/vnd.oci.image.layer.v1.tar"}],
        "annotations": {"words": " ".join(words)},
    }
    raw = json.dumps(document).encode()
    digest = _digest(raw)
    _ask(port, "PUT", f"/v2/{REPOSITORY}/manifests/{digest}", raw, MANIFEST)
    platform = {"os": "linux", "architecture": "amd64", "features": list(words)}
    return {"mediaType": MANIFEST, "digest": digest, "size": len(raw), "platform": platform}


def _put_index(port: int, builds: list[dict], version: int) -> str:
    document = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": builds,
        "annotations": {"version": str(version)},
    }
    raw = json.dumps(document).encode()
    digest = _digest(raw)
    _ask(port, "PUT", f"/v2/{REPOSITORY}/manifests/{digest}", raw, INDEX)
    return digest


def _put_blob(port: int, raw: bytes) -> dict:
    location = _ask(port, "POST", f"/v2/{REPOSITORY}/blobs/uploads/", b"", "")
    path = "/" + location.partition("://")[2].partition("/")[2]
    _ask(port, "PUT", f"{path}&digest={_digest(raw)}", raw, "application/octet-stream")
    return {"digest": _digest(raw), "size": len(raw)}


def _lay_blob(storage: Path, size: int) -> str:
    """Write bytes that do not compress as a blob of the repository."""
    piece = os.urandom(1 << 20)
    digest = hashlib.sha256()
    part = storage / "part"
    with part.open("wb") as file:
        for _ in range(size >> 20):
            digest.update(piece)
            file.write(piece)
    name = digest.hexdigest()
    data = storage / f"docker/registry/v2/blobs/sha256/{name[:2]}/{name}/data"
    data.parent.mkdir(parents=True)
    part.rename(data)
    link = storage / f"docker/registry/v2/repositories/{REPOSITORY}/_layers/sha256/{name}/link"
    link.parent.mkdir(parents=True)
    link.write_text(f"sha256:{name}")
    return f"sha256:{name}"


def _ask(port: int, method: str, path: str, raw: bytes, kind: str) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, raw, {"Content-Type": kind} if kind else {})
    answer = connection.getresponse()
    said = answer.read()
    if answer.status not in {201, 202}:
        raise AssertionError(f"{method} {path}: {answer.status} {said[:300]!r}")
    return answer.headers.get("Location", "")


def _digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"

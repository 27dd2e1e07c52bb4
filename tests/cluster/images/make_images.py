"""Makes the cluster's images from the files of the node it runs on and pushes them with skopeo.

Runs on the login node as root with the system's Python. The same files give the same digests.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_TYPE = "application/vnd.docker.{}+json"
_LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_EPOCH = "2020-01-01T00:00:00Z"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")

# The tags of the announcement and the words that each build was made for.
BENCH_TAGS = {
    "generic": "",
    "cpu-skylake": "cpu:skylake",
    "cpu-broadwell": "cpu:broadwell",
    "cpu_broadwell-nvcap_52": "cpu:broadwell,nvcap:5.2",
}

# The eleven images of the first post.
CV_TF_IMAGES = (
    "cv-tf-dev:1.12.0-rev11",
    "cv-tf-dev:skylake_1.12.0-rev6",
    "cv-nccl90-tf-dev:1.12.0-rev1",
    "cv-nccl92-tf-dev:1.12.0-rev11",
    "cv-nccl90-tf-dev:broadwell_1.12.0-rev2",
    "cv-nccl92-tf-dev:broadwell_1.12.0-rev8",
    "cv-nccl92-tf-dev:skylake_1.12.0-rev6",
    "cv-nccl92-tf-dev:skylake512_1.12.0-rev8",
    "cv-nccl92-tf-dev:nvcap52_1.12.0-rev3",
    "cv-nccl92-tf-dev:nvcap37_1.12.0-rev4",
    "cv-nccl92-tf-dev:broadwell_nvcap52_1.12.0-rev2",
)


@dataclass(frozen=True)
class Entry:
    """One path of a layer: a folder, a link or a file, by which of the last two is set."""

    path: str
    mode: int = 0o755
    link: str = ""
    content: bytes | None = None


@dataclass(frozen=True)
class Blob:
    """Content by digest, as the registry will know it."""

    content: bytes
    media_type: str

    @property
    def hex(self) -> str:
        """The hexadecimal part of the digest."""
        return hashlib.sha256(self.content).hexdigest()

    def descriptor(self) -> dict[str, object]:
        """How a manifest names it."""
        size = len(self.content)
        return {"mediaType": self.media_type, "size": size, "digest": f"sha256:{self.hex}"}


def busybox_entries() -> list[Entry]:
    """A root file system in which a shell and the usual small tools run."""
    listed = subprocess.run(["busybox", "--list"], check=True, capture_output=True, text=True)
    folders = "bin dev etc home proc root run sys usr usr/bin usr/lib var var/tmp"
    entries = [Entry(name) for name in folders.split()]
    entries.append(Entry("tmp", 0o1777))
    entries.append(Entry("bin/busybox", content=Path("/usr/bin/busybox").read_bytes()))
    applets = sorted(set(listed.stdout.split()) - {"busybox"})
    entries.extend(Entry(f"bin/{name}", link="busybox") for name in applets)
    entries.append(Entry("etc/passwd", 0o644, content=b"root:x:0:0:root:/root:/bin/sh\n"))
    entries.append(Entry("etc/group", 0o644, content=b"root:x:0:\n"))
    return entries


def bench_entries(words: str) -> list[Entry]:
    """The announcement's program: it says what hardware its image was built for."""
    made_for = (
        f"optimized for: {words}" if words else "not optimized for a specific microarchitecture"
    )
    script = f"#!/bin/sh\necho '>> This container is {made_for}'\n"
    return [Entry("usr/bin/bench", content=script.encode())]


def cv_tf_entries(image: str) -> list[Entry]:
    """A program in place of TensorFlow: it says in which of the eleven images it runs."""
    return [Entry("usr/bin/cv-tf", content=f"#!/bin/sh\necho '{image}'\n".encode())]


def app_entries() -> list[Entry]:
    """An image with a directory of its own, and an entrypoint that sets something up."""
    script = "#!/bin/sh\necho 'the app is set up'\nexport APP_READY=yes\nexec \"$@\"\n"
    return [Entry("app/enter", content=script.encode()), Entry("app/data", content=b"1\n")]


@dataclass(frozen=True)
class Mpi:
    """An MPI of this tree: the two programs made with it, its launcher, what it opens by name."""

    programs: Path
    tools: Mapping[str, str]
    opened: tuple[Path, ...]


OPEN_MPI = Mpi(
    Path("/usr/local/bin"),
    {"mpirun.openmpi": "mpirun", "prterun": "prterun", "prted": "prted"},
    (
        *(_LIBRARIES / "openmpi", _LIBRARIES / "pmix2", Path("/etc/openmpi")),
        *(Path("/usr/share/openmpi"), Path("/usr/share/pmix"), Path("/usr/share/prte")),
    ),
)
# UCX opens what it copies with; of that, the hardware's parts are of no use on these nodes.
MPICH = Mpi(
    Path("/usr/local/lib/cluster/mpich"),
    {"mpiexec.hydra": "mpiexec", "hydra_pmi_proxy": "hydra_pmi_proxy"},
    tuple(sorted((_LIBRARIES / "ucx").glob("libuct_cma.so*"))),
)


def mpi_entries(mpi: Mpi) -> list[Entry]:
    """The two MPI programs with all that they load: libraries, plugins, their settings."""
    binaries = {f"usr/bin/{name}": mpi.programs / name for name in ("pingpong", "mpihello")}
    binaries |= {f"usr/bin/{name}": Path("/usr/bin") / tool for tool, name in mpi.tools.items()}
    kept = {
        path
        for opened in mpi.opened
        for path in ((opened,) if opened.is_file() else opened.rglob("*"))
        if not path.is_dir() and path.suffix not in {".a", ".la", ".h", ".mod"}
    }
    loaded = [path for path in kept if ".so" in path.name and path.exists()]
    kept |= _needed_libraries([*binaries.values(), *loaded])
    if mpi is MPICH:
        # What the MPICH ABI calls it is the name that programs of other sites look for.
        kept.add(_LIBRARIES / "libmpi.so.12")
    entries = [_entry_of(path) for path in sorted(kept)]
    entries += [Entry(name, content=path.read_bytes()) for name, path in binaries.items()]
    merged = [Entry(name, link=f"usr/{name}") for name in ("lib", "lib64")]
    return [*merged, *entries]


def _needed_libraries(programs: Iterable[Path]) -> set[Path]:
    """What the dynamic linker would load: each file and all links that lead to it."""
    listed = subprocess.run(
        ["ldd", *map(str, programs)], check=False, capture_output=True, text=True
    ).stdout
    names = {Path(name) for name in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listed, re.MULTILINE)}
    return {link for name in names for link in _chain(name)}


def _chain(path: Path) -> Iterator[Path]:
    """The links from a name to its file; folders are resolved, since /lib is a link itself."""
    path = path.parent.resolve() / path.name
    yield path
    if path.is_symlink():
        yield from _chain(path.parent / path.readlink())


def _entry_of(path: Path) -> Entry:
    name = str(path).lstrip("/")
    if path.is_symlink():
        return Entry(name, link=str(path.readlink()))
    return Entry(name, path.stat().st_mode & 0o777, content=path.read_bytes())


def pack(entries: Iterable[Entry]) -> tuple[Blob, str]:
    """A gzipped layer with fixed times and owners, and the digest of its unpacked tar."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in _with_parents(entries):
            member = tarfile.TarInfo(entry.path)
            member.mode = entry.mode
            if entry.link:
                member.type, member.linkname = tarfile.SYMTYPE, entry.link
            elif entry.content is None:
                member.type = tarfile.DIRTYPE
            else:
                member.size = len(entry.content)
            archive.addfile(member, io.BytesIO(entry.content or b""))
    packed = gzip.compress(raw.getvalue(), compresslevel=6, mtime=0)
    return Blob(packed, _LAYER_TYPE), f"sha256:{hashlib.sha256(raw.getvalue()).hexdigest()}"


def _with_parents(entries: Iterable[Entry]) -> list[Entry]:
    found: dict[str, Entry] = {}
    for entry in entries:
        for parent in reversed(Path(entry.path).parents):
            found.setdefault(str(parent), Entry(str(parent)))
        found[entry.path] = entry
    found.pop(".", None)
    return list(found.values())


def push(name: str, layers: list[tuple[Blob, str]], settings: Mapping[str, object]) -> None:
    """Write one image as skopeo's folder form and copy it to the registry byte by byte."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": _EPOCH,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
        "history": [{"created": _EPOCH, "created_by": "make_images.py"} for _ in layers],
    }
    blob = Blob(_json(config), _TYPE.format("container.image.v1"))
    manifest = {
        "schemaVersion": 2,
        "mediaType": _TYPE.format("distribution.manifest.v2"),
        "config": blob.descriptor(),
        "layers": [layer.descriptor() for layer, _ in layers],
    }
    folder = Path("/run/images") / re.sub(r"\W", "-", name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part in (blob, *(layer for layer, _ in layers)):
        (folder / part.hex).write_bytes(part.content)
    (folder / "manifest.json").write_bytes(_json(manifest))
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests"]
    target = f"docker://{name}"
    subprocess.run([*copy, "--dest-tls-verify=false", f"dir:{folder}", target], check=True)
    shutil.rmtree(folder)


def _json(document: object) -> bytes:
    return json.dumps(document, indent=3).encode()


def main() -> None:
    """Push all images to the registry that the first argument names."""
    registry = sys.argv[1]
    busybox = pack(busybox_entries())
    for tag, words in BENCH_TAGS.items():
        settings = {"Env": [f"PATH={_PATH}", f"BENCH_MADE_FOR={words}"], "Cmd": ["bench"]}
        name = f"{registry}/qnib/plain-featuretest:{tag}"
        push(name, [busybox, pack(bench_entries(words))], settings)
    for image in CV_TF_IMAGES:
        settings = {"Env": [f"PATH={_PATH}"], "Cmd": ["cv-tf"]}
        push(f"{registry}/qnib/{image}", [busybox, pack(cv_tf_entries(image))], settings)
    app = {"Env": [f"PATH={_PATH}"], "Entrypoint": ["/app/enter"], "WorkingDir": "/app"}
    push(f"{registry}/app:latest", [busybox, pack(app_entries())], app)
    mpi = {"Env": [f"PATH={_PATH}"], "Cmd": ["mpihello"]}
    for name, kind in {"mpi": OPEN_MPI, "mpich": MPICH}.items():
        push(f"{registry}/{name}:latest", [busybox, pack(mpi_entries(kind))], mpi)


if __name__ == "__main__":
    main()

"""Builds the layers of the nodes' disks, each cached under the hash of what went into it.

base (Debian packages) <- python (the project's dependencies) <- site (users, stub, programs)
<- project (hpcimg, plugin, hooks). A layer is an overlay folder over the ones before it.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import mirror
from fault import ClusterFault
from layout import CHECKOUT, HERE, SUITE, Layout
from screen import phase, say
from workshop import Workshop, last_lines, scrap

PACKAGES = (
    *("busybox-static", "ca-certificates", "iproute2", "procps", "python3-venv"),
    *("slurmctld", "slurmd", "slurm-client", "munge"),
    *("docker-registry", "skopeo"),
    *("squashfs-tools", "squashfuse", "fuse-overlayfs", "fuse3"),
    *("gcc", "make", "libc6-dev", "libslurm-dev", "openmpi-bin", "libopenmpi-dev"),
    *("isal", "libisal-dev", "libzstd-dev", "zlib1g-dev", "libssl-dev"),
    *("mpich", "libmpich-dev"),
    *("zsh", "bash-completion", "groff-base", "man-db", "rpm"),
)
# Apptainer is only in Debian's unstable suite, which is asked for nothing else.
UNSTABLE_PACKAGES = ("apptainer",)
_BASE_FORM = "1"  # raise it when the steps of _make_base change
_KEPT_SECONDS = 30 * 24 * 3600
_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_PIP_VARIABLE = re.compile(
    r"^(PIP_|SSL_CERT_|REQUESTS_CA_BUNDLE$|(https?|no|all)_proxy$)", re.IGNORECASE
)


def build(layout: Layout) -> tuple[Path, ...]:
    """Make the layers that are missing; all of them, topmost first."""
    layout.trees.mkdir(parents=True, exist_ok=True)
    _sweep(layout.trees)
    layers: tuple[Path, ...] = ()
    for kind, inputs, text, make in (
        (
            "base",
            _base_key(layout.suite),
            f"building the tree of Debian {layout.suite} (minutes, once)",
            partial(_make_base, suite=layout.suite),
        ),
        ("python", _python_key(), "installing the Python dependencies", _make_python),
        ("site", _site_key(), "building the site's users, GPU stub and MPI programs", _make_site),
        ("project", _project_key(), "installing hpcimg, plugin and hooks", _make_project),
    ):
        key = _hash([inputs, *(layer.name for layer in layers)])
        layers = (_ensure(layout, f"{kind}-{key}", text, make, layers), *layers)
    return layers


def _ensure(
    layout: Layout,
    name: str,
    text: str,
    make: Callable[[Workshop], None],
    lowers: tuple[Path, ...],
) -> Path:
    tree = layout.trees / name
    if tree.is_dir():
        os.utime(tree)
        return tree
    temporary = layout.trees / f"{name}.tmp"
    scrap(temporary)
    log = layout.trees / f"{name}.log"
    log.unlink(missing_ok=True)
    with phase(text):
        temporary.mkdir(mode=0o755)
        make(Workshop(temporary, lowers, log))
        temporary.rename(tree)
        scrap(temporary)
    return tree


def _sweep(trees: Path) -> None:
    """Remove what an interrupted build left and what nobody has asked for in a month."""
    for path in trees.iterdir():
        is_old = path.is_dir() and time.time() - path.stat().st_mtime > _KEPT_SECONDS
        if ".tmp" in path.suffixes or is_old:
            shutil.rmtree(path)


def _hash(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _hash_files(*roots: Path) -> str:
    """One hash over names, modes and bytes of files; caches of tools do not count."""
    total = hashlib.sha256()
    for root in roots:
        paths = [root] if root.is_file() else sorted(root.rglob("*"))
        for path in paths:
            if (
                path.is_file()
                and "__pycache__" not in path.parts
                and path.suffix not in (".o", ".so")
            ):
                total.update(f"{path.relative_to(root.parent)} {path.stat().st_mode:o}\0".encode())
                total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


# -- base ------------------------------------------------------------------------------------


def _base_key(suite: str) -> str:
    return _hash([_BASE_FORM, suite, *PACKAGES, *UNSTABLE_PACKAGES])


def _make_base(shop: Workshop, suite: str) -> None:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise ClusterFault("the cluster's tree can only be built on Linux on an x86-64 machine")
    if not shutil.which("apt-get"):
        raise ClusterFault("the cluster's tree needs a Debian machine: there is no apt-get here")
    _install_debootstrap(shop)
    source = mirror.find_mirror(_codename())
    check = ["--no-check-gpg"] if source.is_trusted else [f"--keyring={source.keyring}"]
    bootstrap = ["debootstrap", "--variant=minbase", *check, suite, str(shop.upper), source.uri]
    with _fetching("the Debian tree", shop):
        shop.run_on_host(bootstrap, mirror.proxy_environment())
    _configure_apt(shop.upper, source, suite)
    for place in ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"):
        if Path("/", place).is_file():
            (shop.upper / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path("/", place), shop.upper / place)
    with _fetching("the tree's Debian packages", shop):
        shop.run(["apt-get", "update"])
        shop.run(["apt-get", "install", "-y", *PACKAGES])
        shop.run(["apt-get", "install", "-y", "-t", "unstable", *UNSTABLE_PACKAGES])
    shop.run(["apt-get", "clean"])
    shutil.rmtree(shop.upper / "var/lib/apt/lists")
    (shop.upper / "etc/resolv.conf").write_text("")  # the nodes have no way out


@contextlib.contextmanager
def _fetching(what: str, shop: Workshop) -> Iterator[None]:
    """Say in one sentence what could not be had; most often it is the network."""
    try:
        yield
    except ClusterFault:
        end = last_lines(shop.log, 1).strip()
        raise ClusterFault(
            f"{what} could not be fetched and installed ({end}): is there a network? See {shop.log}"
        ) from None


def _install_debootstrap(shop: Workshop) -> None:
    # An older keyring does not know the suite's keys.
    has_keys = mirror.KEYRING.with_name(f"debian-archive-{SUITE}-stable.gpg").is_file()
    if shutil.which("debootstrap") and has_keys:
        return
    say("debootstrap or its keys are missing: installing them with apt-get")
    with _fetching("debootstrap", shop):
        shop.run_on_host(["apt-get", "update"], {})
        shop.run_on_host(["apt-get", "install", "-y", "debootstrap", "debian-archive-keyring"], {})


def _codename() -> str:
    text = Path("/etc/os-release").read_text("utf-8")
    found = re.search(r"^VERSION_CODENAME=\"?(\w+)", text, re.MULTILINE)
    if not found:
        raise ClusterFault("the cluster's tree needs a Debian machine: /etc/os-release names none")
    return found[1]


def _configure_apt(root: Path, source: mirror.Mirror, suite: str) -> None:
    trusted = "trusted=yes " if source.is_trusted else ""
    if not source.is_trusted:
        target = root / "usr/share/keyrings/hpcimg-mirror.gpg"
        shutil.copy(source.keyring, target)
        trusted = "signed-by=/usr/share/keyrings/hpcimg-mirror.gpg "
    suites = (suite, "unstable") if suite == SUITE else (suite,)
    (root / "etc/apt/sources.list").write_text(
        "".join(
            f"deb [{trusted}check-valid-until=no] {source.uri} {name} main\n" for name in suites
        )
    )
    (root / "etc/apt/preferences.d/unstable").write_text(
        "Package: *\nPin: release a=unstable\nPin-Priority: 100\n"
    )
    (root / "etc/apt/apt.conf.d/90hpcimg").write_text(
        mirror.carried_settings()
        + 'APT::Install-Recommends "false";\nAcquire::Languages "none";\n'
        + 'DPkg::Options { "--force-unsafe-io"; };\n'
    )
    # Nothing may start while packages are installed.
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)


# -- python ----------------------------------------------------------------------------------


def dependencies(pyproject: str) -> list[str]:
    """The run-time dependencies that pyproject.toml lists, the hub's too (3.10 has no tomllib)."""
    found: list[str] = []
    for name in ("dependencies", "hub"):
        listed = re.search(rf"^{name} = (\[.*?^\])", pyproject, re.MULTILINE | re.DOTALL)
        if not listed:
            raise ClusterFault(f"pyproject.toml has no list named '{name}'")
        found += map(str, ast.literal_eval(listed[1]))
    return found


def _pyproject() -> str:
    return (CHECKOUT / "pyproject.toml").read_text("utf-8")


def _python_key() -> str:
    return _hash(dependencies(_pyproject()))


def _make_python(shop: Workshop) -> None:
    settings = _pip_environment()
    # The machine may trust a certificate that Debian does not; apt has no need of it by now.
    network = {path: str(path) for path in (Path("/etc/resolv.conf"), _CA_BUNDLE) if path.is_file()}
    shows = {**network, **_local_paths(settings)}
    shop.run(["python3", "-m", "venv", "/opt/hpcimg"])
    pip = ["/opt/hpcimg/bin/python", "-m", "pip", "install", "--no-cache-dir", "--compile"]
    with _fetching("the Python dependencies", shop):
        shop.run([*pip, *dependencies(_pyproject())], settings, shows)


def _pip_environment() -> dict[str, str]:
    """The host's pip configuration, files and variables alike, as pip's variables."""
    found: dict[str, str] = {}
    listing = subprocess.run(
        ["python3", "-m", "pip", "config", "list"], check=False, capture_output=True, text=True
    )
    for line in listing.stdout.splitlines():
        match = re.match(r"(?:global|install)\.([\w-]+)=(.*)", line)
        if match:
            value = str(ast.literal_eval(match[2]))
            found["PIP_" + match[1].upper().replace("-", "_")] = " ".join(value.split())
    found.update({key: value for key, value in os.environ.items() if _PIP_VARIABLE.match(key)})
    return {"PIP_DISABLE_PIP_VERSION_CHECK": "1", **found}


def _local_paths(settings: Mapping[str, str]) -> dict[Path, str]:
    """Folders and files of the host that pip's settings point at, to be shown in the tree."""
    words = [word for value in settings.values() for word in value.split()]
    paths = {Path(word) for word in words if word.startswith("/")}
    # An index of pages has its files in a sibling folder as often as not.
    paths |= {
        Path(word.removeprefix("file://")).parent for word in words if word.startswith("file:///")
    }
    usual = {_CA_BUNDLE, _CA_BUNDLE.parent, Path("/")}
    return {path: str(path) for path in sorted(paths - usual) if path.exists()}


# -- site ------------------------------------------------------------------------------------


def _site_key() -> str:
    return _hash_files(HERE / "etc", HERE / "images", *sorted(HERE.glob("*_stub.c")))


def _make_site(shop: Workshop) -> None:
    shop.run(["/bin/sh", "/mnt/cluster/etc/site.sh"], shows={HERE: "/mnt/cluster"})
    (shop.upper / "mnt/cluster").rmdir()


# -- project ---------------------------------------------------------------------------------


def _project_key() -> str:
    names = ("hpcimg", "spank", "prolog", "merge")
    roots = [CHECKOUT / name for name in names if (CHECKOUT / name).is_dir()]
    script = HERE / "etc/project.sh"
    return _hash([_hash_files(*roots), _hash_files(CHECKOUT / "pyproject.toml", script)])


def _make_project(shop: Workshop) -> None:
    shop.run(
        ["/bin/sh", "/mnt/checkout/tests/cluster/etc/project.sh"], shows={CHECKOUT: "/mnt/checkout"}
    )
    (shop.upper / "mnt/checkout").rmdir()

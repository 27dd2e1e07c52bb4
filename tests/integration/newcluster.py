"""A cluster before hpcimg: the cluster in a folder, with all of it taken away again.

Nodes have no network, so the packages that pip will ask for lie in a folder of theirs, named in
/etc/pip.conf, as they would be on a mirror of the site.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from conftest import COMMAND, Cluster

NODES = ("login", "bdw1")

# What `cluster up` installed; the account and Slurm's lines are the administrator's to make.
_TAKE_AWAY = """
set -e
rm -rf /opt/hpcimg /usr/local/bin/hpcimg /usr/local/lib/hpcimg /usr/local/libexec/hpcimg
rm -f /etc/hpcimg/settings.yaml
userdel hpcimg
: >/etc/slurm/plugstack.conf
sed -i -E '/^(Prolog|Epilog|PrologFlags|AuthInfo)=/d' /etc/slurm/slurm.conf
printf '[global]\\nno-index = true\\nfind-links = /root/wheels\\n' >/etc/pip.conf
cat >/usr/local/sbin/systemctl <<'END'
#!/bin/sh
# There is no systemd in these nodes: run what the unit would.
for unit; do :; done
[ "$1 $2" = "enable --now" ] || exit 2
eval "$(sed -n 's/^ExecStart=//p' "/etc/systemd/system/$unit")"
END
chmod 0755 /usr/local/sbin/systemctl
"""


def make_new_cluster(cluster: Cluster, checkout: Path) -> None:
    """Start it, take hpcimg away, and put a checkout into root's home on two nodes."""
    done = cluster.verb("up")
    assert done.returncode == 0, done.stderr
    names = [
        "hpcimg",
        "spank",
        "merge",
        "prolog",
        "docs",
        "examples",
        "packaging",
        "pyproject.toml",
        "CHANGELOG.md",
        "README.md",
        "LICENSE",
    ]
    listing = ["git", "-C", checkout, "ls-files", "-zco", "--exclude-standard", *names]
    sources = subprocess.run(listing, check=True, capture_output=True).stdout
    pack = ["tar", "-C", checkout, "--null", "-T", "-", "-c"]
    archive = subprocess.run(pack, input=sources, check=True, capture_output=True).stdout
    wheels = subprocess.run(
        ["tar", "-C", _wheels(cluster, checkout), "-c", "."], check=True, capture_output=True
    ).stdout
    for node in NODES:
        done = cluster.shell(_TAKE_AWAY, node=node, user="root")
        assert done.returncode == 0, done.stdout + done.stderr
        _unpack(cluster, node, "/root/hpcimg", archive)
        _unpack(cluster, node, "/root/wheels", wheels)


def _unpack(cluster: Cluster, node: str, folder: str, archive: bytes) -> None:
    script = f"mkdir -p {folder} && tar -x --no-same-owner -C {folder}"
    subprocess.run(
        [COMMAND, "exec", "-n", node, "-u", "root", "--", "sh", "-c", script],
        input=archive,
        env={**os.environ, "HPCIMG_CLUSTER": cluster.folder},
        check=True,
    )


def _wheels(cluster: Cluster, checkout: Path) -> Path:
    """The project's dependencies for the nodes' Python, fetched once with this machine's pip."""
    version = cluster.run("python3", "-c", "import sys; print('%d%d' % sys.version_info[:2])")
    project = checkout / "pyproject.toml"
    key = hashlib.sha256(project.read_bytes() + version.stdout.encode()).hexdigest()[:12]
    cache = os.environ.get("HPCIMG_CACHE") or Path.home() / ".cache" / "hpcimg"
    folder = Path(cache) / f"wheels-{key}"
    if not (folder / "complete").exists():
        pip = [sys.executable, "-m", "pip", "download", "-qq", "--only-binary=:all:"]
        pip += [f"--platform={name}_x86_64" for name in ("manylinux_2_28", "manylinux2014")]
        pip += [f"--python-version={version.stdout.strip()}", "-d", str(folder)]
        subprocess.run([*pip, *_requirements(project)], check=True)
        (folder / "complete").touch()
    return folder


def _requirements(project: Path) -> list[str]:
    """What pip will want: the build's tool and the dependencies, as pyproject.toml lists them."""
    listed = project.read_text("utf-8").partition("\ndependencies = [")[2].partition("\n]")[0]
    return ["setuptools>=68", "wheel", *(line.strip(' ",') for line in listed.split("\n") if line)]

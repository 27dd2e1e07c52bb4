"""Fills the folders that all nodes share: homes, the store's place, Slurm's and our settings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import cgroups
from layout import HERE, Layout

_HOMES = {"alice": 1001, "bob": 1002}
_STORE_ACCOUNT = 980

_WITH_CGROUPS = """\
ProctrackType=proctrack/cgroup
TaskPlugin=task/affinity,task/cgroup
"""
_WITHOUT_CGROUPS = """\
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
"""
_CGROUP_CONF = """\
CgroupPlugin=cgroup/v1
ConstrainCores=yes
ConstrainRAMSpace=yes
"""


def lay_out(layout: Layout, layers: Sequence[Path], config: Path | None) -> None:
    """Write the shared folders' files; files in ``config`` go before those in etc/.

    Homes and the store stay as they are: the caller removes them when the cluster shall be new.
    """
    os.umask(0o022)
    for name in ("slurm", "hpcimg", "munge"):
        shutil.rmtree(layout.shared / name, ignore_errors=True)
    for name in ("home", "srv", "slurm", "hpcimg", "munge"):
        (layout.shared / name).mkdir(parents=True, exist_ok=True)
    layout.registry.mkdir(exist_ok=True)
    for user, number in _HOMES.items():
        _own(layout.shared / "home" / user, number, 0o755)
    _own(layout.shared / "srv", _STORE_ACCOUNT, 0o755)
    _write_munge_key(layout.shared / "munge", layers)
    _write(layout.shared / "hpcimg", "settings.yaml", config)
    _write(layout.shared / "slurm", "gres.conf", config)
    _write_slurm(layout.shared / "slurm", layers, config)
    for path in config.iterdir() if config else ():
        is_ours = path.suffix in (".yaml", ".yml") and path.name != "namespace.yaml"
        folder = layout.shared / ("hpcimg" if is_ours else "slurm")
        if path.is_file() and not (HERE / "etc" / path.name).exists():
            shutil.copy(path, folder / path.name)


def _own(folder: Path, number: int, mode: int) -> None:
    folder.mkdir(exist_ok=True)
    os.chown(folder, number, number)
    folder.chmod(mode)


def _template(name: str, config: Path | None) -> str:
    own = config / name if config else None
    return (own if own and own.is_file() else HERE / "etc" / name).read_text("utf-8")


def _write(folder: Path, name: str, config: Path | None) -> None:
    (folder / name).write_text(_template(name, config))


def _write_munge_key(folder: Path, layers: Sequence[Path]) -> None:
    passwd = (layers[-1] / "etc/passwd").read_text("utf-8")
    row = next(line.split(":") for line in passwd.splitlines() if line.startswith("munge:"))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    for path, mode in ((key, 0o400), (folder, 0o700)):
        os.chown(path, int(row[2]), int(row[3]))
        path.chmod(mode)


def _write_slurm(folder: Path, layers: Sequence[Path], config: Path | None) -> None:
    has_cgroups = bool(cgroups.hierarchies())
    text = _template("slurm.conf", config)
    text = text.replace("@CGROUPS@", _WITH_CGROUPS if has_cgroups else _WITHOUT_CGROUPS)
    (folder / "slurm.conf").write_text(text.replace("@HOOKS@", _hooks(layers)))
    (folder / "cgroup.conf").write_text(_CGROUP_CONF if has_cgroups else "CgroupPlugin=disabled\n")
    plugin = "/usr/local/lib/hpcimg/hpcimg.so"
    (folder / "plugstack.conf").write_text(
        f"required {plugin}\n"
        if _in_tree(layers, plugin)
        else "# hpcimg's plugin is not built yet\n"
    )


def _hooks(layers: Sequence[Path]) -> str:
    hooks = {
        "Prolog": "/usr/local/libexec/hpcimg/prolog",
        "Epilog": "/usr/local/libexec/hpcimg/epilog",
    }
    return "\n".join(f"{key}={path}" for key, path in hooks.items() if _in_tree(layers, path))


def _in_tree(layers: Sequence[Path], path: str) -> bool:
    return any((layer / path.lstrip("/")).exists() for layer in layers)

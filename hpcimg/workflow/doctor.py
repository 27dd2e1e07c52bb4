"""`hpcimg doctor`: is everything in order on this machine, and on nodes that Slurm can reach?

Joins what is read of a machine as root, what is read as the store's account, and what nodes said.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hpcimg import slurm_site
from hpcimg.doctor import slurm_conf
from hpcimg.doctor.compare import MARK, compare
from hpcimg.doctor.finding import FAIL, UNKNOWN, WARN, Finding, Report, Row, is_fit, rows_of
from hpcimg.errors import RuntimeFailure, SettingsError
from hpcimg.settings import (
    DEFAULT_PATH,
    PATH_VARIABLE,
    Settings,
    has_site_file,
    read_settings,
    settings_files,
)
from hpcimg.slurm import node_name
from hpcimg.store.trial import scratch
from hpcimg.workflow.access import become_account
from hpcimg.workflow.doctor_machine import Machine
from hpcimg.workflow.doctor_nodes import Asked
from hpcimg.workflow.doctor_site import (
    examine_registries,
    examine_room,
    examine_stage,
    examine_store,
    leave_mark,
)

_OURS = b"hpcimg"


@dataclass(frozen=True)
class Diagnosis:
    """All that was found, worst first, and which machines were looked at."""

    rows: tuple[Row, ...] = ()
    hosts: tuple[str, ...] = field(default=())

    @property
    def is_fit(self) -> bool:
        """Whether nothing failed."""
        return is_fit(self.rows)


def examine_machine(environment: Mapping[str, str], token: str) -> Report:
    """Look at this machine; root becomes the store's account on the way, for good."""
    return _examine(*_settings(environment), environment, token)


def _examine(
    settings: Settings | None, found: list[Finding], environment: Mapping[str, str], token: str
) -> Report:
    host = node_name(environment) or os.uname().nodename
    machine = Machine(settings or Settings(), environment)
    machine.findings += found
    machine.facts |= _facts(settings, environment)
    machine.look(("plugin", machine.plugin), ("switch", machine.switch))
    if settings is not None:
        become_account(settings)
    machine.look(("apptainer", machine.apptainer), ("fuse", machine.kernel))
    if settings is not None:
        machine.look(
            ("store", partial(examine_store, settings)),
            ("space", partial(examine_room, settings)),
            ("stage", partial(examine_stage, settings)),
            ("registry", partial(examine_registries, settings, environment)),
        )
        machine.facts |= leave_mark(settings, token, host)
    return Report(host, tuple(machine.findings), machine.facts)


def diagnose(environment: Mapping[str, str], token: str, asked: Asked) -> Diagnosis:
    """Look at this machine, and put what nodes said beside it."""
    settings, found = _settings(environment)
    findings = list(asked.findings) + _slurm_findings(settings, environment)
    own = _examine(settings, found, environment, token)
    # A machine that is also among the nodes has been looked at already.
    reports = [own, *(one for one in asked.reports if one.host != own.host)]
    is_shared = settings is None or settings.store.shared
    if is_shared and len(reports) > 1 and not any(MARK in one.facts for one in reports):
        what = "whether the machines share one store was not tried: only root may write to it"
        findings.append(Finding("shared store", UNKNOWN, what, "run it as root"))
    rows = rows_of([*reports, *asked.silent, *compare(reports)], findings)
    if settings is not None:
        shutil.rmtree(scratch(Path(settings.store.path), token), ignore_errors=True)
    return Diagnosis(rows, tuple(sorted(one.host for one in reports)))


def _settings(environment: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    try:
        settings = read_settings(environment)
    except SettingsError as error:
        return None, [Finding("settings", FAIL, error.message, error.hint)]
    if not environment.get(PATH_VARIABLE) and not has_site_file():
        what = f'there is no settings file "{DEFAULT_PATH}": jobs may ask no registry'
        change = "copy examples/slurm/settings.yaml there and say where store and registries are"
        return settings, [Finding("settings", WARN, what, change)]
    return settings, [Finding("settings", "ok", "the settings can be read")]


def _facts(settings: Settings | None, environment: Mapping[str, str]) -> dict[str, str]:
    facts = {}
    if settings is not None:
        texts = [file.text.encode() for file in settings_files(environment)]
        facts["settings"] = hashlib.sha256(b"\0".join(texts)).hexdigest()[:12]
        try:
            account = pwd.getpwnam(settings.store.account)
        except KeyError:
            return facts
        facts["account uid"] = f"{account.pw_uid}:{account.pw_gid}"
    return facts


def _slurm_findings(settings: Settings | None, environment: Mapping[str, str]) -> list[Finding]:
    """Ask Slurm's controller for what it has of all machines."""
    if slurm_site.config_folder(environment) is None:
        return []
    try:
        config = slurm_conf.parse_config(slurm_site.config_text())
    except RuntimeFailure as error:
        what = f"Slurm's controller does not say how it is configured: {error.message}"
        return [Finding("slurm", UNKNOWN, what, "is slurmctld running? try `scontrol ping`")]
    mount = settings.mount if settings else "fuse"
    return slurm_conf.judge_config(config, _hooks(config), mount)


def _hooks(config: Mapping[str, str]) -> tuple[slurm_conf.Hook, ...]:
    return tuple(
        slurm_conf.Hook(kind, str(path), _is_ours(path, kind.lower()))
        for kind in ("Prolog", "Epilog")
        for word in filter(None, config.get(kind, "").split(","))
        for path in _matching(word)
    )


def _matching(word: str) -> Sequence[Path]:
    """Give the files of a name that Slurm may have as a pattern."""
    path = Path(word)
    found = sorted(path.parent.glob(path.name)) if path.is_absolute() else []
    return found or [path]


def _is_ours(path: Path, kind: str) -> bool | None:
    """Tell whether a hook is ours, or calls it; None where it cannot be read from here."""
    try:
        text = path.read_bytes()
    except OSError:
        return None if path.name != kind or "hpcimg" not in path.parts else True
    return _OURS in text

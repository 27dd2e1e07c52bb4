"""Judges Slurm's own configuration: prolog flags and time-outs that hurt, and what prune may see.

It must not know how Slurm is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hpcimg.doctor.finding import FAIL, NOTE, OK, UNKNOWN, WARN, Finding

_PAIR = re.compile(r"^(\w+)(\[\d+\])? *= *(.*?) *$", re.MULTILINE)
_NUMBER = re.compile(r"\d+")
_NOTHING = {"(null)", "none", "N/A"}
_UNLIMITED = 65_534
_LEAST = {
    "MessageTimeout": (10, "nodes that are busy converting an image answer late"),
    "BatchStartTimeout": (10, "a batch job starts only after its prolog"),
    "PrologEpilogTimeout": (30, "Slurm drains the node of a prolog or epilog that took longer"),
    "TCPTimeout": (2, "srun gives up on nodes that are busy"),
}
_WITH_ALLOC = {"alloc", "contain", "x11", "nohold", "runinjob"}
"""Alloc, and the flags that imply it."""
_CREDENTIAL_SECONDS = 300
_CREDENTIAL_DEFAULT = 120
_HOOKS = {
    "Prolog": "a job's first step fetches its image, and each step starts Python",
    "Epilog": "`hpcimg job` lacks the steps, and tickets and kernel mounts stay",
}


@dataclass(frozen=True)
class Hook:
    """One prolog or epilog that Slurm names; `is_ours` None: it could not be read from here."""

    kind: str
    path: str
    is_ours: bool | None


def parse_config(text: str) -> dict[str, str]:
    """Read what `scontrol show config` prints; several values of a list are joined by commas."""
    found: dict[str, str] = {}
    for key, number, word in _PAIR.findall(text):
        value = "" if word in _NOTHING else word
        found[key] = f"{found[key]},{value}" if number and found.get(key) else value
    return found


def judge_config(config: Mapping[str, str], hooks: tuple[Hook, ...], mount: str) -> list[Finding]:
    """Say what of Slurm's configuration hurts a site with hpcimg; `mount` is its setting."""
    return [
        *_flags(config),
        *_hooks(hooks, mount),
        *_timeouts(config),
        *_others(config),
    ]


def _flags(config: Mapping[str, str]) -> Iterator[Finding]:
    flags = {flag.lower() for flag in config.get("PrologFlags", "").split(",") if flag}
    if "serial" in flags:
        what = "PrologFlags has Serial: one prolog at a time, so jobs on a node wait for each other"
        yield Finding("prolog flags", FAIL, what, "take Serial out of PrologFlags in slurm.conf")
    if not flags & _WITH_ALLOC:
        what = "PrologFlags lacks Alloc: prologs run at a job's first step, which waits for them"
        change = "write PrologFlags=Alloc into slurm.conf (Contain has it too)"
        yield Finding("prolog flags", WARN, what, change)
    elif "serial" not in flags:
        yield Finding("prolog flags", OK, f"PrologFlags={config['PrologFlags']}")


def _hooks(hooks: tuple[Hook, ...], mount: str) -> Iterator[Finding]:
    for kind, lost in _HOOKS.items():
        named = [hook for hook in hooks if hook.kind == kind]
        check = kind.lower()
        ours = [hook for hook in named if hook.is_ours]
        change = f"write {kind}=/usr/local/libexec/hpcimg/{check} into slurm.conf, or call it there"
        if ours:
            yield Finding(check, OK, f"Slurm starts {ours[0].path}")
        elif any(hook.is_ours is None for hook in named):
            paths = ", ".join(hook.path for hook in named)
            what = f"whether {paths} calls hpcimg's {check} cannot be seen from here"
            yield Finding(check, UNKNOWN, what, f"run hpcimg doctor as root on a node; {change}")
        else:
            is_needed = mount == "kernel" and kind == "Epilog"
            what = f"Slurm does not start hpcimg's {check}: {lost}"
            yield Finding(check, FAIL if is_needed else WARN, what, change)


def _timeouts(config: Mapping[str, str]) -> Iterator[Finding]:
    bad = False
    for key, (least, why) in _LEAST.items():
        seconds = _seconds(config.get(key, ""))
        if seconds is not None and 0 < seconds < least:
            bad = True
            what = f"{key} is {seconds} s: {why}"
            change = f"write {key}={least} or more into slurm.conf"
            yield Finding("time-outs", WARN, what, change)
    life = re.search(r"cred_expire=(\d+)", config.get("AuthInfo", ""))
    seconds = int(life[1]) if life else _CREDENTIAL_DEFAULT
    if seconds < _CREDENTIAL_SECONDS:
        bad = True
        what = f"AuthInfo's cred_expire is {seconds} s: a step whose first fetch is longer fails"
        change = "write AuthInfo=cred_expire=600 into slurm.conf"
        yield Finding("time-outs", WARN, what, change)
    if not bad:
        yield Finding("time-outs", OK, "Slurm's time-outs leave room for a first fetch")


def _others(config: Mapping[str, str]) -> Iterator[Finding]:
    if config.get("ProctrackType") == "proctrack/pgid":
        what = "ProctrackType=proctrack/pgid loses processes that leave their group"
        yield Finding("slurm", WARN, what, "use proctrack/cgroup, or proctrack/linuxproc")
    hidden = config.get("PrivateData", "").split(",")
    if "jobs" in hidden:
        what = "PrivateData=jobs hides other users' jobs: only root may prune the store"
        yield Finding("slurm", NOTE, what, "let root's timer run `hpcimg cache prune`")
    if config.get("DisableRootJobs", "").lower() in {"yes", "1"}:
        what = "DisableRootJobs=yes: root's doctor cannot ask nodes through Slurm"
        yield Finding("slurm", NOTE, what, "run `hpcimg doctor` on each node")


def _seconds(text: str) -> int | None:
    found = _NUMBER.match(text)
    if found is None or int(found[0]) >= _UNLIMITED:
        return None
    return int(found[0])

"""`hpcimg doctor --store`: is this directory fit for a site's store, and is its lock safe there?

Joins the trial, which two processes play, Slurm, which starts them on two nodes, and what can be
read from here.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcimg.doctor.finding import FAIL, NOTE, OK, UNKNOWN, WARN, Finding
from hpcimg.doctor.machine import Space, judge_space
from hpcimg.errors import RuntimeFailure, StoreError
from hpcimg.process import Completed, failure, run
from hpcimg.settings import StoreSettings
from hpcimg.slurm import pair_argv
from hpcimg.store.account import uid_of
from hpcimg.store.faults import free_bytes, size_text
from hpcimg.store.ground import MOUNTS, mount_of, weak_folders, weak_places
from hpcimg.store.lease import LEASES
from hpcimg.store.owner import current_owner
from hpcimg.store.store import BLOBS, LOCKS, QUARANTINE, TEMPORARY

_SECONDS = 300.0
_CLOCK_SECONDS = 5.0
_LOCKS = {
    "flock": ("flock here", "flock excludes", "flock comes back"),
    "fcntl": ("fcntl here", "fcntl excludes", "fcntl comes back"),
    "link": ("exclusive",),
    "none": ("rename onto",),
}
_NEEDED = {
    "rename over": "a file takes another's place by a rename, and all nodes see it",
    "rename directory": "a directory is renamed, and all nodes see it",
    "rename onto": "a directory cannot be renamed onto one that is there",
    "exclusive": "of all that make a file at once one does",
    "link": "of all that link to a name at once one does",
    "fsync": "files and directories are brought to the disk",
}
_USEFUL = {
    "open file stays": "who has a file open keeps it when another takes its place",
    "attributes": "files have attributes of their own (xattr)",
    "verity": "the kernel can check files against changes (fs-verity)",
}
_BONDS = {"files": "other files (Landlock)", "calls": "other system calls (seccomp)"}
_MORE_BONDS = {"network": "the network, by a namespace of its own"}


@dataclass(frozen=True)
class Health:
    """All that was found; `safe` are the kinds of lock that excluded, `where` says where tried."""

    findings: tuple[Finding, ...]
    safe: tuple[str, ...]
    where: str

    @property
    def is_fit(self) -> bool:
        """Whether nothing failed."""
        return all(one.state != FAIL for one in self.findings)


@dataclass(frozen=True)
class Trial:
    """What the two roles saw, or why there was none; `is_between` says that nodes were between."""

    seen: tuple[dict[str, Any], ...] = ()
    is_between: bool = False
    why: str = ""

    def answer(self, name: str) -> bool | str | None:
        """Give how a try went: true, or what was wrong; None when it was not tried."""
        found = [one["answers"][name] for one in self.seen if name in one["answers"]]
        wrong = [one for one in found if one is not True]
        return wrong[0] if wrong else (True if found else None)


def try_out(root: Path, nodes: Sequence[str], partition: str | None) -> tuple[Trial, ...]:
    """Try the store on pairs of nodes, the first with each other one.

    To be called before root becomes the store's account, since Slurm may know no such user.
    """
    if not nodes:
        return (_between(root, [], partition),)
    pairs = [[nodes[0], other] for other in nodes[1:]] or [[nodes[0], nodes[0]]]
    return tuple(_between(root, pair, None) for pair in pairs)


def try_alone(root: Path) -> Trial:
    """Try the store with two processes of this machine."""
    token = current_owner().token(os.urandom(8).hex())
    with ThreadPoolExecutor(2) as both:
        done = list(both.map(lambda role: _start(_words(root, token, str(role))), (0, 1)))
    return _read(done, is_between=False)


def examine(
    root: Path, settings: StoreSettings, trials: Sequence[Trial], *others: Finding
) -> Health:
    """Judge what was tried and what can be read; the lock's setting has to be among the safe."""
    findings = [*look(root, settings), *others]
    where = _where(trials)
    for trial in trials:
        findings += _tried(trial)
        findings += _nodes(trial, settings)
    # A trial that could not be made, for a node's wrong name, says nothing of locks.
    made = [trial for trial in trials if trial.seen]
    safe = tuple(kind for kind in _LOCKS if made and all(_is_safe(kind, one) for one in made))
    findings.append(_lock(settings.lock, safe, trials))
    # Pairs of nodes mostly agree.
    return Health(tuple(dict.fromkeys(findings)), safe, where)


def look(root: Path, settings: StoreSettings) -> list[Finding]:
    """Judge what can be read of a store from here, without any trial."""
    owner = uid_of(settings.account)
    return [
        _account(settings),
        *_places(root, os.geteuid() if owner is None else owner),
        *_file_system(root, settings),
    ]


def _between(root: Path, nodes: Sequence[str], partition: str | None) -> Trial:
    token = current_owner().token(os.urandom(8).hex())
    done = _start(pair_argv(nodes, partition, _words(root, token, "rank")))
    return _read([done], is_between=True)


def _words(root: Path, token: str, role: str) -> list[str]:
    program = [sys.executable, "-I", "-m", "hpcimg", "doctor"]
    return [*program, "--store", str(root), "--token", token, "--role", role]


def _start(argv: list[str]) -> Completed | RuntimeFailure:
    try:
        done = run(argv, cwd="/", timeout=_SECONDS, check=False)
    except RuntimeFailure as error:
        return error
    return done if done.returncode == 0 else failure(argv, done.returncode, done.stderr)


def _read(results: Sequence[Completed | RuntimeFailure], *, is_between: bool) -> Trial:
    seen = []
    for done in results:
        if isinstance(done, RuntimeFailure):
            return Trial(is_between=is_between, why=_why(done.message))
        seen += [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
    if len(seen) != 2:
        return Trial(is_between=is_between, why="the two processes did not both say what they saw")
    seen.sort(key=lambda one: int(one["role"]))
    return Trial(tuple(seen), is_between)


def _why(message: str) -> str:
    """Keep of what srun and both processes said the words of ours, each once, hints last."""
    ours = re.findall(r"hpcimg: (hint: )?(.*?)(?=; |$)", message)
    return (
        "; ".join(dict.fromkeys(said for _, said in sorted(ours, key=lambda one: one[0])))
        or message
    )


def _account(settings: StoreSettings) -> Finding:
    uid = uid_of(settings.account)
    if uid is None:
        what = f'"{settings.account}" does not exist on this machine'
        change = f"useradd --system {settings.account}, with the same uid on all machines"
        return Finding("account", FAIL, what, change)
    if uid == 0:
        what = "the store belongs to root: use an account of its own"
        return Finding("account", WARN, what, "name one as store: {account: ...} in the settings")
    return Finding("account", OK, f"{settings.account} has uid {uid}")


def _places(root: Path, owner: int) -> list[Finding]:
    """Look at the way to the store, and at its own directories."""
    closed = frozenset({LOCKS, TEMPORARY, QUARANTINE, BLOBS, LEASES})
    try:
        weak = [*weak_places(root, owner), *weak_folders(root, owner, closed)]
    except OSError as error:
        return [Finding("owners", FAIL, f'could not look at "{root}": {error.strerror}')]
    if not weak:
        return [Finding("owners", OK, "only root and the account can change the store, or move it")]
    change = f"chown {owner} what it names, and chmod go-w; what is the store's alone is go-rwx"
    return [Finding("owners", FAIL, what, change) for what in weak]


def _file_system(root: Path, settings: StoreSettings) -> list[Finding]:
    found = mount_of(root.resolve(), MOUNTS.read_text(encoding="utf-8", errors="replace"))
    findings = []
    if found is not None:
        about = f"{found.kind} at {found.point}"
        options = found.options
        if "ro" in options:
            what, change = (
                f"{about} is mounted read-only here",
                f"mount -o remount,rw {found.point}",
            )
            findings.append(Finding("mount", FAIL, what, change))
        elif options & {"nolock", "local_lock=all", "local_lock=flock", "localflock"}:
            what = f"{about}: locks are this node's alone (nolock, local_lock or localflock)"
            change = "mount it without these options, or set store: {lock: link}"
            findings.append(Finding("mount", WARN, what, change))
        else:
            extra = ", ".join(sorted(options & {"noexec", "nosuid", "nodev"}))
            findings.append(Finding("mount", OK, f"{about}{', ' + extra if extra else ''}"))
    return [*findings, *_room(root, settings)]


def _room(root: Path, settings: StoreSettings) -> list[Finding]:
    status = os.statvfs(root)
    free = free_bytes(root)
    files = status.f_favail if status.f_files else None
    findings = [judge_space(Space("store", str(root), free, size_text(free), files))]
    size = status.f_blocks * status.f_frsize
    if settings.high_water > size:
        what = f"high_water is more than the file system's {size_text(size)}: prune never begins"
        change = "lower store: {high_water: ...} in the settings"
        findings.append(Finding("space", WARN, what, change))
    return findings


def _where(trials: Sequence[Trial]) -> str:
    pairs = [" and ".join(one["host"] for one in trial.seen) for trial in trials if trial.seen]
    if not pairs:
        return "nothing was tried"
    if not all(trial.is_between for trial in trials):
        return f"tried with two processes on {pairs[0].split(' and ', maxsplit=1)[0]} alone"
    return f"tried between {'; '.join(pairs)}"


def _tried(trial: Trial) -> list[Finding]:
    if not trial.seen:
        return [Finding("trial", FAIL if trial.is_between else UNKNOWN, trial.why)]
    findings = []
    hosts = " and ".join(dict.fromkeys(str(one["host"]) for one in trial.seen))
    for name, what in {**_NEEDED, **_USEFUL}.items():
        answer = _races(trial, name)
        if answer is True:
            findings.append(Finding(name, OK, what))
        else:
            said = f" ({answer})" if isinstance(answer, str) else ""
            state = FAIL if name in _NEEDED and name != "link" else NOTE
            findings.append(Finding(name, state, f"not so on {hosts}: {what}{said}"))
    return findings


def _races(trial: Trial, name: str) -> bool | str | None:
    from hpcimg.store.trial import ROUNDS

    answer = trial.answer(name)
    if name not in {"exclusive", "link"} or answer is not True:
        return answer
    wins = sum(int(one["wins"].get(name, 0)) for one in trial.seen)
    return True if wins == ROUNDS else f"{wins} of {ROUNDS} were made"


def _nodes(trial: Trial, settings: StoreSettings) -> list[Finding]:
    """Compare the two nodes: the account's number, and their clocks."""
    if not trial.seen or not trial.is_between:
        return []
    hosts = [str(one["host"]) for one in trial.seen]
    findings = []
    if hosts[0] == hosts[1]:
        findings.append(Finding("nodes", WARN, f"both processes ran on {hosts[0]}"))
    uids = {one["host"]: one["account"] for one in trial.seen}
    if len({*uids.values(), uid_of(settings.account)}) > 1:
        text = ", ".join(f"{host}: {uid}" for host, uid in uids.items())
        what = f"{settings.account} has not the same uid everywhere ({text})"
        findings.append(Finding("account", FAIL, what))
    apart = abs(float(trial.seen[0]["clock"]) - float(trial.seen[1]["clock"]))
    state = OK if apart < _CLOCK_SECONDS else WARN
    findings.append(Finding("clocks", state, f"{apart:.1f} s apart on {' and '.join(hosts)}"))
    return findings


def _is_safe(kind: str, trial: Trial) -> bool:
    return all(_races(trial, name) is True for name in _LOCKS[kind])


def _lock(setting: str, safe: Sequence[str], trials: Sequence[Trial]) -> Finding:
    if not any(trial.seen for trial in trials):
        return Finding("lock", UNKNOWN, f"store: {{lock: {setting}}} was not tried")
    text = ", ".join(safe) or "no kind"
    if setting not in safe:
        what = f"store: {{lock: {setting}}} is not safe here; safe: {text}"
        return Finding("lock", FAIL, what)
    if not all(trial.is_between for trial in trials):
        what = f"{setting} works on this machine; nothing was tried between nodes"
        return Finding("lock", UNKNOWN, what)
    if not all(trial.seen for trial in trials):
        return Finding("lock", UNKNOWN, f"{setting} works where it was tried; not all nodes were")
    return Finding("lock", OK, f"store: {{lock: {setting}}} is safe; safe: {text}")


def confinement(merger: str) -> Finding:
    """Say what this node's kernel keeps the programs from that parse layers."""
    from hpcimg.runtime.confine import check

    launcher = Path(merger).with_name("confine")
    if not (os.access(merger, os.X_OK) and os.access(launcher, os.X_OK)):
        what = "images are converted by `apptainer build`, which is not confined"
        return Finding("confinement", WARN, f'"{launcher}" is not installed: {what}')
    try:
        holds = check(launcher)
    except RuntimeFailure as error:
        return Finding("confinement", FAIL, error.message)
    bonds = {**_BONDS, **_MORE_BONDS}
    held = ", ".join(what for name, what in bonds.items() if holds.get(name))
    lacking = ", ".join(what for name, what in bonds.items() if not holds.get(name))
    if not lacking:
        return Finding("confinement", OK, f"what parses layers is kept from {held}")
    state = NOTE if all(holds.get(name) for name in _BONDS) else WARN
    what = f"this kernel does not keep what parses layers from {lacking}"
    return Finding("confinement", state, f"{what}; from {held or 'nothing'} it does")


def may_try(root: Path, settings: StoreSettings) -> str:
    """Say why this process may not try anything in the store; empty when it may."""
    if os.geteuid() in {0, uid_of(settings.account)}:
        return ""
    if root.resolve() != Path(settings.path).resolve() and os.access(root, os.W_OK):
        return ""
    return f"only root and {settings.account} may try locks and renames there"


def check_root(root: Path) -> None:
    """Refuse what is no directory."""
    if not root.is_dir():
        raise StoreError(f'"{root}" is no directory', "make it, or is it not mounted here?")

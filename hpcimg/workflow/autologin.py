"""A node logs itself in to the hub: which machine type it is, and the files that say so.

The node's own selection code chooses, with the hub's types as the candidates. Starts nothing.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hpcimg.errors import NoCandidateError, UsageError
from hpcimg.hub.login_files import (
    Beside,
    HubLogin,
    check_login,
    containerd_hosts,
    containers_auth,
    docker_config,
)
from hpcimg.oci.model import OCI_MANIFEST, Descriptor, Platform
from hpcimg.quoting import cut, quoted
from hpcimg.requirements import entry_of
from hpcimg.selection import Resolution, select
from hpcimg.variant import gpu_words, is_missed
from hpcimg.workflow.autologin_files import (
    MODE,
    Place,
    certificates_in,
    check_toml,
    find_place,
    read_old,
    reads_hosts,
    write,
)

if TYPE_CHECKING:
    from hpcimg.hub.machine_type import MachineType
    from hpcimg.node.profile import NodeProfile
    from hpcimg.requirements import Entry

CERTS = PurePosixPath("/etc/containerd/certs.d")
_AUTHORITY = "hpcimg-hub.crt"
_AUTHORITY_LIMIT = 1 << 20
_NAME_LIMIT = 63
_REASONS_SHOWN = 4


@dataclass(frozen=True)
class Proposal:
    """A machine type that the hub does not have, and a node is; `account` may not be known."""

    account: str
    name: str
    words: tuple[str, ...]
    node: str

    @property
    def command(self) -> str:
        """What the hub's administrator types to add it."""
        name = f"{self.account or 'ACCOUNT'}/{self.name}"
        return shlex.join(("hpcimg", "hub", "type", "add", name, *self.words))


@dataclass(frozen=True)
class Choice:
    """The type that a node is, by its full name, and why; "" where none of the hub's fits.

    `notes` are for people. `proposal` is a type that would fit better, or at all.
    """

    machine_type: str
    login: str
    reason: str
    notes: tuple[str, ...] = ()
    proposal: Proposal | None = None


@dataclass(frozen=True)
class Targets:
    """Which files: of whom, below which root, in whose home; `mirrors` are registries' hosts."""

    kinds: tuple[str, ...]
    root: Path
    home: PurePosixPath
    certs: PurePosixPath = CERTS
    mirrors: tuple[str, ...] = ()
    fallback: bool = False
    authority: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Written:
    """One file, by its path on the machine, and whether it is another than before."""

    path: str
    changed: bool


@dataclass(frozen=True)
class _New:
    """A file as it will be, and what was read before; a text may hold a password."""

    place: Place
    raw: bytes = field(repr=False)
    old: bytes = field(repr=False)
    old_mode: int | None
    mode: int = MODE

    @property
    def is_other(self) -> bool:
        return (self.old, self.old_mode) != (self.raw, self.mode)


def named_type(full_name: str, logins: Mapping[str, str]) -> Choice:
    """Take the type that somebody named; nobody is asked. Without logins it is an open one."""
    from hpcimg.hub.machine_type import MachineType, split_name

    one = MachineType(*split_name(full_name))
    return Choice(one.full_name, _login_of(one, logins, is_known=False), "named by --type")


def choose_type(
    profile: NodeProfile, types: Sequence[MachineType], logins: Mapping[str, str]
) -> Choice:
    """Choose the type that fits a node best, of those that the logins are for.

    Logins that are no type's are accounts' and may take any. Raises UsageError for none of use.
    """
    # Not to know the GPUs is no reason to be a machine without any.
    profile = replace(profile, gpus=replace(profile.gpus, wanted=True))
    bound = [one for one in types if one.login_name in logins]
    usable = bound or types
    found, best = _select(profile, usable), _select(profile, types)
    proposal = _proposal(profile, best, _account(types, logins))
    if found.pick is None:
        return Choice("", "", _why_none(found, usable), proposal=proposal)
    one = usable[found.candidates.index(found.pick)]
    notes = []
    if best.pick is not None:
        better = types[best.candidates.index(best.pick)]
        if better != one:
            notes.append(f"machine type {better.full_name} fits better, and its login is not here")
    login = _login_of(one, logins, is_known=one in bound)
    return Choice(one.full_name, login, found.pick.reason, tuple(notes), proposal)


def require_type(choice: Choice) -> Choice:
    """Return the choice; raise NoCandidateError where no type fits."""
    if choice.machine_type:
        return choice
    hint = "give the login of a type that fits, or name one by --type"
    if choice.proposal is not None:
        hint = f"an administrator of the hub adds one with `{choice.proposal.command}`"
    raise NoCandidateError(f"no machine type of the hub fits this node: {choice.reason}", hint)


def hub_login(url: str, choice: Choice, logins: Mapping[str, str]) -> HubLogin:
    """Put together what the files say; the type too where the login is not of one."""
    account, _, name = choice.machine_type.partition("/")
    is_own = choice.login == f"{account}-{name}"
    password = logins.get(choice.login, "")
    return HubLogin(url, choice.login, password, "" if is_own else choice.machine_type)


def read_logins(text: str, name: str = "") -> dict[str, str]:
    """Read the password of a login, or lines of LOGIN:PASSWORD where none is named."""
    lines = text.removesuffix("\n").removesuffix("\r")
    found = {name: lines}
    if not name:
        told = [line for line in lines.splitlines() if line.strip() and line[:1] != "#"]
        if not told or not all(":" in line for line in told):
            raise UsageError(
                "there is no login for the hub",
                "name it by --login or HPCIMG_HUB_LOGIN, or have lines of LOGIN:PASSWORD in "
                "the password file",
            )
        found = {line.partition(":")[0]: line.partition(":")[2] for line in told}
    for login, password in found.items():
        check_login(login, password)
    return found


def change_files(login: HubLogin, targets: Targets, *, dry_run: bool) -> list[Written]:
    """Write all files; none, where one of them cannot be changed. What is right is left alone."""
    if login.machine_type and set(targets.kinds) - {"containerd"}:
        who = f'login "{login.name}" is not' if login.name else "no login is given that is"
        raise UsageError(
            f"{who} of machine type {login.machine_type}, and docker and containers can name "
            "a type by its login only",
            f'give the login "{login.machine_type.replace("/", "-")}", or --for containerd',
        )
    done = []
    for new in _new_files(login, targets):
        if new.is_other and not dry_run:
            write(new.place, new.raw, new.mode)
        done.append(Written(new.place.shown, new.is_other))
    return done


def unread_hosts(targets: Targets) -> str:
    """Say that containerd may not look at what is written for it, or nothing."""
    if "containerd" not in targets.kinds or reads_hosts(targets.root, targets.certs):
        return ""
    return (
        f'containerd reads hosts.toml only where its config.toml says config_path = "'
        f'{targets.certs}", which /etc/containerd/config.toml does not'
    )


def read_authority(path: Path) -> bytes:
    """Read the certificates of --ca."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(_AUTHORITY_LIMIT)
    except OSError as error:
        raise UsageError(
            f'could not read "{path}": {(error.strerror or str(error)).lower()}',
            "--ca names a PEM file",
        ) from error
    if b"PRIVATE KEY" in raw or b"BEGIN CERTIFICATE" not in raw:
        raise UsageError(f'"{path}" is no PEM file of certificates alone', "--ca names such a file")
    return raw


def _new_files(login: HubLogin, targets: Targets) -> list[_New]:
    """Make all new texts before the first is written."""
    found = []
    homes = {
        "docker": (".docker/config.json", docker_config),
        "containers": (".config/containers/auth.json", containers_auth),
    }
    for kind, (inner, make) in homes.items():
        if kind in targets.kinds:
            place = find_place(targets.root, targets.home / inner)
            old, mode = read_old(place)
            found.append(_New(place, make(old, login, place.shown).encode(), old, mode))
    if "containerd" in targets.kinds:
        for host in dict.fromkeys((login.host, *targets.mirrors)):
            found += _hosts_files(host, login, targets)
    return found


def _hosts_files(host: str, login: HubLogin, targets: Targets) -> list[_New]:
    place = find_place(targets.root, _hosts_folder(host, targets) / "hosts.toml")
    found = []
    authorities: tuple[str, ...] = ()
    if targets.authority:
        copy = replace(place, shown=f"{Path(place.shown).parent}/{_AUTHORITY}", name=_AUTHORITY)
        found.append(_New(copy, targets.authority, *read_old(copy), 0o644))
        authorities = (_AUTHORITY,)
    beside = Beside(authorities)
    if host == login.host:
        # A hosts.toml hides from containerd what lies beside it.
        there, pairs = certificates_in(place)
        beside = Beside(tuple(sorted({*authorities, *there})), pairs)
    is_front = targets.fallback and host != login.host
    old, mode = read_old(place)
    text = containerd_hosts(old, login, place.shown, beside, fallback=is_front)
    check_toml(text, place.shown)
    return [*found, _New(place, text.encode(), old, mode)]


def _hosts_folder(host: str, targets: Targets) -> PurePosixPath:
    """Name a host's folder as containerd looks for it: HOST_PORT_ goes before HOST:PORT."""
    name, colon, port = host.rpartition(":")
    folder = targets.certs / (f"{name}_{port}_" if colon else host)
    place = find_place(targets.root, folder / "hosts.toml")
    return targets.certs / host if place.missing else folder


def _select(profile: NodeProfile, types: Sequence[MachineType]) -> Resolution:
    return select(profile, [_entry(one) for one in types])


def _entry(one: MachineType) -> Entry:
    """Give a type as an image's entry: what it says it offers is what the node has to have."""
    offer = one.profile()
    platform = Platform(offer.os, offer.architecture, features=offer.words)
    digest = f"sha256:{hashlib.sha256(one.full_name.encode()).hexdigest()}"
    entry = entry_of(Descriptor(OCI_MANIFEST, digest, 0, platform))
    useless = one.useless_words()
    return replace(entry, skip=f"says {quoted(useless[0])}, as no machine is") if useless else entry


def _why_none(found: Resolution, types: Sequence[MachineType]) -> str:
    failed = [
        f"{one.full_name} {candidate.reason}"
        for one, candidate in zip(types, found.candidates, strict=True)
    ]
    shown = failed[:_REASONS_SHOWN]
    if len(failed) > len(shown):
        shown.append(f"and {len(failed) - len(shown)} more")
    return "; ".join(shown) or "it has none that this login may see"


def _login_of(one: MachineType, logins: Mapping[str, str], *, is_known: bool) -> str:
    """Name the login for a type: its own, or the only one there is."""
    if is_known or one.login_name in logins:
        return one.login_name
    if not logins:
        return ""
    if len(logins) == 1:
        return next(iter(logins))
    raise UsageError(
        f"no login is for machine type {one.full_name}",
        f'the password file wants a line that begins with "{one.login_name}:"',
    )


def _account(types: Sequence[MachineType], logins: Mapping[str, str]) -> str:
    """Guess whose the proposed type would be."""
    bound = {one.account for one in types if one.login_name in logins}
    owners = bound or {one.account for one in types} or {*logins}
    return owners.pop() if len(owners) == 1 else ""


def _proposal(profile: NodeProfile, best: Resolution, account: str) -> Proposal | None:
    """Describe this node as a type, unless there is one of just its kind, or it is not known."""
    if profile.gpus.state == "unknown" or (best.pick is not None and not is_missed(profile, best)):
        return None
    words = [] if profile.architecture == "amd64" else [f"linux/{profile.architecture}"]
    words += [f"cpu:{profile.target}"] if profile.target else []
    code = gpu_words(profile)
    words += code
    if profile.gpus.of("nvidia"):
        told = {"nvdrv": profile.gpus.driver, "cuda": profile.gpus.cuda}
        words += [f"{kind}:{value}" for kind, value in told.items() if value]
    words += [trait for trait in profile.traits if trait.startswith("fabric:")]
    words += [word for word in profile.words if word not in words]
    name = "-".join((profile.target or profile.architecture, *code)).lower()
    name = re.sub(r"[^a-z0-9._-]+", "-", name)[:_NAME_LIMIT]
    return Proposal(account, name, tuple(words), cut(profile.node, _NAME_LIMIT))

"""autologin: have the engines of this node log in to the hub as the machine type that it is."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.cli.parser import Adder

if TYPE_CHECKING:
    from hpcimg.workflow.autologin import Choice, Proposal, Targets, Written
    from hpcimg.workflow.hub_client import HubClient

_LOGIN = "HPCIMG_HUB_LOGIN"
_PASSWORD = "HPCIMG_HUB_PASSWORD"  # noqa: S105 - the name of a variable
_STDIN_LIMIT = 1 << 20


def add(verbs: Adder) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "autologin", help="log this node's engines in to a hub, as the machine type that it is"
    )
    verb.add_argument("--hub", metavar="URL", required=True, help="https://HOST[:PORT] of the hub")
    verb.add_argument("--login", metavar="NAME", help=f"the login, or {_LOGIN} in the environment")
    given = verb.add_mutually_exclusive_group()
    given.add_argument("--password-stdin", action="store_true", help="read its password here")
    given.add_argument(
        "--password-file",
        metavar="FILE",
        type=Path,
        help="read it there; without a login, lines of LOGIN:PASSWORD, one for each machine type",
    )
    verb.add_argument(
        "--type",
        metavar="ACCOUNT/NAME",
        help="be this type; the hub is not asked",
    )
    verb.add_argument(
        "--propose", action="store_true", help="propose a type to the hub where none is just this"
    )
    _add_targets(verb)
    verb.add_argument("--dry-run", action="store_true", help="write nothing, say what would be")
    verb.add_argument("--json", action="store_true", help="print an object for programs")
    verb.set_defaults(call=_autologin)


def _add_targets(verb: argparse.ArgumentParser) -> None:
    """Add what says which files, and where."""
    verb.add_argument(
        "--for",
        metavar="LIST",
        dest="kinds",
        help="of docker,containers,containerd; without it those that are installed",
    )
    verb.add_argument(
        "--mirror",
        metavar="HOST",
        action="append",
        default=[],
        help="have containerd ask the hub for this registry's images too, as docker.io; repeatable",
    )
    verb.add_argument(
        "--fallback",
        action="store_true",
        help="let containerd ask that registry itself where the hub fails",
    )
    verb.add_argument("--ca", metavar="FILE", type=Path, help="trust the hub by this authority")
    verb.add_argument("--profile", metavar="FILE", type=Path, help="choose for a profile in a file")
    verb.add_argument(
        "--root", metavar="DIR", type=Path, help="write below this, as a host's / in a container"
    )
    verb.add_argument(
        "--certs-dir", metavar="DIR", help="where containerd looks, if not /etc/containerd/certs.d"
    )


def _autologin(arguments: argparse.Namespace) -> int:
    from hpcimg.hub.login_files import hub_url
    from hpcimg.workflow.autologin import change_files, hub_login, require_type, unread_hosts

    url = hub_url(arguments.hub)
    targets = _targets(arguments)
    logins = _logins(arguments)
    choice = _choice(arguments, url, logins)
    for note in filter(None, (*choice.notes, unread_hosts(targets))):
        print(f"hpcimg: {note}", file=sys.stderr)
    if choice.machine_type == "" and arguments.json:
        _print_json(url, choice, [])
    require_type(choice)
    login = hub_login(url, choice, logins)
    written = change_files(login, targets, dry_run=arguments.dry_run)
    if arguments.json:
        _print_json(url, choice, written)
        return 0
    print(f"{choice.machine_type} at {login.host}: {choice.reason}")
    word = "would be written" if arguments.dry_run else "written"
    for one in written:
        print(f"{word if one.changed else 'right'}  {one.path}")
    if choice.proposal is not None:
        print(f"hpcimg: no type is just this node; {_added_by(choice)}", file=sys.stderr)
    return 0


def _choice(arguments: argparse.Namespace, url: str, logins: dict[str, str]) -> Choice:
    from hpcimg.node.words import with_offered
    from hpcimg.settings import read_settings
    from hpcimg.workflow.autologin import choose_type, named_type
    from hpcimg.workflow.hub_client import HubClient, surroundings
    from hpcimg.workflow.profile import read_profile_file, this_node

    if arguments.type is not None:
        return named_type(arguments.type, logins)
    # As root the site's own settings only.
    settings = read_settings({} if os.geteuid() == 0 else os.environ)
    profile = read_profile_file(arguments.profile) if arguments.profile else this_node()
    profile = with_offered(profile, settings.platform_features)
    around = surroundings(settings, os.environ)
    hub = HubClient(url, next(iter(logins.items())), arguments.ca, around)
    choice = choose_type(profile, hub.types(), logins)
    if arguments.propose and choice.proposal is not None:
        _propose(hub, choice.proposal)
    return choice


def _propose(hub: HubClient, proposal: Proposal) -> None:
    """Send it; that it is not taken is no reason to leave the node without a login."""
    from hpcimg.errors import HpcimgError

    try:
        hub.propose(proposal)
        said = f"proposed to the hub: {proposal.account}/{proposal.name}"
    except HpcimgError as error:
        said = f"could not propose {proposal.account}/{proposal.name}: {error.message}"
    print(f"hpcimg: {said}", file=sys.stderr)


def _logins(arguments: argparse.Namespace) -> dict[str, str]:
    """Read who logs in; a password is never an argument, which every user of the node can see."""
    from hpcimg.errors import UsageError
    from hpcimg.oci.credentials import check_kept_from_others
    from hpcimg.workflow.autologin import read_logins

    name = arguments.login or os.environ.get(_LOGIN, "")
    if arguments.password_stdin:
        return read_logins(sys.stdin.read(_STDIN_LIMIT), name)
    if arguments.password_file is not None:
        try:
            text = arguments.password_file.read_bytes()[:_STDIN_LIMIT].decode()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8"
            raise UsageError(
                f'could not read the password file "{arguments.password_file}": {why.lower()}',
                "it must be readable by this account, and by no other",
            ) from None
        check_kept_from_others(arguments.password_file)
        return read_logins(text, name)
    password = os.environ.get(_PASSWORD, "")
    if arguments.type is not None and not (name or password):
        return {}
    if not (name and password):
        raise UsageError(
            "there is no login for the hub",
            f"give --login with --password-stdin, or --password-file, or {_LOGIN} and {_PASSWORD}",
        )
    return read_logins(password, name)


def _targets(arguments: argparse.Namespace) -> Targets:
    import pwd
    from pathlib import PurePosixPath

    from hpcimg.errors import UsageError
    from hpcimg.oci.reference import is_registry
    from hpcimg.quoting import quoted
    from hpcimg.workflow.autologin import CERTS, Targets, read_authority

    root = Path(arguments.root or "/").absolute()
    kinds = _kinds(arguments.kinds, root)
    certs = PurePosixPath(arguments.certs_dir or CERTS)
    if not root.is_dir() or not certs.is_absolute():
        raise UsageError("--root names a directory, and --certs-dir a path that begins with /")
    mirrors = tuple(one.lower() for one in arguments.mirror)
    wrong = next((one for one in mirrors if not is_registry(one) and one != "_default"), None)
    if wrong is not None:
        raise UsageError(
            f"{quoted(wrong)} is no registry", "--mirror takes HOST[:PORT], as docker.io"
        )
    if mirrors and "containerd" not in kinds:
        raise UsageError("--mirror is for containerd alone", "--for containerd writes its files")
    try:
        # Not HOME: sudo may leave another user's there.
        home = PurePosixPath(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        home = PurePosixPath(os.environ.get("HOME") or "/")
    authority = read_authority(arguments.ca) if arguments.ca else b""
    return Targets(kinds, root, home, certs, mirrors, arguments.fallback, authority)


def _kinds(given: str | None, root: Path) -> tuple[str, ...]:
    from hpcimg.errors import UsageError
    from hpcimg.quoting import quoted
    from hpcimg.workflow.autologin_files import KINDS, installed

    if given is None:
        # containerd's are the system's: a user has none.
        is_own = os.geteuid() == 0 or root != Path("/")
        found = [one for one in installed(root) if is_own or one != "containerd"]
        if not found:
            raise UsageError(f"none of {', '.join(KINDS)} is installed here", "name one by --for")
        return tuple(found)
    kinds = tuple(dict.fromkeys(given.split(",")))
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"--for has {quoted(kind)}", f"it is a list of {','.join(KINDS)}")
    return kinds


def _added_by(choice: Choice) -> str:
    command = choice.proposal.command if choice.proposal else ""
    return f"an administrator of the hub adds one with `{command}`"


def _print_json(url: str, choice: Choice, written: list[Written]) -> None:
    from hpcimg.cli.output import print_json

    proposal = choice.proposal
    print_json(
        {
            "hub": url,
            "type": choice.machine_type or None,
            "login": choice.login or None,
            "reason": choice.reason,
            "files": [{"path": one.path, "changed": one.changed} for one in written],
            "proposal": None
            if proposal is None
            else {
                "account": proposal.account,
                "name": proposal.name,
                "features": list(proposal.words),
                "command": proposal.command,
            },
        }
    )

"""What is looked at when a hub starts: its upstreams' logins, its types, and known passwords."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.errors import SettingsError
from hpcimg.oci.credentials import check_kept_from_others, read_logins
from hpcimg.workflow.hub_admin import HubAdmin

if TYPE_CHECKING:
    from hpcimg.hub.database import Database
    from hpcimg.hub.settings import HubSettings


def check_credentials(settings: HubSettings) -> None:
    """Read each file with an upstream's login; raises SettingsError for one that is of no use."""
    for host, site in settings.registries.items():
        if site.credentials is None:
            continue
        path = Path(site.credentials)
        if not path.exists():
            raise SettingsError(
                f'the credentials of "{host}" are in "{path}", which does not exist',
                "make it with `podman login --authfile`, or take the key away",
            )
        check_kept_from_others(path)
        read_logins(path)


def prepared(database: Database, settings: HubSettings, *, static: bool) -> list[str]:
    """Make the static machines, or remove their known passwords; returns what is to be said."""
    admin = HubAdmin(database)
    lines = [f"database {database.name}"]
    if static:
        admin.make_static_machines()
        lines.append("qnib's machine types have passwords that everybody knows")
    elif removed := admin.remove_static_logins():
        lines.append(f"removed logins with known passwords: {', '.join(removed)}")
    directory = database.directory()
    if not directory.accounts:
        lines.append(
            "nobody can log in yet: `hpcimg hub account add NAME --role admin` makes an account"
        )
    told = [("networks", one.machine_type) for one in settings.networks]
    told += [("anonymous", settings.anonymous)] if settings.anonymous else []
    lines += [
        f"there is no machine type {name}, which {key} names"
        for key, name in told
        if name not in directory.types
    ]
    accounts = {name for one in settings.upstreams.values() for name in one.accounts or ()}
    missing = sorted(accounts - {*directory.accounts})
    lines += [f"there is no account {name}, which an upstream lists" for name in missing]
    return lines

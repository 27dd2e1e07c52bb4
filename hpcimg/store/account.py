"""The account that the site's store belongs to, as this machine knows it."""

from __future__ import annotations

import os
import pwd


def uid_of(account: str) -> int | None:
    """Give the account's uid, None where this machine has no such account."""
    try:
        return pwd.getpwnam(account).pw_uid
    except KeyError:
        return None


def is_account(account: str) -> bool:
    """Tell whether this process may write the site's store."""
    return os.geteuid() == uid_of(account)

"""What each role may do."""

from __future__ import annotations

import pytest

from hpcimg.errors import UsageError
from hpcimg.hub.account import (
    Account,
    Login,
    Role,
    may_manage_accounts,
    may_manage_types,
    may_see_types,
    may_set_password,
)

RIGHTS = (may_manage_types, may_see_types, may_set_password)


@pytest.mark.parametrize(
    ("role", "own", "others"),
    [
        (Role.ADMIN, (True, True, True), (True, True, True)),
        (Role.OWNER, (True, True, True), (False, False, False)),
        (Role.PULLER, (False, True, True), (False, False, False)),
    ],
)
def test_rights(role, own, others):
    """An administrator may all, an owner what is its own, a puller see it."""
    actor = Account("ann", role)
    assert tuple(may(actor, "ann") for may in RIGHTS) == own
    assert tuple(may(actor, "bob") for may in RIGHTS) == others
    assert may_manage_accounts(actor) is (role is Role.ADMIN)


@pytest.mark.parametrize("role", Role)
def test_a_disabled_account_may_nothing(role):
    """Whatever its role."""
    actor = Account("ann", role, disabled=True)
    assert not may_manage_accounts(actor)
    assert not any(may(actor, "ann") for may in RIGHTS)


def test_hashes_are_not_shown():
    """No log and no trace tells them."""
    shown = repr((Account("ann", Role.OWNER, "secret"), Login("ann-x", "secret", "ann", "ann/x")))
    assert "secret" not in shown


def test_names_are_checked():
    """A name stands in logins and paths."""
    with pytest.raises(UsageError, match="'Ann' is not the name of an account"):
        Account("Ann", Role.OWNER)

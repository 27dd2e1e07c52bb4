"""The hub's accounts and types as files: taken whole, exported, and many at once."""

from __future__ import annotations

import hashlib

import pytest
from test_hub_admin import METAHUB, TYPE1, admin, database  # noqa: F401 - fixtures

from hpcimg.errors import UsageError
from hpcimg.hub.database import Database
from hpcimg.hub.machine_type import MachineType
from hpcimg.hub.password import hash_password, verify_password
from hpcimg.workflow.hub_admin import HubAdmin


def test_a_file_is_taken_whole_or_not(admin, database):  # noqa: F811 - fixtures
    """What comes before a mistake is undone."""
    admin.add_type(MachineType("qnib", "a-b"), "x")
    before = database.directory()
    hashed = hash_password("y")
    text = f"""
accounts:
- name: new
- name: qnib-a
  types: [{{name: b, password: "{hashed}"}}]
"""
    with pytest.raises(UsageError, match="machine type qnib/a-b has it"):
        admin.import_file(text.encode(), "f")
    assert database.directory() == before


def test_what_is_exported_is_imported(admin, database, tmp_path):  # noqa: F811 - fixtures
    """Into another hub, and it exports the same, byte for byte."""
    admin.import_file(METAHUB, "f")
    admin.add_type(TYPE1, "x")
    admin.change_account("ann", {"disabled": True})
    text = admin.export()
    other = Database(f"sqlite:///{tmp_path}/other.sqlite")
    second = HubAdmin(other)
    second.import_file(text.encode(), "f")
    assert second.export() == text
    assert second.import_file(text.encode(), "f") == []
    mine, others = database.directory(), other.directory()
    assert (mine.accounts, mine.types, mine.logins) == (
        others.accounts,
        others.types,
        others.logins,
    )
    assert others.generation == 1
    other.close()


def test_an_empty_hub_is_exported(database):  # noqa: F811 - fixtures
    """It can be read as well."""
    managed = HubAdmin(database)
    assert managed.import_file(managed.export().encode(), "f") == []


def test_static_machines(database):  # noqa: F811 - fixtures
    """Each start of each copy finds them, or makes them."""
    managed = HubAdmin(database)
    assert len(managed.make_static_machines()) == 9
    assert managed.make_static_machines() == []
    found = database.directory()
    assert [*found.logins] == [f"qnib-type{n}" for n in (1, 2, 3, 4)]
    assert all(verify_password(name, one.password_hash) for name, one in found.logins.items())
    assert found.accounts["qnib"].password_hash == ""
    assert found.types["qnib/type4"].profile().target == "broadwell"


def test_a_thousand_types(admin, monkeypatch):  # noqa: F811 - fixtures
    """A file of them is read while one waits, and its one password is compared once."""
    compared = []
    rows = "".join(f"- name: t{n}\n  features: [cpu:zen3, site.rack:{n}]\n" for n in range(1000))
    file = f"user: big\npassword: x\ntypes:\n{rows}".encode()
    assert len(admin.import_file(file, "f")) == 2001
    scrypt = hashlib.scrypt
    monkeypatch.setattr(
        "hashlib.scrypt", lambda raw, **how: compared.append(raw) or scrypt(raw, **how)
    )
    assert admin.import_file(file, "f") == []
    assert compared == [b"x"]
    assert len(admin.types("big")) == 1000

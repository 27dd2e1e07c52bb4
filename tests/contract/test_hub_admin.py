"""Managing accounts and machine types: who may what, and what a file changes."""

from __future__ import annotations

import pytest

from hpcimg.errors import AuthenticationError, NotFoundError, UsageError
from hpcimg.hub.account import Account, Role
from hpcimg.hub.database import Database
from hpcimg.hub.machine_type import MachineType
from hpcimg.hub.password import hash_password, verify_password
from hpcimg.workflow.hub_admin import HubAdmin

ROOT = Account("root", Role.ADMIN)
QNIB = Account("qnib", Role.OWNER)
ANN = Account("ann", Role.PULLER)
TYPE1 = MachineType("qnib", "type1", ("cpu:broadwell",))
METAHUB = b"""
user: cloud
password: gromacs
types:
  - name: c5
    features: [instType:c5, cpu:nosuch, ourOwn]
  - name: c5-ht
    features: [instType:c5, instHT:on]
"""


@pytest.fixture
def database(tmp_path):
    """Open an empty database."""
    opened = Database(f"sqlite:///{tmp_path}/hub.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def admin(database):
    """Have three accounts, one of each role."""
    found = HubAdmin(database)
    for account in (ROOT, QNIB, ANN):
        found.add_account(account)
    return found


def test_a_type_has_a_login(admin, database):
    """Its password is kept as a hash, and goes when the type does."""
    assert admin.add_type(TYPE1, "secret") == []
    login = database.directory().logins["qnib-type1"]
    assert (login.account, login.machine_type) == ("qnib", "qnib/type1")
    assert verify_password("secret", login.password_hash)
    admin.change_type("qnib/type1", {}, "other")
    assert verify_password("other", database.directory().logins["qnib-type1"].password_hash)
    admin.remove_type("qnib/type1")
    assert database.directory().logins == {}


def test_a_type_without_a_login(admin, database):
    """It may be told by its network alone."""
    admin.add_type(TYPE1)
    assert database.directory().logins == {}
    with pytest.raises(NotFoundError, match="machine type qnib/type1 has no login"):
        admin.remove_login("qnib/type1")
    admin.change_type("qnib/type1", {}, "secret")
    assert admin.type("qnib/type1").to_json()["login"] == "qnib-type1"
    admin.remove_login("qnib/type1")
    assert admin.type("qnib/type1").to_json()["login"] is None


def test_a_type_is_changed(admin, database):
    """What is not named stays, and nothing new is no change."""
    admin.add_type(TYPE1, "secret")
    before = database.directory()
    admin.change_type("qnib/type1", {"words": ("cpu:broadwell",)})
    assert database.directory().generation == before.generation
    notes = admin.change_type("qnib/type1", {"words": ("own",), "answer": "index"})
    assert notes == ["'own' is unknown: it matches only itself"]
    after = database.directory()
    assert after.types["qnib/type1"] == MachineType("qnib", "type1", ("own",), "index")
    assert after.logins == before.logins


def test_what_nothing_can_offer_is_refused(admin):
    """A misspelt processor is most likely an oversight."""
    with pytest.raises(UsageError, match="cpu 'nosuch'"):
        admin.add_type(MachineType("qnib", "type1", ("cpu:nosuch",)))
    admin.add_type(TYPE1)
    with pytest.raises(UsageError, match="cpu 'nosuch'"):
        admin.change_type("qnib/type1", {"words": ("cpu:nosuch",)})
    with pytest.raises(UsageError, match="answer is manifest or index"):
        admin.change_type("qnib/type1", {"answer": "both"})
    with pytest.raises(UsageError, match="'name' cannot be changed"):
        admin.change_type("qnib/type1", {"name": "other"})
    assert admin.type("qnib/type1").machine_type == TYPE1


def test_what_is_not_there(admin):
    """It is told with the way to see what is."""
    with pytest.raises(NotFoundError, match="there is no account 'nobody'"):
        admin.add_type(MachineType("nobody", "type1"))
    for call in (admin.type, admin.remove_type):
        with pytest.raises(NotFoundError, match="there is no machine type 'qnib/nothing'"):
            call("qnib/nothing")
    with pytest.raises(NotFoundError, match="there is no machine type 'qnib/nothing'"):
        admin.change_type("qnib/nothing", {})
    with pytest.raises(NotFoundError, match="there is no account 'nobody'"):
        admin.remove_account("nobody")
    with pytest.raises(NotFoundError, match="there is no account 'nobody'"):
        admin.set_password("nobody", "x")
    with pytest.raises(UsageError, match="'type1' is not the full name"):
        admin.type("type1")


def test_what_is_there_already(admin):
    """Nothing is written over by an add."""
    admin.add_type(TYPE1)
    with pytest.raises(UsageError, match="there is a machine type qnib/type1 already"):
        admin.add_type(TYPE1)
    with pytest.raises(UsageError, match="there is an account qnib already"):
        admin.add_account(QNIB)


def test_no_login_means_two_things(admin):
    """A type's login is no account's name, and no other type's login."""
    admin.add_account(Account("qnib-a", Role.OWNER))
    admin.add_type(MachineType("qnib", "a-b"), "x")
    with pytest.raises(UsageError, match="the login qnib-a-b: machine type qnib/a-b has it"):
        admin.add_type(MachineType("qnib-a", "b"), "x")
    with pytest.raises(UsageError, match="the login qnib-a: account qnib-a has it"):
        admin.add_type(MachineType("qnib", "a"), "x")
    with pytest.raises(UsageError, match="account qnib-a-b would have the login of"):
        admin.add_account(Account("qnib-a-b", Role.OWNER))
    assert [*admin.types("qnib")] == [admin.type("qnib/a-b")]


def test_accounts(admin, database):
    """Passwords are hashed, roles changed; a removed one takes its types along."""
    admin.add_account(Account("bob", Role.PULLER), "secret")
    assert verify_password("secret", database.directory().accounts["bob"].password_hash)
    admin.change_account("bob", {"role": Role.OWNER, "disabled": True})
    admin.set_password("bob", "other")
    bob = database.directory().accounts["bob"]
    assert (bob.role, bob.disabled) == (Role.OWNER, True)
    assert verify_password("other", bob.password_hash)
    admin.add_type(MachineType("bob", "x"), "y")
    admin.remove_account("bob")
    found = database.directory()
    assert ("bob" in found.accounts, [*found.types], [*found.logins]) == (False, [], [])
    with pytest.raises(UsageError, match="a password has 1 to 1024 characters"):
        admin.set_password("ann", "")


def calls(admin, actor):
    """Each thing that one may want to do, on another's account and type."""
    kind = MachineType("root", "new")
    return {
        "add_type": lambda: admin.add_type(kind, actor=actor),
        "change_type": lambda: admin.change_type("root/t", {"answer": "index"}, actor=actor),
        "remove_login": lambda: admin.remove_login("root/t", actor=actor),
        "remove_type": lambda: admin.remove_type("root/t", actor=actor),
        "type": lambda: admin.type("root/t", actor=actor),
        "add_account": lambda: admin.add_account(Account("x", Role.ADMIN), actor=actor),
        "change_account": lambda: admin.change_account(
            actor.name, {"role": Role.ADMIN}, actor=actor
        ),
        "remove_account": lambda: admin.remove_account("root", actor=actor),
        "set_password": lambda: admin.set_password("root", "mine", actor=actor),
        "import_file": lambda: admin.import_file(METAHUB, "f", actor=actor),
        "export": lambda: admin.export(actor=actor),
    }


@pytest.mark.parametrize("actor", [QNIB, ANN], ids=["owner", "puller"])
@pytest.mark.parametrize("name", calls(None, QNIB))
def test_what_only_an_administrator_may(admin, database, actor, name):
    """Others are refused, and nothing changes; it is not said what there is."""
    admin.add_type(MachineType("root", "t"), "x")
    before = database.directory()
    with pytest.raises(AuthenticationError, match="this account may not"):
        calls(admin, actor)[name]()
    assert database.directory() == before


@pytest.mark.parametrize("name", calls(None, ROOT))
def test_an_administrator_may_all(admin, database, name):
    """Each of those."""
    admin.add_type(MachineType("root", "t"), "x")
    admin.add_account(Account("second", Role.ADMIN), "x")
    before = database.directory()
    calls(admin, ROOT)[name]()
    is_looking = name in {"type", "export", "change_account"}
    assert (database.directory() == before) is is_looking


def test_an_owner_manages_its_own(admin):
    """Types, their logins, and its own password."""
    admin.add_type(TYPE1, "x", actor=QNIB)
    admin.change_type("qnib/type1", {"answer": "index"}, actor=QNIB)
    assert admin.type("qnib/type1", actor=QNIB).machine_type.answer == "index"
    admin.remove_login("qnib/type1", actor=QNIB)
    admin.remove_type("qnib/type1", actor=QNIB)
    admin.set_password("qnib", "new", actor=QNIB)


def test_a_puller_only_sees(admin):
    """Its own account's types, and nothing of others."""
    admin.add_type(MachineType("ann", "t"))
    admin.add_type(TYPE1)
    assert [one.machine_type.full_name for one in admin.types(actor=ANN)] == ["ann/t"]
    assert [one.name for one in admin.accounts(actor=ANN)] == ["ann"]
    admin.set_password("ann", "new", actor=ANN)
    for call in (
        lambda: admin.add_type(MachineType("ann", "u"), actor=ANN),
        lambda: admin.change_type("ann/t", {}, "x", actor=ANN),
        lambda: admin.remove_type("ann/t", actor=ANN),
    ):
        with pytest.raises(AuthenticationError):
            call()


def test_all_types_and_accounts(admin):
    """In the order of their names."""
    admin.add_type(TYPE1)
    admin.add_type(MachineType("ann", "t"))
    names = [one.machine_type.full_name for one in admin.types(actor=ROOT)]
    assert names == ["ann/t", "qnib/type1"]
    assert [one.machine_type for one in admin.types("qnib")] == [TYPE1]
    assert [one.name for one in admin.accounts(actor=ROOT)] == ["ann", "qnib", "root"]
    with pytest.raises(NotFoundError):
        admin.types("nobody")


def test_metahubs_file(admin, database):
    """It is told what was made, and which words are of what use."""
    lines = admin.import_file(METAHUB, "metahub.yaml")
    assert lines == [
        "account cloud: added as owner",
        "machine type cloud/c5: added: instType:c5, cpu:nosuch, ourOwn",
        "machine type cloud/c5: 'cpu:nosuch' never matches: no machine can offer it",
        "machine type cloud/c5: 'ourown' is unknown: it matches only itself",
        "login cloud-c5: added",
        "machine type cloud/c5-ht: added: instType:c5, instHT:on",
        "login cloud-c5-ht: added",
    ]
    found = database.directory()
    assert verify_password("gromacs", found.logins["cloud-c5-ht"].password_hash)
    assert verify_password("gromacs", found.accounts["cloud"].password_hash)
    assert "gromacs" not in admin.export()


def test_a_file_changes_nothing_twice(admin, database):
    """Also where its password is plain, whose hash is another each time."""
    admin.import_file(METAHUB, "metahub.yaml")
    before = database.directory()
    assert admin.import_file(METAHUB, "metahub.yaml") == []
    assert database.directory() == before


def test_metahubs_file_leaves_a_role(admin):
    """It does not know of any."""
    admin.add_account(Account("cloud", Role.ADMIN, disabled=True))
    lines = admin.import_file(METAHUB, "metahub.yaml")
    assert lines[0] == "account cloud: password changed"
    (cloud,) = (one for one in admin.accounts() if one.name == "cloud")
    assert (cloud.role, cloud.disabled) == (Role.ADMIN, True)


def test_each_change_is_told(admin):
    """With what was before."""
    admin.add_type(TYPE1, "x")
    hashed = hash_password("y")
    text = f"""
accounts:
- name: qnib
  role: puller
  disabled: true
  password: {hashed}
  types:
  - name: type1
    features: [cpu:zen3]
    answer: index
    policy: exact
    description: new ones
    password: {hashed}
"""
    assert admin.import_file(text.encode(), "f") == [
        "account qnib: role puller, was owner",
        "account qnib: disabled",
        "account qnib: password changed",
        "machine type qnib/type1: features cpu:zen3, were cpu:broadwell",
        "machine type qnib/type1: answer index, was manifest",
        "machine type qnib/type1: policy exact, was none",
        "machine type qnib/type1: description new ones, was none",
        "login qnib-type1: password changed",
    ]
    back = b"accounts: [{name: qnib, types: [{name: type1}]}]"
    assert admin.import_file(back, "f") == [
        "account qnib: enabled",
        "machine type qnib/type1: features nothing, were cpu:zen3",
        "machine type qnib/type1: answer manifest, was index",
        "machine type qnib/type1: policy none, was exact",
        "machine type qnib/type1: description none, was new ones",
    ]


def test_a_file_without_passwords_leaves_them(admin, database):
    """So that a site may keep its types in git, and no secrets."""
    admin.add_type(TYPE1, "x")
    admin.set_password("qnib", "y")
    before = database.directory()
    file = b"accounts: [{name: qnib, types: [{name: type1, features: ['cpu:broadwell']}]}]"
    assert admin.import_file(file, "f") == []
    assert database.directory() == before


def test_a_dry_run_changes_nothing(admin, database):
    """It tells the same."""
    before = database.directory()
    told = admin.import_file(METAHUB, "f", dry_run=True, remove_others=True)
    assert database.directory() == before
    assert admin.import_file(METAHUB, "f", remove_others=True) == told


def test_others_stay_or_go(admin, database):
    """As it is asked."""
    admin.add_type(TYPE1, "x")
    admin.import_file(METAHUB, "f")
    admin.add_type(MachineType("cloud", "other"), "x")
    assert len(database.directory().accounts) == 4
    assert admin.import_file(METAHUB, "f", remove_others=True) == [
        "account ann: removed",
        "account qnib: removed",
        "machine type qnib/type1: removed",
        "account root: removed",
        "machine type cloud/other: removed",
    ]
    found = database.directory()
    assert ([*found.accounts], [*found.types]) == (["cloud"], ["cloud/c5", "cloud/c5-ht"])
    assert [*found.logins] == ["cloud-c5", "cloud-c5-ht"]

"""The files that list accounts and machine types: our own, and MetaHub's as it is."""

from __future__ import annotations

from textwrap import dedent
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcimg.errors import UsageError
from hpcimg.hub.account import Account, Login, Role
from hpcimg.hub.accounts_file import accounts_text, parse_accounts
from hpcimg.hub.directory import Directory
from hpcimg.hub.listing import ListedAccount, ListedType, Secret
from hpcimg.hub.machine_type import MachineType
from hpcimg.hub.metahub import static_machines

HASH = "scrypt$16384$8$1$" + "00" * 16 + "$" + "00" * 32
BCRYPT = "$2a$14$gb2QajF6cioofNOFzEVjguCVbxVbn1Pez/nJ69IVd98iHi3s/3Mc."
METAHUB = f"""
# A user of instances in a cloud
user: metahub
password: "{BCRYPT}"
types:
  - name: c59xl
    features:
    - instType:c5
    - instSize:9xl
    - instHT:off
  - name: nv_broadwell
    features:
    - cpu:broadwell
    - nvcap:5.2
"""
OWN = f"""
accounts:
  - name: root
    role: admin
    password: {HASH}
  - name: qnib
    types:
      - name: type1
        features: [cpu:broadwell]
      - name: type4
        features: [cpu:broadwell, nvcap:5.2]
        answer: index
        policy: exact
        description: a GPU of the year 2014
        password: {BCRYPT}
  - name: gone
    role: puller
    disabled: true
"""


def read(text):
    """Read a file of this text."""
    return parse_accounts(dedent(text).encode(), "hub.yaml")


def test_metahub_file():
    """The user and each type have the one password; features stay the words that they are."""
    secret = Secret(BCRYPT)
    words = ("instType:c5", "instSize:9xl", "instHT:off")
    types = (
        ListedType(MachineType("metahub", "c59xl", words), secret),
        ListedType(MachineType("metahub", "nv_broadwell", ("cpu:broadwell", "nvcap:5.2")), secret),
    )
    assert read(METAHUB) == (ListedAccount("metahub", secret=secret, types=types),)


def test_metahub_file_with_plain_words():
    """A password that is no hash of bcrypt is itself, and a number is its digits."""
    (account,) = read("user: 2019\npassword: 007\ntypes: [{name: 1e3, features: [0x10, c5]}]")
    assert (account.name, account.secret) == ("2019", Secret(plain="007"))
    assert account.types[0].machine_type == MachineType("2019", "1e3", ("0x10", "c5"))


def test_metahub_file_without_types():
    """It is a user alone."""
    assert read("user: qnib\npassword: x") == (ListedAccount("qnib", secret=Secret(plain="x")),)


def test_own_file():
    """What it does not say has its default, or stays."""
    root, qnib, gone = read(OWN)
    assert root == ListedAccount("root", Role.ADMIN, False, Secret(HASH))
    assert (gone.role, gone.disabled, gone.secret) == (Role.PULLER, True, Secret())
    assert (qnib.role, qnib.disabled) == (None, False)
    exact = MachineType(
        "qnib", "type4", ("cpu:broadwell", "nvcap:5.2"), "index", "exact", "a GPU of the year 2014"
    )
    assert qnib.types == (
        ListedType(MachineType("qnib", "type1", ("cpu:broadwell",))),
        ListedType(exact, Secret(BCRYPT)),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "hub.yaml is empty"),
        ("- a", r'hub.yaml:1: "the file" must be a mapping of keys to values'),
        ("a: [", "hub.yaml:2: not YAML"),
        ("account: []", 'hub.yaml:1: "account" is no setting; did you mean accounts?'),
        ("user: a\nusers: b", 'hub.yaml:2: "users" is no setting; did you mean user?'),
        ("user: a\nuser: b", "hub.yaml:2: 'user' stands twice"),
        ("user: A", "hub.yaml:1: 'A' is not the name of an account"),
        ("user:\n  a: b", 'hub.yaml:1: "user" must be a text'),
        ("user: a\ntypes:\n  name: b", 'hub.yaml:2: "types" must be a list'),
        ("user: a\ntypes:\n - b", 'hub.yaml:3: "0" must be a mapping of keys to values'),
        ("user: a\ntypes:\n - {}", "hub.yaml:3: '' is not the name of a machine type"),
        ("user: a\ntypes:\n - name: b\n   feature: [c]", 'hub.yaml:4: "feature" is no setting'),
        ("user: a\ntypes:\n - name: b\n - name: b", "hub.yaml:4: type b stands twice"),
        ("user: a\ntypes:\n - name: b\n   features: [[c]]", "hub.yaml:4: .* must be a text"),
        ("accounts:\n - name: a\n - name: a", "hub.yaml:3: account a stands twice"),
        ("accounts:\n - name: 7", 'hub.yaml:2: "name" must be a text, not 7'),
        ("accounts:\n - name: a\n   role: root", 'hub.yaml:3: "role" is one of admin, owner, pull'),
        ("accounts:\n - name: a\n   disabled: 1", 'hub.yaml:3: "disabled" must be true or false'),
        ("accounts:\n - name: a\n   password: secret", 'hub.yaml:3: "password" must be a hash'),
        ("accounts:\n - name: a\n   password: 7", 'hub.yaml:3: "password" must be a text$'),
        (
            "accounts:\n - name: a\n   types:\n    - name: b\n      features: c",
            'hub.yaml:5: "features" must be a list',
        ),
        (
            "accounts:\n - name: a\n   types:\n    - name: b\n      answer: c",
            "hub.yaml:4: answer is manifest or index, not 'c'",
        ),
        ("accounts:\n - &a {name: a}\n - *a", "hub.yaml uses YAML's aliases"),
    ],
)
def test_mistakes_have_their_line(text, says):
    """It says which, where, and no password."""
    with pytest.raises(UsageError, match=says) as caught:
        read(text)
    assert "secret" not in caught.value.message
    assert caught.value.hint


def test_what_is_no_text_or_too_long():
    """Neither is looked into."""
    with pytest.raises(UsageError, match="is not UTF-8 text"):
        parse_accounts(b"\xff", "hub.yaml")
    with pytest.raises(UsageError, match="is longer than"):
        parse_accounts(b" " * (17 << 20), "hub.yaml")


def test_secrets_are_not_shown():
    """In no trace and no log."""
    assert "hash" not in repr(Secret("hash", "hash")).replace("hashed", "")


def test_static_machines():
    """The four types of the announcement; each password is the login."""
    (account,) = static_machines()
    found = {one.machine_type.login_name: one.machine_type.words for one in account.types}
    assert found == {
        "qnib-type1": ("cpu:broadwell",),
        "qnib-type2": ("cpu:skylake",),
        "qnib-type3": ("cpu:coffelake",),
        "qnib-type4": ("cpu:broadwell", "nvcap:5.2"),
    }
    assert [one.secret.plain for one in account.types] == [*found]
    assert not account.secret


TEXTS = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True)
HASHES = st.sampled_from(["", HASH, BCRYPT])


@st.composite
def directories(draw):
    """Draw accounts with types and logins, as a database may hold them."""
    accounts = {
        name: Account(name, draw(st.sampled_from(Role)), draw(HASHES), draw(st.booleans()))
        for name in draw(st.sets(NAMES, max_size=4))
    }
    types, logins = {}, {}
    for name in accounts:
        for each in draw(st.sets(NAMES, max_size=3)):
            answer, policy = draw(st.sampled_from([("manifest", ""), ("index", "exact")]))
            words = tuple(draw(st.lists(TEXTS, max_size=3)))
            about = draw(TEXTS | st.just(""))
            kind = MachineType(name, each, ("linux/arm64", *words), answer, policy, about)
            types[kind.full_name] = kind
            hashed = draw(HASHES)
            if hashed and kind.login_name not in logins:
                login = Login(kind.login_name, hashed, name, kind.full_name)
                logins[kind.login_name] = login
    return Directory(0, accounts, logins, types)


def of_file(listed):
    """What a file's accounts would be in an empty database."""
    accounts = {
        one.name: Account(one.name, one.role, one.secret.hashed, one.disabled) for one in listed
    }
    kinds = [kind for one in listed for kind in one.types]
    types = {kind.machine_type.full_name: kind.machine_type for kind in kinds}
    logins = {
        kind.machine_type.login_name: Login(
            kind.machine_type.login_name,
            kind.secret.hashed,
            kind.machine_type.account,
            kind.machine_type.full_name,
        )
        for kind in kinds
        if kind.secret
    }
    return Directory(0, MappingProxyType(accounts), logins, types)


@given(directories())
def test_what_is_written_is_read(directory):
    """All of it, and it is written the same again, byte for byte."""
    text = accounts_text(directory)
    found = of_file(parse_accounts(text.encode(), "hub.yaml"))
    assert (found.accounts, found.types, found.logins) == (
        directory.accounts,
        directory.types,
        directory.logins,
    )
    assert accounts_text(found) == text


def test_export_as_people_see_it():
    """In the order of names, with nothing that is its default."""
    kinds = [MachineType("qnib", name, ("cpu:zen3",)) for name in ("type2", "type1")]
    directory = Directory(
        7,
        {"qnib": Account("qnib", Role.OWNER), "ann": Account("ann", Role.ADMIN, HASH)},
        {"qnib-type1": Login("qnib-type1", BCRYPT, "qnib", "qnib/type1")},
        {kind.full_name: kind for kind in kinds},
    )
    assert accounts_text(directory) == dedent(f"""\
        # Accounts and machine types of a hub; `hpcimg hub import` reads it.
        accounts:
        - name: ann
          role: admin
          password: {HASH}
        - name: qnib
          role: owner
          types:
          - name: type1
            features:
            - cpu:zen3
            password: {BCRYPT}
          - name: type2
            features:
            - cpu:zen3
        """)

"""Which machine type a request is of: a fixed order, and never one that it may not have."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from hpcimg.errors import AuthenticationError
from hpcimg.hub.account import Account, Login, Role
from hpcimg.hub.directory import Directory
from hpcimg.hub.identity import Asked, NetworkType, Rules, host_type, identify, login_name
from hpcimg.hub.machine_type import MachineType

TYPES = {
    name: MachineType(*name.split("/"), words=("cpu:broadwell",))
    for name in ("qnib/login", "qnib/header", "qnib/cert", "qnib/path", "qnib/host", "qnib/net")
}
TYPES |= {name: MachineType(*name.split("/"), words=()) for name in ("other/x", "qnib/nobody")}
DIRECTORY = Directory(
    generation=1,
    accounts={
        "root": Account("root", Role.ADMIN),
        "qnib": Account("qnib", Role.OWNER),
        "pull": Account("pull", Role.PULLER),
        "gone": Account("gone", Role.OWNER, disabled=True),
    },
    logins={
        "qnib-login": Login("qnib-login", "", "qnib", "qnib/login"),
        "qnib-cert": Login("qnib-cert", "", "qnib", "qnib/cert"),
        "qnib-lost": Login("qnib-lost", "", "qnib", "qnib/lost"),
        "gone-x": Login("gone-x", "", "gone", "other/x"),
    },
    types=TYPES,
)
RULES = Rules(
    open_types=("qnib/*",),
    host="{account}-{type}.hub.example.org",
    networks=(NetworkType(ip_network("10.0.0.0/8"), "qnib/net"),),
    anonymous="qnib/nobody",
)
ALL = {
    "login": "qnib-login",
    "header": "qnib/header",
    "certificate": "qnib-cert",
    "path": "qnib/path",
    "host": "qnib-host.hub.example.org",
    "address": ip_address("10.1.2.3"),
}
ORDER = ["login", "header", "certificate", "path", "host", "network", "anonymous"]
NAMES = ["login", "header", "cert", "path", "host", "net", "nobody"]


@pytest.mark.parametrize("missing", range(len(ORDER)))
def test_the_order(missing):
    """Of all that a request says, the first in the order counts."""
    keys = ["login", "header", "certificate", "path", "host", "address"][missing:]
    found = identify(Asked(**{key: ALL[key] for key in keys}), DIRECTORY, RULES)
    assert found.how == ORDER[missing]
    assert found.machine_type == TYPES[f"qnib/{NAMES[missing]}"]


def test_without_anything_a_login_is_wanted():
    """Nobody gets an image by saying nothing, unless the administrator says so."""
    assert identify(Asked(), DIRECTORY, Rules()) is None


@pytest.mark.parametrize("key", ["header", "path", "host"])
def test_a_type_by_name_needs_its_login(key):
    """Words of a request are no proof: who says nothing else is asked, another one is refused."""
    rules = Rules(host=RULES.host, networks=RULES.networks, anonymous=RULES.anonymous)
    said = {key: ALL[key], "address": ALL["address"]}
    assert identify(Asked(**said), DIRECTORY, rules) is None
    with pytest.raises(AuthenticationError, match="needs its login"):
        identify(Asked(login="pull", **said), DIRECTORY, rules)


@pytest.mark.parametrize("login", ["qnib", "root"])
def test_an_account_may_name_its_types(login):
    """Its own password is proof enough."""
    found = identify(Asked(login=login, path="qnib/path"), DIRECTORY, Rules())
    assert (found.subject, found.machine_type, found.how) == (login, TYPES["qnib/path"], "path")


def test_a_missing_type_is_no_other_one():
    """A request never falls through to a type that it did not ask for."""
    for said in (Asked(header="qnib/none"), Asked(path="qnib/none")):
        with pytest.raises(AuthenticationError, match="no machine type 'qnib/none'"):
            identify(said, DIRECTORY, RULES)


def test_a_login_whose_type_is_gone_gets_nothing():
    """Not the whole index, not that of its network."""
    with pytest.raises(AuthenticationError, match="qnib/lost"):
        identify(Asked(login="qnib-lost", address=ALL["address"]), DIRECTORY, RULES)


def test_an_account_without_a_type_sees_the_index():
    """Authors, and nodes that choose for themselves, want it whole, wherever they are."""
    found = identify(Asked(login="pull", address=ALL["address"]), DIRECTORY, RULES)
    assert (found.subject, found.machine_type) == ("pull", None)


def test_a_network_whose_type_is_gone():
    """A login is wanted; nobody gets another type instead."""
    networks = (NetworkType(ip_network("10.0.0.0/8"), "qnib/gone"),)
    rules = Rules(networks=networks, anonymous="qnib/nobody")
    assert identify(Asked(address=ALL["address"]), DIRECTORY, rules) is None
    found = identify(Asked(login="qnib-login", address=ALL["address"]), DIRECTORY, rules)
    assert found.machine_type == TYPES["qnib/login"]


@pytest.mark.parametrize(
    "said", [{"login": "gone"}, {"login": "gone-x"}, {"certificate": "gone-x"}]
)
def test_a_disabled_account_is_nobody(said):
    """Nor are the logins of its types anybody."""
    assert identify(Asked(**said), DIRECTORY, Rules()) is None


def test_other_accounts_types_are_not_seen():
    """An owner owns the types of one account."""
    with pytest.raises(AuthenticationError):
        identify(Asked(login="qnib", path="other/x"), DIRECTORY, Rules())


@pytest.mark.parametrize(
    ("written", "name"),
    [("qnib/type#type1", "qnib-type1"), ("qnib-type1", "qnib-type1"), ("a/b#c", "a/b#c")],
)
def test_both_spellings_of_a_login(written, name):
    """MetaHub's later spelling means the same."""
    assert login_name(written) == name


@pytest.mark.parametrize(
    ("host", "pattern", "name"),
    [
        ("qnib-type1.hub.org", "{account}-{type}.hub.org", "qnib/type1"),
        ("QNIB-Type1.hub.org", "{account}-{type}.hub.org", "qnib/type1"),
        ("type1.qnib.hub.org", "{type}.{account}.hub.org", "qnib/type1"),
        ("hub.org", "{account}-{type}.hub.org", ""),
        ("qnib-type1.hubxorg", "{account}-{type}.hub.org", ""),
        ("qnib-type1.hub.org.evil", "{account}-{type}.hub.org", ""),
        ("qnib-type1.hub.org", "", ""),
    ],
)
def test_types_by_host_names(host, pattern, name):
    """The pattern is the administrator's, its dots are dots."""
    assert host_type(host, pattern) == name

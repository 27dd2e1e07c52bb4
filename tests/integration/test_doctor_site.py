"""The doctor on a site whose store, settings, registry or Slurm is broken in one way at a time."""

from __future__ import annotations

import base64
import json

import mishaps
import pytest
from examined import SICK, examine, hidden_by, spoiled

pytestmark = pytest.mark.integration

NODE = "skx1"
STORE = "/srv/hpcimg/store"
REFUSING = """\
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
class Front(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(401)
        self.send_header("WWW-Authenticate", "Basic realm=private")
        self.end_headers()
server = HTTPServer(("", 5009), Front)
child = os.fork()
if child:
    open("/run/refusing.pid", "w").write(str(child))
else:
    os.setsid()
    server.serve_forever()
"""


def test_a_store_of_the_wrong_owner_or_mode(cluster):
    """Each directory is named, with the command that mends it."""
    with spoiled(cluster, "login", f"chown alice {STORE}", f"chown hpcimg {STORE}"):
        said = examine(cluster)
        found = said.find("owners", "fail", f'"{STORE}" belongs to uid 1001')
        assert found["change"].startswith("chown 980")
        assert said.code == SICK
    with spoiled(cluster, "login", f"chmod 777 {STORE}", f"chmod 755 {STORE}"):
        found = examine(cluster, user="alice").find("owners", "fail", "may be written by others")
        assert "chmod go-w" in found["change"]


def test_a_store_that_is_not_there(cluster):
    """On the node where it is not mounted."""
    with spoiled(cluster, NODE, "mount -t tmpfs none /srv/hpcimg", "umount /srv/hpcimg"):
        said = examine(cluster, "--nodes", f"bdw1,{NODE}")
        found = said.find("store", "fail", f'"{STORE}" cannot be used as the store')
        assert found["machines"] == [NODE]
        assert "mount the site's file system here" in found["change"]


def test_a_store_that_is_not_shared(cluster):
    """A node that has a good store of its own is told by the marks that machines leave."""
    own = f"mount -t tmpfs -o mode=755,uid=980,gid=980 none {STORE}"
    with spoiled(cluster, NODE, own, f"umount {STORE}"):
        said = examine(cluster, "--nodes", f"bdw1,{NODE}")
        found = said.find("shared store", "fail", "another store than login: it is not shared")
        assert found["machines"] == [NODE]
        assert "mount the site's file system there" in found["change"]


def test_a_store_with_no_room(cluster):
    """The figure is said, and how to make room."""
    with mishaps.small_disk(cluster, NODE):
        mishaps.do(cluster, "install -d -o hpcimg -g hpcimg /srv/small/store", NODE)
        said = examine(cluster, node=NODE)
        assert "kB free" in said.find("space", "fail", "/srv/small/store has")["what"]
        assert "cache prune" in said.find("space", "fail", "/srv/small/store has")["change"]


def test_an_account_that_is_missing_or_has_another_number(cluster):
    """One uid on all machines, or the store belongs to somebody else there."""
    with mishaps.without_account(cluster, NODE):
        found = examine(cluster, node=NODE).find("account", "fail", '"hpcimg" does not exist')
        assert "with the same uid on all machines" in found["change"]
    other = "cp -p /etc/passwd /etc/passwd.away; sed -i 's/^hpcimg:x:980:/hpcimg:x:977:/'"
    with spoiled(cluster, NODE, f"{other} /etc/passwd", "mv /etc/passwd.away /etc/passwd"):
        said = examine(cluster, "--nodes", f"bdw1,{NODE}")
        found = said.find("account", "fail", "account uid differs: 977:980 here, 980:980 on")
        assert found["machines"] == [NODE]


def test_settings_that_are_wrong_or_differ(cluster):
    """A wrong key is named with its line; a node that was forgotten is named."""
    with hidden_by(cluster, NODE, mishaps.SETTINGS, "pull: newer\nshop: {}"):
        said = examine(cluster, "--nodes", f"bdw1,{NODE}")
        found = said.find("settings", "fail", f"{mishaps.SETTINGS}:2:")
        assert found["machines"] == [NODE]
    with hidden_by(cluster, NODE, mishaps.SETTINGS, "pull: always"):
        said = examine(cluster, "--nodes", f"bdw1,{NODE}")
        assert said.find("settings", "fail", "settings differs")["machines"] == [NODE]


def test_a_registry_that_does_not_answer(cluster):
    """From the node where jobs fetch, and soon."""
    with mishaps.without_registry(cluster, NODE):
        found = examine(cluster, node=NODE).find("registry", "fail", "registry:5000: ")
        assert found["change"]


def test_a_registry_without_tls_and_one_that_is_not_listed(cluster):
    """What the settings say of registries is tried."""
    registries = {"registry:5000": {"plain_http": False}}
    with mishaps.settings(cluster, registries=registries, default_registry="other.example"):
        said = examine(cluster)
        assert said.find("registry", "fail", "registry:5000: ")["change"]
        found = said.find("registry", "fail", '"other.example" is not listed')
        assert "write other.example under registries:" in found["change"]


def test_credentials_that_are_refused_or_open_to_others(cluster):
    """The store's account tries the site's login; a file that all may read is not used."""
    login = base64.b64encode(b"site:old").decode()
    file = "/etc/hpcimg/auth.json"
    text = json.dumps({"auths": {"registry:5009": {"auth": login}}})
    serve = f"/opt/hpcimg/bin/python -c '{REFUSING}' >/dev/null 2>&1 </dev/null"
    write = f"echo '{text}' >{file}; chown hpcimg {file}; chmod 400 {file}; {serve}"
    of_host = {"plain_http": True, "credentials": file, "readable": ["private/*"]}
    with (
        spoiled(cluster, "login", write, f"kill $(cat /run/refusing.pid); rm {file}"),
        mishaps.settings(cluster, registries={"registry:5009": of_host}),
    ):
        found = examine(cluster).find("registry", "fail", "registry:5009 refuses the site's login")
        assert "credentials" in found["change"]
        assert examine(cluster, user="alice").find("registry", "note", "wants a login")
        mishaps.do(cluster, f"chmod 444 {file}")
        found = examine(cluster).find("registry", "fail", "are not safe")
        assert "chmod 0400" in found["change"]


@pytest.fixture(scope="module")
def hurting(cluster):
    """Slurm with a configuration that hurts; what the doctor says of it."""
    edit = (
        "sed -i -e 's/^PrologFlags=.*/PrologFlags=Serial/' -e 's/cred_expire=300/cred_expire=60/'"
        " -e '/^Prolog=/d' -e '/^Epilog=/d'"
    )
    conf = "/etc/slurm/slurm.conf"
    more = "PrologEpilogTimeout=5\\nMessageTimeout=5\\nPrivateData=jobs\\n"
    spoil = f"cp {conf} {conf}.away; {edit} {conf}; printf '{more}' >>{conf}; scontrol reconfigure"
    mend = f"cat {conf}.away >{conf}; rm {conf}.away; scontrol reconfigure"
    with spoiled(cluster, "login", spoil, mend):
        said = examine(cluster, user="alice")
    for node in ("bdw1", "skx1", "zen1", "gpu1"):
        # It takes jobs again when it has read its files.
        assert cluster.run("srun", "-w", node, "true").returncode == 0
    return said


@pytest.mark.parametrize(
    ("check", "state", "what", "change"),
    [
        ("prolog flags", "fail", "has Serial", "take Serial out"),
        ("prolog flags", "warn", "lacks Alloc", "PrologFlags=Alloc"),
        ("prolog", "warn", "does not start hpcimg's prolog", "Prolog=/usr/local/libexec"),
        ("epilog", "warn", "does not start hpcimg's epilog", "Epilog=/usr/local/libexec"),
        ("time-outs", "warn", "PrologEpilogTimeout is 5 s", "PrologEpilogTimeout=30"),
        ("time-outs", "warn", "MessageTimeout is 5 s", "MessageTimeout=10"),
        ("time-outs", "warn", "cred_expire is 60 s", "cred_expire=600"),
        ("slurm", "note", "PrivateData=jobs", "root's timer"),
    ],
)
def test_what_of_slurm_s_configuration_hurts(hurting, check, state, what, change):
    """Prolog flags, hooks and time-outs are judged as the controller has them."""
    assert change in hurting.find(check, state, what)["change"]

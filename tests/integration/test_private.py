"""An image that only alice may read: the site refuses it, alice runs it, bob does not."""

from __future__ import annotations

import base64
import json

import mishaps
import pytest
from test_failure import refused

pytestmark = pytest.mark.integration

REGISTRY = "registry:5001"
NAME = f"{REGISTRY}/secret/bench"
PASSWORD = "hush-4cd1"
SALT = "$2b$04$" + "a" * 22
NODE = "bdw1"
SECRETS = (PASSWORD, base64.b64encode(f"alice:{PASSWORD}".encode()).decode())
CONFIG = """\
version: 0.1
log: {accesslog: {disabled: false}}
storage: {filesystem: {rootdirectory: /run/private/storage}}
http: {addr: ":5001"}
auth: {htpasswd: {realm: private, path: /run/private/htpasswd}}
"""


def auth_file(user, password):
    """Write what `podman login` writes."""
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    text = json.dumps({"auths": {REGISTRY: {"auth": login}}})
    return (
        f"mkdir -p -m 700 ~/.config/containers; umask 077; "
        f"echo '{text}' >~/.config/containers/auth.json"
    )


@pytest.fixture(scope="module", autouse=True)
def private_registry(cluster):
    """Run a second registry, with a password, that the settings list; only alice has a login."""
    mishaps.do(cluster, "mkdir -p /run/private")
    made = cluster.run("perl", "-e", "print crypt($ARGV[0], $ARGV[1])", PASSWORD, SALT)
    assert made.stdout.startswith(SALT[:7]), made
    start = "setsid docker-registry serve /run/private/config.yml >/run/private/log 2>&1 </dev/null"
    pid = mishaps.do(
        cluster,
        f"cat >/run/private/config.yml <<'END'\n{CONFIG}END\n"
        f"echo 'alice:{made.stdout}' >/run/private/htpasswd\n{start} & echo $!",
    ).strip()
    try:
        with mishaps.settings(cluster, registries={REGISTRY: {"plain_http": True}}):
            done = cluster.shell(auth_file("alice", PASSWORD))
            assert done.returncode == 0, done.stderr
            copied = cluster.shell(
                "skopeo copy --retry-times 5 --src-tls-verify=false --dest-tls-verify=false"
                f" docker://registry:5000/qnib/plain-featuretest:generic docker://{NAME}:latest"
            )
            assert copied.returncode == 0, copied.stderr
            yield
    finally:
        mishaps.do(cluster, f"kill {pid}; rm -r /run/private")
        for user in ("alice", "bob"):
            cluster.shell("rm -rf ~/.config/containers ~/.local/share/hpcimg", user=user)


@pytest.fixture(autouse=True)
def cold(cluster):
    """Start each test with empty stores."""
    mishaps.forget_images(cluster)
    mishaps.do(cluster, "rm -rf /home/alice/.local/share/hpcimg /home/bob/.local/share/hpcimg")


def images_of(cluster, path):
    """List the SIF files below a path that can be run."""
    look = f"find {path} -name image.sif -not -path '*/quarantine/*' 2>/dev/null || :"
    return mishaps.do(cluster, look).split()


def test_a_launch_falls_back_to_the_users_own_rights(cluster):
    """The site's account may not read it: alice's login fetches it into alice's own store."""
    done = cluster.run("srun", "-w", NODE, "-n2", "--container", NAME, "bench")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("not optimized for a specific microarchitecture") == 2
    assert done.stderr == ""
    assert images_of(cluster, "/srv/hpcimg/store") == []
    (own,) = images_of(cluster, "/home/alice/.local/share/hpcimg/store")
    assert cluster.run("cat", own, user="bob").returncode == 1, "bob can read alice's image"


def test_a_command_without_a_job_does_the_same(cluster):
    """`hpcimg run` asks with the user's login too."""
    done = cluster.run("hpcimg", "run", NAME, "--", "bench", node=NODE)
    assert "not optimized for a specific microarchitecture" in done.stdout, done.stderr
    assert images_of(cluster, "/srv/hpcimg/store") == []


def test_another_user_gets_the_registrys_refusal(cluster):
    """Without a login bob is refused, though alice's copy is on the same disk."""
    assert cluster.run("srun", "-w", NODE, "--container", NAME, "true").returncode == 0
    ((what, hint),) = refused(cluster, NAME, "-n2", nodes=(NODE,), user="bob")
    assert what == f'registry "{REGISTRY}" wants a login for "secret/bench"'
    assert hint == f"log in with `podman login {REGISTRY}` or `docker login {REGISTRY}`"
    done = cluster.run("hpcimg", "run", NAME, "--", "bench", node=NODE, user="bob")
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr.splitlines()[0] == f"hpcimg: {what}"
    assert images_of(cluster, "/home/bob/.local/share/hpcimg /srv/hpcimg/store") == []


def test_a_wrong_password_is_refused_with_the_registrys_words(cluster):
    """The line says who refused, and never the password."""
    assert cluster.shell(auth_file("bob", "wrong-77aa"), user="bob").returncode == 0
    ((what, hint),) = refused(cluster, NAME, nodes=(NODE,), user="bob")
    assert what.startswith(f'registry "{REGISTRY}" refuses access to "{NAME}:latest": UNAUTHORIZED')
    assert "podman login" in hint
    assert "wrong-77aa" not in what + hint


def test_a_login_shows_nowhere(cluster):
    """Not in a command line while it is used, not in a log, a record or a store."""
    watch = (
        "rm -f /run/watch*; ("
        "(until [ -e /run/watch.end ]; do cat /proc/[0-9]*/cmdline 2>/dev/null || :; done)"
        " | tr '\\0' ' ' >/run/watch; : >/run/watch.ended) >/dev/null 2>&1 </dev/null &"
    )
    mishaps.do(cluster, watch, NODE)
    try:
        done = cluster.run("srun", "-w", NODE, "--container", NAME, "true")
    finally:
        end = ": >/run/watch.end; until [ -e /run/watch.ended ]; do sleep 0.02; done"
        seen = mishaps.do(cluster, f"{end}; cat /run/watch", NODE)
    assert done.returncode == 0, done.stderr
    assert "hpcimg get --store own" in seen, "the watch saw nothing"
    logs = mishaps.do(cluster, "cat /var/log/syslog /var/log/slurm*.log", NODE)
    logs += mishaps.do(cluster, "cat /var/log/syslog /var/log/slurm*.log")
    stores = mishaps.do(
        cluster, "cat $(find /srv/hpcimg /home/alice/.local -type f) | tr -cd '[:print:]'"
    )
    for secret in SECRETS:
        assert secret not in seen
        assert secret not in logs
        assert secret not in stores


def test_what_all_may_read_is_the_site_s(cluster):
    """By the site's login for `readable`, and a mirror, bob runs it; the rest stays closed."""
    login = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
    text = json.dumps({"auths": {REGISTRY: {"auth": login}}})
    path = "/etc/hpcimg/site-login.json"
    cluster.shell("rm -rf ~/.config/containers", user="bob")
    mishaps.do(
        cluster, f"umask 077; echo '{text}' >{path}; chown root:hpcimg {path}; chmod 440 {path}"
    )
    host = {"plain_http": True, "credentials": path, "readable": ["secret/*"]}
    mirror = {"mirrors": [REGISTRY]}
    try:
        with mishaps.settings(cluster, registries={REGISTRY: host, "quay.io": mirror}):
            # By the name of a registry that no node reaches: its mirror has it.
            name = "quay.io/secret/bench"
            done = cluster.run("srun", "-w", NODE, "--container", name, "bench", user="bob")
            assert "not optimized for a specific microarchitecture" in done.stdout, done.stderr
            assert len(images_of(cluster, "/srv/hpcimg/store")) == 1
            done = cluster.run("srun", "-w", NODE, "--container", NAME, "bench", user="bob")
            assert done.returncode == 0, done.stderr
            assert PASSWORD not in done.stderr
        host["readable"] = ["other/*"]
        mishaps.forget_images(cluster)
        with mishaps.settings(cluster, registries={REGISTRY: host}):
            ((what, _),) = refused(cluster, NAME, nodes=(NODE,), user="bob")
            assert what == f'registry "{REGISTRY}" wants a login for "secret/bench"'
    finally:
        mishaps.do(cluster, f"rm {path}")

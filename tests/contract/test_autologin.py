"""`hpcimg autologin`: a node becomes the type that fits, and its engines get the login."""

from __future__ import annotations

import base64
import io
import json
import os
import pwd
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from certificates import authority, signed
from hub_api import LOGINS, SECRET, TYPES, Hub, basic, hosts_of
from three_nodes import BDW1, SKX1, ZEN1, profile

from hpcimg.cli import main
from hpcimg.node.gpus import GpuFacts

HOME = pwd.getpwuid(os.geteuid()).pw_dir.lstrip("/")
DOCKER, CONTAINERS = f"{HOME}/.docker/config.json", f"{HOME}/.config/containers/auth.json"
CERTS = "etc/containerd/certs.d"
ALL = "docker,containers,containerd"
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def hub():
    """A hub with the announcement's types, and an account that is none."""
    with Hub(TYPES, {**LOGINS, "qnib": SECRET}) as found:
        yield found


@pytest.fixture
def root(tmp_path):
    """An empty machine, with all engines and a containerd that reads certs.d."""
    path = tmp_path / "root"
    for name in ("dockerd", "podman", "containerd"):
        program = path / "usr/bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch()
    config = path / "etc/containerd/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[plugins."x".registry]\n  config_path = "/{CERTS}"\n')
    return path


@pytest.fixture
def autologin(hub, root, tmp_path, monkeypatch, capsys):
    """A function that runs the command; no password may show in what it prints."""
    passwords = tmp_path / "passwords"
    passwords.write_text("# all\n" + "".join(f"{k}:{v}\n" for k, v in LOGINS.items()))
    passwords.chmod(0o600)

    def run(*words, node=BDW1, url=None, given=("--password-file", str(passwords))):
        kept = tmp_path / "node.json"
        kept.write_text(node.to_json())
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{SECRET}\n"))
        own = [f"--hub={url or hub.url}", f"--root={root}", f"--profile={kept}"]
        code = main(["autologin", *own, *given, *words])
        out, err = capsys.readouterr()
        assert SECRET not in out + err
        assert not any(base64.b64encode(v.encode()).decode() in out + err for v in LOGINS.values())
        return code, out, err

    return run


def files(root):
    """Every file below a root but those that the fixture made."""
    every = (path for path in root.rglob("*") if path.is_file() and path.stat().st_size)
    return {str(p.relative_to(root)) for p in every} - {"etc/containerd/config.toml"}


@pytest.mark.parametrize(
    ("node", "name"),
    [(BDW1, "type1"), (SKX1, "type2"), (profile("gpu1", "broadwell:nvcap:5.2"), "type4")],
    ids=["bdw1", "skx1", "gpu1"],
)
def test_each_node_becomes_the_best_type_that_fits(autologin, root, hub, node, name):
    """By the order in which images are chosen; all files say so."""
    code, out, _ = autologin("--mirror=docker.io", node=node)
    assert (code, out.splitlines()[0].split()[0]) == (0, f"qnib/{name}")
    login = basic(f"qnib-{name}")
    for path in (DOCKER, CONTAINERS):
        assert json.loads((root / path).read_text()) == {"auths": {hub.host: {"auth": login}}}
    for host in (hub.host, "docker.io"):
        found = hosts_of(root / CERTS / host)
        assert found["server"] == hub.url
        assert found["host"][hub.url]["header"] == {"Authorization": [f"Basic {login}"]}
    assert hub.asked == ["GET /api/v1/types"]


def test_files_are_their_owners_alone(autologin, root):
    """Also where a file was open to others, and whatever the umask."""
    path = root / DOCKER
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        assert autologin()[0] == 0
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((root / name).stat().st_mode) for name in files(root)}
    assert len(modes) == 3
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((root / CONTAINERS).parent.stat().st_mode) == 0o700


def test_what_is_right_is_left_alone(autologin, root):
    """A timer that runs each hour writes nothing, then."""
    assert autologin()[0] == 0
    before = {name: (root / name).stat() for name in files(root)}
    code, out, _ = autologin("--json")
    assert code == 0
    assert [one["changed"] for one in json.loads(out)["files"]] == [False] * 3
    assert {name: (root / name).stat() for name in files(root)} == before


def test_what_others_wrote_stays(autologin, root, hub):
    """Other logins, keys, hosts and files."""
    old = {DOCKER: '{"auths": {"quay.io": {"auth": "YTpi"}}, "x": 1}', CONTAINERS: '{"y": [2]}'}
    old[f"{CERTS}/{hub.host}/hosts.toml"] = '[host."https://mirror.example.org"]\n'
    old[f"{CERTS}/quay.io/hosts.toml"] = "# none of ours\n"
    for name, text in old.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    assert autologin()[0] == 0
    docker = json.loads((root / DOCKER).read_text())
    assert (docker["auths"]["quay.io"], docker["x"]) == ({"auth": "YTpi"}, 1)
    assert json.loads((root / CONTAINERS).read_text())["y"] == [2]
    hosts = hosts_of(root / CERTS / hub.host)["host"]
    assert list(hosts) == [hub.url, "https://mirror.example.org"]
    assert (root / CERTS / "quay.io/hosts.toml").read_text() == "# none of ours\n"


def test_a_file_is_replaced_and_never_written_into(autologin, root):
    """Who has the old one open reads it to its end; nothing half-written is left beside it."""
    path = root / DOCKER
    path.parent.mkdir(parents=True)
    path.write_text('{"old": 1}')
    other = path.with_name("other")
    other.hardlink_to(path)
    assert autologin("--for=docker")[0] == 0
    assert other.read_text() == '{"old": 1}'
    assert "auths" in path.read_text()
    assert {one.name for one in path.parent.iterdir()} == {"config.json", "other"}


@pytest.mark.parametrize("damaged", [DOCKER, CONTAINERS, f"{CERTS}/docker.io/hosts.toml"])
def test_one_damaged_file_stops_all(autologin, root, damaged):
    """It is named and kept, and none of the others is written."""
    path = root / damaged
    path.parent.mkdir(parents=True)
    path.write_text(f"ca = {SECRET}" if path.suffix == ".toml" else f'{{"x": "{SECRET}')
    code, _, err = autologin("--mirror=docker.io")
    assert code == 78
    assert f'"/{damaged}" cannot be changed' in err
    assert files(root) == {damaged}


def test_a_link_in_place_of_a_file_is_refused(autologin, root, tmp_path):
    """What it leads to is not read, and not written."""
    away = tmp_path / "away"
    away.write_text('{"mine": 1}')
    path = root / DOCKER
    path.parent.mkdir(parents=True)
    path.symlink_to(away)
    code, _, err = autologin("--for=docker")
    assert (code, "it is a symbolic link" in err) == (78, True)
    assert away.read_text() == '{"mine": 1}'


@pytest.mark.parametrize("target", ["/var/lib/certs", "../../../../../../var/lib/certs"])
def test_a_link_to_a_directory_leads_where_it_does_on_the_machine(autologin, root, target):
    """Below the root, however many steps up it takes."""
    (root / "var/lib/certs").mkdir(parents=True)
    (root / CERTS).symlink_to(target)
    assert autologin("--for=containerd", "--mirror=docker.io")[0] == 0
    assert (root / "var/lib/certs/docker.io/hosts.toml").is_file()
    assert not Path("/var/lib/certs").exists()


def test_links_in_a_circle_end(autologin, root):
    """With an error."""
    (root / CERTS).symlink_to("certs.d")
    code, _, err = autologin("--for=containerd")
    assert (code, "its links lead in a circle" in err) == (78, True)


@only_root
@pytest.mark.parametrize("what", ["file", "directory", "link"])
def test_what_another_user_could_change_is_refused(autologin, root, what):
    """A file, a directory or a link on the way that is neither root's nor ours."""
    path = root / DOCKER
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    away = path.parent.rename(root / HOME / "away") if what == "link" else path.parent
    if what == "link":
        path.parent.symlink_to("away")
    os.chown(path if what == "file" else path.parent, 1234, -1, follow_symlinks=False)
    code, _, err = autologin()
    assert (code, "belongs to uid 1234" in err) == (78, True)
    assert (away / "config.json").read_text() == "{}"
    assert len(files(root)) == 1


def test_a_directory_that_others_may_write_is_refused(autologin, root):
    """They could put another file there."""
    path = (root / DOCKER).parent
    path.mkdir(parents=True)
    path.chmod(0o777)
    code, _, err = autologin("--for=docker")
    assert (code, "may be written by others (mode 0777)" in err) == (78, True)


def test_a_pipe_in_place_of_a_file_is_refused(autologin, root):
    """And not waited for."""
    (root / DOCKER).parent.mkdir(parents=True)
    os.mkfifo(root / DOCKER)
    code, _, err = autologin("--for=docker")
    assert (code, "it is no plain file" in err) == (78, True)


def test_a_dry_run_writes_nothing(autologin, root):
    """It says what would be written."""
    code, out, _ = autologin("--dry-run")
    assert (code, out.count("would be written  /")) == (0, 3)
    assert files(root) == set()


def test_only_what_is_installed_gets_a_file(autologin, root):
    """By the programs' files."""
    (root / "usr/bin/podman").unlink()
    (root / "usr/bin/containerd").unlink()
    assert autologin()[0] == 0
    assert files(root) == {DOCKER}
    (root / "usr/bin/dockerd").unlink()
    code, _, err = autologin()
    assert (code, "is installed here" in err) == (2, True)


def test_containerd_that_does_not_look_is_told_of(autologin, root):
    """The files are right, and would do nothing; a host's /etc need not be there in a container."""
    assert "config_path" not in autologin()[2]
    (root / "etc/containerd/config.toml").write_text("version = 2\n")
    code, _, err = autologin()
    assert (code, 'config_path = "/etc/containerd/certs.d"' in err) == (0, True)


def test_the_folder_that_containerd_prefers_is_written(autologin, root, hub):
    """HOST_PORT_ goes before HOST:PORT, if it is there."""
    folder = f"{CERTS}/{hub.host.replace(':', '_')}_"
    (root / folder).mkdir(parents=True)
    assert autologin("--for=containerd")[0] == 0
    assert files(root) == {f"{folder}/hosts.toml"}


def test_no_type_fits(autologin, root, hub):
    """Each says why; the command that adds one is given, and nothing is written."""
    code, out, err = autologin("--json", node=profile("n1", "x86_64_v2"))
    assert code == 69
    assert "qnib/type1 needs cpu:broadwell" in err
    assert "`hpcimg hub type add qnib/x86_64_v2 cpu:x86_64_v2`" in err
    found = json.loads(out)
    assert (found["type"], found["proposal"]["features"]) == (None, ["cpu:x86_64_v2"])
    assert (files(root), hub.proposals) == (set(), [])


def test_a_type_is_proposed(autologin, hub):
    """With the words of this node, where the best that fits is for less than it is."""
    code, out, err = autologin("--propose", node=profile("n1", "skylake_avx512:nvcap:7.0"))
    assert (code, out.split()[0]) == (0, "qnib/type2")
    assert "no type is just this node" in err
    words = ["cpu:skylake_avx512", "nvcap:7.0"]
    name = "skylake_avx512-nvcap-7.0"
    assert hub.proposals == [{"account": "qnib", "name": name, "features": words, "node": "n1"}]


def test_nothing_is_proposed_where_a_type_is_just_the_node(autologin, hub):
    """However often it is asked for."""
    code, _, err = autologin("--propose")
    assert (code, err, hub.proposals) == (0, "", [])


def test_a_node_whose_gpus_are_unknown_is_no_type_without(autologin):
    """It would run the CPU's builds on GPUs until somebody looks."""
    blind = replace(BDW1, gpus=GpuFacts("unknown", "the driver does not answer"))
    code, _, err = autologin("--propose", node=blind)
    assert (code, "the driver does not answer" in err, "type add" in err) == (69, True, False)


def test_the_login_of_one_type_decides(autologin, root):
    """If it fits; that a better one is there is said."""
    node = profile("gpu1", "broadwell:nvcap:5.2")
    given = ("--login=qnib-type1", "--password-stdin")
    with Hub(TYPES, {"qnib-type1": SECRET}) as hub:
        code, out, err = autologin("--for=docker", node=node, given=given, url=hub.url)
        assert (code, out.split()[0]) == (0, "qnib/type1")
        assert "machine type qnib/type4 fits better" in err
        code, _, err = autologin("--for=docker", node=ZEN1, given=given, url=hub.url)
        assert (code, "qnib/type1 needs cpu:broadwell" in err) == (69, True)


def test_an_account_s_login_names_the_type_by_header(autologin, root, hub):
    """Docker and containers could not send it; containerd does."""
    given = ("--login=qnib", "--password-stdin")
    assert autologin("--for=containerd", given=given)[0] == 0
    found = hosts_of(root / CERTS / hub.host)
    assert found["host"][hub.url]["header"]["X-Hpcimg-Type"] == ["qnib/type1"]
    code, _, err = autologin(given=given)
    assert (code, 'give the login "qnib-type1"' in err) == (2, True)


def test_a_type_that_is_named_is_not_looked_for(autologin, root, hub):
    """The hub may be down."""
    code, out, _ = autologin("--type=qnib/type2", "--for=docker")
    assert (code, out.split()[0], hub.asked) == (0, "qnib/type2", [])
    assert basic("qnib-type2") in (root / DOCKER).read_text()
    assert autologin("--type=qnib/open", "--for=containerd", given=())[0] == 0
    code, _, err = autologin("--type=qnib/open", given=())
    assert (code, "no login is given that is of machine type qnib/open" in err) == (2, True)
    code, _, err = autologin("--type=qnib/type7")
    assert (code, "no login is for machine type qnib/type7" in err) == (2, True)


def test_the_login_comes_from_the_environment(autologin, monkeypatch):
    """Where no option gives one."""
    code, _, err = autologin(given=())
    assert (code, "HPCIMG_HUB_PASSWORD" in err) == (2, True)
    monkeypatch.setenv("HPCIMG_HUB_LOGIN", "qnib-type1")
    monkeypatch.setenv("HPCIMG_HUB_PASSWORD", LOGINS["qnib-type1"])
    assert autologin(given=())[0] == 0


def test_no_option_takes_a_password(autologin):
    """All users of a node can see its processes' arguments."""
    code, _, err = autologin(given=("--login=qnib", "--password=x"))
    assert (code, "ambiguous option" in err) == (2, True)


def test_a_wrong_password(autologin, root):
    """The hub's own words are passed on."""
    code, _, err = autologin(given=("--login=qnib-type1", "--password-stdin"))
    assert (code, "the password is not right" in err) == (77, True)
    assert files(root) == set()


def test_a_hub_with_an_authority_of_its_own(autologin, root, tmp_path):
    """It is trusted by --ca alone, which containerd gets too."""
    ca = authority(tmp_path)
    server = signed(ca, "server")
    with Hub(TYPES, LOGINS, tls=(str(server.certificate), str(server.key))) as hub:
        code, _, err = autologin(url=hub.url)
        assert (code, "certificate is not trusted" in err) == (76, True)
        code, _, err = autologin("--mirror=docker.io", f"--ca={ca.certificate}", url=hub.url)
        assert (code, err) == (0, "")
    for host in (hub.host, "docker.io"):
        folder = root / CERTS / host
        found = hosts_of(folder)
        assert found["ca"] == found["host"][hub.url]["ca"] == ["hpcimg-hub.crt"]
        assert (folder / "hpcimg-hub.crt").read_bytes() == ca.certificate.read_bytes()
    code, _, err = autologin(f"--ca={server.key}", url=hub.url)
    assert (code, "no PEM file of certificates alone" in err) == (2, True)


def test_certificates_that_lie_beside_a_new_file_still_count(autologin, root, hub):
    """By themselves they are read only where there is no hosts.toml."""
    folder = root / CERTS / hub.host
    folder.mkdir(parents=True)
    for name in ("site.crt", "me.cert", "me.key"):
        (folder / name).write_text("x")
    assert autologin("--for=containerd")[0] == 0
    found = hosts_of(folder)
    said = found["host"][hub.url]
    assert (said["ca"], said["client"]) == (["site.crt"], [["me.cert", "me.key"]])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--for=podman"], "docker,containers,containerd"),
        (["--mirror=../x"], "is no registry"),
        (["--mirror=docker.io", "--for=docker"], "for containerd alone"),
        (["--type=type1"], "write ACCOUNT/NAME"),
        (["--certs-dir=x"], "begins with /"),
    ],
)
def test_words_that_make_no_sense(autologin, hub, words, says):
    """Two lines that say what would."""
    code, _, err = autologin(*words)
    assert (code, says in err, hub.asked) == (2, True, []), err

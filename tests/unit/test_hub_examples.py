"""The examples of a node before the hub: what they run is what the command line takes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from hpcimg.cli import autologin
from hpcimg.cli.parser import make_parser

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/hub"


def parsed(line: str):
    """What the command line makes of a command."""
    return make_parser([autologin]).parse_args(shlex.split(line)[1:])


def documents(name: str) -> list:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all((EXAMPLES / name).read_text()))


def test_the_daemonset_runs_what_there_is():
    """Below the mounted path of the host, with the mounted logins."""
    spec = documents("daemonset.yaml")[-1]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    (line,) = re.findall(r"\S+/hpcimg autologin .*", container["args"][0])
    arguments = parsed(line)
    mounts = {one["mountPath"] for one in container["volumeMounts"]}
    assert f"{arguments.root}/etc/containerd/certs.d" in mounts
    assert str(arguments.password_file.parent) in mounts
    assert arguments.kinds == "containerd"
    assert {one["name"] for one in container["volumeMounts"]} == {
        one["name"] for one in spec["volumes"]
    }


def test_the_daemonset_has_no_power_that_it_does_not_need():
    """Not privileged, no capability, no way to more, and no account of the cluster."""
    spec = documents("daemonset.yaml")[-1]["spec"]["template"]["spec"]
    context = spec["containers"][0]["securityContext"]
    assert context["privileged"] is context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["readOnlyRootFilesystem"] is True
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()


def test_the_daemonset_takes_its_logins_from_a_secret():
    """The one that stands beside it, in the same namespace."""
    namespace, secret, daemons = documents("daemonset.yaml")
    volumes = {one["name"]: one for one in daemons["spec"]["template"]["spec"]["volumes"]}
    assert volumes["logins"]["secret"] == {"secretName": "hub-logins", "defaultMode": 0o400}
    assert secret["metadata"]["name"] == "hub-logins"
    places = {one["metadata"]["namespace"] for one in (secret, daemons)}
    assert places == {namespace["metadata"]["name"]}


def test_the_job_is_the_first_post_s():
    """With a name that Kubernetes takes, and the policy that a job must have."""
    (job,) = documents("job.yaml")
    assert re.fullmatch(r"[a-z0-9-]+", job["metadata"]["name"])
    template = job["spec"]["template"]["spec"]
    assert template["restartPolicy"] == "Never"
    assert template["containers"][0]["image"] == "qnib/cv-tf:1.12.0-rev9"


def test_the_service_runs_what_there_is():
    """With the words of its file of options."""
    text = (EXAMPLES / "autologin.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)", text, re.MULTILINE)
    options = re.findall(r"^#   OPTIONS=(.*)", text, re.MULTILINE)[0]
    arguments = parsed(
        line.replace("${HUB}", "https://hub.example.org").replace("$OPTIONS", options)
    )
    assert arguments.mirror == ["docker.io"]
    assert str(arguments.password_file) == "/etc/hpcimg/hub-logins"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not on this machine")
@pytest.mark.parametrize("name", ["autologin.service", "autologin.timer", "hub.service"])
def test_systemd_takes_the_units(tmp_path, name):
    """Each key is known to it, and the order has no circle."""
    for unit in (*EXAMPLES.glob("*.service"), *EXAMPLES.glob("*.timer")):
        text = unit.read_text().replace("/usr/local/bin/hpcimg", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    argv = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(tmp_path / name)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr + done.stdout) == (0, "")


def test_the_hubs_service_runs_what_there_is():
    """With a database and a cache that its user may write."""
    from hpcimg.cli import hub

    text = (EXAMPLES / "hub.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)", text, re.MULTILINE)
    make_parser([hub]).parse_args(shlex.split(line)[1:])
    assert "sqlite:////var/lib/hpcimg-hub/" in text
    for key in ("StateDirectory", "CacheDirectory"):
        assert f"{key}=hpcimg-hub\n" in text


def test_the_container_recipe_runs_what_there_is():
    """From this checkout, as a user who is not root."""
    from hpcimg.cli import hub

    text = (EXAMPLES / "Containerfile").read_text()
    (words,) = re.findall(r"^ENTRYPOINT (.*)", text, re.MULTILINE)
    make_parser([hub]).parse_args(json.loads(words)[1:])
    assert re.search(r"^USER [1-9][0-9]*$", text, re.MULTILINE)

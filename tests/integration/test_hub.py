"""Apptainer on the cluster's nodes pulls one name through a hub on the login node."""

from __future__ import annotations

import base64
import json
import shlex

import mishaps
import pytest

pytestmark = pytest.mark.integration

PORT = 5055
NAME = f"docker://login:{PORT}/qnib/bench"
PLACE = "/run/hub"
SETTINGS = {
    "listen": f"0.0.0.0:{PORT}",
    "database": f"sqlite:///{PLACE}/hub.sqlite",
    "cache": {"path": f"{PLACE}/blobs", "bytes": "100M"},
    "upstreams": {"main": {"registry": "registry:5000"}},
    "registries": {"registry:5000": {"plain_http": True}},
}
NODES = {
    "bdw1": ("qnib-type1", "optimized for: cpu:broadwell"),
    "skx1": ("qnib-type2", "optimized for: cpu:skylake"),
    "zen1": ("qnib-zen", "not optimized for a specific microarchitecture"),
    "gpu1": ("qnib-type4", "optimized for: cpu:broadwell,nvcap:5.2"),
}
"""What each node logs in as, and what the image that it gets says."""


@pytest.fixture(scope="module", autouse=True)
def hub(cluster):
    """Run a hub with the announcement's machine types and one more on the login node."""
    serve = f"hpcimg hub serve --settings {PLACE}/hub.yaml --static-machines"
    ask = f"busybox wget -q -O /dev/null http://localhost:{PORT}/health/ready"
    pid = mishaps.do(
        cluster,
        f"mkdir -p {PLACE}; cd {PLACE}; echo {shlex.quote(json.dumps(SETTINGS))} >hub.yaml\n"
        f"setsid {serve} >log 2>&1 </dev/null & echo $!\n"
        f"timeout 60 sh -c 'until {ask}; do sleep 0.1; done' 2>/dev/null || {{ cat log; exit 1; }}",
    ).strip()
    add = f"hpcimg hub type add qnib/zen cpu:zen3 --password-stdin --settings {PLACE}/hub.yaml"
    header = f"Authorization: Basic {base64.b64encode(b'qnib-zen:qnib-zen').decode()}"
    ask = f"busybox wget -q -O /dev/null --header '{header}' http://localhost:{PORT}/v2/"
    known = f'timeout 60 sh -c "until {ask}; do sleep 0.1; done" 2>/dev/null'
    mishaps.do(cluster, f"echo qnib-zen | {add}; {known}")
    yield
    ended = f"kill {pid}; timeout 60 sh -c 'while [ -e /proc/{pid} ]; do sleep 0.1; done'"
    mishaps.do(cluster, f"{ended}; rm -r {PLACE}")


def pull(cluster, node, login):
    """Pull as alice with this login into a file of her own, and run it."""
    file = f"/tmp/{login}.sif"
    told = f"APPTAINER_DOCKER_USERNAME={login} APPTAINER_DOCKER_PASSWORD={login}"
    done = cluster.shell(
        f"{told} apptainer --silent pull --no-https --force {file} {NAME} && apptainer run {file}; "
        f"code=$?; rm -f {file}; exit $code",
        node=node,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("node", NODES)
def test_apptainer_gets_the_image_of_its_machine_type(cluster, node):
    """Each node's login brings its own build of the one name."""
    login, line = NODES[node]

    assert pull(cluster, node, login) == f">> This container is {line}"


def test_apptainer_takes_no_other_login_s_image_out_of_its_cache(cluster):
    """Two logins of one user, whose cache is one, get two images."""
    first, second = (pull(cluster, "bdw1", NODES[node][0]) for node in ("bdw1", "skx1"))

    assert (first, second) == tuple(
        f">> This container is {NODES[node][1]}" for node in ("bdw1", "skx1")
    )


def test_apptainer_without_a_login_is_refused(cluster):
    """Who is nobody gets no image, and is told why."""
    done = cluster.shell(f"apptainer pull --no-https --force /tmp/none.sif {NAME}", node="bdw1")

    assert done.returncode != 0
    assert "log in as a machine type or an account" in done.stderr

"""Hostile words and surroundings: they do nothing to what root and the store's account start."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from conftest import Cluster
from launching import IMAGE, NODE, Allocation, allocate, build_probe
from mishaps import do

pytestmark = pytest.mark.integration

# Says who loaded it: any process but the user's own leaves a name that the test then finds.
_MARK = r"""
#include <stdio.h>
#include <unistd.h>
__attribute__((constructor)) static void mark(void)
{
    char path[64];
    snprintf(path, sizeof(path), "/home/alice/marks/%d-%d", (int)geteuid(), (int)getpid());
    FILE *file = fopen(path, "w");
    if (file != NULL)
        fclose(file);
}
"""
_PYTHON = "import os; open(f'/home/alice/marks/{os.geteuid()}-python', 'w')"


@pytest.fixture(scope="module")
def job(cluster: Cluster) -> Iterator[Allocation]:
    """One job for all steps of this file, and alice's traps."""
    build_probe(cluster)
    traps = (
        "mkdir -p marks trap bin && chmod 1777 marks && chmod 755 ~\n"
        f"printf %s {shlex.quote(_MARK)} | gcc -shared -fPIC -x c -o trap/mark.so -\n"
        f"for name in sitecustomize usercustomize hpcimg yaml; do echo {shlex.quote(_PYTHON)} "
        ">trap/$name.py; done\n"
        "for name in apptainer python squashfuse_ll sh; do "
        "printf '#!/bin/sh\\ntouch /home/alice/marks/$(id -u)-path\\n' >bin/$name; "
        "chmod +x bin/$name; done"
    )
    made = cluster.shell(f"cd ~; {traps}")
    assert made.returncode == 0, made.stderr
    yield from allocate(cluster)


HOSTILE = {
    "LD_PRELOAD": "/home/alice/trap/mark.so",
    "LD_LIBRARY_PATH": "/home/alice/trap",
    "LD_AUDIT": "/home/alice/trap/mark.so",
    "PYTHONPATH": "/home/alice/trap",
    "PYTHONSTARTUP": "/home/alice/trap/yaml.py",
    "PYTHONHOME": "/home/alice/trap",
    "PATH": "/home/alice/bin:/usr/bin:/bin",
    "HOME": "/home/alice/trap",
    "TMPDIR": "/home/alice/nowhere",
    "BASH_ENV": "/home/alice/bin/sh",
    "APPTAINER_BIND": "/etc/shadow:/tmp/shadow",
    "APPTAINER_CONFIGDIR": "/home/alice/trap",
    "APPTAINERENV_LD_PRELOAD": "/home/alice/trap/mark.so",
    "APPTAINER_SHELL": "/home/alice/bin/sh",
    "SINGULARITY_BIND": "/etc/shadow:/tmp/shadow",
    "SINGULARITYENV_PATH": "/home/alice/bin",
    "HPCIMG_STORE": "/home/alice/trap",
    "HPCIMG_SETTINGS": "/home/alice/trap/settings.yaml",
    "HPCIMG_PYTHON": "/home/alice/bin/python",
    "SLURM_HPCIMG_JOIN": "0 0 0 /home/alice/bin/sh",
}


def test_environment_reaches_nobody_else(job: Allocation) -> None:
    """With every known variable set against them, root and the account run as always."""
    given = "; ".join(f"export {name}={shlex.quote(text)}" for name, text in HOSTILE.items())
    # The trap works: srun itself, which is the user's, steps into it.
    job.on_node(f"rm -rf /home/alice/marks/* /run/hpcimg/tickets/{job.job}/*")
    line = shlex.join(job.command("/bin/busybox", "env", image=IMAGE))
    done = job.cluster.shell(f"cd ~; {given}; /usr/bin/{line}")
    assert "BENCH_MADE_FOR=cpu:broadwell" in done.stdout, done.stderr
    marks = job.on_node("ls /home/alice/marks").split()
    assert marks
    assert {mark.split("-")[0] for mark in marks} == {"1001"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a" * 10_000, id="10000 characters"),
        pytest.param("qnib/bench\nid", id="newline"),
        pytest.param("qnib/bench'; touch ~/marks/owned; '", id="quotes"),
        pytest.param("$(touch ~/marks/owned)", id="substitution"),
        pytest.param("qnib/../../../etc/passwd", id="dots"),
        pytest.param("--store", id="an option"),
        pytest.param(" ", id="blank"),
    ],
)
@pytest.mark.parametrize("way", ["option", "variable", "forged"])
def test_hostile_names(job: Allocation, name: str, way: str) -> None:
    """Each is refused, wherever it comes in, and nothing runs."""
    quoted = shlex.quote(name)
    if way == "option":
        ended = job.step(f"--container-image={name}", "echo", "ran", image=None)
    elif way == "variable":
        ended = job.step(
            "echo", "ran", image=None, environment=f"export SLURM_HPCIMG_IMAGE={quoted}"
        )
    else:  # past srun's own check: what another program could send
        ended = job.step("env", image=None, environment=forged(quoted))
    assert ended.code != 0, ended
    assert "ran" not in ended.output
    assert "hpcimg" in ended.errors
    assert "owned" not in job.on_node("ls /home/alice/marks")


def forged(name: str) -> str:
    """Shell text that makes srun send a name which the plugin did not see there."""
    return (
        "ulimit -s unlimited; mkdir -p conf; cp /etc/slurm/*.conf conf; : >conf/plugstack.conf\n"
        f"export SLURM_CONF=$HOME/conf/slurm.conf SLURM_HPCIMG_IMAGE={name}"
    )


def test_forged_request_is_served_or_refused(job: Allocation) -> None:
    """A request that no plugin made on the submit side means the same on the node."""
    ended = job.step("bench", image=None, environment=forged("qnib/bench"))
    assert "cpu:broadwell" in ended.output, ended.errors


def test_forged_word_for_the_prolog(job: Allocation) -> None:
    """What the prolog reads is checked again there: a bad name is no work, and no drained node."""
    bad = shlex.quote("../../x;$(touch /home/alice/marks/owned)")
    given = f"{forged('none')}; export SLURM_SPANK_HPCIMG_IMAGE={bad}"
    done = job.cluster.shell(f"cd ~; {given}; srun -w {NODE} --mem=100 echo fine")
    assert done.stdout == "fine\n", done.stderr
    assert "owned" not in job.on_node("ls /home/alice/marks")
    assert "drain" not in job.cluster.run("sinfo", "-hN", "-o", "%T").stdout


def test_forged_ready_line(job: Allocation) -> None:
    """A report with another's pid is refused: that process's namespaces are not the user's."""
    # A stand-in for Apptainer reports munged, as an image's own scripts could print it.
    stand_in = "printf 'hpcimg-holder-ready %d 0\\n' $(pgrep -x munged | head -1); exec sleep 60"
    do(
        job.cluster,
        f"printf '#!/bin/sh\\n%s\\n' {shlex.quote(stand_in)} >/usr/local/bin/liar; "
        "chmod 755 /usr/local/bin/liar; mv /usr/bin/apptainer /usr/bin/apptainer.away; "
        "ln -s /usr/local/bin/liar /usr/bin/apptainer",
        NODE,
    )
    try:
        ended = job.step("echo", "ran")
    finally:
        do(job.cluster, "mv /usr/bin/apptainer.away /usr/bin/apptainer", NODE)
    assert ended.code == 125, ended
    assert ended.output == ""
    assert 'could not enter "qnib/bench"' in ended.errors
    assert job.on_node("pgrep -u alice sleep") == ""


def test_a_forged_name_writes_no_line_of_its_own_into_slurms_log(cluster: Cluster) -> None:
    """What a step's environment says goes there in a refusal, and root reads it."""
    name = "x\n[2020-01-01T00:00:00.000] error: forged\x1b[31m"
    done = cluster.run("srun", "-w", NODE, f"--export=ALL,SLURM_HPCIMG_IMAGE={name}", "true")
    assert done.returncode == 125
    line = 'could not run "x?[2020-01-01T00:00:00.000] error: forged?[31m": that is not an image'
    assert line in done.stderr
    log = cluster.shell("cat /var/log/slurmd.log", node=NODE, user="root").stdout
    assert line in log
    assert "\x1b" not in log


MAKE_CROWD = """\
import sys
sys.path.insert(0, "/usr/local/lib/cluster/images")
from make_images import *
push("registry:5000/crowd:latest", [pack(busybox_entries())], {"Entrypoint": ["/home/alice/crowd"]})
"""


def test_what_an_entrypoint_starts_ends_with_the_step(job: Allocation) -> None:
    """However many processes it leaves behind, and when: all are in the step's group that kills."""
    crowd = (
        "#!/bin/sh\nfor i in $(seq 60); do setsid sleep 4242 </dev/null >/dev/null 2>&1 & done\n"
        "setsid sh -c 'for i in $(seq 60); do (setsid sleep 4242 &); sleep 0.01; done' "
        '</dev/null >/dev/null 2>&1 &\nexec "$@"\n'
    )
    made = job.cluster.run("python3", "-c", MAKE_CROWD, user="root")
    assert made.returncode == 0, made.stderr
    job.cluster.shell(f"printf %s {shlex.quote(crowd)} >~/crowd; chmod 755 ~/crowd")
    script = "until [ $(pidof sleep | wc -w) -ge 100 ]; do :; done; echo enough"
    ended = job.step("--container-entrypoint", "sh", "-c", script, image="crowd")
    assert ended.output == "enough\n", ended.errors
    assert job.on_node("pgrep -cu alice -x sleep") == "0\n"

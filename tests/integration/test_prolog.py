"""Prolog and epilog: the image is there before the first step, and no node is ever drained."""

from __future__ import annotations

import re

import mishaps
import pytest

pytestmark = pytest.mark.integration

NODE = "bdw1"
BENCH = "qnib/bench"
TICKETS = "/run/hpcimg/tickets"
PROLOG = "/usr/local/libexec/hpcimg/prolog"
EPILOG = "/usr/local/libexec/hpcimg/epilog"
JOB = "4000000001"
"""A job that Slurm never had: the tests start the prolog for it as slurmd does."""


@pytest.fixture(scope="module", autouse=True)
def warmed(cluster):
    """Have the bench's images in the store; in the end no node may be drained."""
    done = cluster.run("hpcimg", "cache", "warm", BENCH, user="root")
    assert done.returncode == 0, done.stderr
    yield
    states = mishaps.do(cluster, "sinfo -hN -o '%N %T'").splitlines()
    assert not [line for line in states if re.search("drain|down|fail", line)], states


def prolog(cluster, name, *, node=NODE, timeout=100, **variables):
    """Run the prolog with nothing but Slurm's own variables; wait for what it leaves running."""
    code = start_prolog(cluster, name, node=node, timeout=timeout, **variables)
    locked = f"for lock in {TICKETS}/{JOB}/.*~*; do [ ! -e $lock ] || flock -s $lock true; done"
    mishaps.do(cluster, locked, node)
    return code


def start_prolog(cluster, name, *, node=NODE, timeout=100, **variables):
    """Run the prolog alone; its exit code."""
    given = {"SLURM_JOB_ID": JOB, "SPANK_HPCIMG_IMAGE": name, **variables}
    words = [f"{key}={value}" for key, value in given.items()]
    done = cluster.run(
        "env", "-i", *words, "/bin/sh", PROLOG, node=node, user="root", timeout=timeout
    )
    assert (done.stdout, done.stderr) == ("", ""), "a prolog's output goes to nobody"
    return done.returncode


def tickets(cluster, job=JOB, node=NODE):
    """List the tickets of a job: file names and texts."""
    script = f"cd {TICKETS}/{job} 2>/dev/null && tail -n +1 -v -- * 2>/dev/null || :"
    return mishaps.do(cluster, script, node)


def syslog(cluster, node=NODE):
    """Read the node's log."""
    return mishaps.do(cluster, "grep hpcimg /var/log/syslog || :", node)


def clear(cluster, node=NODE):
    """Run the epilog of the tests' job."""
    done = cluster.run(
        "env", "-i", f"SLURM_JOB_ID={JOB}", "/bin/sh", EPILOG, node=node, user="root"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "argv",
    [
        ("srun", "-w", NODE, "--container", BENCH, "bench"),
        ("salloc", "-Q", "-w", NODE, f"--container-image={BENCH}", "srun", "bench"),
        ("sbatch", "-W", "-Q", "-w", NODE, "--container", BENCH, "--wrap", "srun bench"),
        ("sbatch", "-W", "-Q", "-w", NODE, f"--container-image={BENCH}", "--wrap", "bench"),
    ],
    ids=["srun", "salloc", "sbatch", "sbatch image"],
)
@pytest.mark.newest
def test_the_first_step_finds_the_ticket(cluster, argv):
    """However the job names its image, only the prolog starts Python; the step starts none."""
    out = "/home/alice/prolog.out"
    words = (argv[0], "-o", out, *argv[1:]) if argv[0] == "sbatch" else argv
    with mishaps.recorded_python(cluster, NODE):
        done = cluster.run(*words)
        starts = mishaps.python_starts(cluster, NODE)
    said = cluster.run("cat", out).stdout if argv[0] == "sbatch" else done.stdout
    assert "optimized for: cpu:broadwell" in said, done.stderr + said
    assert starts == ["prefetch"]


def test_a_job_without_image_starts_nothing(cluster):
    """It costs such a job no Python."""
    with mishaps.recorded_python(cluster, NODE):
        assert cluster.run("srun", "-w", NODE, "true").returncode == 0
        assert cluster.run("srun", "-w", NODE, "--container-image=none", "true").returncode == 0
        assert mishaps.python_starts(cluster, NODE) == []


@pytest.mark.newest
def test_the_epilog_removes_the_tickets(cluster):
    """After the job nothing of it is left; tickets are root's and can be read."""
    watch = (
        f"cd {TICKETS}/$SLURM_JOB_ID && echo $SLURM_JOB_ID && flock -s .*~* true"
        " && stat -c '%U %a' . && stat -c '%U %a' -- *"
    )
    done = cluster.run(
        "salloc", "-Q", "-w", NODE, f"--container-image={BENCH}",
        "srun", "--container-image=none", "sh", "-c", watch,
    )  # fmt: skip
    job, *owners = done.stdout.splitlines()
    assert owners == ["root 755", "root 644"], done.stderr
    gone = f"until [ ! -e {TICKETS}/{job} ]; do sleep 0.05; done; ls -A {TICKETS}"
    assert job not in mishaps.do(cluster, f"timeout 30 sh -c '{gone}'", NODE)


def test_the_gpus_of_the_job_decide(cluster):
    """Without GPU the CPU's build, with one the GPU's; a step without it gets the CPU's again."""
    bench = ("--container", BENCH, "bench")
    gpu = ("-w", "gpu1", "--gres=gpu:1")
    with mishaps.recorded_python(cluster, "gpu1"):
        plain = cluster.run("srun", "-w", "gpu1", *bench)
        with_gpu = cluster.run("srun", *gpu, *bench)
        starts = mishaps.python_starts(cluster, "gpu1")
    assert plain.stdout.strip().endswith(": cpu:broadwell"), plain.stderr
    assert with_gpu.stdout.strip().endswith(": cpu:broadwell,nvcap:5.2"), with_gpu.stderr
    assert starts == ["prefetch", "prefetch"]
    step = cluster.run("salloc", "-Q", *gpu, "srun", "--gres=none", *bench)
    assert step.stdout.strip().endswith(": cpu:broadwell"), step.stderr


HOSTILE = {
    "long": "a" * 10000,
    "newline": "qnib/bench\nimage=/etc/passwd",
    "quotes": "qnib/bench\"';touch /tmp/x;'",
    "substitution": "$(touch${IFS}/tmp/x)`touch /tmp/x`",
    "path": "../../../../etc/passwd",
    "option": "--foreground=0",
    "glob": "qnib/*",
    "blank": "qnib/bench /etc",
    "not text": "qnib/\udcff\udcfe",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_names_do_nothing(cluster, case):
    """No ticket, no file, no failure; and the log has one readable line of it at most."""
    before = syslog(cluster)
    files = mishaps.do(cluster, "ls -A /tmp", NODE)
    code = prolog(cluster, HOSTILE[case])
    assert code == 0
    assert tickets(cluster) == ""
    assert mishaps.do(cluster, "ls -A /tmp", NODE) == files
    new = syslog(cluster).removeprefix(before)
    assert f"job {JOB}: " in new
    assert len(new) < 2000
    assert "/etc/passwd\n" not in new.replace('"', "") or case == "path"
    clear(cluster)


@pytest.mark.parametrize("job", ["", "../1", "1;touch /tmp/x", "-1", "1\n2"])
def test_hostile_job_numbers_do_nothing(cluster, job):
    """Neither prolog nor epilog makes a path of what is no number."""
    before = mishaps.do(cluster, f"find {TICKETS} /tmp", NODE)
    code = prolog(cluster, BENCH, SLURM_JOB_ID=job)
    assert code == 0
    argv = ("env", "-i", f"SLURM_JOB_ID={job}", "/bin/sh", EPILOG)
    assert cluster.run(*argv, node=NODE, user="root").returncode == 0
    assert mishaps.do(cluster, f"find {TICKETS} /tmp", NODE) == before


def test_root_is_given_up_at_once(cluster):
    """What runs is the account, without capabilities, groups or the job's environment."""
    script = (
        "#!/bin/sh\n"
        "{ id; grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status; env; pwd; umask;"
        " ls /proc/self/fd; } >>/var/log/python-starts\nexit 1\n"
    )
    python = mishaps.PYTHON
    with mishaps.recorded_python(cluster, NODE):
        mishaps.do(cluster, f"cat >{python} <<'END'\n{script}END\nchmod 755 {python}", NODE)
        hostile = {"PYTHONPATH": "/tmp", "PYTHONSTARTUP": "/tmp/x", "HOME": "/root"}
        code = prolog(cluster, BENCH, **hostile)
        seen = mishaps.do(cluster, f"cat {mishaps.PYTHON_LOG}", NODE).splitlines()
    clear(cluster)
    assert code == 0
    assert seen[0] == "uid=980(hpcimg) gid=980(hpcimg) groups=980(hpcimg)"
    capabilities = dict(line.split(":", 1) for line in seen if line.startswith("Cap"))
    assert len(capabilities) == 5
    assert {int(value, 16) for value in capabilities.values()} == {0}
    assert "NoNewPrivs:\t1" in seen
    variables = {line.split("=")[0] for line in seen if re.match("[A-Z_]+=", line)}
    assert variables <= {"PATH", "LC_ALL", "HOME", "PWD"}
    assert "/" in seen
    assert "0022" in seen
    assert not {"4", "5", "6", "7", "8", "9"} & set(seen), "descriptors are open"


def test_the_users_libraries_are_not_loaded_as_root(cluster):
    """Slurm hands the prolog none of the job's environment but the name."""
    with mishaps.recorded_python(cluster, NODE):
        mishaps.do(
            cluster, f"sed -i 's|^echo|env >>{mishaps.PYTHON_LOG}; echo|' {mishaps.PYTHON}", NODE
        )
        job = "PYTHONPATH=/home/alice LD_PRELOAD= HPCIMG_PYTHON=/home/alice/python srun"
        done = cluster.shell(f"{job} -w {NODE} --container {BENCH} true")
        seen = mishaps.do(cluster, f"cat {mishaps.PYTHON_LOG}", NODE)
    assert done.returncode == 0, done.stderr
    assert "prefetch" in seen
    assert "alice" not in seen


def test_a_ticket_of_an_older_job_is_not_used(cluster):
    """Job numbers come again: what lies under the number before the prolog is removed."""
    config = mishaps.do(cluster, "scontrol show config")
    number = int(re.search(r"NEXT_JOB_ID\s*=\s*(\d+)", config)[1])
    wrong = (
        "$(ls /srv/hpcimg/store/entries/sha256/*/record.json | xargs grep -L broadwell | head -1)"
    )
    plant = (
        f"for job in $(seq {number} {number + 5}); do mkdir -p {TICKETS}/$job;"
        f" echo image=$(dirname {wrong})/image.sif >{TICKETS}/$job/qnib+bench~none; done"
    )
    mishaps.do(cluster, plant, NODE)
    done = cluster.run("srun", "-w", NODE, "--container", BENCH, "bench")
    mishaps.do(cluster, f"cd {TICKETS}; rm -rf $(seq {number} {number + 5})", NODE)
    assert done.stdout.strip().endswith(": cpu:broadwell"), done.stdout + done.stderr


def test_a_slow_registry_does_not_hold_the_job(cluster):
    """The prolog waits for nothing; the prefetch goes on in its own session, in no one's way."""
    slow = (
        "import socket,time\ns = socket.create_server(('', 5002))\nkept = []\n"
        "while True: kept.append(s.accept())"
    )
    pid = mishaps.do(cluster, f'setsid python3 -c "{slow}" >/dev/null 2>&1 </dev/null & echo $!')
    listed = {"registry:5002": {"plain_http": True}}
    running = "until pgrep -u hpcimg -f 'hpcimg prefetch'; do sleep 0.05; done"
    try:
        with mishaps.settings(cluster, registries=listed):
            assert start_prolog(cluster, "registry:5002/qnib/bench") == 0
            child = mishaps.do(cluster, f'timeout 30 sh -c "{running}"', NODE).strip()
            files = mishaps.do(
                cluster, f"ls -l /proc/{child}/fd/[012]; cat /proc/{child}/stat", NODE
            )
    finally:
        mishaps.do(cluster, f"kill {pid}")
        mishaps.do(cluster, "pkill -u hpcimg -f 'hpcimg prefetch' || :", NODE)
    session = files.splitlines()[-1].rpartition(") ")[2].split()[3]
    assert session not in {"0", "1"}, "it is in the session of the one who started it"
    assert "pipe:" not in files, "slurmd would wait for its output"
    clear(cluster)


def test_four_prologs_fetch_once(cluster):
    """A cold image that four nodes want is fetched by one of them."""
    name = "qnib/plain-featuretest:generic"
    mishaps.forget_images(cluster)
    before = len(mishaps.blob_requests(cluster))
    done = cluster.run("srun", "-N4", "--container", name, "bench")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("not optimized") == 4
    asked = mishaps.blob_requests(cluster)[before:]
    layers = [digest for digest in asked if asked.count(digest) == 1]
    assert layers, "nothing was fetched"
    # Each node reads the small config of an image that has no index; only one fetches layers.
    assert len([digest for digest in set(asked) if asked.count(digest) > 1]) <= 1
    assert cluster.run("hpcimg", "cache", "warm", BENCH, user="root").returncode == 0


def test_what_fails_is_logged_and_no_failure(cluster):
    """Registry down, full store, no account, no Python: exit code 0 and one line in syslog."""
    down = {"registry:5999": {"plain_http": True}}
    with mishaps.settings(cluster, registries=down):
        assert prolog(cluster, "registry:5999/qnib/bench") == 0
    assert f"job {JOB}: could not reach http://registry:5999" in syslog(cluster)
    with mishaps.small_disk(cluster, NODE):
        assert prolog(cluster, BENCH) == 0
    assert re.search(
        f'job {JOB}: could not .* in "/srv/small/store.*no space left', syslog(cluster)
    )
    with mishaps.without_account(cluster, NODE):
        assert prolog(cluster, BENCH) == 0
    assert f"job {JOB}: could not prefetch: setpriv: " in syslog(cluster)
    with mishaps.missing(cluster, NODE, mishaps.PYTHON):
        assert prolog(cluster, BENCH) == 0
    assert f"job {JOB}: could not prefetch: env: '{mishaps.PYTHON}'" in syslog(cluster)
    assert tickets(cluster) == ""
    clear(cluster)


@pytest.mark.parametrize("inodes", range(1, 6))
def test_a_full_run_drains_no_node(cluster, inodes):
    """Whatever cannot be made there, prolog and epilog end with 0: a step fetches for itself."""
    script = (
        f"mkdir -p {TICKETS}; mount -t tmpfs -o nr_inodes={inodes} none {TICKETS};"
        f" export SLURM_JOB_ID={JOB} SPANK_HPCIMG_IMAGE={BENCH}; sh {PROLOG}; echo $?;"
        f" for lock in {TICKETS}/{JOB}/.*~*; do [ ! -e $lock ] || flock -s $lock true; done;"
        f" echo step=0 >{TICKETS}/{JOB}/.steps; sh {EPILOG}; echo $?; ls -A {TICKETS}"
    )
    done = cluster.run("unshare", "-m", "sh", "-c", script, node=NODE, user="root")
    assert done.stdout == "0\n0\n", done.stderr

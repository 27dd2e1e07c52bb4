"""Without the plugin: `hpcimg run` on a node, and `hpcimg srun` on a site."""

from __future__ import annotations

import mishaps
import pytest

pytestmark = pytest.mark.integration

NODE = "bdw1"
BENCH = "qnib/bench"
BROADWELL = ">> This container is optimized for: cpu:broadwell\n"


@pytest.fixture(scope="module", autouse=True)
def warmed(cluster):
    """Have the bench's images in the site's store."""
    done = cluster.run("hpcimg", "cache", "warm", BENCH, user="root")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def no_plugin(cluster):
    """A site whose Slurm loads no plugin."""
    conf = "/etc/slurm/plugstack.conf"
    mishaps.do(cluster, f"cp {conf} {conf}.away; : >{conf}")
    yield
    mishaps.do(cluster, f"mv {conf}.away {conf}")


def test_a_command_on_a_node(cluster):
    """The node's image comes from the site's store; the exit code is the command's."""
    before = mishaps.blob_requests(cluster)
    done = cluster.run("hpcimg", "run", BENCH, "--", "sh", "-c", "bench; exit 7", node=NODE)
    assert (done.returncode, done.stdout, done.stderr) == (7, BROADWELL, "")
    assert mishaps.blob_requests(cluster) == before


def test_standard_input_reaches_the_command(cluster):
    """It is the command's own, as are its words."""
    script = "echo words | hpcimg run qnib/bench -- sh -c 'cat; echo \"$@\"' - 'a b' --flag"
    done = cluster.shell(script, node=NODE)
    assert done.stdout == "words\na b --flag\n", done.stderr


def test_dry_run_prints_what_would_run(cluster):
    """The command line can be pasted, and nothing runs."""
    done = cluster.run("hpcimg", "run", "--dry-run", BENCH, "--", "bench", "a b", node=NODE)
    words = done.stdout.split()
    assert words[:4] == ["/usr/bin/apptainer", "--quiet", "exec", "--userns"]
    assert words[4].startswith("/srv/hpcimg/store/entries/sha256/")
    assert done.stdout.endswith(" bench 'a b'\n")
    assert cluster.shell(done.stdout.replace("'a b'", ""), node=NODE).stdout == BROADWELL


def test_a_cold_store_makes_it_the_users_own(cluster):
    """What the site has not is fetched into the user's store, and found there again."""
    mishaps.do(cluster, "mv /srv/hpcimg/store /srv/hpcimg/store.away")
    try:
        for _ in range(2):
            done = cluster.run("hpcimg", "run", BENCH, "bench", node=NODE, user="bob")
            assert done.stdout == BROADWELL, done.stderr
            requests = mishaps.blob_requests(cluster)
        done = cluster.run("hpcimg", "run", BENCH, "bench", node=NODE, user="bob")
        assert mishaps.blob_requests(cluster) == requests
        own = mishaps.do(cluster, "stat -c '%a %U' /home/bob/.local/share/hpcimg/store")
        assert own == "700 bob\n"
    finally:
        mishaps.do(cluster, "rm -rf /srv/hpcimg/store /home/bob/.local/share/hpcimg")
        mishaps.do(cluster, "mv /srv/hpcimg/store.away /srv/hpcimg/store")


def test_a_job_with_a_gpu_gets_the_gpus_build(cluster):
    """In a job the GPUs that count are the job's."""
    argv = ("srun", "-w", "gpu1", "hpcimg", "run", BENCH, "bench")
    assert cluster.run(*argv).stdout == BROADWELL
    done = cluster.run(*argv[:3], "--gres=gpu:1", *argv[3:])
    assert done.stdout == BROADWELL.replace("\n", ",nvcap:5.2\n"), done.stderr


def test_srun_on_a_site_without_the_plugin(cluster, no_plugin):
    """Each node runs its own build, and srun's own options stay srun's."""
    words = ("-w", "bdw1,zen1", "-l", "--container", BENCH, "bench")
    done = cluster.run("hpcimg", "srun", *words)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        f"0: {BROADWELL.strip()}",
        "1: >> This container is not optimized for a specific microarchitecture",
    ]
    done = cluster.run("hpcimg", "srun", "-w", NODE, f"--container={BENCH}", "sh", "-c", "exit 7")
    assert done.returncode == 7


def test_a_refusal_without_the_plugin_is_said_once_a_node(cluster, no_plugin):
    """Eight tasks on two nodes are two reports of two lines, and nothing runs."""
    mark = "/home/alice/mark-without-plugin"
    words = ("-w", "bdw1,zen1", "-O", "-n8", "--container", "qnib/nothing", "touch", mark)
    done = cluster.run("hpcimg", "srun", *words)
    assert done.returncode == 66
    ours = [line for line in done.stderr.splitlines() if line.startswith("hpcimg: ")]
    wanted = '"registry:5000/qnib/nothing:latest" is not in the registry'
    for node in ("bdw1", "zen1"):
        what, hint = (line for line in ours if line.startswith(f"hpcimg: {node}: "))
        assert what.startswith(f"hpcimg: {node}: {wanted}"), done.stderr
        assert hint.startswith(f"hpcimg: {node}: hint: "), done.stderr
    assert len(ours) == 4, done.stderr
    assert cluster.run("test", "-e", mark).returncode == 1


def test_srun_without_an_image(cluster):
    """The usage is said, and srun is not started."""
    done = cluster.run("hpcimg", "srun", "-n1", "hostname")
    assert (done.returncode, done.stdout) == (2, "")
    assert "write: hpcimg srun [srun's options] --container NAME COMMAND" in done.stderr

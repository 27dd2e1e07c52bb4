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


def test_the_plugin_s_words_for_the_container(cluster):
    """Mounts, directory, home, variables, writing and another build, by the same words."""
    run = "hpcimg run"
    script = f"""cd; mkdir -p 'a:b' && echo mine >'a:b/file'; export MINE='a, "b"'
    {run} --mounts .:/here,tmpfs:/t --workdir /here/a:b {BENCH} -- sh -c 'pwd; cat file; >/t/x'
    {run} --no-mount-home {BENCH} -- sh -c 'pwd; ls /home/alice'
    mkdir d 'a b'; {run} --no-mount-home --mounts d,~/'a b' {BENCH} -- ls /home/alice
    (cd a:b && {run} --no-mount-home {BENCH} -- sh -c 'cat file; ls ..')
    {run} --writable {BENCH} -- sh -c 'touch /x && ls /x'
    {run} --readonly {BENCH} -- sh -c 'touch /x'
    PATH=$PATH:/mine {run} --env MINE,PATH {BENCH} -- sh -c 'echo $MINE; echo $PATH'
    {run} --platform linux/amd64:x86_64_v2 {BENCH} -- bench
    PYXIS_CONTAINER_WORKDIR=/usr {run} {BENCH} -- pwd"""
    done = cluster.shell(script, node=NODE)
    lines = done.stdout.splitlines()
    assert lines[:5] == ["/here/a:b", "mine", "/", "a b", "d"], done.stderr
    assert lines[5:8] == ["mine", "a:b", "/x"], done.stderr
    assert lines[8] == 'a, "b"'
    assert lines[9].endswith(":/mine")
    assert lines[10:] == [
        ">> This container is not optimized for a specific microarchitecture",
        "/usr",
    ]
    assert "touch: /x: Read-only file system" in done.stderr
    assert "WARNING" not in done.stderr


def test_srun_takes_them_too(cluster, no_plugin):
    """With the plugin's names; what only the plugin can is said, and nothing is started."""
    words = ("--container-mounts=/opt:/host-opt", "--container-workdir", "/host-opt")
    done = cluster.run("hpcimg", "srun", "-w", NODE, *words, "--container", BENCH, "pwd")
    assert done.stdout == "/host-opt\n", done.stderr
    done = cluster.run("hpcimg", "srun", "--container-name=x", "--container", BENCH, "pwd")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--container-name needs the plugin" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--mounts /nope:/x", "mount source '/nope' is not on this node"),
        ("--mounts /opt:/x:noexec", "'/opt' cannot be mounted with noexec without the plugin"),
        ("--mounts umount:/tmp", "'umount:/tmp' needs the plugin"),
        ("--mounts /opt:x", "mount target 'x' is no path below / in the container"),
        ("--workdir x", "the working directory 'x' is not absolute"),
        ("--writable --readonly", "argument --readonly: not allowed with argument --writable"),
        ("--platform linux/arm64", "platform 'linux/arm64' is of arm64, this node of amd64"),
    ],
)
def test_what_cannot_be_is_refused(cluster, words, message):
    """In two lines, and the command has not run."""
    done = cluster.run("hpcimg", "run", *words.split(), BENCH, "--", "echo", "ran", node=NODE)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 2

"""The cluster in a folder itself: its nodes differ, break and come back as real ones do."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from conftest import COMMAND, Cluster

pytestmark = pytest.mark.integration

NODES = ("login", "bdw1", "skx1", "zen1", "gpu1")
COMPUTE_NODES = NODES[1:]
MODELS = {
    "bdw1": "E5-2690 v4",
    "skx1": "Gold 6132",
    "zen1": "AMD Ryzen 9 5950X",
    "gpu1": "E5-2690 v4",
}


def boot_ids(cluster: Cluster) -> list[str]:
    """Each node's boot id, in the order of NODES."""
    path = "/proc/sys/kernel/random/boot_id"
    return [cluster.run("cat", path, node=node).stdout.strip() for node in NODES]


def leftovers(folder: str) -> list[str]:
    """Mounts and control groups of a cluster, and processes that hold either."""
    found = []
    for table in Path("/proc").glob("[0-9]*/mountinfo"):
        with contextlib.suppress(OSError):  # the process may have ended since
            found.extend([str(table)] if folder in table.read_text("utf-8") else [])
    mark = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
    found.extend(map(str, Path("/sys/fs/cgroup").glob(f"*/hpcimg-{mark}")))
    return found


def network_namespaces() -> set[str]:
    """All network namespaces that a process is in."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        with contextlib.suppress(OSError):  # the process may have ended since
            found.add(str(path.readlink()))
    return found


def networks_of(folder: str) -> set[str]:
    """The network namespaces of a cluster's nodes and of its switch."""
    files = [*Path(folder).glob("nodes/*/pid"), Path(folder) / "switch.pid"]
    pids = [file.read_text("utf-8").split()[0] for file in files]
    return {str(Path(f"/proc/{pid}/ns/net").readlink()) for pid in pids}


def host_links() -> list[str]:
    """The network links that the machine itself has."""
    return sorted(path.name for path in Path("/sys/class/net").iterdir())


def test_slurm_runs_on_all_nodes(cluster: Cluster) -> None:
    """A job over four nodes runs on each of them."""
    done = cluster.run("srun", "-N4", "hostname")
    assert sorted(done.stdout.split()) == sorted(COMPUTE_NODES), done.stderr


def test_up_twice_changes_nothing(cluster: Cluster) -> None:
    """A second `up` leaves the running nodes alone."""
    before = boot_ids(cluster)
    done = cluster.verb("up")
    assert done.returncode == 0, done.stderr
    assert boot_ids(cluster) == before


def test_every_node_has_a_boot_of_its_own(cluster: Cluster) -> None:
    """No two nodes share a boot id, though they share a kernel."""
    assert len(set(boot_ids(cluster))) == len(NODES)


@pytest.mark.parametrize("node", COMPUTE_NODES)
def test_nodes_have_different_processors(cluster: Cluster, node: str) -> None:
    """Each node's /proc/cpuinfo is the recorded machine's."""
    done = cluster.run("grep", "-m1", "model name", "/proc/cpuinfo", node=node)
    assert MODELS[node] in done.stdout


@pytest.mark.parametrize("node", COMPUTE_NODES)
def test_only_the_gpu_node_has_a_gpu(cluster: Cluster, node: str) -> None:
    """NVML loads on gpu1, where it names a Tesla M60, and on no other node."""
    script = (
        "import pynvml as n; n.nvmlInit(); h = n.nvmlDeviceGetHandleByIndex(0)\n"
        "print(n.nvmlDeviceGetName(h), n.nvmlDeviceGetCudaComputeCapability(h),"
        " n.nvmlSystemGetDriverVersion())"
    )
    done = cluster.run("/opt/hpcimg/bin/python", "-c", script, node=node)
    if node == "gpu1":
        assert done.stdout == "Tesla M60 (5, 2) 396.44\n"
    else:
        assert "NVMLError_LibraryNotFound" in done.stderr


def test_slurm_grants_the_gpu(cluster: Cluster) -> None:
    """Slurm knows gpu1's GPU as a generic resource."""
    done = cluster.run("srun", "--gres=gpu:1", "sh", "-c", "hostname; echo $CUDA_VISIBLE_DEVICES")
    assert done.stdout.split() == ["gpu1", "0"], done.stderr


def test_exec_gives_a_clean_login(cluster: Cluster) -> None:
    """A command runs as alice, with her groups, at home, without the caller's environment."""
    done = cluster.run("sh", "-c", "id; pwd; env | cut -d= -f1 | sort")
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "uid=1001(alice) gid=1001(alice) groups=1001(alice),1100(physics),1101(project1)"
    )
    assert lines[1] == "/home/alice"
    assert set(lines[2:]) - {"TERM", "COLUMNS", "LINES", "NO_COLOR"} == {
        *("HOME", "LANG", "LOGNAME", "PATH", "PWD", "SHELL", "USER")
    }


def test_exec_passes_input_and_exit_code(cluster: Cluster) -> None:
    """Standard input reaches the command, its exit code comes back as a shell's."""
    command = [str(COMMAND), "exec", "--", "sh", "-c", "cat; exit 7"]
    done = subprocess.run(command, input=b"words", capture_output=True, check=False)
    assert (done.stdout, done.returncode) == (b"words", 7)
    assert cluster.run("sh", "-c", "kill -9 $$").returncode == 128 + 9


def test_ending_exec_ends_its_command(cluster: Cluster) -> None:
    """When the command outside is killed, the one on the node gets a hang-up."""
    command = [str(COMMAND), "exec", "--", "sh", "-c", "echo ready; exec sleep 98765"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as outside:
        assert outside.stdout is not None
        assert outside.stdout.readline() == b"ready\n"
        outside.kill()
        assert outside.stdout.read() == b""  # the other end is closed: sleep is gone
    assert cluster.run("pgrep", "-f", "sleep 98765").returncode == 1


def test_nodes_have_no_way_out(cluster: Cluster) -> None:
    """Nodes reach each other by name and nothing else."""
    assert cluster.run("ip", "route", node="bdw1").stdout.split()[0] == "192.0.2.0/24"
    assert len(cluster.run("ip", "route", node="bdw1").stdout.splitlines()) == 1
    assert cluster.run("busybox", "ping", "-c1", "skx1", node="bdw1", user="root").returncode == 0


def test_what_root_runs_is_roots(cluster: Cluster) -> None:
    """Nobody but root can write to hpcimg, its Python or what they load."""
    places = "/opt /usr/local /etc/hpcimg /etc/slurm"
    done = cluster.shell(f"find {places} ! -type l '(' ! -user root -o -perm /022 ')'")
    assert (done.stdout, done.returncode) == ("", 0)


def test_memory_and_cores_are_limited(cluster: Cluster) -> None:
    """Where control groups are to be had, a task cannot take more than its job asked for."""
    if not Path("/sys/fs/cgroup/cpuset/cpuset.cpus").exists():
        pytest.skip("this machine has no version 1 control groups")
    done = cluster.run("srun", "--mem=50M", "sh", "-c", "head -c 200m /dev/zero | tail | wc -c")
    assert "Out Of Memory" in done.stderr or "oom_kill" in done.stderr, done.stderr
    done = cluster.run("srun", "-n1", "nproc")
    assert done.stdout == "1\n"


def test_registry_has_the_announcements_images(cluster: Cluster) -> None:
    """The four builds are there, with two layers each, the first of which they share."""
    layers = set()
    for tag in ("generic", "cpu-skylake", "cpu-broadwell", "cpu_broadwell-nvcap_52"):
        name = f"docker://registry:5000/qnib/plain-featuretest:{tag}"
        form = "{{range .Layers}}{{.}} {{end}}"
        done = cluster.run("skopeo", "inspect", "--tls-verify=false", "--format", form, name)
        assert len(done.stdout.split()) == 2, done.stderr
        layers.update(done.stdout.split())
    assert len(layers) == 5


def test_mpi_works_between_nodes(cluster: Cluster) -> None:
    """PMIx wires up ranks on two nodes."""
    done = cluster.run("srun", "--mpi=pmix", "-N2", "-n4", "mpihello")
    assert done.stdout.count("of 4 on") == 4, done.stderr


def test_killed_node_comes_back(cluster: Cluster) -> None:
    """After `kill` a node answers nobody; after `start` it has a new boot and takes jobs."""
    before = boot_ids(cluster)
    assert cluster.verb("kill", "bdw1").returncode == 0
    try:
        assert cluster.verb("status").returncode == 1
        done = cluster.run("true", node="bdw1")
        assert "node bdw1 is not up" in done.stderr
    finally:
        started = cluster.verb("start", "bdw1")
    assert started.returncode == 0, started.stderr
    assert cluster.verb("status").returncode == 0
    assert cluster.run("srun", "-w", "bdw1", "hostname").stdout == "bdw1\n"
    changed = [new != old for new, old in zip(boot_ids(cluster), before, strict=True)]
    assert changed == [False, True, False, False, False]


def test_down_leaves_nothing(own_cluster: Cluster) -> None:
    """After `down` no process, mount, control group or network of the cluster is left."""
    links = host_links()
    assert own_cluster.verb("up").returncode == 0
    job = "nohup setsid sleep 98765 >/dev/null 2>&1 & srun -N4 true"
    assert own_cluster.shell(job).returncode == 0
    assert leftovers(own_cluster.folder)
    networks = networks_of(own_cluster.folder)
    assert len(networks) == len(NODES) + 1
    assert host_links() == links
    assert own_cluster.verb("down").returncode == 0
    assert leftovers(own_cluster.folder) == []
    assert not networks & network_namespaces()
    assert host_links() == links


def test_down_twice_is_harmless(own_cluster: Cluster) -> None:
    """`down` on a cluster that is not up succeeds."""
    for _ in range(2):
        done = own_cluster.verb("down")
        assert (done.returncode, done.stderr) == (0, "cluster: down\n")


def test_without_root_one_sentence_says_so() -> None:
    """An ordinary user is told what is missing."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    # The checkout may stand where only root can read.
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        copy = shutil.copytree(COMMAND.parent, Path(place) / "cluster") / COMMAND.name
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--clear-groups", str(copy), "up"],
            check=False,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "cluster: the cluster in a folder needs root: namespaces and mounts\n"


def test_without_network_one_sentence_says_so(cluster: Cluster, tmp_path: Path) -> None:
    """With nothing cached and no network, one sentence names what could not be had."""
    done = subprocess.run(
        ["unshare", "--net", str(COMMAND), "up"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "HPCIMG_CACHE": str(tmp_path), "HPCIMG_CLUSTER": str(tmp_path / "c")},
    )
    assert done.returncode == 1
    assert re.search(
        r"cluster: the Debian tree could not be fetched .*is there a network\?", done.stderr
    )
    assert "Traceback" not in done.stderr

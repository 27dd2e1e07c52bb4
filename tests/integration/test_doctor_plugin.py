"""The doctor on a cluster whose plugin is broken in one way at a time."""

from __future__ import annotations

import mishaps
import pytest
from examined import HEALTHY, PLUGIN, PLUGSTACK, SICK, examine, hidden_by, other_plugin, spoiled

pytestmark = pytest.mark.integration

NODE = "skx1"
HELPERS = "/usr/local/libexec/hpcimg"
TAKES_THE_NAME = """
#include <slurm/spank.h>
SPANK_PLUGIN(pyxis, 1)
static int take(int value, const char *argument, int remote)
{
    return 0;
}
int slurm_spank_init(spank_t spank, int argc, char **argv)
{
    struct spank_option image = {"container-image", "IMAGE", "[pyxis]", 1, 0, take};
    return spank_option_register(spank, &image);
}
"""


def test_in_a_healthy_cluster_nothing_fails(cluster):
    """All nodes answer, root finds one store, and a user finds no failure either."""
    said = examine(cluster, "--all")
    assert said.failed() == set()
    assert said.code == HEALTHY
    shared = said.find("shared store", "ok", "see one store")
    assert sorted(shared["machines"]) == ["bdw1", "gpu1", "login", "skx1", "zen1"]
    left = mishaps.do(cluster, "ls /srv/hpcimg/store/tmp")
    assert "login." not in left, "the doctor's mark is still in the store"
    done = cluster.run("hpcimg", "doctor", "--all")
    assert done.returncode == HEALTHY, done.stdout
    assert "fail" not in done.stdout
    assert "looked at 5: bdw1, gpu1, login, skx1, zen1" in done.stdout


def test_a_plugin_that_was_built_for_another_slurm(cluster):
    """Said with both versions on the node; from afar, that it starts no step and why."""
    with other_plugin(cluster, NODE, PLUGIN, "22, 5, 8"):
        said = examine(cluster, node=NODE)
        found = said.find("plugin", "fail", "is built for Slurm 22.05.8, this machine has 24.11")
        assert "build it again with the headers of Slurm 24.11" in found["change"]
        assert said.code == SICK
        afar = examine(cluster, "--nodes", f"bdw1,{NODE}")
        found = afar.find("plugin", "fail", "starts no step: a plugin that plugstack.conf")
        assert found["machines"] == [NODE]
        assert "`hpcimg doctor` there says which" in found["change"]
        assert afar.find("plugin", "ok", "and required")["machines"] == ["login", "bdw1"]


def test_a_plugin_that_is_missing_on_a_node(cluster):
    """Said on the node, and from afar; the others answer all the same."""
    with mishaps.missing(cluster, NODE, PLUGIN):
        found = examine(cluster, node=NODE).find("plugin", "fail", f'"{PLUGIN}" is not on this')
        assert found["change"] == "install it: make -C spank install"
        afar = examine(cluster, "--nodes", f"bdw1,{NODE}")
        assert afar.find("plugin", "fail", "starts no step")["machines"] == [NODE]
        assert afar.code == SICK


def test_a_login_node_whose_plugin_does_not_load(cluster):
    """Nothing can be asked from there, and that is said once, with what is wrong here."""
    with mishaps.missing(cluster, "login", PLUGIN):
        said = examine(cluster, "--all")
        assert said.find("nodes", "fail", "srun starts nothing on this machine")["change"]
        assert said.find("plugin", "fail", "is not on this machine")["machines"] == ["login"]
        assert said.failed() == {"nodes", "plugin"}


def test_a_node_without_hpcimg_and_one_that_is_down(cluster):
    """Each node that says nothing is named, with the reason."""
    state = "scontrol update NodeName=gpu1 State={} Reason=test"
    with (
        mishaps.missing(cluster, NODE, mishaps.PYTHON),
        spoiled(cluster, "login", state.format("DRAIN"), state.format("RESUME")),
    ):
        said = examine(cluster, "--nodes", f"bdw1,{NODE},gpu1")
        assert said.find("hpcimg", "fail", "hpcimg cannot be started")["machines"] == [NODE]
        assert said.find("nodes", "unknown", "Slurm has it as drain")["machines"] == ["gpu1"]


def test_a_node_that_does_not_load_the_plugin(cluster):
    """The hole through which commands run on the host is seen from afar, without the plugin."""
    with hidden_by(cluster, NODE, PLUGSTACK, "# nothing"):
        host = cluster.run("srun", "-w", NODE, "--container-image", "qnib/bench", "hostname")
        assert host.stdout == f"{NODE}\n", "the hole is closed: decision 0012 is out of date"
        said = examine(cluster, "--nodes", f"bdw1,{NODE}")
        found = said.find("plugin", "fail", "loads hpcimg.so: steps that ask for an image run on")
        assert found["machines"] == [NODE]
        assert f"write `required {PLUGIN}` into {PLUGSTACK}" in found["change"]


def test_a_plugin_that_is_optional_and_given_nonsense(cluster):
    """What the line says is judged word by word; the other nodes' line is told."""
    line = f"optional {PLUGIN} account=nobody colour=red"
    with hidden_by(cluster, NODE, PLUGSTACK, line):
        said = examine(cluster, node=NODE)
        assert "required" in said.find("plugin", "warn", "says optional")["change"]
        assert said.find("plugin", "fail", "unknown argument 'colour=red'")
        assert said.find("plugin", "fail", "names the account 'nobody', the settings 'hpcimg'")


def test_a_program_of_the_plugin_that_is_missing_or_not_roots(cluster):
    """Root starts them: they are there, and nobody else may change them."""
    with (
        mishaps.missing(cluster, NODE, f"{HELPERS}/starter"),
        spoiled(cluster, NODE, f"chown alice {HELPERS}/holder", f"chown root {HELPERS}/holder"),
    ):
        said = examine(cluster, "--nodes", f"bdw1,{NODE}")
        found = said.find("programs", "fail", f"cannot be started: {HELPERS}/starter")
        assert found["machines"] == [NODE]
        found = said.find("programs", "fail", f'"{HELPERS}/holder" belongs to uid 1001')
        assert f"chown root {HELPERS}/holder" in found["change"]


def test_programs_of_another_build_on_one_node(cluster):
    """A node that was forgotten in an upgrade is named, with what the others have."""
    joiner = f"{HELPERS}/joiner"
    swap = f"cp -p {joiner} {joiner}.away; printf x >>{joiner}"
    with spoiled(cluster, NODE, swap, f"mv {joiner}.away {joiner}"):
        said = examine(cluster, "--nodes", f"bdw1,{NODE}")
        found = said.find("programs", "warn", "programs differs")
        assert found["machines"] == [NODE]
        assert "make -C spank install" in found["change"]


def test_pyxis_loaded_too(cluster):
    """Both want the same options, and the first one gets them, unless ours have another prefix."""
    path = "/usr/local/lib/spank_pyxis.so"
    build = f"printf '%s' '{TAKES_THE_NAME}' | gcc -shared -fPIC -x c -o {path} -"
    with spoiled(cluster, NODE, build, f"rm {path}"):
        with hidden_by(cluster, NODE, PLUGSTACK, f"optional {path}\nrequired {PLUGIN}"):
            said = examine(cluster, node=NODE)
            found = said.find("pyxis", "fail", f"({PLUGSTACK}:1): both want --container-image")
            assert "prefix=hpc" in found["change"]
            done = cluster.run("srun", "true", node=NODE)
            assert '"container-image" provided by both hpcimg.so and spank_pyxis.so' in done.stderr
        with hidden_by(cluster, NODE, PLUGSTACK, f"optional {path}\nrequired {PLUGIN} prefix=hpc"):
            assert examine(cluster, node=NODE).find("pyxis", "ok", "ours are --hpc-image")
            assert "--hpc-image" in cluster.run("srun", "--help", node=NODE).stdout


def test_an_oci_conf_is_in_the_way(cluster):
    """Slurm then runs paths after --container by itself, and names where our plugin is not."""
    path = "/etc/slurm/oci.conf"
    with spoiled(cluster, "login", f"echo RunTimeQuery=/bin/true >{path}", f"rm {path}"):
        found = examine(cluster, user="alice").find("oci.conf", "warn", f'"{path}" gives paths')
        assert f"remove {path}" in found["change"]
        with hidden_by(cluster, NODE, PLUGSTACK, "# nothing"):
            assert examine(cluster, node=NODE).find("oci.conf", "fail", "gives names and paths")

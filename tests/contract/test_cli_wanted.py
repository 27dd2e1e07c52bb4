"""needs, coverage and wanted on a site of published profiles; the journal of what jobs missed."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import pytest
from test_cli import INDEX, MANIFEST, WORDS, _put_index, call, site  # noqa: F401 - a fixture

from hpcimg.errors import StoreError
from hpcimg.node.profile import Gpu, GpuFacts
from hpcimg.node.words import profile_from_words
from hpcimg.settings import read_settings
from hpcimg.store.profiles import publish_profile
from hpcimg.store.store import site_store
from hpcimg.store.wanted import FILE_LIMIT, Missed, _parse, append_missed, read_missed
from hpcimg.workflow.resolve import read_name, resolve, site_policy
from hpcimg.workflow.wanted import count, note_missed, wanted

GPUS = GpuFacts("present", driver="396.44", devices=(Gpu(0, "GPU-a", "Tesla M60", "5.2"),))


@pytest.fixture
def cluster(site):  # noqa: F811
    """A site where four nodes have published; gpu1 is found, the others are told."""
    store = site_store(read_settings(os.environ).store)
    site.store = store
    for node, words in (
        ("bdw1", WORDS), ("bdw2", WORDS), ("zen1", "linux/amd64:zen3"),
    ):  # fmt: skip
        publish_profile(store, profile_from_words(words, node=node))
    bdw = profile_from_words(WORDS, node="gpu1")
    publish_profile(store, replace(bdw, declared=False, words=(), gpus=GPUS))
    return site


def test_needs(cluster, capsys):
    """Each entry in words, with the nodes that can run it; an object for programs."""
    _put_index(cluster.registry, "both", (), ("cpu:broadwell", "nvcap:5.2"))
    code, out, said = call(capsys, "needs", "both")
    assert (code, said) == (0, [])
    rows = out.splitlines()
    assert rows[0].split() == ["REQUIRES", "NEEDS", "NODES"]
    assert rows[1].startswith("nothing (generic)         any amd64 node ")
    assert rows[1].endswith(" bdw[1-2],gpu1,zen1")
    assert "an Intel Broadwell processor, or a later one that runs its code; NVIDIA " in rows[2]
    assert rows[2].endswith("  gpu1")
    found = json.loads(call(capsys, "needs", "both", "--json")[1])
    assert found["reference"] == f"{cluster.registry.name}/both:latest"
    assert found["entries"][1]["features"] == ["cpu:broadwell", "nvcap:5.2"]
    assert found["entries"][1]["nodes"] == ["gpu1"]


def test_needs_without_a_cluster(site, capsys):  # noqa: F811
    """On a machine of no site there are only the words."""
    code, out, _ = call(capsys, "needs", "tool")
    assert code == 0
    assert out.splitlines()[0].split() == ["REQUIRES", "NEEDS"]
    found = json.loads(call(capsys, "needs", "tool", "--json")[1])
    assert [one["nodes"] for one in found["entries"]] == [None] * 3


def test_coverage(cluster, capsys):
    """A row for each node type, one with GPUs twice; a cell for each name."""
    _put_index(cluster.registry, "both", (), ("cpu:broadwell", "nvcap:5.2"), ("cpu:zen2",))
    code, out, said = call(capsys, "coverage", "both", "tool")
    assert (code, said) == (0, [])
    head, *rows = out.splitlines()
    assert head.split() == ["NODE", "TYPE", "both", "tool", "NODES"]
    assert [" ".join(row.split()) for row in rows] == [
        "broadwell generic specific: cpu:broadwell bdw[1-2]",
        "broadwell + nvcap:5.2 specific: cpu:broadwell, nvcap:5.2 partly: cpu:broadwell gpu1",
        "broadwell (job without GPU) generic specific: cpu:broadwell gpu1",
        "zen3 partly: cpu:zen2 generic zen1",
    ]


def test_coverage_with_a_hole(cluster, capsys):
    """A node type without any image is its code; the reason is in the object."""
    code, out, _ = call(capsys, "coverage", "wide", "--json")
    found = json.loads(out)
    assert code == 69
    assert [one["type"] for one in found["types"]][-1] == "zen3"
    last = found["types"][-1]
    assert (last["nodes"], last["exact"]) == (["zen1"], ["cpu:zen3"])
    (cell,) = last["images"]
    assert (cell["coverage"], cell["pick"]) == ("none", None)
    assert "needs cpu:skylake_avx512 (this node is zen3)" in cell["reason"]


def test_a_hole_says_where_to_look(cluster, capsys):
    """One command tells why; of a table without holes none is needed."""
    out = call(capsys, "coverage", "tool", "wide")[1]
    assert out.splitlines()[-1] == "why none: hpcimg explain wide --node bdw1"
    assert "why none" not in call(capsys, "coverage", "tool")[1]


def test_each_cell_has_its_own_colour(cluster, capsys, monkeypatch):
    """A row of one good and one bad image is not all bad."""
    monkeypatch.setattr(
        "hpcimg.cli.output.paint", lambda text, colour, *_: f"<{colour}>{text.strip()}"
    )
    out = call(capsys, "coverage", "tool", "wide", "--nodes", "bdw1")[1]
    assert "<green>specific: cpu:broadwell  <red>none  bdw1" in out


def test_needs_name_a_platform_that_is_not_the_usual(cluster, capsys):
    """An Arm build's words may say nothing of its architecture."""
    entries = []
    for architecture in ("amd64", "arm64"):
        digest = cluster.registry.put_image("arm", architecture, [b"x"], architecture=architecture)
        platform = {"os": "linux", "architecture": architecture, "features": ["kernel:3.10"]}
        size = len(cluster.registry.documents["arm"][digest].raw)
        entry = {"mediaType": MANIFEST, "digest": digest, "size": size, "platform": platform}
        entries.append(entry)
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    cluster.registry.put_document("arm", "latest", INDEX, json.dumps(document).encode())
    usual, other = json.loads(call(capsys, "needs", "arm", "--json")[1])["entries"]
    assert usual["needs"] == "Linux kernel 3.10 or newer"
    assert other["needs"] == "a linux/arm64 node; Linux kernel 3.10 or newer"


def test_a_rule_that_names_nodes_makes_a_type(cluster, capsys):
    """Nodes with the same facts choose differently when the site says so."""
    rules = [{"nodes": ["bdw2"], "policy": "exact", "allow_generic": False}]
    text = {**json.loads(cluster.settings.read_text()), "policies": rules}
    cluster.settings.write_text(json.dumps(text))
    _put_index(cluster.registry, "plain", (), ("cpu:haswell",))
    code, out, _ = call(capsys, "coverage", "plain", "--json")
    cells = {tuple(one["nodes"]): one["images"][0]["coverage"] for one in json.loads(out)["types"]}
    assert code == 69
    assert (cells["bdw1",], cells["bdw2",]) == ("partly", "none")


def missed(**changes):
    """Make a line: job 7 on zen1 would have taken a build for zen3."""
    at = {"time": int(time.time()), "reference": "r:1/tool:latest", "variant": ("cpu:zen3",)}
    return Missed(**{**at, "job": "7", "node": "zen1", "got": (), **changes})


def test_jobs_are_counted_once(cluster, capsys):
    """Steps and nodes of one job are one; a second job counts; other builds stand apart."""
    for changes in (
        {}, {}, {"node": "zen2"}, {"job": "8"}, {"variant": ("cpu:broadwell", "nvcap:5.2")},
        {"time": int(time.time()) - 40 * 86400},
    ):  # fmt: skip
        append_missed(cluster.store, missed(**changes))
    code, out, _ = call(capsys, "wanted")
    assert code == 0
    day = time.strftime("%Y-%m-%d")
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "JOBS IMAGE BUILD NODES GOT LAST",
        f"2 r:1/tool:latest cpu:zen3 zen[1-2] generic {day}",
        f"1 r:1/tool:latest cpu:broadwell, nvcap:5.2 zen1 generic {day}",
    ]
    found = json.loads(call(capsys, "wanted", "--json", "--since", "60")[1])
    assert found[0]["jobs"] == 2
    assert found[0]["got"] == {"generic": 2}
    assert found[0]["variant"] == ["cpu:zen3"]


def test_nothing_is_wanted(cluster, capsys):
    """A site whose jobs missed nothing has an empty list."""
    assert call(capsys, "wanted", "--json") == (0, "[]\n", [])


def resolved_for(words, name="tool"):
    """Resolve as a launch does."""
    from hpcimg.workflow.access import site_access

    settings = read_settings(os.environ)
    profile = profile_from_words(words, node="n1")
    reference = read_name(name, settings)
    client = site_access(settings).client
    return resolve(reference, profile, client, site_policy(settings, reference, profile))


@pytest.mark.parametrize(
    ("words", "name", "job", "noted"),
    [
        ("linux/amd64:zen3", "tool", "7", (("cpu:zen3",), ())),
        ("linux/amd64:cascadelake", "tool", "7", (("cpu:cascadelake",), ("cpu:skylake_avx512",))),
        (WORDS, "wide", "7", (("cpu:broadwell",), None)),
        (WORDS, "tool", "7", None),
        ("linux/amd64:zen3", "tool", "", None),
        ("linux/amd64:zen3", "tool@DIGEST", "7", None),
    ],
)
def test_what_a_launch_notes(cluster, words, name, job, noted):
    """What a job got that is not exact; nothing without a job, nor for a digest."""
    name = name.replace("DIGEST", cluster.digests[0])
    note_missed(resolved_for(words, name), cluster.store, job, "n1")
    found = [(one.variant, one.got) for one in read_missed(cluster.store, 0)]
    assert found == ([] if noted is None else [noted])


def test_noting_never_fails(cluster, tmp_path):
    """A launch goes on, whatever the journal's place is."""
    (cluster.store.root / "wanted").write_text("in the way")
    note_missed(resolved_for("linux/amd64:zen3"), cluster.store, "7", "n1")
    note_missed(resolved_for("linux/amd64:zen3"), cluster.store, "7", "../../n1")
    assert sorted(path.name for path in cluster.store.root.iterdir() if path.is_file()) == [
        "wanted"
    ]


def test_a_strangers_word_stays_on_its_line(cluster):
    """What would break a line or drive a terminal is escaped in the file and for the reader."""
    append_missed(cluster.store, missed(got=('a\nb\x1b[31m"', "x" * 9000)))
    append_missed(cluster.store, missed(job="8", got=("a\nb\x1b[31m",)))
    (path,) = cluster.store.root.glob("wanted/*/zen1")
    lines = path.read_bytes().splitlines()
    assert len(lines) == 2
    assert all(len(line) < 4096 and b"\x1b" not in line for line in lines)
    (want,) = count(read_missed(cluster.store, 0))
    assert dict(want.got) == {"...": 1, r"'a\nb\x1b[31m'": 1}


def test_a_full_journal_takes_no_more(cluster):
    """It is bounded, whatever jobs do."""
    append_missed(cluster.store, missed())
    (path,) = cluster.store.root.glob("wanted/*/zen1")
    path.write_bytes(path.read_bytes() + b"#" * (FILE_LIMIT - 300) + b"\n")
    for job in range(5):
        append_missed(cluster.store, missed(job=str(100 + job)))
    assert path.stat().st_size <= FILE_LIMIT
    assert {one.job for one in read_missed(cluster.store, 0)} >= {"7"}


def test_half_a_line_is_passed_over(cluster):
    """A node that died while it wrote does not spoil the month."""
    append_missed(cluster.store, missed())
    (path,) = cluster.store.root.glob("wanted/*/zen1")
    path.write_bytes(path.read_bytes() + b'{"time": 17\n[1]\nnull\n')
    append_missed(cluster.store, missed(job="8"))
    assert [one.job for one in read_missed(cluster.store, 0)] == ["7", "8"]


def test_a_journal_of_somebody_else_is_not_believed(cluster, caplog):
    """Who may write it could make CI build anything; the other nodes' are read."""
    append_missed(cluster.store, missed())
    append_missed(cluster.store, missed(node="zen2"))
    (path,) = cluster.store.root.glob("wanted/*/zen1")
    path.chmod(0o666)
    assert [one.nodes for one in wanted(cluster.store, 30)] == [("zen2",)]
    assert f'not using "{path}": "zen1" may be written by others (mode 0666)' in caplog.text


@pytest.mark.parametrize("days", ["nan", "-1", "many"])
def test_a_time_that_is_none(cluster, capsys, days):
    """A number of days, and no traceback."""
    code, _, said = call(capsys, "wanted", "--since", days)
    assert code == 2
    assert said[0] == f"hpcimg: argument --since: '{days}' is no number of days"


def test_old_months_go(cluster):
    """The first line of a month removes what is older than a year, and nothing else."""
    root = cluster.store.root / "wanted"
    for month in ("2024-12", "2025-01", "2025-12", "notes"):
        (root / month).mkdir(parents=True)
        (root / month / "zen1").write_text("")
    at = int(time.mktime((2026, 1, 15, 12, 0, 0, 0, 0, 0)))
    append_missed(cluster.store, missed(time=at))
    assert sorted(path.name for path in root.iterdir()) == [
        "2025-01",
        "2025-12",
        "2026-01",
        "notes",
    ]


@pytest.mark.parametrize("node", ["../n1", "", "a/b", ".x"])
def test_a_node_is_a_file_name(cluster, node):
    """The name becomes a path."""
    with pytest.raises(StoreError, match="is not the name of a node"):
        append_missed(cluster.store, missed(node=node))


def test_needs_are_whole_and_of_images_alone(cluster, capsys):
    """What only an image's labels say counts, also of one alone; attestations are left out."""
    labels = {"org.hpcimg.features": "cpu:zen3"}
    digest = cluster.registry.put_image("said", "inside", [b"x"], config={"Labels": labels})
    size = len(cluster.registry.documents["said"][digest].raw)
    amd64 = {"os": "linux", "architecture": "amd64", "features": ["kernel:3.10"]}
    nothing = {"os": "unknown", "architecture": "unknown"}
    document = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            {"mediaType": MANIFEST, "digest": digest, "size": size, "platform": platform}
            for platform in (amd64, nothing)
        ],
    }
    cluster.registry.put_document("said", "latest", INDEX, json.dumps(document).encode())
    for name, words in (("said", ["cpu:zen3", "kernel:3.10"]), ("said:inside", ["cpu:zen3"])):
        (one,) = json.loads(call(capsys, "needs", name, "--json")[1])["entries"]
        assert one["features"] == words
        assert one["nodes"] == ([] if name == "said" else ["zen1"])


def test_a_time_without_end_is_skipped():
    """One line that a program wrote wrongly hides none of the others."""
    good = b'{"time": 1, "reference": "a", "variant": [], "job": "1", "node": "n", "got": null}\n'
    assert [one.time for one in map(_parse, (good, good.replace(b"1,", b"1e999,", 1))) if one] == [
        1
    ]

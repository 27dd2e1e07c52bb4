"""`hpcimg cache ls`, `info`, `verify` and `stats`: what is printed of a store."""

from __future__ import annotations

import json
import os
import re
import shutil
import time

import pytest
from test_cli import call, site  # noqa: F401 - a fixture
from test_cli_get import job_site  # noqa: F401 - a fixture

from hpcimg.settings import read_settings
from hpcimg.store.files import make_directory
from hpcimg.store.store import site_store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a site's settings belong to root")


@pytest.fixture
def held(job_site, capsys):  # noqa: F811
    """A site with two images of one name in its store; the second was asked for by tag."""
    call(capsys, "get", "--job", "7", f"tool@{job_site.digests[1]}")
    call(capsys, "get", "--job", "8", f"tool:latest@{job_site.digests[2]}")
    shutil.rmtree(job_site.store.root / "leases")
    entries = {one.record.digest: one for one in job_site.store.entries()}
    job_site.entries = [entries[digest] for digest in job_site.digests]
    return job_site


def lease(site, entry, name: str, taken: float) -> None:  # noqa: F811
    """Let a job hold an entry."""
    folder = site.store.root / "leases" / "sha256" / entry.path.name
    for path in (folder.parent.parent, folder.parent, folder):
        make_directory(path, 0o700)
    (folder / name).touch()
    os.utime(folder / name, (taken, taken))


def spoil(entry) -> None:
    """Change one byte of an image, and neither its size nor its header."""
    with entry.image.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")


def test_ls_shows_uses(held, capsys):
    """A lease is a use; a stamp is one that is over; an entry without either was used when made."""
    then = time.time() + 3600
    lease(held, held.entries[0], "site~4711~1000", then)
    lease(held, held.entries[1], "used", then)
    code, out, _ = call(capsys, "cache", "ls")
    assert code == 0
    assert out.splitlines()[0].split() == [
        "DIGEST", "SIZE", "FEATURES", "CREATED", "USED", "LEASES", "REFERENCE",
    ]  # fmt: skip
    rows = {line.split()[0]: line.split() for line in out.splitlines()[1:]}
    used = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(then))
    found = [rows[one.record.digest[:19]] for one in held.entries]
    assert [row[-2] for row in found] == ["1", "0", "0"]
    assert [row[-3] for row in found[:2]] == [used, used]
    assert found[2][-3] < used


def test_ls_for_programs(held, capsys):
    """The record, the path, the leases, the last use."""
    lease(held, held.entries[0], "site~4711~1000", 60)
    document = json.loads(call(capsys, "cache", "ls", "--json")[1])
    (one,) = [each for each in document if each["digest"] == held.digests[0]]
    assert one["leases"] == [{"cluster": "site", "job": "4711", "uid": "1000", "taken": 60}]
    assert one["last_use"] >= one["created"]
    assert one["path"] == str(held.entries[0].path)


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("{0}", [0]),
        ("{0[:15]}", [0]),
        ("{bare}", [0]),
        ("tool", [0, 1, 2]),
        ("tool:latest", [2]),
        ("tool@{1}", [1]),
    ],
    ids=["digest", "start", "bare start", "name", "tag", "by digest"],
)
def test_info_takes_digests_and_names(held, capsys, word, found):
    """Whatever of an image is at hand names it; a name means all of its entries."""
    first, second, _ = held.digests
    text = {
        "{0}": first,
        "{0[:15]}": first[:15],
        "{bare}": first[7:15],
        "tool@{1}": f"tool@{second}",
    }.get(word, word)
    code, out, _ = call(capsys, "cache", "info", "--json", text)
    assert code == 0
    assert sorted(one["digest"] for one in json.loads(out)) == sorted(
        held.digests[at] for at in found
    )


def test_info_is_all_that_is_known(held, capsys):
    """One word and its value a line; the requests come from the events."""
    lease(held, held.entries[0], "site~4711~1000", 60)
    call(capsys, "get", "--job", "9", held.generic)
    code, out, _ = call(capsys, "cache", "info", held.digests[0])
    record = held.entries[0].record
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    assert code == 0
    assert [word for word, _ in lines] == [
        "digest", "reference", "features", "converter", "size", "sha256", "fs-verity", "created",
        "layer", "used", "lease", "lease", "requests", "path",
    ]  # fmt: skip
    values = dict(reversed(lines))
    assert values["sha256"] == record.sha256
    assert values["layer"].startswith(record.layers[0].digest)
    assert ["lease", "job 4711 of site, uid 1000, since 1970-01-01T00:01:00Z"] in lines
    assert values["requests"] == "1 hit, 1 built, 0 waited"


@pytest.mark.parametrize("verb", ["info", "verify"])
@pytest.mark.parametrize("word", ["sha256:ffff", "ffffffff", "nothing:1"])
def test_what_the_store_has_not_is_not_found(held, capsys, verb, word):
    """Two lines, and the code of a thing that is not there."""
    code, out, said = call(capsys, "cache", verb, word)
    assert (code, out) == (66, "")
    assert said[0] == f"hpcimg: the store has no entry that is called '{word}'"


def test_verify_finds_other_content_of_the_same_size(held, capsys):
    """It is moved aside, and the next job builds it anew; the good ones stay."""
    spoil(held.entries[1])
    assert call(capsys, "get", f"tool@{held.digests[1]}")[0] == 0, "a launch does not see it"
    code, out, said = call(capsys, "cache", "verify", "--all")
    assert (code, said) == (73, []), "the verdict says all"
    verdicts = sorted(line.split(maxsplit=2) for line in out.splitlines())
    assert [one[0] for one in verdicts] == ["bad", "good", "good"]
    assert verdicts[0][1] == held.digests[1]
    assert re.fullmatch(
        r"its image has the SHA-256 \w{12}, its record says \w{12}; moved to the quarantine",
        verdicts[0][2],
    )
    assert len(list((held.store.root / "quarantine").iterdir())) == 1
    assert call(capsys, "get", f"tool@{held.digests[1]}")[0] == 0
    assert call(capsys, "cache", "verify", "--all")[0] == 0


def test_verify_may_only_look(held, capsys):
    """What an ordinary user does, or an administrator who wants to see the file first."""
    spoil(held.entries[0])
    words = ("cache", "verify", "--no-quarantine", "--json", held.digests[0])
    code, out, _ = call(capsys, *words)
    (one,) = json.loads(out)
    assert (code, one["good"], one["quarantined"]) == (73, False, False)
    assert one["reason"].startswith("its image has the SHA-256")
    assert held.entries[0].image.exists()


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("manifest.json", b"{}", r"its manifest\.json is not its digest's: content has the digest"),
        ("config.json", b"{}", r"its config\.json is not its manifest's: content has the digest"),
        ("manifest.json", None, "it is not complete"),
        ("image.sif", None, "it is not complete"),
        ("image.sif", b"short", "its image has 5 bytes, its record says"),
        ("record.json", b"[]", "its record cannot be read"),
        ("image.sif", 0o666, r'"image.sif" may be written by others \(mode 0666\)'),
    ],
    ids=["manifest", "config", "no manifest", "no image", "size", "record", "mode"],
)
def test_verify_checks_all_of_an_entry(held, capsys, file, change, reason):
    """Also what a launch would find, under the entry's digest."""
    path = held.entries[0].path / file
    if isinstance(change, int):
        path.chmod(change)
    else:
        path.unlink()
        if change is not None:
            path.write_bytes(change)
            path.chmod(0o644)
    code, out, _ = call(capsys, "cache", "verify", held.digests[0])
    assert code == 73
    assert re.match(rf"bad +{held.digests[0]}  {reason}", out), out
    assert not path.parent.exists()


def test_a_directory_that_others_may_write_makes_no_image_bad(held, capsys):
    """One wrong chmod must not send the whole store into quarantine, nor build it all anew."""
    place = held.entries[0].path.parent
    place.chmod(0o777)
    code, out, said = call(capsys, "cache", "verify", "--all")
    assert (code, out) == (73, "")
    assert len(said) == 2
    assert said[0].startswith(f'hpcimg: the store "{held.store.root}" is not safe: "sha256" may be')
    assert said[1] == "hpcimg: hint: give it to its account alone (chown, chmod go-w)"
    before = len(held.registry.log())
    code, _, said = call(capsys, "get", held.generic)
    assert (code, said[-1]) == (
        73,
        "hpcimg: hint: give it to its account alone (chown, chmod go-w)",
    )
    assert not [line for line in held.registry.log()[before:] if "/blobs/" in str(line)]
    place.chmod(0o755)
    assert call(capsys, "cache", "verify", "--all")[0] == 0


def test_layers_of_a_record_are_the_manifest_s(held, capsys):
    """What `info` prints can be believed."""
    path = held.entries[0].path / "record.json"
    record = json.loads(path.read_text())
    record["layers"][0]["size"] += 1
    path.write_text(json.dumps(record))
    out = call(capsys, "cache", "verify", held.digests[0])[1]
    assert "its record has other layers than its manifest" in out


@pytest.mark.parametrize("words", [(), ("--all", "tool")], ids=["none", "both"])
def test_verify_wants_to_be_told_what(held, capsys, words):
    """Reading a whole store again takes long: nobody does it by mistake."""
    code, _, said = call(capsys, "cache", "verify", *words)
    assert (code, said[0]) == (2, "hpcimg: say which images to check")


def test_only_the_account_moves_images(held, capsys, monkeypatch):
    """Another one that insists on it is told so before anything is read."""
    monkeypatch.setattr("hpcimg.workflow.verify.may_set_aside", lambda _: False)
    code, out, said = call(capsys, "cache", "verify", "--quarantine", "--all")
    assert (code, out) == (73, "")
    assert said[0].startswith('hpcimg: only the account of the store "')
    spoil(held.entries[0])
    assert call(capsys, "cache", "verify", "--all")[0] == 73
    assert held.entries[0].image.exists()


def test_stats_for_people(held, capsys):
    """What there is, what was asked for, and a line for each image."""
    call(capsys, "get", held.generic)
    call(capsys, "get", "tool:none")
    code, out, _ = call(capsys, "cache", "stats")
    assert code == 0
    lines = out.splitlines()
    assert re.match(r"images     3 \([0-9.]+ kB\), [0-9.]+ [GT]B free", lines[0])
    assert "requests   1 hit, 3 built, 0 waited, 1 failed" in lines
    name = f"{held.registry.name}/tool"
    assert [line.split()[:4] for line in lines if line.endswith(name)] == [["1", "2", "0", "0"]]
    assert [line.split()[:4] for line in lines if line.endswith(":none")] == [["0", "0", "0", "1"]]


def test_stats_for_programs(held, capsys):
    """The fields that the reference page names."""
    document = json.loads(call(capsys, "cache", "stats", "--json")[1])
    assert list(document) == [
        "entries", "entry_bytes", "leases", "free_bytes", "quarantined", "requests",
        "build_seconds", "wait_seconds", "images",
    ]  # fmt: skip
    assert document["entries"] == 3
    assert document["entry_bytes"] == sum(one.record.size for one in held.entries)
    assert document["requests"]["built"] == document["build_seconds"]["count"] == 3
    assert len(document["build_seconds"]["classes"]) == len(document["build_seconds"]["bounds"]) + 1


LINE = re.compile(
    r"(?P<name>[a-z_]+)(?:\{(?P<labels>(?:[a-z]+=\"(?:[^\"\\\n]|\\[\\n\"])*\",?)*)\})? "
    r"(?P<value>[0-9.e+-]+)"
)


def test_stats_for_prometheus(held, capsys):
    """Each metric is explained before its values; counters end in _total, times in seconds."""
    lease(held, held.entries[0], "site~4711~1000", 60)
    code, out, _ = call(capsys, "cache", "stats", "--prometheus")
    assert code == 0
    assert out.endswith("\n")
    kinds: dict[str, str] = {}
    for line in out.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in kinds
            assert (kind == "counter") == name.endswith("_total")
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            match = LINE.fullmatch(line)
            assert match, line
            assert re.sub("_(bucket|sum|count)$", "", match["name"]) in kinds
    name = f"{held.registry.name}/tool:latest"
    assert f'hpcimg_store_requests_total{{image="{name}",result="built"}} 1' in out.splitlines()
    assert "hpcimg_store_leases 1" in out.splitlines()
    assert "hpcimg_store_build_seconds_count 3" in out.splitlines()


@pytest.mark.parametrize("words", [("ls",), ("stats", "--prometheus"), ("verify", "--all")])
def test_a_store_that_is_not_there_is_not_empty(site, capsys, words):  # noqa: F811
    """A file system that is not mounted must not look like a store that lost all."""
    root = site_store(read_settings(os.environ).store).root
    code, out, said = call(capsys, "cache", *words)
    assert (code, out, len(said)) == (73, "", 2)
    assert said[0] == f'hpcimg: there is no store in "{root}"'
    assert said[1].startswith("hpcimg: hint: is its file system mounted here?")


def test_an_empty_store_has_figures_too(site, capsys):  # noqa: F811
    """The first scrape of a new site is no failure."""
    site_store(read_settings(os.environ).store).prepare()
    code, out, _ = call(capsys, "cache", "stats", "--prometheus")
    assert code == 0
    assert "hpcimg_store_entries 0" in out.splitlines()
    assert call(capsys, "cache", "verify", "--all")[:2] == (0, "")

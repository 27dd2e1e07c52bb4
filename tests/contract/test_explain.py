"""`explain`: the table for people, the object for programs, and why not another image."""

from __future__ import annotations

import json
import os
import pty
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from test_cli import INDEX, MANIFEST, WORDS, _put_index, call, site  # noqa: F401 - a fixture

import hpcimg
from hpcimg.cli import main
from hpcimg.node.profile import GpuFacts
from hpcimg.node.words import profile_from_words
from hpcimg.settings import read_settings
from hpcimg.store.profiles import publish_profile
from hpcimg.store.store import site_store

SCHEMA = json.loads((Path(hpcimg.__file__).parent / "data/explain.schema.json").read_text())


def test_the_schema_is_one():
    """It is itself right, by the draft that it names."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("name", "words", "code"),
    [
        ("tool", WORDS, 0),
        ("wide", WORDS, 69),
        ("tool@DIGEST", WORDS, 0),
        ("tool", "linux/amd64:zen3:nvcap-8-0:brodwell", 0),
        ("tool", "linux/arm64", 69),
    ],
)
def test_json_is_as_its_schema_says(site, capsys, name, words, code):  # noqa: F811
    """An index, a refusal, one image alone, GPUs and unknown words."""
    name = name.replace("DIGEST", site.digests[0])
    ended, out, _ = call(capsys, "explain", name, "--json", "--platform", words)
    found = json.loads(out)
    jsonschema.validate(found, SCHEMA, jsonschema.Draft202012Validator)
    assert ended == code
    assert (found["pick"] is None) == (code == 69)
    assert (found["index"] is None) == ("@" in name)


def test_json_tells_each_candidate(site, capsys):  # noqa: F811
    """Digest, words with their source, verdict and reason; the pick is one of them."""
    _, out, _ = call(capsys, "explain", "tool", "--json", "--platform", WORDS)
    found = json.loads(out)
    assert found["reference"] == f"{site.registry.name}/tool:latest"
    assert found["pick"] == found["candidates"][1]
    assert [one["verdict"] for one in found["candidates"]] == ["fits", "chosen", "rejected"]
    assert [one["digest"] for one in found["candidates"]] == site.digests
    assert found["pick"]["requirements"] == [{"word": "cpu:broadwell", "source": "features"}]
    assert found["pick"]["path"] == []


def test_the_table(site, capsys):  # noqa: F811
    """Who chooses and by what; a row for each entry in the index's order; the conclusion."""
    code, out, _ = call(capsys, "explain", "tool", "--platform", WORDS)
    head, _, rest = out.partition("\n\n")
    table, _, end = rest.partition("\n\n")
    assert code == 0
    assert head.splitlines()[0].startswith(f"{site.registry.name}/tool:latest (index sha256:")
    assert head.splitlines()[1:] == [
        "node     (words), linux/amd64",
        "cpu      broadwell",
        "gpu      none: no GPU is named",
        "policy   compatible (default)",
        "match    per-node (default)",
    ]
    rows = [line.split() for line in table.splitlines()]
    assert rows[0] == ["REQUIRES", "VERDICT", "WHY", "DIGEST"]
    assert [row[:3] for row in rows[1:]] == [
        ["+", "nothing", "(generic)"],
        ["*", "cpu:broadwell", "chosen"],
        ["-", "cpu:skylake_avx512", "rejected"],
    ]
    assert "needs cpu:skylake_avx512; this node is broadwell" in table
    assert [row[-1] for row in rows[1:]] == [digest[:19] for digest in site.digests]
    assert end.startswith(f"chosen: cpu:broadwell ({site.digests[1][:19]}), because it fits")


def test_a_refusal_says_what_to_build(site, capsys):  # noqa: F811
    """The words of the build that would be exact for this node."""
    _, out, _ = call(capsys, "explain", "wide", "--platform", f"{WORDS}:nvcap-5-2")
    assert out.splitlines()[-2:] == [
        "nothing fits: a job with this name is refused on this node",
        (
            "to serve it, build an image for linux/amd64 that requires cpu:broadwell,nvcap:5.2, "
            "or a generic one, and add it with `hpcimg index push`"
        ),
    ]


def test_the_file_and_line_of_what_decided(site, capsys):  # noqa: F811
    """The rule that gave the policy, and the alias that gave the name."""
    text = json.loads(site.settings.read_text())
    name = f"{site.registry.name}/tool"
    lines = [f"{key}: {json.dumps(value)}" for key, value in text.items()]
    rules = [
        "policies:",
        "- repository: '*/other'",
        "  policy: compatible",
        f"- repository: {name}",
        "  policy: exact",
        "gpu_scope: node",
        "aliases:",
        f"  short: {name}",
    ]
    site.settings.write_text("\n".join([*lines, *rules]))
    code, out, _ = call(capsys, "explain", "short", "--platform", WORDS)
    assert code == 0
    at = len(lines)
    assert f"policy    exact ({site.settings}:{at + 4})" in out
    assert f"gpu_scope node ({site.settings}:{at + 6})" in out
    assert f"alias     short -> {name} ({site.settings}:{at + 8})" in out
    _, out, _ = call(capsys, "explain", "tool", "--platform", WORDS, "--json")
    found = json.loads(out)
    jsonschema.validate(found, SCHEMA, jsonschema.Draft202012Validator)
    assert found["policy"]["kind"] == "exact"
    assert {"key": "match", "value": "per-node", "source": "default"} in found["settings"]
    assert "alias" not in {one["key"] for one in found["settings"]}


def test_another_place_than_the_usual_is_named(site, capsys):  # noqa: F811
    """A variant is a requirement that no list of words shows."""
    digest = site.digests[0]
    size = len(site.registry.documents["tool"][digest].raw)
    platform = {"os": "linux", "architecture": "amd64", "variant": "v3"}
    entry = {"mediaType": MANIFEST, "digest": digest, "size": size, "platform": platform}
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    site.registry.put_document("tool", "levels", INDEX, json.dumps(document).encode())
    _, out, _ = call(capsys, "explain", "tool:levels", "--platform", WORDS)
    assert "*  cpu:x86_64_v3 (from its variant)  chosen" in out


def test_a_long_index_is_counted(site, capsys):  # noqa: F811
    """What fits is shown; what does not is counted by why; --all shows each."""
    words = [(f"cpu:zen{number % 3 + 3}", f"kernel:{number}.0") for number in range(1, 60)]
    _put_index(site.registry, "long", (), ("cpu:broadwell",), *words)
    _, out, _ = call(capsys, "explain", "long", "--platform", WORDS)
    table = out.partition("\n\n")[2].partition("\n\n")[0].splitlines()
    assert len(table) == 4
    assert table[3].split()[:4] == ["-", "59", "more", "entries"]
    assert "needs another cpu; this node is broadwell" in table[3]
    _, out, _ = call(capsys, "explain", "long", "--all", "--platform", WORDS)
    assert out.count("rejected") == 59


def test_of_many_that_fit_some_are_counted(site, capsys):  # noqa: F811
    """The chosen one is always shown."""
    words = [("cpu:haswell", f"cpuflag:{flag}") for flag in ("avx", "avx2", "sse4_2") * 20]
    _put_index(site.registry, "many", *words, ("cpu:broadwell",))
    code, out, _ = call(capsys, "explain", "many", "--platform", WORDS)
    assert code == 0
    assert "*  cpu:broadwell" in out
    assert "+  21 more entries  " in out


WHY_NOT = {
    "the digest": "{digest}",
    "without sha256:": "{hexadecimal}",
    "its beginning": "{short}",
    "a tag": "part2",
    "another image's name": "copy:of",
    "the words": "cpu:skylake_avx512",
    "the words in another spelling": "skx",
}


@pytest.mark.parametrize("case", WHY_NOT)
def test_why_not(site, capsys, case):  # noqa: F811
    """An image is named by digest, tag, name or words; the answer is the word that failed."""
    digest = site.digests[2]
    raw = site.registry.documents["tool"][digest].raw
    site.registry.put_document("copy", "of", MANIFEST, raw)
    hexadecimal = digest.partition(":")[2]
    what = WHY_NOT[case].format(digest=digest, hexadecimal=hexadecimal, short=hexadecimal[:8])
    code, out, said = call(capsys, "explain", "tool", "--platform", WORDS, "--why-not", what)
    assert (code, said) == (0, [])
    assert out == (
        f"cpu:skylake_avx512 ({digest[:19]}) is rejected on such a node: it needs "
        "cpu:skylake_avx512; this node is broadwell; such a node takes cpu:broadwell\n"
    )


def test_why_not_for_programs(site, capsys):  # noqa: F811
    """One object with an answer for each entry that was meant."""
    words = ("explain", "tool", "--platform", WORDS, "--why-not", "skx", "--json")
    found = json.loads(call(capsys, *words)[1])
    assert found["image"] == f"{site.registry.name}/tool:latest"
    (answer,) = found["answers"]
    assert answer.pop("answer").startswith("cpu:skylake_avx512 (")
    assert answer == {
        "digest": site.digests[2],
        "features": ["cpu:skylake_avx512"],
        "verdict": "rejected",
        "reason": "needs cpu:skylake_avx512; this node is broadwell",
    }


def test_why_not_of_an_index_that_wraps_the_entry(site, capsys):  # noqa: F811
    """Some tools put each build into an index of its own."""
    digest = site.digests[2]
    size = len(site.registry.documents["tool"][digest].raw)
    entry = {"mediaType": MANIFEST, "digest": digest, "size": size}
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    site.registry.put_document("tool", "wrapped", INDEX, json.dumps(document).encode())
    words = ("explain", "tool", "--platform", WORDS, "--why-not", "wrapped")
    assert call(capsys, *words)[1].startswith("cpu:skylake_avx512 (")


def test_why_not_what_fits_or_is_taken(site, capsys):  # noqa: F811
    """Which entry was better and by which rule; or that it is the one."""
    words = ("explain", "tool", "--platform", WORDS, "--why-not")
    _, out, _ = call(capsys, *words, "generic")
    assert out.startswith(f"the generic image ({site.digests[0][:19]}) fits, but cpu:broadwell ")
    _, out, _ = call(capsys, *words, "broadwell")
    assert out.startswith(f"cpu:broadwell ({site.digests[1][:19]}) is what such a node takes: ")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("cpu:zen4", "'cpu:zen4' is not behind REGISTRY/tool:latest"),
        ("nosuch", "'nosuch' is no known word, no entry of REGISTRY/tool:latest and no image: "),
        ("other:latest", "'other:latest' is not behind REGISTRY/tool:latest"),
    ],
)
def test_why_not_what_is_not_there(site, capsys, what, message):  # noqa: F811
    """It is said, with what is there."""
    site.registry.put_image("other", "latest", [b"something else"])
    words = ("explain", "tool", "--platform", WORDS, "--why-not", what)
    code, out, said = call(capsys, *words)
    assert (code, out) == (66, "")
    assert said[0].startswith(f"hpcimg: {message.replace('REGISTRY', site.registry.name)}")
    labels = "the generic image; cpu:broadwell; cpu:skylake_avx512"
    assert said[1] == f"hpcimg: hint: its entries are {labels}"


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_it_is_as_wide_as_that(site, columns):  # noqa: F811
    """Rows are wrapped below their columns, and the chosen one has a colour."""
    words = ["explain", "tool", "--platform", WORDS]
    child, descriptor = pty.fork()
    if child == 0:
        os.environ["COLUMNS"] = str(columns)
        os.environ.pop("NO_COLOR", None)
        sys.stdout = sys.stderr = os.fdopen(1, "w")
        code = main(words)
        sys.stdout.flush()
        os._exit(code)
    said = b""
    while True:
        try:
            block = os.read(descriptor, 4096)
        except OSError:  # Linux: the other end of the terminal is closed
            break
        if not block:
            break
        said += block
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    table = said.decode().replace("\r", "").partition("\n\n")[2].partition("\n\n")[0]
    chosen = next(line for line in table.splitlines() if "cpu:broadwell" in line and "*" in line)
    assert chosen.startswith("\x1b[32m")
    plain = [line.replace("\x1b[0m", "") for line in table.splitlines()]
    plain = [line.split("m", 1)[1] if line.startswith("\x1b[") else line for line in plain]
    assert max(map(len, plain)) <= columns
    assert all(digest[:19] in "\n".join(plain) for digest in site.digests)


def test_a_nested_entry_names_the_index_it_is_in(site, capsys):  # noqa: F811
    """In the table, in JSON, and for who asks by the inner index's tag."""
    raw = site.registry.documents["tool"]["latest"].raw
    inner = site.registry.put_document("nest", "inner", INDEX, raw)
    for digest in site.digests:
        document = site.registry.documents["tool"][digest]
        site.registry.put_document("nest", digest, document.media_type, document.raw)
    site.registry.links["nest"] = site.registry.links["tool"]
    entry = {"mediaType": INDEX, "digest": inner, "size": len(raw)}
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    site.registry.put_document("nest", "latest", INDEX, json.dumps(document).encode())
    words = ("explain", "nest", "--platform", WORDS)
    _, out, said = call(capsys, *words)
    assert said == []
    assert out.count(f" in {inner[:19]}\n") == 3
    _, out, _ = call(capsys, *words, "--json")
    found = json.loads(out)
    jsonschema.validate(found, SCHEMA, jsonschema.Draft202012Validator)
    assert found["pick"]["path"] == [inner]
    _, out, _ = call(capsys, *words, "--why-not", "inner")
    assert len(out.splitlines()) == 3


def test_a_policy_of_this_call(site, capsys):  # noqa: F811
    """The option is named as what decided, in place of the site's."""
    words = ("explain", "tool", "--platform", WORDS, "--policy", "exact")
    _, out, _ = call(capsys, *words)
    assert out.count("policy   ") == 1
    assert "policy   exact (--policy; the site's is compatible)\n" in out
    _, out, _ = call(capsys, *words, "--json")
    assert json.loads(out)["policy"]["kind"] == "exact"


def test_a_generic_image_that_loses_needs_no_rule(site, capsys):  # noqa: F811
    """That something is made for the node is all there is to say of it."""
    _, out, _ = call(capsys, "explain", "tool", "--platform", WORDS)
    assert "  fits      but a build for this hardware fits  " in out


def test_a_row_does_not_repeat_what_a_probe_said(site, capsys):  # noqa: F811
    """The head says it once."""
    why = "this node has no NVIDIA GPU (NVML says: not found (12))"
    one = profile_from_words(WORDS, node="bdw1")
    gpus = GpuFacts("none", why)
    store = site_store(read_settings(os.environ).store)
    publish_profile(store, replace(one, declared=False, words=(), gpus=gpus))
    _put_index(site.registry, "gpus", (), ("nvcap:5.2",))
    _, out, _ = call(capsys, "explain", "gpus", "--node", "bdw1")
    assert f"gpu      none: {why}\n" in out
    assert "needs nvcap:5.2; this node has no NVIDIA GPU  " in out


def test_what_is_avoided_here(site, capsys):  # noqa: F811
    """Of a rule's words those that count on this node, with the rule's place."""
    text = json.loads(site.settings.read_text())
    avoid = [{"cpuflag": "avx2", "on": ["broadwell"]}, {"cpu": "zen3"}]
    avoid += [{"cpuflag": "avx512f", "on": ["skylake_avx512"]}]
    site.settings.write_text(json.dumps({**text, "policies": [{"avoid": avoid}]}))
    _, out, _ = call(capsys, "explain", "tool", "--platform", WORDS)
    assert f"avoid    cpuflag:avx2 here, cpu:zen3 here ({site.settings}:1)\n" in out


def test_no_generic_build_is_asked_for_where_the_site_has_none(site, capsys):  # noqa: F811
    """It would be refused as well."""
    text = json.loads(site.settings.read_text())
    site.settings.write_text(json.dumps({**text, "policies": [{"allow_generic": False}]}))
    _, out, _ = call(capsys, "explain", "wide", "--platform", WORDS)
    assert out.endswith("requires cpu:broadwell, and add it with `hpcimg index push`\n")

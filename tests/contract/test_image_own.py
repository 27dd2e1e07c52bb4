"""What an image's config says of how it is run, as it is kept beside the converted image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpcimg.store.entry import Entry, Layer, Record
from hpcimg.workflow.image_own import image_own
from hpcimg.workflow.surroundings import NOTHING, Surroundings

RECORD = Record("sha256:x", "c", (), (), 9, "", "", "", (Layer("a", 5),))


def kept(folder: Path, content: str) -> Entry:
    """An entry with such a config."""
    (folder / "config.json").write_text(content)
    return Entry(folder, RECORD)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"WorkingDir": "/app", "Entrypoint": ["/enter", "a b"]}, ("/app", ("/enter", "a b"))),
        ({"WorkingDir": "/", "Entrypoint": None}, ("", ())),
        ({"WorkingDir": "app", "Entrypoint": []}, ("", ())),
        ({"WorkingDir": "/a\nbind=/etc", "Entrypoint": "sh"}, ("", ())),
        ({"WorkingDir": 7, "Entrypoint": ["sh", "-c", "one\ntwo"]},
         ("", ("/.singularity.d/runscript",))),
        ({"Entrypoint": ["sh", ""]}, ("", ("/.singularity.d/runscript",))),
    ],
)  # fmt: skip
def test_what_a_config_says(tmp_path: Path, said: object, expected: tuple[str, object]) -> None:
    """Only what can be a path or an entrypoint counts, whatever an image's maker wrote."""
    entry = kept(tmp_path, json.dumps({"config": said}))
    found = image_own(entry)
    assert (found.workdir, found.entrypoint) == expected
    assert found == Surroundings(workdir=found.workdir, entrypoint=found.entrypoint)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"config": []}', "[" * 100_000])
def test_no_config_says_nothing(tmp_path: Path, content: str) -> None:
    """An image file has none, and one that is damaged keeps nobody from running the image."""
    assert image_own(kept(tmp_path, content)) == NOTHING
    (tmp_path / "config.json").unlink()
    assert image_own(Entry(tmp_path, RECORD)) == NOTHING

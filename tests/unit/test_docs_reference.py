"""The reference pages say what the code does: written from it, or holding each of its words."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from hpcimg.registry_settings import RegistrySettings
from hpcimg.settings import Settings, parse_settings

DOCS = Path(__file__).resolve().parents[2] / "docs"


def written_pages() -> dict[Path, str]:
    """What the script would write."""
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    try:
        spec.loader.exec_module(module)
        pages: dict[Path, str] = module.pages()
    finally:
        sys.path[:] = path
    return pages


@pytest.mark.parametrize("page", ["cli.md", "features.md", "exit-codes.md", "settings.md"])
def test_page_is_up_to_date(page: str) -> None:
    """The page is what the script writes today."""
    text = written_pages()[DOCS / "reference" / page]
    assert (DOCS / "reference" / page).read_text("utf-8") == text, "run docs/make_reference.py"


def test_features_page_tells_all_kinds() -> None:
    """Each with what must hold; a rule without a kind would be dead."""
    from hpcimg import gpu_rules, satisfaction
    from hpcimg.vocabulary import facts

    page = (DOCS / "reference" / "features.md").read_text("utf-8")
    assert all(f"| `{kind}` | {row['about']} |" in page for kind, row in facts()["kinds"].items())
    assert {*satisfaction._RULES, *gpu_rules.VENDOR_OF} <= {*facts()["kinds"]}


def keys() -> list[str]:
    """Every key of the settings file."""
    found = []
    for field in fields(Settings):
        inner = getattr(Settings(), field.name)
        deeper = RegistrySettings() if field.name == "registries" else inner
        if is_dataclass(deeper):
            found += [f"{field.name}.{one.name}" for one in fields(deeper)]
        else:
            found.append(field.name)
    return found


@pytest.mark.parametrize("key", keys())
def test_settings_page_explains_each_key(key: str) -> None:
    """Each key has its row, with its default."""
    page = (DOCS / "reference" / "settings.md").read_text("utf-8")
    name = key.replace("registries.", "registries.HOST.")
    assert f"| `{name}` |" in page


def test_settings_example_is_read() -> None:
    """The page's own example is read without an error."""
    page = (DOCS / "reference" / "settings.md").read_text("utf-8")
    example = page.partition("```yaml\n")[2].partition("```")[0]
    assert parse_settings(example).registries


def test_the_doctor_s_page_names_each_check() -> None:
    """Each that the code can find."""
    package = DOCS.parent / "hpcimg"
    text = (DOCS / "reference/doctor.md").read_text("utf-8")
    files = [*(package / "doctor").glob("*.py"), *(package / "workflow").glob("doctor*.py")]
    code = "".join(file.read_text("utf-8") for file in files)
    checks = set(re.findall(r'Finding\(\s*"([^"]+)"', code))
    assert len(checks) > 20
    assert {check for check in checks if f"`{check}`" not in text} == set()

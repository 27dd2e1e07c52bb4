"""What a site says of its containers' GPUs."""

from __future__ import annotations

import pytest

from hpcimg.errors import SettingsError
from hpcimg.gpu_settings import GpuSettings
from hpcimg.settings import parse_settings


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", GpuSettings()),
        ("gpus:", GpuSettings()),
        ("gpus: {libraries: none}", GpuSettings("none")),
        ("gpus: {libraries: [/opt/rocm/lib/*.so]}", GpuSettings(("/opt/rocm/lib/*.so",))),
        ("gpus: {driver_parts: [compute]}", GpuSettings("auto", ("compute",))),
    ],
)
def test_what_may_be_said(text, wanted):
    """All has a default: the driver's libraries, every part of them."""
    assert parse_settings(text).gpus == wanted


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("libraries: all", "\"libraries\" is auto, none or a list of paths, not 'all'"),
        ("libraries: 3", '"libraries" is auto, none or a list of paths, not 3'),
        ("libraries: [lib/x.so]", "\"libraries\" names paths that begin with /, not 'lib/x.so'"),
        ("driver_parts: [cuda]", '"driver_parts" are of compute, utility, video, graphics'),
        ("devices: all", '"devices" is no setting; known: driver_parts, libraries'),
    ],
)
def test_a_mistake_is_named_with_its_line(line, message):
    """In the words of the file."""
    with pytest.raises(SettingsError) as caught:
        parse_settings(f"match: uniform\ngpus:\n  {line}\n", source="s.yaml")
    assert caught.value.message.startswith("s.yaml:3: ")
    assert message in caught.value.message

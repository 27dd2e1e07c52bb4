"""The GPU probe's parser: present, none and unknown are three answers."""

from __future__ import annotations

import json

import pytest

from hpcimg.node.gpu import parse_answer
from hpcimg.node.profile import Gpu

DEVICE = {
    "index": 0,
    "uuid": "GPU-1",
    "name": "Tesla M60",
    "capability": "5.2",
    "mig": False,
    "slices": [],
}
ANSWER = {"driver": "396.44", "cuda": "9.2", "devices": [DEVICE]}


def test_what_nvml_says_is_kept():
    """Driver, CUDA version and every device."""
    sliced = {**DEVICE, "index": 1, "mig": True, "slices": ["MIG-1"]}
    facts = parse_answer(json.dumps({**ANSWER, "devices": [DEVICE, sliced]}).encode())
    assert (facts.state, facts.driver, facts.cuda) == ("present", "396.44", "9.2")
    assert facts.devices == (
        Gpu(0, "GPU-1", "Tesla M60", "5.2"),
        Gpu(1, "GPU-1", "Tesla M60", "5.2", mig=True, slices=("MIG-1",)),
    )


@pytest.mark.parametrize(
    ("answer", "on_bus", "state", "reason"),
    [
        ({"none": "no library"}, False, "none", "this node has no NVIDIA GPU (no library)"),
        ({"none": "no library"}, True, "unknown", "is on the PCI bus, but no library"),
        ({**ANSWER, "devices": []}, False, "none", "NVML sees no device"),
        ({**ANSWER, "devices": []}, True, "unknown", "is on the PCI bus, but NVML sees no device"),
        ({"error": "NVML says:\nbad"}, False, "unknown", "NVML says: bad"),
        ({}, False, "unknown", "answer is not readable"),
        ([], False, "unknown", "answer is not readable"),
        ({**ANSWER, "devices": [{**DEVICE, "capability": "x"}]}, False, "unknown", "capability x"),
    ],
)
def test_none_and_unknown_differ(answer, on_bus, state, reason):
    """A GPU on the bus that does not answer is never taken for no GPU."""
    facts = parse_answer(json.dumps(answer).encode(), on_bus=on_bus)
    assert facts.state == state
    assert reason in facts.reason
    assert facts.reason.isprintable()


def test_no_answer_is_unknown():
    """The child may have died while it wrote."""
    assert parse_answer(b'{"driver": "39').state == "unknown"

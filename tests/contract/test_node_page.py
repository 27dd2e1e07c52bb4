"""`hpcimg node show`: a page on a terminal, plain lines elsewhere, JSON for programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hpcimg.cli import main

TREES = Path(__file__).parent.parent / "data" / "nodes"


def show(capsys, machine, *words):
    """Show a recorded machine."""
    assert main(["node", "show", "--root", str(TREES / machine), *words]) == 0
    return capsys.readouterr().out


def test_plain_lines_say_what_and_where(capsys):
    """One fact a line, its source in brackets, so that scripts may cut them."""
    lines = show(capsys, "mi250x").splitlines()
    assert lines[0] == "node      amd1"
    assert lines[2] == (
        "cpu       zen3 (AMD EPYC 7A53 64-Core Processor, AuthenticAMD)  [/proc/cpuinfo]"
    )
    assert (
        "gpu       0: AMD Instinct MI250X, gfx90a:sramecc+, GPU-00c5a1f2d3e40001"
        "  [/sys/class/kfd/kfd/topology/nodes]"
    ) in lines
    assert "driver    amdgpu 6.7.0  [/sys/module/amdgpu]" in lines
    assert "runs      zen3 zen2 zen x86_64_v3 x86_64_v2 x86_64  [archspec]" in lines
    assert "smt       on  [/sys/devices/system/cpu/smt]" in lines


def test_what_is_unknown_is_listed_with_its_reason(capsys):
    """Unknown is an answer of its own."""
    lines = show(capsys, "no-driver").splitlines()
    reason = "an NVIDIA GPU is on the PCI bus, but NVIDIA's driver is not loaded"
    assert f"gpu       unknown ({reason})  [/proc/driver/nvidia and PCI ids]" in lines
    assert f"unknown   gpus: {reason}" in lines


def test_instance_fabric_and_hypervisor(capsys):
    """What a cloud machine is."""
    lines = show(capsys, "efa").splitlines()
    assert "instance  c5n 9xl  [/sys/class/dmi/id]" in lines
    assert "fabric    efa eth  [/sys/class/infiniband, /sys/class/net]" in lines
    assert "note      it runs under a hypervisor: Amazon EC2" in lines


def test_a_terminal_gets_a_page(capsys, monkeypatch):
    """Sections, lines that fit the window, colours; NO_COLOR is honoured."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = show(capsys, "no-driver")
    assert "\x1b[1mGPUs\x1b[0m\n" in coloured
    assert "\x1b[2m/proc/cpuinfo\x1b[0m" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    page = show(capsys, "no-driver").splitlines()
    titles = [line for line in page if not line.startswith(" ")]
    assert titles == ["Node", "Processor", "GPUs", "Network", "Host", "Unknown"]
    assert max(map(len, page)) <= 60
    assert "  smt       on  /sys/devices/system/cpu/smt" in page


def test_json_is_the_profile(capsys):
    """As `--profile FILE` of resolve takes it."""
    document = json.loads(show(capsys, "pvc", "--json"))
    assert [gpu["target"] for gpu in document["gpus"]["devices"]] == ["pvc", "pvc"]


def test_another_cpu_in_a_recorded_machine(capsys, tmp_path):
    """`--cpuinfo` beside `--root`: the CPU and its SMT are then the file's."""
    text = tmp_path / "lscpu"
    text.write_text("Architecture: ppc64le\nModel name: POWER9\nThread(s) per core: 4\n")
    lines = show(capsys, "opa", "--cpuinfo", str(text)).splitlines()
    assert "smt       on  [the CPU's text]" in lines
    assert any(line.startswith("cpu       power9le") for line in lines)


def test_a_folder_that_is_no_machine(capsys):
    """Two lines say what is wrong and what to name."""
    assert main(["node", "show", "--root", "/nothing"]) == 2
    error = capsys.readouterr().err
    assert "'/nothing' is no recorded machine: it has no proc/cpuinfo" in error
    assert "hint: name a folder with the machine's proc, sys and etc" in error

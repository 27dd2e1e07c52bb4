"""A node's profile as a page: sections on a terminal, plain lines elsewhere, with the sources."""

from __future__ import annotations

import shutil
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcimg.cli.output import paint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpcimg.node.gpus import Gpu
    from hpcimg.node.profile import NodeProfile

_WIDTH = 10
_TITLE_COLOUR = "bold"


@dataclass(frozen=True)
class Row:
    """One fact: what it is of, what was found, and where."""

    key: str
    value: str
    source: str = ""


def print_page(profile: NodeProfile) -> None:
    """Print the page."""
    is_page = sys.stdout.isatty()
    for title, rows in sections(profile):
        if is_page:
            print(paint(title, _TITLE_COLOUR))
        for row in rows:
            print(_page_line(row) if is_page else _plain_line(row))


def sections(profile: NodeProfile) -> Iterable[tuple[str, tuple[Row, ...]]]:
    """Give the titles and rows, without what is empty."""
    found = (
        ("Node", _node(profile)),
        ("Processor", _processor(profile)),
        ("GPUs", _gpus(profile)),
        ("Network", _network(profile)),
        ("Host", _host(profile)),
        ("Notes", [Row("note", note) for note in profile.notes]),
        ("Unknown", [Row("unknown", why) for why in profile.unknowns]),
    )
    return ((title, tuple(rows)) for title, rows in found if rows)


def _node(profile: NodeProfile) -> list[Row]:
    platform = f"{profile.os}/{profile.architecture}, kernel {profile.kernel or 'unknown'}"
    rows = [
        Row("node", profile.node),
        Row("platform", platform, profile.sources.get("kernel", "")),
    ]
    if profile.words:
        rows.append(Row("site", " ".join(profile.words), "told by the site"))
    return rows


def _processor(profile: NodeProfile) -> list[Row]:
    source = profile.sources.get("cpu", "")
    names = (profile.model, profile.vendor if profile.vendor not in profile.model else "")
    about = ", ".join(name for name in names if name)
    target = profile.target or "unknown"
    rows = [Row("cpu", f"{target} ({about})" if about else target, source)]
    level = next((name for name in profile.compatible if "_v" in name and "x86" in name), "")
    if level:
        rows.append(Row("level", level, "its flags"))
    if features := _features(profile):
        rows.append(Row("features", " ".join(features)))
    if profile.compatible:
        rows.append(Row("runs", " ".join(profile.compatible), "archspec"))
    return [*rows, *_trait(profile, "smt", "smt")]


def _gpus(profile: NodeProfile) -> list[Row]:
    gpus = profile.gpus
    rows = [Row("gpu", _gpu(gpu), profile.sources.get(gpu.vendor, "")) for gpu in gpus.devices]
    if gpus.state != "present":
        reason = f" ({gpus.reason})" if gpus.reason else ""
        # Where nothing was found, NVIDIA's probe says why.
        rows.append(Row("gpu", f"{gpus.state}{reason}", profile.sources.get("nvidia", "")))
    if gpus.driver:
        cuda = f", CUDA {gpus.cuda}" if gpus.cuda else ""
        rows.append(Row("driver", f"NVIDIA {gpus.driver}{cuda}", profile.sources.get("nvidia", "")))
    if gpus.of("amd"):
        version = gpus.amd_driver or "of the kernel itself"
        rows.append(Row("driver", f"amdgpu {version}", "/sys/module/amdgpu"))
    return rows


def _gpu(gpu: Gpu) -> str:
    slices = f"MIG with {len(gpu.slices)} slices" if gpu.mig else ""
    code = f"capability {gpu.capability}" if gpu.vendor == "nvidia" else gpu.target
    return f"{gpu.index}: " + ", ".join(filter(None, (gpu.name, code, slices, gpu.uuid)))


def _network(profile: NodeProfile) -> list[Row]:
    return _trait(profile, "fabric", "fabric") or [
        Row("fabric", "none", profile.sources.get("fabric", ""))
    ]


def _host(profile: NodeProfile) -> list[Row]:
    rows = _trait(profile, "os", "os")
    if profile.glibc:
        rows.append(Row("glibc", profile.glibc, profile.sources.get("glibc", "")))
    if profile.injected_glibc:
        what = f"GPU libraries bound into a container need {profile.injected_glibc}"
        rows.append(Row("glibc", what, profile.sources.get("injected_glibc", "")))
    return [*rows, *_trait(profile, "inst", "instance", "instsize")]


def _trait(profile: NodeProfile, kind: str, key: str, second: str = "") -> list[Row]:
    """Put the values of one kind, or of two, into one row."""
    pairs = (trait.partition(":") for trait in profile.traits)
    values = [value for name, _, value in pairs if name in {kind, second}]
    source = profile.sources.get(kind, "")
    return [Row(key, " ".join(values), source)] if values else []


def _features(profile: NodeProfile) -> tuple[str, ...]:
    """List archspec's features of the target; all other flags are in the JSON."""
    from hpcimg import targets

    if profile.target is None:
        return ()
    return tuple(sorted(targets.facts_of(profile.target, profile.architecture).flags))


def _plain_line(row: Row) -> str:
    source = f"  [{row.source}]" if row.source else ""
    return f"{row.key:<{_WIDTH}}{row.value}{source}"


def _page_line(row: Row) -> str:
    colours = {"unknown": "yellow", "note": "dim"}
    width = max(shutil.get_terminal_size().columns, 40)
    start = f"  {row.key:<{_WIDTH}}"
    lines = textwrap.wrap(
        row.value,
        width,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
    ) or [start.rstrip()]
    if row.source and len(lines[-1]) + len(row.source) + 2 > width:
        lines.append(" " * len(start))
    text = "\n".join(
        paint(line, colours[row.key]) if row.key in colours else line for line in lines
    )
    return text + (("  " + paint(row.source, "dim")) if row.source else "")

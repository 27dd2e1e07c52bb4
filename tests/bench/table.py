"""The benchmark's results as rows: medians, ratios, what was wanted, whether it was met."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

Results = Mapping[str, Mapping[str, Sequence[float]]]


@dataclass(frozen=True)
class Target:
    """A number that an issue wants, and what came out; met when it is on the right side."""

    what: str
    wanted: str
    value: float
    met: bool

    def line(self) -> str:
        """One line of plain words."""
        word = "met" if self.met else "MISSED"
        return f"{word:6}  {self.what}: {self.value:.2f} (wanted: {self.wanted})"


def median(results: Results, name: str, kind: str = "seconds") -> float:
    """The median of one series of raw results."""
    return statistics.median(results[name][kind])


def launch_rows(results: Results, sizes: Sequence[int]) -> list[tuple[str, ...]]:
    """One row for each number of tasks on one node, all in seconds or as a ratio."""
    rows: list[tuple[str, ...]] = [
        ("tasks", "bare srun", "srun --container", "srun apptainer exec", "to bare", "faster")
    ]
    for size in sizes:
        bare, ours, theirs = (
            median(results, f"{kind}-{size}") for kind in ("bare", "container", "apptainer")
        )
        times = tuple(f"{seconds:.3f} s" for seconds in (bare, ours, theirs))
        rows.append((str(size), *times, f"{ours / bare:.2f}x", f"{theirs / ours:.2f}x"))
    return rows


def pair_rows(results: Results) -> list[tuple[str, ...]]:
    """The rows with two columns: on the host and in the image."""
    rows: list[tuple[str, ...]] = [("measured", "on the host", "in the image", "image/host")]
    for title, name, kind, unit in (
        ("a job's first step (new job, warm store)", "first", "seconds", "s"),
        ("two nodes, --mpi=pmix mpihello", "hello", "seconds", "s"),
        ("4 MiB ping-pong, two ranks, one node", "pingpong", "rates", "GB/s"),
    ):
        if f"{name}-host" not in results:
            continue
        host = median(results, f"{name}-host", kind)
        image = median(results, f"{name}-image", kind)
        rows.append((title, f"{host:.2f} {unit}", f"{image:.2f} {unit}", f"{image / host:.2f}x"))
    return rows


def choosing_rows(results: Results) -> list[tuple[str, ...]]:
    """What a choice costs, in milliseconds of a whole process, and within one."""
    rows: list[tuple[str, ...]] = [("choosing", "milliseconds")]
    for title, name, kind, factor in (
        ("python that does nothing", "choose-python", "seconds", 1000),
        ("hpcimg resolve NAME@DIGEST, index cached", "choose-digest", "seconds", 1000),
        ("hpcimg resolve NAME:TAG, asks the registry for the tag", "choose-tag", "seconds", 1000),
        ("select from 1,000 entries, within a process", "choose-thousand", "rates", 1),
    ):
        rows.append((title, f"{median(results, name, kind) * factor:.0f}"))
    return rows


def targets(results: Results) -> list[Target]:
    """What issues 2 and 3 want of these numbers, as far as they were measured."""
    found = []
    if "bare-64" in results:
        bare, ours, theirs = (
            median(results, f"{kind}-64") for kind in ("bare", "container", "apptainer")
        )
        one, other = median(results, "container-1"), median(results, "apptainer-1")
        found += [
            least("64 tasks: times faster than apptainer exec", theirs / ours, 8),
            most("64 tasks: times the bare srun", ours / bare, 1.6),
            most("1 task: times the apptainer exec", one / other, 1),
        ]
    if "pingpong-host" in results:
        host = median(results, "pingpong-host", "rates")
        rate = median(results, "pingpong-image", "rates") / host
        found.append(least("ping-pong: times the host's rate", rate, 0.85))
    if "choose-digest" in results:
        thousand = median(results, "choose-thousand", "rates")
        resolve = 1000 * median(results, "choose-digest")
        found += [
            most("selection from 1,000 entries: ms", thousand, 50),
            most("resolve of a cached index: ms, whole process", resolve, 120),
        ]
    return found


def least(what: str, value: float, limit: float) -> Target:
    """A number that is to be at least this."""
    return Target(what, f">= {limit:g}", round(value, 3), value >= limit)


def most(what: str, value: float, limit: float) -> Target:
    """A number that is to be at most this."""
    return Target(what, f"<= {limit:g}", round(value, 3), value <= limit)


def document(
    results: Results, machine: Mapping[str, object], runs: int, reached: Sequence[Target]
) -> dict[str, object]:
    """All of it as an object for build/bench.json."""
    return {
        "version": 1,
        "machine": dict(machine),
        "runs": runs,
        "medians": {
            name: {kind: statistics.median(raw) for kind, raw in kinds.items() if raw}
            for name, kinds in results.items()
        },
        "targets": [asdict(target) for target in reached],
        "raw": {
            name: {kind: list(raw) for kind, raw in kinds.items()}
            for name, kinds in results.items()
        },
    }


def text(rows: Sequence[Sequence[str]]) -> str:
    """Columns: the first left-aligned, the numbers right-aligned."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *rest = row
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)

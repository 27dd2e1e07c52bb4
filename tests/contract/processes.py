"""What runs below a process of a test, as /proc has it."""

from __future__ import annotations

from pathlib import Path


def children(parent: int, program: str = "") -> list[int]:
    """List the children of a process that still run; with `program` those of that name."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            text = (place / "stat").read_text()
        except OSError:  # it has ended meanwhile
            continue
        name = text[text.index("(") + 1 : text.rindex(")")]
        state, above = text[text.rindex(")") + 2 :].split()[:2]
        if int(above) == parent and state != "Z" and program in {"", name}:
            found.append(int(place.name))
    return found


def is_running(pid: int) -> bool:
    """Whether it has not ended; one that nobody has waited for has."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rindex(")") + 2] != "Z"

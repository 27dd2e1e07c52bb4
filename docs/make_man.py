#!/usr/bin/env python3
"""Writes the manual pages into a folder, from the reference pages: `docs/make_man.py build/man`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from roff import manual

from hpcimg import __version__

REFERENCE = Path(__file__).resolve().parent / "reference"

PAGES = {
    ("hpcimg", 1): ("one image name, and every node runs the best build of it", "cli"),
    ("hpcimg-options", 7): ("the options that hpcimg gives to srun, sbatch and salloc", "options"),
    ("hpcimg-features", 7): ("what images may require and nodes offer", "features"),
    ("hpcimg-exit-codes", 7): ("how hpcimg's commands end", "exit-codes"),
    ("hpcimg-doctor", 7): ("what hpcimg doctor looks for", "doctor"),
    ("hpcimg-settings", 5): ("the site's settings of hpcimg", "settings"),
}


def write_pages(folder: Path) -> list[Path]:
    """Write all pages and give their paths, `man1/hpcimg.1` and so on."""
    written = []
    for (name, section), (about, page) in PAGES.items():
        path = folder / f"man{section}" / f"{name}.{section}"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (REFERENCE / f"{page}.md").read_text(encoding="utf-8")
        path.write_text(manual(name, section, about, text, __version__), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make_man.py FOLDER")
    write_pages(Path(sys.argv[1]))

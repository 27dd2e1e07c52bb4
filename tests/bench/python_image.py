"""Runs on the login node as root: push an image with the node's own Python, under the given names.

So the same interpreter reads the same files on the host and inside.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, "/usr/local/lib/cluster/images")

import make_images

PROGRAM = Path("/usr/bin/python3").resolve()
LIBRARY = Path(f"/usr/lib/{PROGRAM.name}")


def library() -> "list[make_images.Entry]":
    """Python's library with bytecode that counts whatever the files' times are: images have none.

    With Debian's own, Python inside would compile each module again.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        copy = root / LIBRARY.relative_to("/")
        shutil.copytree(LIBRARY, copy, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        compile_all = [PROGRAM, "-m", "compileall", "-q", "-s", folder, "-p", "/"]
        subprocess.run([*compile_all, "--invalidation-mode=unchecked-hash", copy], check=False)
        files = [path for path in copy.rglob("*") if path.is_file() or path.is_symlink()]
        return [
            make_images.Entry(str(path.relative_to(root)), link=str(path.readlink()))
            if path.is_symlink()
            else make_images.Entry(str(path.relative_to(root)), 0o644, content=path.read_bytes())
            for path in sorted(files)
        ]


def entries() -> "list[make_images.Entry]":
    """Name the files: Python with its library, what both need, and a clock for the shell."""
    programs = [PROGRAM, Path("/usr/bin/date")]
    needed = make_images._needed_libraries([*programs, *LIBRARY.rglob("*.so")])
    found = [make_images._entry_of(path) for path in sorted({*needed, *programs})]
    found.append(make_images.Entry("usr/bin/python3", link=PROGRAM.name))
    folders = [make_images.Entry(name, link=f"usr/{name}") for name in ("lib", "lib64")]
    return [*folders, *found, *library()]


def main() -> None:
    """Push one image to all the names."""
    layers = [make_images.pack(make_images.busybox_entries()), make_images.pack(entries())]
    for name in sys.argv[1:]:
        make_images.push(name, layers, {"Env": [f"PATH={make_images._PATH}"]})


main()

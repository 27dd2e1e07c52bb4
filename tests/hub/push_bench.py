"""Pushes the announcement's qnib/bench images to a registry; runs in the room, as the cluster's do.

The first argument is the registry, the second the folder of the cluster's images.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Push one image for each tag of the announcement."""
    registry, folder = sys.argv[1:]
    sys.path.insert(0, folder)
    import make_images as images

    busybox = images.pack(images.busybox_entries())
    for tag, words in images.BENCH_TAGS.items():
        settings = {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["bench"]}
        name = f"{registry}/qnib/plain-featuretest:{tag}"
        images.push(name, [busybox, images.pack(images.bench_entries(words))], settings)


if __name__ == "__main__":
    main()

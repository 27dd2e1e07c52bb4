"""Pushes the images of the announcement and of the first post; runs in the room.

The first argument is the registry, the second the folder of the cluster's images.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Push one image for each tag that the two indexes are made of."""
    registry, folder = sys.argv[1:]
    sys.path.insert(0, folder)
    import make_images as images

    busybox = images.pack(images.busybox_entries())
    made = {
        f"plain-featuretest:{tag}": (images.bench_entries(words), "bench")
        for tag, words in images.BENCH_TAGS.items()
    }
    made |= {name: (images.cv_tf_entries(name), "cv-tf") for name in images.CV_TF_IMAGES}
    for name, (entries, command) in made.items():
        settings = {"Env": ["PATH=/usr/bin:/bin"], "Cmd": [command]}
        images.push(f"{registry}/qnib/{name}", [busybox, images.pack(entries)], settings)


if __name__ == "__main__":
    main()

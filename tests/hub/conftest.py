"""One room with a filled registry for all tests of real clients, and each client new for a test."""

from __future__ import annotations

import os
import tempfile
from itertools import count
from pathlib import Path

import pytest
from buildah_client import Buildah
from cri_client import Cri
from ctr_client import Ctr
from docker_client import Docker
from podman_client import Podman
from room import Room
from skopeo_client import Skopeo
from upstream import Upstream, lacking_programs

CLIENTS = {
    "docker": Docker,
    "podman": Podman,
    "buildah": Buildah,
    "skopeo": Skopeo,
    "ctr": Ctr,
    "cri": Cri,
}


@pytest.fixture(scope="session")
def room():
    """Make the room in which everything runs; its path is short, as those of sockets must be."""
    if os.geteuid() != 0:
        pytest.skip("a room for the clients' daemons needs root")
    if lacking := lacking_programs():
        pytest.fail(f"tests/prepare installs {', '.join(lacking)}")
    with Room(Path(tempfile.mkdtemp(prefix="hub-"))) as made:
        yield made


@pytest.fixture(scope="session")
def upstream(room):
    """Start docker-registry with the announcement's images."""
    started = Upstream(room, 5000).start()
    started.fill()
    yield started
    started.stop()


NUMBERS = count(1)


@pytest.fixture(params=CLIENTS)
def client(request, room):
    """Give each client in turn, with an empty store."""
    folder = room.folder / f"{request.param}{next(NUMBERS)}"
    with CLIENTS[request.param](room, folder) as started:
        yield started

"""Node profiles in the store: each node publishes its own, so that a login node can ask for all.

Owns the files `nodes/NAME.json`; what a profile means is the profile's own matter.
"""

from __future__ import annotations

import re
from pathlib import Path

from hpcimg.errors import NotFoundError, StoreError, UsageError
from hpcimg.node.profile import NodeProfile
from hpcimg.quoting import quoted
from hpcimg.store.entry import UntrustedError, open_directory, read_file
from hpcimg.store.faults import store_faults
from hpcimg.store.files import make_directory, replace_file
from hpcimg.store.store import Store

NODES = "nodes"
NODE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
"""What may become the name of a node's file."""
_SUFFIX = ".json"
_FILE_LIMIT = 256 * 1024
_SHOWN = 5
_HINT = "publish it on that node with `hpcimg node publish`"


def publish_profile(store: Store, profile: NodeProfile) -> Path:
    """Write a node's profile, whole or not at all; only the store's account may. Returns its file.

    Raises UsageError for a node name that is no host name, StoreError when it cannot be written.
    """
    name = _checked(profile.node)
    store.prepare()
    place = store.root / NODES / name
    with store_faults("publish a node profile", store.root):
        make_directory(place.parent, 0o755)
        replace_file(place, profile.to_json().encode())
    return place


def read_profile(store: Store, node: str) -> NodeProfile:
    """Read the profile that a node published; NotFoundError when it has not.

    Raises StoreError when the file could have been written by somebody else, or is no profile.
    """
    path = store.root / NODES / _checked(node)
    try:
        with open_directory(store.root, (NODES,), store.owner) as directory:
            raw = read_file(directory, path.name, store.owner, _FILE_LIMIT)
    except FileNotFoundError as error:
        raise NotFoundError(
            f'node "{node}" has published no profile', f"{_HINT}{_others(store)}"
        ) from error
    except (OSError, UntrustedError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StoreError(f'not using the node profile "{path}": {reason}', _HINT) from error
    try:
        return NodeProfile.from_json(raw)
    except UsageError as error:
        what = f'the profile of node "{node}", "{path}", is damaged: {error.message}'
        raise StoreError(what, f"run `hpcimg node publish` on {node}") from error


def forget_profile(store: Store, node: str) -> None:
    """Remove what a node published; NotFoundError where it has not, StoreError where nobody may."""
    path = store.root / NODES / _checked(node)
    try:
        path.unlink()
    except FileNotFoundError as error:
        what = f'node "{node}" has published no profile'
        raise NotFoundError(what, f"look at its spelling{_others(store)}") from error
    except OSError as error:
        what = f'could not remove "{path}": {error.strerror}'
        raise StoreError(what, "run it as root or as the store's account") from error


def published_nodes(store: Store) -> tuple[str, ...]:
    """List the names of the nodes that have published a profile, sorted."""
    try:
        names = [path.name for path in (store.root / NODES).iterdir()]
    except FileNotFoundError:
        return ()
    except OSError as error:
        message = f'could not list "{store.root / NODES}": {error.strerror}'
        raise StoreError(message, "may you read the store?") from error
    stems = (name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))
    return tuple(sorted(stem for stem in stems if NODE_NAME.fullmatch(stem)))


def _others(store: Store) -> str:
    """Name a few nodes that have published, for who misspelt one."""
    try:
        found = published_nodes(store)
    except StoreError:
        return ""
    if not found:
        return ""
    more = ", ..." if len(found) > _SHOWN else ""
    return f"; published are {', '.join(found[:_SHOWN])}{more}"


def _checked(node: str) -> str:
    """Give the file name of a node; the name comes from a command line or a job's node list."""
    if not NODE_NAME.fullmatch(node):
        raise UsageError(f"{quoted(node)} is not the name of a node", "use the name Slurm knows")
    return f"{node}{_SUFFIX}"

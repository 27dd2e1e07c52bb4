"""Node profiles in a store: published whole by the account, read by everybody who may."""

from __future__ import annotations

import os

import pytest

from hpcimg.errors import NotFoundError, StoreError, UsageError
from hpcimg.node.profile import NodeProfile
from hpcimg.store.profiles import forget_profile, publish_profile, published_nodes, read_profile
from hpcimg.store.store import Store

PROFILE = NodeProfile(node="bdw1", os="linux", architecture="amd64", target="broadwell")


@pytest.fixture
def store(tmp_path):
    """Give a store that this process may write."""
    return Store(tmp_path / "store", os.geteuid())


def test_a_published_profile_is_read_back(store):
    """Every node publishes one file; publishing again replaces it."""
    publish_profile(store, NodeProfile(node="bdw1", os="linux", architecture="amd64"))
    path = publish_profile(store, PROFILE)
    publish_profile(store, NodeProfile(node="skx1.example", os="linux", architecture="amd64"))
    assert read_profile(store, "bdw1") == PROFILE
    assert published_nodes(store) == ("bdw1", "skx1.example")
    assert path == store.root / "nodes/bdw1.json"
    assert path.stat().st_mode & 0o777 == 0o644
    assert len(list(path.parent.iterdir())) == 2


def test_a_node_that_published_nothing_is_not_found(store):
    """The error names the node and the command to run there."""
    assert published_nodes(store) == ()
    with pytest.raises(NotFoundError, match='node "zen1" has published no profile') as caught:
        read_profile(store, "zen1")
    assert "hpcimg node publish" in caught.value.hint


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "a\nb", "x" * 300])
def test_a_name_that_is_no_host_is_refused(store, name):
    """The name becomes a path, so it is checked first."""
    with pytest.raises(UsageError, match="is not the name of a node"):
        read_profile(store, name)


def test_a_profile_that_others_may_write_is_not_used(store):
    """Whoever may write a profile decides what a node runs."""
    publish_profile(store, PROFILE).chmod(0o666)
    with pytest.raises(StoreError, match="may be written by others"):
        read_profile(store, "bdw1")


@pytest.mark.parametrize("text", ["", "{}", '{"version": 1, "node": 7}'])
def test_what_is_no_profile_is_named(store, text):
    """File and node, and how to mend it: a fault of the store, by which `uniform` goes on."""
    path = publish_profile(store, PROFILE)
    path.write_text(text)
    with pytest.raises(StoreError) as caught:
        read_profile(store, "bdw1")
    start = f'the profile of node "bdw1", "{path}", is damaged: the node profile cannot be used: '
    assert caught.value.message.startswith(start)
    assert "hpcimg node publish" in caught.value.hint


def test_a_link_in_a_profile_s_place_is_not_followed(store, tmp_path):
    """Neither read through a link, nor written through it: publishing replaces the link."""
    path = publish_profile(store, PROFILE)
    outside = tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(outside)
    with pytest.raises(StoreError, match="is a link"):
        read_profile(store, "bdw1")
    before = outside.read_text()
    publish_profile(store, NodeProfile(node="bdw1", os="linux", architecture="arm64"))
    assert outside.read_text() == before
    assert read_profile(store, "bdw1").architecture == "arm64"


def test_a_damaged_profile_names_its_node_and_file(store):
    """As a full disk leaves it; publishing again mends it."""
    path = publish_profile(store, PROFILE)
    path.write_text("{")
    with pytest.raises(StoreError) as caught:
        read_profile(store, "bdw1")
    assert caught.value.message.startswith(f'the profile of node "bdw1", "{path}", is damaged: ')
    assert caught.value.hint == "run `hpcimg node publish` on bdw1"


def test_a_node_that_is_gone_is_forgotten(store):
    """The second time there is nothing to forget."""
    publish_profile(store, PROFILE)
    forget_profile(store, "bdw1")
    assert published_nodes(store) == ()
    with pytest.raises(NotFoundError, match='node "bdw1" has published no profile'):
        forget_profile(store, "bdw1")

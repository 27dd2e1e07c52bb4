"""Each way to run steps gives with a container what it gives without one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Cluster
from launching import Allocation, allocate, build_probe
from ways import WAYS, Way, is_same

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def job(cluster: Cluster) -> Iterator[Allocation]:
    """One job for all ways."""
    build_probe(cluster)
    yield from allocate(cluster)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_same_as_bare(job: Allocation, way: Way) -> None:
    """Output, errors and exit code are those of the bare step."""
    assert is_same(job, way)

"""From a name to an image with a registry on real sockets."""

from __future__ import annotations

import pytest
from clients import client_for, reference_to
from registry import Registry

from hpcimg.node.words import profile_from_words
from hpcimg.policy import Policy
from hpcimg.workflow.resolve import resolve


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("v2", []),
        (
            "v4",
            ["may not run here: it needs cpu:x86_64_v4; this node is haswell (by its variant)"],
        ),
    ],
)
def test_a_lone_image_that_may_not_run_is_taken_with_a_warning(caplog, variant, said):
    """There is nothing else behind the name, but the user is told."""
    with Registry() as registry:
        digest = registry.put_image("tool", "1", [b"layer"], variant=variant)
        reference = reference_to(registry, "tool:1")
        profile = profile_from_words("linux/amd64:haswell")
        resolved = resolve(reference, profile, client_for(registry), Policy())
    assert resolved.require().descriptor.digest == digest
    assert [record.getMessage() for record in caplog.records] == [
        f"{reference} {text}" for text in said
    ]

"""Which images a choice reads for what they require: those that can be the best, no others."""

from __future__ import annotations

import pytest
from attached import described, put_image, put_index
from clients import client_for, reference_to
from registry import Registry

from hpcimg.errors import RegistryError
from hpcimg.node.words import profile_from_words
from hpcimg.policy import Policy
from hpcimg.workflow.resolve import READ_ANYHOW, READ_LIMIT, resolve


@pytest.fixture
def registry():
    """Run an empty registry."""
    with Registry() as running:
        yield running


def test_what_the_images_say_can_make_an_entry_the_best(registry):
    """All that fit are read: the GPU's build says so in its label alone."""
    cpu = put_image(registry, "tool", "cpu")
    liar = put_image(registry, "tool", "gpu", Labels={"org.hpcimg.features": "nvcap:8.0"})
    put_index(registry, "tool", "latest", described(cpu, "nvcap:7.0+ptx"), described(liar, "zen3"))
    assert picked(registry, "linux/amd64:zen3:nvcap:8.0") == liar
    assert picked(registry, "linux/amd64:zen3:nvcap:7.0") == cpu


def picked(registry, platform):
    """Choose for a platform; the pick's digest."""
    return choose(registry, platform).pick.descriptor.digest


def choose(registry, platform="linux/amd64:haswell"):
    """Choose, and give the resolution."""
    reference = reference_to(registry, "tool:latest")
    profile = profile_from_words(platform)
    return resolve(reference, profile, client_for(registry), Policy()).resolution


def test_no_more_images_are_read_than_needed(registry):
    """Of many that fit the best ones are read; of the others nobody claims more than is known."""
    images = [put_image(registry, "tool", f"i{at}") for at in range(20)]
    put_index(registry, "tool", "latest", *(described(image, "cpu:haswell") for image in images))
    found = choose(registry)
    assert found.pick.descriptor.digest == images[0]
    unread = [one for one in found.candidates if "its image is not read" in one.reason]
    assert [one.descriptor.digest for one in unread] == images[READ_ANYHOW:]
    read_images = [line for line in registry.log() if "/manifests/sha256:" in line]
    assert len(read_images) == READ_ANYHOW


def test_a_choice_reads_a_bounded_number_of_images(registry):
    """A thousand images that all require more than they say: a refusal in time, and no guess."""
    env = ["NVIDIA_REQUIRE_CUDA=cuda>=12.4"]
    images = [put_image(registry, "tool", f"i{at}", Env=env) for at in range(READ_LIMIT + 1)]
    entries = [described(image, "cpu:haswell") for image in images]
    put_index(registry, "tool", "latest", *entries)
    with pytest.raises(RegistryError, match="takes more than the 64 images that are read for it"):
        choose(registry)
    read_images = [line for line in registry.log() if "/manifests/sha256:" in line]
    assert len(read_images) == READ_LIMIT
    put_index(registry, "tool", "latest", *entries[:READ_LIMIT])
    assert choose(registry).pick is None

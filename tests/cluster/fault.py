"""The one error of the cluster in a folder: a sentence for the person at the terminal."""

from __future__ import annotations


class ClusterFault(Exception):
    """Something is missing or failed; the message is one clear sentence."""

"""What two releases of hpcimg leave for each other on a node, while a site is upgraded.

How programs are replaced under a running step is in test_packages.py and test_install.py.
"""

from __future__ import annotations

import mishaps
import pytest
from launching import IMAGE, NODE, allocate

pytestmark = pytest.mark.integration

CHANGES = {
    "newer": ("{ cat $t; printf 'later=1\\nalso later\\n'; } >n", []),
    "of another form": ("printf '9\\nlater=/a\\n' >n", ["get"]),
    "older": ("grep ^image= $t >n", ["get"]),
}


def test_a_ticket_of_another_release(cluster):
    """What it says more is passed over; one that says too little is none, and the step asks."""
    mishaps.do(cluster, f"hpcimg cache warm {IMAGE}")
    for job in allocate(cluster, f"--container-image={IMAGE}"):
        folder = f"cd /run/hpcimg/tickets/{job.job}"
        mishaps.do(cluster, f"{folder}; flock -s .*~* true", NODE)
        for name, (change, starts) in CHANGES.items():
            mishaps.do(cluster, f"{folder}; t=$(ls); {change}; mv -T n $t", NODE)
            with mishaps.recorded_python(cluster, NODE):
                ended = job.step("bench")
                asked = mishaps.python_starts(cluster, NODE)
            assert ended.output == ">> This container is optimized for: cpu:broadwell\n", name
            assert (asked, ended.errors) == (starts, ""), name

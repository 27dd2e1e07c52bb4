"""containerd's CRI socket, asked as a kubelet asks it: PullImage with a login of the pod's."""

from __future__ import annotations

import json
from pathlib import Path

from client import Pulled, PullError
from ctr_client import Ctr

CALL = Path(__file__).with_name("cri_call.py")


class Cri(Ctr):
    """PullImage and ImageStatus; ctr runs what was pulled, since a pod would need a network."""

    namespace = "k8s.io"

    def pull(self, name: str) -> Pulled:
        """Pull; the digest is that of what the registry gave for the name, maybe an index."""
        registry = name.partition("/")[0]
        self.containerd.allow_plain_http(registry)
        asked = {"socket": str(self.containerd.socket), "image": name}
        if registry in self._logins:
            asked["username"], _, asked["password"] = self._logins[registry].partition(":")
        said = self.room.run("/usr/bin/python3", CALL, entered=json.dumps(asked)).stdout
        answer = json.loads(said)
        if "error" in answer:
            raise PullError(answer["error"])
        return Pulled(answer["repo_digests"][0].partition("@")[2], answer["id"], said)

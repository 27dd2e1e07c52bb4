"""Ask NVML for the GPUs and print one JSON object; run as a program of its own, by its path.

The driver may hang or crash the process that asks, so nothing may import this module: it must
stand alone, without hpcimg.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any


def ask() -> dict[str, Any]:
    """Return the driver, the CUDA version it speaks, and the devices with their MIG slices."""
    import pynvml

    absent = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        return {
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "cuda": _cuda(pynvml),
            "devices": [_device(pynvml, index) for index in range(count)],
        }
    except pynvml.NVMLError as error:
        return {"none" if error.value in absent else "error": f"NVML says: {error}"}


def _cuda(nvml: Any) -> str | None:
    with contextlib.suppress(nvml.NVMLError):
        number = nvml.nvmlSystemGetCudaDriverVersion()
        return f"{number // 1000}.{number % 1000 // 10}"
    return None


def _device(nvml: Any, index: int) -> dict[str, Any]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    name = ""
    with contextlib.suppress(nvml.NVMLError):
        name = nvml.nvmlDeviceGetName(handle)
    number = index
    # Slurm counts the device files; NVML only those that the job's device cgroup leaves.
    with contextlib.suppress(nvml.NVMLError):
        number = nvml.nvmlDeviceGetMinorNumber(handle)
    mig = False
    slices: list[tuple[str, str]] = []
    # Before Ampere there is no MIG, and older drivers lack the function.
    with contextlib.suppress(nvml.NVMLError):
        mig = nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE
    if mig:
        slices = list(_slices(nvml, handle))
    return {
        "index": number,
        "uuid": nvml.nvmlDeviceGetUUID(handle),
        "name": name,
        "capability": f"{major}.{minor}",
        "mig": mig,
        "slices": [uuid for uuid, _ in slices],
        "instances": [instance for _, instance in slices],
    }


def _slices(nvml: Any, handle: Any) -> Any:
    for at in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        # A place without a slice answers "not found".
        with contextlib.suppress(nvml.NVMLError):
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, at)
            instance = ""
            with contextlib.suppress(nvml.NVMLError):
                numbers = nvml.nvmlDeviceGetGpuInstanceId, nvml.nvmlDeviceGetComputeInstanceId
                instance = "/".join(str(number(part)) for number in numbers)
            yield nvml.nvmlDeviceGetUUID(part), instance


if __name__ == "__main__":
    json.dump(ask(), sys.stdout)

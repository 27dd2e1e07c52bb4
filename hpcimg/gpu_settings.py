"""What a site says of its containers' GPUs: which libraries of the node they get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcimg.sections import SectionReader

CAPABILITIES = ("compute", "utility", "video", "graphics")
"""Parts of NVIDIA's driver, named as NVIDIA_DRIVER_CAPABILITIES does."""


@dataclass(frozen=True)
class GpuSettings:
    """What of the node a container gets for its GPUs.

    `libraries` are `auto`, NVIDIA's driver as ldconfig knows it; `none`; or patterns of paths.
    """

    libraries: str | tuple[str, ...] = "auto"
    driver_parts: tuple[str, ...] = CAPABILITIES


def read_gpu_settings(reader: SectionReader, value: Any) -> GpuSettings:
    """Read the section `gpus`."""
    given = dict(reader.mapping(value, ("gpus",)))
    libraries = given.pop("libraries", GpuSettings.libraries)
    given = reader.section(given, GpuSettings, ("gpus",))
    at = ("gpus", "driver_parts")
    if "driver_parts" in given:
        given["driver_parts"] = reader.words(given["driver_parts"], at)
        for part in given["driver_parts"]:
            if part not in CAPABILITIES:
                message = f'"driver_parts" are of {", ".join(CAPABILITIES)}, not {part!r}'
                raise reader.error(at, message)
    return GpuSettings(libraries=_libraries(reader, libraries), **given)


def _libraries(reader: SectionReader, value: Any) -> str | tuple[str, ...]:
    """Read `auto`, `none`, or a list of paths, in which * may stand."""
    at = ("gpus", "libraries")
    if value in ("auto", "none"):
        return str(value)
    if not isinstance(value, list):
        raise reader.error(at, f'"libraries" is auto, none or a list of paths, not {value!r}')
    for path in reader.words(value, at):
        if not path.startswith("/"):
            raise reader.error(at, f'"libraries" names paths that begin with /, not {path!r}')
    return tuple(value)

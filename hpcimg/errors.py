"""Every error that hpcimg raises on purpose, named after who must act on it.

The command line prints one as two lines, what and what to do, and exits with its code.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes before launch; after it the code is the application's."""

    USAGE = 2
    NOT_FOUND = 66
    NO_CANDIDATE = 69
    INTERNAL = 70
    STORE = 73
    TEMPORARY = 75
    REGISTRY = 76
    PERMISSION = 77
    SETTINGS = 78
    LAUNCH = 125


class HpcimgError(Exception):
    """The root: a message (what failed, the value, the reason) and a hint (what to do)."""

    exit_code: ExitCode = ExitCode.INTERNAL

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(HpcimgError):
    """The user's input is not what it should be: a bad name, option or file."""

    exit_code = ExitCode.USAGE


class NotFoundError(HpcimgError):
    """The registry knows no such repository, tag or digest."""

    exit_code = ExitCode.NOT_FOUND


class NoCandidateError(HpcimgError):
    """No image behind the name can run on this node."""

    exit_code = ExitCode.NO_CANDIDATE


class RegistryError(HpcimgError):
    """The registry failed or sent something else than it promised.

    `status` is the HTTP status, 0 when there was no answer; `temporary` says that a retry may help,
    `retry_after` in how many seconds, 0 where nobody said.
    """

    exit_code = ExitCode.REGISTRY

    def __init__(
        self, message: str, hint: str = "", *, status: int = 0, temporary: bool = False
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.retry_after = 0.0
        self.temporary = temporary
        if temporary:
            self.exit_code = ExitCode.TEMPORARY


class ContentError(RegistryError):
    """A document is whole and is not what it should be; its author has to push it again."""


class DigestMismatchError(RegistryError):
    """Bytes do not have the digest or the size that names them."""


class AuthenticationError(HpcimgError):
    """The registry refuses this account, or everybody without one."""

    exit_code = ExitCode.PERMISSION


class NotListedError(AuthenticationError):
    """The site's settings do not list the registry host, so nobody may ask it for a job."""


class UnsignedError(HpcimgError):
    """The site runs only what its keys have signed, and this image is not."""

    exit_code = ExitCode.PERMISSION


class StoreError(HpcimgError):
    """The image store cannot be read or written."""

    exit_code = ExitCode.STORE


class LockTimeoutError(StoreError):
    """Somebody else still builds the entry; `path` is the lock, `owner` its record."""

    exit_code = ExitCode.TEMPORARY

    def __init__(self, message: str, hint: str = "", *, path: str = "", owner: str = "") -> None:
        super().__init__(message, hint)
        self.path = path
        self.owner = owner


class RuntimeFailure(HpcimgError):
    """A child process (Apptainer, Slurm) failed or could not be started."""

    exit_code = ExitCode.LAUNCH


class SettingsError(HpcimgError):
    """The site's settings are wrong."""

    exit_code = ExitCode.SETTINGS

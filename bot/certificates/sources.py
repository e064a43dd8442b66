"""The PFX files that the configuration names: checked before a plan, read anew when they are used."""

import difflib
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import structlog

from bot.certificates import encoder, greeting, pfx
from bot.certificates.greeting import Greeting
from bot.domain.certificate import CertificateDetails
from bot.domain.errors import UserError
from bot.domain.thumbprint import Thumbprint
from bot.secrets import SecretReference

log = structlog.get_logger("octocert.certificates")


TARGET = "{target}"
"""What stands for a target's name in the path of a folder of PFX files."""


class Sources:
    """All PFX files by their configured names. Keeps paths and references, never a key, a password or file contents."""

    def __init__(self, files: Mapping[str, tuple[Path, SecretReference | None]]) -> None:
        self._files = dict(files)

    @property
    def names(self) -> tuple[str, ...]:
        """The configured names, sorted."""
        return tuple(sorted(self._files))

    def is_folder(self, name: str) -> bool:
        """Whether each target has a file of its own; UserError if the configuration names no such PFX."""
        return TARGET in str(self._find(name)[0])

    def check(self, name: str, now: datetime, *, target: str = "") -> CertificateDetails:
        """Return what the certificate of this PFX says; UserError, in one sentence for each cause, if it is unfit.

        `target` says for which target, where each has a file of its own.
        """
        return self._open(name, now, target).details

    def encoded(self, name: str, now: datetime, expected: Thumbprint, *, target: str = "") -> bytes:
        """Return certificate and key, read anew, as the leaf-only PFX that goes to a host.

        UserError if the file is unfit by now or holds another certificate than the plan's. The result is as secret as
        the key: it has the empty password.
        """
        opened = self._expected(name, now, expected, target)
        return encoder.encode(opened.key, opened.certificate)

    def greet(
        self, name: str, now: datetime, expected: Thumbprint, *, address: str, port: int, timeout: float
    ) -> Greeting:
        """Return whether the Tentacle at an address trusts the certificate of this PFX, by showing it there.

        UserError as for `encoded`; `timeout` is in seconds.
        """
        opened = self._expected(name, now, expected)
        return greeting.greet(address, port, certificate=opened.certificate, key=opened.key, timeout=timeout)

    def _expected(self, name: str, now: datetime, expected: Thumbprint, target: str = "") -> pfx.Pfx:
        opened = self._open(name, now, target)
        found = opened.details.thumbprint
        if found != expected:
            shown = self._find(name, target)[0] if target and self.is_folder(name) else name
            raise UserError(
                f"The PFX “{shown}” now holds the certificate {found}, but {expected} was approved. "
                "Put the approved file back, or ask for a new plan."
            )
        return opened

    def cautions(self, name: str, *, target: str = "") -> tuple[str, ...]:
        """Return what an administrator should mend about the file, as sentences; nothing if all is well."""
        path, _ = self._find(name, target)
        mode = 0
        with suppress(OSError):
            mode = path.stat().st_mode
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            return (f"The PFX “{name}” can be read by everybody on the bot's machine. Run: chmod 600 {path}",)
        return ()

    def _open(self, name: str, now: datetime, target: str) -> pfx.Pfx:
        path, reference = self._find(name, target)
        shown = f"{name}: {path}" if target and self.is_folder(name) else name
        data = _contents(path, name)
        for caution in self.cautions(name, target=target):
            log.warning("pfx_readable_by_everybody", pfx=name, advice=caution)
        return pfx.open(data, reference.read() if reference else None, name=shown, now=now)

    def _find(self, name: str, target: str = "") -> tuple[Path, SecretReference | None]:
        if name in self._files:
            path, reference = self._files[name]
            return (Path(str(path).replace(TARGET, _safe(target))) if target else path), reference
        near = difflib.get_close_matches(name, self._files, n=1)
        if near:
            known = f"Did you mean “{near[0]}”?"
        elif self._files:
            known = "It names: " + ", ".join(self.names) + "."
        else:
            known = "It names none: add a table [certificates.pfx.NAME]."
        raise UserError(f"The configuration names no PFX “{name}”. {known}")


def _safe(target: str) -> str:
    """Return a target's name as a part of a path; UserError for one that would lead to another folder."""
    if target in {".", ".."} or any(c in target for c in "/\\\0"):
        raise UserError(f"The name “{target}” cannot be the name of a PFX file. Rename the target in Octopus.")
    return target


def _not_a_file(path: Path, name: str) -> UserError:
    return UserError(f"The PFX “{name}” is not a file: {path}. Correct its path in the configuration.")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _contents(path: Path, name: str) -> bytes:
    """Return the file's bytes, at most one more than a PFX may have, without waiting on pipes and devices."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _not_a_file(path, name)
            return file.read(pfx.LARGEST + 1)
    except IsADirectoryError:
        raise _not_a_file(path, name) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(
            f"The PFX “{name}” cannot be read from {path}: {reason}. Correct the path or the file's permissions."
        ) from None

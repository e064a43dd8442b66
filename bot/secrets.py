"""Secrets: values that cannot be printed, pickled or journaled, and references that are read where they are used."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from bot.domain.errors import SettingsError


class Secret:
    """A value that shows itself only to `reveal`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value; call it only where it is handed to the library that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> Never:
        raise TypeError("a Secret is never pickled or copied to disk")


@dataclass(frozen=True, slots=True)
class SecretReference:
    """Where a secret is: `env:NAME` or `file:/path`. The value is read anew at each use, never kept."""

    text: str

    def __post_init__(self) -> None:
        kind, _, rest = self.text.partition(":")
        if kind not in {"env", "file"} or not rest:
            raise SettingsError(
                f"“{self.text if kind in {'env', 'file'} else '…'}” is not a reference to a secret. "
                "Write env:NAME for an environment variable or file:/path for a file; "
                "the secret itself never stands in the configuration."
            )

    def read(self) -> Secret:
        """Read the secret; SettingsError, naming the reference and the mend, if it is not there."""
        kind, _, rest = self.text.partition(":")
        if kind == "env":
            value = os.environ.get(rest)
            if not value:
                raise SettingsError(f"The environment variable {rest} is not set, but the configuration names it.")
            return Secret(value)
        return Secret(_read_private_file(Path(rest)))

    def __str__(self) -> str:
        return self.text


def _read_private_file(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            raise SettingsError(f"The secret file {path} can be read by everybody on this host. Run: chmod 600 {path}")
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SettingsError(f"The secret file {path} cannot be read: {reason}.") from None

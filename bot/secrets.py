"""Secrets: values that cannot be printed, pickled or journaled, and references that are read where they are used."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Never

from bot import logs
from bot.domain.errors import SettingsError

KINDS = ("env", "file", "vault")
LARGEST_SECRET = 64 * 1024
"""Bytes of a secret in a file; a key in PEM has a few thousand."""


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


class VaultDoor:
    """Where references into Vault are read, once the configuration that says how was read as a whole."""

    def __init__(self) -> None:
        self._read: Callable[[str, str], Secret] | None = None

    def open(self, read: Callable[[str, str], Secret]) -> None:
        """Take what reads a field of a secret in Vault."""
        self._read = read

    def read(self, path: str, field_name: str) -> Secret:
        """Read a field of a secret; SettingsError where there is no [vault], or where Vault has none."""
        if self._read is None:
            raise SettingsError("A reference names Vault, but the configuration has no table [vault].")
        return self._read(path, field_name)


@dataclass(frozen=True, slots=True)
class SecretReference:
    """Where a secret is: `env:NAME`, `file:/path` or `vault:PATH#FIELD`. It is read anew at each use, never kept."""

    text: str
    door: VaultDoor | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        kind, _, rest = self.text.partition(":")
        path, _, name = rest.partition("#")
        if kind not in KINDS or not rest or (kind == "vault" and not (path and name)):
            raise SettingsError(
                f"“{self.text if kind in KINDS else '…'}” is not a reference to a secret. "
                "Write env:NAME for an environment variable, file:/path for a file, or vault:PATH#FIELD; "
                "the secret itself never stands in the configuration."
            )

    @property
    def kind(self) -> str:
        """`env`, `file` or `vault`."""
        return self.text.partition(":")[0]

    def read(self) -> Secret:
        """Read the secret; SettingsError, naming the reference and the mend, if it is not there."""
        secret = self._read()
        logs.hide(secret.reveal())  # also one that was changed while the bot runs
        return secret

    def _read(self) -> Secret:
        rest = self.text.partition(":")[2]
        if self.kind == "env":
            value = os.environ.get(rest)
            if not value:
                raise SettingsError(f"The environment variable {rest} is not set, but the configuration names it.")
            return Secret(value)
        if self.kind == "vault":
            path, _, name = rest.partition("#")
            return (self.door or VaultDoor()).read(path, name)
        return Secret(_read_private_file(Path(rest)))

    def __str__(self) -> str:
        return self.text


def _read_private_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
                who = "read" if mode & stat.S_IROTH else "changed"
                by = "by everybody" if mode & (stat.S_IROTH | stat.S_IWOTH) else "by its group"
                raise SettingsError(f"The secret file {path} can be {who} {by} on this host. Run: chmod 600 {path}")
            content = file.read(LARGEST_SECRET + 1)
        if len(content) > LARGEST_SECRET:
            raise SettingsError(f"The secret file {path} holds more than {LARGEST_SECRET // 1024} KB: no secret does.")
        return content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise SettingsError(f"The secret file {path} is not UTF-8 text.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SettingsError(f"The secret file {path} cannot be read: {reason}.") from None

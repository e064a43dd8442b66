"""One call of the Tentacle program: its options, its instance, what it prints, and the ways in which it fails."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bot.sandbox.windows.configuration import Configuration, ConfigurationError, InstanceIndex
from bot.sandbox.windows.tentacle import DEFAULT

if TYPE_CHECKING:
    from bot.sandbox.windows.host import Host

_CRYPTOGRAPHIC = "System.Security.Cryptography.CryptographicException"


class Controlled(Exception):  # noqa: N818  # the program's ControlledFailureException
    """The program ends with exit code 1 and one line on standard error."""


class Crash(Exception):  # noqa: N818  # an exception of the program that nobody caught
    """The program ends with exit code 100: message, type and stack, of inner exceptions too."""

    def __init__(self, message: str, kind: str, *inner: tuple[str, str], footer: bool = True) -> None:
        super().__init__(message)
        self.chain = ((message, kind), *inner)
        self.footer = footer
        """Whether the advice about log files follows: not before the command was started."""

    @classmethod
    def cryptographic(cls, message: str, *, twice: bool = False) -> "Crash":
        """Make a CryptographicException, which may carry another one with the same words."""
        return cls(message, _CRYPTOGRAPHIC, *([(message, _CRYPTOGRAPHIC)] if twice else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """The instance that a call works on; `name` is None where a configuration file was named."""

    name: str | None
    config: Path


class Call:
    """What a command gets to work with."""

    def __init__(self, host: "Host", environment: Mapping[str, str], folder: Path, named: Mapping[str, str]) -> None:
        """Make a call; `named` holds `instance` and `config`, where the command line has them."""
        self.host = host
        self.environment = environment
        self.folder = folder
        self.options: list[tuple[str, str]] = []
        self.out = ""
        self.err = ""
        self.needs_restart = False
        self._named = named
        self.index = InstanceIndex(host.program_data)

    def info(self, line: str) -> None:
        """Print a line on standard output."""
        self.out += line + "\n"

    def error(self, line: str) -> None:
        """Print a line on standard error."""
        self.err += line + "\n"

    def write(self, text: str) -> None:
        """Print text as it is, without a line end."""
        self.out += text

    def has(self, name: str) -> bool:
        """Return whether an option was given."""
        return any(n == name for n, _ in self.options)

    def values(self, name: str) -> list[str]:
        """Return all values of an option."""
        return [v for n, v in self.options if n == name]

    def value(self, name: str) -> str:
        """Return the last value of an option, empty if there is none or it is blank."""
        return next((v for n, v in reversed(self.options) if n == name and v.strip()), "")

    def path(self, text: str) -> Path:
        """Return a path of the command line, seen from the call's folder."""
        return self.folder / text

    @property
    def selected(self) -> Selected:
        """The instance of this call; Controlled with the program's words when there is none."""
        if name := self._named.get("instance", "").strip():
            entries = [e for e in self.index.entries() if e.name.lower() == name.lower()]
            if len(entries) > 1:
                entries = [e for e in entries if e.name == name]
            if not entries:
                raise Controlled(
                    f"Instance {name} of Tentacle has not been configured on this machine. "
                    f"Available instances: {self._available()}."
                )
            selected = Selected(name=entries[0].name, config=entries[0].config)
        elif config := self._named.get("config", "").strip():
            selected = Selected(name=None, config=self.path(config))
        else:
            selected = self._default()
        if not selected.config.is_file():
            if selected.name is None:
                raise Controlled(
                    f"The configuration file at {selected.config} could not be located at the specified location."
                )
            raise Controlled(
                f"The configuration file for instance {selected.name} could not be located at the specified location "
                f"{selected.config}. The file might have been manually removed without properly removing the instance "
                "and as such it is still listed as present.The instance must be created again before you can interact "
                "with it."
            )
        return selected

    def load(self) -> Configuration:
        """Read the instance's configuration; Crash where that fails."""
        path = self.selected.config
        try:
            return Configuration.load(path)
        except ConfigurationError as error:
            line, column = error.place
            tail = f" Line {line}, position {column}." if line else ""
            raise Crash(
                "Unable to parse configuration key 'Octopus.Home' as a 'String'. Value was ''.",
                "System.FormatException",
                (f"There is an error in XML document ({line}, {column}).", "System.InvalidOperationException"),
                (f"{error.reason}{tail}", "System.Xml.XmlException"),
                footer=False,
            ) from error
        except OSError as error:
            raise self.denied(path) from error

    def denied(self, path: Path) -> Crash:
        """Return the exception of a file that may not be opened."""
        return Crash(f"Access to the path '{path}' is denied.", "System.UnauthorizedAccessException")

    def require_elevation(self) -> None:
        """Demand an administrator's token."""
        if not self.host.profile.elevated:
            raise Controlled(
                "This command requires elevation. Please re-run from an elevated shell / as a user that is a member of "
                "the local administrators group."
            )

    def require_windows(self) -> None:
        """Demand Windows."""
        if not self.host.profile.is_windows:
            raise Controlled("This command is only supported on Windows.")

    def check_format(self) -> str:
        """Return the chosen format in small letters; Controlled if there is no such format."""
        chosen = self.value("format") or "text"
        if chosen.lower() not in {"text", "json"}:
            raise Controlled(f"The format '{chosen}' is not supported. Try text or json.")
        return chosen.lower()

    def _default(self) -> Selected:
        here = self.folder / "Tentacle.config"
        if here.is_file():
            return Selected(name=None, config=here)
        entries = self.index.entries()
        chosen = next((e for e in entries if e.name == DEFAULT), entries[0] if len(entries) == 1 else None)
        if chosen:
            return Selected(name=chosen.name, config=chosen.config)
        if entries:
            raise Controlled(
                "There is more than one instance of Tentacle configured on this machine. Please pass "
                "--instance=INSTANCENAME when invoking this command to target a specific instance. "
                f"Available instances: {self._available()}."
            )
        raise Controlled("Unable to find default instance of Tentacle. Available instances: .")

    def _available(self) -> str:
        return ", ".join(e.name for e in self.index.entries())

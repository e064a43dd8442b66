"""The configuration file of a Tentacle instance, and the index of instances.

XML with a byte order mark, written in place and once per setting, as the real program was seen to do it
(OctopusTentacle: XmlKeyValueStore.cs). `Tentacle.Certificate` holds a PFX without password in base64; the real one
is wrapped by DPAPI on Windows.
"""

import base64
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from bot.domain.facts import Style, Trust
from bot.domain.thumbprint import Thumbprint
from bot.sandbox.pki import Identity

CERTIFICATE = "Tentacle.Certificate"
THUMBPRINT = "Tentacle.CertificateThumbprint"
TRUSTED = "Tentacle.Communication.TrustedOctopusServers"
PORT = "Tentacle.Services.PortNumber"
NO_LISTEN = "Tentacle.Services.NoListen"
LISTEN_IP = "Tentacle.Services.ListenIP"
HOME = "Octopus.Home"
APPLICATIONS = "Tentacle.Deployment.ApplicationDirectory"
POLLING_COUNT = "Tentacle.Communication.PollingConnectionCount"

NONE, LISTENING, POLLING, KUBERNETES = 0, 1, 2, 11
"""Octopus's numbers of communication styles."""


class ConfigurationError(Exception):
    """The file is no configuration; `reason` is what .NET's XML reader says, with its place."""

    def __init__(self, reason: str, place: tuple[int, int]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.place = place


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedServer:
    """One entry of the trust list, as it stands in the file."""

    thumbprint: str
    style: int = LISTENING
    address: str | None = None
    squid: str | None = None
    subscription: str | None = None

    @classmethod
    def of(cls, trust: Trust) -> "TrustedServer":
        """Make the entry that a trust of the domain stands for."""
        style = {Style.LISTENING: LISTENING, Style.POLLING: POLLING, None: NONE}[trust.style]
        return cls(thumbprint=trust.text, style=style, address=trust.address, subscription=trust.subscription)

    @property
    def trust(self) -> Trust:
        """The entry in the words of the domain."""
        style = {LISTENING: Style.LISTENING, POLLING: Style.POLLING, KUBERNETES: Style.POLLING}.get(self.style)
        return Trust(text=self.thumbprint, style=style, address=self.address, subscription=self.subscription)

    def document(self) -> dict[str, object]:
        """Return the entry as the program writes it."""
        return {
            "Thumbprint": self.thumbprint,
            "CommunicationStyle": self.style,
            "Address": self.address,
            "Squid": self.squid,
            "SubscriptionId": self.subscription,
        }

    @property
    def kind(self) -> str:
        """How the program calls its style."""
        return {
            POLLING: "polling tentacle",
            LISTENING: "listening tentacle",
            KUBERNETES: "kubernetes tentacle (polling)",
        }.get(self.style, "")


class Configuration:
    """The settings of one instance; every `set` writes the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings: dict[str, str] = {}

    @classmethod
    def load(cls, path: Path) -> "Configuration":
        """Read the file; ConfigurationError if it is no XML, OSError if it cannot be read."""
        configuration = cls(path)
        try:
            root = ET.fromstring(path.read_bytes())  # noqa: S314  # the sandbox wrote it
        except ET.ParseError as error:
            line, column = error.position
            data = path.read_bytes()
            if not data:
                raise ConfigurationError("Root element is missing.", (0, 0)) from error
            raise ConfigurationError("Data at the root level is invalid.", (line, column + 1)) from error
        configuration.settings = {e.get("key", ""): e.text or "" for e in root.iter("set")}
        return configuration

    def set(self, key: str, value: str | None) -> None:
        """Set one setting and write the file in place."""
        if value is None:
            self.settings.pop(key, None)
        else:
            self.settings[key] = value
        self.save()

    def save(self) -> None:
        """Truncate and write the file, as the real program does."""
        schema = "http://www.w3.org/2001/XMLSchema"
        lines = [
            '<?xml version="1.0" encoding="utf-8"?>',
            f'<octopus-settings xmlns:xsi="{schema}-instance" xmlns:xsd="{schema}">',
            *(f"  <set key={quoteattr(k)}>{escape(self.settings[k])}</set>" for k in sorted(self.settings)),
            "</octopus-settings>",
        ]
        self.path.write_text("\n".join(lines), encoding="utf-8-sig")

    @property
    def thumbprint(self) -> str | None:
        """The text of the configured thumbprint."""
        return self.settings.get(THUMBPRINT) or None

    @property
    def configured(self) -> Thumbprint | None:
        """The configured thumbprint, where the text is one."""
        return Thumbprint.maybe(self.thumbprint)

    @property
    def identity(self) -> Identity | None:
        """Key and certificate, None where nothing is configured; ValueError if they cannot be read."""
        text = self.settings.get(CERTIFICATE)
        return Identity.from_pfx(base64.b64decode(text)) if self.thumbprint and text else None

    def set_identity(self, identity: Identity) -> None:
        """Write certificate and thumbprint: two writes of the file."""
        self.set(CERTIFICATE, base64.b64encode(identity.pfx()).decode())
        self.set(THUMBPRINT, identity.thumbprint)

    @property
    def trusted(self) -> tuple[TrustedServer, ...]:
        """The trust list."""
        entries = json.loads(self.settings.get(TRUSTED) or "[]")
        return tuple(
            TrustedServer(
                thumbprint=e["Thumbprint"],
                style=int(e.get("CommunicationStyle") or 0),
                address=e.get("Address"),
                squid=e.get("Squid"),
                subscription=e.get("SubscriptionId"),
            )
            for e in entries
        )

    def set_trusted(self, entries: Iterable[TrustedServer]) -> None:
        """Write the trust list."""
        self.set(TRUSTED, json.dumps([e.document() for e in entries], separators=(",", ":")))

    def trust(self, entry: TrustedServer) -> None:
        """Add an entry, in place of the one with the same thumbprint (ignoring case) and address.

        LookupError with .NET's words when there are several such entries: the real program crashes then.
        """
        entry = replace(entry, thumbprint=entry.thumbprint.strip())
        same = [
            e
            for e in self.trusted
            if e.thumbprint.lower() == entry.thumbprint.lower() and _address(e.address) == _address(entry.address)
        ]
        if len(same) > 1:
            raise LookupError("Sequence contains more than one matching element")
        self.set_trusted([*(e for e in self.trusted if e not in same), entry])

    @property
    def port(self) -> int:
        """The port to listen on."""
        return int(self.settings.get(PORT) or 10933)

    @property
    def no_listen(self) -> bool:
        """Whether the Tentacle listens on nothing."""
        return (self.settings.get(NO_LISTEN) or "").lower() == "true"

    @property
    def listen_address(self) -> str | None:
        """The address to listen on, None for all."""
        return self.settings.get(LISTEN_IP) or None

    @property
    def home(self) -> Path:
        """The home folder."""
        return self.path.parent / (self.settings.get(HOME) or ".")


def _address(text: str | None) -> str | None:
    """Return an address as it compares: case aside, with the slash that .NET's Uri adds."""
    return text.lower().rstrip("/") if text else None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """One file of the index of instances."""

    name: str
    config: Path


class InstanceIndex:
    r"""The folder `%ProgramData%\Octopus\Tentacle\Instances` (OctopusTentacle: ApplicationInstanceStore.cs)."""

    def __init__(self, program_data: Path) -> None:
        self.folder = program_data / "Octopus" / "Tentacle" / "Instances"

    def entries(self) -> list[IndexEntry]:
        """Return all instances, by name."""
        files = sorted(self.folder.glob("*")) if self.folder.is_dir() else []
        documents = [json.loads(f.read_text(encoding="utf-8-sig")) for f in files]
        found = [IndexEntry(name=d["Name"], config=Path(d["ConfigurationFilePath"])) for d in documents]
        return sorted(found, key=lambda e: e.name.lower())

    def add(self, name: str, config: Path) -> None:
        """Write the file of an instance."""
        self.folder.mkdir(parents=True, exist_ok=True)
        document = {"Name": name, "ConfigurationFilePath": str(config)}
        self._file(name).write_text(json.dumps(document, indent=2), encoding="utf-8")

    def remove(self, name: str) -> None:
        """Remove the file of an instance; nothing happens if there is none."""
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self.folder / (name.replace(" ", "-").lower() + ".config")

"""The configuration: one TOML file, checked as a whole before anything starts.

Nothing else reads the file, and nothing reads settings from the environment: what the file says is what the bot does.
Secrets never stand in it, only references to them (`bot.secrets`). Every problem is one sentence that names file, table
and key; all of them are told at once.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError, to_json

from bot.clock import SystemClock
from bot.domain.errors import SettingsError
from bot.secrets import Secret, SecretReference, VaultDoor
from bot.settings_audit import Audit
from bot.settings_certificates import Certificates
from bot.settings_operating import Operating
from bot.settings_policy import Person, Policy, contradictions
from bot.settings_problems import find_secrets, problems_of
from bot.settings_radar import Radar
from bot.settings_scale import Replicas, Retention
from bot.settings_tables import (
    WINRM_PORTS,
    Database,
    Deadlines,
    HostEntry,
    Log,
    Login,
    Octopus,
    Scheme,
    Slack,
    Table,
    WinRm,
)
from bot.settings_values import Name
from bot.settings_vault import Vault
from bot.settings_windows import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How one host is reached: what [winrm], its [[hosts]] entry and its [credentials] come to."""

    scheme: Scheme
    port: int
    login: Login
    address: str | None
    """None: at the address that Octopus knows."""
    instance: str | None
    """None: the instance is found by port and thumbprint, or by subscription."""


class Settings(Table):
    """The whole configuration."""

    slack: Slack
    octopus: Octopus
    winrm: WinRm
    policy: Policy
    vault: Vault | None = None
    """How secrets are read from Vault; needed where a reference names it."""
    people: dict[Name, Person] = Field(default_factory=dict)
    """People who have several Slack accounts, by a name of your choice."""
    credentials: dict[Name, Login] = Field(default_factory=dict)
    """Other logins than [winrm]'s, by the name that [[hosts]] entries use."""
    hosts: tuple[HostEntry, ...] = ()
    """Hosts that are different; the first entry that matches counts."""
    certificates: Certificates = Certificates()
    windows: dict[Name, Window] = Field(default_factory=dict)
    """Maintenance windows by the name that commands use."""
    database: Database = Database()
    replicas: Replicas = Replicas()
    retention: Retention = Retention()
    audit: Audit = Audit()
    deadlines: Deadlines = Deadlines()
    operating: Operating = Operating()
    radar: Radar = Radar()
    log: Log = Log()

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        sentences = []
        for number, entry in enumerate(self.hosts, start=1):
            if entry.credential is not None and entry.credential not in self.credentials:
                known = ", ".join(sorted(self.credentials)) or "none yet"
                sentences.append(
                    f"[[hosts]] entry {number} (match “{entry.match}”) credential: there is no table "
                    f"[credentials.{entry.credential}]; there is: {known}."
                )
                continue
            access = self._access(entry, entry.match)
            if access.scheme == "http" and access.login.transport in {"basic", "certificate"}:
                sentences.append(
                    f"[[hosts]] entry {number} (match “{entry.match}”) scheme: {_plain_http(access.login.transport)}"
                )
        if self.winrm.scheme == "http" and self.winrm.transport in {"basic", "certificate"}:
            sentences.append(f"[winrm] scheme: {_plain_http(self.winrm.transport)}")
        if self.vault is None and any(r.kind == "vault" for _, r in self.references()):
            sentences.append("[vault] is missing: a reference names Vault. It needs address and a login.")
        sentences += contradictions(self.policy, self.people)
        sentences += [
            f"[certificates.ca.{name}] engine is vault, but there is no table [vault], which tells where it is."
            for name, ca in self.certificates.ca.items()
            if ca.engine == "vault" and self.vault is None
        ]
        if sentences:
            raise PydanticCustomError("octocert_several", "several", {"sentences": sentences})
        return self

    def host_for(self, name: str) -> HostEntry | None:
        """Return the first [[hosts]] entry whose glob matches a target's name in Octopus, None if there is none."""
        folded = name.casefold()
        return next((entry for entry in self.hosts if fnmatchcase(folded, entry.match.casefold())), None)

    def access_for(self, name: str) -> Access:
        """Return how the host of a target is reached."""
        return self._access(self.host_for(name), name)

    def _access(self, entry: HostEntry | None, name: str) -> Access:
        scheme: Scheme = (entry.scheme if entry else None) or self.winrm.scheme
        if entry and entry.port:
            port = entry.port
        elif self.winrm.port and scheme == self.winrm.scheme:
            port = self.winrm.port
        else:
            port = WINRM_PORTS[scheme]
        return Access(
            scheme=scheme,
            port=port,
            login=self.credentials[entry.credential] if entry and entry.credential else self.winrm,
            address=entry.address.replace("{target}", name) if entry and entry.address else None,
            instance=entry.instance if entry else None,
        )

    def references(self) -> Iterator[tuple[str, SecretReference]]:
        """Yield every reference to a secret with the setting that names it, such as `[slack] bot_token`."""
        yield from _references(self, "")

    def read_secrets(self) -> tuple[Secret, ...]:
        """Read every secret once, before anything starts; SettingsError lists all that are missing."""
        secrets, problems = [], []
        for where, reference in self.references():
            try:
                secrets.append(reference.read())
            except SettingsError as error:
                problems.append(f"{where}: {error}")
        if problems:
            raise SettingsError("\n".join(problems))
        return tuple(secrets)

    @property
    def cautions(self) -> tuple[str, ...]:
        """What is allowed and yet worth a sentence in the log at every start."""
        found = []
        if self.octopus.url.startswith("http:") and not _is_loopback(self.octopus.url):
            found.append(
                "[octopus] url is http: the API key crosses the network unencrypted. Use https if the server has it."
            )
        if self.winrm.scheme == "http" or any(h.scheme == "http" for h in self.hosts):
            found.append(
                "WinRM over http: messages are sealed, but no certificate proves which host answers. Prefer https."
            )
        if len(set(self.policy.approvers)) == 1:
            found.append("[policy] approvers names one person only: what that person asks for, nobody can approve.")
        return tuple(found)


def load(path: Path) -> Settings:
    """Read and check the configuration; SettingsError, one line per problem, if it cannot be used."""
    try:
        data = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise SettingsError(
            f"There is no configuration at {path}. Write one by octocert init, or name another by --config."
        ) from None
    except OSError as error:
        raise SettingsError(
            f"The configuration {path} cannot be read: {error.strerror or type(error).__name__}."
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"The configuration {path} is not UTF-8 text. Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        # Only the place: the message of the parser may quote what stands there.
        place = re.search(r"\(at (.+?)\)$", str(error))
        where = place[1] if place else "its end"
        raise SettingsError(f"The configuration {path} is not valid TOML at {where}.") from None
    door = VaultDoor()
    problems = [f"{path}, {sentence}" for sentence in find_secrets(data, Settings)]
    settings: Settings | None = None
    try:
        settings = Settings.model_validate_json(
            to_json(data, fallback=str, inf_nan_mode="strings"), context={"base": path.absolute().parent, "vault": door}
        )
    except ValidationError as error:
        problems += [f"{path}, {sentence}" for sentence in problems_of(error, data, Settings)]
    if settings is None or problems:
        raise SettingsError("\n".join(dict.fromkeys(problems)))
    if settings.vault:
        from bot.vault import Vault as Client  # noqa: PLC0415 -- heavy, and few have it

        door.open(Client(settings.vault, SystemClock()).read)
    return settings


def _references(value: Any, where: str) -> Iterator[tuple[str, SecretReference]]:
    if isinstance(value, SecretReference):
        yield where, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            child = getattr(value, name)
            is_table = isinstance(child, BaseModel | dict | tuple)
            yield from _references(child, f"{where}.{name}".lstrip(".") if is_table else f"[{where}] {name}")
    elif isinstance(value, dict):
        for name, child in value.items():
            yield from _references(child, f"{where}.{name}")


def _plain_http(transport: str) -> str:
    what = "would send the password readable for everybody" if transport == "basic" else "works over https only"
    return f"the transport {transport} {what}; use https."


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")

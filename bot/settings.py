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
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError, to_json

from bot.domain.errors import SettingsError
from bot.secrets import Secret, SecretReference
from bot.settings_problems import find_secrets, problems_of
from bot.settings_values import (
    BESIDE,
    ApiAddress,
    ChannelId,
    DatabaseUrl,
    ExistingFile,
    Name,
    PathHere,
    Port,
    Reference,
    Seconds,
    SlashCommand,
    UserId,
    WebAddress,
    problem,
)

Transport = Literal["ntlm", "kerberos", "certificate", "basic"]
Scheme = Literal["https", "http"]

WINRM_PORTS: dict[str, int] = {"https": 5986, "http": 5985}
"""Windows' own ports for WinRM."""


class Table(BaseModel):
    """One table of the file: unknown keys are errors, values are not converted, nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class Slack(Table):
    """How the bot reaches Slack."""

    bot_token: Reference
    """The bot token (xoxb-…), from the app's page OAuth & Permissions."""
    app_token: Reference
    """The app-level token (xapp-…) with the scope connections:write, for Socket Mode."""
    command: SlashCommand = "/octocert"
    """The slash command, as it is written in the app's manifest."""
    api_url: ApiAddress = "https://slack.com/api/"
    """Slack's Web API; only a sandbox stands elsewhere."""


class Octopus(Table):
    """How the bot reaches the Octopus Server."""

    url: WebAddress
    """The address of the Octopus Server, as people open it in a browser."""
    api_key: Reference
    """The API key of the bot's own service account."""
    ca_file: ExistingFile | None = None
    """CA certificates (PEM) that vouch for an https address; without it, those of the system."""


class Login(Table):
    """How the bot logs in to Windows hosts."""

    transport: Transport = "ntlm"
    """How the bot proves who it is: ntlm, kerberos, certificate or basic."""
    username: str | None = None
    """The account: DOMAIN\\name for ntlm, name@REALM for kerberos, a local name for basic."""
    password: Reference | None = None
    """The account's password; kerberos may do without, with a ticket in the cache."""
    certificate: ExistingFile | None = None
    """For the transport certificate: the client certificate (PEM)."""
    key: ExistingFile | None = None
    """For the transport certificate: its private key (PEM)."""
    ca_file: ExistingFile | None = None
    """CA certificates (PEM) that vouch for the hosts' WinRM listeners; without it, those of the system."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        needed = {
            "ntlm": ("username", "password"),
            "basic": ("username", "password"),
            "kerberos": ("username",),
            "certificate": ("certificate", "key"),
        }[self.transport]
        missing = [key for key in needed if not getattr(self, key)]
        if missing:
            raise problem(f"needs {' and '.join(missing)} for the transport {self.transport}.")
        return self


class WinRm(Login):
    """How the bot reaches Windows hosts, unless a [[hosts]] entry says otherwise."""

    scheme: Scheme = "https"
    """https, or http: then only ntlm and kerberos, which encrypt the messages themselves."""
    port: Port | None = None
    """The port of the WinRM listener; without it, 5986 for https and 5985 for http."""
    in_flight: int = Field(default=64, ge=1, le=512)
    """How many hosts are visited at the same time, at most."""


class HostEntry(Table):
    """What is different about some hosts; the first entry whose glob matches counts."""

    match: str = Field(min_length=1)
    """A glob over the names of targets in Octopus, such as web-*; case makes no difference."""
    address: str | None = Field(default=None, min_length=1)
    """Where the host is reached, if not at the address that Octopus knows. {target} stands for the target's name."""
    port: Port | None = None
    """The port of its WinRM listener."""
    scheme: Scheme | None = None
    """https or http."""
    credential: str | None = None
    """The name of a [credentials.NAME] table."""
    instance: str | None = Field(default=None, min_length=1)
    """The Tentacle instance, where the name must decide; it is still proven by port and thumbprint or subscription."""


class Policy(Table):
    """Who may do what. Nobody ever approves what they asked for themselves: there is no setting for that."""

    requesters: tuple[UserId, ...] = ()
    """Slack user ids of those who may ask for a rotation; empty means everybody in the channels below."""
    approvers: tuple[UserId, ...]
    """Slack user ids of those who may approve; without them nothing could ever be approved."""
    channels: tuple[ChannelId, ...] = ()
    """Ids of the channels in which the bot takes commands; empty means every channel it was invited to."""
    approval_minutes: int = Field(default=30, ge=1, le=10_080)
    """How long a plan waits for its approval, and how long a failed target may be retried under it."""

    @model_validator(mode="after")
    def _can_be_satisfied(self) -> Self:
        if not self.approvers:
            raise problem(
                "approvers is empty, so that nothing could ever be approved. Name the Slack user ids of those who may "
                'approve, such as ["U02ABCDEF"].'
            )
        if len(set(self.approvers)) == 1 and set(self.requesters) == set(self.approvers):
            raise problem(
                "names one and the same person as only requester and only approver, and nobody approves what they "
                "asked for themselves. Add a second approver."
            )
        return self


class Pfx(Table):
    """A PFX file on the bot's machine, used in commands as pfx:NAME."""

    path: PathHere
    """The file; it is read anew at each use."""
    password: Reference | None = None
    """The password of the file; without it, the file has none."""


class Certificates(Table):
    """Where new certificates come from, besides new-certificate, which needs no setting."""

    pfx: dict[Name, Pfx] = {}
    """PFX files by the name that commands use."""


class Database(Table):
    """Where runs, approvals and the audit are kept."""

    url: DatabaseUrl = "sqlite:////var/lib/octocert/octocert.sqlite"
    """An SQLite file (sqlite:// and an absolute path) or postgresql://user@host/name."""
    url_password: Reference | None = None
    """The password for PostgreSQL, which never stands in the url."""

    @model_validator(mode="after")
    def _is_supported(self, info: ValidationInfo) -> Self:
        scheme, _, rest = self.url.partition("://")
        if scheme == "sqlite":
            if self.url_password:
                raise problem("url_password is for PostgreSQL; an SQLite file has none.")
            if not rest.removeprefix("/"):
                raise problem(
                    "url names no file: runs must survive a restart. Write sqlite:////var/lib/octocert/octocert.sqlite."
                )
            if not rest.startswith(("//", BESIDE.removeprefix("sqlite://"))):
                raise problem(
                    f"url names a path relative to wherever the bot is started. Write sqlite:////{rest.lstrip('/')} "
                    f"(four slashes) for the file /{rest.lstrip('/')}, or sqlite:///./NAME for one beside this file."
                )
            return self
        if not re.fullmatch(r"postgres(ql)?(\+psycopg)?", scheme) or not rest:
            raise problem("url must begin with sqlite:// or postgresql://.")
        if urlsplit(self.url).password:
            raise problem('url carries a password. Take it out and name it by url_password = "env:NAME".')
        return self


class Deadlines(Table):
    """How long the bot waits for what, in seconds."""

    inspect_host: Seconds = 60
    """One visit to a host that only looks."""
    visit: Seconds = 300
    """One visit to a host that changes something, from its first line to its last."""
    host_return: Seconds = 600
    """How long a host that was lost in the middle of a visit is asked again how far it came."""
    program: Seconds = 60
    """One call of Tentacle.exe on a host."""
    service_stop: Seconds = 90
    """Until a service that was told to stop has stopped."""
    service_start: Seconds = 60
    """Until a service that was started is seen running as a new process."""
    loopback: Seconds = 10
    """Until the served certificate was seen on the host itself."""
    handshake: Seconds = 10
    """Until the served certificate was seen from the bot."""
    idle: Seconds = 1800
    """Until running deployments and scripts on a target have ended; then the target is skipped, not interrupted."""
    health_task: Seconds = 600
    """Until a Health task that was queued has ended; afterwards the health is not proven."""
    health_repeat: Seconds = 300
    """How long a health check that fails right after the thumbprint was corrected is repeated: nodes may cache."""
    polling_return: Seconds = 180
    """Until a polling Tentacle is back after its restart: it waits up to two minutes between its tries."""
    octopus_request: Seconds = 30
    """One request to the Octopus Server."""
    server_away: Seconds = 600
    """How long the Octopus Server may be away, restarting or out of reach, before a step gives up."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        least = self.program + self.service_stop + self.service_start + self.loopback
        if self.visit < least:
            raise problem(
                f"visit is {self.visit:g} s, less than program, service_stop, service_start and loopback together "
                f"({least:g} s): the bot would give up on hosts that are still at work. Raise visit or lower those."
            )
        return self


class Log(Table):
    """What the bot writes to standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least level that is written."""
    format: Literal["auto", "console", "json"] = "auto"
    """console for people, json for machines; auto is console on a terminal and json elsewhere."""


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
    credentials: dict[Name, Login] = {}
    """Other logins than [winrm]'s, by the name that [[hosts]] entries use."""
    hosts: tuple[HostEntry, ...] = ()
    """Hosts that are different; the first entry that matches counts."""
    certificates: Certificates = Certificates()
    database: Database = Database()
    deadlines: Deadlines = Deadlines()
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
            f"There is no configuration at {path}. Copy octocert.example.toml, fill it in, and name it by --config."
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
    problems = [f"{path}, {sentence}" for sentence in find_secrets(data, Settings)]
    settings: Settings | None = None
    try:
        settings = Settings.model_validate_json(
            to_json(data, fallback=str, inf_nan_mode="strings"), context={"base": path.absolute().parent}
        )
    except ValidationError as error:
        problems += [f"{path}, {sentence}" for sentence in problems_of(error, data, Settings)]
    if settings is None or problems:
        raise SettingsError("\n".join(dict.fromkeys(problems)))
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

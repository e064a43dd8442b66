"""The tables of the configuration. Each says what one part of octocert needs; `bot.settings` joins and reads them."""

import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from bot.settings_values import (
    BESIDE,
    ApiAddress,
    DatabaseUrl,
    ExistingFile,
    Port,
    Reference,
    Seconds,
    SlashCommand,
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
    app_token: Reference | None = None
    """The app-level token (xapp-…) with the scope connections:write, for Socket Mode."""
    signing_secret: Reference | None = None
    """The signing secret, for `octocert run --http`: it proves that a request comes from Slack."""
    command: SlashCommand = "/octocert"
    """The slash command, as it is written in the app's manifest."""
    api_url: ApiAddress = "https://slack.com/api/"
    """Slack's Web API; only a sandbox stands elsewhere."""

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if not self.app_token and not self.signing_secret:
            raise problem(
                "needs app_token, for Socket Mode, or signing_secret, for octocert run --http: without one of them "
                "nothing that people type would reach the bot."
            )
        return self


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
    server_program: Seconds = 180
    """One call of Octopus.Server.exe on a node: it opens the database first."""
    server_start: Seconds = 300
    """Until a node that was restarted serves its certificate."""
    drain: Seconds = 1800
    """Until the tasks of a drained node have ended; then the run pauses and asks, and cancels nothing."""

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

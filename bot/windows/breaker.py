"""The breaker: a refused password is not tried on the next host, and the next, until the account locks.

Each credential has one. Until a host has accepted a password, one login at a time is tried, and the first refusal opens
the breaker: no host is asked any more. Once a password was accepted somewhere, a single refusal may be the host's own
fault: then one login at a time is tried on other hosts, and a second refusal in a row opens it. It closes by a changed
password, or half by a person's new command, which is worth one login. Each replica that
takes part in a run has its own.
"""

import hashlib
import secrets as randomness
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Self

import structlog

from bot.windows.errors import RemoteError, RemoteErrorKind

if TYPE_CHECKING:
    from bot.windows.transport import Endpoint

log = structlog.get_logger("octocert.breaker")

GUARDED = ("ntlm", "basic")
"""Logins that send what a domain counts as a try of the password; a ticket or a certificate locks no account."""
TURN_SECONDS = 5.0
"""How long others wait for one host's login while a password is not proven; then the next one tries, too."""


@dataclass(slots=True)
class _Credential:
    """What is known of one account's password, which itself is not kept."""

    mark: bytes
    """By which a changed password is noticed."""
    is_proven: bool = False
    is_open: bool = False
    was_proven: bool = False
    """Whether any host accepted it, so that one refusal alone may be a host's own fault."""
    trying: "Login | None" = None
    refused_by: dict[str, None] = field(default_factory=dict)
    """Hosts that refused it, in that order; they are not asked again by themselves."""


class Breaker:
    """One for all hosts; asked before each login, and told how it went."""

    def __init__(self, *, turn: float = TURN_SECONDS) -> None:
        self._turn = turn
        self._salt = randomness.token_bytes(16)
        self._known: dict[tuple[str, str], _Credential] = {}
        self._news = threading.Condition()

    def login(self, endpoint: "Endpoint", password: str | None) -> "Login":
        """Return leave to log in, perhaps after waiting for another host's answer; RemoteError where there is none."""
        login = Login(self, endpoint)
        if password is None or endpoint.transport not in GUARDED:
            return login
        mark = hashlib.blake2b(password.encode(), key=self._salt).digest()
        with self._news:
            key = _key(endpoint)
            if key not in self._known or self._known[key].mark != mark:
                self._known[key] = _Credential(mark)
                self._news.notify_all()
            credential = login.credential = self._known[key]
            while True:
                if credential.is_open or endpoint.host in credential.refused_by:
                    raise RemoteError(RemoteErrorKind.AUTHENTICATION, endpoint.host, _sentence(endpoint, credential))
                if credential.is_proven:
                    return login
                ahead = credential.trying
                if ahead is None:
                    credential.trying = login
                    return login
                self._news.wait_for(partial(_is_over, credential, ahead), self._turn)
                if credential.trying is ahead:
                    credential.trying = None  # it takes long: another one tries beside it

    def problem(self, endpoint: "Endpoint") -> str:
        """Return why no host is asked any more by this endpoint's account, as a phrase; empty where they are."""
        with self._news:
            credential = self._known.get(_key(endpoint))
            if credential is None or not credential.is_open:
                return ""
            return f"{', '.join(credential.refused_by)} refused the login of {endpoint.username}"

    def ask_again(self) -> None:
        """Let each account try once more: a person gave a new command."""
        with self._news:
            for credential in self._known.values():
                if credential.is_open:
                    credential.is_open = credential.is_proven = credential.was_proven = False
                credential.refused_by.clear()

    def ended(self, login: "Login", credential: _Credential, *, accepted: bool | None) -> None:
        """Note how a login went: accepted, refused, or None where the host gave no answer; let the next one try."""
        with self._news:
            if accepted and not credential.is_open:
                credential.is_proven = credential.was_proven = True
            elif accepted is False:
                credential.refused_by[login.endpoint.host] = None
                if not credential.is_open and not (credential.was_proven and credential.is_proven):
                    credential.is_open = True
                    log.error(
                        "a password was refused; its account logs in nowhere until it changes or somebody asks again",
                        username=login.endpoint.username,
                        hosts=list(credential.refused_by),
                    )
                credential.is_proven = False
            if credential.trying is login:
                credential.trying = None
            self._news.notify_all()


class Login:
    """Leave for one visit's logins. Whoever has it says how they went, and ends it."""

    def __init__(self, breaker: Breaker, endpoint: "Endpoint") -> None:
        self._breaker = breaker
        self.endpoint = endpoint
        self.credential: _Credential | None = None
        """None where nothing can lock."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self._ended(accepted=None)

    def accepted(self) -> None:
        """Note that the host let us in."""
        self._ended(accepted=True)

    def refused(self) -> None:
        """Note that the host refused the password."""
        self._ended(accepted=False)

    def _ended(self, *, accepted: bool | None) -> None:
        if self.credential:
            self._breaker.ended(self, self.credential, accepted=accepted)


def _is_over(credential: _Credential, ahead: Login) -> bool:
    return credential.trying is not ahead


def _key(endpoint: "Endpoint") -> tuple[str, str]:
    return endpoint.transport, endpoint.username.casefold()


def _sentence(endpoint: "Endpoint", credential: _Credential) -> str:
    hosts = list(credential.refused_by)
    if endpoint.host in credential.refused_by:
        return (
            f"{endpoint.host} refused the login of {endpoint.username} by {endpoint.transport} a moment ago; it is not "
            "tried again by itself, so that the account does not lock. Check the password reference, then ask again."
        )
    return (
        f"{endpoint.host} was not asked: {' and '.join(hosts)} refused the login of {endpoint.username} by "
        f"{endpoint.transport}, and more tries would lock the account. Correct the password that the configuration "
        f"refers to, then ask again; if only {hosts[0]} is at fault, leave it out."
    )

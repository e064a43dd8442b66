"""The breaker: a refused password is not tried on the next host, and the next, until the account locks.

Each credential has one. Until a host has accepted a password, one login at a time is tried, and the first refusal opens
the breaker: no host is asked any more. Once a password was accepted somewhere, a single refusal may be the host's own
fault: then one login at a time is tried on other hosts, and a second refusal in a row opens it. It closes by a changed
password, or half by a person's new command, which is worth one login.

Who refused stands on a board that all bots on one database share: what one finds out stops the others. They do not
take turns, so a wrong password costs at most one try of each bot, all in the same moment.
"""

import hashlib
import secrets as randomness
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, Self

import structlog

from bot.windows.errors import RemoteError, RemoteErrorKind

if TYPE_CHECKING:
    from bot.windows.transport import Endpoint

log = structlog.get_logger("octocert.breaker")

GUARDED = ("ntlm", "basic")
"""Logins that send what a domain counts as a try of the password; a ticket or a certificate locks no account."""
TURN_SECONDS = 5.0
"""How long others wait for one host's login while a password is not proven; then the next one tries, too."""


class Board(Protocol):
    """Where it stands which hosts refused which account."""

    def refusals(self, account: str) -> dict[str, bool]:
        """Return the hosts that refused an account, in that order, and whether each refusal opened its breaker."""
        ...

    def note(self, account: str, host: str, *, opens: bool) -> None:
        """Note that a host refused an account."""
        ...

    def clear(self, account: str | None = None) -> None:
        """Forget all refusals of an account, of all accounts where none is named."""
        ...


class OwnBoard:
    """A board in memory, for a bot that is alone."""

    def __init__(self) -> None:
        self._refusals: dict[str, dict[str, bool]] = {}

    def refusals(self, account: str) -> dict[str, bool]:
        """Return the hosts that refused an account, in that order, and whether each refusal opened its breaker."""
        return dict(self._refusals.get(account, {}))

    def note(self, account: str, host: str, *, opens: bool) -> None:
        """Note that a host refused an account."""
        self._refusals.setdefault(account, {})[host] = opens

    def clear(self, account: str | None = None) -> None:
        """Forget all refusals of an account, of all accounts where none is named."""
        for key in list(self._refusals) if account is None else [account]:
            self._refusals.pop(key, None)


@dataclass(slots=True)
class _Credential:
    """What is known of one account's password, which itself is not kept."""

    mark: bytes
    """By which a changed password is noticed."""
    is_proven: bool = False
    was_open: bool = False
    was_proven: bool = False
    """Whether any host accepted it, so that one refusal alone may be a host's own fault."""
    trying: "Login | None" = None


class Breaker:
    """One for all hosts; asked before each login, and told how it went."""

    def __init__(self, board: Board | None = None, *, turn: float = TURN_SECONDS) -> None:
        self._board = board or OwnBoard()
        self._turn = turn
        self._salt = randomness.token_bytes(16)
        self._known: dict[str, _Credential] = {}
        self._news = threading.Condition()

    def login(self, endpoint: "Endpoint", password: str | None) -> "Login":
        """Return leave to log in, perhaps after waiting for another host's answer; RemoteError where there is none."""
        login = Login(self, endpoint)
        if password is None or endpoint.transport not in GUARDED:
            return login
        mark = hashlib.blake2b(password.encode(), key=self._salt).digest()
        with self._news:
            key = _key(endpoint)
            if key in self._known and self._known[key].mark != mark:
                self._board.clear(key)
                del self._known[key]
                self._news.notify_all()
            credential = login.credential = self._known.setdefault(key, _Credential(mark))
            while True:
                refusals = self._refusals(key, credential)
                if any(refusals.values()) or endpoint.host in refusals:
                    text = _sentence(endpoint, list(refusals))
                    raise RemoteError(RemoteErrorKind.AUTHENTICATION, endpoint.host, text)
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
        if endpoint.transport not in GUARDED:
            return ""
        refusals = self._board.refusals(_key(endpoint))
        return f"{', '.join(refusals)} refused the login of {endpoint.username}" if any(refusals.values()) else ""

    def ask_again(self) -> None:
        """Let each account try once more: a person gave a new command."""
        self._board.clear()

    def _refusals(self, key: str, credential: _Credential) -> dict[str, bool]:
        """Return who refused an account; where people let it try again, it has to be proven anew."""
        refusals = self._board.refusals(key)
        if credential.was_open and not any(refusals.values()):
            credential.is_proven = credential.was_proven = False
        credential.was_open = any(refusals.values())
        return refusals

    def ended(self, login: "Login", credential: _Credential, *, accepted: bool | None) -> None:
        """Note how a login went: accepted, refused, or None where the host gave no answer; let the next one try."""
        key = _key(login.endpoint)
        with self._news:
            if accepted and not any(self._refusals(key, credential).values()):
                credential.is_proven = credential.was_proven = True
            elif accepted is False:
                is_open = any(self._refusals(key, credential).values())
                opens = not is_open and not (credential.was_proven and credential.is_proven)
                self._board.note(key, login.endpoint.host, opens=opens)
                if opens:
                    log.error(
                        "a password was refused; its account logs in nowhere until it changes or somebody asks again",
                        username=login.endpoint.username,
                        hosts=list(self._refusals(key, credential)),
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


def _key(endpoint: "Endpoint") -> str:
    return f"{endpoint.transport}:{endpoint.username.casefold()}"


def _sentence(endpoint: "Endpoint", hosts: list[str]) -> str:
    if endpoint.host in hosts:
        return (
            f"{endpoint.host} refused the login of {endpoint.username} by {endpoint.transport} a moment ago; it is not "
            "tried again by itself, so that the account does not lock. Check the password reference, then ask again."
        )
    return (
        f"{endpoint.host} was not asked: {' and '.join(hosts)} refused the login of {endpoint.username} by "
        f"{endpoint.transport}, and more tries would lock the account. Correct the password that the configuration "
        f"refers to, then ask again; if only {hosts[0]} is at fault, leave it out."
    )

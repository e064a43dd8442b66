"""The directory: from a record to the host behind it and how that host is reached."""

from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from bot.domain.facts import Record, Style
from bot.settings import Settings
from bot.windows.transport import Endpoint

MOST_KNOWN = 10_000
"""Hosts whose entry in the configuration is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Where a record's host is and how it is reached."""

    address: str
    instance: str | None
    """The instance's name where the configuration gives it; otherwise it is found by what it is."""
    endpoint: Endpoint


class Directory:
    """Knows hosts by the records that stand for them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # the settings stay, and a fleet asks hundreds of times a second
        self._reach = lru_cache(MOST_KNOWN)(self._find)

    def reach(self, record: Record) -> Reach:
        """Return the host of a record: a [[hosts]] entry's address, else the host of its URI, else its name."""
        of_uri = urlsplit(record.uri).hostname if record.style is Style.LISTENING else None
        return self._reach(record.name, of_uri)

    def reach_node(self, name: str) -> Reach:
        """Return the host of a node of the Octopus Server: a [[hosts]] entry's address, else its name."""
        return self._reach(name, None)

    def _find(self, name: str, known: str | None) -> Reach:
        access = self._settings.access_for(name)
        address = access.address or known or name
        login = access.login
        return Reach(
            address=address,
            instance=access.instance,
            endpoint=Endpoint(
                url=f"{access.scheme}://{_bracketed(address)}:{access.port}/wsman",
                transport=login.transport,
                username=login.username or "",
                password=login.password.read if login.password else None,
                ca_file=login.ca_file,
                certificate=login.certificate,
                key=login.key,
            ),
        )


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address

"""The table [operating] of the configuration: how the bot is watched, and how it ends."""

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

from bot.settings_tables import Table
from bot.settings_values import Seconds, problem


class Address(NamedTuple):
    """Where a server of ours listens."""

    host: str
    port: int
    """0 lets the system choose."""


def address_of(text: str) -> Address | None:
    """Return what `HOST:PORT` or `[IPV6]:PORT` means; None where the text is neither."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})", text)
    if found is None or int(found[3]) > 65_535:
        return None
    return Address(found[1] or found[2], int(found[3]))


def _listen(value: str) -> str:
    if address_of(value) is None:
        raise problem("must be HOST:PORT, such as 127.0.0.1:9464.")
    return value


class Operating(Table):
    """How the bot is watched, and how it ends."""

    listen: Annotated[str, AfterValidator(_listen)] | None = None
    """HOST:PORT of a small web server with /healthz, /readyz and /metrics; without it, there is none."""
    drain: Seconds = 20
    """How long steps that run when the bot is told to stop may take to end; then they are left to be resumed."""

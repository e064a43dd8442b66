"""What the scripts' answers mean: from JSON that a host sent to the domain's words.

Tolerant where PowerShell is loose (a list of one may come as itself, a missing property is an empty one), strict about
types and sizes: what came from outside is believed only in its form. ValueError or TypeError names what is odd, with
the name of the field and never with its content.
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from bot.certificates import x509
from bot.domain.certificate import CertificateDetails
from bot.domain.facts import HostFacts, HostJournal, Instance, ServerInstance, ServiceState, Sighting, Style, Trust
from bot.domain.thumbprint import Thumbprint
from bot.windows.faults import scrubbed

TEXT = 4096
"""The longest text of a field, in characters."""
ENTRIES = 1000
"""The longest list."""
CERTIFICATE = 64 * 1024
"""The longest certificate, in bytes of base64."""
OUTPUT_LINES = 100
"""How many lines of programs' output are kept, the last ones."""
STYLES = {1: Style.LISTENING, 2: Style.POLLING, 11: Style.POLLING}
"""Octopus's CommunicationStyle: TentaclePassive, TentacleActive, Kubernetes agent."""
DEFAULT_PORT = 10933
DEFAULT_SERVER_PORT = 10943
_STATES = {"PausePending": ServiceState.PAUSED, "ContinuePending": ServiceState.PAUSED}
"""States of services that make no difference to us."""


def host(value: dict[str, Any], address: str, clock: datetime, now: datetime) -> HostFacts:
    """Return a host's facts; `clock` is our own time when the host read its."""
    theirs = time(value, "clock")
    return HostFacts(
        address=address,
        computer=text(value, "computer") or address,
        os=text(value, "os") or "?",
        powershell=text(value, "powershell") or "?",
        language_mode=text(value, "language") or "?",
        elevated=flag(value, "elevated"),
        clock_skew_seconds=(theirs - clock).total_seconds() if theirs else 0.0,
        exe=text(value, "exe"),
        tentacle_version=text(value, "version"),
        watchdog=flag(value, "watchdog"),
        instances=tuple(instance(i) for i in objects(value, "instances")),
        servers=tuple(server(i) for i in objects(value, "servers")),
        at=now,
    )


def instance(value: dict[str, Any]) -> Instance:
    """Return one Tentacle instance."""
    return Instance(
        name=_name(value),
        config=text(value, "config") or "",
        service=text(value, "service") or "",
        style=Style.POLLING if flag(value, "no_listen") else Style.LISTENING,
        configured=thumbprint(value, "configured"),
        trusted=trusted(value),
        trusting=trusting(value),
        port=_port(value, DEFAULT_PORT),
        listen_address=text(value, "listen_ip"),
        state=state(value),
        process=number(value, "process"),
        process_started=time(value, "process_started"),
        account=text(value, "account") or "",
        children=tuple(_texts(value, "children")),
        served=sighting(value.get("served")),
        journal=_journal(value.get("journal")),
        backup=text(value, "backup"),
        error=text(value, "error"),
    )


def server(value: dict[str, Any]) -> ServerInstance:
    """Return one instance of the Octopus Server."""
    return ServerInstance(
        name=_name(value),
        config=text(value, "config") or "",
        service=text(value, "service") or "",
        exe=text(value, "exe") or "",
        version=text(value, "version"),
        port=_port(value, DEFAULT_SERVER_PORT),
        state=state(value),
        process=number(value, "process"),
        process_started=time(value, "process_started"),
        account=text(value, "account") or "",
        stored=thumbprint(value, "stored"),
        stored_error=text(value, "stored_error"),
        served=sighting(value.get("served")),
        journal=_journal(value.get("journal")),
        backup=text(value, "backup"),
        error=text(value, "error"),
    )


def printed(value: dict[str, Any]) -> tuple[Thumbprint, Thumbprint] | None:
    """Return the old and the new thumbprint that an import printed; None where it printed none."""
    said = value.get("printed")
    if said is None:
        return None
    if not isinstance(said, dict):
        raise TypeError("printed is no object")
    old, new = thumbprint(said, "old"), thumbprint(said, "new")
    return (old, new) if old and new else None


def trusted(value: dict[str, Any]) -> tuple[Trust, ...]:
    """Return the list of trusted Servers."""
    return tuple(_trust(t) for t in objects(value, "trusted"))


def trusting(value: dict[str, Any]) -> tuple[Thumbprint, ...] | None:
    """Return what a process said that it trusts; None where that was not seen."""
    if value.get("trusting") is None:
        return None
    # An invisible mark in the text and Octopus lets nobody in: it is no thumbprint then.
    said = (Thumbprint.maybe(text) for text in _texts(value, "trusting") if text.isalnum())
    return tuple(dict.fromkeys(thumbprint for thumbprint in said if thumbprint))


def sighting(value: object) -> Sighting | None:
    """Return what the host saw of itself; None where it did not look."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise TypeError("served is no object")
    der = _bytes(value, "der")
    return Sighting(
        place="host",
        address=text(value, "address") or "",
        thumbprint=Thumbprint.of(der) if der else None,
        certificate=_details(der) if der else None,
        error=text(value, "error"),
    )


def state(value: dict[str, Any]) -> ServiceState:
    """Return the state of a service; `Missing` where the host names none."""
    name = text(value, "state") or ServiceState.MISSING.value
    if name in _STATES:
        return _STATES[name]
    if name not in set(ServiceState):
        raise ValueError("state is none of a service")
    return ServiceState(name)


def output(programs: Sequence[object]) -> tuple[str, ...]:
    """Return what programs printed, the last lines of it, each program with its exit code in front."""
    lines: list[str] = []
    for program in programs:
        if isinstance(program, dict):
            lines.append(f"exit code {number(program, 'code')}")
            for name in ("out", "err"):
                said = program.get(name)
                if isinstance(said, str):
                    lines += [scrubbed(line) for line in said.splitlines() if line.strip()]
    return tuple(lines[-OUTPUT_LINES:])


def text(value: dict[str, Any], name: str) -> str | None:
    """Return a text; None where there is none."""
    found = value.get(name)
    if found is None:
        return None
    if not isinstance(found, str):
        raise TypeError(f"{name} is no text")
    if len(found) > TEXT:
        raise ValueError(f"{name} is too long")
    return found


def flag(value: dict[str, Any], name: str) -> bool:
    """Return a yes or no; no where there is none."""
    found = value.get(name)
    if not isinstance(found, bool | None):
        raise TypeError(f"{name} is neither yes nor no")
    return bool(found)


def number(value: dict[str, Any], name: str) -> int | None:
    """Return a whole number; None where there is none."""
    found = value.get(name)
    if isinstance(found, bool) or not isinstance(found, int | None):
        raise TypeError(f"{name} is no number")
    return found


def time(value: dict[str, Any], name: str) -> datetime | None:
    """Return a time, in UTC where it does not say; None where there is none."""
    found = text(value, name)
    if not found:
        return None
    try:
        moment = datetime.fromisoformat(found)
    except ValueError:
        raise ValueError(f"{name} is no time") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def thumbprint(value: dict[str, Any], name: str) -> Thumbprint | None:
    """Return a thumbprint; None where there is none or the text is not one."""
    return Thumbprint.maybe(text(value, name))


def objects(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return a list of objects; ConvertTo-Json may have written one element as itself."""
    found = _list(value, name)
    if not all(isinstance(entry, dict) for entry in found):
        raise TypeError(f"{name} are no objects")
    return found


def _name(value: dict[str, Any]) -> str:
    name = text(value, "name")
    if not name:
        raise ValueError("an instance without a name")
    return name


def _port(value: dict[str, Any], usual: int) -> int:
    port = number(value, "port") or usual
    if not 0 < port < 65_536:
        raise ValueError("port is none")
    return port


def _texts(value: dict[str, Any], name: str) -> list[str]:
    found = _list(value, name)
    if not all(isinstance(entry, str) and len(entry) <= TEXT for entry in found):
        raise TypeError(f"{name} are no texts")
    return found


def _list(value: dict[str, Any], name: str) -> list[Any]:
    found = value.get(name)
    entries = [] if found is None else found if isinstance(found, list) else [found]
    if len(entries) > ENTRIES:
        raise ValueError(f"{name} are too many")
    return entries


def _bytes(value: dict[str, Any], name: str) -> bytes | None:
    found = value.get(name)
    if not found:
        return None
    if not isinstance(found, str) or len(found) > CERTIFICATE:
        raise TypeError(f"{name} is no certificate")
    try:
        return base64.b64decode(found, validate=True)
    except binascii.Error:
        raise ValueError(f"{name} is no base64") from None


def _details(der: bytes) -> CertificateDetails | None:
    # A certificate that nobody can read has a thumbprint all the same.
    try:
        return x509.details(der)
    except ValueError:
        return None


def _trust(value: dict[str, Any]) -> Trust:
    return Trust(
        text=text(value, "thumbprint") or "",
        style=STYLES.get(number(value, "style") or 0),
        address=text(value, "address"),
        subscription=text(value, "subscription"),
    )


def _journal(value: object) -> HostJournal | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise TypeError("journal is no object")
    return HostJournal(
        run=text(value, "run") or "?",
        phase=text(value, "phase") or "?",
        old=thumbprint(value, "old"),
        new=thumbprint(value, "new"),
        at=time(value, "at"),
    )

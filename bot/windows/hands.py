"""The hands: what octocert does on a host, in the domain's words."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from bot.certificates import x509
from bot.clock import Clock
from bot.domain.facts import HostFacts, HostJournal, Instance, ServiceState, Sighting, Style, Trust
from bot.domain.thumbprint import Thumbprint
from bot.windows.errors import RemoteError, RemoteErrorKind
from bot.windows.transport import Endpoint
from bot.windows.visit import Line, Visits

MUTEX_SECONDS = 300
"""How long a visit waits for another one that works on the same instance."""
POLLING_STYLES = {2, 11}
"""Octopus's CommunicationStyle of entries that poll: TentacleActive, Kubernetes agent."""


class Action(StrEnum):
    """What the apply script can do; the order in which it does it is data."""

    BACKUP = "backup"
    IMPORT = "import"
    MAKE = "make"
    STOP = "stop"
    START = "start"
    RESTART = "restart"
    SERVED = "served"
    RESTORE = "restore"
    SWEEP = "sweep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one apply visit has to do."""

    run: str
    instance: str
    exe: str
    config: str
    service: str
    expected: Thumbprint
    """What must be configured, unless this run has changed it already."""
    new: Thumbprint | None
    """What must be configured afterwards, where that is known."""
    pfx: bytes | None
    """Leaf-only PFX with the empty password: as secret as the key in it."""
    actions: tuple[Action, ...]
    port: int
    listen_address: str | None = None
    restore_run: str | None = None
    """Whose copy is put back; None for this run's own."""
    program_seconds: float = 60
    stop_seconds: float = 90
    start_seconds: float = 60
    loopback_seconds: float = 10

    def __repr__(self) -> str:
        return f"Job({self.run}, {self.instance}, {', '.join(self.actions)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """An action began or ended."""

    action: Action
    state: str
    """`begin` or `end`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What the host saw of itself after a visit's actions."""

    configured: Thumbprint | None
    served: Sighting | None
    new: Thumbprint | None
    """What this run put there, as the host's journal has it."""
    state: ServiceState
    process: int | None
    process_started: datetime | None


class Hands:
    """Visits hosts. All errors are RemoteErrors."""

    def __init__(self, visits: Visits, clock: Clock) -> None:
        self._visits = visits
        self._clock = clock

    def inspect(self, endpoint: Endpoint, *, loopback_seconds: float, deadline: float) -> HostFacts:
        """Look at a host; nothing is changed there. Limits in seconds: of a handshake with itself, and of all."""
        begun = self._clock.now()
        parameters = {"loopback": True, "loopback_seconds": loopback_seconds}
        lines = self._visits.visit(endpoint, "inspect", parameters, deadline_seconds=deadline)
        with _Understanding(endpoint.host):
            value = _one(lines, "facts")
            now = self._clock.now()
            middle = begun + (now - begun) / 2
            return _host(value, endpoint.host, (_time(value["clock"]) or middle) - middle, now)

    def apply(
        self, endpoint: Endpoint, job: Job, *, deadline: float, on_progress: Callable[[Progress], None]
    ) -> Applied:
        """Do a job's actions in their order; what is done already is not done again."""
        parameters = {
            "run": job.run,
            "instance": job.instance,
            "exe": job.exe,
            "config": job.config,
            "service": job.service,
            "expected": job.expected,
            "new": job.new,
            "pfx": base64.b64encode(job.pfx).decode() if job.pfx else None,
            "actions": [a.value for a in job.actions],
            "limits": {
                "program": job.program_seconds,
                "stop": job.stop_seconds,
                "start": job.start_seconds,
                "visit": min(MUTEX_SECONDS, deadline),
                "loopback": job.loopback_seconds,
            },
            "port": job.port,
            "listen_ip": job.listen_address,
            "restore_run": job.restore_run,
        }

        def on_line(line: Line) -> None:
            if line.kind in {"begin", "end"} and isinstance(line.value, dict):
                action = str(line.value.get("action"))
                if action in {a.value for a in Action}:
                    on_progress(Progress(action=Action(action), state=line.kind))

        lines = self._visits.visit(endpoint, "apply", parameters, deadline_seconds=deadline, on_line=on_line)
        with _Understanding(endpoint.host):
            value = _one(lines, "applied")
            served = value.get("served")
            return Applied(
                configured=Thumbprint.maybe(_text(value, "configured")),
                served=_sighting(served) if served else None,
                new=Thumbprint.maybe(_text(value, "new")),
                state=ServiceState(value["state"]),
                process=_number(value, "process"),
                process_started=_time(value.get("process_started")),
            )


class _Understanding:
    """Turns whatever an odd answer makes Python throw into one typed error."""

    def __init__(self, host: str) -> None:
        self._host = host

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: object) -> None:
        if isinstance(value, KeyError | TypeError | ValueError | AttributeError | binascii.Error) and not isinstance(
            value, RemoteError
        ):
            raise RemoteError(
                RemoteErrorKind.PROTOCOL,
                self._host,
                f"The script on {self._host} answered in a form that this version does not understand "
                f"({type(value).__name__}).",
            ) from None


def _one(lines: list[Line], kind: str) -> dict[str, Any]:
    value = next(line.value for line in reversed([Line(kind=kind, value=None), *lines]) if line.kind == kind)
    if not isinstance(value, dict):
        raise TypeError(kind)
    return value


def _text(value: dict[str, Any], name: str) -> str | None:
    found = value.get(name)
    if found is not None and not isinstance(found, str):
        raise TypeError(name)
    return found


def _number(value: dict[str, Any], name: str) -> int | None:
    found = value.get(name)
    return None if found is None else int(found)


def _time(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _list(value: Any) -> list[Any]:
    """Return a list: ConvertTo-Json may write one element as itself."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _sighting(value: dict[str, Any]) -> Sighting:
    der = base64.b64decode(value["der"], validate=True) if value.get("der") else None
    return Sighting(
        place="host",
        address=_text(value, "address") or "",
        thumbprint=Thumbprint.of(der) if der else None,
        certificate=_details(der) if der else None,
        error=_text(value, "error"),
    )


def _details(der: bytes) -> Any:
    try:
        return x509.details(der)
    except ValueError:
        return None


def _host(value: dict[str, Any], address: str, skew: Any, now: datetime) -> HostFacts:
    return HostFacts(
        address=address,
        computer=_text(value, "computer") or address,
        os=_text(value, "os") or "?",
        powershell=_text(value, "powershell") or "?",
        language_mode=_text(value, "language") or "?",
        elevated=bool(value.get("elevated")),
        clock_skew_seconds=skew.total_seconds(),
        exe=_text(value, "exe"),
        tentacle_version=_text(value, "version"),
        watchdog=bool(value.get("watchdog")),
        instances=tuple(_instance(i) for i in _list(value.get("instances"))),
        at=now,
    )


def _instance(value: dict[str, Any]) -> Instance:
    no_listen = bool(value.get("no_listen"))
    journal = value.get("journal")
    served = value.get("served")
    return Instance(
        name=str(value["name"]),
        config=_text(value, "config") or "",
        service=_text(value, "service") or "",
        style=Style.POLLING if no_listen else Style.LISTENING,
        configured=Thumbprint.maybe(_text(value, "configured")),
        trusted=tuple(_trust(t) for t in _list(value.get("trusted"))),
        port=_number(value, "port") or 10933,
        listen_address=_text(value, "listen_ip"),
        state=ServiceState(value.get("state") or "Missing"),
        process=_number(value, "process"),
        process_started=_time(value.get("process_started")),
        account=_text(value, "account") or "",
        children=tuple(str(c) for c in _list(value.get("children"))),
        served=_sighting(served) if served else None,
        journal=_journal(journal) if journal else None,
        backup=_text(value, "backup"),
        error=_text(value, "error"),
    )


def _trust(value: dict[str, Any]) -> Trust:
    style = value.get("style")
    return Trust(
        text=str(value.get("thumbprint") or ""),
        style=None if style is None else Style.POLLING if int(style) in POLLING_STYLES else Style.LISTENING,
        address=_text(value, "address"),
        subscription=_text(value, "subscription"),
    )


def _journal(value: dict[str, Any]) -> HostJournal:
    return HostJournal(
        run=str(value["run"]),
        phase=str(value["phase"]),
        old=Thumbprint.maybe(_text(value, "old")),
        new=Thumbprint.maybe(_text(value, "new")),
        at=_time(value.get("at")),
    )

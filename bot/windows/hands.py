"""The hands: what octocert does on a host, in the domain's words."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from bot.clock import Clock
from bot.domain.facts import HostFacts, ServiceState, Sighting, Trust
from bot.domain.thumbprint import Thumbprint
from bot.windows import answers
from bot.windows.errors import RemoteError, RemoteErrorKind
from bot.windows.transport import Endpoint
from bot.windows.visit import Line, Visits

MUTEX_SECONDS = 300
"""How long a visit waits for another one that works on the same instance."""
PROGRAM_SECONDS = 60
"""How long the Server's program may take to read its certificate in its database."""


Kind = Literal["tentacle", "server"]
"""Whose instance a job is about."""


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
    TRUST = "trust"
    """Trust the Server's new certificate beside the old one, for its connections to a listening Tentacle."""
    RETRUST = "retrust"
    """Trust the new one in the place of the old one, where a polling Tentacle connects to this Server."""
    UNTRUST = "untrust"
    """Trust the old one no more; never a polling Tentacle's registration, never without the new one."""
    TRUSTING = "trusting"
    """See what the running process said that it trusts."""
    EXPORT = "export"
    """Keep the Octopus Server's certificate, opened again, until it is swept."""
    GENERATE = "generate"
    """Make a new one for the Server and keep it likewise; the Server does not know it yet."""
    ADOPT = "adopt"
    """Import the job's PFX, or the one that this run generated, into the Server's database."""
    REVERT = "revert"
    """Import the certificate that was kept by `export`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one apply visit has to do."""

    run: str
    """The key of the host's journal and copies: a run may have several, one for each of its phases."""
    kind: Kind = "tentacle"
    instance: str
    exe: str
    config: str
    service: str
    expected: Thumbprint
    """What must be configured, or stored by the Server, unless this run has changed it already on this host."""
    new: Thumbprint | None
    """What must be configured or stored afterwards, where that is known."""
    pfx: bytes | None
    """Leaf-only PFX with the empty password: as secret as the key in it. None to adopt what this run generated."""
    actions: tuple[Action, ...]
    port: int
    listen_address: str | None = None
    restore_run: str | None = None
    """Whose copy is put back; None for this run's own."""
    trusted: tuple[str, ...] | None = None
    """The texts of its list of trusted Servers that the plan was made for; None where they decide nothing.

    With them the host refuses, as long as nothing was done, what is no longer so (`stale`): another list, another
    certificate, a service that does not run. While a program runs under the Tentacle it refuses as `at-work`."""
    trust_old: str | None = None
    """The Server's old thumbprint: exactly as it stands in the list where it is removed."""
    trust_new: Thumbprint | None = None
    """The Server's new thumbprint."""
    server_addresses: tuple[str, ...] = ()
    """`host:port` of every address at which this Server is polled: an entry of another one is another Server's."""
    program_seconds: float = PROGRAM_SECONDS
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
    trusted: tuple[Trust, ...] = ()
    """The list in the configuration afterwards."""
    trusting: tuple[Thumbprint, ...] | None = None
    """What the running process said at its start that it trusts; None where it was not asked or could not be seen."""
    trusting_error: str | None = None
    """Why it could not be seen, or why it cannot know the list, as a sentence."""
    stored: Thumbprint | None = None
    """What the Server's program says its certificate is; None for a Tentacle, and where it could not tell."""
    printed: tuple[Thumbprint, Thumbprint] | None = None
    """Old and new, as the import into the Server printed them; None where it did not, or was done already."""
    output: tuple[str, ...] = ()
    """What Octopus's programs printed, line by line, scrubbed of everything that may be a key."""


class Hands:
    """Visits hosts. All errors are RemoteErrors."""

    def __init__(self, visits: Visits, clock: Clock) -> None:
        self._visits = visits
        self._clock = clock

    def inspect(
        self, endpoint: Endpoint, *, loopback_seconds: float, deadline: float, server: bool = False
    ) -> HostFacts:
        """Look at a host; nothing is changed there. Limits in seconds: of a handshake with itself, and of all.

        With `server` its Octopus Server is looked at, too: that takes longer, for the Server's own program is asked.
        """
        heard = [self._clock.now()]

        def on_line(line: Line) -> None:
            if line.kind in {"hello", "facts"}:
                heard.append(self._clock.now())

        parameters = {
            "loopback": True,
            "loopback_seconds": loopback_seconds,
            "server": server,
            "program_seconds": PROGRAM_SECONDS,
        }
        lines = self._visits.visit(endpoint, "inspect", parameters, deadline_seconds=deadline, on_line=on_line)
        with _Understanding(endpoint.host):
            # The host read its clock between its greeting and its facts; we know it no better than half of that.
            now, before = heard[-1], heard[-2]
            return answers.host(_one(lines, "facts"), endpoint.host, before + (now - before) / 2, now)

    def apply(
        self, endpoint: Endpoint, job: Job, *, deadline: float, on_progress: Callable[[Progress], None]
    ) -> Applied:
        """Do a job's actions in their order; what is done already is not done again."""
        parameters = {
            "run": job.run,
            "kind": job.kind,
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
            "trusted": None if job.trusted is None else list(job.trusted),
            "trust_old": job.trust_old,
            "trust_new": job.trust_new,
            "server_addresses": list(job.server_addresses),
        }

        def on_line(line: Line) -> None:
            if line.kind in {"begin", "end"} and isinstance(line.value, dict):
                action = line.value.get("action")
                if action in {a.value for a in Action}:
                    on_progress(Progress(action=Action(action), state=line.kind))

        lines = self._visits.visit(endpoint, "apply", parameters, deadline_seconds=deadline, on_line=on_line)
        with _Understanding(endpoint.host):
            value = _one(lines, "applied")
            return Applied(
                configured=answers.thumbprint(value, "configured"),
                served=answers.sighting(value.get("served")),
                new=answers.thumbprint(value, "new"),
                state=answers.state(value),
                process=answers.number(value, "process"),
                process_started=answers.time(value, "process_started"),
                trusted=answers.trusted(value),
                trusting=answers.trusting(value),
                trusting_error=answers.text(value, "trusting_error"),
                stored=answers.thumbprint(value, "stored"),
                printed=answers.printed(value),
                output=answers.output([line.value for line in lines if line.kind == "program"]),
            )


class _Understanding:
    """Turns whatever an odd answer makes us throw into one typed error."""

    def __init__(self, host: str) -> None:
        self._host = host

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: object) -> None:
        if isinstance(value, KeyError | TypeError | ValueError | AttributeError | OverflowError):
            raise RemoteError(
                RemoteErrorKind.PROTOCOL,
                self._host,
                f"The script on {self._host} answered in a form that this version does not understand ({value}). "
                "Is another version of octocert at work there?",
            ) from None


def _one(lines: list[Line], kind: str) -> dict[str, Any]:
    """Return the value of the last line of a kind; LookupError or TypeError where there is no such object."""
    value = next((line.value for line in reversed(lines) if line.kind == kind), None)
    if not isinstance(value, dict):
        raise TypeError(f"no {kind}")
    return value

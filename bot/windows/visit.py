"""A visit: one of our scripts runs on a host, and its lines come back as they are printed."""

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bot import telemetry
from bot.windows import faults, scripts
from bot.windows.errors import RemoteError, RemoteErrorKind
from bot.windows.transport import Endpoint, Transport

LINE_BYTES = 256 * 1024
"""The longest line that a script of ours may print."""
VISIT_BYTES = 1024 * 1024
"""The most that one visit may print."""
_KIND = re.compile(r"[a-z_]{1,40}")
_REASON = re.compile(r"[a-z-]{1,40}")
PROGRAM = "powershell.exe"
ScriptName = Literal["inspect", "apply"]
RESULTS = {"inspect": "facts", "apply": "applied"}
"""The line that a script which ended well has printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line that a script printed."""

    kind: str
    value: Any
    """As JSON has it."""


class Visits:
    """Sends scripts to hosts. Script and parameters go by standard input; the command line is always the same."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def visit(
        self,
        endpoint: Endpoint,
        script: ScriptName,
        parameters: Mapping[str, Any],
        *,
        deadline_seconds: float,
        on_line: Callable[[Line], None] | None = None,
    ) -> list[Line]:
        """Run a script and return its lines, the last of which says `done`; RemoteError otherwise.

        `on_line` sees each line as it comes; what it raises ends the visit, but not before a service that the script
        stopped runs again. An exit code proves nothing: without its `done` line a visit did not end well.
        """
        reader = _Reader(endpoint.host, RESULTS[script], on_line)
        stdin = b"".join(
            base64.b64encode(text.encode()) + b"\n" for text in (scripts.script(script), json.dumps(dict(parameters)))
        )
        with telemetry.timed(telemetry.WINRM_SECONDS, script=script) as timing:
            timing.labels = {"result": "error"}
            try:
                status = self._transport.run(
                    endpoint,
                    PROGRAM,
                    ("-NoProfile", "-NonInteractive", "-EncodedCommand", scripts.encoded_bootstrap()),
                    stdin,
                    deadline=deadline_seconds,
                    on_output=reader.take,
                    may_end=lambda: not reader.is_stopped,
                    harmless=script == "inspect",
                )
                lines = reader.finish(was_cut=status.was_cut, complaint=status.complaint)
            except RemoteError as error:
                timing.labels = {"result": error.kind.name.lower()}
                telemetry.FAILURES.labels(part="winrm", kind=error.kind.name.lower()).inc()
                raise
            timing.labels = {"result": "done"}
            return lines


class _Reader:
    """Puts output together to lines and keeps an eye on what must not be interrupted."""

    def __init__(self, host: str, result: str, on_line: Callable[[Line], None] | None) -> None:
        self._host = host
        self._result = result
        self._on_line = on_line
        self._rest = b""
        self._size = 0
        self._failure: Exception | None = None
        """What ends the visit as soon as it may be ended."""
        self._odd = ""
        """What no script of ours prints, if something like that came."""
        self.lines: list[Line] = []
        self.is_stopped = False
        """Whether the service was stopped and not seen started yet: the script must not be ended now."""

    def take(self, data: bytes) -> None:
        """Take a piece of output; raise what ends the visit, but only when the script may be ended."""
        self._size += len(data)
        if self._size > VISIT_BYTES:
            self._odd = self._odd or "printed more than a script of ours can"
            self._rest = b""
        else:
            *whole, self._rest = (self._rest + data).split(b"\n")
            if len(self._rest) > LINE_BYTES or any(len(raw) > LINE_BYTES for raw in whole):
                self._odd = self._odd or "printed a line longer than a script of ours can"
                self._rest = b""
            for raw in whole:
                self._line(raw.strip())
        if self.is_stopped:
            return
        if self._failure:
            raise self._failure
        if self._size > VISIT_BYTES:
            raise self._broken(self._odd, was_cut=False)

    def finish(self, *, was_cut: bool, complaint: str) -> list[Line]:
        """Return all lines of a script that ended; RemoteError where it did not end well or lines are missing."""
        self._line(self._rest.strip())
        if self._failure:
            raise self._failure
        last = self.lines[-1] if self.lines else None
        if last is None and not was_cut:
            said = f" What it complained: {complaint}" if complaint else ""
            raise RemoteError(
                RemoteErrorKind.PROTOCOL,
                self._host,
                f"PowerShell on {self._host} said nothing at all. Security software may have stopped it: the README "
                f"names the hash of the bootstrap that it must allow.{said}",
            )
        if last and last.kind == "error":
            message = last.value.get("message") if isinstance(last.value, dict) else None
            text = faults.scrubbed(str(message or "it did not say why"))
            failed = f"The script on {self._host} failed: {text}"
            raise RemoteError(RemoteErrorKind.SCRIPT, self._host, failed, reason=self._refusal(), said=text)
        if self._odd:
            raise self._broken(self._odd, was_cut=was_cut)
        if last is None or last.kind != "done":
            after = f"after “{last.kind}”" if last else "and nothing of it was heard"
            raise RemoteError(
                RemoteErrorKind.UNKNOWN_OUTCOME,
                self._host,
                f"The script on {self._host} ended in the middle ({after}), so its outcome was not seen. What it did "
                "stands in its journal there, which the next visit reads.",
            )
        if not any(line.kind == self._result for line in self.lines) or (was_cut and self._has_gap()):
            raise self._broken(f"left lines out (“{self._result}” or those before)", was_cut=was_cut)
        return self.lines

    def _line(self, raw: bytes) -> None:
        if not raw or len(raw) > LINE_BYTES:
            return
        line = _parsed(raw)
        if line is None:
            self._odd = self._odd or "printed something that our scripts do not print"
            return
        self.lines.append(line)
        if line.kind == "stopping":
            self.is_stopped = True
        elif line.kind == "started":
            self.is_stopped = False
        if self._on_line and self._failure is None:
            try:
                self._on_line(line)
            except Exception as error:  # noqa: BLE001  # raised again as soon as it may end the visit
                self._failure = error

    def _refusal(self) -> str | None:
        said = next((line.value for line in self.lines if line.kind == "refused"), None)
        reason = said.get("reason") if isinstance(said, dict) else None
        return reason if isinstance(reason, str) and _REASON.fullmatch(reason) else None

    def _has_gap(self) -> bool:
        """Whether lines are missing: no greeting, an action that began and did not end, or the other way round."""
        begun = [line.value for line in self.lines if line.kind == "begin"]
        ended = [line.value for line in self.lines if line.kind == "end"]
        return self.lines[0].kind != "hello" or self.is_stopped or len(begun) != len(ended)

    def _broken(self, what: str, *, was_cut: bool) -> RemoteError:
        kind = RemoteErrorKind.UNKNOWN_OUTCOME if was_cut else RemoteErrorKind.PROTOCOL
        why = "A connection was lost meanwhile" if was_cut else "Another version of the script, or a profile, may speak"
        return RemoteError(
            kind, self._host, f"PowerShell on {self._host} {what}. {why}; its journal there tells the rest."
        )


def _parsed(raw: bytes) -> Line | None:
    """Return the line in a piece of output; None where it is none."""
    try:
        data = json.loads(raw)
        kind, value = data["kind"], data["value"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return Line(kind=kind, value=value) if isinstance(kind, str) and _KIND.fullmatch(kind) else None

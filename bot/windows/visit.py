"""A visit: one of our scripts runs on a host, and its lines come back as they are printed."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bot.windows import scripts
from bot.windows.errors import RemoteError, RemoteErrorKind
from bot.windows.transport import Endpoint, Transport

LINE_BYTES = 256 * 1024
"""The longest line that a script of ours may print."""
VISIT_BYTES = 2 * 1024 * 1024
"""The most that one visit may print."""
PROGRAM = "powershell.exe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line that a script printed."""

    kind: str
    value: Any


class Visits:
    """Sends scripts to hosts. Script and parameters go by standard input; the command line is always the same."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def visit(
        self,
        endpoint: Endpoint,
        script: Literal["inspect", "apply"],
        parameters: Mapping[str, Any],
        *,
        deadline_seconds: float,
        on_line: Callable[[Line], None] | None = None,
    ) -> list[Line]:
        """Run a script and return its lines, the last of which says `done`; RemoteError otherwise.

        `on_line` sees each line as it comes. An exit code proves nothing: without its `done` line a visit did not end
        well.
        """
        reader = _Reader(endpoint.host, on_line)
        stdin = b"".join(
            base64.b64encode(text.encode()) + b"\n" for text in (scripts.script(script), json.dumps(dict(parameters)))
        )
        self._transport.run(
            endpoint,
            PROGRAM,
            ("-NoProfile", "-NonInteractive", "-EncodedCommand", scripts.encoded_bootstrap()),
            stdin,
            deadline=deadline_seconds,
            on_output=reader.take,
            may_leave=lambda: not reader.is_stopped,
        )
        return reader.finish()


class _Reader:
    """Puts output together to lines and keeps an eye on what must not be interrupted."""

    def __init__(self, host: str, on_line: Callable[[Line], None] | None) -> None:
        self._host = host
        self._on_line = on_line
        self._rest = b""
        self._size = 0
        self.lines: list[Line] = []
        self.is_stopped = False
        """Whether the service was stopped and not seen started yet: the script must not be ended now."""

    def take(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > VISIT_BYTES:
            raise self._broken("printed more than a script of ours can")
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES:
            raise self._broken("printed a line longer than a script of ours can")
        for raw in whole:
            if raw.strip():
                self._line(raw.strip())

    def _line(self, raw: bytes) -> None:
        try:
            data = json.loads(raw)
            line = Line(kind=str(data["kind"]), value=data["value"])
        except (ValueError, TypeError, KeyError):
            raise self._broken("printed something that our scripts do not print") from None
        self.lines.append(line)
        if line.kind == "stopping":
            self.is_stopped = True
        elif line.kind == "started":
            self.is_stopped = False
        if self._on_line:
            self._on_line(line)

    def finish(self) -> list[Line]:
        if self._rest.strip():
            self._line(self._rest.strip())
        last = self.lines[-1] if self.lines else None
        if last and last.kind == "done":
            return self.lines
        if last and last.kind == "error" and isinstance(last.value, dict):
            raise RemoteError(RemoteErrorKind.SCRIPT, self._host, str(last.value.get("message") or "the script failed"))
        if last is None:
            raise RemoteError(
                RemoteErrorKind.PROTOCOL,
                self._host,
                f"PowerShell on {self._host} said nothing at all. Security software may have stopped it: "
                "the README names the hash of the bootstrap that it must allow.",
            )
        raise RemoteError(
            RemoteErrorKind.UNKNOWN_OUTCOME,
            self._host,
            f"The script on {self._host} ended in the middle (after “{last.kind}”), so its outcome was not seen.",
        )

    def _broken(self, what: str) -> RemoteError:
        return RemoteError(RemoteErrorKind.UNKNOWN_OUTCOME, self._host, f"PowerShell on {self._host} {what}.")

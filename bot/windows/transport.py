"""The transport: one WinRM shell and one process per visit, through pywinrm's Protocol and under our own deadline.

Retried is only what is safe: connecting and opening a shell (nothing was begun), sending when the host says that it
is busy, receiving. A command is never sent twice, a refused login never tried again.
"""

import contextlib
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import requests
import structlog
from requests.adapters import HTTPAdapter
from winrm.exceptions import WinRMOperationTimeoutError, WSManFaultError
from winrm.protocol import Protocol
from winrm.transport import Transport as WireTransport

from bot.clock import Clock
from bot.secrets import Secret
from bot.windows import faults
from bot.windows.errors import RemoteError, RemoteErrorKind

log = structlog.get_logger("octocert.winrm")

OPERATION_SECONDS = 20
"""How long the host may hold one Receive open before it says that there is nothing yet."""
READ_SECONDS = 30
"""How long we wait for any answer: longer than OPERATION_SECONDS, or every quiet spell would be an error."""
PAUSES = (0.5, 2.0, 5.0)
"""Seconds between tries of what may be tried again."""
SEND_BYTES = 200_000
"""Raw bytes of one Send: as base64 in XML they stay far below MaxEnvelopeSizekb (500 by default)."""
IDLE_MARGIN = 300
"""A shell outlives its visit's deadline by so many seconds: the script's own limits end before the host kills it."""
CODE_PAGE = 65_001
"""UTF-8; what passes is ASCII anyway."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How one host is reached."""

    url: str
    """`https://host:5986/wsman`."""
    transport: str
    """`ntlm`, `kerberos`, `certificate` or `basic`."""
    username: str = ""
    password: Callable[[], Secret] | None = None
    """Called when a visit begins, so that a changed password is used at once."""
    ca_file: Path | None = None
    """PEM of the CA that signed the host's listener certificate; None for the system's."""
    certificate: Path | None = None
    key: Path | None = None

    @property
    def host(self) -> str:
        """The host's address."""
        return urlsplit(self.url).hostname or self.url

    @property
    def is_tls(self) -> bool:
        """Whether the wire is TLS; otherwise messages are sealed by NTLM or Kerberos."""
        return self.url.casefold().startswith("https:")


class Transport:
    """Runs programs on hosts. One instance serves all threads; each visit has a connection of its own."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._contexts: dict[tuple[Path | None, Path | None, Path | None], ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def run(
        self,
        endpoint: Endpoint,
        command: str,
        arguments: Sequence[str],
        stdin: bytes,
        *,
        deadline: float,
        on_output: Callable[[bytes], None],
        may_leave: Callable[[], bool],
    ) -> int:
        """Run a program with this standard input and return its exit code.

        `on_output` gets standard output as it comes. After `deadline` seconds the shell is deleted, which ends the
        program; but never while `may_leave` says False (a service is stopped): then the program is left to its own
        limits and its shell to the idle timeout. RemoteError for everything that goes wrong.
        """
        conversation = _Conversation(self, endpoint, self._clock, deadline)
        with conversation:
            conversation.open()
            conversation.begin(command, arguments)
            try:
                conversation.send(stdin)
                return conversation.receive(on_output)
            finally:
                if may_leave():
                    conversation.delete()

    def context(self, endpoint: Endpoint) -> ssl.SSLContext:
        """Return the TLS context of an endpoint, one for all hosts of a CA: loading one costs more than a visit."""
        key = (endpoint.ca_file, endpoint.certificate, endpoint.key)
        with self._lock:
            if key not in self._contexts:
                made = ssl.create_default_context(cafile=str(endpoint.ca_file) if endpoint.ca_file else None)
                # certificate logins under TLS 1.3 are asked for after the handshake (pywinrm issue 376)
                made.post_handshake_auth = True
                if endpoint.certificate and endpoint.key:
                    made.load_cert_chain(endpoint.certificate, endpoint.key)
                self._contexts[key] = made
            return self._contexts[key]


class _SharedContext(HTTPAdapter):
    """An HTTP adapter that uses a TLS context that exists already."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(max_retries=0)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, ssl_context=self._context, **options)

    def build_connection_pool_key_attributes(  # type: ignore[override]  # the stubs name private types
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        parts = urlsplit(request.url or "")
        host = {"scheme": parts.scheme, "host": parts.hostname, "port": parts.port}
        return host, {"ssl_context": self._context} if parts.scheme == "https" else {}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Leave the connection to the context: it demands and checks the certificate."""


class _Wire(WireTransport):
    """pywinrm's transport without proxies of the environment and with the shared TLS context."""

    context: ssl.SSLContext | None = None

    def build_session(self) -> requests.Session:
        if self.session:
            return self.session
        session = super().build_session()
        session.trust_env = False
        if self.context is not None:
            session.mount("https://", _SharedContext(self.context))
        return session


class _Conversation:
    """One shell on one host, with what it takes to go on after a lost connection."""

    def __init__(self, owner: Transport, endpoint: Endpoint, clock: Clock, deadline: float) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._end = clock.monotonic() + deadline
        self._deadline = deadline
        self._shell = self._command = ""
        if endpoint.transport == "basic" and not endpoint.is_tls:
            raise RemoteError(
                RemoteErrorKind.AUTHENTICATION,
                endpoint.host,
                f"Basic over http would send the password in clear to {endpoint.host}. Use https or ntlm.",
            )
        password = endpoint.password().reveal() if endpoint.password else None
        options: dict[str, Any] = {
            "endpoint": endpoint.url,
            "username": endpoint.username or None,
            "password": password,
            "ca_trust_path": str(endpoint.ca_file) if endpoint.ca_file else "legacy_requests",
            "cert_pem": str(endpoint.certificate) if endpoint.certificate else None,
            "cert_key_pem": str(endpoint.key) if endpoint.key else None,
            "server_cert_validation": "validate",
            "proxy": None,
        }
        try:
            self._protocol = Protocol(
                transport=endpoint.transport,  # type: ignore[arg-type]
                operation_timeout_sec=OPERATION_SECONDS,
                read_timeout_sec=READ_SECONDS,
                message_encryption="auto" if endpoint.is_tls else "always",
                **options,
            )
            wire = _Wire(
                auth_method=endpoint.transport,  # type: ignore[arg-type]
                read_timeout_sec=READ_SECONDS,
                message_encryption="auto" if endpoint.is_tls else "always",
                service="HTTP",
                **options,
            )
            wire.context = owner.context(endpoint) if endpoint.is_tls else None
        except Exception as error:  # noqa: BLE001 -- pywinrm throws a dozen kinds, all become ours
            raise faults.explained(error, endpoint, begun=False) from None
        self._protocol.transport = wire

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self._protocol.transport.close_session()

    def open(self) -> None:
        """Open the shell; nothing is begun yet, so a lost connection or a busy host is tried again."""
        idle = f"PT{int(self._deadline) + IDLE_MARGIN}S"
        self._shell = self._again(
            lambda: self._protocol.open_shell(codepage=CODE_PAGE, idle_timeout=idle), retried=faults.is_passing
        )

    def begin(self, command: str, arguments: Sequence[str]) -> None:
        """Start the program: once, because a repeated Command runs twice."""
        try:
            self._command = self._protocol.run_command(
                self._shell, command, arguments, console_mode_stdin=False, skip_cmd_shell=True
            )
        except Exception as error:  # noqa: BLE001 -- see above
            raise faults.explained(error, self._endpoint, begun=not faults.is_refusal(error)) from None

    def send(self, data: bytes) -> None:
        """Write standard input; only "busy" is tried again, with the same bytes."""
        for start in range(0, len(data), SEND_BYTES):
            chunk, last = data[start : start + SEND_BYTES], start + SEND_BYTES >= len(data)
            self._again(lambda c=chunk, e=last: self._send(c, e), retried=faults.is_busy, begun=True)  # type: ignore[misc]

    def _send(self, chunk: bytes, last: bool) -> None:
        # that the host took its time for it is no error: the bytes have arrived
        with contextlib.suppress(WinRMOperationTimeoutError):
            self._protocol.send_command_input(self._shell, self._command, chunk, end=last)

    def receive(self, on_output: Callable[[bytes], None]) -> int:
        """Hand on output until the program ends; return its exit code.

        A lost connection is made anew, with the same shell. What was lost on the way is found out by the reader of
        the lines: without its last line no visit counts.
        """
        losses = 0
        while True:
            if self._clock.monotonic() >= self._end:
                raise RemoteError(
                    RemoteErrorKind.UNKNOWN_OUTCOME,
                    self._endpoint.host,
                    f"The script on {self._endpoint.host} did not end within {self._deadline:.0f} s.",
                )
            try:
                out, _, code, done = self._protocol.get_command_output_raw(self._shell, self._command)
            except WinRMOperationTimeoutError:
                continue
            except Exception as error:  # noqa: BLE001 -- see above
                losses += 1
                if losses > len(PAUSES) or not faults.is_lost_connection(error):
                    raise faults.explained(error, self._endpoint, begun=True) from None
                log.info("connection lost in mid-visit, going on", host=self._endpoint.host)
                self._clock.sleep(PAUSES[losses - 1])
                self._reset()
                continue
            if out:
                on_output(out)
            if done:
                return code

    def delete(self) -> None:
        """Delete the shell, best effort: a forgotten one ends by its idle timeout."""
        if self._shell:
            try:
                self._protocol.close_shell(self._shell, close_session=False)
            except Exception as error:  # noqa: BLE001 -- the work is done or explained already
                log.debug("shell not deleted", host=self._endpoint.host, error=type(error).__name__)

    def _reset(self) -> None:
        """Forget the connection and its sealing; stock pywinrm would re-send bytes sealed for the dead one."""
        self._protocol.transport.close_session()
        self._protocol.transport.encryption = None

    def _again(self, call: Callable[[], T], *, retried: Callable[[Exception], bool], begun: bool = False) -> T:
        for pause in (*PAUSES, None):
            try:
                return call()
            except Exception as error:  # noqa: BLE001 -- see above
                if pause is None or not retried(error) or self._clock.monotonic() + pause >= self._end:
                    raise faults.explained(error, self._endpoint, begun=begun) from None
                self._clock.sleep(pause)
                if not isinstance(error, WSManFaultError):
                    self._reset()
        raise AssertionError("the last try raises")

"""The transport: one WinRM shell and one process per visit, through pywinrm's Protocol and under our own deadline.

Tried again is only what is safe: all that comes before the program has its input (until then it does nothing), sending
when the host says that it is busy or could not read the message, receiving. A program is started at most once in a
shell, a refused login is never tried again.
"""

import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import structlog
from winrm.exceptions import InvalidCredentialsError, WinRMOperationTimeoutError
from winrm.protocol import Protocol

from bot import telemetry
from bot.clock import Clock
from bot.secrets import Secret
from bot.windows import faults
from bot.windows.breaker import Breaker, Login
from bot.windows.errors import RemoteError, RemoteErrorKind
from bot.windows.wire import Limits, TlsContexts, TlsFiles, Wire

log = structlog.get_logger("octocert.winrm")

TRANSPORTS = ("ntlm", "kerberos", "certificate", "basic")
SEALING = ("ntlm", "kerberos")
"""Logins that can seal messages, so that http may be used."""
CONNECT_SECONDS = 10.0
"""How long a connection may take to come about."""
OPERATION_SECONDS = 20.0
"""How long the host may hold one request open before it says that there is nothing yet."""
READ_MARGIN = 10.0
"""How much longer than that we wait for any answer, or every quiet spell would be an error (Ansible's number)."""
CONNECT_PAUSES = (0.5, 1.5)
"""Seconds between tries to connect; each is lengthened by chance, so that many hosts are not asked at once."""
BUSY_PAUSES = (0.5, 2.0, 5.0)
"""Seconds between tries when the host is busy or our account has too much open there."""
RETURN_PAUSES = (0.5, 2.0, 5.0, 10.0)
"""Seconds between tries to get back to a script after a lost connection."""
JITTER = 0.25
SEND_BYTES = 100_000
"""Raw bytes of one Send: as base64 in XML they stay below MaxEnvelopeSizekb of the oldest hosts (150)."""
HELLO_SECONDS = 60.0
"""After a Send that may not have arrived, or was refused, the script must say something within so many seconds."""
GRACE_SECONDS = 180.0
"""How long we listen on after the deadline to a script that must not be ended: its service is stopped."""
IDLE_MARGIN = 300
"""A shell outlives deadline and grace by so many seconds: the script's own limits end before the host kills it."""
DELETE_SECONDS = 10.0
BURST_SECONDS = 0.15
"""Pause before the first answer is asked for and after each that is not the last: a script prints lines in bursts, and
one request fetches several."""
QUIET_SECONDS = 0.2
"""Pause after an answer without anything in it, which Windows does not give."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitStatus:
    """How a program ended."""

    code: int
    was_cut: bool
    """Whether a connection was lost while its output was received, so that some of it may be missing."""
    complaint: str
    """The beginning of its standard error, without anything that may be a key."""


class Transport:
    """Runs programs on hosts. One instance serves all threads; each visit has a connection of its own."""

    def __init__(
        self,
        clock: Clock,
        *,
        breaker: Breaker | None = None,
        read_margin: float = READ_MARGIN,
        grace: float = GRACE_SECONDS,
        hello: float = HELLO_SECONDS,
    ) -> None:
        self._clock = clock
        self.breaker = breaker or Breaker()
        self._patience = _Patience(read_margin, grace, hello)
        self._contexts = TlsContexts()

    def run(
        self,
        endpoint: Endpoint,
        command: str,
        arguments: Sequence[str],
        stdin: bytes,
        *,
        deadline: float,
        on_output: Callable[[bytes], None],
        may_end: Callable[[], bool],
        harmless: bool = False,
    ) -> ExitStatus:
        """Run a program that does nothing before it has read all of its standard input; return how it ended.

        `on_output` gets standard output as it comes. After `deadline` seconds the shell is deleted, which ends the
        program at once; but never while `may_end` says False (a service is stopped), nor when output was lost that may
        have said so: then it is listened to for some time more and left to its own limits, and its shell to the idle
        timeout. A `harmless` program changes nothing, so it may be ended at any time. RemoteError for everything that
        goes wrong.
        """
        password = endpoint.password().reveal() if endpoint.password else None
        channel = self._channel(endpoint, password, deadline)
        login = self.breaker.login(endpoint, password)
        talk = _Conversation(channel, login, self._clock, self._patience, deadline, may_end, harmless=harmless)
        with login, talk as conversation:
            conversation.begin(command, arguments)
            conversation.send(stdin)
            return conversation.receive(on_output)

    def _channel(self, endpoint: Endpoint, password: str | None, deadline: float) -> "_Channel":
        """Return pywinrm's Protocol on a wire of ours; nothing is sent yet."""
        _check(endpoint)
        limits = Limits(min(CONNECT_SECONDS, max(1.0, deadline)), OPERATION_SECONDS + self._patience.read_margin)
        options: dict[str, Any] = {
            "endpoint": endpoint.url,
            "username": endpoint.username or None,
            "password": password,
            "service": "HTTP",
            "ca_trust_path": None,
            "cert_pem": str(endpoint.certificate) if endpoint.certificate else None,
            "cert_key_pem": str(endpoint.key) if endpoint.key else None,
            "message_encryption": "auto" if endpoint.is_tls else "always",
            "proxy": None,
        }
        try:
            files = TlsFiles(endpoint.ca_file, endpoint.certificate, endpoint.key)
            context = self._contexts.get(files) if endpoint.is_tls else None
        except OSError as error:
            name = error.filename or endpoint.ca_file or endpoint.certificate
            problem = (
                f"The TLS files for {endpoint.host} cannot be used ({name}): {error.strerror or type(error).__name__}."
            )
            raise RemoteError(
                RemoteErrorKind.TLS, endpoint.host, f"{problem} Look at ca_file, certificate and key."
            ) from None
        try:
            protocol = Protocol(transport=endpoint.transport, **options)  # type: ignore[arg-type]
            wire = Wire(limits, context, auth_method=endpoint.transport, read_timeout_sec=0, **options)
        except Exception as error:  # noqa: BLE001  # pywinrm throws a dozen kinds, all become ours
            failure = faults.explained(error, endpoint, begun=False)
        else:
            protocol.transport = wire
            return _Channel(protocol, wire, limits, self._patience.read_margin)
        raise failure


@dataclass(frozen=True, slots=True)
class _Patience:
    """READ_MARGIN, GRACE_SECONDS and HELLO_SECONDS, or what a test has instead."""

    read_margin: float
    grace: float
    hello: float


@dataclass(frozen=True, slots=True)
class _Channel:
    """What a conversation speaks through."""

    protocol: Protocol
    wire: Wire
    limits: Limits
    read_margin: float

    def allow(self, seconds: float) -> None:
        """Give the next request so many seconds on the host, and some more on the way."""
        self.protocol.operation_timeout_sec = max(1, int(seconds))
        self.limits.read = self.protocol.operation_timeout_sec + self.read_margin


class _Conversation:
    """One shell on one host, with what it takes to go on after a lost connection."""

    def __init__(
        self,
        channel: _Channel,
        login: Login,
        clock: Clock,
        patience: _Patience,
        deadline: float,
        may_end: Callable[[], bool],
        *,
        harmless: bool,
    ) -> None:
        self._channel = channel
        self._protocol = channel.protocol
        self._login = login
        self._endpoint = login.endpoint
        self._clock = clock
        self._patience = patience
        self._deadline = deadline
        self._may_end = may_end
        self._is_harmless = harmless
        self._end = clock.monotonic() + deadline
        self._shell = self._command = ""
        self._is_begun = False
        """Whether the program may have all of its input, so that it may have done something."""
        self._hello_until: float | None = None
        """Set while nobody knows whether the program got its input."""
        self._send_failure: Exception | None = None
        """What to raise when it says nothing until then, where the host had refused the input."""
        self._was_cut = False
        """Whether output may have been lost, so that nobody knows how far the program is."""
        self._is_done = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self._delete()
        self._channel.wire.forget()

    def begin(self, command: str, arguments: Sequence[str]) -> None:
        """Open a shell and start the program in it, which then waits for its input.

        A lost connection or a busy host is tried again, in another shell: a Command that is repeated in the same one
        runs twice there.
        """
        idle = f"PT{int(self._deadline + self._patience.grace) + IDLE_MARGIN}S"

        def start() -> str:
            self._delete()  # the shell of the try before, and the program without input in it
            self._shell = ""
            self._channel.allow(min(OPERATION_SECONDS, self._left))
            self._shell = self._protocol.open_shell(codepage=CODE_PAGE, idle_timeout=idle)
            self._login.accepted()
            return self._protocol.run_command(
                self._shell, command, arguments, console_mode_stdin=False, skip_cmd_shell=True
            )

        self._command = self._again(start)

    def send(self, data: bytes) -> None:
        """Write standard input. Only "busy" and "unreadable" are tried again, with the same bytes.

        Of a Send whose answer was lost nobody knows whether it arrived. Was it the last one, then the script may be at
        work: we go on and listen to it.
        """
        for start in range(0, len(data), SEND_BYTES):
            chunk, is_last = data[start : start + SEND_BYTES], start + SEND_BYTES >= len(data)
            self._is_begun = is_last
            self._send(chunk, is_last=is_last)

    def receive(self, on_output: Callable[[bytes], None]) -> ExitStatus:
        """Hand on output until the program ends.

        A lost connection is made anew, with the same shell. What was lost on the way is found out by the reader of the
        lines: without its last line no visit counts.
        """
        losses, complaint = 0, b""
        if self._left > BURST_SECONDS:
            self._clock.sleep(BURST_SECONDS)  # its first lines come in a burst, too
        while True:
            self._check_time()
            try:
                out, err, code, self._is_done = self._protocol.get_command_output_raw(self._shell, self._command)
            except WinRMOperationTimeoutError:
                losses = 0
                continue
            except Exception as error:  # noqa: BLE001  # see above
                failure = self._after_loss(error, losses)
                losses += 1
            else:
                failure, losses = None, 0
            if failure:
                raise failure
            if losses:
                continue
            if out or err or self._is_done:
                self._hello_until = None
            else:
                self._clock.sleep(QUIET_SECONDS)
            complaint = (complaint + err)[:4096]
            if out:
                on_output(out)
            if self._is_done:
                text = faults.scrubbed(complaint.decode("utf-8", "replace"))
                return ExitStatus(code=code, was_cut=self._was_cut, complaint=text)
            if out:
                self._clock.sleep(BURST_SECONDS)

    def _after_loss(self, error: Exception, losses: int) -> Exception | None:
        """Get ready to receive again, with the same shell; return the error to raise where that makes no sense."""
        is_lost = faults.is_lost_connection(error, sealed=self._channel.wire.is_sealed)
        if losses >= len(RETURN_PAUSES) or not (is_lost or faults.is_busy(error)):
            # What it printed meanwhile, perhaps that it stops the service, will not be heard any more.
            self._was_cut = True
            return self._explained(error, begun=True)
        log.info("connection lost in mid-visit, going on", host=self._endpoint.host, error=type(error).__name__)
        if is_lost:
            # The answer that was on its way is gone, and the output in it.
            self._was_cut = self._was_cut or not faults.is_unreadable(error)
            self._channel.wire.forget()
        self._pause(RETURN_PAUSES[losses])
        return None

    def _check_time(self) -> None:
        """Give the next Receive its time; RemoteError when none is left."""
        now, host = self._clock.monotonic(), self._endpoint.host
        if self._hello_until is not None and now >= self._hello_until:
            raise self._send_failure or RemoteError(
                RemoteErrorKind.UNKNOWN_OUTCOME,
                host,
                f"The connection to {host} was lost while the script was handed over, and nothing was heard of it "
                "since. Most likely it never began; its journal on the host tells.",
            )
        left = self._end - now
        if left <= 0 and not self._may_end():
            left += self._patience.grace
        if left <= 0:
            raise RemoteError(
                RemoteErrorKind.UNKNOWN_OUTCOME,
                host,
                f"The script on {host} did not end within {self._deadline:g} s. What it did stands in its "
                "journal there, which the next visit reads.",
            )
        hello = left if self._hello_until is None else self._hello_until - now
        self._channel.allow(min(OPERATION_SECONDS, left, hello))

    def _send(self, chunk: bytes, *, is_last: bool) -> None:
        failure: Exception | None = None
        for pause in (*BUSY_PAUSES, None):
            self._channel.allow(min(OPERATION_SECONDS, self._left))
            try:
                # That the host took its time for it is no error: the bytes are there (Ansible does the same).
                with contextlib.suppress(WinRMOperationTimeoutError):
                    self._protocol.send_command_input(self._shell, self._command, chunk, end=is_last)
            except Exception as error:  # noqa: BLE001  # see above
                sealed = self._channel.wire.is_sealed
                is_unreadable = sealed and faults.is_unreadable(error)
                is_lost = faults.is_lost_connection(error, sealed=False)
                if is_last and (is_lost or faults.is_refused_input(error)):
                    self._hello_until = self._clock.monotonic() + self._patience.hello
                    if is_lost:
                        self._channel.wire.forget()
                    else:
                        # It may have ended already, and have said why (Ansible listens once more, too).
                        self._send_failure = self._explained(error, begun=True)
                    return
                is_repeatable = is_unreadable or faults.is_busy(error)
                # An answer of the host says that it did not take the bytes, so nothing was begun.
                is_begun = self._is_begun and not is_repeatable
                failure = self._explained(error, begun=is_begun)
                if pause is None or not is_repeatable:
                    break
                if is_unreadable:
                    self._channel.wire.forget()
            else:
                return
            self._pause(pause)
        assert failure is not None
        self._is_begun = isinstance(failure, RemoteError) and failure.kind is RemoteErrorKind.UNKNOWN_OUTCOME
        raise failure

    def _again(self, call: Callable[[], T]) -> T:
        """Call what may be repeated as long as nothing was begun."""
        busy, lost = iter(BUSY_PAUSES), iter(CONNECT_PAUSES)
        while True:
            self._channel.allow(min(OPERATION_SECONDS, self._left))
            try:
                return call()
            except Exception as error:  # noqa: BLE001  # see above
                pause: float | None = None
                if faults.is_lost_connection(error, sealed=self._channel.wire.is_sealed):
                    self._channel.wire.forget()
                    pause = next(lost, None)
                elif faults.is_busy(error) or faults.is_quota(error):
                    pause = next(busy, None)
                failure = self._explained(error, begun=False)
            if pause is None or pause >= self._left:
                raise failure
            self._pause(pause)

    def _explained(self, error: Exception, *, begun: bool) -> Exception:
        """Return the error to raise; after a refused login there is not even a Delete: it would log in again."""
        if isinstance(error, InvalidCredentialsError):
            self._shell = ""
            self._login.refused()
        return faults.explained(error, self._endpoint, begun=begun)

    def _delete(self) -> None:
        """Delete the shell, best effort; a forgotten one ends by its idle timeout."""
        if not self._shell:
            return
        is_at_work = self._is_begun and not self._is_done and not self._is_harmless
        if is_at_work and (self._was_cut or not self._may_end()):
            log.warning("script left to its own limits", host=self._endpoint.host)
            return
        self._channel.allow(DELETE_SECONDS)
        for _ in range(2):
            try:
                self._protocol.close_shell(self._shell, close_session=False)
            except Exception as error:  # noqa: BLE001  # the work is done or explained already
                log.info("shell not deleted", host=self._endpoint.host, error=type(error).__name__)
                if not faults.is_lost_connection(error, sealed=self._channel.wire.is_sealed):
                    return
                self._channel.wire.forget()
            else:
                return

    @property
    def _left(self) -> float:
        return self._end - self._clock.monotonic()

    def _pause(self, seconds: float) -> None:
        telemetry.RETRIES.labels(part="winrm").inc()
        self._clock.sleep(seconds * (1 + random.random() * JITTER))  # noqa: S311  # nothing is to be kept secret


def _check(endpoint: Endpoint) -> None:
    """Refuse what cannot work or would be read by others on the way; RemoteError."""
    host, transport = endpoint.host, endpoint.transport

    def refused(text: str) -> RemoteError:
        return RemoteError(RemoteErrorKind.AUTHENTICATION, host, text)

    if transport not in TRANSPORTS:
        raise refused(f"{host} cannot be reached by “{transport}”. Use one of: {', '.join(TRANSPORTS)}.")
    if not endpoint.is_tls and not endpoint.url.casefold().startswith("http:"):
        raise refused(f"The address {endpoint.url} of {host} is none of WinRM. It looks like https://host:5986/wsman.")
    if not endpoint.is_tls and transport not in SEALING:
        clear = "would send the password in clear" if transport == "basic" else "does not work"
        raise refused(f"{transport.capitalize()} over http {clear} to {host}. Use https, or ntlm or kerberos.")
    if transport in {"ntlm", "basic"} and not (endpoint.username and endpoint.password):
        raise refused(f"{transport} on {host} needs a user name and a reference to a password. Set both under [winrm].")
    if transport == "certificate" and not (endpoint.certificate and endpoint.key):
        raise refused(f"certificate on {host} needs certificate and key. Set both under [winrm] or [credentials.NAME].")

"""The shells of a sandbox host: what Create, Command, Send, Receive, Signal and Delete do.

Times of the wire (operation and idle timeout) are the machine's, not the world's: a client waits for them for real.
"""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bot.sandbox.windows import soap
from bot.sandbox.windows.host import Host
from bot.sandbox.windows.powershell import Output, RemoteProcess
from bot.sandbox.windows.schedule import split

Start = Callable[[Host, str, Sequence[str]], RemoteProcess]
"""What starts a program on a host: `powershell.start`."""
MAX_SHELLS = 30
"""MaxShellsPerUser since Windows Server 2012."""
IDLE_SECONDS = 7200.0
"""IdleTimeout of a shell that names none."""
CMD_CHARACTERS = 8191
"""The longest command line of cmd.exe; a longer one does nothing, with exit code 0 (mondoohq/mql pull 10552)."""
PROCESS_CHARACTERS = 32_767
"""The longest command line of CreateProcess."""
ENVELOPE_MARGIN = 4096
"""Room for all that is not output in an answer to Receive."""
_SLICE = 0.2
"""Seconds between two looks at whether the client of a Receive is still there."""


@dataclass(slots=True)
class Command:
    """A program in a shell."""

    process: RemoteProcess
    console_input: bool
    """Standard input is a console's: its end never comes (pywinrm's default; Ansible avoids it)."""
    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int | None = None
    reading: threading.Lock = field(default_factory=threading.Lock)

    @property
    def has_news(self) -> bool:
        """Whether a Receive can be answered."""
        return bool(self.stdout or self.stderr) or self.exit_code is not None

    def take(self, output: Output) -> None:
        """Keep what the program printed until somebody asks."""
        self.stdout += output.stdout
        self.stderr += output.stderr
        self.exit_code = output.exit_code


@dataclass(slots=True)
class Shell:
    """A shell of an account. Its processes die with it."""

    owner: str
    idle_seconds: float
    used: float
    commands: dict[str, Command] = field(default_factory=dict)

    def end(self) -> None:
        """End its programs at once, `finally` blocks included."""
        for command in self.commands.values():
            command.process.kill()


class Shells:
    """All shells of one host. The operations answer with the body of a SOAP answer or raise a Fault."""

    def __init__(self, host: Host, start: Start) -> None:
        self._host = host
        self._start = start
        self._shells: dict[str, Shell] = {}
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """How many are open."""
        self.reap()
        return len(self._shells)

    def create(self, request: soap.Request, owner: str, url: str, client: str) -> str:
        """Open a shell; refused when the account has too many."""
        if request.resource != soap.CMD:
            raise soap.not_supported(request.resource)
        self.reap()
        idle = soap.seconds(request.text("rsp:Shell/rsp:IdleTimeOut"), IDLE_SECONDS)
        shell_id = str(uuid.uuid4()).upper()
        with self._lock:
            own = sum(shell.owner == owner for shell in self._shells.values())
            if self._host.faults.quota_shells or own >= MAX_SHELLS:
                raise soap.shell_quota(MAX_SHELLS)
            self._shells[shell_id] = Shell(owner, idle, time.monotonic())
        return soap.shell_created(url, shell_id, owner, client, idle)

    def command(self, request: soap.Request) -> str:
        """Start a program in a shell."""
        shell = self._shell(request)
        program = request.text("rsp:CommandLine/rsp:Command")
        arguments = [a.text or "" for a in request.body.findall("rsp:CommandLine/rsp:Arguments", soap.NAMES)]
        length = len(" ".join((program, *arguments)))
        is_direct = _is_true(request.options.get("WINRS_SKIP_CMD_SHELL", ""))
        if is_direct and length > PROCESS_CHARACTERS:
            raise soap.too_long()
        if not is_direct and length > CMD_CHARACTERS:
            program, arguments = "exit 0", []
        process = self._start(self._host, program, [word for argument in arguments for word in split(argument)])
        command_id = str(uuid.uuid4()).upper()
        console = request.options.get("WINRS_CONSOLEMODE_STDIN", "TRUE")
        with self._lock:
            is_open = self._shells.get(request.shell_id) is shell
            if is_open:
                shell.commands[command_id] = Command(process, _is_true(console))
        if not is_open:  # it was closed while the program started
            process.kill()
            raise soap.no_shell(request.shell_id)
        return soap.command_started(command_id)

    def send(self, request: soap.Request) -> str:
        """Hand standard input to a program."""
        given = soap.sent_input(request)
        command = self._command(request, given.command_id)
        command.process.write(given.data, given.end and not command.console_input)
        return soap.SENT

    def receive(self, request: soap.Request, is_gone: Callable[[], bool], cut: Callable[[], None]) -> str:
        """Wait for output of a program and return it, as much as one answer holds; a fault when none came in time.

        When `is_gone` says that the client went away, what was printed meanwhile waits for the next Receive; `cut` is
        called when a fault of the host wants the connections cut now. Blocks: call it on a thread.
        """
        stream = request.body.find("rsp:Receive/rsp:DesiredStream", soap.NAMES)
        command_id = "" if stream is None else stream.get("CommandId", "")
        command = self._command(request, command_id)
        end = time.monotonic() + request.operation_seconds
        while not is_gone():
            with command.reading:
                if not command.has_news:
                    output = command.process.read(max(0.0, min(_SLICE, end - time.monotonic())))
                    command.take(output)
                    if output.cut:
                        cut()
                if command.has_news and not is_gone():
                    return self._piece(request, command_id, command)
            if time.monotonic() >= end:
                self._shell(request)  # it was in use until now
                break
        raise soap.timed_out()

    def signal(self, request: soap.Request) -> str:
        """End a program; Windows' signals (terminate, ctrl_c, ctrl_break) are the same to ours."""
        signal = request.body.find("rsp:Signal", soap.NAMES)
        self._command(request, "" if signal is None else signal.get("CommandId", "")).process.kill()
        return soap.SIGNALLED

    def delete(self, request: soap.Request) -> str:
        """Close a shell; its programs die with it."""
        with self._lock:
            shell = self._shells.pop(request.shell_id, None)
        if shell is None:
            raise soap.no_shell(request.shell_id)
        shell.end()
        return ""

    def reap(self) -> None:
        """Close the shells that nobody used for longer than their idle timeout."""
        now = time.monotonic()
        with self._lock:
            old = [i for i, shell in self._shells.items() if now - shell.used > shell.idle_seconds]
            expired = [self._shells.pop(i) for i in old]
        for shell in expired:
            shell.end()

    def close(self) -> None:
        """Close all shells."""
        with self._lock:
            shells, self._shells = list(self._shells.values()), {}
        for shell in shells:
            shell.end()

    def _piece(self, request: soap.Request, command_id: str, command: Command) -> str:
        room = max(1024, (min(request.envelope_bytes, soap.MAX_ENVELOPE) - ENVELOPE_MARGIN) // 4 * 3)
        stdout, command.stdout = command.stdout[:room], command.stdout[room:]
        room -= len(stdout)
        stderr, command.stderr = command.stderr[:room], command.stderr[room:]
        more = command.stdout or command.stderr
        return soap.received(command_id, stdout, stderr, None if more else command.exit_code)

    def _shell(self, request: soap.Request) -> Shell:
        self.reap()
        with self._lock:
            shell = self._shells.get(request.shell_id)
            if shell is None:
                raise soap.no_shell(request.shell_id)
            shell.used = time.monotonic()
            return shell

    def _command(self, request: soap.Request, command_id: str) -> Command:
        command = self._shell(request).commands.get(command_id)
        if command is None:
            raise soap.no_command()
        return command


def _is_true(text: str) -> bool:
    return text.lower() in {"true", "1"}

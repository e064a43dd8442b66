"""The shells that WinRM clients have open on a sandbox host, and the programs that run in them."""

import threading
import uuid
from dataclasses import dataclass, field

from bot.sandbox.windows import powershell, soap
from bot.sandbox.windows.host import Host
from bot.sandbox.windows.powershell import RemoteProcess

MAX_SHELLS = 30
"""MaxShellsPerUser of current Windows."""
PIECE = 150_000
"""Raw bytes of output in one answer: as base64 they stay below MaxEnvelopeSizekb."""


@dataclass(slots=True)
class _Running:
    process: RemoteProcess
    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int | None = None


@dataclass(slots=True)
class _Shell:
    commands: dict[str, _Running] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Received:
    """The answer to a Receive, or that the connection is to be cut now."""

    body: str
    cut: bool


class Shells:
    """All shells of one host; each method may block, and is called on a thread of its own."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._shells: dict[str, _Shell] = {}
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._shells)

    def create(self, url: str) -> str:
        """Open a shell; Fault when there are too many, or the host is busy."""
        if self._host.faults.busy:
            raise soap.BUSY
        with self._lock:
            if self._host.faults.quota_shells or len(self._shells) >= MAX_SHELLS:
                raise soap.TOO_MANY_SHELLS
            name = str(uuid.uuid4()).upper()
            self._shells[name] = _Shell()
        return soap.created(name, url)

    def command(self, asked: soap.Asked) -> str:
        """Start a program."""
        shell = self._find(asked.shell)
        name = str(uuid.uuid4()).upper()
        # a Windows command line is one text: clients may send its words together or one by one
        line = " ".join((asked.program, *asked.arguments))
        shell.commands[name] = _Running(powershell.start(self._host, line, ()))
        return soap.begun(name)

    def send(self, asked: soap.Asked) -> str:
        """Hand standard input to a program."""
        if self._host.faults.busy:
            raise soap.BUSY
        running = self._running(asked)
        for data, end in asked.stdin:
            running.process.write(data, end)
        return soap.SENT

    def receive(self, asked: soap.Asked) -> Received:
        """Wait for output or the end of a program; Fault if nothing comes in time."""
        running = self._running(asked)
        cut = False
        if not running.stdout and not running.stderr and running.exit_code is None:
            output = running.process.read(asked.timeout)
            running.stdout += output.stdout
            running.stderr += output.stderr
            running.exit_code = output.exit_code
            cut = output.cut
        if not running.stdout and not running.stderr and running.exit_code is None:
            raise soap.TIMED_OUT
        out, running.stdout = running.stdout[:PIECE], running.stdout[PIECE:]
        err, running.stderr = running.stderr[:PIECE], running.stderr[PIECE:]
        over = running.exit_code if not running.stdout and not running.stderr else None
        return Received(soap.received(asked.command, out, err, over), cut)

    def signal(self, asked: soap.Asked) -> str:
        """End a program."""
        self._running(asked).process.kill()
        return soap.SIGNALLED

    def delete(self, name: str) -> str:
        """Close a shell; what runs in it dies with it, `finally` blocks included."""
        with self._lock:
            shell = self._shells.pop(name, None)
        if shell is None:
            raise soap.NO_SHELL
        for running in shell.commands.values():
            if running.exit_code is None:
                running.process.kill()
        return ""

    def _find(self, name: str) -> _Shell:
        try:
            return self._shells[name]
        except KeyError:
            raise soap.NO_SHELL from None

    def _running(self, asked: soap.Asked) -> _Running:
        try:
            return self._find(asked.shell).commands[asked.command]
        except KeyError:
            raise soap.NO_SHELL from None

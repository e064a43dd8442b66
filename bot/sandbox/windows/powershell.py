"""Programs that a WinRM shell of a sandbox host runs: PowerShell above all, and a few small ones.

With a PowerShell on this machine (`world.powershell`) the real engine runs what it is given, with stand-ins for what
only Windows has; otherwise the Python twins of octocert's own scripts do, and nothing else can be run.
"""

import base64
import binascii
import json
import os
import select
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from bot.sandbox import windows
from bot.sandbox.windows.bridge import VARIABLE, bridge_of
from bot.sandbox.windows.engines import ENGINES, EOT, Engine, file_of
from bot.sandbox.windows.engines import start as start_engine
from bot.sandbox.windows.schedule import split
from bot.windows import scripts
from bot.windows.scripts import BOOTSTRAP

if TYPE_CHECKING:
    from bot.sandbox.windows.host import Host
    from bot.sandbox.world import World

_GLANCE = 0.05
"""Seconds between two looks at whether a process has ended."""
INPUT_LINES = 2
"""Lines of standard input that octocert's bootstrap reads: script and parameters."""


class Output(NamedTuple):
    """What a process has printed since the last look."""

    stdout: bytes
    stderr: bytes
    exit_code: int | None
    """None while it runs, or while there is more to read."""
    cut: bool = False
    """Whether the connection is to be cut now: the host's fault `cut_at` met its line. True once."""


class RemoteProcess(Protocol):
    """A program that runs in a shell."""

    def write(self, data: bytes, end: bool) -> None:
        """Hand over standard input; with `end`, close it. What a process that is gone is given is lost."""
        ...

    def read(self, timeout: float) -> Output:
        """Return what was printed, at once if there is something, else within so many seconds."""
        ...

    def hang_up(self) -> None:
        """Go away as the reader of its output: what it prints from now on is lost, or fails to be written."""
        ...

    def kill(self) -> None:
        """End it at once, as Windows does with the processes of a shell: no `finally` block runs."""
        ...


def start(host: "Host", command: str, arguments: Sequence[str]) -> RemoteProcess:
    """Start `powershell` with -EncodedCommand or -Command, `cmd /c`, `hostname`, `whoami`, `echo` or `exit`."""
    host.world.command_lines.append(" ".join((command, *arguments)))
    words = [*split(command), *arguments] if " " in command.strip() else [command, *arguments]
    words = [w for word in words for w in (split(word) if " " in word and '"' in word else [word])]
    name = words[0].strip('"').replace("\\", "/").rpartition("/")[2].lower().removesuffix(".exe")
    if name in {"powershell", "pwsh"}:
        return _start_powershell(host, words[1:])
    if name == "cmd":
        return _small(host, " ".join(words[1:]).partition("/")[2][1:].strip().strip('"'))
    return _small(host, " ".join(words))


def _start_powershell(host: "Host", words: list[str]) -> RemoteProcess:
    text = _powershell_text(words)
    if text is None:
        return Finished(stderr=b"The sandbox runs PowerShell with -EncodedCommand or -Command only.\r\n", code=64)
    if host.world.powershell is not None:
        return EngineProcess(host, host.world.powershell, text)
    if text == BOOTSTRAP:
        from bot.sandbox.windows.twin_host import TwinProcess  # noqa: PLC0415  # it needs this module's types

        return TwinProcess(host)
    return Finished(stderr=b"This machine has no PowerShell: the sandbox runs octocert's own scripts only.\r\n", code=1)


def _powershell_text(words: list[str]) -> str | None:
    """Return the script that a command line of powershell.exe names; None where there is none that we understand."""
    for index, word in enumerate(words):
        option = word.lower()
        if option[:1] not in {"-", "/"}:
            return " ".join(words[index:])
        rest = words[index + 1 :]
        if len(option) > 1 and "encodedcommand".startswith(option[1:]) and rest:
            try:
                return base64.b64decode(rest[0], validate=True).decode("utf-16-le")
            except (binascii.Error, UnicodeDecodeError):
                return None
        if len(option) > 1 and "command".startswith(option[1:]) and rest:
            return " ".join(rest)
        if option[1:] in {"executionpolicy", "ep", "outputformat", "inputformat", "windowstyle", "version"}:
            words[index + 1 : index + 2] = ["-nologo"]  # its value is no word of ours
    return None


def _small(host: "Host", line: str) -> RemoteProcess:
    """Run one of the programs that people try a connection with."""
    word, _, rest = line.partition(" ")
    newline = host.profile.newline
    match word.lower().removesuffix(".exe"):
        case "hostname":
            return Finished(f"{host.name}{newline}".encode())
        case "whoami":
            return Finished(f"{next(iter(host.accounts)).lower()}{newline}".encode())
        case "echo":
            return Finished(f"{rest}{newline}".encode())
        case "exit":
            return Finished(code=int(rest) if rest.strip().isdigit() else 0)
        case "sc" | "schtasks" | "tentacle":
            result = host.run_program(split(line))
            return Finished(result.stdout.encode(), result.stderr.encode(), result.exit_code)
    lines = (f"'{word}' is not recognized as an internal or external command,", "operable program or batch file.", "")
    message = newline.join(lines)
    return Finished(stderr=message.encode(), code=1)


class Finished:
    """A program that ended at once."""

    def __init__(self, stdout: bytes = b"", stderr: bytes = b"", code: int = 0) -> None:
        self._output = Output(stdout, stderr, code)

    def write(self, data: bytes, end: bool) -> None:
        """Ignore standard input."""

    def read(self, timeout: float) -> Output:
        """Return everything, the first time."""
        output, self._output = self._output, Output(b"", b"", self._output.exit_code)
        return output

    def hang_up(self) -> None:
        """Do nothing: it is over."""

    def kill(self) -> None:
        """Do nothing: it is over."""


@dataclass(slots=True)
class Printed:
    """What a script has printed and nobody has read; watches for the lines at which the host's faults strike."""

    host: "Host"
    kill: Callable[[], None]
    stdout: bytes = b""
    stderr: bytes = b""
    cut: bool = False
    _line: bytes = b""

    def add(self, data: bytes) -> bool:
        """Take what was printed on standard output; False when a fault killed the script at a line of it."""
        faults = self.host.faults
        if faults.kill_shell_at is None and faults.cut_at is None:
            self.stdout += data
            self._line = (self._line + data).rpartition(b"\n")[2]
            return True
        for piece in data.splitlines(keepends=True):
            self.stdout += piece
            self._line += piece
            if not self._line.endswith(b"\n"):
                continue
            kind, self._line = _kind(self._line), b""
            if kind is not None and kind == faults.cut_at:
                faults.cut_at, self.cut = None, True
            if kind is not None and kind == faults.kill_shell_at:
                faults.kill_shell_at = None
                self.kill()
                return False
        return True

    def take(self, exit_code: int | None) -> Output:
        """Return all of it, and forget it."""
        output = Output(self.stdout, self.stderr, exit_code, self.cut)
        self.stdout, self.stderr, self.cut = b"", b"", False
        return output


def _kind(line: bytes) -> str | None:
    try:
        document = json.loads(line)
    except ValueError:
        return None
    return str(document["kind"]) if isinstance(document, dict) and "kind" in document else None


class Endable(Protocol):
    """A script that runs until it ends, or its world does."""

    def end(self) -> None:
        """End it, and wait until it has."""
        ...


class Running:
    """The scripts that run in one world. Those that still do end with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scripts: set[Endable] = set()

    def add(self, script: Endable) -> None:
        """Take in a script that has begun."""
        with self._lock:
            self._scripts.add(script)

    def remove(self, script: Endable) -> None:
        """Let go of a script that has ended."""
        with self._lock:
            self._scripts.discard(script)

    def close(self) -> None:
        """End them all."""
        with self._lock:
            scripts = list(self._scripts)
        for script in scripts:
            script.end()


_running: "WeakKeyDictionary[World, Running]" = WeakKeyDictionary()
_running_lock = threading.Lock()


def running_in(world: "World") -> Running:
    """Return what keeps the scripts of a world."""
    with _running_lock:
        running = _running.get(world)
        if running is None:
            running = _running[world] = Running()
            world.on_close(running.close)
        return running


class EngineProcess:
    """A script in a real PowerShell: octocert's own in one that serves several, anything else in one of its own.

    So is a script at one of whose lines a fault is to strike.
    """

    def __init__(self, host: "Host", powershell: Path, text: str) -> None:
        self.host = host
        self._condition = threading.Condition()
        self._printed = Printed(host, self._kill)
        self._dead = False
        self._exit_code: int | None = None
        self._input_lines = 0
        self._ending: bytes | None = None
        """What came after EOT: the exit code, and the end of its line."""
        self._bridge = bridge_of(host.world)
        variable, self._token = self._bridge.admit(self)
        home = host.root / "Users" / host.environment()["USERNAME"]
        home.mkdir(parents=True, exist_ok=True)
        environment = {**host.environment(), VARIABLE: variable, "HOME": str(home)}
        is_watched = host.faults.kill_shell_at is not None or host.faults.cut_at is not None
        if is_watched:
            environment["OCTOCERT_WATCHED"] = "1"
        self._engine: Engine | None = None
        if text == BOOTSTRAP and host.profile.language_mode == "FullLanguage" and not is_watched:
            self._engine = ENGINES.take(powershell)
            self._engine.begin(environment, host.root, file_of(scripts, "bootstrap.ps1"))
            self._process = self._engine.process
        else:
            script = f". '{file_of(windows, 'stand_ins.ps1')}'\n{_language(host)}{text}"
            encoded = base64.b64encode(script.encode("utf-16-le")).decode("ascii")
            self._process = start_engine(powershell, ["-EncodedCommand", encoded], environment, host.root)
        self._open = {self._process.stdout: True, self._process.stderr: False}
        self._thread = threading.Thread(target=self._watch, name=f"powershell-{host.name}", daemon=True)
        self._running = running_in(host.world)  # after the bridge, so that it is closed before
        self._running.add(self)
        self._thread.start()

    def write(self, data: bytes, end: bool) -> None:
        """Hand over standard input."""
        with self._condition:
            if self._engine and (self._exit_code is not None or self._input_lines >= INPUT_LINES):
                return  # nobody would read it but the next visit
            self._input_lines += data.count(b"\n")
            closes = end and not (self._engine and self._input_lines == INPUT_LINES)
        stdin = self._process.stdin
        with suppress(OSError, ValueError):
            assert stdin is not None
            stdin.write(data)
            if closes:
                stdin.close()

    def read(self, timeout: float) -> Output:
        """Return what was printed, at once if there is something, else within so many seconds."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._printed.stdout or self._printed.stderr or self._exit_code is not None, timeout
            )
            return self._printed.take(self._exit_code)

    def kill(self) -> None:
        """End it and everything that it started, at once."""
        with self._condition:
            self._kill()

    def hang_up(self) -> None:
        """Go away as the reader of its output: .NET on this platform drops what it prints from now on."""
        with self._condition:
            if self._exit_code is not None:
                return
            for pipe in list(self._open):
                self._shut(pipe)
            if self._engine and self._process.stdin is not None:
                with suppress(OSError):
                    self._process.stdin.close()

    def catch_up(self) -> bool:
        """Take what was printed so far; False when it is dead."""
        with self._condition:
            self._pump()
            return not self._dead

    def _kill(self) -> None:
        if self._exit_code is not None:
            return  # its process may serve another one
        self._dead = True
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _pump(self) -> None:
        for pipe, is_stdout in list(self._open.items()):
            while pipe in self._open and self._exit_code is None:
                try:
                    data = os.read(pipe.fileno(), 65536)  # type: ignore[union-attr]
                except BlockingIOError:
                    break
                if not data:
                    self._shut(pipe)
                elif self._dead:
                    continue
                elif is_stdout:
                    self._take(data)
                else:
                    self._printed.stderr += data
                self._condition.notify_all()

    def _take(self, data: bytes) -> None:
        """Take what was printed; a visit that shares its process ends by EOT and its exit code."""
        if self._engine and self._ending is None:
            data, end, rest = data.partition(EOT)
            self._ending = rest if end else None
        elif self._engine and self._ending is not None:
            self._ending += data
            return
        if data:
            self._printed.add(data)

    def _shut(self, pipe: object) -> None:
        self._open.pop(pipe, None)  # type: ignore[call-overload]
        pipe.close()  # type: ignore[attr-defined]

    def _watch(self) -> None:
        """Collect what is printed until the script has ended."""
        while True:
            with self._condition:
                pipes = [p for p in self._open if p is not None]
            if pipes:
                with suppress(ValueError, OSError):  # hung up meanwhile
                    select.select(pipes, [], [], _GLANCE)
            code = self._process.poll() if pipes else self._process.wait()
            with self._condition:
                self._pump()
                if self._ending is not None and self._ending.endswith(b"\n") and not self._dead:
                    self._end(int(self._ending), is_shared=True)
                    return
                if code is not None:
                    self._end(code if code >= 0 else 1)
                    return

    def _end(self, code: int, *, is_shared: bool = False) -> None:
        """Note that the script has ended, and let go of its process or end that, too."""
        spoiled = self._printed.stderr or len(self._open) < 2 or self._input_lines != INPUT_LINES
        if is_shared and not spoiled:
            assert self._engine is not None
            ENGINES.give_back(self._engine)
        else:
            if is_shared:
                self._kill()
                self._process.wait()
            for pipe in list(self._open):
                self._shut(pipe)
            if self._process.stdin is not None:
                with suppress(OSError):
                    self._process.stdin.close()
        self._bridge.dismiss(self._token)
        self._running.remove(self)
        self._exit_code = code
        self._condition.notify_all()

    def end(self) -> None:
        """End it, and wait until it has."""
        self.kill()
        self._thread.join(5)


def _language(host: "Host") -> str:
    """Return what puts the session into the language mode of the host's profile."""
    mode = host.profile.language_mode
    return "" if mode == "FullLanguage" else f"$ExecutionContext.SessionState.LanguageMode = '{mode}'\n"

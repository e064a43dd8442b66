"""PowerShell's place on a machine without PowerShell: a process that runs the Python twins of octocert's scripts.

It does what the bootstrap does: two base64 lines on standard input, one JSON line for everything that happens. A script
that is not one of octocert's own is answered with an `error` line.
"""

import json
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bot.sandbox.windows.powershell import Output, Printed, running_in
from bot.sandbox.windows.twin_apply import Apply
from bot.sandbox.windows.twin_common import Fields, Killed, ScriptError, from_base64, from_json
from bot.sandbox.windows.twin_inspect import Inspect
from bot.sandbox.windows.twin_mutex import abandon_all
from bot.windows.scripts import script

if TYPE_CHECKING:
    from bot.sandbox.windows.host import Host

_END_SECONDS = 10.0
"""How long the end of a world waits for a twin: the longest look at what is served."""


class TwinProcess:
    """The constant bootstrap, run by Python on a thread of its own."""

    def __init__(self, host: "Host") -> None:
        self._host = host
        self._condition = threading.Condition()
        self._acting = threading.RLock()
        self._printed = Printed(host, self._die)
        self._stdin = b""
        self._is_stdin_closed = False
        self._dead = False
        self._is_reader_gone = False
        self._exit_code: int | None = None
        self._thread = threading.Thread(target=self._work, name=f"twin-{host.name}", daemon=True)
        self._running = running_in(host.world)
        self._running.add(self)
        self._thread.start()

    # ---- RemoteProcess

    def write(self, data: bytes, end: bool) -> None:
        """Hand over standard input."""
        with self._condition:
            if not self._is_stdin_closed:
                self._stdin += data
                self._is_stdin_closed = end
                self._condition.notify_all()

    def read(self, timeout: float) -> Output:
        """Return what was printed, at once if there is something, else within so many seconds."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._printed.stdout or self._printed.stderr or self._exit_code is not None, timeout
            )
            return self._printed.take(self._exit_code)

    def hang_up(self) -> None:
        """Go away as the reader of its output: what it prints from now on fails, as with a broken pipe of Windows."""
        with self._condition:
            self._is_reader_gone = True

    def kill(self) -> None:
        """End it; when this returns, nothing that it does has an effect any more."""
        with self._condition:
            self._die()
        with self._acting:  # what it is doing to the world right now is the last
            pass

    # ---- Life, as the twins know it

    @property
    def host(self) -> "Host":
        """The host on which it runs."""
        return self._host

    @property
    def is_dead(self) -> bool:
        """Whether it was ended from outside."""
        return self._dead

    def check(self) -> None:
        """Raise Killed when the process is dead."""
        if self._dead:
            raise Killed

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Hold off `kill` for as long as one change takes; Killed when the process is dead."""
        with self._acting:
            self.check()
            yield

    def send_line(self, kind: str, value: Any) -> None:
        """Print one line, ASCII only; Killed when a fault strikes at it."""
        text = json.dumps({"kind": kind, "value": value}, separators=(",", ":")).replace("\x7f", "\\u007f")
        with self._condition:
            self.check()
            if self._is_reader_gone:
                raise ScriptError("The pipe is being closed.", "System.IO.IOException")
            self._printed.add(f"{text}{self._host.profile.newline}".encode("ascii"))
            self._condition.notify_all()
            self.check()

    # ---- The bootstrap

    def _work(self) -> None:
        code = 1
        try:
            code = self._bootstrap()
        except (Killed, ScriptError):  # dead, or nobody is left who could be told
            pass
        finally:
            abandon_all(self._host.world, self)
            self._running.remove(self)
            with self._condition:
                self._exit_code = code
                self._condition.notify_all()

    def _bootstrap(self) -> int:
        profile = self._host.profile
        hello = {"version": profile.powershell, "language": profile.language_mode}
        if profile.language_mode != "FullLanguage":
            self.send_line("hello", hello)
            message = f"PowerShell runs in {profile.language_mode} mode here"
            self.send_line("error", {"message": message, "type": "LanguageMode", "at": ""})
            return 1
        try:
            text = self._decoded_line()
            parameters = from_json(self._decoded_line())
            self.send_line("hello", hello)
            self._run(text, parameters)
        except ScriptError as error:
            self.send_line("error", {"message": error.message, "type": error.kind, "at": ""})
            return 1
        except Exception as error:  # noqa: BLE001  # a fault of the twin must be seen, not be waited for
            self._complain()
            self.send_line("error", {"message": str(error), "type": type(error).__name__, "at": ""})
            return 1
        self.send_line("done", value=True)
        return 0

    def _run(self, text: str, parameters: Any) -> None:
        p = parameters if isinstance(parameters, Fields) else Fields()
        if text == script("inspect"):
            Inspect(self, p).run()
        elif text == script("apply"):
            Apply(self, p).run()
        else:
            raise ScriptError(
                "This machine has no PowerShell: the sandbox runs octocert's own scripts only.",
                "System.NotSupportedException",
            )

    def _decoded_line(self) -> str:
        """Take one line of base64 from standard input and return the UTF-8 text in it."""
        data = from_base64(self._take_line().decode("ascii", "replace"))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ScriptError(
                "Unable to translate bytes to Unicode.", "System.Text.DecoderFallbackException"
            ) from error

    def _take_line(self) -> bytes:
        with self._condition:
            self._condition.wait_for(lambda: b"\n" in self._stdin or self._is_stdin_closed or self._dead)
            self.check()
            line, _, self._stdin = self._stdin.partition(b"\n")
            return line

    def _complain(self) -> None:
        with self._condition:
            self.check()
            self._printed.stderr += traceback.format_exc().encode()

    # ---- The end

    def _die(self) -> None:
        """Be dead. Its mutexes are abandoned by `_work`'s end, when nothing can happen any more."""
        self._dead = True
        self._condition.notify_all()

    def end(self) -> None:
        """End it, and wait until it has."""
        self.kill()
        self._thread.join(_END_SECONDS)

"""The hosts of the benchmark: octocert's scripts run as in the demo, and the few lines of PowerShell that peers send.

Whoever visits does the same work in the same world: a service takes half of the remote seconds to stop, half to start.
"""

import base64
import binascii
import re
import threading
from collections.abc import Sequence

from bot.domain.facts import ServiceState
from bot.sandbox.estate import Estate
from bot.sandbox.octopus.server import OctopusServer
from bot.sandbox.windows import powershell
from bot.sandbox.windows.host import Host
from bot.sandbox.windows.powershell import Output, Printed, RemoteProcess
from bot.sandbox.windows.schedule import split
from bot.sandbox.world import World
from bot.windows.scripts import BOOTSTRAP

SERVICE_SECONDS = 300.0
_LINE = re.compile(r"(?P<verb>Stop-Service|Start-Service) -Name '(?P<service>[^']+)'|& (?P<call>.+)")
_QUOTED = re.compile(r"'([^']*)'|(\S+)")
_PREAMBLE = re.compile(r"\$\w+ *=.*|begin .*|end .*|If .*|exit .*|\s*", re.IGNORECASE)


def estate(world: World, octopus: OctopusServer, count: int, *, others: bool = False) -> Estate:
    """Build so many plain Tentacles, `bench-0001` and so on, and no `others`."""
    octopus.add_environment("Default", "Production")
    instances, records = {}, {}
    for number in range(1, count + 1):
        name = f"bench-{number:04}"
        instances[name] = world.add_host(name).add_tentacle()
        records[name] = [octopus.add_record(name, instances[name], environments=["Production"], roles=["bench"])]
    octopus.check(*(r for found in records.values() for r in found))
    return Estate(instances, records, {})


def start(host: Host, command: str, arguments: Sequence[str]) -> RemoteProcess:
    """Start a program: octocert's bootstrap, or PowerShell lines as the peers send them."""
    text = _script(" ".join((command, *arguments)))
    if text is None or text == BOOTSTRAP:
        return powershell.start(host, command, arguments)
    return Lines(host, text)


def _script(line: str) -> str | None:
    found = re.search(r"(?i)-e(?:nc|ncodedcommand)? +([A-Za-z0-9+/=]{8,})", line)
    if found is None:
        return None
    try:
        return base64.b64decode(found[1], validate=True).decode("utf-16-le")
    except (binascii.Error, UnicodeDecodeError):
        return None


class Lines:
    """A process that does `Stop-Service`, `Start-Service` and `& 'program' arguments`, one line after the other."""

    def __init__(self, host: Host, text: str) -> None:
        self._host = host
        self._text = text
        self._news = threading.Condition()
        self._printed = Printed(host, lambda: None)
        self._exit_code: int | None = None
        threading.Thread(target=self._work, name=f"lines-{host.name}", daemon=True).start()

    def write(self, data: bytes, end: bool) -> None:
        """Ignore standard input."""

    def read(self, timeout: float) -> Output:
        """Return what was printed, at once if there is something, else within so many seconds."""
        with self._news:
            self._news.wait_for(lambda: self._printed.stdout or self._exit_code is not None, timeout)
            return self._printed.take(self._exit_code)

    def hang_up(self) -> None:
        """Do nothing: it prints no more than fits."""

    def kill(self) -> None:
        """Do nothing: it ends by itself."""

    def _work(self) -> None:
        code = 1
        try:
            code = self._run()
        finally:
            with self._news:
                self._exit_code = code
                self._news.notify_all()

    def _run(self) -> int:
        for line in self._text.splitlines():
            found = _LINE.fullmatch(line.strip())
            if found is None:
                if _PREAMBLE.fullmatch(line) is None:
                    return self._print(f"not a line that the benchmark's hosts know: {line[:80]}\r\n", 1)
                continue
            if found["call"]:
                words = [a or b for a, b in _QUOTED.findall(found["call"])]
                result = self._host.run_program(split(" ".join(f'"{w}"' if " " in w else w for w in words)))
                self._print(result.stdout, 0)
                if result.exit_code:
                    return self._print(result.stderr, result.exit_code)
            elif not self._switch(found["service"], is_start=found["verb"] == "Start-Service"):
                return self._print(f"{found['verb']} failed\r\n", 1)
        return 0

    def _switch(self, name: str, *, is_start: bool) -> bool:
        service = self._host.services[name]
        (service.start if is_start else service.stop)()
        return service.wait_for(ServiceState.RUNNING if is_start else ServiceState.STOPPED, SERVICE_SECONDS)

    def _print(self, text: str, code: int) -> int:
        with self._news:
            self._printed.add(text.encode())
            self._news.notify_all()
        return code

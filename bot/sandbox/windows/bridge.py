"""The bridge between programs of this machine and a world: stand-ins for Windows' cmdlets, and the `.exe` shims.

One loopback socket per world. A request is one line of JSON, `{"token", "op", "arguments"}`; the answer is one line,
`{"value": …}` or `{"error": message}`. The token names the visit on whose behalf it is asked, and so the host.
"""

import json
import secrets
import socket
import sys
import threading
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from bot.domain.facts import ServiceState
from bot.sandbox.windows.server_instance import exe_of
from bot.sandbox.windows.service import ServiceError

if TYPE_CHECKING:
    from bot.sandbox.windows.host import Host
    from bot.sandbox.world import World

VARIABLE = "OCTOCERT_BRIDGE"
"""Environment variable of a visit: `address port token`."""

_WMI_STATES = {
    ServiceState.START_PENDING: "Start Pending",
    ServiceState.STOP_PENDING: "Stop Pending",
}


class HostView:
    """A host as scripts ask for it: what Windows answers, as JSON. Twins use it directly, stand-ins over the bridge."""

    def __init__(self, host: "Host") -> None:
        self.host = host

    def computer(self) -> dict[str, Any]:
        """Return what Win32_OperatingSystem tells, and whether the account is elevated."""
        return {"Caption": self.host.profile.os, "Elevated": self.host.profile.elevated}

    def registry(self, key: str) -> dict[str, str] | None:
        """Return the values of a registry key; None where there is none."""
        wanted = key.rpartition(":")[2].strip("\\").lower()
        if wanted == r"software\octopus\tentacle":
            return {"InstallLocation": f"{self.host.tentacle_exe.parent}"}
        if wanted == r"software\octopus\octopusserver" and self.host.servers:
            return {"InstallLocation": f"{exe_of(self.host).parent}"}
        return None

    def service(self, name: str) -> dict[str, Any] | None:
        """Return a service as Win32_Service has it; None where there is none."""
        with self.host.world.lock:
            service = self.host.services.get(name)
            if service is None:
                return None
            state = service.state
            process = service.process
            return {
                "Name": service.name,
                "State": _WMI_STATES.get(state, state.value),
                "ProcessId": process.pid if process else 0,
                "StartMode": service.start_mode,
                "StartName": service.account,
            }

    def start_service(self, name: str) -> None:
        """Begin to start a service; ServiceError as the service manager says it."""
        self.host.services[name].start()

    def stop_service(self, name: str) -> None:
        """Begin to stop a service; ServiceError as the service manager says it."""
        self.host.services[name].stop()

    def process(self, pid: int) -> dict[str, Any] | None:
        """Return a service's process as Win32_Process has it; None where there is none of that id."""
        with self.host.world.lock:
            for service in self.host.services.values():
                if service.process is not None and service.process.pid == pid:
                    started = format_time(service.process.started)
                    name = "Tentacle.exe" if "Tentacle" in service.name else "Octopus.Server.exe"
                    return {"ProcessId": pid, "Name": name, "CreationDate": started}
        return None

    def children(self, pid: int) -> list[dict[str, Any]]:
        """Return the child processes of a process; a console host is always among those of a running program."""
        names = self.host.children_of(pid)
        return [{"ProcessId": 0, "Name": name} for name in ([*names, "conhost.exe"] if names else [])]

    def now(self) -> str:
        """Return the time of the host's own clock, as ISO 8601 in UTC."""
        return format_time(self.host.now())

    def seconds(self) -> float:
        """Return monotonic seconds of the world."""
        return self.host.world.clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait, in the pace of the world."""
        self.host.world.clock.sleep(seconds * min(1.0, max(self.host.world.pace, 0.02)))

    def protect(self, path: str) -> None:
        """Make a folder that only SYSTEM and Administrators may open, if the host lets us."""
        Path(path).mkdir(mode=0o755 if self.host.faults.folder_unprotectable else 0o700)

    def is_protected(self, path: str) -> bool:
        """Return whether only SYSTEM and Administrators may open a folder."""
        return not Path(path).is_symlink() and self.host.protected(Path(path))

    def loopback(self, listen: str | None) -> str:
        """Return the address under which a program on the host reaches one that listens there."""
        return self.host.loopback if listen in {None, "", "any", "0.0.0.0", "::"} else str(listen)

    def mutex(self, name: str) -> str:
        """Return the name of a mutex of this host among those of this machine."""
        return f"{name}-{self.host.address}"

    def run(self, argv: list[str], environment: dict[str, str], folder: str) -> dict[str, Any]:
        """Run a program of the host."""
        result = self.host.run_program(argv, environment=environment, folder=Path(folder))
        return {"code": result.exit_code, "out": result.stdout, "err": result.stderr}


class Visitor(Protocol):
    """Who may ask over the bridge: one running script."""

    @property
    def host(self) -> "Host":
        """The host on which it runs."""
        ...

    def catch_up(self) -> bool:
        """Look at what the script has printed so far; False when it is dead and may do nothing more."""
        ...


class Bridge:
    """The loopback socket of one world."""

    def __init__(self) -> None:
        self._visitors: dict[str, Visitor] = {}
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._acceptor = threading.Thread(target=self._accept, name="sandbox-bridge", daemon=True)
        self._acceptor.start()

    def admit(self, visitor: Visitor) -> tuple[str, str]:
        """Let a script ask; return the variable's value for its environment and its token."""
        token = secrets.token_hex(8)
        with self._lock:
            self._visitors[token] = visitor
        address, port = self._listener.getsockname()[:2]
        return f"{address} {port} {token}", token

    def dismiss(self, token: str) -> None:
        """Answer a script no more."""
        with self._lock:
            self._visitors.pop(token, None)

    def close(self) -> None:
        """Close the socket and all connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            threads = list(self._threads)
        for thread in threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), name="sandbox-bridge-call", daemon=True)
            with self._lock:
                self._connections.add(connection)
                self._threads = [t for t in self._threads if t.is_alive()]
                self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError), connection.makefile("rwb") as stream:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for line in stream:
                answer = self._answer(json.loads(line))
                if answer is None:
                    break
                stream.write(json.dumps(answer).encode("ascii") + b"\n")
                stream.flush()
        with self._lock:
            self._connections.discard(connection)

    def _answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Answer one request; None, which closes the connection, for a script that is dead."""
        with self._lock:
            visitor = self._visitors.get(request["token"])
        # What the script printed before it asked comes first: it may be the line at which it is to die.
        if visitor is None or not visitor.catch_up():
            return None
        try:
            return {"value": getattr(HostView(visitor.host), request["op"])(*request["arguments"])}
        except (ServiceError, OSError, KeyError) as error:
            return {"error": str(error)}


_bridges: "WeakKeyDictionary[World, Bridge]" = WeakKeyDictionary()
_bridges_lock = threading.Lock()


def bridge_of(world: "World") -> Bridge:
    """Return the world's bridge, opened at the first call and closed with the world."""
    with _bridges_lock:
        bridge = _bridges.get(world)
        if bridge is None:
            bridge = _bridges[world] = Bridge()
            world.on_close(bridge.close)
        return bridge


def format_time(time: datetime) -> str:
    """Return a time as the scripts write it: UTC, with milliseconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"


_SHIM = """\
#!/bin/sh
# A program of a sandbox host. The world answers for it: this file only passes the call on.
"exec" "{python}" "-IS" "$0" "$@"
import json, os, socket, sys
address, port, token = os.environ.get("{variable}", "127.0.0.1 0 -").split(" ")
request = dict(token=token, op="run", arguments=[sys.argv, dict(os.environ), os.getcwd()])
try:
    with socket.create_connection((address, int(port))) as connection, connection.makefile("rwb") as stream:
        stream.write(json.dumps(request).encode("ascii") + b"\\n")
        stream.flush()
        answer = json.loads(stream.readline())
except (OSError, ValueError):
    sys.exit("this program runs only in a visit to its sandbox host")
value = answer.get("value") or dict(code=1, out="", err=answer.get("error", ""))
sys.stdout.buffer.write(value["out"].encode("utf-8"))
sys.stderr.buffer.write(value["err"].encode("utf-8"))
sys.exit(value["code"])
"""


def shim_text() -> str:
    """Return the text of an executable file that stands for Tentacle.exe, sc.exe or schtasks.exe."""
    return _SHIM.format(python=sys.executable, variable=VARIABLE)

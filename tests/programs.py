"""Programs that a test writes, run by the sandbox's WinRM in the place of PowerShell, and clients that reach them."""

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest

from bot.clock import Clock, SystemClock
from bot.sandbox.windows.host import Host
from bot.sandbox.windows.powershell import Output, Printed
from bot.sandbox.windows.wsman import WinRmServer
from bot.sandbox.world import World
from bot.secrets import Secret
from bot.windows.errors import RemoteError, RemoteErrorKind
from bot.windows.transport import Endpoint, Transport
from bot.windows.visit import Line, Visits

SECONDS = 10.0
"""How long the end of a program is waited for."""


class Program:
    """A process whose story the test tells. Behind the same interface as the real PowerShell's process."""

    def __init__(self, host: Host, command: str, arguments: Sequence[str]) -> None:
        self.host = host
        self.line = [command, *arguments]
        self.stdin = b""
        self.at_write: Callable[[], None] = lambda: None
        """What happens when standard input comes."""
        self.is_deaf = False
        """Whether what comes on standard input never arrives."""
        self.killed = threading.Event()
        self._ended = threading.Event()
        self._news = threading.Condition()
        self._printed = Printed(host, self.killed.set)
        self._exit_code: int | None = None

    def write(self, data: bytes, end: bool) -> None:
        """Take standard input."""
        self.at_write()
        if not self.is_deaf:
            self.stdin += data
            if end:
                self._ended.set()

    def read(self, timeout: float) -> Output:
        """Return what was printed."""
        with self._news:
            self._news.wait_for(lambda: self._printed.stdout or self._printed.stderr or self.is_over, timeout)
            return self._printed.take(1 if self.killed.is_set() else self._exit_code)

    def kill(self) -> None:
        """End at once."""
        self.killed.set()
        with self._news:
            self._news.notify_all()

    @property
    def is_over(self) -> bool:
        """Whether it has ended or was ended."""
        return self._exit_code is not None or self.killed.is_set()

    def input(self) -> list[bytes]:
        """Wait for the end of standard input and return its lines; none when it was ended before."""
        while not self._ended.wait(0.05):
            if self.killed.is_set():
                return []
        return self.stdin.splitlines()

    def say(self, kind: str, value: Any = None) -> None:
        """Print a line as our scripts do."""
        self.print(json.dumps({"kind": kind, "value": value}).encode() + b"\r\n")

    def print(self, data: bytes, *, on_error: bool = False) -> None:
        """Print anything."""
        with self._news:
            if on_error:
                self._printed.stderr += data
            else:
                self._printed.add(data)
            self._news.notify_all()

    def finish(self) -> None:
        """End as a script does that succeeded."""
        self.say("done", value=True)
        self.exit()

    def exit(self, code: int = 0) -> None:
        """End by itself."""
        with self._news:
            self._exit_code = code
            self._news.notify_all()


Story = Callable[[Program], None]


def idle(program: Program) -> None:
    """Do nothing, for ever."""


def obedient(*lines: tuple[str, Any]) -> Story:
    """Return the story of a script that reads its input, says these lines and `done`."""

    def story(program: Program) -> None:
        program.input()
        program.say("hello", {"version": "5.1", "language": "FullLanguage"})
        for kind, value in lines:
            program.say(kind, value)
        program.finish()

    return story


class Stage:
    """One world with one host, whose WinRM runs stories."""

    def __init__(self, root: Path, clock: Clock | None = None) -> None:
        self.world = World(root, pace=0.02, powershell=None)
        self.host = self.world.add_host("web-01")
        self.story: Story = obedient()
        self.prepare: Story = idle
        """What is done to a program before its Command is answered."""
        self.programs: list[Program] = []
        self._threads: list[threading.Thread] = []
        self.server = WinRmServer(self.world, start=self._start)
        self.server.start()
        self.clock = clock or SystemClock()
        self.visits = Visits(Transport(self.clock, read_margin=1.0, grace=1.0, hello=1.0))

    def _start(self, host: Host, command: str, arguments: Sequence[str]) -> Program:
        program = Program(host, command, arguments)
        self.programs.append(program)
        self.prepare(program)
        thread = threading.Thread(target=self.story, args=(program,), daemon=True)
        self._threads.append(thread)
        thread.start()
        return program

    def close(self) -> None:
        """End everything."""
        self.world.close()
        for program in self.programs:
            program.kill()
        for thread in self._threads:
            thread.join(SECONDS)

    def endpoint(self, scheme: str = "https", **changes: Any) -> Endpoint:
        """Return how the host is reached, by NTLM unless said otherwise."""
        user, password = self.world.account
        plain: dict[str, Any] = {
            "url": f"{scheme}://{self.host.address}:{5986 if scheme == 'https' else 5985}/wsman",
            "transport": "ntlm",
            "username": user,
            "password": lambda: Secret(password),
            "ca_file": self.world.ca.file,
        }
        return Endpoint(**{**plain, **changes})

    def visit(
        self,
        scheme: str = "https",
        *,
        deadline: float = 10.0,
        on_line: Callable[[Line], None] | None = None,
        script: Any = "inspect",
        parameters: dict[str, Any] | None = None,
        **changes: Any,
    ) -> list[str]:
        """Visit the host; return the kinds of the lines."""
        lines = self.visits.visit(
            self.endpoint(scheme, **changes), script, parameters or {}, deadline_seconds=deadline, on_line=on_line
        )
        return [line.kind for line in lines]

    @property
    def operations(self) -> dict[str, int]:
        """How often the host was asked for what."""
        return dict(self.server.operations["web-01"])

    @property
    def open_shells(self) -> int:
        """How many shells are open on the host."""
        return self.server.shells["web-01"].count


@contextmanager
def stage(root: Path, clock: Clock | None = None) -> Iterator[Stage]:
    """Build a stage and take it down."""
    built = Stage(root, clock)
    try:
        yield built
    finally:
        built.close()


class Restless(SystemClock):
    """A clock that does not wait, but has something happen at each pause."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.then: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        """Note the pause."""
        self.pauses.append(seconds)
        self.then()


CANARY = "Canary-4711-Password"
"""A secret that must show nowhere."""


def failure(play: Stage, scheme: str = "https", **changes) -> RemoteError:
    """Visit the host in vain; return the error, which names the host and holds no secret."""
    with pytest.raises(RemoteError) as caught:
        play.visit(scheme, **changes)
    error = caught.value
    assert error.host in str(error)
    chain, seen = [error], []
    while chain:
        one = chain.pop()
        seen.append(one)
        chain += [e for e in (one.__cause__, one.__context__) if e is not None and e not in seen]
    assert not any(CANARY in repr(e) + str(e) for e in seen)
    return error


def assert_fails(error: RemoteError, kind: RemoteErrorKind, *words: str) -> None:
    """Assert kind and advice."""
    assert error.kind is kind, error
    for word in words:
        assert word in str(error), error


class Odd:
    """A server that sends the same bytes as an answer to every request; None: it never answers."""

    def __init__(self, world: World, answer: bytes | None, *, name: str = "127.0.0.1", tls: bool = True) -> None:
        self.bodies: list[bytes] = []
        """What it was sent."""
        self.answer = answer
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        if self._context:
            self._context.load_cert_chain(*world.ca.issue_files(f"odd-{name}", addresses=[name]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}/wsman"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *details: object) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(SECONDS)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                thread = threading.Thread(target=self._talk, args=(plain,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _talk(self, plain: socket.socket) -> None:
        with plain:
            plain.settimeout(SECONDS)
            try:
                link = self._context.wrap_socket(plain, server_side=True) if self._context else plain
            except OSError:
                return
            with link, suppress(OSError):
                while self._read(link):
                    if self.answer is None:
                        self._over.wait(SECONDS)
                        return
                    link.sendall(self.answer)

    def _read(self, link: socket.socket) -> bool:
        """Read one request; False when there is none any more."""
        request = message(link)
        if request:
            self.bodies.append(request.partition(b"\r\n\r\n")[2])
        return bool(request)


BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 11\r\n\r\n<p>Sorry<p>"


class Relay:
    """Something on the way to a host that passes HTTP on and cuts once: at a request or at an answer, by its number.

    `place`: `request` (the host never sees it), `answer` (the client never sees it), `after` (the answer still gets
    through, then the connection is gone), `odd` (the client sees a proxy's error instead, and nothing is cut).
    """

    def __init__(self, address: str, port: int, *, place: str, number: int) -> None:
        self._target = (address, port)
        self._place = place
        self._number = number
        self._count = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/wsman"

    @property
    def has_cut(self) -> bool:
        """Whether the visit was long enough to be cut."""
        return self._count >= self._number

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *details: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(SECONDS)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._pass, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as host, suppress(OSError):
            client.settimeout(SECONDS)
            host.settimeout(SECONDS)
            while request := message(client):
                self._count += 1
                place = self._place if self._count == self._number else ""
                if place == "request":
                    return
                host.sendall(request)
                answer = message(host)
                if place == "answer":
                    return
                client.sendall(BAD_GATEWAY if place == "odd" else answer)
                if place == "after":
                    return


def message(link: socket.socket) -> bytes:
    """Read one HTTP message with its body; nothing when there is none any more."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = link.recv(65_536)
        if not piece:
            return b""
        head += piece
    head, _, body = head.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    while length and len(body) < int(length[1]):
        body += link.recv(65_536)
    return head + b"\r\n\r\n" + body

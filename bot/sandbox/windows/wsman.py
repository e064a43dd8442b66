"""WinRM of the sandbox's hosts: WS-Management over http, sealed by NTLM, and over https with NTLM or Basic.

One event loop serves all hosts; what may block (scripts, waiting for output) runs on threads. Held to pypsrp, a client
that nobody here wrote.
"""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

import h11

from bot.sandbox.windows import ntlm, soap
from bot.sandbox.windows.host import Host
from bot.sandbox.windows.shells import Shells
from bot.sandbox.world import World

T = TypeVar("T")

HTTP_PORT, HTTPS_PORT = 5985, 5986
MAX_ENVELOPE = 512_000
"""MaxEnvelopeSizekb's default, in bytes."""
WORKERS = 128
"""Scripts and long polls at once."""


class WinRmServer:
    """WinRM on every host of a world, hosts that are added later included after the next `serve`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._servers: dict[str, list[asyncio.Server]] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="winrm")
        self.shells: dict[str, Shells] = {}
        """The open shells, by the host's name."""
        self.requests: Counter[str] = Counter()
        """How many HTTP requests each host has answered, by its name."""

    def start(self) -> None:
        """Listen on all hosts."""
        user, password = self._world.account
        ntlm.publish(self._world.root, user, password)
        self.serve()

    def serve(self) -> None:
        """Listen on hosts that were added meanwhile, too."""
        for host in list(self._world.hosts.values()):
            if host.name not in self._servers:
                self.shells[host.name] = Shells(host)
                identity = self._world.ca.issue(host.name, addresses=[host.address])
                cert, key = self._world.root / f"winrm-{host.name}.pem", self._world.root / f"winrm-{host.name}.key"
                cert.write_bytes(identity.pem)
                key.write_bytes(identity.key_pem)
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(cert, key)
                self._servers[host.name] = self._world.loop.run(self._listen(host, context, identity.der))

    def close(self) -> None:
        """Stop listening, cut what is connected, end what runs."""
        self._world.loop.run(self._end())
        self._workers.shutdown(wait=False, cancel_futures=True)

    async def _listen(self, host: Host, context: ssl.SSLContext, der: bytes) -> list[asyncio.Server]:
        async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._connected(_Connection(self, host, reader, writer, None))

        async def tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._connected(_Connection(self, host, reader, writer, der))

        return [
            await asyncio.start_server(plain, sock=_socket(host.address, HTTP_PORT)),
            await asyncio.start_server(tls, sock=_socket(host.address, HTTPS_PORT), ssl=context),
        ]

    async def _connected(self, connection: "_Connection") -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(asyncio.CancelledError):  # the world ends; asyncio would log it as an error
                await connection.serve()
        finally:
            self._connections.discard(task)

    async def _end(self) -> None:
        for servers in self._servers.values():
            for server in servers:
                server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def blocking(self, work: Callable[[], T]) -> T:
        """Run something that may block on a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, work)


class _Connection:
    """One TCP connection, hence one login."""

    def __init__(
        self,
        server: WinRmServer,
        host: Host,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        der: bytes | None,
    ) -> None:
        self._server = server
        self._host = host
        self._reader = reader
        self._writer = writer
        self._is_tls = der is not None
        channel = ntlm.bindings(der) if der else None
        self._login = ntlm.Login(host.accounts, channel, refused=host.faults.wrong_password)
        self._http = h11.Connection(h11.SERVER)

    async def serve(self) -> None:
        """Answer requests until either side goes away."""
        try:
            while not self._host.faults.unreachable:
                request, body = await self._request()
                if request is None:
                    return
                self._server.requests[self._host.name] += 1
                if self._host.faults.unreachable or not await self._answer(request, body):
                    self._writer.transport.abort()
                    return
                if self._http.our_state is not h11.DONE:
                    return
                self._http.start_next_cycle()
            self._writer.transport.abort()
        except (ConnectionError, h11.RemoteProtocolError, ssl.SSLError, TimeoutError):
            return
        finally:
            self._writer.close()
            with suppress(ConnectionError, ssl.SSLError, TimeoutError):
                await self._writer.wait_closed()

    async def _request(self) -> tuple[h11.Request | None, bytes]:
        request: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = await self._reader.read(65_536)
                if not data and request is None and self._http.their_state is h11.IDLE:
                    return None, b""
                self._http.receive_data(data)
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return request, bytes(body)
            else:
                return None, b""

    async def _answer(self, request: h11.Request, body: bytes) -> bool:
        """Answer one request; False when the connection is to be cut instead."""
        headers = {k.decode().casefold(): v.decode("latin-1") for k, v in request.headers}
        authorization = headers.get("authorization", "")
        if authorization:
            challenges = self._login.step(authorization)
            if challenges:
                await self._reply(401, b"", challenges=challenges)
                return True
        elif not self._login.is_complete:
            await self._reply(401, b"", challenges=self._login.challenges)
            return True
        if not body:
            await self._reply(200, b"")
            return True
        sealed = "encrypted" in headers.get("content-type", "")
        if not sealed and not self._is_tls:
            await self._reply(500, b"")  # AllowUnencrypted is false
            return True
        try:
            message = self._login.unseal(body) if sealed else body
        except ValueError:
            await self._reply(400, b"")
            return True
        status, soap_answer, cut = await self._obey(message)
        if cut:
            return False
        await self._reply(
            status,
            self._login.seal(soap_answer) if sealed else soap_answer,
            kind=ntlm.SEALED_TYPE if sealed else ntlm.SOAP_TYPE,
        )
        return True

    async def _obey(self, message: bytes) -> tuple[int, bytes, bool]:
        asked: soap.Asked | None = None
        try:
            if len(message) > MAX_ENVELOPE:
                raise soap.TOO_BIG
            asked = soap.read(message)
            body, cut = await self._server.blocking(partial(self._do, asked))
            return 200, soap.answer(asked, body), cut
        except soap.Fault as problem:
            return 500, soap.fault(problem, asked), False
        except soap.Malformed:
            return 400, b"", False

    def _do(self, asked: soap.Asked) -> tuple[str, bool]:
        shells = self._server.shells[self._host.name]
        match asked.action:
            case "Create":
                return shells.create(f"http://{self._host.address}:{HTTP_PORT}/wsman"), False
            case "Command":
                return shells.command(asked), False
            case "Send":
                return shells.send(asked), False
            case "Receive":
                received = shells.receive(asked)
                if self._host.faults.cut_receive > 0:
                    self._host.faults.cut_receive -= 1
                    return received.body, True
                return received.body, received.cut
            case "Signal":
                return shells.signal(asked), False
            case "Delete":
                return shells.delete(asked.shell), False
        raise soap.Malformed

    async def _reply(
        self, status: int, body: bytes, *, kind: str = ntlm.SOAP_TYPE, challenges: tuple[str, ...] = ()
    ) -> None:
        headers = [("Server", "Microsoft-HTTPAPI/2.0"), ("Content-Length", str(len(body)))]
        if body:
            headers.append(("Content-Type", kind))
        headers += [("WWW-Authenticate", c) for c in challenges]
        data = self._http.send(h11.Response(status_code=status, headers=headers, reason=_REASONS.get(status, b"")))
        if body:
            data = (data or b"") + (self._http.send(h11.Data(data=body)) or b"")
        data = (data or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        self._writer.write(data)
        await self._writer.drain()


_REASONS = {200: b"", 400: b"Bad Request", 401: b"Unauthorized", 500: b"Internal Server Error"}


def _socket(address: str, port: int) -> socket.socket:
    # named IPPROTO_TCP: only for such sockets asyncio switches Nagle's delay off
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.setblocking(False)  # noqa: FBT003  # the socket's own signature
    return made

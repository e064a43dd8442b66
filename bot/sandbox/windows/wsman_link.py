"""One TCP connection to a sandbox host's WinRM: its HTTP, its login, its requests one after the other."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import h11

from bot.sandbox.windows import ntlm, soap

if TYPE_CHECKING:
    from bot.sandbox.windows.wsman import Door

HTTP_PORT = 5985
HTTPS_PORT = 5986
_SEALING_BYTES = 1024
"""How much longer a request may be when it is sealed."""
_HANDSHAKE_SECONDS = 10.0
_CUT_SECONDS = 10.0
_IDLE_SECONDS = 120.0
"""http.sys closes a connection that was quiet for so long."""


class _Received(NamedTuple):
    """One HTTP request."""

    method: str
    target: str
    headers: dict[str, str]
    """By names in small letters."""
    body: bytes


class _Refused(Exception):  # noqa: N818  # an answer, not an error
    """A request that gets an HTTP status and nothing else."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Link(asyncio.Protocol):
    """One connection."""

    def __init__(self, door: "Door", *, is_tls: bool) -> None:
        self._door = door
        self._is_tls = is_tls
        self._http = h11.Connection(h11.SERVER)
        self._news = asyncio.Event()
        self._gone = threading.Event()
        self._transport: asyncio.Transport | None = None
        self._login = ntlm.Login(door.host.accounts, None)
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve; under TLS nothing is read before the handshake is set up."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._is_tls:
            transport.pause_reading()
        self._door.links.add(self)
        self.task = asyncio.get_running_loop().create_task(self._work())

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        with suppress(h11.RemoteProtocolError):  # seen again when the next event is asked for
            self._http.receive_data(data)
        self._news.set()

    def eof_received(self) -> bool:
        """Learn that the client says no more."""
        self._went()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Learn that the connection is gone."""
        self._went()

    def abort(self) -> None:
        """Cut the connection."""
        self._went()
        if self._transport:
            self._transport.abort()

    def _went(self) -> None:
        self._gone.set()
        self._news.set()

    async def _work(self) -> None:
        try:
            if self._is_tls:
                await self._shake_hands()
            while (request := await self._next()) is not None:
                await self._serve(request)
        except (OSError, ssl.SSLError, TimeoutError, h11.ProtocolError):
            self._gone.set()
        finally:
            self._door.links.discard(self)
            if self._transport:
                self._transport.close()

    async def _shake_hands(self) -> None:
        assert self._transport is not None
        context, channel = self._door.tls()
        transport = await asyncio.get_running_loop().start_tls(
            self._transport, self, context, server_side=True, ssl_handshake_timeout=_HANDSHAKE_SECONDS
        )
        if transport is None:
            raise ConnectionResetError
        self._transport = transport
        self._login = ntlm.Login(self._door.host.accounts, channel)

    async def _next(self) -> _Received | None:
        """Return the next request; None when there will be none."""
        head: h11.Request | None = None
        body = bytearray()
        while True:
            self._news.clear()
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._gone.is_set():
                    return None
                await asyncio.wait_for(self._news.wait(), _IDLE_SECONDS)
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > soap.MAX_ENVELOPE + _SEALING_BYTES:
                    self._door.requests[self._door.host.name] += 1
                    self._reply(413, close=True)
                    return None
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                headers = {name.decode().lower(): value.decode("latin-1") for name, value in head.headers}
                return _Received(head.method.decode(), head.target.decode(), headers, bytes(body))
            else:
                return None

    async def _serve(self, request: _Received) -> None:
        self._door.requests[self._door.host.name] += 1
        try:
            _look_at(request)
            challenge = self._log_in(request)
            if challenge is not None:
                await self._answer(request, [challenge] if challenge else [])
        except _Refused as refused:
            self._reply(refused.status)

    def _log_in(self, request: _Received) -> str | None:
        """Return what the answer's WWW-Authenticate header says; None when the answer was 401 already."""
        header = request.headers.get("authorization", "")
        if self._door.host.faults.no_ntlm and header.lower().startswith(("negotiate", "ntlm")):
            self._reply(401, challenges=["Negotiate"])
            return None
        if not header and self._login.user:
            return ""
        step = self._login.step(
            header,
            basic=self._is_tls,
            certificate=self._client_certificate(),
            refuse=self._door.host.faults.wrong_password,
        )
        if step.state is ntlm.State.ACCEPTED:
            return step.challenge
        if header and step.state is ntlm.State.REFUSED:
            self._door.operations["refused"] += 1
        offers = ["Negotiate", 'Basic realm="WSMAN"'] if self._is_tls else ["Negotiate"]
        self._reply(401, challenges=[step.challenge] if step.challenge else offers)
        return None

    def _client_certificate(self) -> str:
        """Return the common name in the client's verified certificate, if it showed one."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport else None
        subject = (tls.getpeercert() or {}).get("subject", ()) if tls else ()
        return next((value for part in subject for name, value in part if name == "commonName"), "")

    async def _answer(self, received: _Received, challenges: Sequence[str]) -> None:
        if not received.body:
            self._reply(200, challenges=challenges)  # the end of a login
            return
        is_sealed = received.headers.get("content-type", "").lower().startswith("multipart/encrypted")
        request = soap_request(self._open(received.body, is_sealed=is_sealed))
        status, body = await self._carry_out(request)
        faults = self._door.host.faults
        if request.action == "Receive" and status == 200 and faults.cut_receive > 0:
            faults.cut_receive -= 1
            self._door.cut()  # the answer is lost, and the output in it
        if not self._gone.is_set() and not faults.deaf:
            content_type = ntlm.SEALED_TYPE if is_sealed else ntlm.SOAP_TYPE
            self._reply(status, self._login.seal(body) if is_sealed else body, content_type, challenges)

    def _open(self, body: bytes, *, is_sealed: bool) -> bytes:
        """Return the SOAP in a request's body."""
        if not is_sealed and not self._is_tls:
            raise _Refused(500)  # AllowUnencrypted is false
        try:
            data = self._login.unseal(body) if is_sealed else body
        except ntlm.Unsealable:
            raise _Refused(400) from None
        if len(data) > soap.MAX_ENVELOPE:
            raise _Refused(413)
        return data

    async def _carry_out(self, request: soap.Request) -> tuple[int, bytes]:
        """Return HTTP status and envelope."""
        door = self._door
        door.operations[request.action] += 1
        try:
            return 200, soap.answer(request, await self._operation(request))
        except soap.Fault as fault:
            return 500, soap.fault_answer(request, fault, door.host.name)
        except soap.Malformed:
            raise _Refused(400) from None

    async def _operation(self, request: soap.Request) -> str:
        shells = self._door.shells
        if self._door.host.faults.busy and request.action in {"Create", "Command", "Send"}:
            raise soap.busy()
        if self._door.host.faults.denied and request.action == "Create":
            raise soap.denied()
        if self._door.host.faults.quota_operations and request.action == "Command":
            raise soap.operation_quota()
        match request.action:
            case "Create":
                scheme, port = ("https", HTTPS_PORT) if self._is_tls else ("http", HTTP_PORT)
                url = f"{scheme}://{self._door.host.address}:{port}/wsman"
                return shells.create(request, self._login.user, url, self._peer())
            case "Command":
                return await self._in_thread(lambda: shells.command(request))
            case "Send":
                return await self._in_thread(lambda: shells.send(request))
            case "Receive":
                cut = self._cutter()
                return await self._in_thread(lambda: shells.receive(request, self._gone.is_set, cut))
            case "Signal":
                return await self._in_thread(lambda: shells.signal(request))
            case "Delete":
                return await self._in_thread(lambda: shells.delete(request))
        raise soap.not_supported(request.action_uri)

    async def _in_thread(self, work: Callable[[], str]) -> str:
        """Run what may wait for a process on a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._door.workers, work)

    def _cutter(self) -> Callable[[], None]:
        """Return what cuts the host's connections from another thread, and waits until they are."""
        loop, door = asyncio.get_running_loop(), self._door

        def cut() -> None:
            done = threading.Event()
            loop.call_soon_threadsafe(door.cut)
            loop.call_soon_threadsafe(done.set)
            done.wait(_CUT_SECONDS)

        return cut

    def _peer(self) -> str:
        name = self._transport.get_extra_info("peername") if self._transport else None
        return str(name[0]) if name else "?"

    def _reply(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = ntlm.SOAP_TYPE,
        challenges: Sequence[str] = (),
        *,
        close: bool = False,
    ) -> None:
        headers = [("Server", "Microsoft-HTTPAPI/2.0"), ("Content-Length", str(len(body)))]
        headers += [("WWW-Authenticate", challenge) for challenge in challenges]
        if body:
            headers.append(("Content-Type", content_type))
        if close:
            headers.append(("Connection", "close"))
        http = self._http
        data = http.send(h11.Response(status_code=status, headers=headers)) or b""
        if body:
            data += http.send(h11.Data(data=body)) or b""
        data += http.send(h11.EndOfMessage()) or b""
        if self._transport and not self._transport.is_closing():
            self._transport.write(data)
        if http.our_state is h11.DONE and http.their_state is h11.DONE:
            http.start_next_cycle()


def soap_request(data: bytes) -> soap.Request:
    """Return the WS-Management request in a message; HTTP 400 if there is none."""
    try:
        return soap.parse(data)
    except soap.Malformed:
        raise _Refused(400) from None


def _look_at(request: _Received) -> None:
    """Refuse what is not for WS-Management."""
    if request.target.partition("?")[0].rstrip("/").lower() != "/wsman":
        raise _Refused(404)
    if request.method != "POST":
        raise _Refused(405)

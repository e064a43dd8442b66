"""The Server's communications port, 10943: polling Tentacles connect here and stay.

Those that poll over WebSocket do the same at another port, where the web server's certificate is served. The sandbox
leaves out the frame of HTTP around it.

Greeting of the sandbox (a simplification of Halibut's): the client says `MX` and an empty line, then
`MX-SUBSCRIBE poll://ID` (or Halibut's own `MX-SUBSCRIBER 1.0 poll://ID`) and an empty line; a client that is trusted is
answered `MX-SERVER 1.0` and an empty line, any other gets nothing and is cut. Its certificate is compared at this
moment only: a record that changes later does not touch a connection that lives (OctopusDeploy/Issues #3032).
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

from bot.domain.thumbprint import Thumbprint
from bot.sandbox.network import LoopThread, stop_listening
from bot.sandbox.octopus.documents import signature_algorithm
from bot.sandbox.octopus.store import same_subscription
from bot.sandbox.pki import Identity
from bot.sandbox.windows.listener import SERVER, TlsLink, tls_context

PORT = 10943
WEB_SOCKET_PORT = 8443
"""Where WebSockets are served; on a real Server often 443, shared with its portal."""
_SUBSCRIBE = re.compile(rb"MX-SUBSCRIBE(?:R 1\.0)? +(poll://\S+)\r\n\r\n")
_LIMIT = 8192
"""Bytes of a greeting; whoever says more is cut."""
_PAGE = (
    b"HTTP/1.0 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    b"<html><body><h1>Octopus Server configured successfully</h1></body></html>\r\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A Tentacle that wants to poll."""

    address: str
    subscription: str
    thumbprint: Thumbprint
    algorithm: str | None
    """`sha256RSA` or such: how its certificate is signed."""


class Comms:
    """The listener and the connections that live: at most one per subscription, the newest."""

    def __init__(
        self, loop: LoopThread, addresses: tuple[str, ...], authorize: Callable[[Caller], bool], *, port: int = PORT
    ) -> None:
        self.address = f"{addresses[0]}:{port}"
        self._loop = loop
        self._hosts = addresses
        self._port = port
        self._authorize = authorize
        self._server: asyncio.Server | None = None
        self._open: set[_Call] = set()
        self._polling: dict[str, _Call] = {}

    def start(self, identity: Identity) -> None:
        """Listen, serving this certificate; nothing happens if it does already."""
        if self._server is not None:
            return
        self._server = self._loop.run(self._listen(identity))

    def close(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is not None:
            self._loop.run(self._end(self._server))
            self._server = None

    def caller(self, subscription: str) -> Caller | None:
        """Return who polls for a subscription at this moment, None if nobody does."""
        call = self._polling.get(same_subscription(subscription))
        return call.caller if call else None

    @property
    def callers(self) -> list[Caller]:
        """Everybody who polls at this moment."""
        return [c.caller for c in list(self._polling.values()) if c.caller]

    def cut(self, subscription: str) -> None:
        """Cut the connection of a subscription, as a network would."""
        call = self._polling.get(same_subscription(subscription))
        if call is not None:
            self._loop.call(call.link.close)

    def admit(self, call: "_Call", caller: Caller) -> bool:
        """Decide about a caller; the connection that it had before is cut. On the loop's thread."""
        if not self._authorize(caller):
            return False
        key = same_subscription(caller.subscription)
        former = self._polling.get(key)
        self._polling[key] = call
        if former is not None and former is not call:
            former.link.close()
        return True

    def forget(self, call: "_Call") -> None:
        """Forget a connection that is gone. On the loop's thread."""
        self._open.discard(call)
        for key in [k for k, c in self._polling.items() if c is call]:
            del self._polling[key]

    async def _listen(self, identity: Identity) -> asyncio.Server:
        context = tls_context(identity)

        def accept() -> asyncio.Protocol:
            call = _Call(self)
            self._open.add(call)
            call.link = _Link(context, call, server=True, idle=None)
            return call.link

        return await asyncio.get_running_loop().create_server(accept, self._hosts, self._port)

    async def _end(self, server: asyncio.Server) -> None:
        await stop_listening(server)
        for _ in range(4):  # what is accepted even now gets its transport a moment later
            await asyncio.sleep(0)
            for call in list(self._open):
                call.link.close()
        await asyncio.sleep(0)


class _Link(TlsLink):
    """A TLS connection that also tells how the peer's certificate is signed."""

    @property
    def peer_algorithm(self) -> str | None:
        return signature_algorithm(self._tls.get_peer_certificate(as_cryptography=True))


class _Call:
    """What is said on one connection."""

    link: _Link

    def __init__(self, comms: Comms) -> None:
        self.caller: Caller | None = None
        self._comms = comms
        self._heard = b""

    def opened(self, link: TlsLink) -> None:
        """Wait for the greeting."""

    def received(self, link: TlsLink, data: bytes) -> None:
        """Listen until it is known who calls; what a Tentacle says while it polls does not matter here."""
        if self.caller is not None:
            return
        self._heard += data
        if not self._heard.startswith(b"MX"[: len(self._heard)]):
            link.send(_PAGE)
            link.close()
            return
        found = _SUBSCRIBE.search(self._heard)
        if found:
            self._decide(found[1].decode("ascii", "replace"))
        elif len(self._heard) > _LIMIT:
            link.close()

    def closed(self, link: TlsLink) -> None:
        """Be forgotten."""
        self._comms.forget(self)

    def _decide(self, subscription: str) -> None:
        thumbprint = self.link.peer
        if thumbprint is not None:
            caller = Caller(
                address=self.link.peer_address,
                subscription=subscription,
                thumbprint=thumbprint,
                algorithm=self.link.peer_algorithm,
            )
            if self._comms.admit(self, caller):
                self.caller = caller
                self.link.send(SERVER)
                return
        self.link.close()

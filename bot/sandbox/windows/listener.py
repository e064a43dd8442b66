"""TLS as Tentacle and Octopus Server speak it, and the listener of a Tentacle.

Python's own `ssl` cannot accept a client certificate without knowing its issuer; Halibut accepts any and looks at
its thumbprint afterwards. Hence pyOpenSSL, fed by asyncio through memory: one thread serves every listener of a world.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from bot.domain.thumbprint import Thumbprint
from bot.sandbox.network import LoopThread, stop_listening
from bot.sandbox.pki import Identity

_HANDSHAKE_SECONDS = 30.0
_IDLE_SECONDS = 60.0
_MINIMUM_BITS = 2048
"""RSA keys below make every handshake fail (seen with 1024; the platform's security level)."""
_CHUNK = 65536
GREETING = b"MX\r\n\r\n"
CLIENT = b"MX-CLIENT 1.0\r\n\r\n"
SERVER = b"MX-SERVER 1.0\r\n\r\n"
_PAGE = (
    b"HTTP/1.0 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    b"<html><body><h1>Octopus Tentacle configured successfully</h1></body></html>\r\n"
)


def tls_context(identity: Identity | None) -> SSL.Context:
    """Return a context for either side: TLS 1.2 and 1.3, any certificate of the peer, none demanded.

    Security level 0, so that certificates signed with SHA-1 can still be shown.
    """
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if identity is not None:
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.key)
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    return context


class Conversation(Protocol):
    """What is said on a connection; called on the loop's thread, so it must not wait."""

    def opened(self, link: "TlsLink") -> None:
        """Begin to talk: the handshake is done."""
        ...

    def received(self, link: "TlsLink", data: bytes) -> None:
        """Hear what the peer said."""
        ...

    def closed(self, link: "TlsLink") -> None:
        """Learn that the connection is gone, whether it was ever open or not."""
        ...


class TlsLink(asyncio.Protocol):
    """One TLS connection."""

    def __init__(
        self, context: SSL.Context, conversation: Conversation, *, server: bool, idle: float | None = _IDLE_SECONDS
    ) -> None:
        self._conversation = conversation
        self._server = server
        self._idle = idle
        self._open = self._closing = False
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tls = SSL.Connection(context, None)
        if server:
            self._tls.set_accept_state()
        else:
            self._tls.set_connect_state()

    @property
    def peer(self) -> Thumbprint | None:
        """Thumbprint of the peer's certificate, if it showed one."""
        certificate = self._tls.get_peer_certificate(as_cryptography=True)
        return Thumbprint.of(certificate.public_bytes(Encoding.DER)) if certificate else None

    @property
    def peer_subject(self) -> str:
        """Subject of the peer's certificate."""
        certificate = self._tls.get_peer_certificate(as_cryptography=True)
        return certificate.subject.rfc4514_string() if certificate else ""

    @property
    def peer_address(self) -> str:
        """The peer's `address:port`."""
        name = self._transport.get_extra_info("peername") if self._transport else None
        return f"{name[0]}:{name[1]}" if name else "?"

    def send(self, data: bytes) -> None:
        """Say something."""
        if self._open and not self._closing:
            self._tls.sendall(data)
            self._flush()

    def close(self) -> None:
        """Say goodbye and close."""
        if self._closing or self._transport is None:
            return
        self._closing = True
        if self._open:
            with suppress(SSL.Error):
                self._tls.shutdown()
            self._flush()
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._watch(_HANDSHAKE_SECONDS)
        self._advance()

    def data_received(self, data: bytes) -> None:
        """Take what came and go on."""
        self._tls.bio_write(data)
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the conversation."""
        self._closing = True
        if self._timer:
            self._timer.cancel()
        self._transport = None
        self._conversation.closed(self)

    def _advance(self) -> None:
        if self._closing:
            return
        try:
            if not self._open:
                self._tls.do_handshake()
                self._open = True
                self._flush()
                self._watch(self._idle)
                self._conversation.opened(self)
            while not self._closing:
                data = self._tls.recv(_CHUNK)
                self._watch(self._idle)
                self._conversation.received(self, data)
        except SSL.WantReadError:
            self._flush()
        except (SSL.Error, SSL.ZeroReturnError):
            self._flush()
            self.close()

    def _flush(self) -> None:
        while self._transport is not None and not self._transport.is_closing():
            try:
                self._transport.write(self._tls.bio_read(_CHUNK))
            except SSL.WantReadError:
                return

    def _watch(self, seconds: float | None) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.close)


class TlsListener:
    """A listening socket that serves one certificate until it is closed."""

    def __init__(
        self,
        loop: LoopThread,
        address: str,
        port: int,
        identity: Identity,
        conversation: Callable[[], Conversation],
        *,
        idle: float | None = _IDLE_SECONDS,
        refuses: Callable[[], bool] = lambda: False,
    ) -> None:
        """Bind and listen at once, OSError if the port is taken; connections made while `refuses` are dropped."""
        self._loop = loop
        self._links: set[TlsLink] = set()
        self._is_over = False
        self._context: SSL.Context | None = None  # made for the first connection: most of an estate is never asked
        self._weak = identity.bits < _MINIMUM_BITS
        self._refuses = refuses
        self._idle = idle
        self._conversation = conversation
        self.identity = identity
        self._socket = socket.socket()
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((address, port))
            self._socket.listen(128)
            self._socket.setblocking(False)  # noqa: FBT003  # the socket's own signature
        except OSError:
            self._socket.close()
            raise
        self.address, self.port = self._socket.getsockname()
        self._server = loop.run(self._serve())

    def close(self) -> None:
        """Listen no more and cut what is connected."""
        self._loop.run(self._end())

    async def _serve(self) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(self._accept, sock=self._socket)

    async def _end(self) -> None:
        self._is_over = True
        await stop_listening(self._server)
        await asyncio.sleep(0)  # what was accepted a moment ago gets its transport
        for link in tuple(self._links):
            link.close()
        for _ in range(3):  # what is accepted even now is made, dropped and closed
            await asyncio.sleep(0)

    def _accept(self) -> asyncio.Protocol:
        if self._is_over or self._weak or self._refuses():
            return _Dropped()
        self._context = self._context or tls_context(self.identity)
        link = _Tracked(self._context, self._conversation(), server=True, idle=self._idle)
        link.track(self._links)
        return link


class _Tracked(TlsLink):
    """A connection that its listener knows as long as it lives."""

    _links: set[TlsLink]

    def track(self, links: set[TlsLink]) -> None:
        self._links = links
        links.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._links.discard(self)
        super().connection_lost(exc)


class _Dropped(asyncio.Protocol):
    """A connection that is cut before anything is said."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


class Greeter:
    """What a listening Tentacle says: `MX-SERVER 1.0` to those it trusts, its page to browsers, nothing to others."""

    def __init__(self, trusted: Iterable[str], log: Callable[[str, str], None]) -> None:
        self._trusted = {t.upper() for t in trusted}
        self._log = log
        self._heard = b""
        self._known = False

    def opened(self, link: TlsLink) -> None:
        """Wait for the first line."""

    def received(self, link: TlsLink, data: bytes) -> None:
        """Answer the first line, then the greeting."""
        self._heard += data
        if b"\n" not in self._heard:
            return
        if not self._heard.startswith(b"MX"):
            link.send(_PAGE)
            link.close()
            return
        if not self._known and not self._authorize(link):
            link.close()
            return
        self._known = True
        if CLIENT.strip() in self._heard:
            self._heard = GREETING
            link.send(SERVER)

    def closed(self, link: TlsLink) -> None:
        """Forget it."""

    def _authorize(self, link: TlsLink) -> bool:
        peer = link.peer
        if peer in self._trusted:
            self._log("INFO", f"Client at {link.peer_address} authenticated as {peer}")
            return True
        client = f"A client at {link.peer_address}"
        if peer is None:
            self._log("INFO", f"{client} attempted a message exchange, but did not present a client certificate")
        else:
            self._log(
                "INFO",
                f"{client} presented a client certificate with the thumbprint '{peer}' which is not in the list of "
                "thumbprints that we trust",
            )
        return False

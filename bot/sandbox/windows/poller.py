"""The poll connection of a polling Tentacle.

It connects to the Server's port 10943, demands the certificate of its trust entry and presents its own. After the
greeting it says `MX-SUBSCRIBE poll://ID/`, which is a simplification of Halibut's subscriber handshake.
"""

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from bot.sandbox.network import LoopThread
from bot.sandbox.pki import Identity
from bot.sandbox.windows.configuration import TrustedServer
from bot.sandbox.windows.listener import GREETING, SERVER, TlsLink, tls_context

_FIRST_RETRY = 5.0
_LAST_RETRY = 120.0
"""Seconds between two tries, doubled from the first to the last (Halibut: RetryPolicy.cs); scaled by the pace."""
_CONNECT_SECONDS = 10.0
SUBSCRIBE = b"MX-SUBSCRIBE "


class Poller:
    """One poll connection, tried again and again until it is closed."""

    def __init__(
        self,
        loop: LoopThread,
        entry: TrustedServer,
        identity: Identity,
        *,
        pace: float,
        log: Callable[[str, str], None],
    ) -> None:
        self.entry = entry
        self.connected = False
        """Whether the Server has accepted the subscription."""
        self._loop = loop
        self._context = tls_context(identity)
        self._scale = min(1.0, pace)
        self._log = log
        self._heard = b""
        self._over: asyncio.Event | None = None
        self._task = loop.run(self._begin())

    def close(self) -> None:
        """Disconnect and try no more."""
        self._loop.run(self._end())

    async def _begin(self) -> asyncio.Task[None]:
        return asyncio.create_task(self._poll())

    async def _end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _poll(self) -> None:
        failures = 0
        while True:
            if await self._connection():
                failures = 0
            await asyncio.sleep(min(_FIRST_RETRY * 2**failures, _LAST_RETRY) * self._scale)
            failures += 1

    async def _connection(self) -> bool:
        """Hold one connection until it is lost; return whether it was accepted at all."""
        self._heard, self._over, accepted = b"", asyncio.Event(), False
        link = TlsLink(self._context, self, server=False, idle=None)
        try:
            target = urlsplit(self.entry.address or "")
            async with asyncio.timeout(_CONNECT_SECONDS):
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: link, target.hostname or "", target.port or 10943)
        except (OSError, TimeoutError, ValueError) as error:
            self._log("ERROR", f"{self.entry.address}: {error}; will retry")
            return False
        try:
            await self._over.wait()
            accepted = self.connected
        finally:
            self.connected = False
            link.close()
        return accepted

    def opened(self, link: TlsLink) -> None:
        """Compare the Server's certificate with the entry, by every letter, then subscribe."""
        if link.peer != self.entry.thumbprint:
            self._log(
                "ERROR",
                f"The server at {self.entry.address} presented an unexpected security certificate. We expected the "
                f"server to present a certificate with the thumbprint '{self.entry.thumbprint}'. Instead, it presented "
                f"a certificate with a thumbprint of '{link.peer}' and subject '{link.peer_subject}'.",
            )
            link.close()
            return
        link.send(GREETING + SUBSCRIBE + (self.entry.subscription or "").encode() + b"\r\n\r\n")

    def received(self, link: TlsLink, data: bytes) -> None:
        """Take the Server's greeting as its acceptance."""
        self._heard += data
        if not self.connected and SERVER.strip() in self._heard:
            self.connected = True
            self._log("INFO", f"Polling {self.entry.address} as {self.entry.subscription}")
        if self.connected:
            self._heard = b""

    def closed(self, link: TlsLink) -> None:
        """Have the next try begin."""
        if self._over is not None:
            self._over.set()

"""Sockets of the sandbox: none is lost when a listener closes."""

import asyncio
import socket

from bot.sandbox.network import LoopThread, stop_listening


class _Told(asyncio.Protocol):
    """A connection that is closed as soon as it is there."""

    def __init__(self, made: list[asyncio.BaseTransport]) -> None:
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made.append(transport)
        transport.close()


def test_a_connection_accepted_while_its_listener_closes_is_not_lost() -> None:
    """`Server.close()` alone leaves its socket open, and nobody knows it."""
    made: list[asyncio.BaseTransport] = []

    async def story() -> bytes:
        server = await asyncio.get_running_loop().create_server(lambda: _Told(made), "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()[:2]) as client:
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # the loop has accepted, and gives the connection a transport after this coroutine
            await stop_listening(server)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            client.settimeout(5)
            return client.recv(1)

    thread = LoopThread("story")  # a browser's driver has a loop on this one
    try:
        assert thread.run(story()) == b"", "the connection is closed"
    finally:
        thread.close()
    assert len(made) == 1

"""Addresses of a sandbox: each world has a part of 127.0.0.0/8 of its own, so that worlds never meet."""

import asyncio
import os
import resource
import socket
import threading
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, TypeVar

Result = TypeVar("Result")

_LOCK_PORT = 6553
"""A world holds 127.a.0.1 at this port, below the ephemeral ports, as long as it lives."""
_LOOP_SECONDS = 30.0
"""How long a thread waits for the loop at most."""


class Subnet:
    """A /16 of the loopback network, held by this world alone; other processes see that it is taken."""

    def __init__(self) -> None:
        self._socket, self.prefix = _claim()
        self._numbers = count(1)
        self._lock = threading.Lock()

    def next(self) -> str:
        """Return the next address that nobody has, `127.a.b.c`; about 64000 of them."""
        with self._lock:
            third, fourth = divmod(next(self._numbers), 254)
        if third > 254:
            raise OSError(f"{self.prefix}.0.0/16 has no address left")
        return f"{self.prefix}.{third + 1}.{fourth + 1}"

    def close(self) -> None:
        """Give the range back."""
        self._socket.close()


def raise_file_limit() -> None:
    """Allow this process as many open sockets as its hard limit does: an estate listens on several per host."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _claim() -> tuple[socket.socket, str]:
    """Bind the lock of the first free /16, starting at one that depends on the process."""
    start = os.getpid() % 250
    for number in range(250):
        prefix = f"127.{(start + number) % 250 + 2}"
        lock = socket.socket()
        try:
            lock.bind((f"{prefix}.0.1", _LOCK_PORT))
            lock.listen(1)
        except OSError:
            lock.close()
        else:
            return lock, prefix
    raise OSError("no /16 of 127.0.0.0/8 is free: 250 sandboxes run already")


class LoopThread:
    """One event loop on a thread of its own: every listener and every poller of a world lives on it."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine on the loop and return its result, from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_LOOP_SECONDS)

    def call(self, action: Callable[[], object]) -> None:
        """Have something called on the loop soon, without waiting."""
        self.loop.call_soon_threadsafe(action)

    def close(self) -> None:
        """End all tasks, the loop and its thread."""
        self.run(_cancel_others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def _work(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


async def stop_listening(server: asyncio.Server) -> None:
    """Listen no more; what was accepted already gets its transport, and the protocol's `connection_made` is called.

    `Server.close()` alone loses a connection accepted in the same turn of the loop: its transport finds the server
    closed, raises before it is known to anybody, and its socket stays open (CPython 3.11, `Server._attach`).
    """
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    await asyncio.sleep(0)
    server.close()


async def _cancel_others() -> None:
    """Cancel every task of the loop but this one, and let transports close."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()
    await asyncio.sleep(0)

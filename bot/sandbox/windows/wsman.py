"""WinRM of the sandbox's hosts: WS-Management over HTTP on port 5985 (sealed) and over HTTPS on port 5986.

One listener per host and port, all on the world's network thread. HTTP is h11's, logins and sealing are pyspnego's,
what programs do is `powershell.start`'s. It refuses what a hardened host refuses: unsealed messages over HTTP, NTLM
without channel bindings over HTTPS, Basic over HTTP.
"""

import asyncio
import ssl
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from spnego.channel_bindings import GssChannelBindings

from bot.sandbox.network import stop_listening
from bot.sandbox.windows import ntlm, powershell
from bot.sandbox.windows.host import Host
from bot.sandbox.windows.shells import Shells, Start
from bot.sandbox.windows.wsman_link import HTTP_PORT, HTTPS_PORT, Link
from bot.sandbox.world import World

_LOOK_SECONDS = 0.05
"""How often hosts that were added, or became unreachable or reachable, are looked for."""
_REAP_LOOKS = 20
"""Every so many looks, shells that were idle for too long are closed."""
_WORKERS = 512
"""Receives that may wait at the same time, one thread each; threads are made as they are needed."""


class WinRmServer:
    """The WinRM service of every Windows host of a world, also of those that are added later."""

    def __init__(self, world: World, *, start: Start = powershell.start) -> None:
        self._world = world
        self._start = start
        self._doors: dict[str, Door] = {}
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="winrm")
        self._task: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        """One look at a time, or two would listen on the same host."""
        self._is_closed = False
        self.requests: Counter[str] = Counter()
        """How many HTTP requests each host got, by its name."""
        self.operations: dict[str, Counter[str]] = {}
        """How often each host was asked for `Create`, `Command`, … and how often it `refused` a login, by its name."""
        self.shells: dict[str, Shells] = {}
        """The shells of each host, by its name."""

    def start(self) -> None:
        """Listen on every host; when it returns, all hosts that there are can be reached."""
        self._world.loop.run(self._begin())
        self._world.on_close(self.close)

    def serve(self) -> None:
        """Wait until hosts that were just added listen, and hosts that are unreachable by now do not."""
        self._world.loop.run(self._look())

    def close(self) -> None:
        """End all connections and shells."""
        if self._is_closed:
            return
        self._is_closed = True
        self._world.loop.run(self._end())
        for shells in self.shells.values():
            shells.close()
        self._workers.shutdown(wait=True)

    def cut(self, host: str) -> None:
        """Cut all WinRM connections of a host, without a goodbye."""
        self._world.loop.run(self._cut(self._doors[host]))

    async def _begin(self) -> None:
        await self._look()
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self._look()
            looks += 1
            if looks % _REAP_LOOKS == 0:
                for shells in list(self.shells.values()):
                    shells.reap()

    async def _look(self) -> None:
        async with self._looking:
            for name, host in list(self._world.hosts.items()):
                if not host.profile.is_windows:
                    continue
                if name not in self._doors:
                    shells = self.shells[name] = Shells(host, self._start)
                    operations = self.operations[name] = Counter()
                    self._doors[name] = Door(host, shells, self.requests, operations, self._workers)
                if self._doors[name].is_open == host.faults.unreachable:
                    await self._doors[name].settle()

    async def _cut(self, door: "Door") -> None:
        door.cut()

    async def _end(self) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for door in self._doors.values():
            await door.shut()


class Door:
    """The WinRM service of one host. Lives on the network thread."""

    def __init__(
        self,
        host: Host,
        shells: Shells,
        requests: Counter[str],
        operations: Counter[str],
        workers: ThreadPoolExecutor,
    ) -> None:
        self.host = host
        self.shells = shells
        self.requests = requests
        self.operations = operations
        self.workers = workers
        self.links: set[Link] = set()
        self._servers: list[asyncio.Server] = []
        self._tls: tuple[ssl.SSLContext, GssChannelBindings] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it listens."""
        return bool(self._servers)

    async def settle(self) -> None:
        """Listen, or not, as the host's faults say."""
        if self.host.faults.unreachable:
            await self.shut()
            return
        loop = asyncio.get_running_loop()
        for port, is_tls in ((HTTP_PORT, False), (HTTPS_PORT, True)):
            server = await loop.create_server(partial(Link, self, is_tls=is_tls), self.host.address, port)
            self._servers.append(server)

    async def shut(self) -> None:
        """Listen no more and cut what is open."""
        servers, self._servers = self._servers, []
        for server in servers:
            await stop_listening(server)
        self.cut()
        await asyncio.gather(*(link.task for link in self.links if link.task), return_exceptions=True)

    def cut(self) -> None:
        """Cut all connections, without a goodbye."""
        for link in list(self.links):
            link.abort()

    def tls(self) -> tuple[ssl.SSLContext, GssChannelBindings]:
        """Return the TLS context and what logins over it are bound to; made when the first client comes."""
        if self._tls is None:
            authority = self.host.world.ca
            certificate, key = authority.issue_files(f"winrm-{self.host.name}", addresses=[self.host.address])
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            # A client certificate is a login too. UNVERIFIED: Windows asks for it after the handshake, we within it.
            context.load_verify_locations(authority.file)
            context.verify_mode = ssl.CERT_OPTIONAL
            self._tls = context, ntlm.bindings(ssl.PEM_cert_to_DER_cert(certificate.read_text()))
        return self._tls

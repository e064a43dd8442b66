"""The running Tentacle: what its service's process does with the configuration that it read at its start."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from bot.domain.thumbprint import Thumbprint
from bot.sandbox.pki import Identity, self_signed
from bot.sandbox.windows.configuration import KUBERNETES, POLLING, Configuration, ConfigurationError, TrustedServer
from bot.sandbox.windows.listener import Greeter, TlsListener
from bot.sandbox.windows.poller import Poller
from bot.sandbox.windows.service import Process, ProcessFailed

if TYPE_CHECKING:
    from bot.sandbox.windows.host import Host


class StoreRefused(Exception):  # noqa: N818  # what happened, as the platform words it
    """The certificate store cannot be written, and the certificate is not in it."""


def load_identity(host: "Host", configuration: Configuration) -> Identity | None:
    """Return key and certificate as Tentacle reads them: by way of the certificate store, into which it puts them.

    StoreRefused when that cannot be written (the wording is UNVERIFIED), ValueError when the file's blob is broken.
    """
    identity = configuration.identity
    if identity is None or configuration.configured is None:
        return None
    with host.world.lock:
        if identity.thumbprint not in host.store:
            if host.faults.import_lies:
                raise StoreRefused("Access is denied.")
            host.store.add(identity.thumbprint)
    return identity


class TentacleAgent:
    """One process of a Tentacle service."""

    def __init__(self, host: "Host", config: Path, process: Process) -> None:
        """Read the configuration, once; ProcessFailed if it cannot be read."""
        self._host = host
        self._process = process
        self._lock = threading.Lock()
        self.listeners: list[TlsListener] = []
        self.pollers: list[Poller] = []
        try:
            self.configuration = Configuration.load(config)
        except (OSError, ConfigurationError) as error:
            raise ProcessFailed(str(error)) from error
        self.trusted: tuple[TrustedServer, ...] = self.configuration.trusted
        """The Servers that this process trusts: those of its start."""
        self._log_file = self.configuration.home / "Logs" / "OctopusTentacle.txt"
        self._error: str | None = None
        self.identity: Identity | None = None
        try:
            self.identity = load_identity(host, self.configuration)
            if self.identity is None:
                self.identity = self_signed()
                self.configuration.set_identity(self.identity)
        except (StoreRefused, ValueError) as error:
            self._error = str(error)

    @property
    def served(self) -> Thumbprint | None:
        """The certificate that this process serves or presents; None when it does neither."""
        return self.identity.thumbprint if self.identity and (self.listeners or self.pollers) else None

    def run(self) -> None:
        """Trust, poll and listen."""
        configuration, identity = self.configuration, self.identity
        if identity is None:
            self.log("FATAL", self._error or "The certificate could not be loaded.")
            return
        for entry in self.trusted:
            self.log("INFO", f"Agent will trust Octopus Servers with the thumbprint: {entry.thumbprint}")
        if not self.trusted:
            self.log("INFO", "The agent is not configured to trust any Octopus Servers.")
        for entry in self.trusted:
            if entry.style in {POLLING, KUBERNETES} and entry.address:
                self._poll(entry, identity)
        if configuration.no_listen:
            self.log("INFO", "Agent will not listen on any TCP ports")
        elif not self._host.faults.never_listens:
            self._listen(identity)

    def _has_no_route(self) -> bool:
        return self._host.faults.no_route_to_tentacle

    def close(self) -> None:
        """Let go of ports and connections."""
        for poller in self.pollers:
            poller.close()
        for listener in self.listeners:
            listener.close()
        self.pollers, self.listeners = [], []

    def log(self, level: str, message: str) -> None:
        """Write a line to the Tentacle's log file, as NLog lays it out: date, process, thread, level, message."""
        line = (
            f"{self._host.now():%Y-%m-%d %H:%M:%S.%f}"[:-2]
            + f"  {self._process.pid:>6}      1  {level:>5}  {message}\n"
        )
        with self._lock:
            self._log_file.parent.mkdir(parents=True, exist_ok=True)
            with self._log_file.open("a", encoding="utf-8") as file:
                file.write(line)

    def _poll(self, entry: TrustedServer, identity: Identity) -> None:
        self.log(
            "INFO",
            f"Agent will poll Octopus Server at {entry.address} for subscription {entry.subscription} "
            f"expecting thumbprint {entry.thumbprint}",
        )
        self.pollers.append(Poller(self._host.world.loop, entry, identity, pace=self._host.world.pace, log=self.log))

    def _listen(self, identity: Identity) -> None:
        host, address, port = self._host, self.configuration.listen_address, self.configuration.port
        trusted = tuple(t.thumbprint for t in self.trusted)
        places = (address,) if address else (host.address, host.loopback)
        for place in places:
            try:
                listener = TlsListener(
                    host.world.loop,
                    place,
                    port,
                    identity,
                    lambda: Greeter(trusted, self.log),
                    refuses=self._has_no_route if place != host.loopback else _never,
                )
            except (OSError, OverflowError) as error:
                self.log("ERROR", f"A required communications port is already in use. {error}")
                return
            self.listeners.append(listener)
        shown = f"{address or '[::]'}:{port}"
        self.log("INFO", f"listen://{shown}/  Listener started")
        self.log("INFO", f"Agent listening on: {shown}")


def _never() -> bool:
    return False

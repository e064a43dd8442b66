"""A town whose Server is rotated, and what must be true of it at every moment."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from bot.domain.facts import ServiceState, Style
from bot.domain.thumbprint import Thumbprint
from bot.sandbox.octopus.node import Node
from bot.sandbox.octopus.server import OctopusServer
from bot.sandbox.slack.model import Message
from bot.sandbox.windows.tentacle import TentacleInstance
from tests.scenarios.town import Town

LOST = "--accept lost:2"
"""Two Tentacles of the estate cannot be visited: lost-01, and moved-01, which cannot be proven to be itself."""
SHA1 = "legacy-01"
"""Octopus refuses its certificate whatever it trusts, so its health is never proven."""
GLANCE = 0.003
ANNOUNCED = {
    "generate": ("makes a new certificate",),
    "adopt": ("import the Server's new certificate", "old certificate is put back"),
    "trust": ("trust the Server's new certificate", "remove the old trust"),
    "stop": ("restart", "trust", "put back"),
    "start": ("restart", "trust", "put back"),
    "drain": ("tasks end",),
    "undrain": ("take tasks again",),
}
"""Effects, and the words by which the audit log announces them."""


class Watched(Protocol):
    """A place with a Server and Tentacles that must never be without a matching trust."""

    octopus: OctopusServer
    reachable: dict[str, TentacleInstance]


class Watch:
    """Looks at the world again and again: no reachable listening Tentacle may be without a matching trust."""

    def __init__(self, town: Watched) -> None:
        self._town = town
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self.broken: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(GLANCE):
            presented = {n.served for n in self._town.octopus.nodes if n.is_running} - {None}
            for name, one in self._town.reachable.items():
                agent = one.agent
                # a process that starts or stops is away, which is not the same as distrusting
                if agent is None or one.service.state is not ServiceState.RUNNING:
                    continue
                trusted = {t.thumbprint for t in agent.trusted}
                for thumbprint in presented:
                    if str(thumbprint) not in trusted:
                        self.broken.append(f"{name} trusts {sorted(trusted)}, the Server presents {thumbprint}")


class ServerTown(Town):
    """A town with shorthands for its Server."""

    def __init__(self, state: Path, *, nodes: Sequence[str] = ("OCTO-1",), **changes: Any) -> None:
        super().__init__(state, nodes=nodes, **changes)
        self.octopus.checks.queue_seconds = 3.0
        self.old = self.octopus.thumbprint
        self.reachable: dict[str, TentacleInstance] = {
            name: one
            for name, one in self.sandbox.estate.instances.items()
            if one.style is Style.LISTENING and name not in {"lost-01", "moved-01"}
        }

    @property
    def nodes(self) -> list[Node]:
        """The nodes of the Server."""
        return self.octopus.nodes

    def ask_server(self, options: str = f"--with pfx:server {LOST}") -> Message:
        """Rita asks for the Server's rotation; return its plan."""
        return self.ask("rita", f"rotate server {options}")

    def reply(self, root: Message, words: str, seconds: float = 60.0) -> Message:
        """Wait for a reply in the thread that holds these words; the newest one counts."""

        def found() -> Message | None:
            return next((m for m in reversed(self.slack.thread(root.ts)[1:]) if words in m.content), None)

        return self.wait(found, seconds)

    def question(self, root: Message, words: str, seconds: float = 60.0) -> Message:
        """Wait for a reply with buttons that holds these words."""

        def found() -> Message | None:
            replies = self.slack.thread(root.ts)[1:]
            return next((m for m in reversed(replies) if words in m.content and m.buttons), None)

        return self.wait(found, seconds)

    def trusted(self, name: str) -> set[str]:
        """Return what the running process of a Tentacle trusts."""
        agent = self.tentacle(name).agent
        return {t.thumbprint for t in agent.trusted} if agent else set()

    def assert_all(self, condition: Callable[[TentacleInstance], bool], names: Sequence[str] = ()) -> None:
        """Assert something of all reachable listening Tentacles."""
        wrong = [n for n, one in self.reachable.items() if (not names or n in names) and not condition(one)]
        assert not wrong, wrong

    def assert_switched(self, new: Thumbprint) -> None:
        """Assert that the whole estate goes by the new certificate, and nothing is left stopped or drained."""
        assert [n.served for n in self.nodes] == [new] * len(self.nodes)
        assert not any(n.is_drained for n in self.nodes)
        for name in (*self.reachable, "edge-01", "edge-02"):
            assert str(new) in self.trusted(name), name
            assert self.tentacle(name).service.state is ServiceState.RUNNING, name
        well = [n for n in (*self.reachable, "edge-01", "edge-02") if n != SHA1]
        ids = [r for n in well for r in self.sandbox.estate.records[n]]
        # one that polls comes back by itself, a moment after the last node does
        self.wait(lambda: set(self.octopus.check(*ids).values()) == {"Healthy"}, 60)

    def assert_announced(self) -> None:
        """Assert that all that was done to hosts and in Octopus stood in the audit log before it was done."""
        assert self.bot
        entries = list(self.bot.audit.all_entries())
        began = [(e.at, self._host_of(e.entry.target), e.entry.what) for e in entries if e.entry.kind == "began"]
        first = min(e.at for e in entries)
        done = [e for e in self.world.effects if e.at >= first and e.kind in ANNOUNCED]
        assert {e.kind for e in done} >= {"stop", "start", "trust", "adopt"}, "then nothing would have been looked at"
        for one in done:
            words = ANNOUNCED[one.kind]
            where = "octo-1" if one.host == "octopus" else one.host
            before = [w for at, host, w in began if at <= one.at and host == where]
            assert any(word in what for what in before for word in words), (one, began)

    def _host_of(self, target: str) -> str:
        found = self.sandbox.estate.instances.get(target)
        return found.host.name if found else target.removeprefix("node ").casefold()

    def assert_as_before(self) -> None:
        """Assert that the Server serves its old certificate, and all Tentacles are well with it."""
        self.assert_switched(self.old)

    def pfx(self) -> Thumbprint:
        """Return the thumbprint of the certificate in the PFX that the configuration names."""
        from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

        from bot.sandbox.sandbox import PFX_PASSWORD

        data = (self.sandbox.state / "certificates" / "octocert-server.pfx").read_bytes()
        certificate = pkcs12.load_pkcs12(data, PFX_PASSWORD.encode()).cert
        assert certificate is not None
        return Thumbprint.of(certificate.certificate.public_bytes(Encoding.DER))

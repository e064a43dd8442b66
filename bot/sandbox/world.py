"""The world of a sandbox: one estate and everything true about it."""

import heapq
import json
import random
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Literal

from bot.clock import Clock, SystemClock
from bot.sandbox.network import LoopThread, Subnet, raise_file_limit
from bot.sandbox.pki import Authority
from bot.sandbox.windows.host import WINDOWS_2019, Host, Profile

_FAKE_CLOCK_STEP = 0.02
_FAKE_CLOCK_LOOK = 0.002
"""Seconds between two looks at a clock that is not the machine's: it may be moved at any time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One change in the world."""

    at: datetime
    host: str
    kind: str
    """`import`, `make`, `trust`, `stop`, `stopped`, `start`, `running`, `restore`, `put`, …"""
    detail: str


class World:
    """One estate; the truth.

    `root` is an empty folder, hosts live under `root/hosts/NAME`; `pace` is the seconds that one stop or start of a
    service takes. Thread-safe by `lock`; nobody waits for the loop, or for a condition of the world, while holding it.
    """

    def __init__(
        self,
        root: Path,
        *,
        seed: int = 1,
        pace: float = 1.0,
        clock: Clock | None = None,
        powershell: Path | Literal["auto"] | None = "auto",
    ) -> None:
        raise_file_limit()
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.clock: Clock = clock or SystemClock()
        self.pace = pace
        self.random = random.Random(seed)
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        """Notified whenever a service, a process or a task changes."""
        self.powershell = find_powershell() if powershell == "auto" else powershell
        """The PowerShell that runs remote scripts; None: their Python twins do."""
        self.account = ("CORP\\svc-octocert", "Sandbox-only-2026!")
        """User name and password that every host knows from the start."""
        self.hosts: dict[str, Host] = {}
        self.effects: list[Effect] = []
        self.command_lines: list[str] = []
        """Every command line that a host has seen, as its process auditing would log it."""
        self.subnet = Subnet()
        self.ca = Authority(root / "ca")
        self.loop = LoopThread("sandbox-network")
        self.timers = Timers(self.clock, "sandbox-timers")
        self._journal = (root / "effects.jsonl").open("a", encoding="utf-8")
        self._closers: list[Callable[[], None]] = []
        self._closed = False

    def add_host(self, name: str, *, profile: Profile = WINDOWS_2019) -> Host:
        """Add a Windows machine; ValueError if the name is taken."""
        with self.lock:
            if name in self.hosts:
                raise ValueError(f"the host {name} exists already")
            host = self.hosts[name] = Host(self, name, profile=profile)
            return host

    def record(self, host: str, kind: str, detail: str = "") -> None:
        """Append an effect, to the list and to the file `effects.jsonl`."""
        effect = Effect(at=self.clock.now(), host=host, kind=kind, detail=detail)
        with self.lock:
            self.effects.append(effect)
            if not self._journal.closed:
                line = {"at": effect.at.isoformat(), "host": host, "kind": kind, "detail": detail}
                self._journal.write(json.dumps(line) + "\n")
                self._journal.flush()

    def on_close(self, close: Callable[[], None]) -> None:
        """Have something closed with the world, the last one first."""
        self._closers.append(close)

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until a condition of the world holds; False when it does not within so many seconds of its clock."""
        deadline = self.clock.monotonic() + seconds
        while True:
            self.timers.run_due()
            with self.changed:
                if condition():
                    return True
                left = deadline - self.clock.monotonic()
                if left <= 0:
                    return False
                if isinstance(self.clock, SystemClock):
                    self.changed.wait(min(left, 0.1))
                else:
                    # Other threads get their turn in real time before the other clock moves on.
                    self.changed.wait(_FAKE_CLOCK_LOOK)
                    self.clock.sleep(min(left, max(_FAKE_CLOCK_STEP, seconds / 100)))

    def close(self) -> None:
        """Stop everything that the world started; its files stay."""
        if self._closed:
            return
        self._closed = True
        for close in reversed(self._closers):
            close()
        self.timers.close()
        for host in self.hosts.values():
            host.close()
        self.loop.close()
        self.subnet.close()
        with self.lock:
            self._journal.close()


class Timers:
    """Things that happen later, by the world's clock, one after the other on one thread."""

    def __init__(self, clock: Clock, name: str) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in so many seconds."""
        with self._wake:
            heapq.heappush(self._heap, (self._clock.monotonic() + seconds, next(self._numbers), action))
            self._wake.notify()

    def run_due(self) -> None:
        """Do everything whose time has come, on this thread."""
        while action := self._due():
            action()

    def close(self) -> None:
        """Forget what has not happened yet and end the thread."""
        with self._wake:
            self._closed = True
            self._heap.clear()
            self._wake.notify()
        self._thread.join()

    def _due(self) -> Callable[[], None] | None:
        with self._wake:
            if self._closed or not self._heap or self._heap[0][0] > self._clock.monotonic():
                return None
            return heapq.heappop(self._heap)[2]

    def _work(self) -> None:
        patient = isinstance(self._clock, SystemClock)
        while True:
            with self._wake:
                if self._closed:
                    return
                wait: float | None = None
                if self._heap:
                    wait = max(0.0, self._heap[0][0] - self._clock.monotonic()) if patient else _FAKE_CLOCK_LOOK
                self._wake.wait(wait)
            self.run_due()


def find_powershell() -> Path | None:
    """Return the PowerShell of this machine, if there is one on the path."""
    found = shutil.which("pwsh")
    return Path(found) if found else None

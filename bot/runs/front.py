"""What people see without asking: the Home tab, the modal that asks what to rotate, and its picker of targets.

Everything here answers within Slack's three seconds: from memory, from the database, and never from a host.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import structlog

from bot.clock import Clock
from bot.domain.errors import UserError
from bot.domain.names import TargetGroup, fold, targets
from bot.domain.run import Run, RunState
from bot.rounds import Rounds
from bot.runs.approvals import Asking
from bot.runs.freezing import Freezing
from bot.runs.inspector import Inspector
from bot.runs.ledger import Ledger
from bot.runs.sweeps import Sweeps
from bot.slack import home_view, rotate_view

log = structlog.get_logger("octocert.front")

ROUND_SECONDS = 1.0
LOOK_SECONDS = 5.0
"""How often a tab that somebody opened is compared with what it would show now."""
RECENT_SECONDS = 3600.0
"""How long after it was opened a tab is kept as it should be; whoever opens it again sees it fresh anyway."""
INDEX_SECONDS = 60.0
"""How old the list of targets may be from which the picker answers."""
PATIENCE_SECONDS = 2.0
"""How long a picker waits for the first list; Slack waits three."""
OPEN = tuple(s for s in RunState if not s.is_over)

Json = dict[str, Any]
WaitingFor = Callable[[Run, str], Asking | None]
Publish = Callable[[str, Json], None]
LinkOf = Callable[[str], str]


class Picker:
    """The names of all targets, from an index that is at most a minute old or being read anew."""

    def __init__(self, inspector: Inspector, clock: Clock) -> None:
        self._inspector = inspector
        self._clock = clock
        self._known: list[tuple[str, rotate_view.Choice]] | None = None
        self._at = 0.0
        self._reading: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="picker")
        self._lock = threading.Lock()

    def close(self) -> None:
        """Read nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def refresh(self) -> Future[None] | None:
        """Have the list read anew, if it is old and not being read already; return that reading."""
        with self._lock:
            is_old = self._known is None or self._clock.monotonic() - self._at > INDEX_SECONDS
            if is_old and (self._reading is None or self._reading.done()):
                try:
                    self._reading = self._thread.submit(self._read)
                except RuntimeError:  # closed: the bot stops
                    return None
            return self._reading

    def choices(self, query: str) -> list[rotate_view.Choice]:
        """Return the targets whose names hold the query, those that begin with it first, as many as Slack takes."""
        reading = self.refresh()
        if self._known is None and reading:
            wait([reading], PATIENCE_SECONDS)
        wanted = fold(query)
        found = [(not name.startswith(wanted), name, choice) for name, choice in self._known or [] if wanted in name]
        return [choice for _, _, choice in sorted(found, key=lambda f: f[:2])[: rotate_view.MOST_OPTIONS]]

    def named(self, record: str) -> list[rotate_view.Choice]:
        """Return the target with this record, if it is known by now."""
        return [c for _, c in self._known or [] if c.record == record]

    def _read(self) -> None:
        try:
            groups = targets(self._inspector.index())
        except UserError as error:
            log.warning("the picker's list could not be read", error=str(error))
            return
        known = [(fold(" ".join(g.names)), _choice(g)) for g in groups]
        with self._lock:
            self._known, self._at = known, self._clock.monotonic()


def _choice(group: TargetGroup) -> rotate_view.Choice:
    places = dict.fromkeys(e for r in group.records for e in (*r.environments, *r.pools))
    label = group.name + (f" · {', '.join(places)}" if places else "")
    return rotate_view.Choice(record=group.records[0].id, label=label)


@dataclass(slots=True)
class _Tab:
    """One person's Home tab."""

    opened: float
    is_due: bool = True
    shown: str = field(default="")
    """A hash of what it shows."""


class Front:
    """Shows; it decides nothing."""

    def __init__(
        self,
        ledger: Ledger,
        inspector: Inspector,
        freezing: Freezing,
        sweeps: Sweeps,
        waiting_for: WaitingFor,
        publish: Publish,
        link_of: LinkOf,
        clock: Clock,
        *,
        sources: Sequence[str],
        channel: str,
        is_radar_on: bool,
    ) -> None:
        """Take what it shows; `channel` is where plans are posted that were asked for from the Home tab.

        `link_of` tells the address of a run's message, by the run's id; empty where there is none.
        """
        self._ledger = ledger
        self._freezing = freezing
        self._sweeps = sweeps
        self._waiting_for = waiting_for
        self._publish = publish
        self._link_of = link_of
        self._clock = clock
        self._sources = ("new-certificate", *sources)
        self._channel = channel
        self._is_radar_on = is_radar_on
        self._picker = Picker(inspector, clock)
        self._tabs: dict[str, _Tab] = {}
        self._looked = clock.monotonic()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="front", daemon=True)

    def start(self) -> None:
        """Begin to keep tabs as they should be."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        self._picker.close()

    def form(self, channel: str = "", found: str = "") -> Json:
        """Return the modal, for a command in a channel or for what the radar `found`: a sweep's id and a number."""
        self._picker.refresh()
        sweep_id, _, number = found.partition(":")
        findings = self._sweeps.findings(sweep_id, number) if number else ()
        chosen, reason = [], ""
        if findings:
            label = rotate_view.Choice(record=findings[0].record, label=findings[0].target)
            chosen = self._picker.named(findings[0].record) or [label]
            reason = f"the radar found: {', '.join(f.worry.value for f in findings)}"
        return rotate_view.form(sources=self._sources, channel=channel or self._channel, chosen=chosen, reason=reason)

    def choices(self, query: str) -> list[Json]:
        """Return the options of the picker for what somebody typed."""
        return rotate_view.options(self._picker.choices(query))

    def opened(self, user: str) -> None:
        """Have somebody's Home tab shown, soon."""
        with self._lock:
            shown = self._tabs[user].shown if user in self._tabs else ""
            self._tabs[user] = _Tab(self._clock.monotonic(), shown=shown)
        self._wake.set()

    def _work(self) -> None:
        rounds = Rounds(log, "the Home tabs could not be brought up to date; it is tried again")
        while not self._stop.is_set():
            self._clock.wait(self._wake, ROUND_SECONDS)
            self._wake.clear()
            if self._stop.is_set():
                return
            with rounds.one():
                self._look()
            if rounds.has_failed:
                self._clock.wait(self._stop, LOOK_SECONDS)

    def _look(self) -> None:
        """Publish the tabs that were just opened, and every few seconds those whose content has changed."""
        now = self._clock.monotonic()
        is_round = now - self._looked >= LOOK_SECONDS
        if is_round:
            self._looked = now
        with self._lock:
            for user in [u for u, tab in self._tabs.items() if now - tab.opened > RECENT_SECONDS]:
                del self._tabs[user]
            due = {u: tab for u, tab in self._tabs.items() if tab.is_due or is_round}
        if not due:
            return
        runs, freeze, sweep = self._ledger.in_state(*OPEN), self._freezing.in_force(), self._sweeps.latest()
        for user, tab in due.items():
            view = home_view.home(
                now=self._clock.now(),
                waiting=self._waiting(runs, user),
                runs=(under_way := [r for r in runs if r.state is not RunState.PROPOSED]),
                links={r.id: self._link_of(r.id) for r in under_way},
                freeze=freeze,
                sweep=sweep,
                is_radar_on=self._is_radar_on,
            )
            shown = hashlib.sha256(json.dumps(view, sort_keys=True).encode()).hexdigest()
            if tab.is_due or shown != tab.shown:
                tab.is_due, tab.shown = False, shown
                self._publish(user, view)

    def _waiting(self, runs: Sequence[Run], user: str) -> list[home_view.Waiting]:
        found = [(run, self._waiting_for(run, user)) for run in runs]
        return [
            home_view.Waiting(run=run, what=a.what, expires=a.expires, link=self._link_of(run.id))
            for run, a in found
            if a
        ]

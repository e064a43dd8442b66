"""The radar: looks at the whole estate by the clock, read-only and gently, and tells in Slack what changed."""

import threading
from collections.abc import Callable
from datetime import timedelta

import structlog

from bot.clock import Clock
from bot.domain.errors import UserError
from bot.domain.facts import Style, TargetFacts
from bot.domain.names import targets
from bot.domain.radar import Sweep, Thresholds, compare, findings_of_server, sweep_of
from bot.runs.announcer import Announcer
from bot.runs.inspector import Inspector
from bot.runs.server_inspector import ServerInspector
from bot.runs.sweeps import Sweeps
from bot.settings_radar import Radar as Settings
from bot.settings_radar import last_due
from bot.slack import radar_message

log = structlog.get_logger("octocert.radar")

ROUND_SECONDS = 1.0
"""How often it looks at the clock."""
AGAIN_SECONDS = 300.0
"""When a sweep that could not be done is tried again."""
TOLD_AFTER = timedelta(hours=1)
"""How late a sweep must be, because the estate cannot be looked at, before that is told in the channel."""


class Stopped(Exception):  # noqa: N818 -- no error: it ends a sweep because the bot stops or leads no more
    """The sweep is left; it begins again, here or on another replica."""


class Radar:
    """One thread. Of several bots the one that leads looks; what it found is in the database for all."""

    def __init__(
        self,
        settings: Settings,
        inspector: Inspector,
        server: ServerInspector,
        sweeps: Sweeps,
        announcer: Announcer,
        clock: Clock,
        *,
        leads: Callable[[], bool] = lambda: True,
        on_found: Callable[[], None] = lambda: None,
    ) -> None:
        """Take what it looks with; `on_found` is called after each sweep."""
        self._settings = settings
        self._inspector = inspector
        self._server = server
        self._sweeps = sweeps
        self._announcer = announcer
        self._clock = clock
        self._leads = leads
        self._on_found = on_found
        self._not_before = clock.monotonic()
        self._ended = ""
        """The sweep that is known to be done: nothing is asked of the database every second."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="radar", daemon=True)

    @property
    def is_on(self) -> bool:
        """Whether a channel is set: without one it does not look."""
        return self._settings.channel is not None

    def start(self) -> None:
        """Begin to look, if a channel is set."""
        if self.is_on:
            self._thread.start()

    def stop(self) -> None:
        """End after what is being looked at now; a sweep that was cut off begins again at the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def latest(self) -> Sweep | None:
        """Return what it found last, None while it has not looked."""
        return self._sweeps.latest()

    def _work(self) -> None:
        while not self._clock.wait(self._stop, ROUND_SECONDS):
            try:
                self.look_around()
            except Stopped:
                continue
            except Exception:
                self._not_before = self._clock.monotonic() + AGAIN_SECONDS
                log.exception("the radar's round failed; it is tried again", seconds=AGAIN_SECONDS)

    def look_around(self) -> bool:
        """Do one round; return whether it looked at the estate."""
        channel = self._settings.channel
        if channel is None or not self._leads() or self._clock.monotonic() < self._not_before:
            return False
        due = last_due(self._settings, self._clock.now())
        sweep_id = f"s-{due:%Y%m%d%H%M}"
        if sweep_id == self._ended or not self._sweeps.begin(sweep_id):
            self._ended = sweep_id
            return False
        try:
            sweep = self._sweep(sweep_id)
        except UserError as error:
            self._not_before = self._clock.monotonic() + AGAIN_SECONDS
            log.warning("the estate could not be looked at; it is tried again", error=str(error), seconds=AGAIN_SECONDS)
            if self._clock.now() - due >= TOLD_AFTER:
                self._announcer.post(f"radar:{sweep_id}:failed", channel, radar_message.failed(str(error)), None)
            return True
        told = self._sweeps.told()
        changes = compare(told, sweep)
        is_told = changes.any or told is None
        if is_told:  # in the outbox before it counts as told; a second time it is the same message
            message = radar_message.digest(sweep, changes, now=self._clock.now(), is_first=told is None)
            self._announcer.post(f"radar:{sweep_id}", channel, message, None)
        self._sweeps.end(sweep, told=is_told)
        log.info("the radar looked", sweep=sweep_id, targets=sweep.targets, findings=len(sweep.findings), told=is_told)
        self._on_found()
        return True

    def _sweep(self, sweep_id: str) -> Sweep:
        """Look at everything, a few targets at a time; those that the host does not show once more from outside."""
        index = self._inspector.index()
        groups = targets(index)
        found: list[TargetFacts] = []
        for begin in range(0, len(groups), self._settings.in_flight):
            if self._stop.is_set() or not self._leads():
                raise Stopped
            some = groups[begin : begin + self._settings.in_flight]
            # first without Octopus, which would be asked for each target: most hosts show what they serve
            seen = self._inspector.look(some, index, deeply=False, sighted=False)
            dark = {f.name for f in seen if f.style is Style.LISTENING and f.certificate is None}
            if dark:
                again = self._inspector.look([g for g in some if g.name in dark], index, deeply=False)
                seen = [f for f in seen if f.name not in dark] + again
            found += seen
        server = self._server.watch()
        thresholds = Thresholds(days=self._settings.days, share=self._settings.lifetime_share)
        now = self._clock.now()
        return sweep_of(
            sweep_id,
            found,
            thresholds,
            now,
            self._sweeps.latest(),
            index.unreadable_spaces,
            None if server is None else findings_of_server(*server, thresholds, now),
        )

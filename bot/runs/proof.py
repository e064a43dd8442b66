"""Proof: the Octopus health check of what was replaced, and what its answer means for each target."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from bot.domain.errors import UserError
from bot.domain.facts import WORST_FIRST, Health, Record, Style
from bot.domain.plan import StepKind, TargetPlan
from bot.domain.planner import baseline
from bot.domain.run import OutcomeKind, StepState
from bot.octopus.errors import RecordVanished
from bot.octopus.tasks import HealthReport, TaskResult
from bot.runs.gear import Gear
from bot.runs.rotation import Rotation
from bot.runs.showing import note

UNDO = "undo"
"""The verdict on a target whose connection worked before and does not now."""
PAUSE_SECONDS = 10.0
"""Between two health checks of a target that was not reached: nodes may cache, polling Tentacles back off."""
ASKED_AT_ONCE = 8
"""Questions to Octopus at the same time, about the records of one group."""


@dataclass(slots=True)
class _Watched:
    target: TargetPlan
    reports: list[HealthReport]
    records: list[Record] = field(default_factory=list)
    """Those of the target that are still in Octopus."""
    unproven: str = ""
    """Why nothing is proven, as a sentence."""

    @property
    def worst(self) -> Health:
        return min((r.health for r in self.reports), key=WORST_FIRST.index, default=Health.UNKNOWN)


class Proof:
    """Asks Octopus whether it reaches the targets, with one Health task for a group of targets and space."""

    def __init__(self, gear: Gear, rotation: Rotation) -> None:
        self._gear = gear
        self._rotation = rotation

    def look(self, run_id: str, names: list[str]) -> dict[str, str]:
        """Return when Octopus last checked each record, by its own clock: a proof must be newer than this."""
        checked = {}

        def look(record: Record) -> None:
            with suppress(UserError):
                # only when it was checked counts here, so the record itself need not be read
                report = self._gear.octopus.health(record, fresh=record)
                checked[record.id] = report.checked.isoformat() if report.checked else ""

        records = [r for n in names for r in self._gear.ledger.target(run_id, n).facts.records]
        with ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="proof") as threads:
            list(threads.map(look, records))
        return checked

    def prove(self, run_id: str, group: str, names: list[str], checked: dict[str, str]) -> dict[str, dict[str, Any]]:
        """Return a verdict for each target: an outcome's kind, or `undo`; with health and a sentence."""
        watched = {n: _Watched(self._gear.ledger.target(run_id, n), []) for n in names}
        for name in names:
            note(self._gear, run_id, name, StepKind.HEALTH, StepState.IN_PROGRESS)
        clock, deadlines = self._gear.clock, self._gear.deadlines
        polling = any(w.target.facts.style is Style.POLLING for w in watched.values())
        end = clock.monotonic() + max(deadlines.health_repeat, deadlines.polling_return if polling else 0)
        pause = min(PAUSE_SECONDS, deadlines.health_repeat / 4)
        attempt, pending = 1, list(watched.values())
        while True:
            self._check(f"{run_id}-{group}-{attempt}", pending, checked)
            pending = [w for w in pending if not w.unproven and w.worst is Health.UNAVAILABLE]
            if not pending or clock.monotonic() + pause > end:
                break
            clock.sleep(pause)
            attempt += 1
        return {name: self._verdict(run_id, name, w) for name, w in watched.items()}

    def _check(self, key: str, watched: list[_Watched], checked: dict[str, str]) -> None:
        """Queue one Health task per space for these targets, follow it, and read what it found."""
        octopus = self._gear.octopus.patient(self._gear.deadlines.server_away)
        results: dict[str, TaskResult] = {}
        failure = ""
        try:
            # a Health task that names a vanished record is refused whole
            present = self._stored(watched)
            tasks = octopus.start_health([r for w in watched for r in self._still(w, present)], f"octocert {key}")
            for space, task in tasks.items():
                results[space] = octopus.follow(task, self._gear.deadlines.health_task)
        except UserError as error:
            failure = str(error)
        fresh: dict[str, Record] = {}
        if not failure:
            with suppress(UserError):  # then each is read by itself, and its own error told
                fresh = self._stored(watched)
        reads: list[tuple[_Watched, Record, TaskResult]] = []
        for one in watched:
            one.reports, one.unproven = [], ""
            for record in one.records:
                result = results.get(record.space_id)
                if result is None:
                    one.unproven = failure or "no Health task was queued"
                elif not result.completed:
                    why = f": {result.why}" if result.why else ""
                    one.unproven = f"the Health task {result.id} is still {result.state}{why}"
                elif result.state == "Canceled":
                    one.unproven = f"the Health task {result.id} was cancelled"
                else:
                    reads.append((one, record, result))

        def read(one: tuple[_Watched, Record, TaskResult]) -> None:
            watch, record, result = one
            self._read(watch, record, result, checked.get(record.id), fresh.get(record.id))

        with ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="proof") as threads:
            list(threads.map(read, reads))

    def _stored(self, watched: list[_Watched]) -> dict[str, Record]:
        """Return by their ids the records that are still in Octopus, as they are stored now."""
        return {r.id: r for r in self._gear.octopus.stored([r for w in watched for r in w.target.facts.records])}

    def _still(self, one: _Watched, present: dict[str, Record]) -> list[Record]:
        one.records = [present[r.id] for r in one.target.facts.records if r.id in present]
        return one.records

    def _read(
        self, one: _Watched, record: Record, result: TaskResult, before: str | None, fresh: Record | None
    ) -> None:
        try:
            report = self._gear.octopus.health(record, result, fresh=fresh)
        except RecordVanished:
            return
        except UserError as error:
            one.unproven = str(error)
            return
        if before is not None and report.checked is not None and report.checked.isoformat() == before:
            one.unproven = f"the Health task {result.id} did not check {record.name} in {record.space}"
        one.reports.append(report)

    def _verdict(self, run_id: str, name: str, watched: _Watched) -> dict[str, Any]:
        before, worst = baseline(watched.target.facts), watched.worst
        errors = [e for r in watched.reports for e in r.errors]
        summary = "; ".join(dict.fromkeys([r.summary for r in watched.reports if not r.health.is_good] + errors[:2]))
        if watched.unproven or not watched.reports or worst is Health.UNKNOWN:
            why = watched.unproven or "Octopus did not check it"
            return self._said(run_id, name, OutcomeKind.NOT_PROVEN.value, None, why, StepState.ERROR)
        if worst.is_good:
            return self._said(run_id, name, OutcomeKind.HEALTHY.value, worst, "", StepState.COMPLETE)
        if worst is Health.UNAVAILABLE and before.is_good:
            what = f"Octopus cannot reach {name} any more: {summary}"
            return self._said(run_id, name, UNDO, worst, what, StepState.ERROR)
        what = f"Octopus says {worst.value} (before the run: {before.value}): {summary}"
        return self._said(run_id, name, OutcomeKind.UNHEALTHY.value, worst, what, StepState.ERROR)

    def _said(
        self, run_id: str, name: str, verdict: str, health: Health | None, what: str, state: StepState
    ) -> dict[str, Any]:
        note(self._gear, run_id, name, StepKind.HEALTH, state, what or (health.value if health else ""))
        return {"verdict": verdict, "health": health.value if health else None, "what": what}


__all__ = ["UNDO", "Proof"]

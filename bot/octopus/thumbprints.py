"""Corrects the thumbprint that a record stores: read, replace as a whole, read back and compare everything."""

import copy
from dataclasses import dataclass
from typing import Any

import structlog

from bot.domain.facts import Record
from bot.domain.thumbprint import Thumbprint
from bot.octopus.documents import Document, endpoint_of, path_of, stored_thumbprint
from bot.octopus.errors import OctopusError, OctopusErrorKind
from bot.octopus.records import Records, vanished
from bot.octopus.wire import Wire

TRIES = 4
"""How often a PUT is begun anew with a fresh document: after a race inside the Server, or if nothing was stored."""
PAUSE_SECONDS = 1.0
"""Before it is begun anew; grows with each try."""

# What the Server writes by itself, at any time; it does not stand in the way of a comparison.
_OWN = {
    "HealthStatus",
    "StatusSummary",
    "Status",
    "HasLatestCalamari",
    "IsInProcess",
    "OperatingSystem",
    "OperatingSystemVersion",
    "ShellName",
    "ShellVersion",
    "Architecture",
    "SkipInitialHealthCheck",
    "LastModifiedOn",
    "LastModifiedBy",
    "Thumbprint",
    "Links",
}
_OWN_OF_ENDPOINT = {
    "Thumbprint",
    "CertificateSignatureAlgorithm",
    "TentacleVersionDetails",
    "LastModifiedOn",
    "LastModifiedBy",
    "Links",
}

log = structlog.get_logger("octocert.octopus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of one correction."""

    changed: bool
    """False where the new thumbprint stood there already."""
    differences: tuple[str, ...] = ()
    """Other members that are not what they were before our PUT, as phrases: somebody changed them in the same second,
    or the Server did not keep what it was sent. Never expected; to be shown to people."""


class Thumbprints:
    """Writes thumbprints into records. Octopus replaces documents as a whole and knows no concurrency token."""

    def __init__(self, wire: Wire, records: Records) -> None:
        self._wire = wire
        self._records = records

    def put(self, record: Record, old: Thumbprint, new: Thumbprint) -> Written:
        """Make the record store `new`; done already is done. Safe to repeat, also after a lost answer.

        RecordVanished if it is gone: never created again. OctopusError of kind CONFLICT if it stores neither `old` nor
        `new`, for then somebody else is at work, and of kind UNEXPECTED if Octopus accepts the change and stores the
        old one nevertheless.
        """
        changed = False
        differences: tuple[str, ...] = ()
        for attempt in range(1, TRIES + 1):
            before = self._records.document(record)
            stored = stored_thumbprint(before)
            if stored == new:
                return Written(changed=changed, differences=differences)
            if Thumbprint.maybe(stored) not in {old, new}:
                raise _neither(record, stored, old, new)
            if attempt > 1:
                self._wire.clock.sleep(PAUSE_SECONDS * (attempt - 1))
            if self._replace(record, _with_thumbprint(before, new), last=attempt == TRIES):
                after = self._records.document(record)
                differences = _differences(before, after)
                changed = True
                if differences:
                    log.warning("record_changed_beside_thumbprint", record=record.id, differences=differences)
                if stored_thumbprint(after) == new:
                    return Written(changed=True, differences=differences)
        raise OctopusError(
            f"Octopus accepted the new thumbprint of {record.name} in {record.space}, but still stores {old}. "
            "See whether its database is read-only, or correct the thumbprint in the portal.",
            kind=OctopusErrorKind.UNEXPECTED,
        )

    def _replace(self, record: Record, document: Document, *, last: bool) -> bool:
        """Send the whole document; False if it was out of date by the time it came."""
        try:
            self._wire.put(path_of(record), document)
        except OctopusError as error:
            if error.kind is OctopusErrorKind.NOT_FOUND:
                raise vanished(record) from None
            if error.kind is not OctopusErrorKind.CONFLICT or last:
                raise
            return False
        return True


def _with_thumbprint(document: Document, new: Thumbprint) -> Document:
    """Return the document with nothing changed but the thumbprint; MachinePolicyId and all the rest stay."""
    changed = copy.deepcopy(document)
    endpoint_of(changed)["Thumbprint"] = str(new)
    if changed.get("Thumbprint"):
        changed["Thumbprint"] = str(new)
    return changed


def _neither(record: Record, stored: str, old: Thumbprint, new: Thumbprint) -> OctopusError:
    found = f"the thumbprint {stored}" if stored else "no thumbprint"
    return OctopusError(
        f"The record {record.name} in {record.space} stores {found}, neither the old one ({old}) nor the new one "
        f"({new}). Somebody else changed it, so it was left as it is. See its history in Octopus, then ask again.",
        kind=OctopusErrorKind.CONFLICT,
    )


def _differences(before: Document, after: Document) -> tuple[str, ...]:
    found = [*_changes(before, after, _OWN | {"Endpoint"}, "")]
    return tuple(found + _changes(endpoint_of(before), endpoint_of(after), _OWN_OF_ENDPOINT, "Endpoint."))


def _changes(before: Document, after: Document, ignored: set[str], prefix: str) -> list[str]:
    return [
        f"{prefix}{key}: {_shown(before.get(key))} → {_shown(after.get(key))}"
        for key in sorted(before.keys() | after.keys())
        if key not in ignored and _plain(before.get(key)) != _plain(after.get(key))
    ]


def _plain(value: Any) -> Any:
    # The order of ids means nothing, and what is absent is empty.
    if isinstance(value, list):
        return sorted(value, key=repr) or None
    return value if value != "" else None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"

"""The gear: the clients, stores and clocks with which the work of a run is done."""

from dataclasses import dataclass

from bot.audit import AuditLog
from bot.certificates.sources import Sources
from bot.clock import Clock
from bot.octopus.client import Client
from bot.runs.announcer import Announcer
from bot.runs.control import Control
from bot.runs.directory import Directory
from bot.runs.gates import Gates
from bot.runs.inspector import See
from bot.runs.issuing import Issuing
from bot.runs.ledger import Ledger
from bot.runs.notes import Notes
from bot.runs.timetable import Timetable
from bot.settings_tables import Deadlines
from bot.windows.breaker import Breaker
from bot.windows.hands import Hands


@dataclass(frozen=True, slots=True, kw_only=True)
class Gear:
    """What the steps of runs work with."""

    ledger: Ledger
    announcer: Announcer
    control: Control
    timetable: Timetable
    audit: AuditLog
    octopus: Client
    hands: Hands
    directory: Directory
    sources: Sources
    issuing: Issuing
    see: See
    clock: Clock
    deadlines: Deadlines
    notes: Notes
    gates: Gates
    breaker: Breaker

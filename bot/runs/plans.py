"""Plans at hand: they never change, and that of a fleet takes a second to read, so the last ones are kept in memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from bot.domain.plan import Plan, TargetPlan

MOST_TARGETS = 20_000
"""Targets of all plans that are kept, about 10 kB each."""
MOST_PLANS = 500


@dataclass(frozen=True, slots=True)
class Kept:
    """One plan, and its targets by their names."""

    plan: Plan
    targets: dict[str, TargetPlan]


class Plans:
    """The plans that were used last, by the ids of their runs; shared by all threads."""

    def __init__(self, read: Callable[[str], Plan]) -> None:
        """Take what reads a plan from the database; KeyError if there is none."""
        self._read = read
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, run_id: str) -> Kept:
        """Return the plan of a run; KeyError if there is none of this id."""
        with self._lock:
            found = self._kept.get(run_id)
            if found:
                self._kept.move_to_end(run_id)
                return found
        plan = self._read(run_id)  # two threads may read the same one; that is cheaper than waiting for another's
        kept = Kept(plan, {t.name: t for t in plan.targets})
        with self._lock:
            self._kept[run_id] = kept
            while len(self._kept) > MOST_PLANS or (
                len(self._kept) > 1 and sum(len(k.targets) for k in self._kept.values()) > MOST_TARGETS
            ):
                self._kept.popitem(last=False)
        return kept

"""Selecting: from a command's words to targets, with a look at those of which Octopus alone cannot tell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bot.clock import Clock
from bot.domain import selectors
from bot.domain.errors import UserError
from bot.domain.facts import EstateIndex, TargetFacts
from bot.domain.names import TargetGroup
from bot.runs.inspector import Inspector

SHOWN = 5
"""Targets that could not be seen and are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """The targets of a command."""

    groups: tuple[TargetGroup, ...]
    index: EstateIndex
    notes: tuple[str, ...]
    """What whoever asked must know of the selection, as phrases."""
    facts: tuple[TargetFacts, ...] | None
    """What was seen of them, where they had to be looked at to be selected; without tasks and permissions."""


class Selecting:
    """Knows what words mean now. Nothing that it does changes anything."""

    def __init__(self, inspector: Inspector, clock: Clock) -> None:
        self._inspector = inspector
        self._clock = clock

    def select(self, words: Sequence[str], on_seen: Callable[[], None] | None = None) -> Selected:
        """Return the targets of these words; UserError where they mean none. Without words: all.

        `on_seen` is called after each look at a target.
        """
        index = self._inspector.index()
        selection = selectors.select(words or ["all"], index)
        if not selection.needs_look:
            return Selected(groups=selection.groups, index=index, notes=selection.notes, facts=None)
        now = self._clock.now()
        looked = self._inspector.look(selection.groups, index, deeply=False, on_seen=on_seen)
        told = [selection.keep(facts, now) for facts in looked]
        kept = {f.name: f for f, meant in zip(looked, told, strict=True) if meant}
        unseen = [f.name for f, meant in zip(looked, told, strict=True) if meant is None]
        notes = list(selection.notes)
        if unseen:
            more = f", … ({len(unseen) - SHOWN} more)" if len(unseen) > SHOWN else ""
            notes.append(f"left out because nobody could see whether they are meant: {', '.join(unseen[:SHOWN])}{more}")
        if not kept:
            also = f" {notes[-1][0].upper()}{notes[-1][1:]}." if unseen else ""
            raise UserError(
                f"Of {len(looked)} target{'s' * (len(looked) > 1)} that I looked at, none is meant by "
                f"{' '.join(words)}.{also} Nothing was done."
            )
        groups = tuple(g for g in selection.groups if g.name in kept)
        return Selected(groups=groups, index=index, notes=tuple(notes), facts=tuple(kept[g.name] for g in groups))

"""Names: from what people type to targets. Exact first, then without regard to case; never a guess."""

import difflib
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from bot.domain.commands import plain
from bot.domain.errors import UserError
from bot.domain.facts import EstateIndex, Record, Style

NEAR = 0.6
"""How alike a name must be to be suggested (difflib's ratio)."""
SUGGESTIONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetGroup:
    """One target: the records with the same thumbprint and the same endpoint, also across spaces."""

    name: str
    """Of its first record; with the space, and if need be the kind or the id, where that would name several targets."""
    records: tuple[Record, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Its own name and those of its records."""
        return tuple(dict.fromkeys((self.name, *(r.name for r in self.records))))

    def is_called(self, name: str) -> bool:
        """Whether it, or one of its records, has this name, as forgivingly as `match` reads it."""
        return not {fold(self.name), *(fold(r.name) for r in self.records)}.isdisjoint(_spellings(name))


def fold(name: str) -> str:
    """Return a name for comparison: whatever its case, its kind of spaces and quotes, and what cannot be seen in it."""
    return " ".join(plain(unicodedata.normalize("NFC", name)).split()).casefold()


def _spellings(name: str) -> dict[str, None]:
    """Return the folded name, as it was typed and then without the comma of a list."""
    return dict.fromkeys((fold(name), fold(name.rstrip(" ,;"))))


def endpoint_of(record: Record) -> str:
    """Return `host:port` of a listening record, the subscription URI of a polling one, in small letters.

    A record whose URI makes no sense has that as its endpoint, so that one such record troubles no other.
    """
    if record.style is Style.POLLING:
        return record.uri.rstrip("/").casefold()
    try:
        parts = urlsplit(record.uri)
        return f"{parts.hostname or ''}:{parts.port or 10933}".casefold()
    except ValueError:  # no URI at all: it stands for itself
        return record.uri.strip().casefold()


_LABELS: tuple[Callable[[Record], str], ...] = (
    lambda r: r.name,
    lambda r: f"{r.name} ({r.space})",
    lambda r: f"{r.name} ({r.space}, {r.kind.value})",
    lambda r: f"{r.name} ({r.space}, {r.id})",
)
"""How a target is called, by its first record: the first of these that no other target has. Ids are unique."""


def targets(index: EstateIndex) -> tuple[TargetGroup, ...]:
    """Return all targets of the estate; names that several of them have are made distinct, by their space first."""
    records: dict[tuple[str, str | None], list[Record]] = {}
    for record in index.records:
        records.setdefault((endpoint_of(record), record.thumbprint), []).append(record)
    groups = [TargetGroup(name=group[0].name, records=tuple(group)) for group in records.values()]
    for label in _LABELS[1:]:
        used = Counter(fold(g.name) for g in groups)
        if max(used.values(), default=1) == 1:
            break
        groups = [replace(g, name=label(g.records[0])) if used[fold(g.name)] > 1 else g for g in groups]
    return tuple(groups)


def match(typed: Sequence[str], index: EstateIndex) -> tuple[TargetGroup, ...]:
    """Return the targets of these names, each once, in their order; see Book.match."""
    return Book(index).match(typed)


class Book:
    """The names of an estate, looked up by exact and by folded name: an estate has thousands, a command hundreds."""

    def __init__(self, index: EstateIndex) -> None:
        self._exact: dict[str, list[TargetGroup]] = {}
        self._folded: dict[str, list[TargetGroup]] = {}
        self._names: dict[str, str] = {}
        self._others = {fold(m) for m in index.other_machines}
        for group in targets(index):
            names = dict.fromkeys((group.name, *(r.name for r in group.records)))
            for name in names:
                self._exact.setdefault(name, []).append(group)
                self._names.setdefault(fold(name), name)
            for folded in dict.fromkeys(map(fold, names)):
                self._folded.setdefault(folded, []).append(group)

    def knows(self, name: str) -> bool:
        """Whether this is a name of something in the estate, as forgivingly as it is read."""
        spellings = _spellings(name)
        return name in self._exact or any(s in self._folded or s in self._others for s in spellings)

    def match(self, typed: Sequence[str]) -> tuple[TargetGroup, ...]:
        """Return the targets of these names, each once, in their order.

        UserError if one is unknown (with the nearest names), means several, or has no Tentacle certificate: then
        nothing is returned for the others either.
        """
        found: dict[str, TargetGroup] = {}
        problems: list[str] = []
        for name in typed:
            try:
                group = self.one(name, suggest=len(problems) < SUGGESTIONS)
            except UserError as error:
                problems.append(str(error))
            else:
                found[group.name] = group
        if problems:
            shown = problems[:SUGGESTIONS]
            if len(problems) > SUGGESTIONS:
                shown.append(f"There are {len(problems) - SUGGESTIONS} more such names.")
            raise UserError(" ".join(shown) + " Nothing was done.")
        return tuple(found.values())

    def one(self, name: str, *, suggest: bool = True) -> TargetGroup:
        """Return the one target of a name; UserError, which names the nearest where `suggest` (that takes time)."""
        alike = self._exact.get(name) or next((f for s in _spellings(name) if (f := self._folded.get(s))), [])
        if len(alike) == 1:
            return alike[0]
        if alike:
            which = "; ".join(f"“{g.name}” in {g.records[0].space} ({g.records[0].uri})" for g in alike[:SUGGESTIONS])
            which += f"; … ({len(alike) - SUGGESTIONS} more)" if len(alike) > SUGGESTIONS else ""
            raise UserError(
                f"“{name}” means more than one target: {which}. Write the name as it stands in quotes here."
            )
        if not self._others.isdisjoint(_spellings(name)):
            raise UserError(f"“{name}” is no Tentacle, so it has no certificate of this kind.")
        alike_names = difflib.get_close_matches(fold(name), self._names, SUGGESTIONS, NEAR) if suggest else []
        near = [self._names[n] for n in alike_names]
        hint = f" Did you mean {' or '.join(f'“{n}”' for n in near)}?" if near else ""
        raise UserError(f"There is no target “{name}” in Octopus that I may see.{hint}")

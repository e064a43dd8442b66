"""Names: from what people type to targets. Exact first, then without regard to case; never a guess."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from bot.domain.errors import UserError
from bot.domain.facts import EstateIndex, Record, Style

NEAR = 0.6
"""How alike a name must be to be suggested (difflib's ratio)."""
SUGGESTIONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetGroup:
    """One target: the records with the same thumbprint and the same endpoint, also across spaces."""

    name: str
    """Of its first record; with the space where that alone would name several targets."""
    records: tuple[Record, ...]

    def is_called(self, name: str) -> bool:
        """Whether one of its records has this name, whatever the case."""
        return (
            any(r.name.casefold() == name.casefold() for r in self.records) or self.name.casefold() == name.casefold()
        )


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


def targets(index: EstateIndex) -> tuple[TargetGroup, ...]:
    """Return all targets of the estate; names that several of them have are made distinct by their space."""
    groups: dict[tuple[str, str | None], list[Record]] = {}
    for record in index.records:
        groups.setdefault((endpoint_of(record), record.thumbprint), []).append(record)
    used: dict[str, int] = {}
    for records in groups.values():
        used[records[0].name.casefold()] = used.get(records[0].name.casefold(), 0) + 1
    found = []
    for records in groups.values():
        first = records[0]
        name = first.name if used[first.name.casefold()] == 1 else f"{first.name} ({first.space})"
        found.append(TargetGroup(name=name, records=tuple(records)))
    return tuple(found)


def match(typed: Sequence[str], index: EstateIndex) -> tuple[TargetGroup, ...]:
    """Return the targets of these names, each once, in their order.

    UserError if one is unknown (with the nearest names), means several, or has no Tentacle certificate: then nothing
    is returned for the others either.
    """
    groups = targets(index)
    found: list[TargetGroup] = []
    problems: list[str] = []
    for name in typed:
        try:
            group = _one(name, groups, index)
        except UserError as error:
            problems.append(str(error))
        else:
            if group not in found:
                found.append(group)
    if problems:
        raise UserError(" ".join(problems) + " Nothing was done.")
    return tuple(found)


def _one(name: str, groups: Sequence[TargetGroup], index: EstateIndex) -> TargetGroup:
    exact = [g for g in groups if g.name == name or any(r.name == name for r in g.records)]
    alike = exact or [g for g in groups if g.is_called(name)]
    if len(alike) == 1:
        return alike[0]
    if alike:
        which = "; ".join(f"“{g.name}” in {g.records[0].space} ({g.records[0].uri})" for g in alike[:SUGGESTIONS])
        raise UserError(f"“{name}” means more than one target: {which}. Write the name as it stands in quotes here.")
    if any(m.casefold() == name.casefold() for m in index.other_machines):
        raise UserError(f"“{name}” is no Tentacle, so it has no certificate of this kind.")
    names = {r.name.casefold(): r.name for g in groups for r in g.records}
    near = [names[n] for n in difflib.get_close_matches(name.casefold(), names, SUGGESTIONS, NEAR)]
    hint = f" Did you mean {' or '.join(f'“{n}”' for n in near)}?" if near else ""
    raise UserError(f"There is no target “{name}” in Octopus that I may see.{hint}")

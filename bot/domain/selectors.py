"""Selectors: which targets are meant. Names, globs, and what Octopus or a look at them tells. Pure.

Terms of the same kind add up (`env:Staging env:Test` means both), terms of different kinds narrow each other
(`env:Staging role:web` means web servers in Staging), and `not:` takes away. What only a look at the targets tells
(`expiring:30d`, `weak`, `inconsistent`, `older:1y`, and `sha1` where Octopus does not know) is decided after that look.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from bot.domain.errors import UserError
from bot.domain.facts import EstateIndex, Record, RecordKind, TargetFacts
from bot.domain.names import Book, TargetGroup, fold, targets

MOST = 5_000
"""Targets of one command."""
SHOWN = 5
"""Names that a sentence lists."""
_DAYS = {"d": 1, "w": 7, "m": 30, "y": 365}
_SPAN = re.compile(r"([0-9]{1,4})([dwmy])")
_GLOB = re.compile(r"[*?]")
_OF_RECORD: dict[str, Callable[[Record], Iterable[str]]] = {
    "env": lambda r: r.environments,
    "role": lambda r: r.roles,
    "space": lambda r: (r.space,),
    "pool": lambda r: r.pools,
    "tenant": lambda r: r.tenants,
}
_NOUNS = {"env": "environment", "role": "role", "space": "space", "pool": "worker pool", "tenant": "tenant"}
_SORTS = {"workers": RecordKind.WORKER, "targets": RecordKind.TARGET}
_SEEN = {"sha1", "weak", "inconsistent"}
_SPANS = {"expiring", "older"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One word of a selection."""

    text: str
    """As typed."""
    kind: str
    """`name`, `glob`, `env` and so on, `sort` for workers and targets, `all`, `expiring`, `sha1` and so on."""
    value: str = ""
    days: int = 0
    negative: bool = False

    @property
    def needs_look(self) -> bool:
        """Whether only a look at a target may tell."""
        return self.kind in _SEEN | _SPANS


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a command's words mean in an estate, as far as that is known before anything is looked at."""

    groups: tuple[TargetGroup, ...]
    """The targets that may be meant, in the order of the names, else of Octopus."""
    terms: tuple[Term, ...]
    notes: tuple[str, ...] = ()
    """What whoever asked must know, as phrases: what the key cannot see, what has no such certificate."""

    @property
    def needs_look(self) -> bool:
        """Whether the targets must be looked at before it is known which of them are meant."""
        return any(t.needs_look for t in self.terms)

    def keep(self, facts: TargetFacts, now: datetime) -> bool | None:
        """Return whether a target that was looked at is meant; None where that could not be seen."""
        wanted: dict[str, list[bool | None]] = {}
        for term in self.terms:
            if not term.needs_look:
                continue
            told = _tells(term, facts, now)
            if term.negative:
                if told is not False:
                    return None if told is None else False
            else:
                wanted.setdefault(term.kind, []).append(told)
        answers = [True if True in of else None if None in of else False for of in wanted.values()]
        return False if False in answers else None if None in answers else True


def select(words: Sequence[str], index: EstateIndex) -> Selection:
    """Return what these words mean; UserError where one of them, or all together, mean nothing."""
    book = Book(index)
    terms = tuple(_term(word, book) for word in words)
    if all(t.negative for t in terms):
        raise UserError(
            "Only `not:` was given. Say first which targets are meant: `all` begins with every one of them."
        )
    book.match([t.value for t in terms if t.kind == "name"])  # all unknown names are told together
    everything = targets(index) if any(t.kind != "name" for t in terms) else ()
    found: dict[str, dict[str, TargetGroup]] = {}
    away: set[str] = set()
    for term in terms:
        if term.needs_look and not term.negative:
            found.setdefault(term.kind, {}).update({g.name: g for g in everything if _may_be(term, g)})
        elif not term.needs_look:
            these = _meant(term, everything, book)
            if term.negative:
                away |= {g.name for g in these}
            else:
                kind = "name" if term.kind == "glob" else term.kind
                found.setdefault(kind, {}).update({g.name: g for g in these})
    order = found["name"].values() if "name" in found else everything
    kept = [g for g in order if all(g.name in of for of in found.values()) and g.name not in away]
    if not kept:
        raise UserError(_nothing(terms, found, away))
    if len(kept) > MOST:
        raise UserError(
            f"That means {len(kept)} targets; one command takes {MOST} at most. Narrow it, by space or env."
        )
    return Selection(groups=tuple(kept), terms=terms, notes=_notes(terms, index))


def _term(word: str, book: Book) -> Term:
    """Return what one word means: a name that exists literally is a name, whatever else it looks like."""
    typed = word.strip().rstrip(",;").strip()
    if typed and book.knows(word):
        return Term(text=word, kind="name", value=word)
    prefix, colon, rest = typed.partition(":")
    kind, rest = prefix.casefold(), rest.strip()
    if kind == "not" and colon:
        inner = _term(rest, book) if rest else None
        if inner is None or inner.negative:
            raise UserError(f"“{word}” says not what is taken away. Write for instance `not:env:Staging`.")
        return Term(text=word, kind=inner.kind, value=inner.value, days=inner.days, negative=True)
    if colon and kind in _OF_RECORD:
        if not rest:
            raise UserError(f"“{word}” lacks the name of the {_NOUNS[kind]}.")
        return Term(text=word, kind=kind, value=rest)
    if kind in _SPANS and colon:
        span = _SPAN.fullmatch(rest.casefold())
        if span is None:
            raise UserError(f"“{word}” needs a time span: so many d, w, m or y, such as `{kind}:30d`.")
        return Term(text=word, kind=kind, days=int(span[1]) * _DAYS[span[2]])
    folded = typed.casefold()
    if folded in _SORTS:
        return Term(text=word, kind="sort", value=folded)
    if folded == "all" or folded in _SEEN:
        return Term(text=word, kind=folded)
    if _GLOB.search(typed):
        return Term(text=word, kind="glob", value=typed)
    return Term(text=word, kind="name", value=word)


def _meant(term: Term, everything: Sequence[TargetGroup], book: Book) -> list[TargetGroup]:
    """Return the targets of a term that Octopus alone decides; UserError where there is none."""
    if term.kind == "name":
        return list(book.match([term.value]))
    if term.kind == "all":
        found = list(everything)
    elif term.kind == "sort":
        found = [g for g in everything if any(r.kind is _SORTS[term.value] for r in g.records)]
    elif term.kind == "glob":
        pattern = fold(term.value)
        found = [g for g in everything if any(fnmatchcase(fold(n), pattern) for n in g.names)]
    else:
        pattern, values = fold(term.value), _OF_RECORD[term.kind]
        found = [g for g in everything if any(fnmatchcase(fold(v), pattern) for r in g.records for v in values(r))]
        if not found:
            raise UserError(_unknown(term, everything))
    if not found:
        raise UserError(f"“{term.text}” matches no target in Octopus that I may see. Nothing was done.")
    return found


def _unknown(term: Term, everything: Sequence[TargetGroup]) -> str:
    noun, values = _NOUNS[term.kind], _OF_RECORD[term.kind]
    known = {fold(v): v for g in everything for r in g.records for v in values(r)}
    near = difflib.get_close_matches(fold(term.value), known, 1)
    if near:
        hint = f"Did you mean “{known[near[0]]}”?"
    elif known:
        hint = f"There are: {_listed(sorted(known.values()))}."
    else:
        hint = f"No target that I may see has any {noun}."
    return f"“{term.text}” matches no target that I may see. {hint} Nothing was done."


def _may_be(term: Term, group: TargetGroup) -> bool:
    """Whether a target may have what a look must tell; Octopus knows of SHA-1 where it noted the algorithm."""
    if term.kind != "sha1":
        return True
    told = [_is_sha1(r) for r in group.records]
    return True in told or None in told


def _is_sha1(record: Record) -> bool | None:
    algorithm = (record.signature_algorithm or "").casefold()
    return algorithm.startswith(("sha1", "md5")) if algorithm else None


def _tells(term: Term, facts: TargetFacts, now: datetime) -> bool | None:
    certificate = facts.certificate
    if term.kind == "inconsistent":
        consistent = facts.consistent
        return None if consistent is None else not consistent
    if certificate is None:
        told = [_is_sha1(r) for r in facts.records]
        return told[0] if term.kind == "sha1" and told else None
    if term.kind == "sha1":
        return certificate.is_sha1
    if term.kind == "weak":
        return certificate.is_weak
    span = timedelta(days=term.days)
    return certificate.not_after <= now + span if term.kind == "expiring" else certificate.not_before <= now - span


def _nothing(terms: Sequence[Term], found: dict[str, dict[str, TargetGroup]], away: set[str]) -> str:
    pieces = []
    for kind, of in found.items():
        kinds = {"name", "glob"} if kind == "name" else {kind}
        words = " ".join(t.text for t in terms if t.kind in kinds and not t.negative)
        pieces.append(f"{words} means {len(of)}")
    less = f", and `not:` takes away {len(away)}" if away else ""
    return f"Together these words mean no target: {', '.join(pieces)}{less}. Nothing was done."


def _notes(terms: Sequence[Term], index: EstateIndex) -> tuple[str, ...]:
    """Return what may be missing from a selection; of plain names nothing can be."""
    if all(t.kind == "name" for t in terms):
        return ()
    notes = []
    if index.unreadable_spaces:
        notes.append(
            "the key cannot see all machines, so the selection may lack some: " + _listed(index.unreadable_spaces)
        )
    others = list(index.other_machines)
    for term in terms:
        if term.kind == "glob" and not term.negative:
            others = [n for n in index.other_machines if fnmatchcase(fold(n), fold(term.value))]
    if others and any(t.kind in {"all", "glob", "sort"} and not t.negative for t in terms):
        notes.append(f"left out because they have no Tentacle certificate: {_listed(others)}")
    return tuple(notes)


def _listed(names: Sequence[str]) -> str:
    more = f", … ({len(names) - SHOWN} more)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more

"""The three witnesses of a target in words: what each saw, whether they agree, and what it means if they do not."""

from bot.domain.facts import Record, Sighting, Style, TargetFacts
from bot.domain.thumbprint import Thumbprint, revealed
from bot.slack.blocks import Line, bold, code, emoji, joined, say
from bot.slack.text import clean, listed, sentence
from bot.slack.words import link_to

PLACES = {"bot": "the bot", "host": "the host itself", "octopus": "Octopus"}

_RECORDS = 6
"""Records with the same thumbprint that are named; of more only the number is."""


def place_of(sighting: Sighting) -> str:
    """Return from where somebody looked, in words."""
    return PLACES.get(sighting.place, clean(sighting.place, 40))


def agreement(facts: TargetFacts) -> Line:
    """Return in one sentence which witnesses there are and whether they agree."""
    there = _there(facts)
    if facts.consistent:
        return [emoji("white_check_mark"), say(f" {listed(there, 6)} agree.")]
    if facts.consistent is None:
        return [emoji("warning"), say(f" only {listed(there, 6) if there else 'nobody'} could say anything.")]
    return [emoji("warning"), say(" they differ. "), say(meaning(facts))]


def _there(facts: TargetFacts) -> list[str]:
    found = ["configured"] if facts.configured else []
    seen = [place_of(s) for s in facts.handshakes if s.thumbprint]
    if seen:
        found.append(f"served (seen by {' and '.join(dict.fromkeys(seen))})")
    return found + (["recorded"] if facts.recorded else [])


def seen_lines(facts: TargetFacts, *, only_trouble: bool = False) -> list[Line]:
    """Return a paragraph per witness: its kind and where it was seen, then its thumbprint on a line of its own.

    So they stand one above the other, on a phone too, and a difference meets the eye.
    """
    if only_trouble and facts.consistent:
        return []
    found: list[Line] = []
    if facts.configured:
        where = f" on {clean(facts.host.computer, 60)}" if facts.host else ""
        found.append([bold("Configured"), say(f"{where}\n"), code(facts.configured)])
    else:
        found.append([bold("Configured "), say(_why_unconfigured(facts))])
    found += _served_lines(facts)
    by_text: dict[str, list[Record]] = {}
    for record in facts.records:
        by_text.setdefault(record.stored or record.thumbprint or "", []).append(record)
    for text, records in by_text.items():
        shown = code(clean(revealed(text), 80)) if text else say("no thumbprint", italic=True)
        places = [[*link_to(r), say(f" in {clean(r.space, 60)}")] for r in records[:_RECORDS]]
        places += [[say(f"… ({len(records) - _RECORDS} more)")]] if len(records) > _RECORDS else []
        found.append([bold("Recorded"), say(" as "), *joined(places, ", "), say("\n"), shown])
    return found


def _served_lines(facts: TargetFacts) -> list[Line]:
    if facts.style is Style.POLLING and not facts.served:
        return [
            [bold("Served "), say("not to be seen: it polls, so nothing listens. A fresh health check is its witness.")]
        ]
    places: dict[Thumbprint, list[str]] = {}
    blind: list[Line] = []
    for sighting in facts.handshakes:
        if sighting.thumbprint:
            places.setdefault(sighting.thumbprint, []).append(place_of(sighting))
        else:
            why = sentence(clean(sighting.error or "nothing was seen", 250))
            blind.append(
                [bold("Served "), say(f"not seen by {place_of(sighting)} at {clean(sighting.address, 80)}: {why}")]
            )
    seen: list[Line] = [
        [bold("Served"), say(f" to {' and '.join(dict.fromkeys(p))}\n"), code(t)] for t, p in places.items()
    ]
    return seen + blind or [[bold("Served "), say("nobody looked.")]]


def _why_unconfigured(facts: TargetFacts) -> str:
    if facts.host is None:
        return sentence("not seen: " + clean(facts.host_error or "the host did not answer", 300))
    if facts.instance is None:
        return sentence("not seen: " + clean(facts.instance_error or "no instance on the host is this Tentacle", 500))
    return sentence("not seen: " + clean(facts.instance.error or "no certificate is configured", 300))


def meaning(facts: TargetFacts) -> str:
    """Return which witness differs and what that means, as sentences."""
    configured, served, recorded = facts.configured, facts.served, facts.recorded
    found: list[str] = []
    pending = len(served) == 1 and configured is not None and served[0] != configured
    if len(served) > 1:
        found.append(
            "Different places see different certificates served: it restarts just now, or something stands between. "
            "Look again in a minute."
        )
    if pending:
        found.append("A restart is pending: the configured certificate is not the one that is served.")
        if set(recorded) == {served[0]}:
            found.append("After its restart Octopus will refuse it, because it records the one that is served now.")
    if len(recorded) > 1:
        found.append("Its records in Octopus differ from each other.")
    in_force = served[0] if len(served) == 1 else configured
    wrong = [r for r in facts.records if r.thumbprint and in_force and r.thumbprint != in_force]
    if wrong:
        where = listed([f"{r.name} in {r.space}" for r in wrong], 3)
        until = " until it restarts" if pending and set(recorded) == {configured} else ""
        found.append(f"Octopus refuses it{until}, because it records another thumbprint ({where}): Unavailable.")
    if any(r.thumbprint is None for r in facts.records):
        found.append("A record in Octopus stores no thumbprint at all.")
    odd = [r for r in facts.records if r.stored and r.thumbprint]
    if odd:
        where = listed([f"{r.name} in {r.space}" for r in odd], 3)
        found.append(
            f"Octopus refuses it: the thumbprint that it records ({where}) is not written as Octopus compares it, "
            "in 40 capital digits and nothing else."
        )
    is_wrong = bool(wrong or odd) or not all(r.thumbprint for r in facts.records)
    found.append(_remedy(pending=pending, wrong=is_wrong))
    return " ".join(t for t in found if t)


def _remedy(*, pending: bool, wrong: bool) -> str:
    if pending:
        return "Find out who changed the configuration before its service is restarted."
    return "Correct the thumbprint in Octopus, then run check-health." if wrong else ""

"""Answers to `show-thumbprint` and `check-health`."""

from collections.abc import Sequence
from datetime import datetime

from bot.domain.certificate import CertificateDetails
from bot.domain.facts import Health, TargetFacts
from bot.octopus.tasks import HealthReport
from bot.slack.blocks import (
    Json,
    Line,
    bold,
    bullets,
    code,
    emoji,
    first_fitting,
    header,
    line,
    link,
    name,
    preformatted,
    rich,
    say,
    within,
)
from bot.slack.message import Message
from bot.slack.text import clean, count, day, escape, listed
from bot.slack.witnesses import meaning, seen_lines
from bot.slack.words import key_of, what_it_is

HEALTH_ICONS = {
    Health.HEALTHY: "white_check_mark",
    Health.HAS_WARNINGS: "warning",
    Health.UNHEALTHY: "x",
    Health.UNAVAILABLE: "x",
    Health.UNKNOWN: "grey_question",
}
_CHECKED = {"", "Success", "Failed"}
"""States of a Health task after which the health is what it found; the empty one where none was started."""
SOON_DAYS = 30
"""A certificate that expires sooner than this is marked."""


def thumbprints(facts_list: Sequence[TargetFacts], *, now: datetime) -> Message:
    """Return the witnesses of each target, whether they agree, and what it means if they do not."""
    texts = [f"{escape(f.name)}: {_verdict_text(f)}" for f in facts_list]

    def full() -> list[Json | None]:
        return [_thumbprint(f, now) for f in facts_list]

    def brief() -> list[Json | None]:
        return [rich(bullets(within([_brief(f) for f in facts_list], 10_500, 200)))]

    return first_fitting("\n".join(texts), [full, brief] if len(facts_list) <= 40 else [brief])


def _verdict_text(facts: TargetFacts) -> str:
    if facts.consistent:
        return f"all witnesses agree on `{facts.recorded[0] if facts.recorded else facts.configured}`."
    if facts.consistent is None:
        return "too few witnesses could be seen to tell."
    return escape(meaning(facts))


def _verdict(facts: TargetFacts) -> Line:
    if facts.consistent and facts.configured is None:
        return [
            emoji("grey_question"),
            say(" The witnesses that were seen agree, but its host was not seen. Mend what hides it and look again."),
        ]
    if facts.consistent:
        return [emoji("white_check_mark"), say(" All witnesses agree.")]
    if facts.consistent is None:
        return [
            emoji("grey_question"),
            say(" Too few witnesses were seen to tell whether they agree. Mend what hides them and look again."),
        ]
    return [emoji("warning"), say(" "), say(meaning(facts))]


def _thumbprint(facts: TargetFacts, now: datetime) -> Json:
    lines = seen_lines(facts)
    lines.append(_trust(facts))
    if facts.certificate:
        lines.append([bold("Certificate "), *_details(facts.certificate, now)])
    if facts.clones:
        twins = listed([f"{r.name} in {r.space}" for r in facts.clones], 3)
        lines.append([bold("Clone "), say(f"the same thumbprint stands on another endpoint: {twins}.")])
    return rich(
        line(name(facts.name), say(f"  {what_it_is(facts)}")), line(*_verdict(facts)), *[line(*one) for one in lines]
    )


def _trust(facts: TargetFacts) -> Line:
    head = bold("Trust ")
    if facts.instance is None:
        return [head, say("not seen, because its configuration was not.")]
    if facts.server is None:
        return [head, say("not told: the bot's key may not read the Server's certificate.")]
    trusted = {t.thumbprint for t in facts.instance.trusted}
    foreign = [t for t in facts.instance.trusted if t.thumbprint != facts.server]
    others = [t.text for t in foreign if not t.looks_like]
    more = f" It also trusts another Server: {listed(others, 3)}." if others else ""
    odd = [t.shown for t in foreign if t.looks_like]
    if odd:
        more += f" No thumbprint to Octopus, so it lets nobody in: the entry {listed(odd, 3)}."
    if facts.server in trusted:
        return [head, say(f"it trusts the Server's current certificate.{more}")]
    return [
        head,
        emoji("warning"),
        say(" it does not trust the Server's current certificate "),
        code(facts.server),
        say(f", so the Server cannot work with it.{more}"),
    ]


def _details(certificate: CertificateDetails, now: datetime) -> Line:
    left = certificate.days_left(now)
    validity = f"valid {day(certificate.not_before)} to {day(certificate.not_after)}"
    validity += f" ({count(left, 'day')} left)" if left >= 0 else f" (expired {count(-left, 'day')} ago)"
    found: Line = [
        say(f"subject {clean(certificate.subject, 200)}, issuer {clean(certificate.issuer, 200)}, {validity}, "),
        say(f"{key_of(certificate)}."),
    ]
    if left < SOON_DAYS:
        found += [say(" "), emoji("warning"), say(" Replace it soon." if left >= 0 else " Replace it now.")]
    if certificate.is_sha1:
        found += [say(" "), emoji("warning"), say(" Signed with SHA-1, which Octopus refuses since 2025.3.")]
    if certificate.is_weak:
        found += [say(" "), emoji("warning"), say(" Its key is too short to be served.")]
    return found


def _brief(facts: TargetFacts) -> Line:
    if facts.consistent and facts.recorded:
        return [emoji("white_check_mark"), say(" "), name(facts.name), say(" "), code(facts.recorded[0])]
    icon = "grey_question" if facts.consistent is None else "warning"
    return [emoji(icon), say(" "), name(facts.name), say(" "), *_verdict(facts)[1:]]


def health_started(names: Sequence[str], task_urls: Sequence[str]) -> Message:
    """Return that Octopus was asked to check these targets."""
    text = f"Octopus checks the health of {escape(listed(names, 5), 400)}."
    elements: Line = [
        emoji("hourglass_flowing_sand"),
        say(f" Octopus checks the health of {listed(names, 8)}. The result follows here."),
    ]
    for number, url in enumerate(task_urls[:10], 1):
        elements += [say(" "), link(url, "Task" if len(task_urls) == 1 else f"Task {number}")]
    return first_fitting(text, [lambda: [rich(line(*elements))]])


def health_result(reports: Sequence[HealthReport]) -> Message:
    """Return what Octopus found, with the error lines where it is not well."""
    good = sum(r.health.is_good for r in reports)
    title = f"{good} of {count(len(reports), 'record')} healthy"
    ordered = sorted(reports, key=lambda r: r.health.is_good)

    def full() -> list[Json | None]:
        return [header(title), *[_report(r) for r in ordered]]

    def brief() -> list[Json | None]:
        return [header(title), rich(bullets(within([_report_line(r) for r in ordered], 10_000, 200)))]

    text = "\n".join(f"{escape(r.name)}: {r.health.value}. {escape(r.summary)}" for r in ordered[:20])
    return first_fitting(text or title, [full, brief] if len(reports) <= 40 else [brief])


def _report_line(report: HealthReport) -> Line:
    found: Line = [emoji(HEALTH_ICONS[report.health]), say(" "), link(report.record.url, clean(report.name))]
    found += [say(f" in {clean(report.record.space, 60)}: "), bold(report.health.value)]
    found.append(say(f". {clean(report.summary)}" if report.summary else "."))
    if report.task_url:
        found += [say(" "), link(report.task_url, "Task")]
    return found


def _unfinished(report: HealthReport) -> str:
    return (
        f"The Health task is not done ({clean(report.task_state, 40)}), so this is what Octopus knew before. "
        "Look at the task, then run check-health again."
    )


def _report(report: HealthReport) -> Json:
    parts = [line(*_report_line(report))]
    if report.task_state not in _CHECKED:
        parts.append(line(emoji("hourglass_flowing_sand"), say(f" {_unfinished(report)}")))
    mismatch = report.mismatch
    if mismatch and mismatch.expected:
        parts.append(line(bold("Expected "), code(mismatch.expected)))
    if mismatch:
        parts.append(line(bold("Presented "), code(mismatch.presented)))
    if report.errors:
        parts.append(preformatted("\n".join(report.errors)))
    return rich(*parts)

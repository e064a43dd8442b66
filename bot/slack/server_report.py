"""Answers to `show-thumbprint server` and `check-health server`."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from bot.domain.facts import Health, NodeFacts, ServerFacts, Style
from bot.domain.thumbprint import Thumbprint
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
    name,
    rich,
    say,
    spoken,
    within,
)
from bot.slack.message import Message
from bot.slack.server_message import NOT_HTTPS
from bot.slack.text import clean, count, day, listed, sentence
from bot.slack.words import key_of


def thumbprint(told: Thumbprint, nodes: Sequence[NodeFacts], *, now: datetime) -> Message:
    """Return the Server's thumbprint from every side: the API, the database by each node's program, each handshake."""
    good = _agree(told, nodes)
    lines: list[Line] = [[bold("Told by the API "), say("\n"), code(told)]]
    for node in nodes:
        lines += _node(node)
    certificate = next((s.certificate for n in nodes for s in n.sightings if s.certificate), None)
    if certificate:
        left = certificate.days_left(now)
        lines.append(
            [
                bold("Certificate "),
                say(
                    f"subject {clean(certificate.subject, 200)}, valid until {day(certificate.not_after)} "
                    f"({count(left, 'day')} left), {key_of(certificate)}."
                ),
            ]
        )
    verdict = line(
        emoji("white_check_mark" if good else "warning"),
        say(" All witnesses agree." if good else " The witnesses differ, or not all could be seen. See below."),
    )
    text = f"The Server's certificate is `{told}`" + ("." if good else ", but not everywhere that could be seen.")
    blocks: list[Json | None] = [
        header("Octopus Server"),
        rich(verdict, *[line(*one) for one in within(lines, 9_000, 60)]),
        rich(line(say(NOT_HTTPS))),
    ]
    return first_fitting(text, [lambda: blocks])


def _agree(told: Thumbprint, nodes: Sequence[NodeFacts]) -> bool:
    seen = [t for n in nodes for t in n.served]
    stored = [n.instance.stored for n in nodes if n.instance and n.instance.stored]
    return bool(seen) and {*seen, *stored} == {told} and all(n.served or n.node.is_offline for n in nodes)


def _node(node: NodeFacts) -> list[Line]:
    if node.node.is_offline:
        return [[name(node.name), say(" does not run; it loads the certificate from the database when it starts.")]]
    found: list[Line] = [[name(node.name), say(" serves\n"), code(seen)] for seen in node.served]
    if not node.served:
        why = next((s.error for s in node.sightings if s.error), None) or node.host_error or node.instance_error
        found.append([name(node.name), say(": what it serves was not seen. "), *spoken(sentence(why or ""), 300)])
    if node.host is None and node.served:
        found.append([name(node.name), say(": its host was not seen. "), *spoken(sentence(node.host_error or ""), 300)])
    elif node.instance and node.instance.stored is None:
        why = node.instance.stored_error or "its program said nothing"
        found.append([name(node.name), say(": its database could not be asked. "), *spoken(sentence(why), 300)])
    return found


def health(facts: ServerFacts) -> Message:
    """Return how the Server is: its nodes, the certificate of each, and how many Tentacles trust what."""
    running = [n for n in facts.nodes if not n.node.is_offline]
    good = bool(running) and all(set(n.served) == {facts.thumbprint} for n in running)
    lines: list[Line] = []
    for node in facts.nodes:
        served = listed([f"{t.short}…" for t in node.served], 3) if node.served else "nothing that could be seen"
        state = "does not run" if node.node.is_offline else f"serves {served}"
        tasks = f", {node.node.running_tasks} of {node.node.task_cap} tasks" if not node.node.is_offline else ""
        drained = ", drained" if node.node.is_drained else ""
        icon = "white_check_mark" if set(node.served) == {facts.thumbprint} and not node.node.is_drained else "warning"
        lines.append([emoji(icon), say(" "), name(node.name), say(f" {state}{tasks}{drained}.")])
    blocks: list[Json | None] = [
        header("Octopus Server"),
        rich(line(say(f"Version {clean(facts.version, 40)}, certificate "), code(facts.thumbprint))),
        rich(bullets(lines)) if lines else None,
        rich(line(bold("Trust")), bullets(_trust(facts))),
        rich(line(bold("Health in Octopus: "), say(_healths(facts)))),
    ]
    text = f"{len(running)} of {count(len(facts.nodes), 'node')} run; " + (
        "all serve the Server's certificate." if good else "not all were seen to serve the Server's certificate."
    )
    return first_fitting(text, [lambda: blocks])


def _trust(facts: ServerFacts) -> list[Line]:
    """Return how many Tentacles trust the certificate, trust others beside it, do not trust it, or were not seen."""
    trusting, others, without, unseen = 0, Counter[str](), list[str](), list[str]()
    for one in facts.tentacles:
        if one.instance is None:
            unseen.append(one.name)
            continue
        if facts.thumbprint in {t.thumbprint for t in one.instance.trusted}:
            trusting += 1
        else:
            without.append(one.name)
        others.update({t.shown for t in one.instance.trusted if t.thumbprint != facts.thumbprint})
    polling = sum(t.style is Style.POLLING for t in facts.tentacles)
    found: list[Line] = [
        [say(f"{trusting} of {count(len(facts.tentacles), 'Tentacle')} ({polling} polling) trust it.")],
    ]
    found += [[code(clean(text, 60)), say(f" is trusted by {number}, too.")] for text, number in others.most_common(5)]
    if without:
        found.append([emoji("warning"), say(f" {len(without)} do not trust it: {listed(without, 10)}.")])
    if unseen:
        found.append([emoji("grey_question"), say(f" {len(unseen)} could not be seen: {listed(unseen, 10)}.")])
    if facts.others:
        found.append([say(f"{count(len(facts.others), 'other machine')} go by no certificate that I can see.")])
    return found


def _healths(facts: ServerFacts) -> str:
    counted = Counter(r.health for t in facts.tentacles for r in t.records)
    return ", ".join(f"{counted[h]} {h.value}" for h in Health if counted[h]) or "no records"

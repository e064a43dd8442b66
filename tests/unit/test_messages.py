"""Every message, over many runs: within Slack's limits, with the buttons and the facts that people need."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bot.audit import Entry, Recorded
from bot.domain.errors import UserError
from bot.domain.facts import Health, Pool, RecordKind, Sighting, Style, TaskInfo
from bot.domain.plan import Order, Plan, Refusal, Source, StepKind
from bot.domain.run import (
    Decision,
    Outcome,
    OutcomeKind,
    Run,
    RunState,
    StepProgress,
    StepState,
    TargetProgress,
)
from bot.octopus.tasks import HealthReport
from bot.sandbox.slack.model import elements_of, texts
from bot.sandbox.slack.validator import BLOCKS_TOTAL, blocks_length, check_message
from bot.slack import messages
from bot.slack.message import Message
from tests import making
from tests.making import NOW, certificate, facts, instance, pfx_source, plan, polling, record, thumbprint

DECIDED = Decision(user="U0ADA", user_name="ada", approved=True, at=NOW + timedelta(minutes=4))
HOSTILE = "x`<@U0EVIL> *b* _i_ ~s~ <!channel> <https://evil.example|ok> :boom: & \u202egnp\u202c.exe " + "A" * 300
NAMES = [HOSTILE, "Ω-сервер-01", "web 01 (Payments)", "*", "`", "<!here>", "&amp;", "a" * 200, "\u202e", "-"]
PENDING = StepState.PENDING


def run_of(of: Plan, state: RunState = RunState.PROPOSED, **changes) -> Run:
    """Return a run of a plan, nothing of it begun unless said otherwise."""
    targets = tuple(progress(of, t.name) for t in of.targets)
    plain = Run(
        id="r-7k2m9q4x",
        plan=of,
        state=state,
        created=NOW,
        expires=NOW + timedelta(minutes=30),
        nonce="n0nce",
        targets=targets,
    )
    return replace(plain, **changes)


def progress(of: Plan, name: str, done: int = -1, detail: str = "", outcome: Outcome | None = None) -> TargetProgress:
    """Return how far a target is: `done` steps complete and the next in progress; -1 where nothing was begun."""
    steps = []
    for number, step in enumerate(of.target(name).steps):
        state = StepState.COMPLETE if number < done else StepState.IN_PROGRESS if number == done else PENDING
        steps.append(StepProgress(step=step, state=state, detail=detail if number == done else ""))
    return TargetProgress(name=name, steps=tuple(steps), outcome=outcome)


def ended(of: Plan, name: str, kind: OutcomeKind = OutcomeKind.HEALTHY, **changes) -> Outcome:
    """Return what became of a target, as the runs say it."""
    old = of.target(name).old
    bad = {} if kind.changed else {"what": "it went wrong", "now": "the old one is in force", "advice": "mend it"}
    plain = Outcome(
        target=name,
        kind=kind,
        old=old,
        new=thumbprint(99) if kind.changed else None if kind is OutcomeKind.FAILED else old,
        health=Health.HEALTHY if kind is OutcomeKind.HEALTHY else None,
        seconds=42.0,
        **bad,
    )
    return replace(plain, **changes)


def over(of: Plan, *kinds: OutcomeKind, **changes) -> Run:
    """Return a finished run whose targets ended in these ways, over and over."""
    targets = tuple(
        progress(of, t.name, 99, outcome=ended(of, t.name, kinds[i % len(kinds)])) for i, t in enumerate(of.targets)
    )
    changes = {"decision": DECIDED, "ended": NOW + timedelta(minutes=6), "targets": targets} | changes
    return run_of(of, RunState.FINISHED, **changes)


def fleet(number: int, *, hostile: bool = False) -> Plan:
    """Return the plan of a fleet; hostile names, records and tasks if wanted."""
    every = []
    for i in range(number):
        name = f"{NAMES[i % len(NAMES)]}{i}" if hostile else f"web-{i:03}"
        one = polling(name, i + 1) if i % 5 == 4 else facts(name, i + 1)
        if hostile:
            more = tuple(
                replace(one.records[0], id=f"M-{i}-{k}", space=f"{HOSTILE}{k}", environments=(HOSTILE, f"E{k}"))
                for k in range(1 + i % 9)
            )
            task = TaskInfo(id="T", name="Deploy", description=HOSTILE, state="Executing")
            one = replace(one, records=more, tasks=(task,))
        every.append(one)
    made = plan(*every, reason=HOSTILE * 3 if hostile else "yearly rotation")
    assert len(made.targets) == number
    if hostile:
        refusals = tuple(Refusal(name=n, reason=HOSTILE, advice=HOSTILE) for n in NAMES * 3)
        made = replace(made, refused=refusals)
    return made


def shown(message: Message) -> str:
    """Return all that a reader of a message sees."""
    return "\n".join(piece for block in message.blocks for piece in texts(block))


def buttons(message: Message) -> list[str]:
    """Return the labels of a message's buttons."""
    return [e.label for e in elements_of(message.blocks)]


def mentioned(message: Message) -> set[str]:
    """Return the ids of everybody whom a message mentions in its blocks."""

    def walk(node):
        if isinstance(node, dict):
            if node.get("type") in {"user", "usergroup", "broadcast", "channel"}:
                yield str(node.get("user_id") or node.get("range") or node.get("channel_id"))
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list | tuple):
            for value in node:
                yield from walk(value)

    return set(walk(message.blocks))


def assert_valid(message: Message) -> None:
    """Assert that Slack takes a message, and that it does what it should with text from outside."""
    payload = {"text": message.text, "blocks": list(message.blocks)}
    assert check_message(payload) == []
    assert blocks_length(payload["blocks"]) <= BLOCKS_TOTAL
    assert message.text.strip()
    for harm in ("<!channel>", "<!here>", "<https://evil", "<@U0EVIL>"):
        assert harm not in message.text
    assert mentioned(message) <= {"U0RITA", "U0ADA", "U0BEN"}
    assert "\u202e" not in shown(message)


SIZES = [1, 2, 3, 4, 8, 9, 17, 60, 200]


@pytest.mark.parametrize("hostile", [False, True], ids=["plain", "hostile"])
@pytest.mark.parametrize("number", SIZES)
def test_every_message_about_a_run_is_valid_whatever_its_size_and_names(number, hostile):
    """Each state, each outcome, plain and rich: no limit is broken and no name does anything but stand there."""
    of = fleet(number, hostile=hostile)
    detail = HOSTILE if hostile else "waiting for a deployment"
    live = tuple(progress(of, t.name, i % 9 - 1, detail) for i, t in enumerate(of.targets))
    stage = HOSTILE if hostile else "wave 1 of 2"
    runs = [run_of(of, state) for state in RunState]
    runs += [
        run_of(of, state, decision=DECIDED, targets=live, stage=stage, stopped_by="U0RITA", retry_of="r-1")
        for state in RunState
    ]
    runs += [over(of, kind) for kind in OutcomeKind] + [over(of, *OutcomeKind)]
    for run in runs:
        for rich in (False, True):
            assert_valid(messages.plan_posted(run, now=NOW, rich=rich))
        for of_run in (messages.approved, messages.denied, messages.expired, messages.cancelled, messages.finished):
            assert_valid(of_run(run))
        assert_valid(messages.status_one(run, now=NOW))
        for outcome in run.outcomes[:10]:
            assert_valid(messages.outcome(run, outcome))
            long = replace(outcome, what=HOSTILE * 30, undone=HOSTILE * 30, now=HOSTILE * 30, advice=HOSTILE * 30)
            assert_valid(messages.outcome(run, long))
    assert_valid(messages.status(runs, now=NOW))
    name = of.targets[0].name
    assert_valid(messages.stale(runs[0], name, [HOSTILE] * 40))
    assert_valid(messages.swept(runs[0], name))
    assert_valid(messages.plan_only(of, NOW))
    assert_valid(messages.refusals(of))
    assert_valid(messages.thumbprints([t.facts for t in of.targets], now=NOW))


@pytest.mark.parametrize("number", [1, 5, 41, 200])
def test_reports_of_health_are_valid_whatever_their_size(number):
    """Error lines come from outside and may be long."""
    of = [
        replace(record(f"{HOSTILE}{i}", i + 1), space=HOSTILE, url="https://octopus.example/x") for i in range(number)
    ]
    for health in Health:
        reports = [
            HealthReport(
                name=r.name, record=r, health=health, summary=HOSTILE, errors=(HOSTILE * 3,) * 5, task_url="x:"
            )
            for r in of
        ]
        assert_valid(messages.health_result(reports))
    assert_valid(messages.health_started([r.name for r in of], ["https://octopus.example/t"] * number))


def test_only_a_run_that_may_still_move_has_buttons_that_move_it():
    """Approve and Deny while it is proposed, Stop while it runs, and neither at its end."""
    of = plan()
    wanted = {
        RunState.PROPOSED: ["Approve", "Deny"],
        RunState.RUNNING: ["Stop"],
        RunState.STOPPING: ["Stop"],
        RunState.DENIED: [],
        RunState.EXPIRED: [],
        RunState.CANCELLED: [],
    }
    for state, labels in wanted.items():
        for rich in (False, True):
            assert buttons(messages.plan_posted(run_of(of, state), now=NOW, rich=rich)) == labels


def test_buttons_carry_the_run_and_its_nonce_and_ask_before_they_count():
    """Everything else is looked up in the ledger."""
    message = messages.plan_posted(run_of(plan()), now=NOW)
    for element, action, style in zip(
        elements_of(message.blocks), ["octocert_approve", "octocert_deny"], ["primary", "danger"], strict=True
    ):
        assert (element.action_id, element.value) == (action, "r-7k2m9q4x:n0nce")
        assert element.raw["style"] == style
        assert "web-01" in element.raw["confirm"]["text"]["text"]


@pytest.mark.parametrize(
    ("kinds", "labels"),
    [
        ([OutcomeKind.HEALTHY], ["Roll back"]),
        ([OutcomeKind.UNDONE], ["Retry"]),
        ([OutcomeKind.SKIPPED, OutcomeKind.UNTOUCHED], ["Retry"]),
        ([OutcomeKind.HEALTHY, OutcomeKind.FAILED], ["Retry", "Roll back"]),
        ([OutcomeKind.NOT_PROVEN, OutcomeKind.UNHEALTHY], ["Roll back"]),
    ],
)
def test_retry_and_roll_back_stand_where_they_make_sense(kinds, labels):
    """In the root message always; in the thread under the outcome of one target, under the summary of several."""
    many, one = fleet(2), fleet(1)
    run = over(many, *kinds)
    assert buttons(messages.plan_posted(run, now=NOW)) == labels
    assert buttons(messages.finished(run)) == labels
    assert buttons(messages.outcome(run, run.outcomes[0])) == []
    single = over(one, kinds[0])
    assert buttons(messages.finished(single)) == []
    assert buttons(messages.outcome(single, single.outcomes[0])) == buttons(messages.plan_posted(single, now=NOW))


def test_an_approval_that_has_expired_allows_no_retry():
    """Then a new plan is needed."""
    run = over(plan(), OutcomeKind.UNDONE)
    assert buttons(messages.plan_posted(run, now=run.expires)) == []


def test_an_approver_sees_what_stops_and_for_how_long_before_anything_else():
    """The top of the message: who asks and why, what stops, the new certificate, and until when."""
    top = shown(Message("", messages.plan_posted(run_of(plan(reason="yearly rotation")), now=NOW).blocks[:2]))
    assert "Rotate web-01" in top
    assert "until 2026-01-05 09:30 UTC" in top
    assert "<@U0RITA>" in top
    assert "yearly rotation" in top
    assert "The Tentacle restarts once and is away for about 20 s" in top
    assert "made on its host" in top


def test_the_plan_shows_both_thumbprints_whole_and_the_certificate_of_a_pfx():
    """Forty digits each: an approver may compare them with what stands elsewhere."""
    of = plan(source=pfx_source(subject="CN=web-01.corp.example", issuer="CN=Example CA"))
    text = shown(messages.plan_posted(run_of(of), now=NOW))
    for words in (thumbprint(1), thumbprint(7), "CN=web-01.corp.example", "CN=Example CA", "2027-01-05", "pfx:web"):
        assert words in text
    assert of.digest[:8].upper() in text
    assert "looked at" in text


def test_the_plan_names_records_by_space_with_links_and_the_workers_that_are_left():
    """What is changed in Octopus, and who is left to work."""
    urls = ("https://octopus.example/a", "https://octopus.example/b")
    records = (
        record("worker-01", kind=RecordKind.WORKER, pools=("Build",), environments=(), url=urls[0]),
        record("pay-worker", kind=RecordKind.WORKER, pools=("Build",), space="Payments", url=urls[1]),
    )
    of = plan(facts("worker-01", records=records, pools=(Pool(name="Build", workers=4, healthy=3),)))
    message = messages.plan_posted(run_of(of), now=NOW)
    text = shown(message)
    assert "in Default: worker-01; in Payments: pay-worker" in text
    assert "2 of 4 in the pool Build stay healthy meanwhile" in text
    assert all(url in str(message.blocks) for url in urls)


def test_warnings_stand_before_the_targets_and_notes_with_them():
    """A running deployment and the documented order are read first."""
    busy = facts(tasks=(TaskInfo(id="T", name="Deploy", description="Deploy Shop 1.2.3", state="Executing"),))
    text = shown(messages.plan_posted(run_of(plan(busy, order=Order.DOCUMENTED)), now=NOW))
    first = text.index("Look at this first")
    assert first < text.index("Deploy Shop 1.2.3") < text.index(thumbprint(1))
    assert "Documented order" in text or "documented order" in text
    assert "is stopped, changed and started" in text


def test_a_sighting_that_failed_is_shown_with_its_reason():
    """No witness is as important as one."""
    blind = facts(sightings=(Sighting(place="bot", address="web-01:10933", thumbprint=None, error="no route"),))
    text = shown(messages.plan_posted(run_of(plan(blind)), now=NOW))
    assert "No witness from bot: no route" in text


def test_refused_targets_stand_in_the_plan_with_reason_and_advice():
    """Somebody asked for them too."""
    of = replace(plan(), refused=(Refusal(name="lost-01", reason="no answer", advice="Mend `winrm` first."),))
    text = shown(messages.plan_posted(run_of(of), now=NOW))
    assert "Not touched: 1 target" in text
    assert "lost-01: No answer. Mend winrm first." in text
    nothing = messages.refusals(replace(of, targets=(), waves=()))
    assert "lost-01" in shown(nothing)
    assert buttons(nothing) == []


def test_plan_only_has_nothing_to_press():
    """`plan` proposes nothing."""
    message = messages.plan_only(plan())
    assert buttons(message) == []
    assert "Nothing was changed" in shown(message)


def test_a_large_fleet_keeps_its_buttons_and_says_how_many_it_does_not_show():
    """Two hundred targets: one line each, with the first digits where the whole ones do not fit."""
    message = messages.plan_posted(run_of(fleet(200)), now=NOW)
    text = shown(message)
    assert "Rotate 200 Tentacles" in text
    assert "web-000 first and alone" in text
    assert buttons(message) == ["Approve", "Deny"]
    assert "web-199" in text or "more)" in text


def test_of_many_targets_what_an_approver_must_see_is_said_of_all_together():
    """Records by space, witnesses, polling ones, workers of a pool, notes."""
    worker = replace(
        facts("worker-01", 900, pools=(Pool(name="Build", workers=4, healthy=3),)),
        records=(record("worker-01", 900, kind=RecordKind.WORKER, pools=("Build",), space="Payments"),),
    )
    odd = facts("web-09", 901, sightings=(Sighting(place="bot", address="a:1", thumbprint=thumbprint(902)),))
    of = plan(*[t.facts for t in fleet(30).targets], worker, odd)
    text = shown(messages.plan_posted(run_of(of), now=NOW))
    for words in (
        "32 are corrected, 31 in Default and 1 in Payments",
        "too few were seen, for web-09",
        "6 of 32; their witness",
        "1 of the 3 healthy ones in the pool Build",
        "Polling: there is no handshake",
    ):
        assert words in text


def test_a_run_is_followed_step_by_step():
    """The step in progress with its detail, the counts, who approved."""
    of = fleet(3)
    targets = (
        progress(of, "web-000", 99, outcome=ended(of, "web-000")),
        progress(of, "web-001", 3, "stopping the service"),
        progress(of, "web-002"),
    )
    run = run_of(of, RunState.RUNNING, decision=DECIDED, targets=targets, stage="wave 2 of 2")
    for rich in (False, True):
        message = messages.plan_posted(run, now=NOW, rich=rich)
        text = shown(message)
        for words in ("Running", "wave 2 of 2", "1 healthy, 1 in progress, 1 waiting", "<@U0ADA>", "stopping the serv"):
            assert words in text
    assert "restart the service" in text


def test_of_many_targets_only_those_that_matter_are_shown_live():
    """More than eight: counts, and who is in progress or has failed."""
    of = fleet(12)
    targets = [progress(of, t.name) for t in of.targets]
    targets[0] = progress(of, "web-000", 99, outcome=ended(of, "web-000"))
    targets[1] = progress(of, "web-001", 99, outcome=ended(of, "web-001", OutcomeKind.UNDONE))
    targets[2] = progress(of, "web-002", 2)
    run = run_of(of, RunState.RUNNING, decision=DECIDED, targets=tuple(targets))
    for rich in (False, True):
        text = shown(messages.plan_posted(run, now=NOW, rich=rich))
        assert "1 healthy, 1 undone, 1 in progress, 9 waiting" in text
        assert "web-001" in text
        assert "web-002" in text
        assert "web-000" not in text
        assert "web-003" not in text


def test_a_plan_block_has_another_id_as_soon_as_it_says_something_else():
    """Slack's page says so: a block that changed wants a new block_id; one that did not keeps it."""
    of = plan()

    def block_id(done: int) -> str:
        run = run_of(of, RunState.RUNNING, decision=DECIDED, targets=(progress(of, "web-01", done),))
        blocks = messages.plan_posted(run, now=NOW, rich=True).blocks
        return next(b["block_id"] for b in blocks if b["type"] == "plan")

    assert block_id(1) == block_id(1)
    assert len({block_id(n) for n in range(7)}) == 7


def test_rich_and_plain_differ_only_while_the_run_goes_on():
    """Workspaces that refuse the newer blocks miss nothing else."""
    for run in (run_of(plan()), over(plan(), OutcomeKind.HEALTHY), run_of(plan(), RunState.DENIED)):
        assert messages.plan_posted(run, now=NOW, rich=True) == messages.plan_posted(run, now=NOW)


def test_a_good_outcome_has_both_thumbprints_health_and_duration():
    """What everybody wants to read."""
    run = over(plan(), OutcomeKind.HEALTHY)
    message = messages.outcome(run, run.outcomes[0])
    text = shown(message)
    for words in ("web-01", "healthy", "42 s", "Healthy", thumbprint(1), thumbprint(99)):
        assert words in text
    assert f"`{thumbprint(1)}` → `{thumbprint(99)}`" in message.text


def test_a_bad_outcome_says_what_happened_what_was_undone_how_it_is_now_and_what_to_do():
    """Each on its own line, what the host said in a box."""
    of = plan()
    outcome = ended(
        of,
        "web-01",
        OutcomeKind.UNDONE,
        what="Exit code 100: The certificate data cannot be read with the provided password.",
        undone="the service was restarted",
        now="The old certificate is in force.",
        advice="Mend the cause.",
        failed_step=StepKind.IMPORT,
    )
    run = over(of, OutcomeKind.UNDONE)
    message = messages.outcome(run, outcome)
    text = shown(message)
    for words in (
        "import the certificate",
        "cannot be read with the provided password",
        "Undone  The service was restarted.",
        "Now  The old certificate is in force.",
        "Next  Mend the cause.",
        "stays in force",
    ):
        assert words in text
    assert "rich_text_preformatted" in str(message.blocks)


def test_an_unknown_end_is_never_dressed_up():
    """Law 7: an unknown outcome is not reported as success."""
    run = over(plan(), OutcomeKind.FAILED)
    text = shown(messages.outcome(run, run.outcomes[0]))
    assert "not known" in text
    assert "needs a person" in text
    assert "need a person now" in shown(messages.finished(run))


def test_the_summary_counts_the_outcomes():
    """As many of each kind as there are."""
    run = over(fleet(5), OutcomeKind.HEALTHY, OutcomeKind.HEALTHY, OutcomeKind.UNDONE)
    assert "4 healthy, 1 undone" in shown(messages.finished(run)) + shown(messages.plan_posted(run, now=NOW))


def test_who_decided_is_named():
    """Approved, denied, taken back, expired: by whom, and that nothing was touched."""
    of = plan()
    assert "<@U0ADA>" in shown(messages.approved(run_of(of, RunState.RUNNING, decision=DECIDED)))
    no = replace(DECIDED, approved=False, reason="freeze until Monday")
    denied = shown(messages.denied(run_of(of, RunState.DENIED, decision=no)))
    assert "<@U0ADA> denied" in denied
    assert "freeze until Monday" in denied
    back = shown(messages.cancelled(run_of(of, RunState.CANCELLED, stopped_by="U0RITA")))
    assert "<@U0RITA> took this plan back. Nothing was touched." in back
    stop = shown(messages.cancelled(run_of(of, RunState.STOPPING, stopped_by="U0RITA", decision=DECIDED)))
    assert "asked to stop" in stop
    assert "Nothing was touched" in shown(messages.expired(run_of(of, RunState.EXPIRED)))
    retried = shown(messages.approved(run_of(of, RunState.RUNNING, decision=DECIDED, retry_of="r-1")))
    assert "repeats what failed in r-1" in retried


def test_only_people_of_the_run_are_mentioned_in_its_thread():
    """Our own sentence may name who stopped it; a program's output may call nobody."""
    run = over(plan(), OutcomeKind.UNTOUCHED, stopped_by="U0RITA")
    ours = replace(run.outcomes[0], what="The run was stopped by <@U0RITA>. It said <@U0EVIL> <!channel>.")
    message = messages.outcome(run, ours)
    assert mentioned(message) == {"U0RITA"}
    assert "<@U0EVIL> <!channel>" in shown(message)


# --- witnesses ------------------------------------------------------------------------------------------------------


def looked(**changes) -> str:
    """Return what `show-thumbprint` says of a target with some differences."""
    message = messages.thumbprints([facts(**changes)], now=NOW)
    assert_valid(message)
    return shown(message)


def served_as(seed: int) -> tuple[Sighting, ...]:
    """Return the bot's sighting of a certificate."""
    return (Sighting(place="bot", address="web-01:10933", thumbprint=thumbprint(seed), certificate=certificate(seed)),)


def test_three_witnesses_that_agree_are_said_to():
    """Configured, served, recorded; the trust; the certificate."""
    text = looked(sightings=served_as(1))
    for words in (
        "All witnesses agree",
        f"Configured on WEB-01\n{thumbprint(1)}",
        f"Served to the bot and the host itself\n{thumbprint(1)}",
        f"Recorded as web-01 in Default\n{thumbprint(1)}",
        "it trusts the Server's current certificate",
        "CN=web-01",
        "CN=Example CA",
        "RSA 2048 bits, signed with sha256",
        "365 days left",
    ):
        assert words in text


def test_a_pending_restart_is_recognised():
    """Configured differs from what is served; after a restart Octopus would refuse it."""
    own = Sighting(place="host", address="127.0.0.1:10933", thumbprint=thumbprint(1))
    text = looked(instance=instance(2, served=own))
    assert "A restart is pending" in text
    assert "After its restart Octopus will refuse it" in text


def test_a_wrong_record_is_recognised():
    """Octopus records another thumbprint: it will refuse the Tentacle."""
    text = looked(records=(record(seed=5),))
    assert "Octopus refuses it, because it records another thumbprint (web-01 in Default)" in text
    assert thumbprint(5) in text
    assert "Correct the thumbprint in Octopus" in text


def test_two_places_that_see_different_certificates_are_recognised():
    """Something stands between, or it restarts just now."""
    assert "Different places see different certificates" in looked(sightings=served_as(3))


def test_what_could_not_be_seen_is_said():
    """An unreachable host and a closed port: which witness is missing, and why."""
    text = looked(
        instance=None,
        host=None,
        host_error="lost-01:5986 did not answer",
        sightings=(Sighting(place="bot", address="lost-01:10933", thumbprint=None, error="timed out"),),
    )
    assert "Too few witnesses" in text
    assert "lost-01:5986 did not answer" in text
    assert "not seen by the bot at lost-01:10933: Timed out." in text


def test_a_polling_tentacle_has_no_handshake_to_look_at():
    """That is said and not taken for a fault."""
    text = shown(messages.thumbprints([polling()], now=NOW))
    assert "All witnesses agree" in text
    assert "it polls" in text


def test_a_tentacle_that_does_not_trust_the_server_is_recognised():
    """And one that trusts another Server too."""
    other = making.Trust(text="8F" * 20, style=Style.LISTENING)
    text = looked(instance=instance(trusted=(other,)))
    assert "it does not trust the Server's current certificate" in text
    assert "8F" * 20 in text


def test_a_weak_old_or_expired_certificate_is_marked():
    """SHA-1, short key, expired."""
    old = certificate(1, signature_hash="sha1", key_bits=1024, not_after=NOW - timedelta(days=3))
    sighting = Sighting(place="bot", address="web-01:10933", thumbprint=thumbprint(1), certificate=old)
    text = looked(sightings=(sighting,))
    for words in ("SHA-1", "too short", "expired 3 days ago", "Replace it now"):
        assert words in text


def test_a_failed_health_check_shows_both_thumbprints_and_the_error_lines():
    """The one that was expected and the one that was presented."""
    said = (
        f"The server at https://web-01:10933/ presented an unexpected security certificate. "
        f"We expected the server to present a certificate with the thumbprint '{thumbprint(1)}'. "
        f"Instead, the server presented a certificate with a thumbprint of '{thumbprint(2)}'."
    )
    report = HealthReport(
        name="web-01", record=record(), health=Health.UNAVAILABLE, summary="No connection.", errors=(said,)
    )
    text = shown(messages.health_result([report]))
    assert "0 of 1 record healthy" in text
    assert "Unavailable" in text
    assert thumbprint(1) in text
    assert thumbprint(2) in text


# --- short answers --------------------------------------------------------------------------------------------------


def test_help_shows_what_the_asker_may_use():
    """Someone who may only look sees no commands that change anything."""
    assert "rotate TARGET…" in shown(messages.help_text(None, may_change=True))
    watcher = shown(messages.help_text(None, may_change=False))
    assert "rotate TARGET…" not in watcher
    assert "show-thumbprint TARGET…" in watcher


def test_help_on_a_command_has_usage_options_and_examples():
    """From the same table as the parser; an unknown one is a UserError with the nearest."""
    message = messages.help_text("Rotate", may_change=True)
    assert_valid(message)
    for words in ("[--with SOURCE]", "--order documented", "rotate web-01 --with pfx:web"):
        assert words in shown(message)
    with pytest.raises(UserError, match="Did you mean `rotate`"):
        messages.help_text("rotat", may_change=True)


def test_a_problem_keeps_code_and_people_and_nothing_else():
    """Only its reader sees it; a link, a group or everybody cannot be smuggled in."""
    message = messages.problem("Ask <@U0ADA> or <#C0DEPLOY> for `cancel`, not <!channel> <https://e.example|x> *b*.")
    assert mentioned(message) == {"U0ADA", "C0DEPLOY"}
    assert "for cancel, not <!channel> <https://e.example|x> *b*." in shown(message)
    assert "<!channel>" not in message.text
    assert "<@U0ADA>" in message.text
    assert check_message({"text": message.text, "blocks": list(message.blocks)}) == []


@pytest.mark.parametrize("text", ["", " ", HOSTILE, "`" * 50, "x" * 9_000, "<@U0ADA>" * 500, "\u202e", "a\nb\n\nc"])
def test_any_sentence_can_be_a_problem(text):
    """Whatever stands in it, Slack takes it."""
    for of in (messages.problem, messages.working, messages.unexpected):
        message = of(text)
        assert check_message({"text": message.text, "blocks": list(message.blocks)}) == []


def test_an_unexpected_error_has_its_reference():
    """So that somebody finds it in the log."""
    assert "8f3a1b2c" in shown(messages.unexpected("8f3a1b2c"))


def test_status_lists_runs_and_shows_one_without_its_buttons():
    """Buttons stand on the run's own message only."""
    run = run_of(plan())
    assert_valid(messages.status([], now=NOW))
    assert "r-7k2m9q4x" in shown(messages.status([run], now=NOW))
    one = messages.status_one(run, now=NOW)
    assert buttons(one) == []
    assert "Waiting for approval" in shown(one)


def test_history_tells_who_did_what():
    """Newest first, with the thumbprints where one changed."""
    entries = [
        Recorded(seq=n, at=NOW, key=str(n), previous="", hash="", entry=entry)
        for n, entry in enumerate(
            [
                Entry(kind="outcome", run="r-1", target=HOSTILE, old=thumbprint(1), new=thumbprint(2), what=HOSTILE),
                Entry(kind="asked", who="U0RITA", run="r-1", target="web-01", what="yearly rotation"),
            ]
            * 50
        )
    ]
    message = messages.history(entries)
    text = shown(message)
    for words in (thumbprint(1), thumbprint(2), "<@U0RITA>", "yearly rotation", "more)"):
        assert words in text
    assert check_message({"text": message.text, "blocks": list(message.blocks)}) == []
    assert blocks_length(list(message.blocks)) <= BLOCKS_TOTAL
    assert_valid(messages.history([]))


def test_a_roll_back_is_called_one():
    """Its title and where the certificate comes from."""
    source = Source(text="backup:r-1")
    text = shown(messages.plan_posted(run_of(plan(source=source)), now=NOW))
    assert "Roll back web-01" in text
    assert "put back from the copy that the run r-1 left" in text

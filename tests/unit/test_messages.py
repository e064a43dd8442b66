"""Messages about runs: within Slack's limits, with the buttons and the facts that people need."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.facts import Health, Pool, RecordKind, Sighting, TaskInfo
from bot.domain.plan import Order, Refusal, StepKind
from bot.domain.run import (
    OutcomeKind,
    RunState,
)
from bot.octopus.tasks import HealthReport
from bot.sandbox.slack.model import elements_of
from bot.slack import messages
from bot.slack.message import Message
from tests.making import NOW, facts, pfx_source, plan, record, thumbprint
from tests.runs import DECIDED, HOSTILE, assert_valid, buttons, ended, fleet, mentioned, over, progress, run_of, shown

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
    assert_valid(messages.swept(name))
    assert_valid(messages.plan_only(of, NOW))
    assert_valid(messages.refusals(of))
    assert_valid(messages.thumbprints([t.facts for t in of.targets], now=NOW))


OUTSIDE = st.text(st.one_of(st.characters(), st.sampled_from("*_~`<>&@!#:|\u202e\n")), max_size=120)


@settings(max_examples=40, deadline=None)
@given(st.lists(OUTSIDE, min_size=1, max_size=4, unique=True), OUTSIDE, OUTSIDE, st.sampled_from(OutcomeKind))
def test_whatever_comes_from_outside_slack_takes_the_messages(names, reason, said, kind):
    """Any characters at all, as names, spaces, environments, reasons, details and output of programs."""
    every = [
        facts(n, i + 1, records=(record(n, i + 1, space=said, environments=(reason,), url=said),))
        for i, n in enumerate(names)
    ]
    of = plan(*every, reason=reason)
    live = tuple(progress(of, t.name, 3, said) for t in of.targets)
    over_run = over(of, kind)
    for run in (run_of(of), run_of(of, RunState.RUNNING, targets=live, decision=DECIDED, stage=said), over_run):
        for rich in (False, True):
            assert_valid(messages.plan_posted(run, now=NOW, rich=rich))
    for outcome in over_run.outcomes:
        assert_valid(messages.outcome(over_run, replace(outcome, what=said, undone=reason, now=said, advice=reason)))
    assert_valid(messages.finished(over_run))
    assert_valid(messages.stale(over_run, names[0], [said, reason]))
    assert_valid(messages.thumbprints(every, now=NOW))
    assert_valid(messages.refusals(replace(of, refused=(Refusal(name=said, reason=reason, advice=said),))))


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
    """Approve and Deny while it is proposed, Pause or Resume and Stop while it runs, none once it stops or is over."""
    of = fleet(2)
    wanted = {
        RunState.PROPOSED: ["Approve", "Deny"],
        RunState.RUNNING: ["Pause", "Stop"],
        RunState.PAUSED: ["Resume", "Stop"],
        RunState.WAITING: ["Stop"],
        RunState.STOPPING: [],
        RunState.DENIED: [],
        RunState.EXPIRED: [],
        RunState.CANCELLED: [],
    }
    for state, labels in wanted.items():
        for rich in (False, True):
            assert buttons(messages.plan_posted(run_of(of, state), now=NOW, rich=rich)) == labels
    assert buttons(messages.plan_posted(run_of(plan(), RunState.RUNNING), now=NOW)) == ["Stop"], "one cannot be paused"


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
    of_several = [{"Retry": "Retry failed", "Roll back": "Roll back all"}[label] for label in labels]
    assert buttons(messages.plan_posted(run, now=NOW)) == of_several
    assert buttons(messages.finished(run)) == of_several
    assert buttons(messages.outcome(run, run.outcomes[0])) == []
    single = over(one, kinds[0])
    assert buttons(messages.finished(single)) == []
    assert buttons(messages.outcome(single, single.outcomes[0])) == buttons(messages.plan_posted(single, now=NOW))
    swept = over(many, *kinds, keeps_copies=False)
    without = [label for label in of_several if label != "Roll back all"]
    assert buttons(messages.plan_posted(swept, now=NOW)) == buttons(messages.finished(swept)) == without
    assert "kept on the hosts" not in shown(messages.finished(swept))


def test_a_retry_is_offered_also_after_the_approval_has_expired():
    """A fleet takes longer than an approval lasts: then the button leads to a new plan, and says so before."""
    message = messages.plan_posted(over(plan(), OutcomeKind.UNDONE), now=NOW)
    assert buttons(message) == ["Retry"]
    assert "afterwards a new plan is proposed" in str(message.blocks)


def test_an_approver_sees_what_stops_and_for_how_long_before_anything_else():
    """The top of the message: who asks and why, what stops, the new certificate, and until when."""
    top = shown(Message("", messages.plan_posted(run_of(plan(reason="yearly rotation")), now=NOW).blocks[:2]))
    assert "Rotate web-01" in top
    assert "until 2026-01-05 09:30 UTC" in top
    assert "<@U0RITA>" in top
    assert "yearly rotation" in top
    assert "The Tentacle restarts once and is away for about 20 s" in top
    assert "made on its host" in top
    assert "for a day after the run “Roll back” is offered" in top


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

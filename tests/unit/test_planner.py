"""The planner: which steps in which order, what is refused, what an approver is told."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain import codec
from bot.domain.facts import Health, HostFacts, Pool, RecordKind, ServiceState, Sighting, Style, TaskInfo, Trust
from bot.domain.plan import Order, Plan, StepKind
from bot.domain.planner import changes, digest_of, make_plan, narrowed, steps_for
from bot.domain.run import Run
from tests import making
from tests.making import (
    NEW_CERTIFICATE,
    NOW,
    facts,
    index,
    instance,
    pfx_source,
    plan,
    polling,
    record,
    request,
    thumbprint,
)

S = StepKind


def names(steps: tuple[StepKind, ...]) -> list[str]:
    """Return the steps' names."""
    return [s.name for s in steps]


def test_a_listening_tentacle_is_imported_while_it_runs_and_recorded_after_it_is_seen() -> None:
    """Import → restart → served → records → health."""
    assert names(steps_for(Style.LISTENING, pfx_source(), Order.DEFAULT)) == [
        "IDLE", "BACKUP", "IMPORT", "RESTART", "SERVED", "RECORD", "HEALTH",
    ]  # fmt: skip


def test_a_polling_tentacle_is_recorded_before_its_restart() -> None:
    """Nothing listens on it: the record must fit when it comes back."""
    assert names(steps_for(Style.POLLING, NEW_CERTIFICATE, Order.DEFAULT)) == [
        "IDLE", "BACKUP", "MAKE", "RECORD", "RESTART", "HEALTH",
    ]  # fmt: skip


@pytest.mark.parametrize("style", list(Style))
def test_the_documented_order_stops_first(style: Style) -> None:
    """As the guide has it: stop, import, start."""
    steps = list(steps_for(style, pfx_source(), Order.DOCUMENTED))
    assert steps.index(S.STOP) < steps.index(S.IMPORT) < steps.index(S.START) < steps.index(S.RECORD)
    assert S.RESTART not in steps


@given(st.sampled_from(list(Style)), st.sampled_from(list(Order)), st.booleans())
def test_whatever_is_asked_health_comes_last_and_the_copy_before_the_certificate(
    style: Style, order: Order, made: bool
) -> None:
    """Any order that we offer keeps these two laws."""
    steps = list(steps_for(style, NEW_CERTIFICATE if made else pfx_source(), order))
    acquire = S.MAKE if made else S.IMPORT
    assert steps[-1] is S.HEALTH
    assert steps.index(S.BACKUP) < steps.index(acquire) < steps.index(S.RECORD)


def only_refusal(made: Plan) -> str:
    """Return the one refusal's reason and advice."""
    assert made.targets == ()
    (refusal,) = made.refused
    return f"{refusal.reason} {refusal.advice}"


def test_a_healthy_target_is_planned_with_its_thumbprints() -> None:
    """The old thumbprint is the configured one, the new one is the PFX's."""
    made = plan(facts(), source=pfx_source(9))
    (target,) = made.targets
    assert (target.old, target.new) == (thumbprint(1), thumbprint(9))
    assert made.waves == (("web-01",),)
    assert len(made.digest) == 64


def test_a_host_that_cannot_be_seen_is_refused() -> None:
    """Nothing can be rotated that cannot be seen."""
    made = plan(facts(host=None, instance=None, host_error="connection refused"))
    assert "connection refused" in only_refusal(made)


def test_an_instance_that_is_not_found_is_refused_with_both_sides() -> None:
    """A record whose thumbprint is on no instance of the host is never guessed."""
    made = plan(facts(instance=None, instance_error="Octopus records A; the host has B"))
    assert "Octopus records A; the host has B" in only_refusal(made)


def test_a_clone_is_refused_by_name() -> None:
    """The same thumbprint on another endpoint."""
    made = plan(facts(clones=(record("twin-01", 1),)))
    assert "twin-01" in only_refusal(made)


@pytest.mark.parametrize("state", [ServiceState.STOPPED, ServiceState.STOP_PENDING, ServiceState.MISSING])
def test_a_service_that_does_not_run_is_refused(state: ServiceState) -> None:
    """A rotation must end where it began."""
    assert "service" in only_refusal(plan(facts(instance=instance(state=state))))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"elevated": False}, "administrator"),
        ({"language_mode": "ConstrainedLanguage"}, "ConstrainedLanguage"),
        ({"exe": None}, "Tentacle.exe"),
    ],
)
def test_a_host_on_which_the_scripts_cannot_work_is_refused(change: dict[str, object], words: str) -> None:
    """Rights, language mode and the program are looked at before anybody approves."""
    seen = facts()
    assert isinstance(seen.host, HostFacts)
    assert words in only_refusal(plan(replace(seen, host=replace(seen.host, **change))))  # type: ignore[arg-type]


def test_missing_permissions_refuse_before_anything_is_touched() -> None:
    """All records or none."""
    assert "MachineEdit in Payments" in only_refusal(plan(facts(missing_permissions=("MachineEdit in Payments",))))


def test_a_space_that_cannot_be_read_refuses() -> None:
    """A record of this Tentacle may be hidden there."""
    seen = facts()
    made = make_plan(request(), NEW_CERTIFICATE, [seen], index(seen, unreadable_spaces=("Payments",)), (), NOW)
    assert "Payments" in only_refusal(made)


def test_trust_in_another_server_must_be_acknowledged_by_name() -> None:
    """Its record there will break: the refusal says what to add, and adding it helps."""
    other = Trust(text=thumbprint(0xABCDEF), style=Style.LISTENING)
    seen = facts(instance=instance(trusted=(*instance().trusted, other)))
    assert "--accept other-server:00000000" in only_refusal(plan(seen))
    made = plan(seen, accept=("other-server:00000000",))
    assert any("other Server" in c.text for c in made.targets[0].cautions)


def test_a_trust_that_only_looks_like_ours_is_no_other_server() -> None:
    """It lets nobody in, so nobody's record can break: the approver is told."""
    marked = Trust(text=f"\u200e{making.SERVER}", style=Style.LISTENING)
    made = plan(facts(instance=instance(trusted=(*instance().trusted, marked))))
    assert any(rf"\u200e{making.SERVER}" in c.text for c in made.targets[0].cautions)


def worker(name: str, seed: int, healthy: int) -> making.TargetFacts:
    """Return a worker of a pool with so many healthy workers."""
    one = record(name, seed, kind=RecordKind.WORKER, pools=("Builders",))
    return facts(name, seed, records=(one,), pools=(Pool(name="Builders", workers=healthy, healthy=healthy),))


def test_the_last_healthy_worker_must_be_acknowledged() -> None:
    """A pool without a worker stops deployments."""
    assert "last-worker:Builders" in only_refusal(plan(worker("worker-01", 1, 1)))
    assert plan(worker("worker-01", 1, 1), accept=("last-worker:Builders",)).targets


@given(st.integers(2, 9), st.integers(2, 9))
def test_no_wave_takes_the_last_healthy_worker_of_a_pool(count: int, healthy: int) -> None:
    """However many workers are asked for, each wave leaves one."""
    made = plan(*(worker(f"worker-{n:02}", n, max(count, healthy)) for n in range(1, count + 1)))
    assert sorted(n for w in made.waves for n in w) == sorted(t.name for t in made.targets)
    for wave in made.waves:
        assert len(wave) < max(count, healthy)


def test_more_than_two_begin_with_one() -> None:
    """The canary goes alone."""
    made = plan(*(facts(f"web-{n:02}", n) for n in range(1, 15)))
    assert [len(w) for w in made.waves] == [1, 10, 3]


def test_one_pfx_for_two_tentacles_is_refused() -> None:
    """Every Tentacle needs a certificate of its own."""
    made = plan(facts("web-01", 1), facts("web-02", 2), source=pfx_source())
    assert made.targets == ()
    assert {r.name for r in made.refused} == {"web-01", "web-02"}


def test_a_certificate_that_somebody_else_uses_is_refused() -> None:
    """The new thumbprint stands in another record already."""
    seen, other = facts(), facts("web-09", 7)
    made = make_plan(request(source="pfx:web"), pfx_source(7), [seen], index(seen, other), (), NOW)
    assert "web-09" in only_refusal(made)


def test_nothing_is_done_where_the_certificate_is_there_already() -> None:
    """The same PFX twice: the second plan says so."""
    assert "already" in only_refusal(plan(facts(seed=7), source=pfx_source(7)))


def test_an_approver_is_told_what_is_unusual() -> None:
    """Running deployment, SHA-1, pending restart, several records, bad health, blind witness: each is a sentence."""
    seen = facts(
        tasks=(TaskInfo(id="ServerTasks-1", name="Deploy", description="Deploy Shop 1.2", state="Executing"),),
        records=(record(), record("web-01", space="Payments", id="Machines-2", health=Health.UNAVAILABLE)),
        sightings=(
            Sighting(place="bot", address="web-01:10933", thumbprint=thumbprint(3), certificate=certificate_sha1()),
            Sighting(place="octopus", address="web-01:10933", thumbprint=None, error="no route"),
        ),
    )
    text = " ".join(c.text for c in plan(seen).targets[0].cautions)
    for words in ("Deploy Shop 1.2", "SHA-1", "restart is pending", "2 records", "Unavailable", "no route"):
        assert words in text


def certificate_sha1() -> making.CertificateDetails:
    """Return a certificate as Tentacles made them long ago."""
    return making.certificate(3, signature_hash="sha1")


def test_a_new_certificate_that_expires_soon_is_said() -> None:
    """A warning about the plan as a whole."""
    made = plan(facts(), source=pfx_source(9, not_after=NOW + timedelta(days=5)))
    assert "expires in 5 days" in made.cautions[0].text


def test_what_always_changes_does_not_make_a_plan_stale() -> None:
    """Tasks, health and the time of the look are not part of the digest."""
    before = facts()
    later = replace(
        before,
        at=NOW + timedelta(hours=1),
        tasks=(TaskInfo(id="ServerTasks-1", name="Deploy", description="", state="Executing"),),
        records=(replace(before.records[0], health=Health.UNHEALTHY, status_summary="disk full"),),
    )
    assert digest_of(later, request(), NEW_CERTIFICATE) == digest_of(before, request(), NEW_CERTIFICATE)


def test_what_decides_the_steps_makes_it_stale_and_is_named() -> None:
    """Another configured thumbprint, another record: the sentence says what was and what is."""
    before = facts()
    after = facts(instance=instance(5))
    assert digest_of(after, request(), NEW_CERTIFICATE) != digest_of(before, request(), NEW_CERTIFICATE)
    (sentence, *_) = changes(before, after, request(), NEW_CERTIFICATE)
    assert thumbprint(1) in sentence
    assert thumbprint(5) in sentence


def test_a_plan_survives_being_stored() -> None:
    """JSON and back gives the same plan, with the same digest."""
    made = plan(facts(), polling(), source=NEW_CERTIFICATE)
    again = codec.loads(Plan, codec.dumps(made))
    assert again == made
    assert digest_of(again.targets[0].facts, again.request, again.source) == made.targets[0].digest
    assert Run.__doc__


def test_a_retry_keeps_the_digests_of_what_it_repeats() -> None:
    """The approval was given for them."""
    made = plan(*(facts(f"web-{n:02}", n) for n in range(1, 5)))
    again = narrowed(made, ["web-02", "web-04"])
    assert [t.digest for t in again.targets] == [made.target("web-02").digest, made.target("web-04").digest]
    assert [n for w in again.waves for n in w] == ["web-02", "web-04"]
